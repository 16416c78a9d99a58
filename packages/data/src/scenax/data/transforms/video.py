"""Which frames of a video a model sees: clips, segments, and several views for testing.

Frames come from ``video``, a path of which only these are decoded; from ``frames``, encoded images
one by one, of which the same holds; or from ``inputs`` uint8 ``[t, h, w, c]``. They become
``inputs``, which ``geometry`` resizes and crops like images, all frames alike.

Clips of equally distant frames, looped where a video is too short, and where they lie, are those of
DMVR, with which ViViT (Arnab et al., arXiv 2103.15691) and MTV (Yan et al., arXiv 2201.04288) read
videos; the three crops are SlowFast's (Feichtenhofer et al., arXiv 1812.03982). Segments: Wang et
al., arXiv 1608.00859.

Checked against videos without loss whose frames have their number for a colour, and DMVR's and
TSN's formulas for indices written in another way. Letters: t frames, h w image, c channels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from scenax.data.examples import Example
from scenax.data.sources import media
from scenax.data.transforms import geometry
from scenax.data.transforms.image import decode_image

_SOURCES = ("video", "frames", "inputs")


def num_frames(example: Example) -> int:
    """Returns how many frames the example's video has.

    Raises:
      KeyError: if it has none.
      UnreadableError: if its file is damaged.
      ValueError: if there are no frames in it.
    """
    if "video" in example:
        return media.video_length(example["video"])
    count = len(example[_source(example)])
    if not count:
        raise ValueError(f"{example.get('name', 'A video')} has no frames. Leave it out.")
    return count


def take_frames(example: Example, indices: Int[np.ndarray, " t"]) -> Example:
    """Returns the example with these frames of its video as ``inputs``, decoding no others.

    Raises:
      KeyError: if it has no video.
      UnreadableError: if the file or a frame is damaged.
      ValueError: if encoded frames differ in their size.
    """
    source = _source(example)
    # Looping asks for some more than once.
    wanted, places = np.unique(indices, return_inverse=True)
    if source == "video":
        frames = media.read_clip(example["video"], wanted)
    elif source == "frames":
        frames = _decoded(example["frames"], wanted.tolist(), str(example.get("name", "A video")))
    else:
        frames = example["inputs"][wanted]
    rest = {key: value for key, value in example.items() if key not in _SOURCES}
    return rest | {"inputs": frames[places]}


def _source(example: Example) -> str:
    for source in _SOURCES:
        if source in example:
            return source
    raise KeyError(
        "Frames come from 'video', a path, 'frames', encoded images, or 'inputs' [t, h, w, c], and "
        f"the example has {', '.join(example)}."
    )


def _decoded(
    encoded: Sequence[Any] | np.ndarray, wanted: list[int], name: str
) -> UInt8[np.ndarray, "t h w 3"]:
    frames = [decode_image(bytes(encoded[i]), name=f"{name}, frame {i}") for i in wanted]
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) > 1:
        raise ValueError(
            f"The frames of {name} have different sizes, {sizes[0]} and {sizes[1]}. Encode them "
            "anew in one."
        )
    return np.stack(frames)


def _clip(start: int, frames: int, stride: int, length: int) -> Int[np.ndarray, " frames"]:
    """Indices from ``start`` on, beginning anew after the last frame of the video."""
    return (start + stride * np.arange(frames)) % length


def _check(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}.")


@dataclasses.dataclass(frozen=True)
class SampleClip:
    """Takes ``frames`` frames, every ``stride``-th from a random one on, for training.

    The first is uniform among those from which on they all fit. If none is, it is the video's
    first, and after the last the video begins anew.
    """

    frames: int
    stride: int = 1

    def __post_init__(self) -> None:
        _check(frames=self.frames, stride=self.stride)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``inputs`` ``[t, h, w, c]`` in the place of its video.

        Raises:
          KeyError: if it has none.
          UnreadableError: if its file or a frame is damaged.
        """
        length = num_frames(example)
        start = int(rng.integers(max(1, length - (self.frames - 1) * self.stride)))
        return take_frames(example, _clip(start, self.frames, self.stride, length))


