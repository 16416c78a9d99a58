"""How images have to look for published weights, from what is known of them.

``cfg`` is a model's ``default_cfg``, under timm's names: ``input_size`` (channels, height, width),
``crop_pct``, ``crop_mode``, ``interpolation``, ``mean`` and ``std``. Checked against timm 1.0.31's
``create_transform``.

>>> cfg = {"input_size": (3, 224, 224), "crop_pct": 0.875, "crop_mode": "center",
...        "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3}
>>> evaluation(cfg)
[ResizeSmallerSide(size=256, method='bicubic'), CentralCrop(size=224)]
"""

import math
from collections.abc import Mapping
from typing import Any

from scenax.data.examples import Transform
from scenax.data.transforms import geometry
from scenax.data.transforms.image import Normalize


def evaluation(cfg: Mapping[str, Any], image_size: int | None = None) -> list[Transform]:
    """Returns how the figures of the weights were measured: resized, and cropped in the middle.

    Args:
      cfg: of the weights.
      image_size: side of the images in pixels, if not that of the weights.

    Raises:
      ValueError: if the images of the weights are not square, or are cropped in another way.
    """
    _, height, width = cfg["input_size"]
    if height != width and image_size is None:
        raise ValueError(f"Only square images are prepared here, not {width}x{height}.")
    size = width if image_size is None else image_size
    larger, method = math.floor(size / cfg["crop_pct"]), cfg["interpolation"]
    ways: dict[str, Transform] = {
        "center": geometry.ResizeSmallerSide(larger, method),
        "squash": geometry.Resize(larger, larger, method),
    }
    if cfg["crop_mode"] not in ways:
        raise ValueError(f"crop_mode has to be one of {(*ways,)}, got {cfg['crop_mode']!r}.")
    return [ways[cfg["crop_mode"]], geometry.CentralCrop(size)]


def normalization(cfg: Mapping[str, Any]) -> Normalize:
    """Returns what the weights' mean and standard deviation make of pixels."""
    return Normalize(tuple(cfg["mean"]), tuple(cfg["std"]))
