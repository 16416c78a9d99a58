"""The contracts between data, models and training.

Data are frozen dataclasses, behaviour is a protocol. Nobody inherits from a protocol: the type
checker proves that a class fits. Letters in shapes: b batch.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray
"""An array on the host or on a device."""

PyTree: TypeAlias = Any
"""A nest of dictionaries, tuples and dataclasses with arrays as leaves."""

Batch: TypeAlias = Mapping[str, Any]
"""A mapping from name to array, every array with the batch as its first axis.

Standard keys are ``inputs`` ``[b, ...]``, ``label``, and ``batch_mask`` ``[b]``, float32, which is
1 for a real example and 0 for the padding of an incomplete last batch. Arrays are on the host on
the data side and on devices after that.
"""

MetricSums: TypeAlias = Mapping[str, tuple[Any, Any]]
"""``{name: (sum, normalizer)}``, two scalars, or two vectors with one entry for each class.

The mean over a split is the quotient of the two totals, exact whatever the padding, the number of
devices or of hosts; of vectors, the mean over the quotients of those classes that the split has,
whose normalizer is not 0: intersections over unions make a mean IoU. Only whoever reports divides.
"""

MetricsFn: TypeAlias = Callable[[PyTree, Batch], MetricSums]
"""From a model's outputs and the batch to sums."""

Split: TypeAlias = Literal["train", "validation", "test"]

Targets: TypeAlias = Literal["class_id", "one_hot", "multi_hot"]
"""How ``label`` is written: an integer, or a vector over the classes.

In ``one_hot`` it sums to 1 (mixed labels do so too); in ``multi_hot`` it has any number of ones.
"""


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a model needs to know of a dataset (the ``meta_data`` of the Scenic paper)."""

    name: str
    input_shape: tuple[int, ...]
    """Shape of one example's ``inputs``, without the batch: ``(height, width, channels)``."""
    input_dtype: str
    """numpy name of the dtype of ``inputs`` as the pipeline delivers them."""
    num_classes: int
    label_names: tuple[str, ...]
    num_examples: Mapping[str, int]
    """Examples per split over all hosts, by the split's name."""
    targets: Targets = "class_id"


@runtime_checkable
class BatchIterator(Protocol):
    """An endless iterator over training batches whose position can be saved and restored."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch: ...

    def get_state(self) -> dict[str, Any]:
        """Returns the position as plain data that JSON can hold."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a position that ``get_state`` returned, exactly."""
        ...


@runtime_checkable
class Batches(Protocol):
    """One split in a fixed order; every ``iter()`` starts from its beginning."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int:
        """Returns the number of batches."""
        ...


@runtime_checkable
class Dataset(Protocol):
    """Batches of every split, and what they hold."""

    @property
    def train_iter(self) -> BatchIterator:
        """A new training stream, from its beginning."""
        ...

    @property
    def valid_iter(self) -> Batches:
        """The validation split."""
        ...

    @property
    def test_iter(self) -> Batches:
        """The test split."""
        ...

    @property
    def meta_data(self) -> DatasetInfo:
        """What a model needs to know."""
        ...


@runtime_checkable
class Model(Protocol):
    """Architecture, loss and metrics, as the training step sees them.

    ``variables`` is a mapping with a ``"params"`` entry; whatever else it holds (running
    statistics, say) is state that the model updates itself.
    """

    def init(self, rng: jax.Array, batch: Batch) -> dict[str, PyTree]:
        """Returns fresh variables for batches of this shape."""
        ...

    def apply(
        self,
        variables: Mapping[str, PyTree],
        batch: Batch,
        *,
        train: bool,
        rngs: Mapping[str, jax.Array] | None = None,
    ) -> tuple[PyTree, dict[str, PyTree]]:
        """Returns the outputs, and the variables other than ``"params"`` after the call.

        In training ``rngs`` holds a key under ``"dropout"``, from which all noise comes.
        """
        ...

    def loss_fn(self, outputs: PyTree, batch: Batch, params: PyTree | None = None) -> jax.Array:
        """Returns the scalar to minimise, a mean over the batch's real examples."""
        ...

    def get_metrics_fn(self, split: Split) -> MetricsFn:
        """Returns the metrics of a split; among them ``loss``."""
        ...
