import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from scenax.common import masks

settings.register_profile("masks", deadline=None, max_examples=60, derandomize=True)
FEW = settings(settings.get_profile("masks"))
STACKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)))


def drawn(picture):
    """The mask of a picture: lines of . and #."""
    return np.array([[c == "#" for c in line] for line in picture.split()])


def noise(*shape, share=0.5, seed=0):
    return np.random.default_rng(seed).random(shape) < share


def blobs(h, w):
    """Masks that an erosion leaves something of: an ellipse, a frame, the image, a dot, nothing."""
    y, x = np.mgrid[:h, :w]
    frame = np.ones((h, w), bool)
    frame[h // 3 : h // 2, w // 3 : w // 2] = False
    dot = (y == 1) & (x == w - 1)
    ellipse = ((y - h / 2) / (0.45 * h)) ** 2 + ((x - w / 2) / (0.4 * w)) ** 2 < 1
    return np.stack([ellipse, frame, np.ones((h, w), bool), dot, np.zeros((h, w), bool)])


def by_loops(mask, d):
    """The inner boundary by its definition, pixel by pixel."""
    h, w = mask.shape
    found = np.zeros_like(mask)
    for y, x in np.ndindex(h, w):
        for v in range(y - d, y + d + 1):
            for u in range(x - d, x + d + 1):
                outside = not (0 <= v < h and 0 <= u < w) or not mask[v, u]
                found[y, x] |= mask[y, x] and outside
    return found


SMALL = np.stack(
    [
        drawn("..... .##.. .###. ...#."),
        drawn("#.... ..... ..... ....#"),
        drawn("..... ..... ..#.. ....."),
        drawn("..... ..... ..... ....."),
        drawn("##### ##### ##### #####"),
    ]
)
SMALL_AREAS = [6, 2, 1, 0, 20]
SMALL_BOXES = [[1, 1, 4, 4], [0, 0, 5, 4], [2, 2, 3, 3], [0, 0, 0, 0], [0, 0, 5, 4]]
# Only the last has pixels with all eight neighbours.
SMALL_BOUNDARY = np.stack([*SMALL[:4], drawn("##### #...# #...# #####")])


@pytest.mark.parametrize(
    ("function", "wanted", "dtypes"),
    [
        (masks.area, SMALL_AREAS, (np.int64, jnp.int32)),
        (masks.bounding_boxes, SMALL_BOXES, (np.float32, jnp.float32)),
        (masks.boundary, SMALL_BOUNDARY, (np.bool_, jnp.bool_)),
    ],
)
def test_leading_axes_in_numpy_and_jax(function, wanted, dtypes):
    wanted = np.asarray(wanted)
    for lead in [(5,), (1, 5, 1)]:
        given_ = SMALL.reshape(*lead, 4, 5)
        expected = wanted.reshape(*lead, *wanted.shape[1:])
        on_host, on_device = function(given_), function(jnp.asarray(given_))
        mapped = jax.jit(jax.vmap(function))(jnp.asarray(given_))
        assert isinstance(on_host, np.ndarray) and on_host.dtype == dtypes[0]
        assert isinstance(on_device, jax.Array) and on_device.dtype == mapped.dtype == dtypes[1]
        for got in (on_host, on_device, mapped):
            np.testing.assert_array_equal(got, expected)
    single = function(SMALL[0]), function(jnp.asarray(SMALL[0]))
    assert isinstance(single[0], np.ndarray) and isinstance(single[1], jax.Array)
    for got in single:
        np.testing.assert_array_equal(got, wanted[0])
    assert function(SMALL[:0]).shape == (0, *wanted.shape[1:])


@FEW
@given(STACKS)
def test_areas_and_boxes_against_loops(stack):
    for mask, area, box in zip(stack, masks.area(stack), masks.bounding_boxes(stack), strict=True):
        inside = [(x, y) for y, row in enumerate(mask) for x, pixel in enumerate(row) if pixel]
        assert area == len(inside)
        wanted = [0, 0, 0, 0]
        if inside:
            xs, ys = zip(*inside, strict=True)
            wanted = [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
        assert box.tolist() == wanted


def test_masks_without_pixels():
    for shape in [(2, 0, 4), (2, 4, 0)]:
        for stack in (np.zeros(shape, bool), jnp.zeros(shape, bool)):
            np.testing.assert_array_equal(masks.area(stack), [0, 0])
            np.testing.assert_array_equal(masks.bounding_boxes(stack), np.zeros((2, 4)))
            np.testing.assert_array_equal(masks.pairwise_iou(stack, stack), np.zeros((2, 2)))
            assert masks.boundary(stack).shape == shape


def test_pairwise_iou_by_hand():
    # Of the first with each: itself; no pixel in common; a pixel of six; nothing; 6 of 20.
    wanted = [[1, 0, 1 / 6, 0, 6 / 20], [0, 0, 0, 0, 0]]
    for make in (np.asarray, jnp.asarray):
        got = masks.pairwise_iou(make(SMALL[[0, 3]]), make(SMALL))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, rtol=1e-7)
    assert masks.pairwise_iou(SMALL[:0], SMALL).shape == (0, 5)


def test_pairwise_iou_against_loops():
    a, b = noise(3, 20, 31, share=0.7), noise(4, 20, 31, share=0.3, seed=1)
    wanted = [[(p & q).sum() / (p | q).sum() for q in b] for p in a]
    np.testing.assert_allclose(masks.pairwise_iou(a, b), wanted, rtol=2e-7)
    device_a, device_b = jnp.asarray(a), jnp.asarray(b)
    np.testing.assert_allclose(jax.jit(masks.pairwise_iou)(device_a, device_b), wanted, rtol=2e-7)
    several = jax.vmap(masks.pairwise_iou)(device_a[:2, None], device_b[:2, None])
    np.testing.assert_allclose(several[:, 0, 0], [wanted[0][0], wanted[1][1]], rtol=2e-7)


def test_boundary_by_hand():
    picture = drawn(
        "......... .#####... .#####... .#####... .#####... .#####... ......### ......### ......###"
    )
    wanted = drawn(
        "......... .#####... .#...#... .#...#... .#...#... .#####... ......### ......#.# ......###"
    )
    # The diagonal is 12.7 pixels, 0.02 of which round to 0: one pixel all the same.
    np.testing.assert_array_equal(masks.boundary(picture), wanted)
    # 0.16 of it are 2.04 pixels, and only the centre of the larger square has two on all sides.
    wanted = picture.copy()
    wanted[3, 3] = False
    np.testing.assert_array_equal(masks.boundary(picture, dilation_ratio=0.16), wanted)


@pytest.mark.parametrize(
    ("shape", "ratio", "d"),
    # Diagonals of 50 and 13, and 1.5 rounds to the even 2.
    [((30, 40), 0.02, 1), ((30, 40), 0.03, 2), ((30, 40), 0.14, 7), ((5, 12), 0.16, 2)],
)
def test_boundary_against_scipy_and_loops(shape, ratio, d):
    stack = np.concatenate([blobs(*shape), noise(2, *shape, share=0.97)])
    square = np.ones((3, 3), bool)
    wanted = np.stack(
        [m & ~ndimage.binary_erosion(m, square, iterations=d, border_value=0) for m in stack]
    )
    assert (stack & ~wanted).any()
    on_host = masks.boundary(stack, dilation_ratio=ratio)
    on_device = jax.jit(lambda m: masks.boundary(m, dilation_ratio=ratio))(jnp.asarray(stack))
    np.testing.assert_array_equal(on_host, wanted)
    np.testing.assert_array_equal(on_device, wanted)
    if d <= 2:
        np.testing.assert_array_equal(on_host, [by_loops(m, d) for m in stack])


def test_boundary_of_more_than_the_image_is_the_mask():
    stack = blobs(20, 30)
    for ratio in (0.5, 1, 1e9):
        np.testing.assert_array_equal(masks.boundary(stack, dilation_ratio=ratio), stack)


@pytest.mark.parametrize("ratio", [-0.1, float("nan"), float("inf")])
def test_boundary_refuses(ratio):
    with pytest.raises(ValueError, match=r"dilation_ratio is .*finite number of at least 0"):
        masks.boundary(SMALL, dilation_ratio=ratio)


# Run lengths.


def pattern():
    y, x = np.mgrid[:9, :13]
    disk = (y - 4) ** 2 + (x - 6) ** 2 < 18
    return np.stack([(y * y + 3 * x) % 5 < 2, disk, y < 0, y >= 0])


# What pycocotools 2.0.11 encodes these masks to.
PYCOCOTOOLS = [
    b"02219NF10O010O10O031O2OO9NF10O010O10O031O2OO9NF10O01",
    b"e0352N2Nd00\\O2N2N`0",
    b"e3",
    b"0e3",
]


def test_run_lengths_against_pycocotools():
    rles = masks.to_rle(pattern())
    assert rles == [{"size": [9, 13], "counts": counts} for counts in PYCOCOTOOLS]
    np.testing.assert_array_equal(masks.from_rle(rles), pattern())


def lengths(mask):
    """Column after column, in turn outside of and in the mask, by a loop."""
    found, current = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != current:
            found.append(0)
            current = pixel
        found[-1] += 1
    return found


@FEW
@given(STACKS)
def test_run_lengths_round_trip(stack):
    rles = masks.to_rle(stack)
    size = list(stack.shape[1:])
    np.testing.assert_array_equal(masks.from_rle(rles), stack)
    plain = [{"size": size, "counts": lengths(mask)} for mask in stack]
    np.testing.assert_array_equal(masks.from_rle(plain), stack)
    text = [{"size": tuple(size), "counts": rle["counts"].decode()} for rle in rles]
    np.testing.assert_array_equal(masks.from_rle([*text, *plain]), np.concatenate([stack, stack]))


def test_run_lengths_by_hand():
    # Of two rows and three columns: after one pixel two, then three that are not.
    mask = drawn(".#. #..")
    wanted = [mask, mask, ~mask]
    got = masks.from_rle(
        [
            {"size": [2, 3], "counts": [1, 2, 3]},
            {"size": [2, 3], "counts": "123"},
            # A run may have no pixels.
            {"size": [2, 3], "counts": [0, 1, 2, 0, 0, 3]},
        ]
    )
    np.testing.assert_array_equal(got, wanted)
    # Lengths 0 1 2 0 0 3; from the fourth on -1 (O), -2 (N) and 3.
    got = masks.from_rle([{"size": [2, 3], "counts": "012ON3"}])
    np.testing.assert_array_equal(got, [~mask])


def test_long_runs_and_views():
    # Numbers of several characters, and arrays that are not contiguous.
    stack = np.zeros((2, 700, 900), bool)
    stack[0, 100:650, 3:] = True
    stack[1, :, 450:] = True
    for view in (stack, stack[::-1, ::-1, ::2], np.asfortranarray(stack)):
        rles = masks.to_rle(view)
        np.testing.assert_array_equal(masks.from_rle(rles), view)
    # 315000 is 9 * 32^3 + 19 * 32^2 + 19 * 32 + 24: 24, 19, 19 with more to follow, and 9.
    assert rles[1]["counts"] == b"hcc9hcc9"


def test_no_masks():
    assert masks.to_rle(np.zeros((0, 4, 5), bool)) == []
    assert masks.from_rle([]).shape == (0, 0, 0)


MALFORMED = {
    "no counts": ({"size": [2, 3]}, 'needs "size" and "counts"'),
    "no size": ({"counts": [6]}, 'needs "size" and "counts"'),
    "a size of one": ({"size": [6], "counts": [6]}, "two whole numbers"),
    "a size of text": ({"size": "23", "counts": [6]}, "two whole numbers"),
    "a size of fractions": ({"size": [2.0, 3.0], "counts": [6]}, "two whole numbers"),
    "a size of nan": ({"size": [float("nan"), 3], "counts": [6]}, "two whole numbers"),
    "no size after all": ({"size": None, "counts": [6]}, "two whole numbers"),
    "a size above 64 bits": ({"size": [2**70, 1], "counts": [6]}, "two whole numbers"),
    "a negative size": ({"size": [-2, -3], "counts": [6]}, "at least one pixel"),
    "a side of zero": ({"size": [0, 3], "counts": []}, "at least one pixel"),
    "an absurd size": ({"size": [2**40, 2**40], "counts": [2**80]}, "check where the size"),
    "a size of 2^31": ({"size": [2**16, 2**15], "counts": [2**31]}, "check where the size"),
    "too few pixels": ({"size": [2, 3], "counts": [1, 2, 2]}, "add up to 5 pixels"),
    "too many pixels": ({"size": [2, 3], "counts": [1, 2, 4]}, "add up to 7 pixels"),
    "no pixels": ({"size": [2, 3], "counts": ""}, "add up to 0 pixels"),
    "a negative count": ({"size": [2, 3], "counts": [4, -2, 4]}, "run of -2 pixels"),
    "a huge count": ({"size": [2, 3], "counts": [2**63 + 6]}, "run of 9223372036854775814"),
    # In 64 bits these add up to 6.
    "counts that overflow": ({"size": [2, 3], "counts": [2**62] * 4 + [6]}, "run of 46116860"),
    "a count above 64 bits": ({"size": [2, 3], "counts": [2**64 + 6]}, "list of whole numbers"),
    "fractions": ({"size": [2, 3], "counts": [1.5, 4.5]}, "list of whole numbers"),
    "nan": ({"size": [2, 3], "counts": [float("nan")]}, "list of whole numbers"),
    "nested counts": ({"size": [2, 3], "counts": [[6]]}, "list of whole numbers"),
    "counts of text": ({"size": [2, 3], "counts": ["6"]}, "list of whole numbers"),
    "counts of nothing": ({"size": [2, 3], "counts": None}, "list of whole numbers"),
    "a number": ({"size": [2, 3], "counts": 6}, "list of whole numbers"),
    "compressed, too few": ({"size": [2, 3], "counts": b"122"}, "add up to 5 pixels"),
    "compressed, too many": ({"size": [2, 3], "counts": b"124"}, "run of|add up to 7 pixels"),
    # M is -3.
    "compressed, negative": ({"size": [2, 3], "counts": b"3M6"}, "run of -3 pixels"),
    # A difference: 1 2 3 and 2 - 5.
    "compressed, negative later": ({"size": [2, 3], "counts": b"123K"}, "run of -3 pixels"),
    "below the code": ({"size": [2, 3], "counts": b"12/"}, "byte 2 .* is 47"),
    "above the code": ({"size": [2, 3], "counts": b"p123"}, "byte 0 .* is 112"),
    "a zero byte": ({"size": [2, 3], "counts": b"123\0"}, "byte 3 .* is 0"),
    "not ascii": ({"size": [2, 3], "counts": "12é"}, "byte 2 .* is 195"),
    "a lone surrogate": ({"size": [2, 3], "counts": "12\ud800"}, "byte 2 .* is 237"),
    "cut off": ({"size": [2, 3], "counts": b"12P"}, "end within a number"),
    "only started": ({"size": [2, 3], "counts": "o"}, "end within a number"),
    "a long number": ({"size": [2, 3], "counts": b"12" + b"P" * 7 + b"0"}, "of 8 characters"),
    "a very long number": ({"size": [2, 3], "counts": b"P" * 5000 + b"0"}, "of 5001 characters"),
    "a huge run": ({"size": [2, 3], "counts": b"oooooo?"}, "run of 17179869183 pixels"),
    # 2^32 + 1 is 1 in the 32 bits of the C code.
    "a run above 32 bits": ({"size": [2, 3], "counts": b"QPPPPP423"}, "run of 4294967297 pixels"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_run_lengths(name):
    rle, message = MALFORMED[name]
    good = {"size": [2, 3], "counts": "123"}
    with pytest.raises(ValueError, match=rf"^rles\[0\].*({message})"):
        masks.from_rle([rle])
    # Behind another, where a size may be valid but not the first one's.
    with pytest.raises(ValueError, match=r"^rles\[1\]"):
        masks.from_rle([good, rle])


def test_sizes_that_differ_and_too_many_masks():
    sizes = [[2, 3], [3, 2]]
    with pytest.raises(ValueError, match=r"rles\[1\] is of size \[3, 2\], but rles\[0\] of \[2, 3"):
        masks.from_rle([{"size": size, "counts": [6]} for size in sizes])
    rle = {"size": [40000, 40000], "counts": [40000**2]}
    with pytest.raises(ValueError, match="in 2 masks 3200000000 pixels"):
        masks.from_rle([rle, rle])
    # A view that repeats one pixel, which takes no memory.
    with pytest.raises(ValueError, match="to_rle: the size is 65536x65536"):
        masks.to_rle(np.broadcast_to(np.array(True), (1, 2**16, 2**16)))
    with pytest.raises(ValueError, match="at least one pixel"):
        masks.to_rle(np.zeros((2, 0, 3), bool))


@FEW
@given(st.binary(max_size=12), st.integers(1, 6), st.integers(1, 6))
def test_any_bytes_give_a_mask_or_an_error(counts, h, w):
    try:
        mask = masks.from_rle([{"size": [h, w], "counts": counts}])[0]
    except ValueError as error:
        assert str(error).startswith("rles[0]")
    else:
        assert mask.shape == (h, w)


@FEW
@given(STACKS, st.data())
def test_a_damaged_character_is_found_or_another_mask(stack, data):
    # A single character that changes changes a length, so that the sum or a later length is wrong,
    # or shifts a boundary; it never gives the same mask.
    rle = masks.to_rle(stack[:1])[0]
    position = data.draw(st.integers(0, len(rle["counts"]) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda c: c != rle["counts"][position]))
    damaged = bytearray(rle["counts"])
    damaged[position] = other
    try:
        mask = masks.from_rle([{"size": rle["size"], "counts": bytes(damaged)}])[0]
    except ValueError as error:
        assert str(error).startswith("rles[0]")
    else:
        assert (mask != stack[0]).any()


# Polygons.


def test_polygons_by_hand():
    # Corners lie between pixels: from 1 to 4 are the pixels 1, 2 and 3.
    square = [1, 1, 4, 1, 4, 4, 1, 4]
    wanted = drawn("...... .###.. .###.. .###.. ......")
    np.testing.assert_array_equal(masks.from_polygons([square], 5, 6), wanted)
    # The same again adds nothing; another one does.
    far = [4.0, 0.0, 6.0, 0.0, 6.0, 2.0, 4.0, 2.0]
    wanted[0:2, 4:6] = True
    np.testing.assert_array_equal(masks.from_polygons([square, square, far], 5, 6), wanted)
    assert not masks.from_polygons([], 5, 6).any()
    assert masks.from_polygons([], 5, 6).shape == (5, 6)


def test_polygons_against_pycocotools():
    # With corners outside of the image, an overlap, and fractions.
    polygons = [
        [1.5, 1.25, 9.75, 2.5, 7.0, 8.5],
        [8.0, 4.0, 12.5, 4.0, 12.5, 7.5, 8.0, 7.5],
        [-3, -2, 3.3, 4.1, -2, 6],
    ]
    got = masks.to_rle(masks.from_polygons(polygons, 9, 13)[None])
    assert got == [{"size": [9, 13], "counts": b"146OONL06101O1O2NO111N000000L"}]


def star(seed):
    """A star-shaped polygon within an image of 90 x 120 pixels, which need not be convex."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radii = rng.uniform(8, 44, 9)
    return np.stack([60 + radii * np.cos(angles), 45 + radii * np.sin(angles)], -1)


@pytest.mark.parametrize("seed", range(6))
def test_areas_of_polygons_against_shapely(seed):
    corners = star(seed)
    exact = shapely.Polygon(corners)
    assert exact.is_valid and exact.area > 500
    mask = masks.from_polygons([corners.ravel().tolist()], 90, 120)
    # The outline crosses about as many pixels as it is long, each of which is in or out.
    assert abs(mask.sum() - exact.area) < exact.length
    # Every pixel further from the outline than its own diagonal is decided.
    y, x = np.mgrid[:90, :120] + 0.5
    deep = shapely.contains_xy(exact.buffer(-1.5), x, y)
    wide = shapely.contains_xy(exact.buffer(1.5), x, y)
    assert deep.any() and mask[deep].all() and not mask[~wide].any()


def test_polygons_around_the_image_and_beside_it():
    around = [-1000, -1000, 1000, -1000, 1000, 1000, -1000, 1000]
    assert masks.from_polygons([around], 7, 5).all()
    for shift in (-500, 500):
        beside = [shift, 0, shift + 9, 0, shift + 9, 9]
        assert not masks.from_polygons([beside], 7, 5).any()
    # No area, and points that repeat, as annotations have them.
    assert not masks.from_polygons([[1, 1, 1, 1, 1, 1]], 7, 5).any()
    closed = [1, 1, 4, 1, 4, 4, 4, 4, 1, 4, 1, 1]
    assert masks.from_polygons([closed], 7, 5).sum() == 9


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ([], "3 points or more"),
        ([1.0, 1.0, 4.0, 4.0], "3 points or more"),
        ([1.0, 1.0, 4.0, 1.0, 4.0], "3 points or more"),
        ([1.0, 1.0, 4.0, 1.0, 4.0, 4.0, 1.0], "3 points or more"),
        ([1.0, 1.0, 4.0, float("nan"), 4.0, 4.0], "finite number"),
        ([1.0, 1.0, 4.0, float("inf"), 4.0, 4.0], "finite number"),
        ([1.0, 1.0, float("-inf"), 1.0, 4.0, 4.0], "finite number"),
        ([1, 1, 10**40, 1, 4, 4], "finite number"),
        ([True, False, True, True, False, True], "finite number"),
        ([1.0, 1.0, 1e9, 1.0, 4.0, 4.0], "reaches over 1e.09 pixels"),
        ([-1e308, 1.0, 1e308, 1.0, 4.0, 4.0], "reaches over 1e.308 pixels"),
        ([1, 1, -(2**62), 1, 4, 4], "reaches over"),
        # Twice 10^6 pixels, there and back.
        ([0.0, 0.0, 1e6, 0.0, 0.0, 1.0, 1e6, 1.0], "reaches over 4e.06 pixels"),
    ],
)
def test_malformed_polygons(polygon, message):
    good = [1.0, 1.0, 4.0, 1.0, 4.0, 4.0]
    with pytest.raises(ValueError, match=rf"^polygons\[1\].*{message}"):
        masks.from_polygons([good, polygon], 5, 6)


@pytest.mark.parametrize("size", [(0, 6), (5, -1), (2**16, 2**15), (2**62, 2**62)])
def test_polygons_of_an_absurd_image(size):
    with pytest.raises(ValueError, match=r"^The image: the size is"):
        masks.from_polygons([[1, 1, 4, 1, 4, 4]], *size)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    for call in (
        lambda: masks.to_rle(SMALL),
        lambda: masks.from_polygons([[1, 1, 4, 1, 4, 4]], 5, 6),
    ):
        with pytest.raises(ImportError, match=r'pip install "scenax-common\[coco\]"'):
            call()
    # Decoding takes numpy only.
    assert masks.from_rle([{"size": [2, 3], "counts": "123"}]).sum() == 2
