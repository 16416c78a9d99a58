import base64
import html.parser
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from scenax.common.visualize import (
    attention_overlay,
    confusion_matrix,
    curves,
    html_page,
    image_grid,
    table,
)

pytest.importorskip("matplotlib")
import matplotlib
from matplotlib.image import imread

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>"</script>& id="a"$\\f$#010203'
STEPS = np.arange(5)


class Page(html.parser.HTMLParser):
    """What an HTML reader makes of a string: tags with attributes, and text by tag."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text, self._open = [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and data.strip():
            self.text.append((self._open[-1], data))

    def inside(self, tag):
        return [text for name, text in self.text if name == tag]


def texts(svg):
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]


def line_points(svg, color):
    """Returns the corners of the first line of a colour, in the figure's points."""
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        if f"stroke: {color}" in path.get("style", ""):
            return np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.get("d")), float)
    raise AssertionError(f"no line in {color}")


def decode(source):
    kind, data = source.split(",", 1)
    assert kind == "data:image/png;base64"
    return np.rint(imread(io.BytesIO(base64.b64decode(data)))[..., :3] * 255).astype(np.uint8)


def grid_pixels(grid):
    return [decode(attributes["src"]) for tag, attributes in Page(grid).tags if tag == "img"]


def figures():
    return [
        curves({"train": (STEPS, STEPS**2), "test": (STEPS, 2 * STEPS)}, ylabel="loss"),
        curves({"train": (STEPS, STEPS**2), "test": (STEPS, 3 * STEPS)}, ylabel="loss"),
        curves({"train": (STEPS, 10.0**STEPS)}, ylabel="loss", log=True),
        confusion_matrix(np.eye(3, dtype=int), ["a", "b", "c"]),
        confusion_matrix(2 * np.eye(3, dtype=int), ["a", "b", "c"]),
    ]


def test_a_curve_goes_through_its_points():
    values = np.array([0.0, 1.0, 4.0, 9.0, 2.0])
    corners = line_points(curves({"train": (STEPS, values)}, ylabel="loss"), "#3b7dd8")
    assert len(corners) == 5
    x, y = corners.T
    np.testing.assert_allclose((x - x[0]) / (x[-1] - x[0]), STEPS / 4, atol=1e-5)
    np.testing.assert_allclose((y - y[0]) / (y[3] - y[0]), values / 9, atol=1e-5)


def test_a_logarithmic_axis_is_one_and_its_labels_are_numbers():
    svg = curves({"train": (STEPS, 10.0**STEPS)}, ylabel="loss", log=True)
    gaps = np.diff(line_points(svg, "#3b7dd8")[:, 1])
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-4)
    assert {"1", "10", "100", "1000"} <= set(texts(svg))
    narrow = texts(curves({"train": (STEPS, 0.2 + 0.4 * STEPS)}, ylabel="loss", log=True))
    assert {"0.2", "0.5", "1"} <= set(narrow)
    assert not any("$" in text for text in [*narrow, *texts(svg)])


def test_points_that_cannot_be_drawn_are_skipped():
    values = np.array([1.0, np.nan, 3.0, np.inf, -5.0])
    assert len(line_points(curves({"a": (STEPS, values)}, ylabel="y"), "#3b7dd8")) == 3
    assert len(line_points(curves({"a": (STEPS, values)}, ylabel="y", log=True), "#3b7dd8")) == 2
    whole = curves({"a": (STEPS[[0, 2, 4]], values[[0, 2, 4]])}, ylabel="y")
    assert whole == curves({"a": (STEPS, values)}, ylabel="y")


def test_a_curve_without_points_says_so():
    svg = curves({"a": (STEPS, np.full(5, np.nan)), "_b": (STEPS, STEPS)}, ylabel="y")
    assert {"a (no points)", "_b", "y", "step"} <= set(texts(svg))


