"""From a source of examples to batches: the order is a function of the seed, nothing is dropped.

The training stream is the source, shuffled anew every epoch, without end. Example ``i`` of the
stream is a function of ``(seed, i)`` alone, its random transforms included; of every ``n`` hosts,
host ``h`` reads examples ``h, h + n, h + 2 n``... So the position is one number, the examples
consumed by all hosts, and it stays right when the batch size, the number of hosts or of threads
changes.

Where a dataset makes examples of two (copy-paste), examples ``2 j`` and ``2 j + 1`` are combined
before the stream is shared out, and hosts take turns by pairs: host ``h`` reads pairs
``h, h + n``... Pair ``j`` is a function of ``(seed, j)`` alone, and no example is decoded twice.
A host's part of a batch, and a position, is then a whole number of pairs.

Evaluation reads every example once, in the source's order. The last batch is padded with zeros
and marked in ``batch_mask``; every host yields the same number of batches. An example that cannot
be read is an error, or, by choice, such padding too: counted, named in the dataset's report, and
without any effect on the order of the others. An example may bring a ``batch_mask`` of 0 itself.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import grain
import numpy as np

from scenax.common.contracts import Batch, DatasetInfo
from scenax.data.caching import Cache, cached
from scenax.data.examples import Example, PairTransform, Source, Transform
from scenax.data.reports import Report, UnreadableError
from scenax.data.transforms.image import Normalize

_HANDED = 16
_END = 2**62  # Of an endless stream: grain's own, 2**63 - 1, is too long to be divided.

_UNREADABLE: Example = {}
"""Stands for an example that could not be read."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a dataset is read, whichever it is. Batch sizes are over all hosts together."""

    batch_size: int
    eval_batch_size: int
    seed: int = 0
    data_dir: str | None = None
    process_index: int = 0
    process_count: int = 1
    num_threads: int | None = None
    """How many threads of this host read and transform; none for one a core, from 4 to 16."""
    unreadable: Literal["raise", "skip"] = "raise"
    """What an example that cannot be read is: an error, or padding."""
    cache: Cache | None = None
    """Where examples are kept after they were read once, or decoded once."""
    train_transforms: Sequence[Transform] | None = None
    """Instead of the dataset's own in training, from the decoded example on."""
    eval_transforms: Sequence[Transform] | None = None
    """The same in evaluation."""
    normalize: Normalize = Normalize()  # noqa: RUF009  (frozen)
    """What becomes of inputs that are still uint8 when they are put into a batch."""
    repeats: int = 1
    """How often in a row a training example comes, each time transformed anew.

    Repeated augmentation: Hoffer et al., arXiv 1901.09335.
    """

    def __post_init__(self) -> None:
        if not 0 <= self.process_index < self.process_count:
            raise ValueError(
                f"process_index must be at least 0 and below process_count={self.process_count}, "
                f"got {self.process_index}."
            )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be at least 0 and below 2**32, got {self.seed}.")
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {self.repeats}.")
        for name in ("batch_size", "eval_batch_size"):
            size = getattr(self, name)
            if size < 1 or size % self.process_count:
                raise ValueError(
                    f"{name} counts the examples of all hosts, so it must be a positive multiple "
                    f"of the {self.process_count} host(s), got {size}."
                )
        if self.num_threads is not None and self.num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, got {self.num_threads}.")
        if self.unreadable not in ("raise", "skip"):
            raise ValueError(f"unreadable must be 'raise' or 'skip', got {self.unreadable!r}.")

    def grain_options(self, *, prefetched: int) -> grain.ReadOptions:
        """Threads, not processes: decoding releases the interpreter, and nothing has to start.

        ``prefetched`` is how many pieces of work may be done ahead, for each thread.
        """
        threads = self.num_threads or max(4, min(16, os.cpu_count() or 4))
        return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetched * threads)


