"""Frames carry their number as a colour, so that what came says which were taken."""

import functools
import io
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from scenax.data.reports import UnreadableError
from scenax.data.sources import media
from scenax.data.transforms import from_plain, geometry, to_plain, video
from scenax.data.transforms.video import (
    CentralClip,
    CentralSegments,
    SampleClip,
    SampleSegments,
    Views,
)


def generator(seed=0):
    return np.random.default_rng(seed)


def numbered(count, height=8, width=16):
    """Frames whose red is their number, green the column's, blue the row's."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0] = np.arange(count)[:, None, None]
    frames[..., 1] = np.arange(width)
    frames[..., 2] = np.arange(height)[:, None]
    return frames


def numbers(example):
    """The numbers of the frames, and nothing else of them changed."""
    inputs = example["inputs"]
    assert inputs.dtype == np.uint8
    found = inputs[:, 0, 0, 0]
    np.testing.assert_array_equal(inputs, numbered(256, *inputs.shape[1:3])[found])
    return found.tolist()


def png(frame):
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """A lossless file of 30 frames."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "numbers.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 8, 16, "bgr0"
        stream.gop_size = 10
        for frame in numbered(30):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture.reformat(format="bgr0")))
        container.mux(stream.encode())
    return str(path)


TRANSFORMS = [
    SampleClip(5, 3),
    SampleClip(40, 2),
    CentralClip(5, 3),
    Views(5, 3, clips=3, crops=3, size=8),
    SampleSegments(7),
    CentralSegments(7),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_files_encoded_frames_and_arrays_are_alike(transform, movie):
    frames = numbered(30)
    encoded = [png(frame) for frame in frames]
    results = [
        transform({source: value, "label": 3, "name": "numbers"}, generator(4))
        for source, value in (
            ("inputs", frames),
            ("video", movie),
            ("frames", encoded),
            ("frames", np.array(encoded, object)),
        )
    ]
    for found in results:
        assert found.keys() == {"inputs", "label", "name"}
        np.testing.assert_array_equal(found["inputs"], results[0]["inputs"])


def test_only_the_frames_that_are_taken_are_decoded(movie, monkeypatch):
    asked = []

    @functools.wraps(media.read_clip)
    def read(path, indices):
        asked.extend(int(i) for i in indices)
        return read_clip(path, indices)

    read_clip = media.read_clip
    monkeypatch.setattr(media, "read_clip", read)
    found = CentralClip(40, 2)({"video": movie}, generator())
    assert len(found["inputs"]) == 40
    assert asked == list(range(0, 30, 2))
    asked.clear()
    Views(4, 5, clips=2, crops=3, size=8)({"video": movie}, generator())
    assert asked == [0, 5, 10, 15, 20, 25]

    encoded = [b"damaged"] * 30
    encoded[10:20] = [png(frame) for frame in numbered(30)[10:20]]
    assert numbers(CentralClip(10)({"frames": encoded}, generator())) == list(range(10, 20))
    with pytest.raises(UnreadableError, match="cat, frame 9"):
        CentralClip(12)({"frames": encoded, "name": "cat"}, generator())


@pytest.mark.parametrize(("frames", "stride"), [(4, 1), (4, 5), (1, 3), (20, 1)])
def test_clips_begin_wherever_they_fit(frames, stride):
    example = {"inputs": numbered(20)}
    starts = []
    for seed in range(600):
        found = numbers(SampleClip(frames, stride)(example, generator(seed)))
        assert found == list(range(found[0], found[0] + stride * frames, stride))[:frames]
        assert found[-1] < 20
        starts.append(found[0])
    possible = [s for s in range(20) if s + stride * (frames - 1) < 20]
    counts = np.bincount(starts, minlength=len(possible))
    expected = 600 / len(possible)
    np.testing.assert_allclose(counts, expected, atol=4.5 * np.sqrt(expected) + 1e-9)


@pytest.mark.parametrize("transform", [SampleClip, CentralClip])
def test_short_videos_begin_anew(transform):
    example = {"inputs": numbered(5)}
    for frames, stride in ((8, 1), (4, 2), (12, 3), (6, 5)):
        if 1 + (frames - 1) * stride <= 5:
            continue
        looped = list(range(5)) * 20
        found = numbers(transform(frames, stride)(example, generator(3)))
        assert found == looped[::stride][:frames]


@pytest.mark.parametrize(
    ("length", "frames", "stride"), [(20, 4, 1), (21, 4, 2), (64, 32, 2), (9, 4, 2), (7, 4, 2)]
)
def test_central_clips_are_dmvrs(length, frames, stride):
    """The frames before are as many as those after, counting the stride after the last."""
    found = numbers(CentralClip(frames, stride)({"inputs": numbered(length)}, generator()))
    before, after = found[0], length - (found[-1] + stride)
    assert np.diff(found).tolist() == [stride] * (frames - 1)
    assert after - before in (0, 1) or (before == 0 and after < 0)


def test_views_are_clips_by_crops():
    """As ViViT: four clips of three crops; 12 frames in 100, every third."""
    example = {"inputs": numbered(100, 32, 80), "label": 1}
    found = Views(12, 3, clips=4, crops=3, size=32)(example, generator())
    assert found.keys() == {"inputs", "label"}
    assert found["inputs"].shape == (12, 12, 32, 32, 3)
    # The last fits with its stride: 100 - 36 = 64.
    for clip, start in enumerate((0, 21, 42, 64)):
        for crop, left in enumerate((0, 24, 48)):
            view = found["inputs"][3 * clip + crop]
            frames = range(start, start + 36, 3)
            np.testing.assert_array_equal(view, example["inputs"][frames, :, left : left + 32])


def test_views_of_a_high_video_are_top_centre_and_bottom():
    example = {"inputs": numbered(3, 21, 10)}
    found = Views(3, clips=1, crops=3, size=10)(example, generator())["inputs"]
    for view, top in zip(found, (0, 6, 11), strict=True):
        np.testing.assert_array_equal(view, example["inputs"][:, top : top + 10])
    single = Views(3, clips=1, crops=1, size=10)(example, generator())["inputs"]
    np.testing.assert_array_equal(single, found[1:2])


def test_views_resize_the_smaller_side_first():
    example = {"inputs": generator().integers(0, 256, (6, 30, 50, 3), np.uint8)}
    found = Views(2, clips=2, crops=3, size=15)(example, generator())["inputs"]
    resized = geometry.resize_image(example["inputs"], 15, 25)
    expected = [
        resized[start : start + 2, :, left : left + 15] for start in (0, 4) for left in (0, 5, 10)
    ]
    np.testing.assert_array_equal(found, np.stack(expected))


def test_a_single_clip_is_the_central_one_and_short_videos_loop():
    example = {"inputs": numbered(50, 8, 8)}
    single = Views(4, 3, clips=1, crops=1, size=8)(example, generator())["inputs"][0]
    assert numbers({"inputs": single}) == numbers(CentralClip(4, 3)(example, generator()))
    short = Views(7, clips=2, crops=1, size=8)({"inputs": numbered(3, 8, 8)}, generator())
    for view in short["inputs"]:
        assert numbers({"inputs": view}) == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(("length", "frames"), [(30, 5), (31, 8), (100, 16), (8, 8)])
def test_segments_are_equal_parts(length, frames):
    """Frame f lies in part floor(f * frames / length), up to rounding at the borders."""
    example = {"inputs": numbered(length)}
    middles = numbers(CentralSegments(frames)(example, generator()))
    tick = length / frames
    assert middles == [int(tick / 2 + tick * part) for part in range(frames)]  # As TSN has it.
    seen = [set() for _ in range(frames)]
    for seed in range(400):
        found = numbers(SampleSegments(frames)(example, generator(seed)))
        for part, frame in zip(seen, found, strict=True):
            part.add(frame)
    # Together the parts are the video, one after the other.
    assert [frame for part in seen for frame in sorted(part)] == list(range(length))
    assert max(map(len, seen)) - min(map(len, seen)) <= 1


def test_segments_of_a_short_video_repeat_its_frames():
    example = {"inputs": numbered(3)}
    for transform in (SampleSegments(7), CentralSegments(7)):
        found = numbers(transform(example, generator()))
        assert len(found) == 7
        assert found == sorted(found)
        assert set(found) == {0, 1, 2}


def test_draws_are_a_function_of_the_generator():
    example = {"inputs": numbered(99)}
    for transform in (SampleClip(3, 2), SampleSegments(4)):
        first, again, *others = (
            numbers(transform(example, generator(seed))) for seed in (1, 1, 2, 3, 4)
        )
        assert first == again
        assert any(other != first for other in others)
    rng = mock.create_autospec(np.random.Generator, instance=True)
    for transform in (CentralClip(3), CentralSegments(3), Views(3, size=8)):
        transform(example, rng)
    assert not rng.method_calls


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_an_example_without_a_video_is_named(transform):
    with pytest.raises(KeyError, match=r"'video', a path.*the example has label, image"):
        transform({"label": 1, "image": b""}, generator())
    with pytest.raises(ValueError, match=r"cat has no frames\. Leave it out"):
        transform({"frames": [], "name": "cat"}, generator())


def test_frames_of_different_sizes_are_named():
    frames = [png(numbered(1, 8, 16)[0]), png(numbered(1, 8, 8)[0])]
    with pytest.raises(ValueError, match=r"cat have different sizes, \(8, 8\) and \(8, 16\)"):
        CentralClip(2)({"frames": frames, "name": "cat"}, generator())


def test_numbers_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="frames must be at least 1, got 0"):
        SampleClip(0)
    with pytest.raises(ValueError, match="stride must be at least 1, got -2"):
        CentralClip(4, -2)
    with pytest.raises(ValueError, match="crops must be 1 or 3, got 2"):
        Views(4, crops=2)
    with pytest.raises(ValueError, match="frames must be at least 1, got -1"):
        SampleSegments(-1)
    with pytest.raises(ValueError, match="frames must be at least 1, got 0"):
        CentralSegments(0)


def test_they_can_be_written_to_a_configuration():
    assert from_plain(to_plain(TRANSFORMS)) == TRANSFORMS
    assert video.num_frames({"inputs": numbered(6)}) == 6
