"""Folders of recordings, and files in DMVR's layout that TensorFlow has written."""

import io
import math
import wave

import numpy as np
import pytest
from PIL import Image

from scenax import data
from scenax.data.datasets._folders import DataWarning
from scenax.data.reports import UnreadableError

SILENCE = math.log(0.01)  # What VGGish adds before the logarithm.


def tone(hertz: float, seconds: float, rate: int = 16_000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def band_of(hertz: float) -> int:
    """The band of 128 from 125 to 7500 Hz whose middle is nearest, by HTK's formula."""
    mel = 2595 * np.log10(1 + np.array([125, 7500, hertz]) / 700)
    return round((mel[2] - mel[0]) / (mel[1] - mel[0]) * 129) - 1


def write_wav(path, samples, rate=16_000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = np.repeat((samples * 32767).round().astype("<i2")[:, None], channels, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(pcm.tobytes())


def opened(name, folder, **options):
    small = {"batch_size": 2, "eval_batch_size": 2, "num_threads": 2}
    return data.get_dataset(name, data_dir=str(folder), **(small | options))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """High and low tones of a second and more; those in val are silent but for the middle."""
    pytest.importorskip("av")
    root = tmp_path_factory.mktemp("recordings")
    for name, hertz in {"high": 2000, "low": 400}.items():
        for i in range(3):
            write_wav(root / "train" / name / f"{i}.wav", tone(hertz, 1 + 0.1 * i))
        quiet = np.concatenate([np.zeros(4000), tone(hertz, 0.5), np.zeros(4000)])
        write_wav(root / "val" / name / "0.wav", quiet)
    write_wav(root / "test" / "low" / "fast.wav", tone(400, 1, 44_100), 44_100, channels=2)
    write_wav(root / "test" / "low" / "short.wav", tone(400, 0.2))
    write_wav(root / "test" / "high" / "exact.wav", tone(2000, 0.5))
    return root


def test_a_folder_of_recordings_is_read_by_class(recordings, take):
    dataset = opened("audio_folder", recordings, seconds=0.5)
    info = dataset.meta_data
    # Windows of 400 samples every 160: 47 of them begin after the first in 8000.
    assert info.input_shape == (48, 128, 1)
    assert info.input_dtype == "float32"
    assert info.label_names == ("high", "low")
    assert dict(info.num_examples) == {"train": 6, "validation": 2, "test": 3}
    found = take(dataset.train_iter, 3)
    assert found["inputs"].shape == (6, 48, 128, 1)
    assert found["inputs"].dtype == np.float32
    assert sorted(found["label"]) == [0, 0, 0, 1, 1, 1]
    loudest = found["inputs"][..., 0].argmax(axis=2)
    wanted = np.array([band_of(2000), band_of(400)])[found["label"]]
    assert np.abs(loudest - wanted[:, None]).max() <= 1
    assert opened("audio_folder", recordings).meta_data.input_shape == (798, 128, 1)


def test_evaluation_hears_the_middle(recordings, evaluated):
    found = evaluated(opened("audio_folder", recordings, seconds=0.5).valid_iter)
    assert found["label"].tolist() == [0, 1]
    assert (found["inputs"].max(axis=(2, 3)) > 2).all()
    whole = evaluated(opened("audio_folder", recordings, seconds=1.0).valid_iter)["inputs"]
    assert whole.shape == (2, 98, 128, 1)
    np.testing.assert_allclose(whole[:, :20], SILENCE, atol=1e-5)
    np.testing.assert_allclose(whole[:, -20:], SILENCE, atol=1e-5)
    # From the middle of a second on, the same windows are in both.
    np.testing.assert_allclose(whole[:, 25:73], found["inputs"], atol=1e-5)


def test_recordings_of_any_rate_and_length_are_alike(recordings, evaluated):
    found = evaluated(opened("audio_folder", recordings, seconds=0.5, eval_batch_size=3).test_iter)
    exact, fast, short = found["inputs"][..., 0]
    assert found["label"].tolist() == [0, 1, 1]
    assert np.abs(exact.argmax(axis=1) - band_of(2000)).max() <= 1
    assert np.abs(fast.argmax(axis=1) - band_of(400)).max() <= 1
    # 0.2 s are 3200 samples: window 20 begins where they end.
    np.testing.assert_allclose(short[20:], SILENCE, atol=1e-5)
    np.testing.assert_allclose(short[2:15], fast[2:15], atol=0.35)


def test_training_begins_at_random(recordings, take):
    dataset = opened("audio_folder", recordings, seconds=0.5)
    epochs = [take(dataset.train_iter, 3)["inputs"] for _ in range(2)]
    np.testing.assert_array_equal(*epochs)  # Both are the first epoch.
    stream = dataset.train_iter
    first, second = take(stream, 3), take(stream, 3)
    rows = [np.sort(each["inputs"].sum(axis=(1, 2, 3))) for each in (first, second)]
    assert np.abs(rows[0] - rows[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0.01}, r"seconds must be at least 0\.025, got 0\.01"),
        ({"second": 1.0}, "Did you mean 'seconds'"),
    ],
)
def test_bad_options_are_named(recordings, options, message):
    with pytest.raises(ValueError, match=message):
        opened("audio_folder", recordings, **options)


def test_a_rate_too_low_for_the_bands_is_named(recordings):
    with pytest.raises(ValueError, match="sample_rate must be at least 15000, got 8000"):
        opened("audio_folder", recordings, seconds=0.5, sample_rate=8000)


def test_a_folder_is_wanted(tmp_path):
    for name, options in {"audio_folder": {}, "dmvr": {"num_classes": 2}}.items():
        with pytest.raises(ValueError, match=f"{name} reads a folder of your own"):
            data.get_dataset(name, batch_size=2, **options)
    with pytest.raises(FileNotFoundError, match="no folder"):
        opened("audio_folder", tmp_path / "nowhere")


@pytest.mark.parametrize("unreadable", ["raise", "skip"])
def test_a_recording_that_is_cut_off(tmp_path, unreadable):
    pytest.importorskip("av")
    for split in ("train", "test"):
        for name in ("high", "low"):
            write_wav(tmp_path / split / name / "0.wav", tone(700, 0.5))
    path = tmp_path / "test" / "high" / "0.wav"
    path.write_bytes(path.read_bytes()[:9000])
    (tmp_path / "train" / "notes.txt").write_text("x")
    with pytest.warns(DataWarning, match=r"not an audio file, left out: 1 \(notes\.txt\)"):
        dataset = opened("audio_folder", tmp_path, seconds=0.25, unreadable=unreadable)
    if unreadable == "raise":
        with pytest.raises(UnreadableError, match=r"high/0\.wav is cut off"):
            list(dataset.test_iter)
        return
    (batch,) = dataset.test_iter
    assert batch["batch_mask"].tolist() == [0, 1]
    assert not batch["inputs"][0].any()
    assert "high/0.wav is cut off" in str(dataset.report)


FRAMES, SIDE = 8, 16


def png(grey: int) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (20, SIDE), (grey, grey, grey)).save(encoded, "png")
    return encoded.getvalue()


