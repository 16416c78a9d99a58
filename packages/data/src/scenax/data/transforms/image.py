"""Decoding images, and what changes their colours.

Normalization and colour jitter take ``inputs`` uint8 ``[h, w, c]`` or clips of such frames. Random
erasing: Zhong et al., arXiv 1708.04896. Checked against Pillow, torchvision's formulas in numpy,
and files of every mode. Letters: h w image, c channels.
"""

import dataclasses
import io
import math
import struct
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from scenax.data.examples import Example
from scenax.data.reports import UnreadableError
from scenax.data.transforms.geometry import image_size

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training images, in shares of 255, as fb.resnet.torch first had them."""

_ORIENTATION, _QUARTER_TURNS = 0x0112, range(5, 9)  # EXIF's tag, and its values that lie down.
_ENDING = 64  # Bytes in which the last marker of a JPEG is looked for.

# Cameras write tags that Pillow finds odd. Filters are the process's: to set and reset them about
# every image, in many threads, would leave those of other code in disorder.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")


def decode_image(
    encoded: bytes, *, channels: int = 3, name: str = "An image"
) -> UInt8[np.ndarray, "h w c"]:
    """Returns the pixels of an encoded image, upright, in 8 bits.

    Any mode becomes RGB (or grey, with one channel): 16 bits are scaled, a palette is looked up,
    CMYK is converted, transparency is dropped, and the camera's orientation is applied.

    Args:
      encoded: a file's bytes, of any format that Pillow reads.
      channels: 3 or 1.
      name: of the file, for the error.

    Raises:
      UnreadableError: if the bytes are no image, are cut off, or say that there are more pixels
        than Pillow allows (about 179 million).
    """
    jpeg = encoded[:2] == b"\xff\xd8"
    if jpeg and channels == 3 and _is_plain(encoded):
        # A third faster than Pillow, with the same decoder.
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        if pixels is not None:
            return pixels
    try:
        if jpeg and encoded.endswith(bytes(_ENDING)) and not _has_end(encoded):
            raise ValueError("it is cut off, and ends in zeros")
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
        pixels = np.asarray(_eight_bits(image, "RGB" if channels == 3 else "L"))
    except Exception as error:  # The reader of every format has errors of its own.
        raise _unreadable(encoded, name, error) from error
    return pixels if channels == 3 else pixels[..., None]


def encoded_size(encoded: bytes, *, name: str = "An image") -> tuple[int, int]:
    """Returns height and width of an encoded image as ``decode_image`` gives it, undecoded.

    Raises:
      UnreadableError: if the bytes are no image, or say that there are too many pixels.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            turned = image.getexif().get(_ORIENTATION, 1) in _QUARTER_TURNS
            if turned and image.format == "TIFF":
                # Versions of Pillow differ in whether its size is that of the turned image.
                image, turned = ImageOps.exif_transpose(image), False
            width, height = image.size
    except Exception as error:  # As above.
        raise _unreadable(encoded, name, error) from error
    return (width, height) if turned else (height, width)


def _unreadable(encoded: bytes, name: str, error: Exception) -> UnreadableError:
    # Pillow's message has the buffer's address in it, which helps nobody.
    reason = "it is no image" if isinstance(error, Image.UnidentifiedImageError) else error
    return UnreadableError(f"{name} ({len(encoded)} bytes): {reason}")


def _is_plain(jpeg: bytes) -> bool:
    """Whether OpenCV reads a JPEG as Pillow does: it is all there, of usual size, grey or YCbCr.

    OpenCV makes what is missing grey and Pillow complains; it converts CMYK in another way, has
    another limit of pixels, and knows the orientation only if it is in EXIF, not in XMP.
    """
    at = 2
    while at + 9 < len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker == 0xFF:  # A fill byte.
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # A start of frame.
            height, width = struct.unpack(">HH", jpeg[at + 5 : at + 9])
            few = height * width <= (Image.MAX_IMAGE_PIXELS or math.inf)
            turned = b"tiff:Orientation" in jpeg[:at]
            return few and not turned and jpeg[at + 9] != 4 and _has_end(jpeg)
        else:
            at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return False


def _has_end(jpeg: bytes) -> bool:
    """Whether a JPEG's last marker is there, but for some bytes after it, or any number of zeros.

    A file that was never filled to its length ends in zeros too, which decode as some colour.
    """
    return b"\xff\xd9" in jpeg.rstrip(b"\0")[-_ENDING:]


