"""Writes what timm does to images in evaluation, for tests to compare with.

By hand, with timm 1.0.31 and Pillow: ``python make_preprocessing.py``.
"""

import pathlib

import numpy as np

FILE = pathlib.Path(__file__).parent / "preprocessing.npz"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CASES = {
    "wide": (29, 47, 14, 0.875, "center", "bicubic"),
    "tall": (43, 30, 13, 0.9, "center", "bilinear"),
    "whole": (33, 26, 16, 1.0, "squash", "bicubic"),
    "squashed": (21, 40, 15, 0.94, "squash", "bilinear"),
}
"""Height and width of an image, side of the result, crop_pct, crop_mode and interpolation."""


def image(height, width):
    """Noise on a ramp, uint8 [height width 3]."""
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([3 * x, 4 * y, 2 * (x + y)], axis=-1)
    noise = np.random.default_rng(height).integers(0, 60, ramp.shape)
    return (ramp + noise).clip(0, 255).astype(np.uint8)


def main():
    """Makes the file."""
    from PIL import Image
    from timm.data import create_transform

    out = {}
    for name, (height, width, size, crop_pct, crop_mode, interpolation) in CASES.items():
        transform = create_transform(
            (3, size, size),
            mean=MEAN,
            std=STD,
            crop_pct=crop_pct,
            crop_mode=crop_mode,
            interpolation=interpolation,
        )
        out[name] = transform(Image.fromarray(image(height, width))).numpy().transpose(1, 2, 0)
    np.savez_compressed(FILE, **out)


if __name__ == "__main__":
    main()