class _Reader:
    """Finished examples of a source, by index and generator."""

    def __init__(
        self,
        source: Source,
        transforms: Sequence[Transform],
        finish: Sequence[Transform],
        reading: Reading,
        report: Report,
    ) -> None:
        self.source = source
        self._transforms = transforms
        self._finish = finish
        self._normalize = reading.normalize
        self._skip = reading.unreadable == "skip"
        self._report = report
        self._zeros: Example | None = None

    def read(self, index: int | None, rng: np.random.Generator) -> Example:
        """Returns an example after the transforms, but not finished."""
        assert index is not None  # For type checkers: grain's ranges say that they may skip.
        try:
            example = self.source[index]
            for transform in self._transforms:
                example = transform(example, rng)
            return example
        except UnreadableError as error:
            if not self._skip:
                raise
            self._report.add("unreadable, left out", str(error))
            return _UNREADABLE

    def finish(self, example: Example, rng: np.random.Generator) -> Example:
        if example is not _UNREADABLE:
            for transform in self._finish:
                example = transform(example, rng)
        return example

    def read_finished(self, index: int | None, rng: np.random.Generator) -> Example:
        return self.finish(self.read(index, rng), rng)

    def stack(self, examples: Sequence[Example], size: int) -> Batch:
        """Returns a batch of ``size``: the examples, and zeros for what cannot be read or lacks."""
        readable = next((e for e in examples if e is not _UNREADABLE), None)
        zeros = self.zeros() if readable is None else _zeros_like(readable)
        filled = [zeros if e is _UNREADABLE else e for e in examples]
        filled += [zeros] * (size - len(examples))
        real = np.zeros(size, np.float32)
        real[: len(examples)] = [float(e is not _UNREADABLE) for e in examples]
        batch = _stack(filled, self._normalize)
        for inputs in _leaves(batch["inputs"]):
            inputs[real == 0] = 0
        return batch | {"batch_mask": real * batch.get("batch_mask", np.float32(1))}

    def zeros(self) -> Example:
        """Returns what an example looks like, zeros in the shape of the first readable one."""
        if self._zeros is None:
            rng = np.random.default_rng(0)
            examples = (self.read_finished(index, rng) for index in range(len(self.source)))
            readable = next((e for e in examples if e is not _UNREADABLE), None)
            if readable is None:
                raise UnreadableError(
                    f"None of the {len(self.source)} examples can be read:\n{self._report}"
                )
            self._zeros = zeros = _zeros_like(readable)
            return zeros
        return self._zeros


def _leaves(value: Any) -> list[np.ndarray]:
    return (
        [leaf for item in value.values() for leaf in _leaves(item)]
        if isinstance(value, Mapping)
        else [value]
    )


def _zeros_like(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _zeros_like(item) for name, item in value.items()}
    return np.zeros_like(value)


def _stack(examples: Sequence[Example], normalize: Normalize) -> dict[str, Any]:
    """A batch of examples; inputs that are uint8 are normalized on the way."""

    def stack(name: str, values: Sequence[Any]) -> Any:
        if isinstance(values[0], Mapping):
            return {key: stack(name, [value[key] for value in values]) for key in values[0]}
        if name == "inputs" and values[0].dtype == np.uint8:
            return normalize.stack(values)
        return np.stack(values)

    return {name: stack(name, [example[name] for example in examples]) for name in examples[0]}


