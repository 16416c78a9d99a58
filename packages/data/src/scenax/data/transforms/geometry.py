"""What moves pixels: resizing, crops, flips and affine maps. Boxes and masks follow.

A transform takes whatever of these an example has along with its ``inputs``, uint8 ``[h, w, c]`` or
a clip ``[t, h, w, c]`` whose frames are treated alike: ``boxes`` ``[n, 4]``, xyxy in pixels,
``masks`` ``[n, h, w]``, ``segmentation`` and ``segments`` ``[h, w]``. An object of which nothing is
left is taken out of everything that lists objects.

Images are resized as Pillow does it, with antialiasing; maps by the nearest pixel. Inception crop:
Szegedy et al., arXiv 1409.4842; large-scale jitter: Ghiasi et al., arXiv 2012.07177. Checked
against Pillow, and boxes and masks against what is drawn into the image. Letters: n objects, h w
image, c channels, t frames.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np
import scipy
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from scenax.data.examples import Example

# The pipeline's threads keep the cores busy; OpenCV's own would only wait for one another.
cv2.setNumThreads(0)

Method = Literal["nearest", "bilinear", "bicubic", "lanczos"]
_METHODS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
OBJECTS = ("boxes", "classes", "is_crowd", "is_difficult", "area", "masks")
# Planes of class or segment ids, and what there is where there was no image.
_OUTSIDE = {"masks": 0, "segmentation": 255, "segments": 0}


def image_size(example: Example) -> tuple[int, int]:
    """Returns height and width of the example's ``inputs``."""
    height, width = example["inputs"].shape[-3:-1]
    return height, width


def resize_image(
    image: UInt8[np.ndarray, "*t h w c"], height: int, width: int, method: Method = "bilinear"
) -> UInt8[np.ndarray, "*t height width c"]:
    """Returns an image, or every frame of a clip, resized as Pillow does it."""
    if image.shape[-3:-1] == (height, width):
        return image
    if image.ndim == 4:
        return np.stack([resize_image(frame, height, width, method) for frame in image])
    if image.shape[-1] not in (1, 3):
        planes = np.split(image, image.shape[-1], axis=-1)
        resized = [resize_image(plane, height, width, method) for plane in planes]
        return np.concatenate(resized, axis=-1)
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    resized = np.asarray(Image.fromarray(pixels).resize((width, height), _METHODS[method]))
    return resized[..., None] if image.shape[-1] == 1 else resized


def resize_image_fast(
    image: UInt8[np.ndarray, "h w c"], height: int, width: int
) -> UInt8[np.ndarray, "height width c"]:
    """Returns a crop resized bilinearly with antialiasing, in a third of Pillow's time.

    A triangle as wide as ``s`` pixels, which Pillow weighs with, is nearly the unit triangle of
    plain bilinear interpolation after a short smoothing of the same variance; for whole ``s`` it is
    exactly that. Photographs differ from Pillow's by 0.5 of 255 in the mean.
    """
    down, across = image.shape[0] / height, image.shape[1] / width
    if max(down, across) > 1:
        kernels = _smoothing(across), _smoothing(down)
        image = cv2.sepFilter2D(image, -1, *kernels, borderType=cv2.BORDER_REFLECT)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(height, width, -1)


def _smoothing(scale: float) -> Float[np.ndarray, " taps"]:
    """The kernel that makes a unit triangle one of width ``scale``: between those of two integers.

    The variance of a triangle of width s is s^2 / 6.
    """
    if scale <= 1:
        return np.ones(1, np.float32)
    n = int(scale)
    share = (scale**2 - n**2) / ((n + 1) ** 2 - n**2)
    lower, upper = (1 - share) / n**2, share / (n + 1) ** 2
    # In plain numbers: for three or five of them numpy takes ten times as long.
    half = [lower * max(0, n - k) + upper * (n + 1 - k) for k in range(n + 1)]
    return np.array([*half[:0:-1], *half], np.float32)


def resize(example: Example, height: int, width: int, method: Method = "bilinear") -> Example:
    """Returns the example with its image ``height`` x ``width`` pixels."""
    return _resized(example, height, width, resize_image(example["inputs"], height, width, method))