def test_many_curves_all_look_different():
    svg = curves({f"m{i}": (STEPS, STEPS * i) for i in range(20)}, ylabel="y")
    assert {f"m{i}" for i in range(20)} <= set(texts(svg))
    looks = re.findall(
        r'd="M [\d. ]+\nL[^"]*" clip-path="[^"]*" style="([^"]*stroke-width: 1\.5[^"]*)"', svg
    )
    assert len(looks) == len(set(looks)) == 20


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ({}, "no series to draw"),
        ({"a": (STEPS[:0], STEPS[:0])}, "'a' has 0 steps and 0 values"),
        ({"a": (STEPS, STEPS[:2])}, "'a' has 5 steps and 2 values"),
    ],
)
def test_curves_that_cannot_be_drawn_are_an_error(series, message):
    with pytest.raises(ValueError, match=message):
        curves(series, ylabel="loss")


def test_a_confusion_matrix_shows_every_count_with_true_classes_in_rows():
    counts = np.array([[50, 2, 3], [4, 60, 5], [0, 0, 0]])
    svg = confusion_matrix(counts, ["cat", "dog", "eel"])
    root = ET.fromstring(svg)
    where = {}
    for element in root.iter(f"{SVG}text"):
        where.setdefault("".join(element.itertext()), []).append(
            tuple(
                map(float, re.findall(r"-?[\d.]+", element.get("transform", "translate(nan nan)")))
            )[-2:]
        )
    (x_50, y_50), (x_2, y_2), (x_4, y_4) = (where[n][0] for n in ("50", "2", "4"))
    assert (y_50, x_50) == (y_2, x_4)  # a row of the array is a row of the figure
    assert x_2 > x_50
    assert y_4 > y_50
    assert len(where["0"]) == 3
    assert {"cat", "dog", "eel", "true"} <= set(where)


def test_the_colour_of_a_cell_is_its_share_of_the_row():
    counts = np.array([[3, 1], [0, 0]])
    image = next(ET.fromstring(confusion_matrix(counts, ["a", "b"])).iter(f"{SVG}image"))
    data = image.get("{http://www.w3.org/1999/xlink}href").split(",")[1]
    alpha = imread(io.BytesIO(base64.b64decode(data)))[..., 3]
    if "scale(1 -1)" in image.get("transform", ""):
        alpha = alpha[::-1]
    rows, columns = (np.linspace(0, n - 1, 2).astype(int) for n in alpha.shape)
    np.testing.assert_allclose(alpha[np.ix_(rows, columns)], [[0.75, 0.25], [0, 0]], atol=1 / 255)


def test_long_names_leave_room_for_the_figure():
    names = [f"{letter} name that goes on and on, as those of ImageNet do" for letter in "abc"]
    svg = confusion_matrix(np.eye(3, dtype=int), names)
    assert texts(svg).count("b name that goes on and on, as those of…") == 2
    points = line_points(
        curves({name: (STEPS, STEPS) for name in names * 4}, ylabel="y"), "#3b7dd8"
    )
    width, height = np.ptp(points, axis=0)
    assert width > 72 * 5
    assert height > 72 * 2


def test_a_confusion_matrix_of_one_and_of_many_classes():
    assert {"7", "only"} <= set(texts(confusion_matrix(np.array([[7]]), ["only"])))
    many = confusion_matrix(np.full((150, 150), 7777), [f"class {i}" for i in range(150)])
    assert "7777" not in texts(many)
    assert len(many) < 100_000


def test_confusion_matrices_that_cannot_be_drawn_are_an_error():
    with pytest.raises(ValueError, match=r"got 2 names for \(3, 3\) counts"):
        confusion_matrix(np.eye(3, dtype=int), ["a", "b"])
    with pytest.raises(ValueError, match="at least one class"):
        confusion_matrix(np.zeros((0, 0), int), [])
    with pytest.raises(ValueError, match="negative: -1"):
        confusion_matrix(-np.eye(3, dtype=int), ["a", "b", "c"])


