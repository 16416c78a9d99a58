"""RandAugment, AutoAugment, TrivialAugment and 3-Augment: random operations on whole images.

RandAugment: Cubuk et al., arXiv 1909.13719; AutoAugment: Cubuk et al., arXiv 1805.09501;
TrivialAugment: Müller and Hutter, arXiv 2103.10158; 3-Augment: Touvron et al., arXiv 2204.07118.

A policy takes ``inputs`` uint8 ``[h, w, 3]`` or ``[h, w, 1]``, and raises a TypeError for others.
Whatever rotates, shears or translates takes ``boxes``, ``masks``, ``segmentation`` and ``segments``
along, with ``geometry.warp``; images alone go through Pillow, which is many times as fast. Geometry
is nearest-neighbour; a positive angle turns counter-clockwise, and every sign is drawn by a coin.

RandAugment's and AutoAugment's operations and magnitudes are those of the authors' TPU code, which
big_vision uses too. What comes in from outside is grey, 128. Differences, all on purpose:

- Contrast turns about the image's mean grey, as Pillow and the paper have it. The TPU code turns
  about the number of pixels / 256, which is 196 for 224x224.
- Positions are of pixel centres: a shear differs by up to 0.15 pixels.

The authors' own readings of a magnitude are kept, also where they surprise: Solarize and Posterize
are strongest at 0. At magnitude 10 Solarize changes nothing and Posterize keeps 4 bits; below 2.5
Posterize keeps none, which is black.

TrivialAugment's are torchvision's TrivialAugmentWide, black outside. There an enhancement is by a
factor on either side of 1; in the authors' code the strength alone says which, from 0.01 to 2.

Checked against numpy formulas written apart from Pillow, against torchvision's operations on
tensors and its magnitudes, and against the table in the authors' TPU code. Letters: h w image.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from scenax.data.examples import Example
from scenax.data.transforms import geometry

_MAX_MAGNITUDE = 10  # Of the operations' table; recipes go on in a straight line.
_HIGHEST_MAGNITUDE = 20  # From here on Posterize would keep more bits than there are.
_NUM_STRENGTHS = 31
_GREY, _BLACK = 128, 0

_Apply = Callable[[Example, float, np.random.Generator], Example]


class Operation(NamedTuple):
    """What is done to an example, and how much of it a magnitude means."""

    apply: _Apply
    amount: Callable[[float], float]


def _checked(example: Example) -> np.ndarray:
    """The example's image."""
    inputs = example["inputs"]
    if inputs.dtype != np.uint8 or inputs.ndim != 3 or inputs.shape[-1] not in (1, 3):
        raise TypeError(
            "Augmentation policies need inputs uint8 [h, w, 3] or [h, w, 1], got "
            f"{inputs.dtype} {list(inputs.shape)}. Put them after decoding and cropping and before "
            "Normalize; clips have no policies."
        )
    return inputs


def _recolouring(change: Callable[[Image.Image, float], Image.Image]) -> _Apply:
    """Returns the operation that changes the image alone, in Pillow."""

    def apply(example: Example, amount: float, rng: np.random.Generator) -> Example:
        inputs = _checked(example)
        image = Image.fromarray(inputs[..., 0] if inputs.shape[-1] == 1 else inputs)
        return example | {"inputs": np.asarray(change(image, amount)).reshape(inputs.shape)}

    return apply


def _either_way(apply: _Apply) -> _Apply:
    """Returns the operation with a random sign on its amount."""

    def with_sign(example: Example, amount: float, rng: np.random.Generator) -> Example:
        return apply(example, amount if rng.random() < 0.5 else -amount, rng)

    return with_sign


def _moving(back: Callable[[float, int, int], tuple[float, ...]], fill: int) -> _Apply:
    """Returns the operation that moves pixels, and all that lies on them.

    ``back`` gives for an amount, a height and a width the six numbers of the matrix that says where
    in the image (x, y) of the result comes from, the image's corner being (0, 0).
    """

    def transform(image: Image.Image, amount: float) -> Image.Image:
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            back(amount, image.height, image.width),
            resample=Image.Resampling.NEAREST,
            fillcolor=(fill, fill, fill) if image.mode == "RGB" else fill,
        )

    alone = _recolouring(transform)

    def apply(example: Example, amount: float, rng: np.random.Generator) -> Example:
        if not {"boxes", "masks", "segmentation", "segments"} & example.keys():
            return alone(example, amount, rng)
        height, width = _checked(example).shape[:2]
        matrix = np.array(back(amount, height, width), float).reshape(2, 3)
        # Of pixels' centres, where the corner pixel is (0, 0).
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
        return geometry.warp(example, matrix, order=0, fill=fill)

    return _either_way(apply)


def _rotation(degrees: float, height: int, width: int) -> tuple[float, ...]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


