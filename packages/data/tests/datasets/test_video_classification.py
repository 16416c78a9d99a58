"""UCF101 from a tiny copy, and folders of tiny videos.

Frame ``t`` has the grey ``4 t + 20`` at its left border, and one more with every column.
"""

import io

import numpy as np
import pytest

from scenax import data
from scenax.data.datasets._folders import DataWarning
from scenax.data.reports import UnreadableError

FRAMES, SIDE = 12, 16


def frame(t: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    grey = 4 * t + 20 + np.arange(width, dtype=np.uint8)
    return np.broadcast_to(grey[None, :, None], (height, width, 3)).astype(np.uint8)


def times(inputs: np.ndarray, column: int) -> np.ndarray:
    """Which frames clips of uncut frames show, by a column of them."""
    grey = ((inputs[..., 0, 0, 0] + 1) * 127.5).round()
    return ((grey - 20 - column) / 4).round().astype(int)


def opened(name, folder, **options):
    small = {"batch_size": 2, "eval_batch_size": 2, "frames": 3, "image_size": 14}
    return data.get_dataset(name, data_dir=str(folder), **({"num_threads": 2} | small | options))


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def copy(request, tmp_path_factory, write_copy, png):
    """100 and 3 videos, their frames PNG in the place of JPEG, exact; video i is of class i."""
    folder = tmp_path_factory.mktemp("copy")
    video = [png(frame(t)) for t in range(FRAMES)]
    train = [{"label": i, "video": [io.BytesIO(each) for each in video]} for i in range(100)]
    test = [{"label": i, "video": [io.BytesIO(each) for each in video]} for i in (100, 0, 7)]
    splits = {"train": train, "test": test}
    write_copy("ucf101", folder, splits, file_format=request.param)
    return folder


def test_ucf101_is_as_it_was_published(copy):
    dataset = data.get_dataset("ucf101", batch_size=1, data_dir=str(copy), num_threads=2)
    info = dataset.meta_data
    assert info.input_shape == (16, 224, 224, 3)
    assert info.num_classes == len(info.label_names) == 101
    assert info.label_names[::100] == ("ApplyEyeMakeup", "YoYo")
    assert dict(info.num_examples) == {"train": 95, "validation": 5, "test": 3}
    batch = next(dataset.train_iter)
    assert batch["inputs"].shape == (1, 16, 224, 224, 3)
    assert batch["inputs"].dtype == np.float32
    assert batch["label"].dtype == np.int32


def test_every_video_of_ucf101_is_in_one_split(copy, take, evaluated):
    dataset = opened("ucf101", copy, batch_size=5)
    train = take(dataset.train_iter, 19)["label"]
    together = np.concatenate([train, evaluated(dataset.valid_iter)["label"]])
    np.testing.assert_array_equal(np.sort(together), np.arange(100))
    assert sorted(evaluated(dataset.test_iter)["label"]) == [0, 7, 100]


def test_evaluation_shows_the_central_clip_and_crop(copy, evaluated):
    found = evaluated(opened("ucf101", copy, stride=2).test_iter)["inputs"]
    # 3 frames, every second, are 6 of 12; 14 pixels are the central ones of 16.
    wanted = np.stack([frame(t) for t in (3, 5, 7)])[:, 1:15, 1:15] / 127.5 - 1
    np.testing.assert_allclose(found, [wanted] * 3, atol=1e-6)


def test_training_shows_clips_of_neighbouring_frames(copy, take):
    crop = {"name": "video.SampleClip", "args": {"frames": 3, "stride": 2}}
    whole = opened("ucf101", copy, train_transforms=[crop], batch_size=4)
    clips = times(take(whole.train_iter, 10)["inputs"], column=0)
    np.testing.assert_array_equal(clips - clips[:, :1], [[0, 2, 4]] * 40)
    assert clips.min() >= 0
    assert clips.max() <= FRAMES - 1
    assert len(set(clips[:, 0])) > 4

    found = take(opened("ucf101", copy, stride=2, batch_size=4).train_iter, 10)["inputs"]
    steps = np.diff(found, axis=1) * 127.5  # All frames of a clip are cropped alike.
    np.testing.assert_allclose(steps, 8, atol=0.51)
    slopes = np.sign(np.diff(found[:, 0, 7, :, 0], axis=1).sum(axis=1))
    assert set(slopes) == {-1, 1}  # Flipped or not.


def test_batches_are_a_function_of_seed_and_position(copy, take):
    stream = opened("ucf101", copy, seed=3).train_iter
    take(stream, 3)
    state = stream.get_state()
    expected = take(stream, 2)
    resumed = opened("ucf101", copy, seed=3, batch_size=4, num_threads=1).train_iter
    resumed.set_state(state)
    found = take(resumed, 1)
    for key in expected:
        np.testing.assert_array_equal(found[key], expected[key])


def test_what_is_not_prepared_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="data prepare ucf101/ucf101_1_256 "):
        opened("ucf101", tmp_path)