def _eight_bits(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        image = Image.fromarray((wide.clip(0, 65535) / 257).round().astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers without a range; store integers")
    elif image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


@dataclasses.dataclass(frozen=True)
class DecodeImage:
    """Decodes ``image`` to ``inputs``, uint8 ``[h, w, channels]``, with ``decode_image``.

    ``original_size``, int32 ``[2]``, is height and width.
    """

    channels: int = 3

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``inputs`` in the place of ``image``."""
        rest = {key: value for key, value in example.items() if key != "image"}
        name = str(example.get("name", "An image"))
        inputs = decode_image(example["image"], channels=self.channels, name=name)
        size = np.array(inputs.shape[:2], np.int32)
        return rest | {"inputs": inputs, "original_size": size}


@dataclasses.dataclass(frozen=True)
class Normalize:
    """Makes uint8 ``inputs`` float32: (x / 255 - mean) / std. By default from -1 to 1.

    ``mean`` and ``std`` are of the channels, or one for all; grey images have the averages of more.
    Of inputs that are a mapping, those that are uint8. The pipeline does it by itself when it makes
    a batch; in a list of transforms it stands before those that want normalized images.
    """

    mean: Sequence[float] = (0.5,)
    std: Sequence[float] = (0.5,)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``inputs`` normalized.

        Raises:
          ValueError: if the inputs have another number of channels.
        """
        return example | {"inputs": self._normalized(example["inputs"])}

    def stack(self, images: Sequence[UInt8[np.ndarray, "*t h w c"]]) -> Float[np.ndarray, "b ..."]:
        """Returns a batch of images, normalized: in one pass over memory, which is what takes time.

        Raises:
          ValueError: if the images have another number of channels.
        """
        *lead, width, channels = images[0].shape
        for noun, values in (("means", self.mean), ("standard deviations", self.std)):
            if channels > 1 and len(values) not in (1, channels):
                raise ValueError(
                    f"Normalize has {len(values)} {noun}, and the images have {channels} channels."
                )
        mean, std = (
            np.broadcast_to(values if channels > 1 else np.mean(values), channels)
            for values in (self.mean, self.std)
        )
        # A row at a time: numpy is slow where the last axis is as short as the channels.
        factor = np.tile(1 / (255 * std), width).astype(np.float32)
        offset = np.tile(-mean / std, width).astype(np.float32)
        batch = np.empty((len(images), *lead, width, channels), np.float32)
        for image, scaled in zip(images, batch.reshape(len(images), -1, len(factor)), strict=True):
            np.multiply(image.reshape(scaled.shape), factor, out=scaled)
            scaled += offset
        return batch

    def _normalized(self, inputs: Any) -> Any:
        if isinstance(inputs, Mapping):
            return {name: self._normalized(value) for name, value in inputs.items()}
        return self.stack([inputs])[0] if inputs.dtype == np.uint8 else inputs


@dataclasses.dataclass(frozen=True)
class ColorJitter:
    """Changes brightness, contrast, saturation and hue by random amounts, in random order.

    A factor is uniform within 1 plus or minus the given number; hue turns by up to ``hue`` of a
    full turn, either way. 0 leaves it out. As torchvision and SimCLR have it (arXiv 2002.05709).
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``inputs`` RGB uint8 changed."""
        image = example["inputs"]
        amounts = (self.brightness, self.contrast, self.saturation, self.hue)
        # No factor is below 0.
        draws = [rng.uniform(max(-1.0, -amount), amount) for amount in amounts]
        for which in rng.permutation(4):
            if amounts[which] > 0:
                image = _ADJUSTMENTS[which](image, draws[which])
        return example | {"inputs": image}


def _toward(image: np.ndarray, other: np.ndarray | np.float32, factor: float) -> np.ndarray:
    """The image that many times as far from ``other``."""
    factor32 = np.float32(factor)
    blend = image.astype(np.float32) * factor32 + other * (1 - factor32)
    return blend.round().clip(0, 255).astype(np.uint8)


def _grey(image: np.ndarray) -> np.ndarray:
    """Luma of ITU-R 601, ``[..., h, w, 1]``."""
    return (image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]


def _adjust_brightness(image: np.ndarray, change: float) -> np.ndarray:
    return _toward(image, np.float32(0), 1 + change)


def _adjust_contrast(image: np.ndarray, change: float) -> np.ndarray:
    return _toward(image, _grey(image).mean(dtype=np.float32), 1 + change)


def _adjust_saturation(image: np.ndarray, change: float) -> np.ndarray:
    return _toward(image, _grey(image), 1 + change)


def _adjust_hue(image: np.ndarray, change: float) -> np.ndarray:
    flat = np.ascontiguousarray(image.reshape(-1, *image.shape[-2:]))
    hsv = cv2.cvtColor(flat, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(change * 256) % 256)  # 256 are a full turn, and wrap around.
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL).reshape(image.shape)


_ADJUSTMENTS = (_adjust_brightness, _adjust_contrast, _adjust_saturation, _adjust_hue)


@dataclasses.dataclass(frozen=True)
class RandomErasing:
    """Fills a random rectangle of ``inputs`` with noise, after normalization.

    With ``probability`` one rectangle whose share of the image is uniform in ``area`` and whose
    height / width is log-uniform in ``aspect_ratio`` becomes normal noise, pixel by pixel (the
    ``"pixel"`` mode of timm, as recipes since DeiT use it).
    """

    probability: float = 0.25
    area: tuple[float, float] = (0.02, 1 / 3)
    aspect_ratio: tuple[float, float] = (0.3, 1 / 0.3)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with a part of ``inputs`` erased, or as it is.

        Raises:
          TypeError: if ``inputs`` are not normalized yet.
        """
        if example["inputs"].dtype != np.float32:
            raise TypeError(
                f"RandomErasing's noise is that of normalized images, got {example['inputs'].dtype}"
                " inputs. Put it after Normalize."
            )
        if rng.random() >= self.probability:
            return example
        height, width = image_size(example)
        low, high = self.aspect_ratio
        for _ in range(10):
            pixels = rng.uniform(*self.area) * height * width
            ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
            h, w = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
            if 0 < h < height and 0 < w < width:
                top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
                inputs = example["inputs"].copy()
                part = inputs[..., top : top + h, left : left + w, :]
                part[...] = rng.standard_normal(part.shape, np.float32)
                return example | {"inputs": inputs}
        return example
