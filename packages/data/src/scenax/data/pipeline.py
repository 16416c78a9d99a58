"""From a source of examples to batches: the order is a function of the seed, nothing is dropped.

The training stream is the source, shuffled anew every epoch, without end. Example ``i`` of the
stream is a function of ``(seed, i)`` alone, its random transforms included; of every ``n`` hosts,
host ``h`` reads examples ``h, h + n, h + 2 n``... So the position is one number, the examples
consumed by all hosts, and it stays right when the batch size or the number of hosts changes.

Where a dataset mixes examples with one another (mixup), examples ``2 j`` and ``2 j + 1`` are mixed
before the stream is shared out, and hosts take turns by pairs: host ``h`` reads pairs
``h, h + n``... Pair ``j`` is a function of ``(seed, j)`` alone, and no example is decoded twice.
A host's part of a batch, and a position, is then a whole number of pairs.

Evaluation reads every example once, in the source's order. The last batch is padded with zeros
and marked in ``batch_mask``; every host yields the same number of batches.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import grain
import numpy as np

from scenax.common.contracts import Batch, DatasetInfo

# Threads, not processes: decoding and scipy release the interpreter, and nothing has to start.
_READ = grain.ReadOptions(num_threads=max(4, min(16, os.cpu_count() or 4)), prefetch_buffer_size=64)

Example = dict[str, Any]
"""One example: numpy arrays and scalars by name, as in a batch but without its first axis."""

RandomTransform = Callable[[Example, np.random.Generator], Example]
"""A transform that draws all its randomness from the generator it is given."""

PairTransform = Callable[[Example, Example, np.random.Generator], tuple[Example, Example]]
"""The same for two examples that are mixed with one another."""


@runtime_checkable
class Source(Protocol):
    """Examples by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class ArraySource:
    """Examples that are the rows of arrays in memory.

    >>> ArraySource({"inputs": np.eye(2), "label": np.arange(2)})[1]["label"]
    array(1)
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        """``arrays`` have the examples as their first axis.

        Raises:
          ValueError: if they disagree about how many there are.
        """
        counts = {name: len(array) for name, array in arrays.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"Every array needs one row per example, got rows {counts}.")
        self.arrays = dict(arrays)
        self._length = next(iter(counts.values()))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Example:
        return {name: np.asarray(array[index]) for name, array in self.arrays.items()}


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a dataset is read, whichever it is. Batch sizes are over all hosts together."""

    batch_size: int
    eval_batch_size: int
    seed: int = 0
    data_dir: str | None = None
    process_index: int = 0
    process_count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.process_index < self.process_count:
            raise ValueError(
                f"process_index must be at least 0 and below process_count={self.process_count}, "
                f"got {self.process_index}."
            )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be at least 0 and below 2**32, got {self.seed}.")
        for name in ("batch_size", "eval_batch_size"):
            size = getattr(self, name)
            if size < 1 or size % self.process_count:
                raise ValueError(
                    f"{name} counts the examples of all hosts, so it must be a positive multiple "
                    f"of the {self.process_count} host(s), got {size}."
                )