def test_images_in_a_grid_are_the_images():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    for shown, image in zip(
        grid_pixels(image_grid(rgb, ["a", "b", "c"], columns=2)), rgb, strict=True
    ):
        np.testing.assert_array_equal(shown, image)
    grey = rgb[..., :1]
    for shown, image in zip(
        grid_pixels(image_grid(grey, ["a", "b", "c"], columns=2)), grey, strict=True
    ):
        np.testing.assert_array_equal(shown, image.repeat(3, axis=2))
    floats = (rgb / 255).astype(np.float32)
    assert image_grid(floats, ["a", "b", "c"], columns=2) == image_grid(
        rgb, ["a", "b", "c"], columns=2
    )


@pytest.mark.parametrize(
    ("size", "shown"), [((8, 8), (96, 96)), ((28, 20), (84, 60)), ((224, 200), (224, 200))]
)
def test_small_images_are_enlarged_by_a_whole_factor(size, shown):
    grid = image_grid(np.zeros((1, *size, 3), np.uint8), ["t"], columns=1)
    (attributes,) = [attributes for tag, attributes in Page(grid).tags if tag == "img"]
    assert (int(attributes["height"]), int(attributes["width"])) == shown
    assert "image-rendering:pixelated" in attributes["style"]
    assert attributes["alt"] == "t"


def test_grids_that_cannot_be_drawn_are_an_error():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="1 titles for 2 images"):
        image_grid(images, ["a"], columns=1)
    with pytest.raises(ValueError, match="0 columns"):
        image_grid(images, ["a", "b"], columns=0)
    with pytest.raises(ValueError, match=r"1 channel \(grey\) or 3"):
        image_grid(images[..., :2], ["a", "b"], columns=1)
    for bad in (-0.5, 1.5, np.nan):
        with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
            image_grid(np.full((2, 4, 4, 3), bad), ["a", "b"], columns=1)
    assert grid_pixels(image_grid(images[:0], [], columns=3)) == []