def _resized(example: Example, height: int, width: int, inputs: np.ndarray) -> Example:
    """The example with ``inputs`` that were resized, and everything else resized too."""
    old_height, old_width = image_size(example)

    def picked(_: str, plane: np.ndarray) -> np.ndarray:
        rows, columns = _nearest(old_height, height), _nearest(old_width, width)
        return plane[..., rows[:, None], columns]

    moved = _planes(example, picked)
    if "boxes" in example:
        scales = np.array([width / old_width, height / old_height] * 2, np.float32)
        moved["boxes"] = example["boxes"] * scales
    if "area" in example:
        moved["area"] = example["area"] * np.float32(width * height / (old_width * old_height))
    new = example | moved | {"inputs": inputs}
    shown = np.asarray(new["masks"].any(axis=(1, 2))) if "masks" in new else None
    return new if shown is None else keep_objects(new, shown)


def _nearest(old: int, new: int) -> np.ndarray:
    """Which pixel of ``old`` each of ``new`` shows: step by step, so that it rounds as Pillow."""
    steps = np.full(new, old / new)
    steps[0] /= 2
    return np.minimum(np.cumsum(steps).astype(int), old - 1)


def crop(
    example: Example, left: int, top: int, width: int, height: int, *, fill: int = 0
) -> Example:
    """Returns a part of the example, which may reach beyond the image: there it is ``fill``."""
    old_height, old_width = image_size(example)
    rows, columns = slice(max(top, 0), top + height), slice(max(left, 0), left + width)
    before = max(-top, 0), max(-left, 0)
    after = max(top + height - old_height, 0), max(left + width - old_width, 0)
    pads = list(zip(before, after, strict=True))
    inside = not any(before + after)

    def cut(name: str, plane: np.ndarray) -> np.ndarray:
        part = plane[..., rows, columns]
        around = [(0, 0)] * (part.ndim - 2) + pads
        return part if inside else np.pad(part, around, constant_values=_OUTSIDE[name])

    inputs = example["inputs"][..., rows, columns, :]
    if not inside:
        around = [(0, 0)] * (inputs.ndim - 3) + [*pads, (0, 0)]
        inputs = np.pad(inputs, around, constant_values=fill)
    moved = _planes(example, cut) | {"inputs": inputs}
    if "boxes" in example:
        moved["boxes"] = example["boxes"] - np.array([left, top, left, top], np.float32)
    return _clipped(example, example | moved)


def flip(example: Example) -> Example:
    """Returns the example mirrored left to right."""
    _, width = image_size(example)
    moved = _planes(example, lambda _, plane: plane[..., ::-1])
    image = example["inputs"]
    mirrored = cv2.flip(image, 1) if image.ndim == 3 else image[..., ::-1, :]
    moved["inputs"] = mirrored.reshape(image.shape)
    if "boxes" in example:
        left, top, right, bottom = example["boxes"].T
        moved["boxes"] = np.stack([width - right, top, width - left, bottom], axis=-1)
    return example | moved


def warp(
    example: Example,
    back: Float[np.ndarray, "2 3"],
    *,
    order: int = 1,
    fill: float = 0,
) -> Example:
    """Returns the example moved by an affine map; what comes in from outside is ``fill``.

    Args:
      example: of an image.
      back: where in the image (x, y) of the result comes from, of pixel centres: the matrix times
        (x, y, 1). The corner pixel's centre is (0, 0).
      order: of the image's interpolation, 1 for bilinear and 0 for the nearest pixel.
      fill: a pixel's value.
    """
    rows_first = back[::-1, 1::-1], back[::-1, 2]  # scipy thinks in (y, x).

    def move(plane: np.ndarray, order: int, fill: float) -> np.ndarray:
        kind = np.uint8 if plane.dtype == bool else plane.dtype
        moved = scipy.ndimage.affine_transform(
            plane.astype(kind),
            *rows_first,  # pyright: ignore[reportArgumentType]  (the stub forgets arrays)
            order=order,
            # Pixels have an extent: the nearest one is that of the border up to half beyond it.
            mode="constant" if order else "grid-constant",
            cval=fill,
        )
        return moved.astype(plane.dtype)

    def move_all(name: str, planes: np.ndarray) -> np.ndarray:
        if planes.ndim == 2:
            return move(planes, 0, _OUTSIDE[name])
        moved = [move(plane, 0, _OUTSIDE[name]) for plane in planes]
        return np.stack(moved) if moved else planes

    channels = np.moveaxis(example["inputs"], -1, 0)
    if channels.ndim == 3:
        inputs = np.stack([move(channel, order, fill) for channel in channels], axis=-1)
    else:
        inputs = np.stack(
            [[move(frame, order, fill) for frame in channel] for channel in channels], axis=-1
        )
        inputs = np.ascontiguousarray(inputs)
    moved = _planes(example, move_all) | {"inputs": inputs}
    if "boxes" in example:
        moved["boxes"] = _moved_boxes(example["boxes"], back)
    return _clipped(example, example | moved)