def write_video(path, frames):
    """Without loss: PNG in QuickTime's container."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "rgb24"
        for each in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(each), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two classes; those in ``test`` are 20 pixels wide."""
    root = tmp_path_factory.mktemp("videos")
    for split, (count, width) in {"train": (3, SIDE), "val": (1, SIDE), "test": (1, 20)}.items():
        for name in ("jump", "run"):
            for i in range(count):
                clip = [frame(t, width=width) for t in range(FRAMES)]
                write_video(root / split / name / f"{i}.mov", clip)
    return root


def test_a_folder_of_videos_is_read_by_class(videos, take, evaluated):
    dataset = opened("video_folder", videos, stride=2)
    info = dataset.meta_data
    assert info.label_names == ("jump", "run")
    assert info.input_shape == (3, 14, 14, 3)
    assert dict(info.num_examples) == {"train": 6, "validation": 2, "test": 2}
    found = evaluated(dataset.valid_iter)
    assert found["label"].tolist() == [0, 1]
    wanted = np.stack([frame(t) for t in (3, 5, 7)])[:, 1:15, 1:15] / 127.5 - 1
    np.testing.assert_allclose(found["inputs"], [wanted] * 2, atol=1e-6)
    train = take(dataset.train_iter, 3)
    assert sorted(train["label"]) == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(np.diff(train["inputs"], axis=1) * 127.5, 8, atol=0.51)


@pytest.mark.parametrize(
    ("views", "starts", "columns"),
    [((2, 1), (0, 6), (2,)), ((1, 3), (3,), (0, 2, 4)), ((3, 3), (0, 3, 6), (0, 2, 4))],
)
def test_views_are_clips_from_first_to_last_and_crops_from_left_to_right(
    videos, evaluated, views, starts, columns
):
    dataset = opened("video_folder", videos, stride=2, views=views, image_size=SIDE)
    found = evaluated(dataset.test_iter)["inputs"]
    assert found.shape == (2, views[0] * views[1], 3, SIDE, SIDE, 3)
    shown = [[start, start + 2, start + 4] for start in starts]
    wanted = [
        np.stack([frame(t, width=20)[:, left : left + SIDE] for t in clip]) / 127.5 - 1
        for left in columns
        for clip in shown
    ]
    # All crops of the first clip come first, or all clips of the first crop.
    by_clip = np.stack(wanted).reshape(views[1], views[0], *wanted[0].shape).swapaxes(0, 1)
    np.testing.assert_allclose(found[0], by_clip.reshape(found[0].shape), atol=1e-6)
    assert next(dataset.train_iter)["inputs"].shape == (2, 3, SIDE, SIDE, 3)


def test_a_short_video_begins_anew(tmp_path, evaluated):
    for name in ("jump", "run"):
        write_video(tmp_path / "train" / name / "0.mov", [frame(t) for t in range(4)])
        write_video(tmp_path / "test" / name / "0.mov", [frame(t) for t in range(4)])
    dataset = opened("video_folder", tmp_path, frames=6, stride=1)
    inputs = evaluated(dataset.test_iter)["inputs"]
    assert times(inputs, column=1).tolist() == [[0, 1, 2, 3, 0, 1]] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames, stride, image_size and views must be at least 1, got 0, 2, 14"),
        ({"views": (0, 1)}, r"views must be at least 1, got .*\(0, 1\)"),
        ({"views": (4, 2)}, "crops must be 1 or 3, got 2"),
        ({"cache": "decoded_memory"}, "decoded examples cannot be kept. Use cache='memory'"),
        ({"clips": 2}, "no option 'clips'"),
    ],
)
def test_bad_options_are_named(videos, options, message):
    with pytest.raises(ValueError, match=message):
        opened("video_folder", videos, **({"stride": 2} | options))


def test_a_folder_is_wanted(tmp_path):
    with pytest.raises(ValueError, match="video_folder reads a folder of your own"):
        data.get_dataset("video_folder", batch_size=2)
    (tmp_path / "train" / "run").mkdir(parents=True)
    (tmp_path / "train" / "run" / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="holds no video"):
        opened("video_folder", tmp_path)


@pytest.mark.parametrize("unreadable", ["raise", "skip"])
def test_a_video_that_is_cut_off(tmp_path, unreadable):
    for split in ("train", "test"):
        for name in ("jump", "run"):
            write_video(tmp_path / split / name / "0.mov", [frame(t) for t in range(6)])
    path = tmp_path / "test" / "jump" / "0.mov"
    path.write_bytes(path.read_bytes()[:200])
    (tmp_path / "test" / "run" / "empty.mov").write_bytes(b"")
    with pytest.warns(DataWarning, match=r"empty file: 1 \(run/empty\.mov\)"):
        dataset = opened("video_folder", tmp_path, unreadable=unreadable, eval_batch_size=3)
    if unreadable == "raise":
        with pytest.raises(UnreadableError, match=r"(jump/0|run/empty)\.mov"):
            list(dataset.test_iter)
        return
    (batch,) = dataset.test_iter
    assert batch["batch_mask"].tolist() == [0, 1, 0]
    assert batch["label"].tolist() == [0, 1, 0]
    assert not batch["inputs"][[0, 2]].any()
    assert str(path) in str(dataset.report)
    assert "empty.mov" in str(dataset.report)