def test_attention_without_opacity_is_the_image_and_with_all_of_it_the_colours():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    weights = np.array([[[0.0, 0.1], [0.2, 0.4]], [[0.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_array_equal(attention_overlay(image, weights, opacity=0.0), [image, image])

    heat = attention_overlay(image, weights, resize="nearest", opacity=1.0)
    inferno = np.array(matplotlib.colormaps["inferno"].colors)
    expected = inferno[[[0, 64], [128, 255]]].repeat(3, axis=0).repeat(4, axis=1)
    np.testing.assert_allclose(heat[0] / 255, expected, atol=1 / 255)
    np.testing.assert_allclose(heat[1] / 255, np.broadcast_to(inferno[0], (6, 8, 3)), atol=1 / 255)


@pytest.mark.parametrize(("resize", "method"), [("nearest", "nearest"), ("bilinear", "linear")])
@pytest.mark.parametrize("size", [(12, 20), (13, 17), (3, 5), (2, 2)])
def test_attention_is_resized_as_jax_does(resize, method, size):
    import jax

    weights = np.random.default_rng(0).random((2, 3, 5))
    weights[:, 0, 0] = 1  # the largest, so that weights are shares already
    black = np.zeros((*size, 1), np.uint8)
    shares = jax.image.resize(weights, (2, *size), method, antialias=False)
    expected = matplotlib.colormaps["inferno"](np.clip(shares, 0, 1))[..., :3] * 255
    overlay = attention_overlay(black, weights, resize=resize, opacity=1.0)
    np.testing.assert_allclose(overlay, expected, atol=4)  # one step of the 256 colours


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_weights_that_are_no_attention_are_an_error(bad):
    with pytest.raises(ValueError, match="finite and not negative"):
        attention_overlay(np.zeros((4, 4, 3), np.uint8), np.full((1, 2, 2), bad))


def test_opacity_has_bounds():
    with pytest.raises(ValueError, match=r"opacity must lie in \[0, 1\], got 60"):
        attention_overlay(np.zeros((4, 4, 3), np.uint8), np.ones((1, 2, 2)), opacity=60.0)


def test_a_table_holds_its_cells():
    page = Page(
        table(
            [["vit", 3, 0.123456, None], ["r<e>s", np.int64(4), np.float32(2), True]], list("abcd")
        )
    )
    assert page.inside("th") == ["a", "b", "c", "d"]
    assert page.inside("td") == ["vit", "3", "0.1235", "None", "r<e>s", "4", "2", "True"]
    numeric = [attributes.get("class") for tag, attributes in page.tags if tag == "td"]
    assert numeric == [None, "number", "number", None] * 2
    with pytest.raises(ValueError, match="header has 2 columns, a row has 1"):
        table([[1]], ["a", "b"])


def test_text_is_escaped_everywhere():
    images = np.zeros((1, 4, 4, 3), np.uint8)
    parts = [
        curves({HOSTILE: (STEPS, STEPS)}, ylabel=HOSTILE),
        confusion_matrix(np.array([[1]]), [HOSTILE]),
        image_grid(images, [HOSTILE], columns=1),
        table([[HOSTILE]], [HOSTILE]),
    ]
    text = html_page(HOSTILE, [(HOSTILE, part) for part in parts])
    page = Page(text)
    assert "script" not in [tag for tag, _ in page.tags]
    assert page.inside("title") == page.inside("h1") == [HOSTILE]
    assert page.inside("h2") == page.inside("a") == [HOSTILE] * 4
    assert page.inside("th") == page.inside("td") == page.inside("figcaption") == [HOSTILE]
    assert page.inside("text").count(HOSTILE) == 4


def test_names_in_any_script_are_kept():
    assert {"日本", "ελ"} <= set(texts(confusion_matrix(np.eye(2, dtype=int), ["日本", "ελ"])))


def test_a_page_has_a_contents_list_that_leads_to_its_sections():
    page = Page(html_page("Report", [("One", "<p>first</p>"), ("One", "<p>second</p>")]))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert links == [f"#{name}" for name in sections]
    assert len(set(sections)) == 2
    assert page.inside("p") == ["first", "second"]
    assert Page(html_page("Empty", [])).inside("h1") == ["Empty"]


def test_a_page_fetches_nothing():
    images = np.zeros((1, 4, 4, 3), np.uint8)
    text = html_page(
        "t", [("f", part) for part in [*figures(), image_grid(images, ["a"], columns=1)]]
    )
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "http" not in without_namespaces
    for tag, attributes in Page(text).tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_ids_of_different_figures_never_meet_and_every_reference_is_met():
    ids = [set(re.findall(r' id="([^"]*)"', svg)) for svg in figures()]
    assert len(set.union(*ids)) == sum(map(len, ids))
    for svg, own in zip(figures(), ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', svg)) == own


def test_figures_change_no_style_and_follow_the_pages_colour():
    before = dict(matplotlib.rcParams)
    for svg in figures():
        assert "<style" not in svg
        assert "#010203" not in svg
        assert "#000000" not in svg
        assert "currentColor" in svg
        assert svg.startswith("<svg ")
        assert svg.endswith("</svg>")
    assert dict(matplotlib.rcParams) == before


def test_figures_are_the_same_in_every_process():
    code = (
        "import numpy as np, sys; from scenax.common.visualize import *; "
        "sys.stdout.write(curves({'a': (np.arange(5), np.arange(5))}, ylabel='loss') + "
        "confusion_matrix(np.eye(3, dtype=int), ['a', 'b', 'c']))"
    )
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    )
    here = curves({"a": (STEPS, STEPS)}, ylabel="loss") + confusion_matrix(
        np.eye(3, dtype=int), ["a", "b", "c"]
    )
    assert first == second == here


def test_pages_and_tables_need_no_matplotlib_and_pictures_no_pyplot():
    code = """
import sys
import numpy as np
from scenax.common.visualize import curves, html_page, table
html_page("t", [("a", table([], []))])
assert "matplotlib" not in sys.modules
curves({"a": (np.arange(5), np.arange(5))}, ylabel="loss")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