@dataclasses.dataclass(frozen=True)
class CentralClip:
    """Takes ``frames`` frames, every ``stride``-th, about the middle, for evaluation.

    A video that is shorter is looped from its first frame on.
    """

    frames: int
    stride: int = 1

    def __post_init__(self) -> None:
        _check(frames=self.frames, stride=self.stride)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``inputs`` ``[t, h, w, c]`` in the place of its video.

        Raises:
          KeyError: if it has none.
          UnreadableError: if its file or a frame is damaged.
        """
        length = num_frames(example)
        start = max(0, length - self.frames * self.stride) // 2
        return take_frames(example, _clip(start, self.frames, self.stride, length))


@dataclasses.dataclass(frozen=True)
class Views:
    """Takes several clips and several crops of each, whose predictions a test averages.

    The smaller side is resized to ``size`` pixels. ``clips`` begin evenly spaced from the first
    frame to the last from which a clip fits; a single one is ``CentralClip``'s. ``crops`` are 1,
    the centre, or 3 along the longer side: left or top, centre, right or bottom. ViViT has four
    clips with three crops.
    """

    frames: int
    stride: int = 1
    clips: int = 4
    crops: int = 3
    size: int = 224

    def __post_init__(self) -> None:
        _check(frames=self.frames, stride=self.stride, clips=self.clips, size=self.size)
        if self.crops not in (1, 3):
            raise ValueError(f"crops must be 1 or 3, got {self.crops}.")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``inputs`` ``[clips * crops, t, size, size, c]``.

        All crops of the first clip come first.

        Raises:
          KeyError: if it has no video.
          UnreadableError: if its file or a frame is damaged.
        """
        length = num_frames(example)
        last = max(0, length - self.frames * self.stride)
        starts = np.linspace(0, last, self.clips).astype(int) if self.clips > 1 else [last // 2]
        indices = [_clip(int(start), self.frames, self.stride, length) for start in starts]
        # Clips share frames: each is decoded and resized once.
        wanted, places = np.unique(np.concatenate(indices), return_inverse=True)
        video = geometry.ResizeSmallerSide(self.size)(take_frames(example, wanted), rng)
        frames = video["inputs"]
        crops = np.stack([frames[:, rows, columns] for rows, columns in self._crops(video)])
        views = crops[:, places.reshape(self.clips, self.frames)].swapaxes(0, 1)
        return video | {"inputs": views.reshape(-1, *views.shape[2:])}

    def _crops(self, example: Example) -> list[tuple[slice, slice]]:
        """Rows and columns of each crop. An odd centre is nearer to the end, as SlowFast's."""
        height, width = geometry.image_size(example)
        down, right = height - self.size, width - self.size
        centre = -(-down // 2), -(-right // 2)
        corners = [centre] if self.crops == 1 else [(0, 0), centre, (down, right)]
        return [
            (slice(top, top + self.size), slice(left, left + self.size)) for top, left in corners
        ]


@dataclasses.dataclass(frozen=True)
class SampleSegments:
    """Takes one random frame from each of ``frames`` equal parts of the video, for training.

    Where a video has fewer frames, some are taken more than once.
    """

    frames: int

    def __post_init__(self) -> None:
        _check(frames=self.frames)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``inputs`` ``[t, h, w, c]`` in the place of its video.

        Raises:
          KeyError: if it has none.
          UnreadableError: if its file or a frame is damaged.
        """
        edges = np.arange(self.frames + 1) * num_frames(example) // self.frames
        first, after = edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)
        return take_frames(example, rng.integers(first, after))


@dataclasses.dataclass(frozen=True)
class CentralSegments:
    """Takes the middle frame of each of ``frames`` equal parts of the video, for evaluation."""

    frames: int

    def __post_init__(self) -> None:
        _check(frames=self.frames)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``inputs`` ``[t, h, w, c]`` in the place of its video.

        Raises:
          KeyError: if it has none.
          UnreadableError: if its file or a frame is damaged.
        """
        middles = (2 * np.arange(self.frames) + 1) * num_frames(example) // (2 * self.frames)
        return take_frames(example, middles)