def _moves(fill: int) -> dict[str, _Apply]:
    return {
        "Rotate": _moving(_rotation, fill),
        "ShearX": _moving(lambda a, height, width: (1, a, 0, 0, 1, 0), fill),
        "ShearY": _moving(lambda a, height, width: (1, 0, 0, a, 1, 0), fill),
        "TranslateX": _moving(lambda a, height, width: (1, 0, a, 0, 1, 0), fill),
        "TranslateY": _moving(lambda a, height, width: (1, 0, 0, 0, 1, a), fill),
    }


def _posterize(image: Image.Image, bits: float) -> Image.Image:
    kept = 256 - 2 ** (8 - int(bits))  # Pillow's own refuses 0 bits, which is black.
    return image.point([value & kept for value in range(256)] * len(image.getbands()))


def _solarize_add(image: Image.Image, addition: float) -> Image.Image:
    dark = [min(value + int(addition), 255) for value in range(128)]
    return image.point([*dark, *range(128, 256)] * len(image.getbands()))


def _cutout(example: Example, half_side: float, rng: np.random.Generator) -> Example:
    """Returns the example with a grey square about a random pixel, cut off at the borders."""
    inputs = _checked(example).copy()
    height, width = inputs.shape[:2]
    x, y = int(rng.integers(width)), int(rng.integers(height))
    half = int(half_side)
    inputs[max(0, y - half) : y + half, max(0, x - half) : x + half] = _GREY
    return example | {"inputs": inputs}


_COLOURS = {
    "AutoContrast": _recolouring(lambda image, _: ImageOps.autocontrast(image)),
    "Equalize": _recolouring(lambda image, _: ImageOps.equalize(image)),
    "Invert": _recolouring(lambda image, _: ImageOps.invert(image)),
    "Posterize": _recolouring(_posterize),
    "Solarize": _recolouring(lambda image, a: ImageOps.solarize(image, math.ceil(a))),
    "SolarizeAdd": _recolouring(_solarize_add),
}
_ENHANCEMENTS = {
    "Color": _recolouring(lambda image, a: ImageEnhance.Color(image).enhance(a)),
    "Contrast": _recolouring(lambda image, a: ImageEnhance.Contrast(image).enhance(a)),
    "Brightness": _recolouring(lambda image, a: ImageEnhance.Brightness(image).enhance(a)),
    "Sharpness": _recolouring(lambda image, a: ImageEnhance.Sharpness(image).enhance(a)),
}


def _up_to(most: float, m: float) -> float:
    return most * m / _MAX_MAGNITUDE


def _whole_up_to(most: int, m: float) -> float:
    return int(most * m / _MAX_MAGNITUDE)


def _enhancement(m: float) -> float:
    return 0.1 + 1.8 * m / _MAX_MAGNITUDE


_AMOUNTS: dict[str, Callable[[float], float]] = {
    "AutoContrast": functools.partial(_up_to, 0),
    "Equalize": functools.partial(_up_to, 0),
    "Invert": functools.partial(_up_to, 0),
    "Rotate": functools.partial(_up_to, 30),  # Degrees.
    "Posterize": functools.partial(_whole_up_to, 4),  # Bits that are kept.
    "Solarize": functools.partial(_whole_up_to, 256),  # The value from which on it inverts.
    "Color": _enhancement,  # A factor: 1 changes nothing.
    "Contrast": _enhancement,
    "Brightness": _enhancement,
    "Sharpness": _enhancement,
    "ShearX": functools.partial(_up_to, 0.3),  # Columns per row.
    "ShearY": functools.partial(_up_to, 0.3),  # Rows per column.
    "TranslateX": functools.partial(_up_to, 100),  # Pixels.
    "TranslateY": functools.partial(_up_to, 100),
    "Cutout": functools.partial(_whole_up_to, 40),  # Half of the square's side.
    "SolarizeAdd": functools.partial(_whole_up_to, 110),  # What is added to values below 128.
}
_APPLY = _COLOURS | _ENHANCEMENTS | _moves(_GREY) | {"Cutout": _cutout}

OPERATIONS = {name: Operation(_APPLY[name], amount) for name, amount in _AMOUNTS.items()}
"""RandAugment's sixteen operations, in the order of the authors' table; magnitudes are 0 to 10."""

IMAGENET_OPERATIONS = OPERATIONS | {
    name: Operation(_APPLY[name], functools.partial(_up_to, 250))
    for name in ("TranslateX", "TranslateY")
}
"""AutoAugment's: the same, but translations reach further."""


def _share(most: float, k: float) -> float:
    return most * k / (_NUM_STRENGTHS - 1)


def _whole_share(most: int, k: float) -> float:
    return int(_share(most, k))


def _change(apply: _Apply) -> Operation:
    """An enhancement by a factor on either side of 1."""
    changed = _either_way(lambda example, amount, rng: apply(example, 1 + amount, rng))
    return Operation(changed, functools.partial(_share, 0.99))


