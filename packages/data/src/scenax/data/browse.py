"""Pages of examples as a model sees them: after decoding, augmentation and normalization.

What is drawn follows from what a batch holds, as ``transforms.targets`` describes it: images, clips
and sounds; classes, boxes, masks, segments and texts. Statistics are of what the pipeline delivers,
too. Letters: h w image, c channels, m places for objects, k classes.
"""

import collections
import html
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from scenax.common.contracts import DatasetInfo
from scenax.common.visualize import html_page, table
from scenax.data import _drawing, _labels
from scenax.data.examples import Example
from scenax.data.pipeline import PipelineDataset

_COUNTED = 2000
_SECONDS = 10


def browse_page(
    dataset: PipelineDataset,
    *,
    title: str,
    examples: int = 24,
    split: Literal["train", "validation", "test"] = "train",
    options: Mapping[str, Any] | None = None,
    sample_rate: int = 16_000,
) -> str:
    """Returns one HTML page with the first examples of a split and statistics of up to 2,000.

    The page needs nothing but itself and runs no script. The same dataset gives the same page.

    Args:
      dataset: what to look at, best of one host, and with ``unreadable="skip"``.
      title: the heading.
      examples: how many are shown, in the order of the stream; of validation and test at most all.
      split: which split.
      options: what the dataset was made with, for the summary.
      sample_rate: of sounds, in samples per second, which no batch says.

    Raises:
      ValueError: if there is no such split, or a number is less than 1.
    """
    info = dataset.meta_data
    if split not in info.num_examples:
        raise ValueError(f"{info.name} has no {split} split, only {', '.join(info.num_examples)}.")
    for name, number in (("examples", examples), ("sample_rate", sample_rate)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}.")
    available = info.num_examples[split]
    counted = min(_COUNTED, available)
    sample = _Sample(info, counted)
    shown: list[tuple[Example, bool]] = []
    wanted = examples if split == "train" else min(examples, available)
    for example, counts in _read(dataset, split, max(wanted, counted)):
        if len(shown) < wanted:
            shown.append((example, counts))
        sample.add(example, counts=counts)

    contents = table(list(_contents("", shown[0][0])), ["name", "shape", "type"])
    tables = [("An example", contents), ("Values of the inputs", sample.values())]
    sections = [("Summary", _summary(info, split, options or {}, tables))]
    if problems := str(dataset.report):
        sections.append(("Problems", f"<pre>{html.escape(problems)}</pre>"))
    sections.append(("Labels", sample.statistics(split)))
    sections.append(("Examples", _gallery(shown, sample.view, info, sample_rate)))
    page = html_page(title, sections)
    return page.replace("</style>", f"{_drawing.STYLE}</style>", 1)


def _read(dataset: PipelineDataset, split: str, count: int) -> Iterator[tuple[Example, bool]]:
    """The first examples of a split's stream, and whether they count."""
    batches = {
        "train": lambda: dataset.train_iter,
        "validation": lambda: dataset.valid_iter,
        "test": lambda: dataset.test_iter,
    }[split]()
    stream = (
        (_row(batch, index), bool(counts))
        for batch in batches
        for index, counts in enumerate(batch["batch_mask"])
    )
    first = itertools.islice(stream, count)
    # A bar on a terminal only, and only if it takes long.
    yield from tqdm(first, "reading", count, leave=False, disable=None, delay=1, unit=" examples")


def _row(value: Any, index: int) -> Any:
    if isinstance(value, Mapping):
        return {name: _row(item, index) for name, item in value.items()}
    return np.asarray(value[index])


def _parts(inputs: Any) -> dict[str, np.ndarray]:
    """The arrays of ``inputs`` that can be looked at, by name."""
    parts = inputs if isinstance(inputs, Mapping) else {"inputs": inputs}
    return {name: part for name, part in parts.items() if np.ndim(part)}


def _frames(part: np.ndarray) -> np.ndarray:
    """A picture or a clip as ``[t, h, w, c]``; of several clips one after the other."""
    if part.ndim == 2:
        part = part[..., None]
    return part.reshape(-1, *part.shape[-3:])


