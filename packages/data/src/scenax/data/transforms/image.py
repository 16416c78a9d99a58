"""Transforms of single images, all randomness from the generator given.

The functions take Pillow images, RGB and 8 bits, whose ``size`` is (width, height); resizing is
bilinear with antialiasing. Inception crop: Szegedy et al., arXiv 1409.4842. Checked against
Pillow's own crops and a triangle filter in numpy. Letters: h w image.
"""

import dataclasses
import io
import math

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy import ndimage

from scenax.data.pipeline import Example


@dataclasses.dataclass(frozen=True)
class RandomAffine:
    """Turns, scales and shifts ``inputs`` ``[h, w, c]`` about the image's centre, bilinearly.

    A positive angle turns counter-clockwise. Each is drawn uniformly from its range; what comes in
    from outside has the value ``fill``.
    """

    max_degrees: float = 10.0
    max_scaling: float = 0.1
    max_shift_pixels: float = 0.7
    fill: float = 0.0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with its ``inputs`` moved."""
        image = example["inputs"]
        angle = math.radians(rng.uniform(-self.max_degrees, self.max_degrees))
        scale = 1 + rng.uniform(-self.max_scaling, self.max_scaling)
        shift = rng.uniform(-self.max_shift_pixels, self.max_shift_pixels, size=2)
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        # scipy wants the way back: where in the input a pixel of the output comes from.
        back = np.array([[cos, sin], [-sin, cos]])
        centre = (np.array(image.shape[:2]) - 1) / 2
        offset = centre - back @ (centre + shift)
        moved = [
            ndimage.affine_transform(
                channel,
                back,
                offset,  # pyright: ignore[reportArgumentType]  (the stub forgets arrays)
                order=1,
                cval=self.fill,
            )
            for channel in np.moveaxis(image, -1, 0)
        ]
        return example | {"inputs": np.stack(moved, axis=-1)}


def open_encoded(encoded: bytes) -> Image.Image:
    """Returns an image that is decoded when it is first used.

    Raises:
      PIL.UnidentifiedImageError: if the bytes are not an image's.
    """
    return Image.open(io.BytesIO(encoded))


def random_crop_box(
    width: int,
    height: int,
    rng: np.random.Generator,
    *,
    area: tuple[float, float] = (0.05, 1.0),
    aspect_ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
    """Returns (left, top, right, bottom) of a random part of an image, in pixels.

    Its share of the image's area is uniform in ``area``, its width / height log-uniform in
    ``aspect_ratio``, and its place uniform among those inside. After ten draws that do not fit it
    is the largest central box with an aspect ratio in the range.
    """
    for _ in range(10):
        pixels = rng.uniform(*area) * width * height
        ratio = math.exp(rng.uniform(math.log(aspect_ratio[0]), math.log(aspect_ratio[1])))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * aspect_ratio[1])))
    h = min(height, max(1, round(width / aspect_ratio[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def random_resized_crop(
    image: Image.Image,
    size: int,
    rng: np.random.Generator,
    *,
    area: tuple[float, float] = (0.05, 1.0),
    aspect_ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Image.Image:
    """Returns a random part (``random_crop_box``) resized to ``size`` x ``size`` pixels, RGB."""
    box = random_crop_box(*image.size, rng, area=area, aspect_ratio=aspect_ratio)
    return _rgb(image.crop(box)).resize((size, size), Image.Resampling.BILINEAR)


def random_flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Returns the image, mirrored left to right half of the time."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def resize_smaller_side(image: Image.Image, size: int) -> Image.Image:
    """Returns the image in RGB, its smaller side ``size`` pixels, its aspect ratio kept."""
    smaller = min(image.size)
    width, height = (round(side * size / smaller) for side in image.size)
    return _rgb(image).resize((width, height), Image.Resampling.BILINEAR)


def central_crop(image: Image.Image, size: int) -> Image.Image:
    """Returns the central ``size`` x ``size`` pixels.

    Raises:
      ValueError: if the image is smaller.
    """
    if min(image.size) < size:
        raise ValueError(
            f"A central crop of {size} pixels needs an image at least as large, got "
            f"{image.width}x{image.height}. Resize it first."
        )
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def normalize(image: Image.Image) -> Float[np.ndarray, "h w 3"]:
    """Returns the RGB image as float32, 0..255 mapped to [-1, 1].

    >>> normalize(Image.new("RGB", (1, 1), (0, 51, 255))).tolist()
    [[[-1.0, -0.6000000238418579, 1.0]]]
    """
    return np.asarray(image, np.float32) / np.float32(127.5) - np.float32(1)


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")