_WIDE_MOVES = _moves(_BLACK)
WIDE_OPERATIONS = {
    "Identity": Operation(lambda example, amount, rng: example, functools.partial(_share, 0)),
    "ShearX": Operation(_WIDE_MOVES["ShearX"], functools.partial(_share, 0.99)),
    "ShearY": Operation(_WIDE_MOVES["ShearY"], functools.partial(_share, 0.99)),
    "TranslateX": Operation(_WIDE_MOVES["TranslateX"], functools.partial(_whole_share, 32)),
    "TranslateY": Operation(_WIDE_MOVES["TranslateY"], functools.partial(_whole_share, 32)),
    "Rotate": Operation(_WIDE_MOVES["Rotate"], functools.partial(_share, 135)),
    "Brightness": _change(_ENHANCEMENTS["Brightness"]),
    "Color": _change(_ENHANCEMENTS["Color"]),
    "Contrast": _change(_ENHANCEMENTS["Contrast"]),
    "Sharpness": _change(_ENHANCEMENTS["Sharpness"]),
    "Posterize": Operation(_COLOURS["Posterize"], lambda k: round(8 - _share(6, k))),
    "Solarize": Operation(_COLOURS["Solarize"], lambda k: 255 - _share(255, k)),
    "AutoContrast": Operation(_COLOURS["AutoContrast"], functools.partial(_share, 0)),
    "Equalize": Operation(_COLOURS["Equalize"], functools.partial(_share, 0)),
}
"""TrivialAugment's fourteen operations, the wide space; strengths are the integers 0 to 30."""

IMAGENET_POLICY = (
    (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
    (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
    (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
    (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
    (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
    (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
    (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
    (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
    (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
    (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
    (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
    (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
    (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
    (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
    (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
    (("Rotate", 1.0, 7), ("TranslateY", 0.8, 9)),
    (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
    (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
    (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
    (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
    (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
    (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
    (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
    (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
    (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
)
"""AutoAugment's 25 sub-policies, the TPU code's ``v0``: operation, probability and magnitude."""


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Applies ``layers`` of sixteen operations, drawn uniformly, all at ``magnitude``.

    It is from 0 to 10, or beyond, up to 20, as AugReg (arXiv 2106.10270) and Mixer (arXiv
    2105.01601) have it.
    """

    layers: int = 2
    magnitude: float = 10

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise ValueError(f"RandAugment's layers must be at least 0, got {self.layers}.")
        if not 0 <= self.magnitude <= _HIGHEST_MAGNITUDE:
            raise ValueError(
                f"RandAugment's magnitude must be from 0 to {_HIGHEST_MAGNITUDE}, "
                f"got {self.magnitude}."
            )

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example augmented."""
        operations = list(OPERATIONS.values())
        for _ in range(self.layers):
            operation = operations[rng.integers(len(operations))]
            example = operation.apply(example, operation.amount(self.magnitude), rng)
        return example


@dataclasses.dataclass(frozen=True)
class AutoAugment:
    """Applies one of the 25 sub-policies of ``IMAGENET_POLICY``, drawn uniformly.

    Either of its two operations is applied with its own probability, at its own magnitude.
    """

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example augmented."""
        for name, probability, magnitude in IMAGENET_POLICY[rng.integers(len(IMAGENET_POLICY))]:
            if rng.random() < probability:
                operation = IMAGENET_OPERATIONS[name]
                example = operation.apply(example, operation.amount(magnitude), rng)
        return example


@dataclasses.dataclass(frozen=True)
class TrivialAugment:
    """Applies one of ``WIDE_OPERATIONS`` at one of 31 strengths, both drawn uniformly."""

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example augmented."""
        operations = list(WIDE_OPERATIONS.values())
        operation = operations[rng.integers(len(operations))]
        strength = int(rng.integers(_NUM_STRENGTHS))
        return operation.apply(example, operation.amount(strength), rng)


@dataclasses.dataclass(frozen=True)
class ThreeAugment:
    """Makes images grey, solarizes them at 128, or blurs them; one of the three, drawn uniformly.

    The Gaussian's deviation is uniform in ``radius``, in pixels. DeiT III has
    ``image.ColorJitter(0.3, 0.3, 0.3)`` after it.
    """

    radius: tuple[float, float] = (0.1, 2.0)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example augmented."""
        change = _THREE[rng.integers(len(_THREE))]
        return change(example, rng.uniform(*self.radius), rng)


_THREE = (
    _recolouring(lambda image, _: image.convert("L").convert(image.mode)),
    _recolouring(lambda image, _: ImageOps.solarize(image, 128)),
    _recolouring(lambda image, radius: image.filter(ImageFilter.GaussianBlur(radius))),
)
