"""Every operation against numpy, written from what the paper's operation is, not from Pillow."""

from unittest import mock

import numpy as np
import pytest
from PIL import Image

from scenax.data.transforms import policies
from scenax.data.transforms.policies import OPERATIONS, RandAugment

GREY = 128


@pytest.fixture(scope="module")
def pixels():
    """A colour ramp with noise; 230 pixels wide, so that 100 pixels can leave it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:120, :230]
    ramp = np.stack([x, y + 40, 200 - x * y / 200], axis=-1)
    return np.clip(ramp + rng.normal(0, 12, ramp.shape), 5, 250).astype(np.uint8)


def drawn(sign=1, centre=(0, 0)):
    rng = mock.create_autospec(np.random.Generator, instance=True)
    rng.random.return_value = 0.25 if sign > 0 else 0.75
    rng.integers.side_effect = centre
    return rng


def applied(name, magnitude, pixels, **draws):
    operation = OPERATIONS[name]
    found = operation.apply(Image.fromarray(pixels), operation.amount(magnitude), drawn(**draws))
    assert found.mode == "RGB"
    return np.asarray(found)


def grey_of(pixels):
    return (pixels @ [0.299, 0.587, 0.114])[..., None]


def blend(other, pixels, factor):
    return np.clip(other + factor * (pixels.astype(float) - other), 0, 255)


def test_there_are_the_sixteen_of_the_tpu_code():
    assert " ".join(OPERATIONS) == (
        "AutoContrast Equalize Invert Rotate Posterize Solarize Color Contrast Brightness "
        "Sharpness ShearX ShearY TranslateX TranslateY Cutout SolarizeAdd"
    )


@pytest.mark.parametrize(
    ("name", "at_0", "at_5", "at_10"),
    [
        ("Rotate", 0, 15, 30),
        ("Posterize", 0, 2, 4),
        ("Solarize", 0, 128, 256),
        ("SolarizeAdd", 0, 55, 110),
        ("Color", 0.1, 1.0, 1.9),
        ("Contrast", 0.1, 1.0, 1.9),
        ("Brightness", 0.1, 1.0, 1.9),
        ("Sharpness", 0.1, 1.0, 1.9),
        ("ShearX", 0, 0.15, 0.3),
        ("ShearY", 0, 0.15, 0.3),
        ("TranslateX", 0, 50, 100),
        ("TranslateY", 0, 50, 100),
        ("Cutout", 0, 20, 40),
    ],
)
def test_magnitudes_mean_what_the_tpu_code_means(name, at_0, at_5, at_10):
    assert [OPERATIONS[name].amount(m) for m in (0, 5, 10)] == pytest.approx([at_0, at_5, at_10])


@pytest.mark.parametrize(
    ("name", "magnitude"),
    [
        *((name, 0) for name in ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")),
        *((name, 0) for name in ("Cutout", "SolarizeAdd")),
        *((name, 5) for name in ("Color", "Contrast", "Brightness", "Sharpness")),
        ("Solarize", 10),
    ],
)
def test_the_magnitude_that_changes_nothing(name, magnitude, pixels):
    np.testing.assert_array_equal(applied(name, magnitude, pixels, centre=(60, 50)), pixels)


def test_operations_on_single_values(pixels):
    np.testing.assert_array_equal(applied("Invert", 10, pixels), 255 - pixels)
    np.testing.assert_array_equal(applied("Posterize", 10, pixels), pixels // 16 * 16)
    assert not applied("Posterize", 0, pixels).any()
    np.testing.assert_array_equal(applied("Solarize", 0, pixels), 255 - pixels)
    half = np.where(pixels < 128, pixels, 255 - pixels)
    np.testing.assert_array_equal(applied("Solarize", 5, pixels), half)
    lifted = np.where(pixels < 128, pixels.astype(int) + 110, pixels)
    np.testing.assert_array_equal(applied("SolarizeAdd", 10, pixels), lifted)


@pytest.mark.parametrize(("magnitude", "factor"), [(0, 0.1), (10, 1.9)])
def test_enhancements_are_blends(magnitude, factor, pixels):
    bright = applied("Brightness", magnitude, pixels)
    np.testing.assert_allclose(bright, blend(0.0, pixels, factor), atol=1)
    # Roundings of the grey are multiplied by up to 0.9.
    colour = applied("Color", magnitude, pixels)
    np.testing.assert_allclose(colour, blend(grey_of(pixels), pixels, factor), atol=2)
    contrast = applied("Contrast", magnitude, pixels)
    np.testing.assert_allclose(contrast, blend(grey_of(pixels).mean(), pixels, factor), atol=2)


@pytest.mark.parametrize(("magnitude", "factor"), [(0, 0.1), (10, 1.9)])
def test_sharpness_blends_with_a_smoothing_that_spares_the_border(magnitude, factor, pixels):
    smooth = pixels.astype(float)
    height, width, _ = pixels.shape
    total = 4.0 * pixels[1:-1, 1:-1]
    for dy in range(3):
        for dx in range(3):
            total = total + pixels[dy : height - 2 + dy, dx : width - 2 + dx]
    smooth[1:-1, 1:-1] = total / 13
    found = applied("Sharpness", magnitude, pixels)
    np.testing.assert_allclose(found, blend(smooth, pixels, factor), atol=2)


def test_autocontrast_stretches_every_channel(pixels):
    low, high = pixels.min(axis=(0, 1)).astype(float), pixels.max(axis=(0, 1)).astype(float)
    expected = (pixels - low) * 255 / (high - low)
    np.testing.assert_allclose(applied("AutoContrast", 10, pixels), expected, atol=1)


def test_equalize_makes_ranks_of_values(pixels):
    found = applied("Equalize", 10, pixels)
    for channel, result in zip(np.moveaxis(pixels, -1, 0), np.moveaxis(found, -1, 0), strict=True):
        below = np.searchsorted(np.sort(channel.reshape(-1)), channel)  # How many are less.
        brightest = np.sum(channel == channel.max())
        step = (channel.size - brightest) // 255
        np.testing.assert_array_equal(result, np.minimum((below + step // 2) // step, 255))


@pytest.mark.parametrize("sign", [1, -1])
def test_translations_move_whole_pixels(sign, pixels):
    for name, axis in (("TranslateX", 1), ("TranslateY", 0)):
        expected = np.roll(pixels, -100 * sign, axis=axis)
        outside = np.arange(pixels.shape[axis]) + 100 * sign
        gone = (outside < 0) | (outside >= pixels.shape[axis])
        np.moveaxis(expected, axis, 0)[gone] = GREY
        np.testing.assert_array_equal(applied(name, 10, pixels, sign=sign), expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_shears_and_rotations_take_the_nearest_pixel(sign, pixels):
    height, width, _ = pixels.shape
    y, x = np.mgrid[:height, :width] + 0.5  # Of the pixels' centres.
    angle = np.deg2rad(30) * sign
    cx, cy = x - width / 2, y - height / 2
    sources = {
        "ShearX": (x + 0.3 * sign * y, y),
        "ShearY": (x, y + 0.3 * sign * x),
        # Anticlockwise on a screen, whose y points down.
        "Rotate": (
            np.cos(angle) * cx - np.sin(angle) * cy + width / 2,
            np.sin(angle) * cx + np.cos(angle) * cy + height / 2,
        ),
    }
    for name, (from_x, from_y) in sources.items():
        column, row = np.floor(from_x).astype(int), np.floor(from_y).astype(int)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        expected = np.full_like(pixels, GREY)
        expected[inside] = pixels[row[inside], column[inside]]
        equal = (applied(name, 10, pixels, sign=sign) == expected).all(axis=-1)
        assert equal.mean() > 0.998, name  # A tie between two pixels may go either way.
        assert (~inside).mean() > 0.05, name


@pytest.mark.parametrize("centre", [(60, 50), (3, 118), (229, 0)])
def test_cutout_is_grey_about_its_centre(centre, pixels):
    expected = pixels.copy()
    x, y = centre
    expected[max(0, y - 40) : y + 40, max(0, x - 40) : x + 40] = GREY
    np.testing.assert_array_equal(applied("Cutout", 10, pixels, centre=centre), expected)


def test_randaugment_chains_uniform_operations(pixels):
    image = Image.fromarray(pixels)
    rng = mock.create_autospec(np.random.Generator, instance=True)
    rng.integers.side_effect = [2, 4]  # Invert, then Posterize.
    found = np.asarray(RandAugment(layers=2, magnitude=10)(image, rng))
    np.testing.assert_array_equal(found, (255 - pixels) // 16 * 16)
    assert rng.integers.call_args_list == [mock.call(16)] * 2
    assert RandAugment(layers=0)(image, rng) is image


def test_randaugment_is_a_function_of_the_generator(pixels):
    image = Image.fromarray(pixels)
    results = [
        np.asarray(RandAugment()(image, np.random.default_rng(seed))) for seed in (3, 3, 4, 5)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert any(not np.array_equal(results[0], other) for other in results[2:])


@pytest.mark.parametrize("magnitude", [-1, 10.5])
def test_bad_policies_are_named(magnitude):
    with pytest.raises(ValueError, match=f"magnitude must be from 0 to 10, got {magnitude}"):
        policies.RandAugment(2, magnitude)
    with pytest.raises(ValueError, match="layers must be at least 0, got -1"):
        policies.RandAugment(-1)
