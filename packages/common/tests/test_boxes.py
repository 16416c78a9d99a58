import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scenax.common import boxes

GOLDENS = pathlib.Path(__file__).parent / "goldens"
TORCHVISION = np.load(GOLDENS / "boxes.npz")
A, B = runpy.run_path(str(GOLDENS / "make_boxes.py"))["box_pairs"]()

OVERLAPS = {"iou": boxes.iou, "giou": boxes.giou, "diou": boxes.diou, "ciou": boxes.ciou}
POINT, OTHER_POINT = [2.0, 3.0, 2.0, 3.0], [4.0, 4.0, 4.0, 4.0]
LINE, UNIT = [1.0, 1.0, 5.0, 1.0], [0.0, 0.0, 1.0, 1.0]
# Where a quotient, a maximum or an angle could go wrong, in pairs.
DELICATE = [
    (UNIT, UNIT),
    (UNIT, [1.0, 0.0, 2.0, 1.0]),
    (UNIT, [1.0, 1.0, 2.0, 2.0]),
    (UNIT, [5.0, 5.0, 6.0, 7.0]),
    (UNIT, [0.0, 0.0, 0.5, 1.0]),
    (UNIT, POINT),
    (UNIT, LINE),
    (UNIT, [1.0, 1.0, 0.0, 0.0]),
    (LINE, LINE),
    (LINE, [1.0, 1.0, 1.0, 5.0]),
    (POINT, POINT),
    (POINT, OTHER_POINT),
    ([0.0, 0.0, 1e-12, 1e-12], [0.0, 0.0, 1e-12, 1e-12]),
    ([0.0, 0.0, 1e-12, 1e-15], [0.0, 0.0, 1e-14, 1e-13]),
]


