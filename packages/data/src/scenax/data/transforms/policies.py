"""RandAugment (Cubuk et al., arXiv 1909.13719) on RGB images.

Operations and magnitudes are those of the authors' TPU code, which big_vision uses too: each layer
applies one of sixteen operations, drawn uniformly and always applied, at one fixed magnitude. What
comes in from outside is grey, 128, and geometry is nearest-neighbour. Differences, all on purpose:

- Contrast turns about the image's mean grey, as Pillow and the paper have it. The TPU code turns
  about the number of pixels / 256, which is 196 for 224x224.
- Positions are of pixel centres: a shear differs by up to 0.15 pixels.

The authors' own readings of a magnitude are kept, also where they surprise: Solarize and Posterize
are strongest at 0. At magnitude 10 Solarize changes nothing and Posterize keeps 4 bits; below 2.5
Posterize keeps none, which is black.

Checked against numpy formulas written apart from Pillow.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

_MAX_MAGNITUDE = 10
_GREY = (128, 128, 128)


class Operation(NamedTuple):
    """What is done to an image, and how much of it a magnitude from 0 to 10 means."""

    apply: Callable[[Image.Image, float, np.random.Generator], Image.Image]
    amount: Callable[[float], float]


def _either_way(
    apply: Callable[[Image.Image, float], Image.Image],
) -> Callable[[Image.Image, float, np.random.Generator], Image.Image]:
    """Returns the operation with a random sign on its amount."""
    return lambda image, amount, rng: apply(image, amount if rng.random() < 0.5 else -amount)


def _affine(image: Image.Image, *back: float) -> Image.Image:
    """Returns the image whose pixel (x, y) comes from ``back`` applied to (x, y, 1)."""
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        back,
        resample=Image.Resampling.NEAREST,
        fillcolor=_GREY,
    )


def _rotate(image: Image.Image, degrees: float) -> Image.Image:
    return image.rotate(degrees, resample=Image.Resampling.NEAREST, fillcolor=_GREY)


def _posterize(image: Image.Image, bits: float) -> Image.Image:
    kept = 256 - 2 ** (8 - int(bits))  # Pillow's own refuses 0 bits, which is black.
    return image.point([value & kept for value in range(256)] * 3)


def _solarize_add(image: Image.Image, addition: float) -> Image.Image:
    dark = [min(value + int(addition), 255) for value in range(128)]
    return image.point([*dark, *range(128, 256)] * 3)


def _cutout(image: Image.Image, half_side: float, rng: np.random.Generator) -> Image.Image:
    """Returns the image with a grey square about a random pixel, cut off at the borders."""
    x, y = int(rng.integers(image.width)), int(rng.integers(image.height))
    half = int(half_side)
    cut = image.copy()
    right, bottom = min(image.width, x + half), min(image.height, y + half)
    cut.paste(_GREY, (max(0, x - half), max(0, y - half), right, bottom))
    return cut


def _enhancement(m: float) -> float:
    return 0.1 + 1.8 * m / _MAX_MAGNITUDE


def _up_to(most: float) -> Callable[[float], float]:
    return lambda m: most * m / _MAX_MAGNITUDE


def _whole_up_to(most: int) -> Callable[[float], float]:
    return lambda m: int(most * m / _MAX_MAGNITUDE)


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": Operation(lambda image, _, rng: ImageOps.autocontrast(image), _up_to(0)),
    "Equalize": Operation(lambda image, _, rng: ImageOps.equalize(image), _up_to(0)),
    "Invert": Operation(lambda image, _, rng: ImageOps.invert(image), _up_to(0)),
    # Degrees.
    "Rotate": Operation(_either_way(_rotate), _up_to(30)),
    # Bits that are kept, and the value from which on the image is inverted.
    "Posterize": Operation(lambda image, a, rng: _posterize(image, a), _whole_up_to(4)),
    "Solarize": Operation(
        lambda image, a, rng: ImageOps.solarize(image, int(a)), _whole_up_to(256)
    ),
    # Factors: 1 changes nothing.
    "Color": Operation(lambda image, a, rng: ImageEnhance.Color(image).enhance(a), _enhancement),
    "Contrast": Operation(
        lambda image, a, rng: ImageEnhance.Contrast(image).enhance(a), _enhancement
    ),
    "Brightness": Operation(
        lambda image, a, rng: ImageEnhance.Brightness(image).enhance(a), _enhancement
    ),
    "Sharpness": Operation(
        lambda image, a, rng: ImageEnhance.Sharpness(image).enhance(a), _enhancement
    ),
    # Columns per row and rows per column.
    "ShearX": Operation(
        _either_way(lambda image, a: _affine(image, 1, a, 0, 0, 1, 0)), _up_to(0.3)
    ),
    "ShearY": Operation(
        _either_way(lambda image, a: _affine(image, 1, 0, 0, a, 1, 0)), _up_to(0.3)
    ),
    # Pixels.
    "TranslateX": Operation(
        _either_way(lambda image, a: _affine(image, 1, 0, a, 0, 1, 0)), _up_to(100)
    ),
    "TranslateY": Operation(
        _either_way(lambda image, a: _affine(image, 1, 0, 0, 0, 1, a)), _up_to(100)
    ),
    "Cutout": Operation(_cutout, _whole_up_to(40)),
    # What is added to values below 128.
    "SolarizeAdd": Operation(lambda image, a, rng: _solarize_add(image, a), _whole_up_to(110)),
}
"""The sixteen operations, in the order of the authors' table."""


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Applies ``layers`` random operations one after the other, all at ``magnitude``."""

    layers: int = 2
    magnitude: float = 10

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise ValueError(f"RandAugment's layers must be at least 0, got {self.layers}.")
        if not 0 <= self.magnitude <= _MAX_MAGNITUDE:
            raise ValueError(
                f"RandAugment's magnitude must be from 0 to {_MAX_MAGNITUDE}, got {self.magnitude}."
            )

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Returns an RGB image of the same size."""
        operations = list(OPERATIONS.values())
        for _ in range(self.layers):
            operation = operations[rng.integers(len(operations))]
            image = operation.apply(image, operation.amount(self.magnitude), rng)
        return image
