"""Features of a split, and of the three that an evaluation needs.

Letters in shapes: b batch, n examples, d width of the features, k classes.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32, Int32

from scenax.common.contracts import Batch, Batches, PyTree
from scenax.train import sharding
from scenax.train.progress import Progress

FeatureStep: TypeAlias = Callable[[PyTree, Batch], tuple[jax.Array, jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Features:
    """What a model makes of a split, and what the examples are.

    Raises:
      ValueError: if there are none, they are no vectors, or not all of them are finite.
    """

    features: Float32[np.ndarray, "n d"]
    labels: Int32[np.ndarray, " n"]
    """Class ids."""

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.labels.shape != self.features.shape[:1]:
            raise ValueError(
                "Features are [n, d] with labels [n], got "
                f"{self.features.shape} and {self.labels.shape}."
            )
        if not len(self.labels):
            raise ValueError("The split has no example that counts.")
        broken = int((~np.isfinite(self.features).all(axis=1)).sum())
        if broken:
            raise ValueError(
                f"The features of {broken} of {len(self)} examples are NaN or infinite. Look at "
                "the weights, or compute in float32."
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Splits:
    """Features to fit on, to choose on, and to report.

    Raises:
      ValueError: if their widths differ, or a label is none of the classes.
    """

    train: Features
    validation: Features
    test: Features
    num_classes: int

    def __post_init__(self) -> None:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        widths = {name: part.features.shape[1] for name, part in parts.items()}
        if len(set(widths.values())) > 1:
            raise ValueError(f"The splits need features of one width, got {widths}.")
        for name, part in parts.items():
            low, high = part.labels.min(), part.labels.max()
            if low < 0 or high >= self.num_classes:
                raise ValueError(
                    f"Labels of {self.num_classes} classes are from 0 to {self.num_classes - 1}; "
                    f"the {name} split has some from {low} to {high}."
                )


def make_feature_step(apply: Callable[[PyTree, Batch], jax.Array], mesh: Mesh) -> FeatureStep:
    """Returns the compiled function from variables and a batch to features, labels and mask.

    Args:
      apply: from variables and a batch to features ``[b, d]``, as in evaluation.
      mesh: over which batches are split. Every host gets the whole result.
    """

    def feature_step(variables: PyTree, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        features = apply(variables, batch)
        if getattr(features, "ndim", 0) != 2:
            raise ValueError(
                f"apply has to return features [b, d], got {jax.tree.map(jnp.shape, features)}. "
                "Pool them."
            )
        return features.astype(jnp.float32), batch["label"], batch["batch_mask"]

    return jax.jit(feature_step, out_shardings=sharding.replicated(mesh))


def extract_features(
    feature_step: FeatureStep,
    variables: PyTree,
    batches: Batches,
    mesh: Mesh,
    *,
    progress: Progress | None = None,
) -> Features:
    """Returns the features of a split's examples, without padding, in the order of the batches.

    Args:
      feature_step: from ``make_feature_step``.
      variables: what it is given besides a batch.
      batches: with ``label`` as class ids ``[b]`` or one-hot ``[b, k]``.
      mesh: that of the step.
      progress: is told of every batch.

    Raises:
      ValueError: if an example has not exactly one label, or features are not finite.
    """
    parts: list[Any] = []
    began, seen = time.monotonic(), 0
    for number, batch in enumerate(batches, start=1):
        ids = class_ids(batch["label"], batch["batch_mask"])
        on_devices = sharding.put_batch({**batch, "label": ids}, mesh)
        parts.append(feature_step(variables, on_devices))
        if number > 1:  # Fetched one behind, so that the devices have work meanwhile.
            parts[-2] = jax.device_get(parts[-2])
        seen += len(ids) * jax.process_count()
        if progress is not None:
            progress.update(number, {}, seen / (time.monotonic() - began))
    if not parts:
        raise ValueError("There are no features: the split has no batches.")
    parts[-1] = jax.device_get(parts[-1])
    features, labels, mask = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Features(features[mask > 0], labels[mask > 0])


def class_ids(label: Any, mask: np.ndarray) -> Int32[np.ndarray, " b"]:
    """Returns a batch's labels as class ids; those of padding mean nothing.

    >>> class_ids(np.array([[0, 1], [1, 0]], np.float32), np.ones(2, np.float32))
    array([1, 0], dtype=int32)

    Args:
      label: class ids ``[b]``, or one-hot ``[b, k]``.
      mask: 0 for padding, ``[b]``.

    Raises:
      ValueError: if an example has several labels, none, or what is no class.
    """
    if isinstance(label, Mapping):
        raise ValueError(f"Every example needs one class, and these have {', '.join(label)}.")
    label = np.asarray(label)
    if label.ndim == 1 and np.issubdtype(label.dtype, np.integer):
        return label.astype(np.int32)
    if label.ndim != 2:
        raise ValueError(
            "Labels have to be class ids [b] or one-hot [b, k], got "
            f"{label.dtype} {list(label.shape)}."
        )
    real = label[mask > 0]
    if not (((real == 0) | (real == 1)).all() and (real.sum(axis=1) == 1).all()):
        raise ValueError(
            "Every example needs one class, and some have several, none or a mixture: labels are "
            "vectors that are not one-hot. Choose a dataset with one label for each example."
        )
    return label.argmax(axis=1).astype(np.int32)
