"""What makes an example's annotations the ``label`` that a task's model expects.

Letters: n objects of an image, m places for them, k classes, h w image, l tokens.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from scenax.data.examples import Example
from scenax.data.transforms.geometry import image_size, keep_objects


@dataclasses.dataclass(frozen=True)
class Keep:
    """Keeps what a batch shall hold, by name, and drops the rest."""

    names: Sequence[str] = ("inputs", "label")

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the named parts of the example."""
        return {name: example[name] for name in self.names}


@dataclasses.dataclass(frozen=True)
class OneHot:
    """Makes the class id ``label`` float32 ``[k]``; ``smoothing`` is shared among all classes."""

    num_classes: int
    smoothing: float = 0.0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with a one-hot ``label``."""
        label = np.full(self.num_classes, self.smoothing / self.num_classes, np.float32)
        label[example["label"]] += np.float32(1 - self.smoothing)
        return example | {"label": label}


@dataclasses.dataclass(frozen=True)
class DetectionTargets:
    """Makes ``label`` of an image's objects, filled up to ``max_objects``.

    ``label`` has ``boxes`` float32 ``[m, 4]``, xyxy as shares of the image; ``classes`` int32
    ``[m]``; ``mask`` float32 ``[m]``, 1 for an object to find, 0 for padding and for crowds;
    ``is_crowd`` bool ``[m]``; and ``masks`` bool ``[m, h, w]`` if the example has masks. If there
    are more objects than places, the largest stay.
    """

    max_objects: int = 100

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``label`` in the place of its objects."""
        height, width = image_size(example)
        boxes = example["boxes"]
        if len(boxes) > self.max_objects:
            areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
            largest = np.argsort(-areas, kind="stable")[: self.max_objects]
            example = keep_objects(example, np.sort(largest))
        crowd = example.get("is_crowd", np.zeros(len(example["boxes"]), bool))
        sides = np.array([width, height] * 2, np.float32)
        label = {
            "boxes": self._filled((example["boxes"] / sides).astype(np.float32)),
            "classes": self._filled(example["classes"].astype(np.int32)),
            "mask": self._filled((~crowd).astype(np.float32)),
            "is_crowd": self._filled(crowd),
        }
        if "masks" in example:
            label["masks"] = self._filled(example["masks"])
        return example | {"label": label}

    def _filled(self, rows: np.ndarray) -> np.ndarray:
        filled = np.zeros((self.max_objects, *rows.shape[1:]), rows.dtype)
        filled[: len(rows)] = rows
        return filled


@dataclasses.dataclass(frozen=True)
class SegmentationTargets:
    """Makes ``label`` int32 and ``label_weights`` float32 ``[h, w]`` of ``segmentation``.

    Pixels of the class ``ignore`` have weight 0 and class 0.
    """

    ignore: int = 255

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``label`` and ``label_weights``."""
        classes = example["segmentation"].astype(np.int32)
        counts = classes != self.ignore
        label = np.where(counts, classes, np.int32(0))
        return example | {"label": label, "label_weights": counts.astype(np.float32)}


@dataclasses.dataclass(frozen=True)
class PanopticTargets:
    """Makes ``label`` of ``segments``: their map, and their classes filled up to ``max_segments``.

    ``label`` has ``segments`` int32 ``[h, w]``, numbered from 1 with 0 for no segment, and
    ``classes`` int32 ``[max_segments]``, of segment ``i + 1`` at ``i`` and -1 where there is none.
    """

    max_segments: int = 100

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``label``.

        Raises:
          ValueError: if there are more segments than places.
        """
        # A crop may have cut segments away.
        shown = np.isin(example["segment_ids"], example["segments"])
        ids, classes = example["segment_ids"][shown], example["segment_classes"][shown]
        if len(ids) > self.max_segments:
            raise ValueError(f"{len(ids)} segments need max_segments={len(ids)} at least.")
        segments = np.zeros(example["segments"].shape, np.int32)
        for number, segment in enumerate(ids, start=1):
            segments[example["segments"] == segment] = number
        filled = np.full(self.max_segments, -1, np.int32)
        filled[: len(ids)] = classes
        return example | {"label": {"segments": segments, "classes": filled}}


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Makes ``label`` of ``text``, token ids int32 ``[l]``, and ``label_weights`` float32 ``[l]``.

    ``vocabulary`` lists the tokens, characters or words, by id: 0 is padding and 1 the end,
    whatever they are called. ``separator`` divides a text into tokens, any number of them between
    two; every character is one without it. A text that is longer than ``length - 1`` tokens is cut
    off.
    """

    vocabulary: Sequence[str]
    length: int
    separator: str = ""

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """Returns the example with ``label`` and ``label_weights``.

        Raises:
          ValueError: if a token is not in the vocabulary.
        """
        text = example["text"]
        # An empty text has no tokens, and nothing is between two separators.
        tokens = [t for t in text.split(self.separator) if t] if self.separator else list(text)
        ids = {token: number for number, token in enumerate(self.vocabulary) if number > 1}
        unknown = [token for token in tokens if token not in ids]
        if unknown:
            raise ValueError(
                f"{unknown[0]!r} in {text!r} is not in the vocabulary of {len(ids)} tokens."
            )
        label = np.zeros(self.length, np.int32)
        written = [*(ids[token] for token in tokens[: self.length - 1]), 1]
        label[: len(written)] = written
        weights = np.arange(self.length) < len(written)
        return example | {"label": label, "label_weights": weights.astype(np.float32)}