def by_hand(a, b):
    """The four overlaps of two boxes of positive area, one number at a time."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a.tolist(), b.tolist()
    inter = max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter
    width, height = max(ax2, bx2) - min(ax1, bx1), max(ay2, by2) - min(ay1, by1)
    shift = complex(ax1 + ax2 - bx1 - bx2, ay1 + ay2 - by1 - by2) / 2
    diou = inter / union - abs(shift) ** 2 / abs(complex(width, height)) ** 2
    angle_a = np.angle(complex(ay2 - ay1, ax2 - ax1))
    angle_b = np.angle(complex(by2 - by1, bx2 - bx1))
    v = 4 * (angle_a - angle_b) ** 2 / np.pi**2
    alpha = v / (1 - inter / union + v) if v else 0.0
    return {
        "iou": inter / union,
        "giou": inter / union - 1 + union / (width * height),
        "diou": diou,
        "ciou": diou - alpha * v,
    }


def ordered(low, high):
    """Strategy: boxes [5 4] with corners in order, in float64."""
    numbers = arrays.arrays(np.float64, (5, 4), elements=st.floats(low, high, width=32))
    return numbers.map(
        lambda c: np.concatenate(
            [np.minimum(*np.split(c, 2, -1)), np.maximum(*np.split(c, 2, -1))], -1
        )
    )


BOXES = ordered(-1000, 1000)
FEW = settings(deadline=None, max_examples=60, derandomize=True)


@pytest.mark.parametrize(
    ("convert", "box", "wanted"),
    [
        (boxes.cxcywh_to_xyxy, [10, 20, 4, 6], [8, 17, 12, 23]),
        (boxes.xyxy_to_cxcywh, [8, 17, 12, 23], [10, 20, 4, 6]),
        (boxes.xywh_to_xyxy, [8, 17, 4, 6], [8, 17, 12, 23]),
        (boxes.xyxy_to_xywh, [8, 17, 12, 23], [8, 17, 4, 6]),
        (boxes.yxyx_to_xyxy, [17, 8, 23, 12], [8, 17, 12, 23]),
        (boxes.xyxy_to_yxyx, [8, 17, 12, 23], [17, 8, 23, 12]),
    ],
)
def test_formats(convert, box, wanted):
    for shape in [(4,), (2, 3, 4), (0, 4)]:
        given_, expected = np.broadcast_to(box, shape) * 1.0, np.broadcast_to(wanted, shape)
        on_host, on_device = convert(given_), convert(jnp.asarray(given_, jnp.float32))
        assert on_host.dtype == np.float64 and isinstance(on_host, np.ndarray)
        assert on_device.dtype == jnp.float32 and isinstance(on_device, jax.Array)
        np.testing.assert_array_equal(on_host, expected)
        np.testing.assert_array_equal(on_device, expected)


@FEW
@given(BOXES)
def test_formats_round_trip(a):
    near = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(boxes.cxcywh_to_xyxy(boxes.xyxy_to_cxcywh(a)), a, **near)
    np.testing.assert_allclose(boxes.xywh_to_xyxy(boxes.xyxy_to_xywh(a)), a, **near)
    np.testing.assert_array_equal(boxes.yxyx_to_xyxy(boxes.xyxy_to_yxyx(a)), a)
    np.testing.assert_allclose(boxes.to_absolute(boxes.to_normalized(a, 37, 91), 37, 91), a, **near)


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
def test_pixels_shares_and_borders(make):
    pixels = make(np.array([[50.0, 10.0, 100.0, 20.0], [-5.0, 30.0, 250.0, 90.0]], np.float32))
    shares = boxes.to_normalized(pixels, 40, 200)
    np.testing.assert_allclose(shares, [[0.25, 0.25, 0.5, 0.5], [-0.025, 0.75, 1.25, 2.25]])
    np.testing.assert_allclose(boxes.to_absolute(shares, 40, 200), pixels, rtol=1e-6)
    np.testing.assert_array_equal(
        boxes.clip(pixels, 40, 200), [[50, 10, 100, 20], [0, 30, 200, 40]]
    )
    outside = boxes.clip(make(np.array([-9.0, -8.0, -1.0, 300.0], np.float32)), 40, 200)
    np.testing.assert_array_equal(outside, [0, 0, 0, 40])
    assert boxes.area(outside) == 0


def test_images_of_several_sizes():
    a = jnp.full((3, 2, 4), 12.0)
    heights, widths = jnp.array([12, 24, 6]), jnp.array([6, 12, 24])
    got = jax.jit(jax.vmap(boxes.to_normalized))(a, heights, widths)
    np.testing.assert_allclose(got[:, 1], [[2, 1, 2, 1], [1, 0.5, 1, 0.5], [0.5, 2, 0.5, 2]])


def test_area():
    a = np.array([[1.0, 2.0, 4.0, 6.0], POINT, LINE, [4.0, 6.0, 1.0, 2.0], [4.0, 2.0, 1.0, 6.0]])
    np.testing.assert_array_equal(boxes.area(a), [12, 0, 0, 0, 0])


@pytest.mark.parametrize("name", OVERLAPS)
def test_against_a_loop(name):
    wanted = [by_hand(*pair)[name] for pair in zip(A, B, strict=True)]
    got = OVERLAPS[name](A, B)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-15)
    on_device = jax.jit(OVERLAPS[name])(jnp.asarray(A, jnp.float32), jnp.asarray(B, jnp.float32))
    assert on_device.dtype == jnp.float32
    np.testing.assert_allclose(on_device, wanted, rtol=0, atol=3e-6)


@pytest.mark.parametrize("name", OVERLAPS)
def test_against_torchvision(name):
    skip = 8 if name == "ciou" else 0
    a, b = A[skip:], B[skip:]
    got = OVERLAPS[name](a[:, None], b[None])
    np.testing.assert_allclose(got, TORCHVISION[name], rtol=0, atol=2e-15)
    if name in ("iou", "giou"):
        pairwise = {"iou": boxes.pairwise_iou, "giou": boxes.pairwise_giou}[name]
        np.testing.assert_array_equal(pairwise(a, b), got)
        on_device = jax.jit(pairwise)(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
        np.testing.assert_allclose(on_device, TORCHVISION[name], rtol=0, atol=3e-6)


@pytest.mark.parametrize("side", [1e-3, 1e-6])
@pytest.mark.parametrize("overlap", OVERLAPS.values(), ids=OVERLAPS)
def test_identical_boxes_overlap_fully_however_small(overlap, side):
    # With an epsilon of 1e-6 in the denominator a side of 0.001 gives one half.
    corners = np.random.default_rng(0).uniform(0.5, 1, (2000, 4)) * [-side, -side, side, side]
    for a in (corners, jnp.asarray(corners, jnp.float32)):
        np.testing.assert_array_equal(overlap(a, a + 0), 1)
    np.testing.assert_array_equal(jax.jit(overlap)(a, a + 0), 1)


@pytest.mark.parametrize(
    ("a", "b", "iou", "giou", "diou", "ciou"),
    [
        (POINT, POINT, 0, 0, 0, 0),
        (LINE, LINE, 0, 0, 0, 0),
        (POINT, OTHER_POINT, 0, -1, -1, -1),
        (LINE, [7.0, 1.0, 9.0, 1.0], 0, 0, -(5**2) / 8**2, -(5**2) / 8**2),
        # Lines across one another: v is 1 and alpha one half.
        (LINE, [3.0, -1.0, 3.0, 3.0], 0, -1, 0, -0.5),
        # A reversed box covers nothing.
        (UNIT, [1.0, 1.0, 0.0, 0.0], 0, 0, 0, None),
        (UNIT, [1.0, 0.0, 2.0, 1.0], 0, 0, -1 / 5, -1 / 5),
    ],
)
def test_boxes_without_area(a, b, iou, giou, diou, ciou):
    wanted = {"iou": iou, "giou": giou, "diou": diou, "ciou": ciou}
    for make in (np.array, jnp.array):
        for name, value in wanted.items():
            if value is not None:
                assert float(OVERLAPS[name](make(a), make(b))) == pytest.approx(value), name


def test_shapes_broadcast():
    a, b = jnp.asarray(A[:6].reshape(2, 3, 4), jnp.float32), jnp.asarray(B[0], jnp.float32)
    wanted = [[by_hand(x, B[0])["giou"] for x in row] for row in A[:6].reshape(2, 3, 4)]
    np.testing.assert_allclose(boxes.giou(a, b), wanted, atol=3e-6)
    np.testing.assert_allclose(jax.vmap(boxes.giou, (0, None))(a, b), wanted, atol=3e-6)
    assert boxes.pairwise_iou(a, a[:, :2]).shape == (2, 3, 2)
    assert boxes.pairwise_iou(np.zeros((0, 4)), A).shape == (0, 36)


def test_nan_is_not_hidden():
    assert np.isnan(boxes.iou(np.array([0.0, 0.0, np.nan, 1.0]), np.array(UNIT)))


@FEW
@given(BOXES, BOXES)
def test_properties(a, b):
    iou, giou = boxes.pairwise_iou(a, b), boxes.pairwise_giou(a, b)
    np.testing.assert_array_equal(iou, boxes.pairwise_iou(b, a).T)
    np.testing.assert_array_equal(giou, boxes.pairwise_giou(b, a).T)
    # Up to rounding; a union is a difference of sums.
    assert (iou >= 0).all() and (iou <= 1 + 1e-12).all()
    assert (giou <= iou).all() and (giou >= -1 - 1e-12).all()
    pairs = np.repeat(a, 5, 0), np.tile(b, (5, 1))
    diou, ciou = boxes.diou(*pairs), boxes.ciou(*pairs)
    assert (diou <= iou.ravel()).all() and (diou >= -1 - 1e-12).all()
    assert (ciou <= diou).all() and (ciou >= -1.5 - 1e-12).all()


@FEW
@given(ordered(0, 16), ordered(0, 16), st.integers(-40, 40), st.integers(-64, 64))
def test_neither_scale_nor_place_matters(a, b, power, shift):
    # Corners on a grid, so that moving them is exact; powers of two scale exactly.
    a, b = np.round(a * 8) / 8, np.round(b * 8) / 8
    for overlap in OVERLAPS.values():
        values = overlap(a, b)
        np.testing.assert_array_equal(overlap(a * 2.0**power, b * 2.0**power), values)
        np.testing.assert_allclose(overlap(a + shift, b + shift), values, rtol=0, atol=1e-13)


def differences(function, values, step=1e-6):
    """Central finite differences of a scalar function, in float64."""
    gradient = np.zeros_like(values)
    for i in np.ndindex(values.shape):
        nudge = np.zeros_like(values)
        nudge[i] = step
        gradient[i] = (function(values + nudge) - function(values - nudge)) / (2 * step)
    return gradient


@pytest.mark.parametrize("name", ["iou", "giou", "diou"])
def test_gradients_against_finite_differences(name):
    a, b = A[8:32], B[8:32]
    with jax.enable_x64(True):
        got = jax.grad(lambda x: OVERLAPS[name](x, jnp.asarray(b)).sum())(jnp.asarray(a))
    wanted = differences(lambda x: sum(by_hand(*p)[name] for p in zip(x, b, strict=True)), a)
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(got, wanted, atol=1e-8)


def test_the_gradient_of_ciou_takes_alpha_as_constant():
    a, b = A[8:32], B[8:32]

    def alpha_fixed(x):
        total = 0.0
        for now, first, other in zip(x, a, b, strict=True):
            at_first, values = by_hand(first, other), by_hand(now, other)
            ratio = [(c[2] - c[0]) / (c[3] - c[1]) for c in (first, now, other)]
            v0, v = ((np.arctan(r) - np.arctan(ratio[2])) ** 2 * 4 / np.pi**2 for r in ratio[:2])
            total += values["diou"] - v0 / (1 - at_first["iou"] + v0) * v
        return total

    with jax.enable_x64(True):
        got = jax.grad(lambda x: boxes.ciou(x, jnp.asarray(b)).sum())(jnp.asarray(a))
    np.testing.assert_allclose(got, differences(alpha_fixed, a), atol=1e-8)


@pytest.mark.parametrize("overlap", OVERLAPS.values(), ids=OVERLAPS)
def test_gradients_are_finite_on_delicate_boxes(overlap):
    a, b = (jnp.array(each) for each in zip(*DELICATE, strict=True))
    for first, second in ((a, b), (b, a)):
        gradients = jax.jit(jax.vmap(jax.grad(overlap, argnums=(0, 1))))(first, second)
        assert np.isfinite(overlap(first, second)).all()
        assert np.isfinite(gradients).all()


# Rotated boxes.


def rotated(rng, n):
    low, high = np.array([0, 0, 0.1, 0.1, -7]), np.array([3, 3, 4, 4, 7])
    return rng.uniform(low, high, (n, 5))


def polygon(box):
    cx, cy, w, h, angle = box
    corners = np.array([1 + 1j, -1 + 1j, -1 - 1j, 1 - 1j])
    corners = (corners.real * w + 1j * corners.imag * h) / 2 * np.exp(1j * angle) + cx + 1j * cy
    return shapely.Polygon(np.stack([corners.real, corners.imag], -1))


def by_shapely(a, b):
    first, second = ([polygon(box) for box in each] for each in (a, b))
    return np.array([[p.intersection(q).area / p.union(q).area for q in second] for p in first])


def as_float32(a):
    return jnp.asarray(a, jnp.float32)


def test_rotated_against_shapely():
    rng = np.random.default_rng(0)
    a, b = rotated(rng, 20), rotated(rng, 25)
    wanted = by_shapely(a, b)
    assert 0.5 < (wanted > 0).mean() < 0.9
    np.testing.assert_allclose(boxes.pairwise_rotated_iou(a, b), wanted, rtol=0, atol=1e-12)
    got = jax.jit(boxes.pairwise_rotated_iou)(as_float32(a), as_float32(b))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def test_rotated_boxes_that_stand_straight():
    a, b = A[:20], B[:20]
    got = boxes.pairwise_rotated_iou(
        *(np.pad(boxes.xyxy_to_cxcywh(c), ((0, 0), (0, 1))) for c in (a, b))
    )
    np.testing.assert_allclose(got, TORCHVISION["iou"][:20, :20], rtol=0, atol=1e-14)


def test_the_angle_turns_from_x_to_y():
    # Long along x, turned by 45 degrees: it runs through (3, 3), which is down on a screen.
    bar = np.array([[0, 0, 10, 0.5, np.pi / 4]])
    spots = np.array([[3.0, 3, 0.1, 0.1, 0], [3, -3, 0.1, 0.1, 0]])
    assert (boxes.pairwise_rotated_iou(bar, spots) > 0).tolist() == [[True, False]]


SPECIAL = {
    "turned by a quarter with sides exchanged": (
        [1, 2, 3, 1, 0.3],
        [1, 2, 1, 3, 0.3 + np.pi / 2],
        1,
    ),
    "turned by a half": ([1, 2, 3, 1, 0.3], [1, 2, 3, 1, 0.3 - np.pi], 1),
    "a cross": ([0, 0, 3, 1, 0], [0, 0, 3, 1, np.pi / 2], 1 / 5),
    "a square turned by an eighth": (
        [0, 0, 2, 2, 0],
        [0, 0, 2, 2, np.pi / 4],
        (8 * np.sqrt(2) - 8) / (16 - 8 * np.sqrt(2)),
    ),
    "contained": ([0, 0, 4, 4, 0.7], [0.1, 0.2, 1, 2, -0.4], 2 / 16),
    "contained, on a side": ([0, 0, 4, 4, 0], [-1, 0, 2, 4, 0], 0.5),
    "touching along a side": ([0, 0, 2, 2, 0], [2, 0, 2, 2, 0], 0),
    "touching along a side, turned": (
        [0, 0, 2, 2, 0.5],
        [2 * np.cos(0.5), 2 * np.sin(0.5), 2, 2, 0.5],
        0,
    ),
    "touching at a corner": ([0, 0, 2, 2, 0], [2, 2, 2, 2, 0], 0),
    "apart": ([0, 0, 2, 2, 0.1], [9, 9, 2, 2, 0.2], 0),
    "a line and a box": ([0, 0, 2, 0, 0.1], [0, 0, 2, 2, 0.2], 0),
    "a point and a box": ([0, 0, 0, 0, 0.1], [0, 0, 2, 2, 0.2], 0),
    "identical lines": ([0, 0, 2, 0, 0.1], [0, 0, 2, 0, 0.1], 0),
    "identical points": ([0, 0, 0, 0, 0.1], [0, 0, 0, 0, 0.1], 0),
    "a negative side": ([0, 0, -2, 2, 0.1], [0, 0, 2, 2, 0.1], 0),
}


def test_rotated_special_cases():
    a, b, wanted = (np.array(each, float) for each in zip(*SPECIAL.values(), strict=True))

    @jax.jit
    def values_and_gradients(a, b):
        def total(a, b):
            values = jnp.diag(boxes.pairwise_rotated_iou(a, b))
            return values.sum(), values

        return jax.grad(total, argnums=(0, 1), has_aux=True)(a, b)

    for first, second in ((a, b), (b, a)):
        on_host = np.diag(boxes.pairwise_rotated_iou(first, second))
        gradients, on_device = values_and_gradients(as_float32(first), as_float32(second))
        assert dict(zip(SPECIAL, on_host, strict=True)) == pytest.approx(
            dict(zip(SPECIAL, wanted, strict=True)), rel=0, abs=1e-12
        )
        np.testing.assert_allclose(on_device, wanted, rtol=0, atol=1e-5)
        assert np.isfinite(gradients).all()


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3])
def test_identical_rotated_boxes_overlap_fully(scale):
    a = rotated(np.random.default_rng(1), 50) * [scale, scale, scale, scale, 1]
    for each in (a, as_float32(a)):
        np.testing.assert_array_equal(np.diag(boxes.pairwise_rotated_iou(each, each + 0)), 1)


def test_rotated_gradients_against_finite_differences():
    rng = np.random.default_rng(2)
    a, b = rotated(rng, 4), rotated(rng, 4)
    # Straight to one another too, where edges are parallel to sides.
    a[:2, 4], b[:3, 4] = 0.25, 0.25 + np.arange(3) * np.pi / 2
    with jax.enable_x64(True):
        got = jax.grad(lambda x: boxes.pairwise_rotated_iou(x, jnp.asarray(b)).sum())(
            jnp.asarray(a)
        )
    wanted = differences(lambda x: by_shapely(x, b).sum(), a)
    assert np.abs(wanted).min() > 1e-4
    np.testing.assert_allclose(got, wanted, atol=1e-7)