class _Sample:
    """Statistics of the first examples of a split."""

    def __init__(self, info: DatasetInfo, size: int) -> None:
        self.view: _labels.View = _labels.Nothing()
        self._info = info
        self._size = size
        self._seen = 0
        self._left_out = 0
        self._channels: dict[str, _Channels] = collections.defaultdict(_Channels)

    def add(self, example: Example, *, counts: bool) -> None:
        if self._seen == 0:
            self.view = _labels.view_of(example, self._info)
        if self._seen == self._size:
            return
        self._seen += 1
        if not counts:
            self._left_out += 1
            return
        self.view.count(example)
        for name, part in _parts(example["inputs"]).items():
            self._channels[name].add(part)

    def values(self) -> str:
        """A table of the inputs' channels."""
        rows = [row for name, channels in self._channels.items() for row in channels.rows(name)]
        return table(rows, ["", "mean", "std. dev.", "least", "largest"])

    def statistics(self, split: str) -> str:
        """Charts of the labels, and of how many examples they are."""
        whole = "all" if self._seen == self._info.num_examples[split] else "the first"
        note = f"Of {whole} {self._seen:,} examples of {split}, as the pipeline delivers them."
        if self._left_out:
            note += (
                f" {self._left_out:,} of them were unreadable or do not count, and are left out."
            )
        return f'{_drawing.panels(self.view.panels())}<p class="note">{note}</p>'


class _Channels:
    """Moments of one array of the inputs, by channel."""

    def __init__(self) -> None:
        self._number = 0
        self._sum: Any = 0.0
        self._squares: Any = 0.0
        self._least: Any = np.inf
        self._largest: Any = -np.inf

    def add(self, part: np.ndarray) -> None:
        values = part.reshape(-1, part.shape[-1] if part.ndim > 2 else 1)
        self._number += len(values)
        self._sum += values.sum(0, dtype=np.float64)
        self._squares += np.square(values, dtype=np.float64).sum(0)
        self._least = np.minimum(self._least, values.min(0))
        self._largest = np.maximum(self._largest, values.max(0))

    def rows(self, name: str) -> list[list[Any]]:
        mean = self._sum / self._number
        with np.errstate(invalid="ignore"):  # Of infinite inputs.
            deviation = np.sqrt(np.maximum(self._squares / self._number - mean**2, 0))
        moments = np.stack([mean, deviation, self._least, self._largest], axis=1)
        kinds = {1: [""], 3: [", red", ", green", ", blue"]}
        named = kinds.get(len(moments), [f", channel {c}" for c in range(len(moments))])
        return [[name + kind, *row] for kind, row in zip(named, moments.tolist(), strict=True)]


def _summary(
    info: DatasetInfo,
    split: str,
    options: Mapping[str, Any],
    tables: Sequence[tuple[str, str]],
) -> str:
    tiles = [("dataset", info.name), ("shown", split)]
    tiles += [(name, f"{number:,} examples") for name, number in info.num_examples.items()]
    tiles += [("inputs", f"{_shape(info.input_shape)}, {info.input_dtype}")]
    tiles += [("classes", f"{info.num_classes:,}")]
    tiles += [(name, str(value)) for name, value in options.items()]
    return _drawing.facts(tiles) + _drawing.panels(tables)


