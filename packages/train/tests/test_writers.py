import json

import pytest
from tensorboardX.proto import event_pb2

from scenax.train.writers import LOG_NAME, MetricWriter, read_log


def events(folder):
    """The scalars in TensorBoard's files, read by their framing: length, crc, event, crc."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            data = data[12 + length + 4 :]
    return found


def test_a_record_is_a_line_and_an_event(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(3, "train", {"loss": 0.5})
    writer.write(3, "validation", {"accuracy": 0.25})
    writer.close()
    lines = (tmp_path / LOG_NAME).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 3, "split": "train", "loss": 0.5},
        {"step": 3, "split": "validation", "accuracy": 0.25},
    ]
    assert events(tmp_path) == [(3, "train/loss", 0.5), (3, "validation/accuracy", 0.25)]


def test_resuming_forgets_what_will_be_written_again(tmp_path):
    writer = MetricWriter(tmp_path)
    for step in (5, 10, 15):
        writer.write(step, "train", {"loss": float(step)})
    with (tmp_path / LOG_NAME).open("a") as log:
        log.write('{"step": 20, "spl')  # Killed while it wrote.
    assert [r["step"] for r in read_log(tmp_path)] == [5, 10, 15]
    MetricWriter(tmp_path, resume_step=10).write(15, "train", {"loss": -1.0})
    assert [(r["step"], r["loss"]) for r in read_log(tmp_path)] == [(5, 5), (10, 10), (15, -1)]


def test_a_record_is_written_once(tmp_path):
    MetricWriter(tmp_path).write(5, "test", {"loss": 1.0})
    MetricWriter(tmp_path, resume_step=5).write(5, "test", {"loss": 1.0})
    assert [r["step"] for r in read_log(tmp_path)] == [5]


def test_a_new_run_starts_a_new_log(tmp_path):
    MetricWriter(tmp_path).write(1, "train", {"loss": 1.0})
    MetricWriter(tmp_path)
    assert read_log(tmp_path) == []


def test_no_log_is_no_records(tmp_path):
    assert read_log(tmp_path) == []


def test_a_log_that_is_not_one_is_an_error(tmp_path):
    (tmp_path / LOG_NAME).write_text("what\n")
    with pytest.raises(json.JSONDecodeError):
        read_log(tmp_path)