def _moved_boxes(boxes: np.ndarray, back: np.ndarray) -> np.ndarray:
    """The smallest upright boxes about the moved corners."""
    forth = np.linalg.inv(np.vstack([back, [0, 0, 1]]))[:2]
    # Boxes speak of pixels' edges, matrices of their centres.
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) - 0.5
    there = corners @ forth[:, :2].T + forth[:, 2] + 0.5
    return np.concatenate([there.min(1), there.max(1)], axis=1).astype(np.float32)


def _planes(example: Example, move: Callable[[str, np.ndarray], np.ndarray]) -> Example:
    """Every plane of ids that the example has, moved."""
    return {name: move(name, example[name]) for name in _OUTSIDE if name in example}


def _clipped(old: Example, new: Example) -> Example:
    """The new example without what left the image. Areas shrink as boxes do."""
    if "boxes" not in new:
        return new
    height, width = image_size(new)
    boxes = np.clip(new["boxes"], 0, np.array([width, height] * 2, np.float32))
    area = _box_area(boxes)
    if "area" in new:
        whole = np.maximum(_box_area(old["boxes"]), np.float32(1e-6))
        new = new | {"area": (new["area"] * np.minimum(area / whole, 1)).astype(np.float32)}
    left = area > 0
    if "masks" in new:
        left &= new["masks"].any(axis=(1, 2))
    return keep_objects(new | {"boxes": boxes}, left)


def _box_area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def keep_objects(example: Example, kept: Shaped[np.ndarray, " n"]) -> Example:
    """Returns the example with those of its objects that a mask or indices name."""
    return example | {name: example[name][kept] for name in OBJECTS if name in example}


