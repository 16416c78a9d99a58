import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenax.common.contracts import DatasetInfo
from scenax.data import pipeline
from scenax.data.examples import ArraySource


def numbered(count: int) -> ArraySource:
    return ArraySource({"inputs": np.arange(count, dtype=np.float32) + 100})


def dataset(count: int, transform=None, **reading) -> pipeline.PipelineDataset:
    info = DatasetInfo("numbers", (), "float32", 1, (), {"train": count, "test": count})
    sources = {"train": numbered(count), "test": numbered(count)}
    how = pipeline.Reading(**({"batch_size": 4, "eval_batch_size": 4} | reading))
    return pipeline.PipelineDataset(
        how, info, sources, train_transforms=[] if transform is None else [transform]
    )


def take(batches, count: int) -> list[np.ndarray]:
    return [batch["inputs"] for batch in itertools.islice(batches, count)]


counts = st.integers(1, 40)
hosts = st.integers(1, 4)
local_sizes = st.integers(1, 5)
seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=25)
@given(count=counts, n=hosts, size=local_sizes, seed=seeds)
def test_hosts_together_read_what_one_host_reads(count, n, size, seed):
    reading = {"batch_size": n * size, "eval_batch_size": n, "seed": seed}
    alone = np.concatenate(take(dataset(count, **reading).train_iter, 6))
    parts = [
        np.concatenate(
            take(dataset(count, **reading, process_index=h, process_count=n).train_iter, 6)
        )
        for h in range(n)
    ]
    np.testing.assert_array_equal(np.stack(parts, axis=1).reshape(-1), alone)


@settings(deadline=None, max_examples=25)
@given(count=counts, seed=seeds)
def test_every_epoch_has_every_example_once(count, seed):
    stream = np.concatenate(take(dataset(count, batch_size=1, seed=seed).train_iter, 3 * count))
    for epoch in stream.reshape(3, count):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(count) + 100)


@settings(deadline=None, max_examples=25)
@given(count=counts, seed=seeds, before=st.integers(0, 12), other_size=local_sizes)
def test_a_restored_position_goes_on_exactly(count, seed, before, other_size):
    def jitter(example, rng):
        return {"inputs": example["inputs"] + rng.uniform()}

    straight = dataset(count, jitter, batch_size=3, seed=seed).train_iter
    take(straight, before)
    state = straight.get_state()
    expected = take(straight, 4)

    resumed = dataset(count, jitter, batch_size=3, seed=seed).train_iter
    resumed.set_state(state)
    np.testing.assert_array_equal(take(resumed, 4), expected)

    # The same examples follow when the batch size changes.
    resized = dataset(count, jitter, batch_size=other_size, seed=seed).train_iter
    resized.set_state(state)
    found = np.concatenate(take(resized, 12))[:12]
    np.testing.assert_array_equal(found, np.concatenate(expected)[: len(found)])


def test_restoring_reads_nothing_of_what_came_before():
    reads = []

    class Counting(ArraySource):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    source = Counting({"inputs": np.arange(1000)})
    info = DatasetInfo("numbers", (), "int64", 1, (), {"train": 1000})
    batches = pipeline.PipelineDataset(
        pipeline.Reading(batch_size=2, eval_batch_size=2), info, {"train": source}
    ).train_iter
    batches.set_state({"seed": 0, "examples_consumed": 10_000_000})
    reads.clear()
    next(batches)
    assert len(reads) < 1000  # A few batches ahead, no more.


def test_seeds_and_epochs_give_different_orders():
    first, second = (
        np.concatenate(take(dataset(50, batch_size=50, seed=seed).train_iter, 2)).reshape(2, 50)
        for seed in (0, 7)
    )
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], second[0])
    again = np.concatenate(take(dataset(50, batch_size=50, seed=0).train_iter, 2)).reshape(2, 50)
    np.testing.assert_array_equal(first, again)


@settings(deadline=None, max_examples=40)
@given(count=counts, n=hosts, size=local_sizes)
def test_evaluation_counts_every_example_once(count, n, size):
    found, lengths = [], set()
    for host in range(n):
        batches = dataset(
            count, eval_batch_size=n * size, batch_size=n, process_index=host, process_count=n
        ).test_iter
        read = list(batches)
        assert len(read) == len(batches)
        lengths.add(len(read))
        for batch in read:
            assert batch["inputs"].shape == (size,)
            mask = batch["batch_mask"] > 0
            assert not batch["inputs"][~mask].any()
            found.append(batch["inputs"][mask])
    assert len(lengths) == 1
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(count) + 100)