def sequence_example(labels, hertz=1000.0, *, frames=FRAMES, seconds=1.0):
    """A clip as DMVR's own generator writes it: frame ``t`` is of the grey ``20 t``."""
    import tensorflow as tf

    example = tf.train.SequenceExample()
    if labels is not None:
        example.context.feature["clip/label/index"].int64_list.value.extend(labels)
    for t in range(frames):
        feature = example.feature_lists.feature_list["image/encoded"].feature.add()
        feature.bytes_list.value.append(png(20 * t))
    if hertz is not None:
        feature = example.feature_lists.feature_list["WAVEFORM/feature/floats"].feature.add()
        feature.float_list.value.extend(tone(hertz, seconds).tolist())
    return example.SerializeToString()


def write_records(path, records) -> None:
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def dmvr(folder, **options):
    small = {"num_classes": 6, "frames": 3, "stride": 2, "image_size": 14, "seconds": 0.5}
    return opened("dmvr", folder, **(small | options))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two files of three clips, of the classes 0 to 5, for training; three clips for testing."""
    root = tmp_path_factory.mktemp("clips")
    for shard in range(2):
        rows = [sequence_example([3 * shard + i], 300.0 + 1000 * i) for i in range(3)]
        write_records(root / f"train-{shard:05d}-of-00002.tfrecord", rows)
    rows = [sequence_example([4, 1]), sequence_example([2]), sequence_example([0], seconds=0.2)]
    write_records(root / "test.tfrecord", rows)
    return root


def test_frames_sound_and_classes_are_read_together(clips, evaluated):
    for _ in range(2):  # The second time, the places of the records lie beside the files.
        dataset = dmvr(clips)
        assert dict(dataset.meta_data.num_examples) == {"train": 6, "test": 3}
    assert dataset.meta_data.input_shape == (3, 14, 14, 3)
    assert dataset.meta_data.targets == "class_id"
    found = evaluated(dataset.test_iter)
    assert found["label"].tolist() == [4, 2, 0]
    assert found["label"].dtype == np.int32
    image, spectrogram = found["inputs"]["image"], found["inputs"]["spectrogram"]
    assert image.shape == (3, 3, 14, 14, 3)
    assert image.dtype == spectrogram.dtype == np.float32
    # 3 frames, every second, are 6 of 8: they begin with the second.
    wanted = np.array([20, 60, 100])[:, None, None, None] / 127.5 - 1
    np.testing.assert_allclose(image, np.broadcast_to(wanted, image.shape), atol=1e-6)
    assert spectrogram.shape == (3, 48, 128, 1)
    assert np.abs(spectrogram[:2].argmax(axis=2) - band_of(1000)).max() <= 1
    np.testing.assert_allclose(spectrogram[2, 20:], SILENCE, atol=1e-5)


def test_training_has_every_clip_once_an_epoch(clips, take):
    found = take(dmvr(clips).train_iter, 3)
    assert sorted(found["label"]) == list(range(6))
    loudest = np.median(found["inputs"]["spectrogram"][..., 0].argmax(axis=2), axis=1)
    wanted = [band_of(300 + 1000 * (label % 3)) for label in found["label"]]
    np.testing.assert_allclose(loudest, wanted, atol=1)
    grey = (found["inputs"]["image"][:, :, 7, 7, 0] + 1) * 127.5
    np.testing.assert_allclose(np.diff(grey, axis=1), 40, atol=0.01)


def test_the_last_batch_is_padded(clips):
    _, last = dmvr(clips).test_iter
    assert last["batch_mask"].tolist() == [1, 0]
    for inputs in last["inputs"].values():
        assert inputs[0].any()
        assert not inputs[1].any()


def test_a_clip_may_have_several_classes(clips, evaluated):
    dataset = dmvr(clips, multi_label=True)
    assert dataset.meta_data.targets == "multi_hot"
    found = evaluated(dataset.test_iter)["label"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0], [1] + [0] * 5])


def test_batches_are_a_function_of_seed_and_position(clips, take):
    stream = dmvr(clips, seed=3).train_iter
    take(stream, 2)
    state = stream.get_state()
    expected = take(stream, 2)
    resumed = dmvr(clips, seed=3, batch_size=4, num_threads=1).train_iter
    resumed.set_state(state)
    found = take(resumed, 1)
    np.testing.assert_array_equal(found["label"], expected["label"])
    for key in ("image", "spectrogram"):
        np.testing.assert_array_equal(found["inputs"][key], expected["inputs"][key])


def test_other_files_are_given_as_splits(clips, tmp_path):
    splits = {"train": "train-00001*", "validation": "test.*"}
    dataset = dmvr(clips, splits=splits)
    assert dict(dataset.meta_data.num_examples) == {"train": 3, "validation": 3}
    with pytest.raises(FileNotFoundError, match=r"no TFRecord files for test; .*'nothing\*'"):
        dmvr(clips, splits={"train": "train*", "test": "nothing*"})
    with pytest.raises(FileNotFoundError, match="no TFRecord files for train"):
        dmvr(tmp_path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (lambda: sequence_example([1], None), r"record \d has no WAVEFORM/feature/floats"),
        (lambda: sequence_example([1], frames=0), r"record \d has no image/encoded"),
        (lambda: sequence_example(None), r"record \d has no clip/label/index"),
        (lambda: sequence_example([1000]), r"record \d has the classes \[1000\], of \d+"),
        (lambda: b"\xff" * 9, r"Record \d of .* is no SequenceExample"),
    ],
)
def test_what_a_record_lacks_is_named(tmp_path, record, message):
    write_records(tmp_path / "train.tfrecord", [record()] * 2)
    with pytest.raises(UnreadableError, match=message):
        next(dmvr(tmp_path).train_iter)


def test_records_that_cannot_be_read_are_left_out_if_asked_for(tmp_path):
    write_records(tmp_path / "train.tfrecord", [sequence_example([1])] * 2)
    rows = [sequence_example([5]), b"\xff" * 9, sequence_example(None)]
    write_records(tmp_path / "test.tfrecord", rows)
    dataset = dmvr(tmp_path, unreadable="skip", eval_batch_size=3)
    (batch,) = dataset.test_iter
    assert batch["batch_mask"].tolist() == [1, 0, 0]
    assert batch["label"].tolist() == [5, 0, 0]
    assert not batch["inputs"]["image"][1:].any()
    assert not batch["inputs"]["spectrogram"][1:].any()
    assert "unreadable, left out: 2" in str(dataset.report)


@pytest.mark.parametrize("missing", [1, 2000])
def test_a_file_that_is_cut_off_is_named(tmp_path, missing):
    path = tmp_path / "train.tfrecord"
    write_records(path, [sequence_example([1])] * 3)
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(UnreadableError, match=r"train\.tfrecord is cut off in record 2"):
        dmvr(tmp_path)