@dataclasses.dataclass(frozen=True)
class Resize:
    """Makes images ``height`` x ``width`` pixels, whatever their aspect ratio."""

    height: int
    width: int
    method: Method = "bilinear"

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example resized."""
        return resize(example, self.height, self.width, self.method)


@dataclasses.dataclass(frozen=True)
class ResizeSmallerSide:
    """Makes the smaller side of images ``size`` pixels and keeps their aspect ratio."""

    size: int
    method: Method = "bilinear"

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example resized."""
        sides = image_size(example)
        # Rounded down, as torchvision does it.
        height, width = (side * self.size // min(sides) for side in sides)
        return resize(example, height, width, self.method)


@dataclasses.dataclass(frozen=True)
class ResizeInto:
    """Makes images as large as fits into ``height`` x ``width``, and pads right and below."""

    height: int
    width: int
    method: Method = "bilinear"
    fill: int = 0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example resized and padded."""
        height, width = image_size(example)
        scale = min(self.height / height, self.width / width)
        sides = max(1, round(height * scale)), max(1, round(width * scale))
        small = resize(example, *sides, self.method)
        return crop(small, 0, 0, self.width, self.height, fill=self.fill)


@dataclasses.dataclass(frozen=True)
class CentralCrop:
    """Keeps the central ``size`` x ``size`` pixels."""

    size: int

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example cropped.

        Raises:
          ValueError: if the image is smaller.
        """
        height, width = image_size(example)
        if min(height, width) < self.size:
            raise ValueError(
                f"A central crop of {self.size} pixels needs an image at least as large, got "
                f"{width}x{height}. Resize it first."
            )
        # Halves to even, as torchvision does it.
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return crop(example, left, top, self.size, self.size)


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Takes ``height`` x ``width`` pixels at a random place, with ``padding`` around the image.

    An image that is still smaller is padded right and below.
    """

    height: int
    width: int
    padding: int = 0
    fill: int = 0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example cropped."""
        height, width = image_size(example)
        room = (side + 2 * self.padding for side in (height, width))
        spare = (max(0, r - s) for r, s in zip(room, (self.height, self.width), strict=True))
        top, left = (int(rng.integers(s + 1)) - self.padding for s in spare)
        return crop(example, left, top, self.width, self.height, fill=self.fill)


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """The inception crop: a random part of the image, resized to ``size`` x ``size`` pixels.

    The part's share of the image's area is uniform in ``area``, its width / height log-uniform in
    ``aspect_ratio``, and its place uniform among those inside. After ten draws that do not fit it
    is the largest central part with an aspect ratio in the range. ``"bilinear"`` resizes with
    ``resize_image_fast``, other methods as Pillow.
    """

    size: int
    area: tuple[float, float] = (0.08, 1.0)
    aspect_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    method: Method = "bilinear"

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example cropped and resized."""
        part = crop(example, *self._window(*image_size(example), rng))
        if self.method != "bilinear" or part["inputs"].ndim == 4:
            return resize(part, self.size, self.size, self.method)
        inputs = resize_image_fast(part["inputs"], self.size, self.size)
        return _resized(part, self.size, self.size, inputs)

    def _window(
        self, height: int, width: int, rng: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """Left, top, width and height of the part."""
        low, high = self.aspect_ratio
        for _ in range(10):
            pixels = rng.uniform(*self.area) * width * height
            ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
            w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
        w = min(width, max(1, round(height * high)))
        h = min(height, max(1, round(width / low)))
        return (width - w) // 2, (height - h) // 2, w, h


@dataclasses.dataclass(frozen=True)
class RandomFlip:
    """Mirrors left to right with a probability."""

    probability: float = 0.5

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example, mirrored or not."""
        return flip(example) if rng.random() < self.probability else example


@dataclasses.dataclass(frozen=True)
class RandomAffine:
    """Turns, scales and shifts about the image's centre, bilinearly.

    A positive angle turns counter-clockwise. Each is drawn uniformly from its range; what comes in
    from outside has the value ``fill``.
    """

    max_degrees: float = 10.0
    max_scaling: float = 0.1
    max_shift_pixels: float = 0.7
    fill: float = 0.0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example moved."""
        angle = math.radians(rng.uniform(-self.max_degrees, self.max_degrees))
        scale = 1 + rng.uniform(-self.max_scaling, self.max_scaling)
        down, right = rng.uniform(-self.max_shift_pixels, self.max_shift_pixels, size=2)
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        # The way back, in (x, y): y points down.
        linear = np.array([[cos, -sin], [sin, cos]])
        height, width = image_size(example)
        centre = (np.array([width, height]) - 1) / 2
        offset = centre - linear @ (centre + np.array([right, down]))
        return warp(example, np.column_stack([linear, offset]), fill=self.fill)


@dataclasses.dataclass(frozen=True)
class LargeScaleJitter:
    """Scales images by a random factor of what fits, then crops or pads to ``height`` x ``width``.

    Ghiasi et al. (arXiv 2012.07177) draw the factor from 0.1 to 2; 0.8 to 1.25 is the standard
    scale jitter that they compare it with.
    """

    height: int
    width: int
    scale: tuple[float, float] = (0.1, 2.0)
    fill: int = 0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example scaled, and cropped or padded."""
        height, width = image_size(example)
        factor = rng.uniform(*self.scale) * min(self.height / height, self.width / width)
        scaled = resize(
            example, max(1, round(height * factor)), max(1, round(width * factor)), "bilinear"
        )
        return RandomCrop(self.height, self.width, fill=self.fill)(scaled, rng)


def require(example: Example, name: str, wanted: str) -> Any:
    """Returns the example's ``name``.

    Raises:
      KeyError: if it has none; the message says what the transform wanted it for.
    """
    if name not in example:
        raise KeyError(f"{wanted} needs {name!r}, and the example has {', '.join(example)}.")
    return example[name]
