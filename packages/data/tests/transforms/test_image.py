import io
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from scenax.data.transforms import image as transforms
from scenax.data.transforms.image import RandomAffine


def drawn(degrees=0.0, scaling=0.0, shift=(0.0, 0.0)):
    """A generator whose draws are these numbers."""
    rng = mock.create_autospec(np.random.Generator, instance=True)
    rng.uniform.side_effect = [degrees, scaling, np.asarray(shift)]
    return rng


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(7, 7, 3)).astype(np.float32)


def test_nothing_drawn_changes_nothing(image):
    found = RandomAffine()({"inputs": image, "label": 3}, drawn())
    np.testing.assert_allclose(found["inputs"], image, atol=1e-6)
    assert found["label"] == 3
    assert found["inputs"].dtype == np.float32


def test_a_whole_shift_moves_rows_and_columns(image):
    found = RandomAffine(fill=-5.0)({"inputs": image}, drawn(shift=(1.0, -2.0)))["inputs"]
    np.testing.assert_allclose(found[1:, :-2], image[:-1, 2:], atol=1e-5)
    assert np.all(found[0] == -5)
    assert np.all(found[:, -2:] == -5)


def test_a_quarter_turn_is_rot90(image):
    found = RandomAffine(max_degrees=90.0)({"inputs": image}, drawn(degrees=90.0))["inputs"]
    inner = slice(1, -1)  # Off the edge, where rounding may fetch the fill.
    turned = np.rot90(image)
    np.testing.assert_allclose(found[inner, inner], turned[inner, inner], atol=1e-4)


def test_a_constant_image_keeps_its_value_inside_when_scaled(image):
    constant = np.full((9, 9, 1), 2.0, np.float32)
    found = RandomAffine(fill=0.0)({"inputs": constant}, drawn(scaling=0.5))["inputs"]
    np.testing.assert_allclose(found, 2.0, atol=1e-5)  # Magnified: nothing comes in from outside.
    found = RandomAffine(fill=0.0)({"inputs": constant}, drawn(scaling=-0.5))["inputs"]
    assert found[4, 4] == 2.0
    assert found[0, 0] == 0.0


def test_draws_stay_in_their_ranges(image):
    rng = drawn()
    RandomAffine(max_degrees=5.0, max_scaling=0.2, max_shift_pixels=3.0)({"inputs": image}, rng)
    ranges = [mock.call(-5.0, 5.0), mock.call(-0.2, 0.2), mock.call(-3.0, 3.0, size=2)]
    assert rng.uniform.call_args_list == ranges


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, size=(60, 90, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((180, 120))


def triangle(pixels, size, axis):
    """Bilinear resizing with antialiasing along one axis, by its definition."""
    pixels = np.moveaxis(pixels, axis, -1)
    scale = pixels.shape[-1] / size
    centres = (np.arange(size) + 0.5) * scale
    offsets = np.arange(pixels.shape[-1]) + 0.5 - centres[:, None]
    weights = np.maximum(0, 1 - np.abs(offsets) / max(scale, 1))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.moveaxis(pixels @ weights.T, -1, axis)


def test_crop_boxes_lie_inside_and_have_the_asked_shape_and_area():
    rng = np.random.default_rng(0)
    boxes = np.array(
        [transforms.random_crop_box(1000, 1000, rng, area=(0.05, 0.5)) for _ in range(3000)]
    )
    left, top, right, bottom = boxes.T
    assert boxes.min() >= 0
    assert boxes.max() <= 1000
    width, height = right - left, bottom - top
    # None of these can fail to fit, so every draw counts.
    share = width * height / 1e6
    assert 0.0495 < share.min() < 0.06
    assert 0.49 < share.max() < 0.505
    np.testing.assert_allclose(share.mean(), 0.275, atol=0.01)
    ratio = np.log(width / height)
    assert abs(ratio).max() < np.log(4 / 3) + 0.01
    np.testing.assert_allclose(ratio.mean(), 0, atol=0.02)
    np.testing.assert_allclose(ratio.var(), np.log(16 / 9) ** 2 / 12, atol=0.003)
    # Uniform among the places inside.
    np.testing.assert_allclose((left / (1000 - width)).mean(), 0.5, atol=0.03)
    np.testing.assert_allclose((top / (1000 - height)).mean(), 0.5, atol=0.03)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((900, 90), (390, 0, 510, 90)),  # Too wide: 4/3 of the height.
        ((90, 900), (0, 390, 90, 510)),
        ((100, 100), (0, 0, 100, 100)),
    ],
)
def test_a_crop_that_never_fits_is_central(size, box):
    # Nothing has twice the image's area.
    rng = np.random.default_rng(0)
    assert transforms.random_crop_box(*size, rng, area=(2.0, 2.0)) == box


def test_a_resized_crop_is_the_box_through_a_triangle_filter(picture):
    box = transforms.random_crop_box(*picture.size, np.random.default_rng(5))
    found = transforms.random_resized_crop(picture, 32, np.random.default_rng(5))
    left, top, right, bottom = box
    part = np.asarray(picture, np.float64)[top:bottom, left:right]
    np.testing.assert_allclose(np.asarray(found), triangle(triangle(part, 32, 0), 32, 1), atol=1.5)


def test_flips_are_mirrors_half_of_the_time(picture):
    pixels, rng = np.asarray(picture), np.random.default_rng(0)
    flips = 0
    for _ in range(200):
        found = np.asarray(transforms.random_flip(picture, rng))
        flipped = np.array_equal(found, pixels[:, ::-1])
        assert flipped or np.array_equal(found, pixels)
        flips += flipped
    assert 75 < flips < 125


@pytest.mark.parametrize("turned", [False, True])
def test_evaluation_resizes_the_smaller_side_and_crops_the_centre(turned, picture):
    image = picture.transpose(Image.Transpose.ROTATE_90) if turned else picture
    resized = transforms.resize_smaller_side(image, 80)
    assert resized.size == ((80, 120) if turned else (120, 80))
    pixels = np.asarray(image, np.float64)
    expected = triangle(triangle(pixels, resized.height, 0), resized.width, 1)
    np.testing.assert_allclose(np.asarray(resized), expected, atol=1.5)

    crop = np.asarray(transforms.central_crop(resized, 70))
    top, left = (25, 5) if turned else (5, 25)
    np.testing.assert_array_equal(crop, np.asarray(resized)[top : top + 70, left : left + 70])
    with pytest.raises(ValueError, match=r"crop of 81 pixels needs.*got"):
        transforms.central_crop(resized, 81)


def test_grey_and_palette_images_come_out_rgb(picture):
    for mode in ("L", "P", "CMYK"):
        image = picture.convert(mode)
        assert transforms.random_resized_crop(image, 8, np.random.default_rng(0)).mode == "RGB"
        assert transforms.resize_smaller_side(image, 8).mode == "RGB"


def test_encoded_images_open_as_they_were(picture):
    encoded = io.BytesIO()
    picture.save(encoded, "png")
    opened = transforms.open_encoded(encoded.getvalue())
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(picture))


def test_normalized_values_reach_from_minus_one_to_one(picture):
    found = transforms.normalize(picture)
    assert found.dtype == np.float32
    np.testing.assert_allclose((found + 1) / 2 * 255, np.asarray(picture), atol=1e-4)
    extremes = Image.fromarray(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8))
    assert transforms.normalize(extremes).tolist() == [[[-1.0] * 3, [1.0] * 3]]