class TrainBatches:
    """The endless training stream, in batches; its position is saved and restored exactly."""

    def __init__(
        self,
        groups: grain.MapDataset,
        reading: Reading,
        stack: Callable[[Sequence[Example], int], Batch],
        *,
        examples_per_group: int = 1,
    ) -> None:
        """``groups`` holds the examples of all hosts in the order of training, in sequences.

        Every sequence has ``examples_per_group`` of them, and they stay together on one host.
        ``stack`` makes a batch of examples.

        Raises:
          ValueError: if the hosts' batches are not whole numbers of groups.
        """
        unit = reading.process_count * examples_per_group
        if reading.batch_size % unit:
            raise ValueError(
                f"Examples are combined in groups of {examples_per_group} that stay on one of the "
                f"{reading.process_count} host(s), so batch_size must be a multiple of {unit}, "
                f"got {reading.batch_size}."
            )
        self._groups = groups
        self._reading = reading
        self._stack = stack
        self._examples_per_group = examples_per_group
        self._consumed = 0
        self._batches = self._start()

    def _start(self) -> Iterator[Batch]:
        hosts = self._reading.process_count
        first = self._consumed // self._examples_per_group + self._reading.process_index
        local_groups = self._reading.batch_size // (hosts * self._examples_per_group)
        # A thread makes several examples at a time: handing over one costs as much as a flip.
        handed = max(n for n in range(1, _HANDED + 1) if local_groups % n == 0)
        parts = self._groups[first:_END:hosts].batch(handed, batch_fn=list)
        mine = parts.to_iter_dataset(self._reading.grain_options(prefetched=2))
        return iter(mine.batch(local_groups // handed, batch_fn=self._stack_parts))

    def _stack_parts(self, parts: Sequence[Sequence[Sequence[Example]]]) -> Batch:
        examples = [example for part in parts for group in part for example in group]
        return self._stack(examples, len(examples))

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
            divides a group of examples that are combined with one another.
        """
        if state["seed"] != self._reading.seed:
            raise ValueError(
                f"The saved position is in a stream with seed {state['seed']}, and this one has "
                f"seed {self._reading.seed}. Give the dataset seed {state['seed']}."
            )
        if state["examples_consumed"] % self._examples_per_group:
            raise ValueError(
                f"The saved position, {state['examples_consumed']} examples, divides a group of "
                f"{self._examples_per_group} that are combined with one another: it is from a run "
                "that combined none. Go on without, or from another position."
            )
        self._consumed = state["examples_consumed"]
        self._batches = self._start()


class EvalBatches:
    """One split in its own order; the last batch is padded and masked."""

    def __init__(self, reader: _Reader, reading: Reading) -> None:
        """``reader`` has the finished examples of all hosts."""
        self._reader = reader
        self._reading = reading
        self._examples = (
            grain.MapDataset.range(len(reader.source)).seed(0).random_map(reader.read_finished)
        )

    def __len__(self) -> int:
        return -(-len(self._examples) // self._reading.eval_batch_size)

    def __iter__(self) -> Iterator[Batch]:
        hosts = self._reading.process_count
        local_size = self._reading.eval_batch_size // hosts
        mine = self._examples[self._reading.process_index :: hosts]
        stream = iter(mine.to_iter_dataset(self._reading.grain_options(prefetched=4)))
        for _ in range(len(self)):
            # A host can be out of examples while others have one left: it pads a whole batch.
            yield self._reader.stack(list(itertools.islice(stream, local_size)), local_size)


class PipelineDataset:
    """A dataset over sources, one per split, in the order of ``contracts.Dataset``."""

    def __init__(
        self,
        reading: Reading,
        meta_data: DatasetInfo,
        sources: Mapping[str, Source],
        *,
        decode: Transform | None = None,
        train_transforms: Sequence[Transform] = (),
        pair_transform: PairTransform | None = None,
        eval_transforms: Sequence[Transform] = (),
        finish: Sequence[Transform] = (),
    ) -> None:
        """``sources`` are by split: ``train``, ``validation``, ``test``, or some of them.

        Every example first goes through ``decode``, which must not use its generator: what it
        returns may be kept. In training it then goes through ``train_transforms``, one after the
        other, in evaluation through ``eval_transforms``, unless ``reading`` has others, and at last
        through ``finish``; in training, every two go through ``pair_transform`` before that.
        Inputs that are still uint8 then are normalized, to [-1, 1] unless ``reading`` says how.

        Raises:
          ValueError: if a split is empty, or decoded examples shall be kept and nothing decodes
            them apart from what is random.
        """
        empty = [split for split, source in sources.items() if len(source) < 1]
        if empty:
            raise ValueError(f"The {empty[0]} split of {meta_data.name} is empty.")
        self.report = Report()
        """What could not be read so far."""
        self._reading = reading
        self._sources = {
            split: cached(source, decode, reading.cache, f"{meta_data.name}-{split}")
            for split, source in sources.items()
        }
        train, evaluation = reading.train_transforms, reading.eval_transforms
        self._train_transforms = train_transforms if train is None else train
        self._eval_transforms = eval_transforms if evaluation is None else evaluation
        self._pair_transform = pair_transform
        self._finish = finish
        self.meta_data = meta_data
        if train is not None or evaluation is not None:
            self.meta_data = dataclasses.replace(meta_data, **self._input_spec())

    def _input_spec(self) -> dict[str, Any]:
        """What the inputs look like after transforms that the dataset does not know."""
        if "train" in self._sources:
            reader = self._reader("train", self._train_transforms)
        else:
            reader = self._reader(next(iter(self._sources)), self._eval_transforms)
        inputs = reader.stack([reader.zeros()], 1)["inputs"]
        if isinstance(inputs, Mapping):
            return {}
        return {"input_shape": inputs.shape[1:], "input_dtype": str(inputs.dtype)}

    @property
    def train_iter(self) -> TrainBatches:
        """A new training stream from its beginning."""
        reader = self._reader("train", self._train_transforms)
        seed, repeats = self._reading.seed, self._reading.repeats
        stream = grain.MapDataset.range(len(reader.source)).seed(seed).shuffle().repeat()
        if repeats > 1:
            shuffled = stream
            stream = grain.MapDataset.range(_END).map(lambda i: shuffled[i // repeats])
            stream = stream.seed(seed)
        if self._pair_transform is None:
            groups = stream.random_map(lambda index, rng: (reader.read_finished(index, rng),))
            return TrainBatches(groups, self._reading, reader.stack)
        stream = stream.random_map(reader.read)
        combine = self._pair_transform

        def combined(
            pair: tuple[Example, ...], rng: np.random.Generator
        ) -> tuple[Example, Example]:
            whole = all(example is not _UNREADABLE for example in pair)
            first, second = combine(pair[0], pair[1], rng) if whole else pair
            return reader.finish(first, rng), reader.finish(second, rng)

        groups = stream.batch(2, batch_fn=tuple).random_map(combined)
        return TrainBatches(groups, self._reading, reader.stack, examples_per_group=2)

    @property
    def valid_iter(self) -> EvalBatches:
        """The validation split."""
        return self.once("validation")

    @property
    def test_iter(self) -> EvalBatches:
        """The test split."""
        return self.once("test")

    def once(self, split: str) -> EvalBatches:
        """Returns a split, that of training too, in its own order and as in evaluation."""
        return EvalBatches(self._reader(split, self._eval_transforms), self._reading)

    def _reader(self, split: str, transforms: Sequence[Transform]) -> _Reader:
        if split not in self._sources:
            raise ValueError(
                f"{self.meta_data.name} has no {split} split, only {', '.join(self._sources)}."
            )
        return _Reader(self._sources[split], transforms, self._finish, self._reading, self.report)
