import base64
import html.parser
import io
import itertools
import re
import wave

import numpy as np
import pytest
from PIL import Image

from scenax import data
from scenax.common.contracts import DatasetInfo
from scenax.data import pipeline
from scenax.data.browse import browse_page
from scenax.data.examples import ArraySource
from scenax.data.reports import UnreadableError

VOID = {"br", "i", "img", "input", "meta", "rect", "polygon"}


class Element:
    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children = []

    def all(self, tag, kind=""):
        """Elements below with a tag and a class, in the order of the page."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                classes = (child.attributes.get("class") or "").split()
                if child.tag == tag and (not kind or kind in classes):
                    found.append(child)
                found += child.all(tag, kind)
        return found

    @property
    def text(self):
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    def __getitem__(self, name):
        return self.attributes[name]


class Parser(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.root = self.at = Element("", {}, None)
        self.feed(page)
        assert self.at is self.root, f"<{self.at.tag}> is not closed"

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs), self.at)
        self.at.children.append(element)
        if tag not in VOID - {"i", "rect"}:
            self.at = element

    def handle_startendtag(self, tag, attrs):
        self.at.children.append(Element(tag, dict(attrs), self.at))

    def handle_endtag(self, tag):
        assert tag == self.at.tag, f"</{tag}> closes <{self.at.tag}>"
        self.at = self.at.parent

    def handle_data(self, text):
        self.at.children.append(text)


def parse(page):
    return Parser(page).root


def content(uri, kind):
    start = f"data:{kind};base64,"
    assert uri.startswith(start)
    return io.BytesIO(base64.b64decode(uri.removeprefix(start)))


def picture(element, kind="image/png"):
    return Image.open(content(element["src"], kind))


def figures(page):
    return parse(page).all("figure", "example")


def captions(page):
    return [figure.all("figcaption")[0].text for figure in figures(page)]


def panel(page, title):
    (found,) = [p for p in parse(page).all("div", "panel") if p.all("h3")[0].text == title]
    return found


def bars(page, title):
    """Names and what is written beside them."""
    (chart,) = panel(page, title).all("dl", "bars")
    names = [name.text for name in chart.all("dt")]
    return dict(zip(names, [text.text for text in chart.all("dd")[1::2]], strict=True))


def columns(page, title):
    items = panel(page, title).all("li")
    return {item.all("span")[0].text: int(item.all("b")[0].text) for item in items}


def rgb(color):
    return tuple(bytes.fromhex(color.removeprefix("#")))


def legend(page):
    """Colours by class names."""
    items = parse(page).all("ul", "legend")[0].all("li")
    styles = [item.all("i")[0]["style"] for item in items]
    return {
        item.text: rgb(style.removeprefix("background:"))
        for item, style in zip(items, styles, strict=True)
    }


def make(arrays, *, split="test", names=("cat", "dog"), targets="class_id", **options):
    """A dataset of rows of arrays; names such as ``label.boxes`` become nested."""

    def nest(example, rng):
        nested = {}
        for name, value in example.items():
            *parents, last = name.split(".")
            node = nested
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = value
        return nested

    count = len(next(iter(arrays.values())))
    shape = next(iter(arrays.values())).shape[1:]
    info = DatasetInfo("made", shape, "float32", len(names), names, {split: count}, targets)
    reading = pipeline.Reading(4, 4, unreadable="skip")
    source = options.pop("source", ArraySource)(arrays)
    return pipeline.PipelineDataset(reading, info, {split: source}, decode=nest, **options)


def page_of(arrays, *, split="test", examples=24, sample_rate=16_000, **options):
    dataset = make(arrays, split=split, **options)
    return browse_page(
        dataset, title="Made", split=split, examples=examples, sample_rate=sample_rate
    )


RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 5, 7, 3), np.uint8)
IMAGES = PIXELS.astype(np.float32) / np.float32(127.5) - 1
LABELS = np.array([0, 1, 1, 0, 1, 1], np.int32)


def test_every_example_is_a_figure_with_its_own_pixels():
    page = page_of({"inputs": IMAGES, "label": LABELS})
    shown = figures(page)
    assert len(shown) == 6  # And not the padding of the second batch of four.
    for figure, pixels in zip(shown, PIXELS, strict=True):
        (image,) = figure.all("img")
        np.testing.assert_array_equal(np.asarray(picture(image)), pixels)
        assert (image["width"], image["height"]) == ("7", "5")
    assert captions(page) == ["#0cat", "#1dog", "#2dog", "#3cat", "#4dog", "#5dog"]
    assert figures(page)[1].all("img")[0]["alt"] == "inputs of example 1: dog"


def test_a_training_stream_has_as_many_examples_as_asked_for():
    arrays = {"inputs": IMAGES, "label": LABELS}
    assert len(figures(page_of(arrays, split="train", examples=9))) == 9
    assert len(figures(page_of(arrays, split="train", examples=2))) == 2


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1 / 255, 0), (2 / 255, -1), (1, 0), (0.02, -2.1)],
    ids=["zero_to_one", "minus_one_to_one", "bytes", "mean_and_deviation"],
)
def test_pixels_are_those_before_normalization(scale, offset):
    grey = RNG.integers(0, 256, (4, 8, 9, 1), np.uint8)
    grey[0, 0, 0], grey[1, 1, 1] = 0, 255
    inputs = (grey * scale + offset).astype(np.float32)
    page = page_of({"inputs": inputs, "label": LABELS[:4]})
    for figure, pixels in zip(figures(page), grey, strict=True):
        np.testing.assert_array_equal(np.asarray(picture(figure.all("img")[0])), pixels[..., 0])


def test_erased_parts_do_not_make_other_images_pale():
    inputs = np.tile(IMAGES, (4, 1, 1, 1))
    inputs[0, 0, :4] = 3.5
    page = page_of({"inputs": inputs, "label": np.tile(LABELS, 4)})
    shown = np.asarray(picture(figures(page)[1].all("img")[0]))
    np.testing.assert_array_equal(shown, PIXELS[1])


def test_values_that_are_no_numbers_are_shown_and_said():
    inputs = IMAGES.copy()
    inputs[0, 0, 0, 0] = np.nan
    page = page_of({"inputs": inputs, "label": LABELS})
    assert panel(page, "Values of the inputs").all("td")[1].text == "nan"
    np.testing.assert_array_equal(np.asarray(picture(figures(page)[1].all("img")[0])), PIXELS[1])


def test_large_images_are_made_smaller():
    ramp = np.broadcast_to(np.linspace(-1, 1, 1024, dtype=np.float32)[:, None], (1, 600, 1024, 1))
    page = page_of({"inputs": ramp, "label": LABELS[:1]})
    image = picture(figures(page)[0].all("img")[0], "image/webp")
    assert image.size == (512, 300)
    assert len(page) < 100_000


def test_the_summary_has_what_there_is():
    dataset = make({"inputs": IMAGES, "label": LABELS})
    options = {"task": "<b>&"}
    page = parse(browse_page(dataset, title="A & B", split="test", options=options))
    (tiles,) = page.all("dl", "facts")
    names, values = ([e.text for e in tiles.all(tag)] for tag in ("dt", "dd"))
    assert dict(zip(names, values, strict=True)) == {
        "dataset": "made",
        "shown": "test",
        "test": "6 examples",
        "inputs": "5 x 7 x 3, float32",
        "classes": "2",
        "task": "<b>&",
    }
    assert page.all("h1")[0].text == "A & B"
    assert [h.text for h in page.all("h2")] == ["Summary", "Labels", "Examples"]


def test_channels_have_numpys_mean_and_deviation():
    page = page_of({"inputs": IMAGES, "label": LABELS})
    rows = panel(page, "Values of the inputs").all("tr")[1:]
    flat = IMAGES.astype(np.float64).reshape(-1, 3)
    wanted = np.stack([flat.mean(0), flat.std(0), flat.min(0), flat.max(0)], axis=1)
    for row, name, values in zip(rows, ("red", "green", "blue"), wanted, strict=True):
        cells = [cell.text for cell in row.all("td")]
        assert cells[0] == f"inputs, {name}"
        np.testing.assert_allclose([float(cell) for cell in cells[1:]], values, rtol=1e-3)


def test_class_counts_are_those_of_bincount():
    dataset = data.get_dataset("digits", batch_size=7, eval_batch_size=7)
    page = browse_page(dataset, title="digits", examples=3)
    batches = itertools.islice(dataset.train_iter, 180)
    labels = np.concatenate([batch["label"] for batch in batches])[:1255]
    counts = np.bincount(labels)
    assert bars(page, "Examples per class") == {
        str(digit): f"{count} ({count / 1255:.1%})" for digit, count in enumerate(counts)
    }
    assert "Of all 1,255 examples of train" in page


def test_no_more_than_2000_examples_are_counted():
    inputs, label = np.zeros((2100, 1, 1, 1), np.float32), np.arange(2100) // 2000
    page = page_of({"inputs": inputs, "label": label.astype(np.int32)}, examples=1)
    assert bars(page, "Examples per class") == {"cat": "2,000 (100.0%)", "dog": "0 (0.0%)"}
    assert "Of the first 2,000 examples of test" in page


def test_of_many_classes_the_most_frequent_have_bars():
    label = np.array([50, 50, 7, 50, 7, 59], np.int32)
    names = tuple(f"class {number}" for number in range(60))
    page = page_of({"inputs": IMAGES, "label": label}, names=names)
    shown = bars(page, "Examples per class")
    assert list(shown)[:4] == ["class 50", "class 7", "class 59", "class 0"]
    assert len(shown) == 40
    assert "Of the other 20, none has more than 0, and 20 have none." in page


def test_a_label_that_is_no_class_is_shown():
    page = page_of({"inputs": IMAGES, "label": LABELS + np.int32(1)})
    assert captions(page)[1] == "#12 (no class)"


def test_names_are_escaped():
    page = page_of({"inputs": IMAGES, "label": LABELS}, names=("<b>&", '"><script>'))
    assert captions(page)[:2] == ["#0<b>&", '#1"><script>']
    assert list(bars(page, "Examples per class")) == ["<b>&", '"><script>']
    assert figures(page)[1].all("figcaption")[0]["title"] == '"><script>'
    assert "<b>&" not in page
    assert "<script" not in page


def test_soft_labels_have_their_shares():
    label = np.array([[0.7, 0.3], [0, 1], [0.004, 0.996]], np.float32)
    page = page_of({"inputs": IMAGES[:3], "label": label}, targets="one_hot")
    assert captions(page) == ["#0cat 70%, dog 30%", "#1dog", "#2dog 100%"]
    assert bars(page, "Examples per class") == {"cat": "0.7 (23.5%)", "dog": "2.3 (76.5%)"}


def test_several_classes_are_listed():
    label = np.array([[1, 1], [0, 1], [0, 0]], np.float32)
    page = page_of({"inputs": IMAGES[:3], "label": label}, targets="multi_hot")
    assert captions(page) == ["#0cat, dog", "#1dog", "#2none"]
    assert bars(page, "Examples per class")["dog"] == "2 (66.7%)"


def detection(**more):
    """A picture of 8 x 16 with a dog, a crowd and a cat, one of padding, and one without any."""
    boxes = np.zeros((2, 4, 4), np.float32)
    boxes[0, :3] = [[0.25, 0.125, 0.75, 0.5], [0, 0, 1, 1], [0.9, 0, 1, 0.01]]
    return {
        "inputs": np.zeros((2, 16, 8, 3), np.float32),
        "label.boxes": boxes,
        "label.classes": np.array([[1, 1, 0, 0], [0, 0, 0, 0]], np.int32),
        "label.mask": np.array([[1, 0, 1, 0], [0, 0, 0, 0]], np.float32),
        "label.is_crowd": np.array([[0, 1, 0, 0], [0, 0, 0, 0]], bool),
    } | more


def test_boxes_are_drawn_where_they_are():
    page = page_of(detection())
    first, second = figures(page)
    (overlay,) = first.all("svg", "boxes")
    assert overlay["viewbox"] == "0 0 8 16"  # The parser's lower case.
    drawn = [
        [float(rect[side]) for side in ("x", "y", "width", "height")]
        for rect in overlay.all("rect")
    ]
    np.testing.assert_allclose(drawn, [[2, 2, 4, 6], [7.2, 0, 0.8, 0.16]], rtol=1e-5)
    colors = legend(page)
    strokes = [rgb(rect["stroke"]) for rect in overlay.all("rect")]
    assert strokes == [colors["dog"], colors["cat"]]
    assert [rect.text for rect in overlay.all("rect")] == ["dog, 4 x 6 pixels", "cat, 1 x 0 pixels"]
    assert [tag.text for tag in first.all("span", "tag")] == ["dog", "cat"]
    assert second.all("rect") == []
    assert captions(page) == ["#02 objects: dog, cat", "#1no objects"]
    assert [box["id"] for box in parse(page).all("input")] == ["show-boxes", "show-names"]


def test_objects_are_counted_by_class_image_and_size():
    page = page_of(detection())
    assert bars(page, "Objects per class") == {"cat": "1 (50.0%)", "dog": "1 (50.0%)"}
    assert columns(page, "Objects per image") == {"0": 1, "1": 0, "2": 1}
    sizes = columns(page, "Side of boxes, % of the image's")
    # 100 sqrt(0.5 * 0.375) = 43.3 and 100 sqrt(0.1 * 0.01) = 3.2.
    assert {label: count for label, count in sizes.items() if count} == {"2-4": 1, "32-64": 1}


def test_masks_have_the_colours_of_their_classes():
    masks = np.zeros((2, 4, 16, 8), bool)
    masks[0, 0, 2:8, 2:6] = masks[0, 1, 10:] = masks[0, 2, 0, 7] = True
    page = page_of(detection(**{"label.masks": masks}))
    (overlay,) = figures(page)[0].all("img", "masks")
    pixels = np.asarray(picture(overlay))
    colors = legend(page)
    np.testing.assert_array_equal(pixels[..., 3] > 0, masks[0, 0] | masks[0, 2])
    assert (pixels[3, 3, :3] == colors["dog"]).all()
    assert (pixels[0, 7, :3] == colors["cat"]).all()


def test_pixels_have_the_colours_of_their_classes():
    label = np.array([[[0, 1], [1, 1]]], np.int32).repeat(4, 1).repeat(4, 2)
    weights = np.ones(label.shape, np.float32)
    weights[0, 4:, :4] = 0
    inputs = np.zeros((1, 8, 8, 3), np.float32)
    page = page_of({"inputs": inputs, "label": label, "label_weights": weights})
    pixels = np.asarray(picture(figures(page)[0].all("img", "classes")[0]))
    colors = legend(page)
    assert (pixels[:4, :4, :3] == colors["cat"]).all()
    assert (pixels[:, 4:, :3] == colors["dog"]).all()
    ignored = pixels[4:, :4].reshape(-1, 4)
    assert {tuple(color) for color in ignored.tolist()} == {(0, 0, 0, 0), (128, 128, 128, 230)}
    assert bars(page, "Pixels per class") == {"cat": "33.3%", "dog": "66.7%"}
    assert "25.0% of all pixels are ignored" in page
    assert captions(page) == ["#0cat, dog"]


def test_segments_have_their_colours_and_names():
    segments = np.zeros((1, 6, 9), np.int32)
    segments[0, :, :3], segments[0, :, 3:6], segments[0, :5, 6:] = 1, 2, 3
    classes = np.array([[1, 1, 0, -1]], np.int32)
    inputs = np.zeros((1, 6, 9, 3), np.float32)
    page = page_of({"inputs": inputs, "label.segments": segments, "label.classes": classes})
    (figure,) = figures(page)
    pixels = np.asarray(picture(figure.all("img", "segments")[0]))
    colors = legend(page)
    assert (pixels[:, :2, :3] == colors["dog"]).all()
    assert (pixels[:, 2] == (255, 255, 255, 200)).all()  # Between two dogs.
    assert (pixels[:, 3:6, :3] == colors["dog"]).all()
    assert (pixels[:5, 6:, :3] == colors["cat"]).all()
    tags = figure.all("span", "tag")
    assert [tag.text for tag in tags] == ["dog", "dog", "cat"]
    places = [re.findall(r"[\d.]+", tag["style"]) for tag in tags]
    for (x, y), segment in zip(np.array(places, float) / 100, (1, 2, 3), strict=True):
        assert segments[0, int(y * 6), int(x * 9)] == segment
    assert bars(page, "Segments per class") == {"cat": "1 (33.3%)", "dog": "2 (66.7%)"}
    assert bars(page, "Pixels per class") == {"cat": "29.4%", "dog": "70.6%"}
    assert columns(page, "Segments per image") == {"3": 1}


@pytest.mark.parametrize("channels", [1, 3])
def test_clips_are_animated(channels):
    frames = RNG.integers(0, 256, (2, 5, 12, 10, channels), np.uint8)
    inputs = frames.astype(np.float32) / np.float32(127.5) - 1
    page = page_of({"inputs": inputs, "label": LABELS[:2]})
    for figure, clip in zip(figures(page), frames, strict=True):
        animation = picture(figure.all("img")[0])
        assert animation.n_frames == 5
        assert animation.info["loop"] == 0  # Without end.
        mode = {1: "L", 3: "RGB"}[channels]
        for number, pixels in enumerate(clip):
            animation.seek(number)
            np.testing.assert_array_equal(
                np.asarray(animation.convert(mode)).reshape(pixels.shape), pixels
            )


def test_clips_of_several_views_are_played_one_after_the_other():
    frames = RNG.integers(0, 256, (1, 2, 3, 6, 5, 1), np.uint8)
    page = page_of({"inputs": frames / np.float32(127.5) - 1, "label": LABELS[:1]})
    animation = picture(figures(page)[0].all("img")[0])
    assert animation.n_frames == 6
    animation.seek(4)
    np.testing.assert_array_equal(np.asarray(animation), frames[0, 1, 1, ..., 0])


def test_large_clips_are_made_smaller():
    ramp = np.linspace(-1, 1, 400, dtype=np.float32)[:, None, None]
    clip = np.stack([np.roll(ramp, 40 * step) for step in range(3)]).repeat(400, 2)[None]
    page = page_of({"inputs": clip, "label": LABELS[:1]})
    animation = picture(figures(page)[0].all("img")[0], "image/webp")
    assert (animation.n_frames, animation.size) == (3, (256, 256))


def test_time_goes_to_the_right_in_spectrograms():
    spectrogram = RNG.integers(0, 256, (1, 40, 9, 1), np.uint8)
    page = page_of({"inputs": spectrogram / np.float32(127.5) - 1, "label": LABELS[:1]})
    shown = np.asarray(picture(figures(page)[0].all("img")[0]))
    np.testing.assert_array_equal(shown, np.flipud(spectrogram[0, ..., 0].T))


def test_sounds_can_be_heard_and_seen():
    sounds = RNG.uniform(-1, 1, (2, 3000)).astype(np.float32)
    inputs = {"inputs.waveform": sounds, "inputs.image": IMAGES[:2]}
    page = page_of(inputs | {"label": LABELS[:2]}, sample_rate=200)
    for figure, samples, pixels in zip(figures(page), sounds, PIXELS, strict=False):
        with wave.open(content(figure.all("audio")[0]["src"], "audio/wav")) as file:
            assert (file.getframerate(), file.getnchannels()) == (200, 1)
            heard = np.frombuffer(file.readframes(3000), "<i2")  # Ten seconds of fifteen.
        np.testing.assert_array_equal(heard, np.rint(samples[:2000].astype(float) * 32767))
        np.testing.assert_array_equal(np.asarray(picture(figure.all("img")[0])), pixels)
        outline = figure.all("polygon")[0]["points"].split()
        heights = np.array([point.split(",")[1] for point in outline], float)
        np.testing.assert_allclose(-heights.min(), samples.max(), rtol=1e-2)
        np.testing.assert_allclose(-heights.max(), samples.min(), rtol=1e-2)


def test_tokens_are_read():
    names = ("<pad>", "<end>", "a", "b", "c")
    label = np.array([[2, 3, 1, 0], [4, 1, 0, 0]], np.int32)
    weights = (label > 0).astype(np.float32)
    arrays = {"inputs": IMAGES[:2], "label": label, "label_weights": weights}
    page = page_of(arrays, names=names)
    assert captions(page) == ["#0ab", "#1c"]
    assert bars(page, "Tokens") == {"a": "1 (33.3%)", "b": "1 (33.3%)", "c": "1 (33.3%)"}
    assert columns(page, "Tokens per text") == {"1": 1, "2": 1}
    words = (*names[:2], "an", "old", "cat")
    assert captions(page_of(arrays, names=words))[0] == "#0an old"


def test_inputs_without_a_known_label_are_shown():
    assert captions(page_of({"inputs": IMAGES})) == [f"#{index}" for index in range(6)]
    lengths = np.array([0.5, 1.5], np.float32)
    assert captions(page_of({"inputs": IMAGES[:2], "label": lengths})) == ["#00.5", "#11.5"]


class Torn(ArraySource):
    """Of which the second example cannot be read."""

    def __getitem__(self, index, /):
        if index == 1:
            raise UnreadableError("torn & lost.jpg")
        return super().__getitem__(index)


def test_what_does_not_count_is_said_and_not_counted():
    page = page_of({"inputs": IMAGES, "label": LABELS}, source=Torn)
    shown = figures(page)
    assert [index for index, figure in enumerate(shown) if not figure.all("img")] == [1]
    assert "unreadable or padding" in shown[1].text
    assert bars(page, "Examples per class") == {"cat": "2 (40.0%)", "dog": "3 (60.0%)"}
    assert "1 of them were unreadable" in page
    assert parse(page).all("pre")[0].text == "unreadable, left out: 1 (torn & lost.jpg)"


def test_a_page_needs_nothing_else():
    dataset = data.get_dataset("digit_scenes", batch_size=8, task="instance")
    page = browse_page(dataset, title="digit_scenes", split="validation")
    assert len(page) < 1_000_000
    assert "http" not in page
    assert "url(" not in page
    assert "<script" not in page
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', page))
    assert len(figures(page)) == 24
    again = data.get_dataset("digit_scenes", batch_size=32, num_threads=1, task="instance")
    assert browse_page(again, title="digit_scenes", split="validation") == page


def test_boxes_of_scenes_are_those_of_the_batch():
    options = {"batch_size": 8, "eval_batch_size": 8}
    dataset = data.get_dataset("digit_scenes", **options)
    page = browse_page(dataset, title="digit_scenes", examples=8, split="test")
    batch = next(iter(dataset.test_iter))
    for index, figure in enumerate(figures(page)):
        real = batch["label"]["mask"][index] > 0
        x0, y0, x1, y1 = (64 * batch["label"]["boxes"][index][real]).T
        drawn = [
            [float(rect[side]) for side in ("x", "y", "width", "height")]
            for rect in figure.all("rect")
        ]
        np.testing.assert_array_equal(drawn, np.stack([x0, y0, x1 - x0, y1 - y0], axis=1))


def test_what_cannot_be_shown_is_said():
    dataset = make({"inputs": IMAGES, "label": LABELS})
    with pytest.raises(ValueError, match="made has no train split, only test"):
        browse_page(dataset, title="Made")
    with pytest.raises(ValueError, match="examples must be at least 1, got 0"):
        browse_page(dataset, title="Made", split="test", examples=0)
    with pytest.raises(ValueError, match="sample_rate must be at least 1, got 0"):
        browse_page(dataset, title="Made", split="test", sample_rate=0)
