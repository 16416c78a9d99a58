"""Every operation against numpy, written from what the paper's operation is, not from Pillow."""

import pathlib
import runpy
from unittest import mock

import numpy as np
import pytest
from scipy import ndimage

from scenax.data.transforms import policies
from scenax.data.transforms.policies import (
    IMAGENET_OPERATIONS,
    IMAGENET_POLICY,
    OPERATIONS,
    WIDE_OPERATIONS,
    AutoAugment,
    RandAugment,
    ThreeAugment,
    TrivialAugment,
)

MAKE = runpy.run_path(str(pathlib.Path(__file__).parent / "goldens" / "make_policies.py"))
GREY = 128
GEOMETRY = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
POLICIES = [RandAugment(), AutoAugment(), TrivialAugment(), ThreeAugment()]


@pytest.fixture(scope="module")
def pixels():
    """A colour ramp with noise; 230 pixels wide, so that 100 pixels can leave it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:120, :230]
    ramp = np.stack([x, y + 40, 200 - x * y / 200], axis=-1)
    return np.clip(ramp + rng.normal(0, 12, ramp.shape), 5, 250).astype(np.uint8)


@pytest.fixture(scope="module")
def golden():
    return np.load(MAKE["FILE"])


def drawn(sign=1, centre=(0, 0)):
    rng = mock.create_autospec(np.random.Generator, instance=True)
    rng.random.return_value = 0.25 if sign > 0 else 0.75
    rng.integers.side_effect = centre
    return rng


def applied(name, magnitude, pixels, operations=OPERATIONS, **draws):
    operation = operations[name]
    example = {"inputs": pixels, "label": 3}
    found = operation.apply(example, operation.amount(magnitude), drawn(**draws))
    assert found["label"] == 3
    assert found["inputs"].dtype == np.uint8
    return found["inputs"]


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
        *((name, 0) for name in GEOMETRY),
        *((name, 0) for name in ("Cutout", "SolarizeAdd")),
        *((name, 5) for name in ("Color", "Contrast", "Brightness", "Sharpness")),
        ("Solarize", 10),
        ("Solarize", 20),
        ("Posterize", 20),
    ],
)
def test_the_magnitude_that_changes_nothing(name, magnitude, pixels):
    np.testing.assert_array_equal(applied(name, magnitude, pixels, centre=(60, 50)), pixels)


def test_magnitudes_go_on_in_a_straight_line(pixels):
    np.testing.assert_array_equal(applied("Posterize", 15, pixels), pixels // 4 * 4)
    assert OPERATIONS["Rotate"].amount(15) == 45
    assert OPERATIONS["Color"].amount(15) == pytest.approx(2.8)
    RandAugment(2, 15)({"inputs": pixels}, np.random.default_rng(0))


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
    before = pixels.copy()
    expected = pixels.copy()
    x, y = centre
    expected[max(0, y - 40) : y + 40, max(0, x - 40) : x + 40] = GREY
    np.testing.assert_array_equal(applied("Cutout", 10, pixels, centre=centre), expected)
    np.testing.assert_array_equal(pixels, before)


def test_grey_images_are_changed_as_colour_images_without_colour_are(pixels):
    grey = np.repeat(pixels[..., :1], 3, axis=-1)
    for name in OPERATIONS:
        found = applied(name, 8, grey[..., :1].copy(), centre=(60, 50))
        assert found.shape == (120, 230, 1)
        np.testing.assert_array_equal(
            np.repeat(found, 3, axis=-1), applied(name, 8, grey, centre=(60, 50)), err_msg=name
        )


# Positive translations go left and up as in the TPU code, torchvision's right and down.
MIRRORED = ("TranslateX", "TranslateY")


@pytest.mark.parametrize("name", list(WIDE_OPERATIONS))
def test_wide_operations_are_torchvisions(name, golden):
    images = iter(golden[f"wide_{name}"])
    signed = name in GEOMETRY or name in ("Color", "Contrast", "Brightness", "Sharpness")
    constant = f"wide_{name}_magnitudes" not in golden
    for strength in (0,) if constant else MAKE["STRENGTHS"]:
        for sign in (1, -1) if signed else (1,):
            ours = -sign if name in MIRRORED else sign
            found = applied(name, strength, MAKE["image"](), WIDE_OPERATIONS, sign=ours)
            difference = np.abs(found.astype(int) - next(images))
            if name in GEOMETRY:
                assert (difference.max(axis=-1) > 0).mean() <= 0.001  # Ties between two pixels.
            else:
                assert difference.max() <= 1
    assert next(images, None) is None


def test_there_are_torchvisions_fourteen_with_its_magnitudes(golden):
    assert {f"wide_{name}" for name in WIDE_OPERATIONS} == {
        name for name in golden if name.startswith("wide_") and not name.endswith("_magnitudes")
    }
    for name, operation in WIDE_OPERATIONS.items():
        expected = golden.get(f"wide_{name}_magnitudes", np.zeros(31))
        if name.startswith("Translate"):
            # As torchvision does where it applies them; its 16 is 15.9999990 in float32.
            expected = np.trunc(expected + 1e-5)
        if name == "Solarize":
            expected = 255 * expected  # And this.
        found = [operation.amount(strength) for strength in range(31)]
        np.testing.assert_allclose(found, expected, atol=2e-5, err_msg=name)


def test_sub_policies_are_those_of_the_tpu_code(golden):
    flat = [operation for sub_policy in IMAGENET_POLICY for operation in sub_policy]
    names, probabilities, magnitudes = zip(*flat, strict=True)
    assert len(IMAGENET_POLICY) == 25
    np.testing.assert_array_equal(names, golden["v0_names"].reshape(-1))
    np.testing.assert_array_equal(probabilities, golden["v0_probabilities"].reshape(-1))
    np.testing.assert_array_equal(magnitudes, golden["v0_magnitudes"].reshape(-1))
    amounts = [
        IMAGENET_OPERATIONS[name].amount(magnitude)
        for name, magnitude in zip(names, magnitudes, strict=True)
    ]
    np.testing.assert_allclose(amounts, golden["v0_amounts"].reshape(-1), rtol=1e-12)


def recording(operations, calls):
    """The table with operations that do nothing but say that they were called."""

    def record(name):
        def apply(example, amount, rng):
            calls.append((name, round(amount, 9)))
            return example

        return apply

    return {name: operation._replace(apply=record(name)) for name, operation in operations.items()}


def test_randaugment_draws_every_operation_about_equally_often(monkeypatch):
    calls = []
    monkeypatch.setattr(policies, "OPERATIONS", recording(OPERATIONS, calls))
    rng = np.random.default_rng(0)
    for _ in range(4000):
        RandAugment(2, 7)({}, rng)
    names = [name for name, _ in calls]
    counts = np.array([names.count(name) for name in OPERATIONS])
    assert counts.sum() == 8000
    np.testing.assert_allclose(counts, 500, atol=4.5 * np.sqrt(500))
    assert set(calls) == {(name, round(OPERATIONS[name].amount(7), 9)) for name in OPERATIONS}
    # The second does not depend on the first.
    assert sum(a == b for a, b in zip(names[::2], names[1::2], strict=True)) < 4000 / 16 * 1.3


def test_trivialaugment_draws_operations_and_strengths_uniformly(monkeypatch):
    calls = []
    monkeypatch.setattr(policies, "WIDE_OPERATIONS", recording(WIDE_OPERATIONS, calls))
    rng = np.random.default_rng(1)
    for _ in range(14 * 31 * 60):
        TrivialAugment()({}, rng)
    names = [name for name, _ in calls]
    counts = np.array([names.count(name) for name in WIDE_OPERATIONS])
    np.testing.assert_allclose(counts, 31 * 60, atol=4.5 * np.sqrt(31 * 60))
    amounts = [amount for name, amount in calls if name == "Rotate"]
    values, counts = np.unique(np.round(amounts, 6), return_counts=True)
    np.testing.assert_allclose(values, np.arange(31) * 4.5)
    np.testing.assert_allclose(counts, 60, atol=4.5 * np.sqrt(60))


def test_autoaugment_draws_sub_policies_uniformly_and_applies_with_probability(monkeypatch, golden):
    """How often each operation comes at each amount says both."""
    calls = []
    table = recording(IMAGENET_OPERATIONS, calls)
    monkeypatch.setattr(policies, "IMAGENET_OPERATIONS", table)
    rng, n = np.random.default_rng(2), 25 * 1000
    for _ in range(n):
        AutoAugment()({}, rng)
    amounts = golden["v0_amounts"].reshape(-1).round(9)
    keys = list(zip(golden["v0_names"].reshape(-1).tolist(), amounts.tolist(), strict=True))
    expected = {}
    for key, probability in zip(keys, golden["v0_probabilities"].reshape(-1), strict=True):
        expected[key] = expected.get(key, 0) + probability * 1000
    assert set(calls) == {key for key, count in expected.items() if count}
    for key, count in expected.items():
        assert abs(calls.count(key) - count) <= 4.5 * np.sqrt(count), key


def test_autoaugment_keeps_the_order_of_a_sub_policy(monkeypatch):
    calls = []
    table = recording(IMAGENET_OPERATIONS, calls)
    monkeypatch.setattr(policies, "IMAGENET_OPERATIONS", table)
    for number, (first, second) in enumerate(IMAGENET_POLICY):
        calls.clear()
        rng = mock.create_autospec(np.random.Generator, instance=True)
        rng.integers.return_value = number
        rng.random.return_value = -1.0
        AutoAugment()({}, rng)
        assert [name for name, _ in calls] == [first[0], second[0]]
        rng.integers.assert_called_once_with(25)


def test_three_augment_is_grey_solarized_or_blurred(pixels):
    rng = mock.create_autospec(np.random.Generator, instance=True)
    rng.uniform.return_value = 1.5
    found = {}
    for number in range(3):
        rng.integers.return_value = number
        found[number] = ThreeAugment()({"inputs": pixels}, rng)["inputs"]
    assert rng.integers.call_args_list == [mock.call(3)] * 3
    assert rng.uniform.call_args_list == [mock.call(0.1, 2.0)] * 3
    np.testing.assert_allclose(found[0], np.repeat(grey_of(pixels), 3, -1), atol=0.6)
    np.testing.assert_array_equal(found[1], np.where(pixels < 128, pixels, 255 - pixels))
    # Pillow approximates a Gaussian by three boxes.
    blurred = ndimage.gaussian_filter(pixels.astype(float), (1.5, 1.5, 0), mode="nearest")
    inner = slice(5, -5)
    np.testing.assert_allclose(found[2][inner, inner], blurred[inner, inner], atol=2.5)
    assert np.abs(found[2].astype(float) - blurred).mean() < 0.5


def test_three_augment_draws_each_about_equally_often(pixels):
    small, rng = {"inputs": pixels[:9, :9]}, np.random.default_rng(0)
    solarized = np.where(small["inputs"] < 128, small["inputs"], 255 - small["inputs"])
    found = [ThreeAugment()(small, rng)["inputs"] for _ in range(600)]
    grey = sum(bool((f == f[..., :1]).all()) for f in found)
    inverted = sum(np.array_equal(f, solarized) for f in found)
    assert abs(grey - 200) < 50
    assert abs(inverted - 200) < 50


def scene(seed):
    """Rectangles whose grey values are 50, 100, ... on black, and what is known of them."""
    rng = np.random.default_rng(seed)
    plane = np.zeros((60, 80), np.uint8)
    for number in range(1, 5):
        left, top = rng.integers(0, 60), rng.integers(0, 40)
        w, h = rng.integers(8, 20, size=2)
        plane[top : top + h, left : left + w] = number
    numbers = [number for number in range(1, 5) if (plane == number).any()]
    masks = np.stack([plane == number for number in numbers])
    return {
        "inputs": np.repeat(50 * plane[..., None], 3, axis=-1),
        "boxes": boxes_of(masks),
        "classes": np.array(numbers, np.int32),
        "masks": masks,
        "segmentation": plane,
        "segments": plane.astype(np.int32),
    }


def boxes_of(masks):
    slices = [ndimage.find_objects(mask.astype(int))[0] for mask in masks]
    return np.array([(x.start, y.start, x.stop, y.stop) for y, x in slices], np.float32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("name", "operations", "magnitude"),
    [(name, OPERATIONS, 4) for name in GEOMETRY]
    + [(name, WIDE_OPERATIONS, 9) for name in GEOMETRY],
)
def test_boxes_and_masks_follow(name, operations, magnitude, sign, seed):
    operation = operations[name]
    example, amount = scene(seed), operation.amount(magnitude)
    found = operation.apply(example, amount, drawn(sign))
    plane = found["inputs"][..., 0]
    inside = found["segmentation"] != 255
    assert 0.02 < (~inside).mean() < 0.7
    np.testing.assert_array_equal(plane[inside], 50 * found["segmentation"][inside])
    np.testing.assert_array_equal(plane[~inside], GREY if operations is OPERATIONS else 0)
    np.testing.assert_array_equal(found["segments"], np.where(inside, found["segmentation"], 0))
    assert set(np.unique(plane[inside])) - {0} == {50 * number for number in found["classes"]}
    for number, mask, box in zip(found["classes"], found["masks"], found["boxes"], strict=True):
        np.testing.assert_array_equal(plane == 50 * number, mask)
        tight = boxes_of(mask[None])[0]
        assert (box[:2] <= tight[:2] + 1).all()
        assert (box[2:] >= tight[2:] - 1).all()
    # The image alone is moved by Pillow: the same way, except where two pixels are as near.
    alone = operation.apply({"inputs": example["inputs"]}, amount, drawn(sign))["inputs"]
    assert (alone == found["inputs"])[inside].all(axis=-1).mean() > 0.998


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - set(GEOMETRY)))
def test_what_moves_nothing_leaves_boxes_and_masks(name):
    example = scene(0)
    found = OPERATIONS[name].apply(example, OPERATIONS[name].amount(9), drawn(centre=(40, 30)))
    for key in example.keys() - {"inputs"}:
        assert found[key] is example[key]


def test_randaugment_chains_uniform_operations(pixels):
    example = {"inputs": pixels}
    rng = mock.create_autospec(np.random.Generator, instance=True)
    rng.integers.side_effect = [2, 4]  # Invert, then Posterize.
    found = RandAugment(layers=2, magnitude=10)(example, rng)["inputs"]
    np.testing.assert_array_equal(found, (255 - pixels) // 16 * 16)
    assert rng.integers.call_args_list == [mock.call(16)] * 2
    assert RandAugment(layers=0)(example, rng) is example


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_policy_is_a_function_of_the_generator(policy, pixels):
    before = pixels.copy()
    seeds = (3, 3, 4, 5, 6)
    results = [policy({"inputs": pixels}, np.random.default_rng(s))["inputs"] for s in seeds]
    np.testing.assert_array_equal(results[0], results[1])
    assert any(not np.array_equal(results[0], other) for other in results[2:])
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
    ],
)
def test_what_is_no_image_of_bytes_is_named(policy, inputs):
    message = rf"need inputs uint8 \[h, w, 3\].*got {inputs.dtype} \[.*before Normalize"
    with pytest.raises(TypeError, match=message):
        for seed in range(10):  # An identity may be drawn.
            policy({"inputs": inputs}, np.random.default_rng(seed))


@pytest.mark.parametrize("magnitude", [-1, 20.5])
def test_bad_policies_are_named(magnitude):
    with pytest.raises(ValueError, match=f"magnitude must be from 0 to 20, got {magnitude}"):
        RandAugment(2, magnitude)
    with pytest.raises(ValueError, match="layers must be at least 0, got -1"):
        RandAugment(-1)
