"""Boxes and masks are checked against what is drawn into the image: each object has its colour."""

from unittest import mock

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn import datasets

from scenax.data.transforms import geometry


def drawn(degrees=0.0, scaling=0.0, shift=(0.0, 0.0)):
    """A generator whose draws are these numbers."""
    rng = mock.create_autospec(np.random.Generator, instance=True)
    rng.uniform.side_effect = [degrees, scaling, np.asarray(shift)]
    return rng


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def image():
    return generator().normal(size=(7, 7, 3)).astype(np.float32)


def scene(height=60, width=80, seed=0, clip=0):
    """An image of rectangles whose grey values are 50, 100, ..., and what is known of them."""
    rng = generator(seed)
    pixels = np.zeros((height, width), np.uint8)
    boxes = []
    for number in range(1, 5):
        left, top = rng.integers(0, width - 20), rng.integers(0, height - 20)
        w, h = rng.integers(8, 20, size=2)
        pixels[top : top + h, left : left + w] = 50 * number
        boxes.append((left, top, left + w, top + h))
    numbers = [number for number in range(1, 5) if (pixels == 50 * number).any()]
    masks = np.stack([pixels == 50 * number for number in numbers])
    inputs = np.repeat(pixels[..., None], 3, axis=-1)
    return {
        "inputs": np.stack([inputs] * clip) if clip else inputs,
        "boxes": boxes_of(masks),
        "classes": np.array(numbers, np.int32),
        "is_crowd": np.zeros(len(numbers), bool),
        "area": masks.sum(axis=(1, 2)).astype(np.float32),
        "masks": masks,
        "segmentation": (pixels // 50).astype(np.uint8),
        "segments": (pixels // 50).astype(np.int32),
        "label": 3,
    }


def boxes_of(masks):
    slices = [ndimage.find_objects(mask.astype(int))[0] for mask in masks]
    return np.array([(x.start, y.start, x.stop, y.stop) for y, x in slices], np.float32)


def assert_consistent(example, *, atol=0.0, share=1.0):
    """Masks and maps are where the colours are, boxes about them."""
    pixels = example["inputs"][..., 0]
    pixels = pixels[0] if pixels.ndim == 3 else pixels
    count = len(example["classes"])
    for name in ("boxes", "is_crowd", "area", "masks"):
        assert len(example[name]) == count
    for number, mask, box in zip(
        example["classes"], example["masks"], example["boxes"], strict=True
    ):
        colour = pixels == 50 * number
        assert (colour == mask).mean() >= share
        np.testing.assert_allclose(box, boxes_of(mask[None])[0], atol=atol)
    inside = example["segmentation"] != 255
    assert (pixels[inside] == 50 * example["segmentation"][inside]).mean() >= share
    np.testing.assert_array_equal(example["segments"], np.where(inside, example["segmentation"], 0))


NEAREST = {"method": "nearest"}


@pytest.mark.parametrize("clip", [0, 3])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("transform", "atol"),
    [
        (geometry.Resize(120, 160, "nearest"), 0),
        (geometry.Resize(31, 57, "nearest"), 1),
        (geometry.ResizeSmallerSide(90, "nearest"), 1),
        (geometry.ResizeInto(100, 100, "nearest"), 1),
        (geometry.RandomFlip(1.0), 0),
        (geometry.RandomFlip(0.0), 0),
        (geometry.CentralCrop(50), None),
        (geometry.RandomCrop(40, 50), None),
        (geometry.RandomCrop(90, 100, padding=4), 0),
        (geometry.RandomResizedCrop(48, area=(0.4, 1.0), method="nearest"), None),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int | None) else "",
)
def test_boxes_and_masks_follow(transform, atol, seed, clip):
    example = scene(seed=seed, clip=clip)
    found = transform(example, generator(seed))
    assert found["label"] == 3
    if atol is not None:
        assert_consistent(found, atol=atol)
    else:
        # What is cut away may be all that made a box reach further than the rest of its mask.
        pixels = found["inputs"][..., 0] if not clip else found["inputs"][1, ..., 0]
        for number, mask, box in zip(found["classes"], found["masks"], found["boxes"], strict=True):
            np.testing.assert_array_equal(pixels == 50 * number, mask)
            tight = boxes_of(mask[None])[0]
            assert (box[:2] <= tight[:2] + 1).all()
            assert (box[2:] >= tight[2:] - 1).all()
        np.testing.assert_array_equal(pixels, 50 * found["segmentation"])
        present = set(np.unique(pixels)) - {0}
        assert present == {50 * number for number in found["classes"]}


@pytest.mark.parametrize("seed", range(4))
def test_boxes_and_masks_follow_an_affine_map(seed):
    moved = geometry.warp(scene(seed=seed), np.array([[0.9, 0.2, 1.5], [-0.2, 0.9, 8.25]]), order=0)
    pixels = moved["inputs"][..., 0]
    for number, mask, box in zip(moved["classes"], moved["masks"], moved["boxes"], strict=True):
        np.testing.assert_array_equal(pixels == 50 * number, mask)
        tight = boxes_of(mask[None])[0]
        assert (box[:2] <= tight[:2] + 1).all()
        assert (box[2:] >= tight[2:] - 1).all()
    inside = moved["segmentation"] != 255
    np.testing.assert_array_equal(pixels[inside], 50 * moved["segmentation"][inside])


@pytest.mark.parametrize("shift", [(0.43, -0.31), (-2.63, 3.37), (0.01, 0.49)])
@pytest.mark.parametrize("scale", [1.0, 0.7, 1.3])
def test_the_nearest_pixel_is_pillows_up_to_the_edge_of_the_image(scale, shift):
    pixels = generator().integers(1, 256, (20, 30), dtype=np.uint8)
    found = geometry.warp(
        {"inputs": pixels[..., None], "segments": pixels.astype(np.int32)},
        np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]),
        order=0,
    )
    # Pillow speaks of pixels' corners, and rounds down.
    corner = [shift[axis] + 0.5 - scale / 2 for axis in (0, 1)]
    matrix = (scale, 0, corner[0], 0, scale, corner[1])
    image = Image.fromarray(pixels)
    moved = image.transform((30, 20), Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
    np.testing.assert_array_equal(found["inputs"][..., 0], moved)
    np.testing.assert_array_equal(found["segments"], moved)


def test_large_scale_jitter_scales_and_pads_all_alike():
    shown = set()
    for seed in range(30):
        found = geometry.LargeScaleJitter(64, 64, scale=(0.3, 2.0))(
            scene(seed=seed), generator(seed)
        )
        assert found["inputs"].shape == (64, 64, 3)
        assert found["masks"].shape[1:] == (64, 64)
        for number, mask in zip(found["classes"], found["masks"], strict=True):
            # Bilinear edges apart, the object has its colour.
            inner = ndimage.binary_erosion(mask, iterations=3)
            if inner.any():
                shown.add(int(number))
                np.testing.assert_allclose(found["inputs"][inner, 0], 50 * number, atol=2)
        padding = found["segmentation"] == 255
        assert not found["inputs"][padding].any()
    assert shown == {1, 2, 3, 4}


def test_an_object_that_leaves_the_image_is_taken_out_everywhere():
    example = scene()
    cut = geometry.crop(example, 0, 0, 3, 3)
    present = set(np.unique(cut["inputs"])) - {0}
    assert {50 * number for number in cut["classes"]} == present
    assert len(cut["boxes"]) == len(cut["masks"]) == len(cut["area"]) == len(present)


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resizing_is_pillows(method, channels):
    image = generator().integers(0, 256, (50, 70, channels), dtype=np.uint8)
    found = geometry.resize_image(image, 33, 90, method)
    pillow = [
        Image.fromarray(plane).resize((90, 33), getattr(Image.Resampling, method.upper()))
        for plane in np.moveaxis(image, -1, 0)
    ]
    np.testing.assert_array_equal(found, np.stack([np.asarray(p) for p in pillow], axis=-1))
    clip = geometry.resize_image(np.stack([image, image[::-1]]), 33, 90, method)
    np.testing.assert_array_equal(clip[0], found)


def photograph(name="china.jpg"):
    """One of the two photographs that ship inside scikit-learn, 427x640."""
    return datasets.load_sample_image(name)


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("side", [150, 224, 280, 300, 336, 400, 427])
@pytest.mark.parametrize("size", [96, 224])
def test_fast_resizing_is_nearly_pillows(name, side, size):
    image = np.ascontiguousarray(photograph(name)[:side, 20 : side + 30])
    pillow = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    fast = geometry.resize_image_fast(image, size, size)
    difference = np.abs(fast.astype(float) - np.asarray(pillow)).mean()
    assert difference < 1.7  # Of 255; 1 and less but for half again as many pixels as are wanted.
    # Plain interpolation, without antialiasing, is further off.
    plain = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    if side > 1.2 * size:
        assert difference < 0.9 * np.abs(plain.astype(float) - pillow).mean()
    grey = geometry.resize_image_fast(image[..., :1].copy(), size, size)
    np.testing.assert_array_equal(grey[..., 0], fast[..., 0])


def test_crops_have_the_asked_shape_and_area():
    windows = []
    with mock.patch.object(geometry, "crop", side_effect=lambda e, *w: windows.append(w) or e):
        rng = generator()
        example = {"inputs": np.zeros((1000, 1000, 1), np.uint8)}
        transform = geometry.RandomResizedCrop(8, area=(0.05, 0.5), method="nearest")
        for _ in range(3000):
            transform(example, rng)
    left, top, width, height = np.array(windows).T
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 1000
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
    ("size", "columns", "rows"),
    [((90, 900), (390, 510), (0, 90)), ((900, 90), (0, 90), (390, 510))],
)
def test_a_crop_that_never_fits_is_central(size, columns, rows):
    rows_, columns_ = np.meshgrid(*map(np.arange, size), indexing="ij")
    image = np.stack([rows_ // 4, columns_ // 4, 0 * rows_], axis=-1).astype(np.uint8)
    # Nothing has twice the image's area.
    found = geometry.RandomResizedCrop(30, area=(2.0, 2.0), method="nearest")(
        {"inputs": image}, generator()
    )["inputs"]
    np.testing.assert_allclose(found[0, 0, :2], [rows[0] // 4, columns[0] // 4], atol=1)
    np.testing.assert_allclose(found[-1, -1, :2], [rows[1] // 4, columns[1] // 4], atol=2)


def test_flips_are_mirrors_half_of_the_time():
    image, rng = photograph()[:20, :30], generator()
    found = [geometry.RandomFlip()({"inputs": image}, rng)["inputs"] for _ in range(200)]
    flips = sum(np.array_equal(f, image[:, ::-1]) for f in found)
    assert flips + sum(np.array_equal(f, image) for f in found) == 200
    assert 75 < flips < 125


def test_evaluation_resizes_the_smaller_side_and_crops_the_centre():
    image = photograph()[:120, :180]
    resized = geometry.ResizeSmallerSide(80)({"inputs": image}, generator())
    assert resized["inputs"].shape == (80, 120, 3)
    crop = geometry.CentralCrop(70)(resized, generator())["inputs"]
    np.testing.assert_array_equal(crop, resized["inputs"][5:75, 25:95])
    with pytest.raises(ValueError, match=r"crop of 81 pixels needs.*got 120x80\. Resize it first"):
        geometry.CentralCrop(81)(resized, generator())


def test_random_crops_of_a_padded_image_reach_every_shift():
    image = np.zeros((4, 4, 1), np.uint8)
    image[1, 2] = 9
    places = set()
    for seed in range(300):
        found = geometry.RandomCrop(4, 4, padding=1)({"inputs": image}, generator(seed))["inputs"]
        places |= {tuple(place) for place in np.argwhere(found[..., 0] == 9)}
    assert places == {(row, column) for row in (0, 1, 2) for column in (1, 2, 3)}


def test_nothing_drawn_changes_nothing(image):
    found = geometry.RandomAffine()({"inputs": image, "label": 3}, drawn())
    np.testing.assert_allclose(found["inputs"], image, atol=1e-6)
    assert found["label"] == 3
    assert found["inputs"].dtype == np.float32


def test_a_whole_shift_moves_rows_and_columns(image):
    found = geometry.RandomAffine(fill=-5.0)({"inputs": image}, drawn(shift=(1.0, -2.0)))["inputs"]
    np.testing.assert_allclose(found[1:, :-2], image[:-1, 2:], atol=1e-5)
    assert np.all(found[0] == -5)
    assert np.all(found[:, -2:] == -5)


def test_a_quarter_turn_is_rot90(image):
    transform = geometry.RandomAffine(max_degrees=90.0)
    found = transform({"inputs": image}, drawn(degrees=90.0))["inputs"]
    inner = slice(1, -1)  # Off the edge, where rounding may fetch the fill.
    turned = np.rot90(image)
    np.testing.assert_allclose(found[inner, inner], turned[inner, inner], atol=1e-4)


def test_a_constant_image_keeps_its_value_inside_when_scaled():
    constant = np.full((9, 9, 1), 2.0, np.float32)
    transform = geometry.RandomAffine(fill=0.0)
    found = transform({"inputs": constant}, drawn(scaling=0.5))["inputs"]
    np.testing.assert_allclose(found, 2.0, atol=1e-5)  # Magnified: nothing comes in from outside.
    found = transform({"inputs": constant}, drawn(scaling=-0.5))["inputs"]
    assert found[4, 4] == 2.0
    assert found[0, 0] == 0.0


def test_draws_stay_in_their_ranges(image):
    rng = drawn()
    transform = geometry.RandomAffine(max_degrees=5.0, max_scaling=0.2, max_shift_pixels=3.0)
    transform({"inputs": image}, rng)
    ranges = [mock.call(-5.0, 5.0), mock.call(-0.2, 0.2), mock.call(-3.0, 3.0, size=2)]
    assert rng.uniform.call_args_list == ranges