def test_one_position_is_not_another_streams():
    batches = dataset(5, seed=1).train_iter
    with pytest.raises(ValueError, match="seed 2, and this one has seed 1"):
        batches.set_state({"seed": 2, "examples_consumed": 0})


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({"batch_size": 3, "process_count": 2}, "multiple of the 2 host.*got 3"),
        ({"batch_size": 0}, "positive multiple.*got 0"),
        ({"process_index": 1}, "below process_count=1, got 1"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_bad_reading_is_named(reading, message):
    with pytest.raises(ValueError, match=message):
        dataset(5, **reading)


def test_bad_data_is_named():
    with pytest.raises(ValueError, match="'a': 2, 'b': 3"):
        ArraySource({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(ValueError, match="train split of numbers is empty"):
        dataset(0)
    with pytest.raises(ValueError, match="no validation split, only train, test"):
        dataset(3).valid_iter  # noqa: B018


def average(first, second, rng):
    """A pair transform whose result depends on both examples and on the generator."""
    share = rng.uniform()
    return tuple(
        {"inputs": share * a["inputs"] + (1 - share) * b["inputs"]}
        for a, b in ((first, second), (second, first))
    )


def mixed(count: int, **reading) -> pipeline.PipelineDataset:
    info = DatasetInfo("numbers", (), "float32", 1, (), {"train": count})
    how = pipeline.Reading(**({"batch_size": 4, "eval_batch_size": 4} | reading))
    return pipeline.PipelineDataset(how, info, {"train": numbered(count)}, pair_transform=average)


@settings(deadline=None, max_examples=8)
@given(count=counts, n=hosts, local_pairs=st.integers(1, 3), seed=seeds)
def test_hosts_together_read_the_pairs_that_one_host_reads(count, n, local_pairs, seed):
    reading = {"batch_size": 2 * n * local_pairs, "eval_batch_size": n, "seed": seed}
    alone = np.concatenate(take(mixed(count, **reading).train_iter, 4)).reshape(-1, 2)
    parts = [
        np.concatenate(
            take(mixed(count, **reading, process_index=h, process_count=n).train_iter, 4)
        )
        for h in range(n)
    ]
    pairs = np.stack([part.reshape(-1, 2) for part in parts], axis=1).reshape(-1, 2)
    np.testing.assert_array_equal(pairs, alone)


def test_neighbours_of_the_stream_are_mixed():
    plain = np.concatenate(take(dataset(9, batch_size=2).train_iter, 40)).reshape(-1, 2)
    found = np.concatenate(take(mixed(9, batch_size=2).train_iter, 40)).reshape(-1, 2)
    np.testing.assert_allclose(found.sum(axis=1), plain.sum(axis=1), rtol=1e-6)
    different = plain[:, 0] != plain[:, 1]  # An epoch of 9 can end and begin with one example.
    shares = ((found - plain[:, ::-1]) / (plain - plain[:, ::-1] + ~different[:, None]))[different]
    np.testing.assert_allclose(shares[:, 0], shares[:, 1], atol=1e-4)
    assert len(np.unique(np.round(shares[:, 0], 3))) > 30  # Every pair has its own.


@settings(deadline=None, max_examples=5)
@given(count=counts, seed=seeds, before=st.integers(0, 9), other_pairs=st.integers(1, 4))
def test_a_restored_position_goes_on_exactly_with_pairs(count, seed, before, other_pairs):
    straight = mixed(count, batch_size=6, seed=seed).train_iter
    take(straight, before)
    state = straight.get_state()
    expected = np.concatenate(take(straight, 4))
    for size in (6, 2 * other_pairs):
        resumed = mixed(count, batch_size=size, seed=seed).train_iter
        resumed.set_state(state)
        found = np.concatenate(take(resumed, 12))[: len(expected)]
        np.testing.assert_array_equal(found, expected[: len(found)])


def test_pairs_need_even_batches_and_even_positions():
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        mixed(5, batch_size=6, process_count=2, eval_batch_size=2).train_iter  # noqa: B018
    with pytest.raises(ValueError, match="saved position, 3 examples, divides a group of 2"):
        mixed(5).train_iter.set_state({"seed": 0, "examples_consumed": 3})


def test_the_eval_transforms_finish_evaluation_examples_only():
    info = DatasetInfo("numbers", (), "float32", 1, (), {"train": 3, "test": 3})
    source = numbered(3)
    doubled = pipeline.PipelineDataset(
        pipeline.Reading(batch_size=2, eval_batch_size=2),
        info,
        {"train": source, "test": source},
        eval_transforms=[lambda example, _: {"inputs": 2 * example["inputs"]}],
    )
    found = take(doubled.test_iter, 3)
    np.testing.assert_array_equal(np.stack(found), [[200, 202], [204, 0]])
    assert next(doubled.train_iter)["inputs"].max() < 103


def test_the_training_split_is_read_once_in_its_order_and_as_in_evaluation():
    def add(amount):
        return lambda example, rng: example | {"inputs": example["inputs"] + np.float32(amount)}

    info = DatasetInfo("numbers", (), "float32", 1, (), {"train": 5})
    reading = pipeline.Reading(batch_size=2, eval_batch_size=4)
    read = pipeline.PipelineDataset(
        reading,
        info,
        {"train": numbered(5)},
        train_transforms=[add(100.0)],
        eval_transforms=[add(0.5)],
    ).once("train")
    found = np.concatenate([batch["inputs"][batch["batch_mask"] > 0] for batch in read])
    np.testing.assert_array_equal(found, np.arange(100.5, 105))