def _contents(prefix: str, value: Any) -> Iterator[tuple[str, str, str]]:
    """Name, shape and type of every array, those in mappings by dotted names."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _contents(f"{prefix}.{name}" if prefix else name, item)
    else:
        yield prefix, _shape(value.shape), str(value.dtype)


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "one value"


def _gallery(
    shown: Sequence[tuple[Example, bool]], view: _labels.View, info: DatasetInfo, sample_rate: int
) -> str:
    """The examples, what can be hidden of them, and how to read colours and values."""
    real = [example for example, counts in shown if counts]
    arrays: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    for example in real:
        for name, part in _parts(example["inputs"]).items():
            arrays[name].append(part)
    ranges = {name: _value_range(parts) for name, parts in arrays.items() if parts[0].ndim > 1}
    notes = [
        f"{name}: {low:.3g} is black, {high:.3g} is white." for name, (low, high) in ranges.items()
    ]
    if len(ranges) < len(arrays):
        notes.append(f"Sounds: {sample_rate:,} samples a second, {_SECONDS} seconds at most.")
    toggles = "".join(
        f'<input type="checkbox" class="toggle" id="show-{layer}" checked>'
        f'<label for="show-{layer}">{layer}</label>'
        for layer in view.layers
    )
    legend = ""
    if view.layers:
        numbers = sorted({number for example in real for number in view.classes(example)})
        names = [_labels.class_name(info, number) for number in numbers]
        legend = _drawing.legend(names, [_drawing.class_color(number) for number in numbers])
    figures = "".join(
        _figure(index, example, view, ranges, sample_rate) if counts else _masked(index)
        for index, (example, counts) in enumerate(shown)
    )
    sides = [side for name in ranges for side in _frames(arrays[name][0]).shape[1:3]]
    size = " small" if max(sides, default=0) <= _drawing.EXACT_SIDE else ""
    return (
        f'{toggles}{legend}<div class="examples{size}">{figures}</div>'
        f'<p class="note">{html.escape(" ".join(notes))}</p>'
    )


def _value_range(parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """The values that are black and white: those that were 0 and 255, as far as one can tell."""
    parts = [_finite(part) for part in parts]
    low, high = min(float(p.min()) for p in parts), max(float(p.max()) for p in parts)
    if parts[0].dtype == np.uint8 or (low >= 0 and 16 < high <= 255):
        return 0.0, 255.0
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    # Noise that erases a part of an image lies outside, and must not make the rest pale.
    inside = sum(int(np.count_nonzero(np.abs(p) <= 1)) for p in parts)
    if inside >= 0.95 * sum(p.size for p in parts):
        return -1.0, 1.0
    return low, max(high, low + 1e-6)


def _finite(part: np.ndarray) -> np.ndarray:
    return np.nan_to_num(part, posinf=0, neginf=0)


def _pixels(part: np.ndarray, low: float, high: float) -> np.ndarray:
    shares = (_finite(part).astype(np.float64) - low) / (high - low)
    return np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)


def _figure(
    index: int,
    example: Example,
    view: _labels.View,
    ranges: Mapping[str, tuple[float, float]],
    sample_rate: int,
) -> str:
    caption = view.caption(example)
    parts = _parts(example["inputs"])
    pictures = [name for name, part in parts.items() if part.ndim > 1]
    drawn = ""
    for name in pictures:
        frames = _frames(parts[name])
        if not view.layers and frames.shape[-1] == 1 and frames.shape[1] > 2 * frames.shape[2]:
            # A spectrogram, by its shape: time goes to the right, and high bands are above.
            frames = np.rot90(frames, axes=(1, 2))
        height, width = frames.shape[1:3]
        uri = _drawing.image_uri(_pixels(frames, *ranges[name]))
        alt = html.escape(f"{name} of example {index}: {caption}")
        # A label is about the first picture.
        overlay = view.overlay(example, (width, height)) if name == pictures[0] else ""
        drawn += (
            f'<div class="frame"><img src="{uri}" alt="{alt}" width="{width}" height="{height}">'
            f"{overlay}</div>"
        )
    for name in [name for name in parts if name not in pictures]:
        sound = _finite(parts[name]).astype(np.float64)
        drawn += _drawing.sound(sound, sample_rate, seconds=_SECONDS)
    return (
        f'<figure class="example">{drawn}<figcaption title="{html.escape(caption)}">'
        f'<span class="index">#{index}</span>{html.escape(caption)}</figcaption></figure>'
    )


def _masked(index: int) -> str:
    return (
        '<figure class="example masked"><div class="frame">unreadable or padding: '
        "it does not count</div><figcaption>"
        f'<span class="index">#{index}</span>batch_mask is 0</figcaption></figure>'
    )
