import json
import sys

import jax
import pytest
from tensorboardX.proto import event_pb2

from scenax.train import writers
from scenax.train.writers import LOG_NAME, MetricWriter, make_writer, read_log


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


CONFIG = {"model": {"name": "vit", "rates": {"head.*": 0.1}}, "batch_size": 8}


def wandb_records(folder):
    """The records of all offline runs of a folder, read by their framing.

    It is that of LevelDB's logs: blocks of 32 KiB; a header of crc, length and type before each
    part of a record; type 1 is a whole one, 2 the first part, 3 one in between, 4 the last.
    """
    from wandb.proto import wandb_internal_pb2

    records = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        data, at, record = path.read_bytes(), 7, b""
        while at < len(data):
            if (left := -at % 2**15) < 7:
                at += left
                continue
            length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
            record += data[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                records.append(wandb_internal_pb2.Record.FromString(record))
                record = b""
    return records


def wandb_history(folder):
    """What was logged to W&B offline, without what it adds itself."""
    rows = []
    for record in wandb_records(folder):
        if record.WhichOneof("record_type") == "history":
            items = {(i.key or i.nested_key[0]): i.value_json for i in record.history.item}
            rows.append({k: json.loads(v) for k, v in items.items() if not k.startswith("_")})
    return rows


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def store(monkeypatch, tmp_path_factory):
    """A client of a store of MLflow in a folder, which the environment names."""
    uri = tmp_path_factory.mktemp("mlflow").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    return mlflow.MlflowClient(uri)


def test_wandb_gets_every_record(tmp_path, offline):
    writer = make_writer(["wandb"], tmp_path, config=CONFIG)
    writer.write(3, "train", {"loss": 0.5, "seconds": 2.0})
    writer.write(3, "validation", {"accuracy": 0.25})
    writer.close()
    assert wandb_history(tmp_path) == [
        {"step": 3, "train/loss": 0.5, "train/seconds": 2.0},
        {"step": 3, "validation/accuracy": 0.25},
    ]
    (run,) = [r.run for r in wandb_records(tmp_path) if r.WhichOneof("record_type") == "run"]
    assert run.run_id == (tmp_path / writers.WANDB_RUN_NAME).read_text()
    assert run.display_name == tmp_path.name
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["batch_size"] == 8
    assert config["model"] == CONFIG["model"]
    assert [r["step"] for r in read_log(tmp_path)] == [3, 3]


def test_wandb_continues_its_run_and_gets_nothing_twice(tmp_path, offline):
    writer = make_writer(["wandb"], tmp_path)
    for step in (5, 10):
        writer.write(step, "train", {"loss": float(step)})
    writer.close()
    run_id = (tmp_path / writers.WANDB_RUN_NAME).read_text()

    writer = make_writer(["wandb"], tmp_path, resume_step=5)
    for step in (5, 10, 15):
        writer.write(step, "train", {"loss": float(step)})
    writer.write(10, "validation", {"loss": 0.0})  # It was killed before this one.
    writer.close()
    runs = [r.run.run_id for r in wandb_records(tmp_path) if r.WhichOneof("record_type") == "run"]
    assert runs == [run_id, run_id]
    rows = [
        (row["step"], *(key for key in row if key != "step")) for row in wandb_history(tmp_path)
    ]
    assert sorted(rows) == [
        (5, "train/loss"),
        (10, "train/loss"),
        (10, "validation/loss"),
        (15, "train/loss"),
    ]

    make_writer(["wandb"], tmp_path).close()  # From the beginning, so another run.
    assert (tmp_path / writers.WANDB_RUN_NAME).read_text() != run_id


def test_mlflow_gets_every_record(tmp_path, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "digits")
    writer = make_writer(["mlflow"], tmp_path, config=CONFIG)
    writer.write(3, "train", {"loss": 0.5, "seconds": 2.0})
    writer.write(6, "train", {"loss": 0.25})
    run_id = (tmp_path / writers.MLFLOW_RUN_NAME).read_text()
    assert store.get_run(run_id).info.status == "RUNNING"
    writer.close()
    run = store.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == tmp_path.name
    assert store.get_experiment(run.info.experiment_id).name == "digits"
    history = store.get_metric_history(run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(3, 0.5), (6, 0.25)]
    assert run.data.metrics["train/seconds"] == 2.0
    assert run.data.params == {
        "batch_size": "8",
        "model.name": "vit",
        "model.rates.head._": "0.1",
    }


def test_mlflow_continues_its_run_and_gets_nothing_twice(tmp_path, store):
    writer = make_writer(["mlflow"], tmp_path, config=CONFIG)
    for step in (5, 10):
        writer.write(step, "train", {"loss": float(step)})
    writer.close()
    run_id = (tmp_path / writers.MLFLOW_RUN_NAME).read_text()
    writer = make_writer(["mlflow"], tmp_path, resume_step=5, config=CONFIG)
    assert store.get_run(run_id).info.status == "RUNNING"
    for step in (5, 10, 15):
        writer.write(step, "train", {"loss": float(step)})
    writer.close()
    history = store.get_metric_history(run_id, "train/loss")
    assert [m.step for m in history] == [5, 10, 15]


def test_mlflow_takes_a_config_of_many_values(tmp_path, store):
    make_writer(["mlflow"], tmp_path, config={f"value{i}": i for i in range(250)}).close()
    run_id = (tmp_path / writers.MLFLOW_RUN_NAME).read_text()
    assert len(store.get_run(run_id).data.params) == 250


def test_a_run_outlives_its_server(tmp_path, store, caplog):
    writer = make_writer(["mlflow"], tmp_path)
    store.delete_run((tmp_path / writers.MLFLOW_RUN_NAME).read_text())
    writer.write(3, "train", {"loss": 0.5})
    assert "MLflow did not take the train record of step 3" in caplog.text
    assert [r["step"] for r in read_log(tmp_path)] == [3]


def test_mlflow_has_to_be_somewhere(tmp_path, store, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(ValueError, match=r"Set MLFLOW_TRACKING_URI to the address"):
        make_writer(["mlflow"], tmp_path)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_the_extra_to_install_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf'pip install "scenax-train\[{name}\]"'):
        make_writer([name], tmp_path)


def test_an_unknown_service_is_named_and_nothing_begun(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown writer 'wandbb'\. Did you mean 'wandb'\?"):
        make_writer(["wandbb"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_host_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    writer = make_writer(["wandb", "mlflow"], tmp_path)
    writer.write(3, "train", {"loss": 0.5})
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_all_writers_are_closed_whatever_one_does():
    class Recording:
        def __init__(self, *, fails):
            self.seen, self.closed, self.fails = [], False, fails

        def write(self, step, split, scalars):
            self.seen.append((step, split, scalars))

        def close(self):
            self.closed = True
            if self.fails:
                raise OSError("No space left on device")

    all_of_them = [Recording(fails=fails) for fails in (False, True, False)]
    writer = writers.Writers(all_of_them)
    writer.write(1, "train", {"loss": 2.0})
    with pytest.raises(OSError, match="No space"):
        writer.close()
    assert [w.seen for w in all_of_them] == 3 * [[(1, "train", {"loss": 2.0})]]
    assert all(w.closed for w in all_of_them)