class TrainBatches:
    """The endless training stream, in batches; its position is saved and restored exactly."""

    def __init__(
        self, groups: grain.MapDataset, reading: Reading, *, examples_per_group: int = 1
    ) -> None:
        """``groups`` holds the examples of all hosts in the order of training, in sequences.

        Every sequence has ``examples_per_group`` of them, and they stay together on one host.

        Raises:
          ValueError: if the hosts' batches are not whole numbers of groups.
        """
        unit = reading.process_count * examples_per_group
        if reading.batch_size % unit:
            raise ValueError(
                f"Examples are mixed in groups of {examples_per_group} that stay on one of the "
                f"{reading.process_count} host(s), so batch_size must be a multiple of {unit}, "
                f"got {reading.batch_size}."
            )
        self._groups = groups
        self._reading = reading
        self._examples_per_group = examples_per_group
        self._consumed = 0
        self._batches = self._start()

    def _start(self) -> Iterator[Batch]:
        hosts = self._reading.process_count
        first = self._consumed // self._examples_per_group + self._reading.process_index
        local_groups = self._reading.batch_size // (hosts * self._examples_per_group)
        mine = self._groups[first::hosts].to_iter_dataset(_READ)
        return iter(mine.batch(local_groups, batch_fn=_stack_groups))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self._consumed += self._reading.batch_size
        return batch

    def get_state(self) -> dict[str, Any]:
        """Returns the position: the seed, and the examples consumed by all hosts."""
        return {"seed": self._reading.seed, "examples_consumed": self._consumed}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a position of ``get_state``, without reading what came before.

        Raises:
          ValueError: if the position is of a stream with another seed, hence another order, or
            divides a group of examples that are mixed with one another.
        """
        if state["seed"] != self._reading.seed:
            raise ValueError(
                f"The saved position is in a stream with seed {state['seed']}, and this one has "
                f"seed {self._reading.seed}. Give the dataset seed {state['seed']}."
            )
        if state["examples_consumed"] % self._examples_per_group:
            raise ValueError(
                f"The saved position, {state['examples_consumed']} examples, divides a group of "
                f"{self._examples_per_group} that are mixed with one another: it is from a run "
                "that mixed none. Go on without mixing, or from another position."
            )
        self._consumed = state["examples_consumed"]
        self._batches = self._start()


class EvalBatches:
    """One split in its own order; the last batch is padded and masked."""

    def __init__(
        self,
        source: Source,
        reading: Reading,
        transform: Callable[[Example], Example] | None = None,
    ) -> None:
        """``source`` holds the examples of all hosts, ``transform`` finishes each."""
        examples = grain.MapDataset.source(source)
        self._examples = examples if transform is None else examples.map(transform)
        self._reading = reading

    def __len__(self) -> int:
        return -(-len(self._examples) // self._reading.eval_batch_size)

    def __iter__(self) -> Iterator[Batch]:
        hosts = self._reading.process_count
        local_size = self._reading.eval_batch_size // hosts
        mine = self._examples[self._reading.process_index :: hosts]
        stream = iter(mine.to_iter_dataset(_READ))
        for _ in range(len(self)):
            found = [example for _, example in zip(range(local_size), stream, strict=False)]
            # A host can be out of examples while others have one left: it pads a whole batch.
            shown = found or [cast(Example, self._examples[0])]
            yield pad_batch(_stack(shown), local_size, real=len(found))


def _stack(examples: list[Example]) -> Batch:
    batch = {name: np.stack([e[name] for e in examples]) for name in examples[0]}
    return batch | {"batch_mask": np.ones(len(examples), np.float32)}


def _stack_groups(groups: Sequence[Sequence[Example]]) -> Batch:
    return _stack(list(itertools.chain.from_iterable(groups)))


def pad_batch(batch: Batch, size: int, *, real: int) -> Batch:
    """Returns the first ``real`` examples of a batch, zeros after them up to ``size``.

    >>> pad_batch({"label": np.array([7, 8]), "batch_mask": np.ones(2)}, 3, real=2)
    {'label': array([7, 8, 0]), 'batch_mask': array([1., 1., 0.])}
    """

    def pad(array: np.ndarray) -> np.ndarray:
        padded = np.zeros((size, *array.shape[1:]), array.dtype)
        padded[:real] = array[:real]
        return padded

    return {name: pad(array) for name, array in batch.items()}


class PipelineDataset:
    """A dataset over sources, one per split, in the order of ``contracts.Dataset``."""

    def __init__(
        self,
        reading: Reading,
        meta_data: DatasetInfo,
        sources: Mapping[str, Source],
        *,
        train_transform: RandomTransform | None = None,
        pair_transform: PairTransform | None = None,
        eval_transform: Callable[[Example], Example] | None = None,
    ) -> None:
        """``sources`` are by split, ``train`` among them; evaluation splits may be missing.

        In training every example goes through ``train_transform``, then every two through
        ``pair_transform``; in evaluation through ``eval_transform``.

        Raises:
          ValueError: if there are no training examples.
        """
        self.meta_data = meta_data
        self._reading = reading
        self._sources = sources
        self._train_transform = train_transform
        self._pair_transform = pair_transform
        self._eval_transform = eval_transform
        if len(sources["train"]) < 1:
            raise ValueError(f"The training split of {meta_data.name} is empty.")

    @property
    def train_iter(self) -> TrainBatches:
        """A new training stream from its beginning."""
        stream = grain.MapDataset.source(self._sources["train"]).seed(self._reading.seed)
        stream = stream.shuffle().repeat()
        if self._train_transform is not None:
            stream = stream.random_map(self._train_transform)
        if self._pair_transform is None:
            return TrainBatches(stream.map(lambda example: (example,)), self._reading)
        mix = self._pair_transform
        pairs = stream.batch(2, batch_fn=tuple)
        pairs = pairs.random_map(lambda pair, rng: mix(pair[0], pair[1], rng))
        return TrainBatches(pairs, self._reading, examples_per_group=2)

    @property
    def valid_iter(self) -> EvalBatches:
        """The validation split."""
        return self._evaluation("validation")

    @property
    def test_iter(self) -> EvalBatches:
        """The test split."""
        return self._evaluation("test")

    def _evaluation(self, split: str) -> EvalBatches:
        if split not in self._sources:
            raise ValueError(
                f"{self.meta_data.name} has no {split} split, only {', '.join(self._sources)}."
            )
        return EvalBatches(self._sources[split], self._reading, self._eval_transform)
