import io

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from scenax.train.progress import Progress
from scenax.train.transfer.features import (
    Features,
    Splits,
    class_ids,
    extract_features,
    make_feature_step,
)

WEIGHTS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def apply(variables, batch):
    return jnp.tanh(batch["inputs"] @ variables)


def batches(count, size, label=lambda index: np.int32(index % 5)):
    """The examples in batches, the last one padded with ones that would show."""
    inputs = np.random.default_rng(1).normal(size=(count, 3)).astype(np.float32)
    labels = np.stack([label(index) for index in range(count)])
    made = []
    for start in range(0, count, size):
        rows = slice(start, start + size)
        missing = size - len(inputs[rows])
        padding = np.full((missing, 3), 9, np.float32)
        mask = np.repeat(np.float32([1, 0]), [size - missing, missing])
        label = np.concatenate([labels[rows], np.repeat(labels[:1], missing, axis=0)])
        made.append(
            {"inputs": np.concatenate([inputs[rows], padding]), "label": label, "batch_mask": mask}
        )
    return inputs, labels, made


@pytest.mark.parametrize("size", [5, 8, 16, 37])
def test_every_example_once_and_in_order(mesh, size):
    inputs, labels, made = batches(37, size)
    found = extract_features(make_feature_step(apply, mesh), WEIGHTS, made, mesh)
    np.testing.assert_allclose(found.features, np.tanh(inputs @ WEIGHTS), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.features.dtype == np.float32


def test_one_hot_labels_become_ids(mesh):
    _, labels, made = batches(11, 4, label=lambda index: np.eye(5, dtype=np.float32)[index % 5])
    found = extract_features(make_feature_step(apply, mesh), WEIGHTS, made, mesh)
    np.testing.assert_array_equal(found.labels, labels.argmax(1))


def test_progress_is_told_of_every_batch(mesh):
    text = io.StringIO()
    _, _, made = batches(11, 4)
    step = make_feature_step(apply, mesh)
    with Progress(Console(file=text), len(made), unit="images", seconds_per_line=0) as progress:
        extract_features(step, WEIGHTS, made, mesh, progress=progress)
    lines = text.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert all("images/s" in line for line in lines)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (np.array([[1, 1, 0], [0, 1, 0]], np.float32), "not one-hot"),
        (np.array([[0, 0, 0], [0, 1, 0]], np.float32), "not one-hot"),
        (np.array([[0.5, 0.5, 0], [0, 1, 0]], np.float32), "not one-hot"),
        (np.array([0.5, 1.5], np.float32), r"got float32 \[2\]"),
        (np.zeros((2, 4, 4), np.int32), r"got int32 \[2, 4, 4\]"),
        ({"boxes": np.zeros((2, 1, 4), np.float32)}, "these have boxes"),
    ],
)
def test_labels_that_are_no_class_are_named(label, said):
    with pytest.raises(ValueError, match=said):
        class_ids(label, np.ones(2, np.float32))


def test_labels_of_padding_do_not_matter():
    label = np.array([[0, 0, 1], [0, 0, 0]], np.float32)
    assert class_ids(label, np.array([1, 0], np.float32))[0] == 2


def test_features_that_are_no_vectors_or_not_finite_are_named(mesh):
    _, _, made = batches(8, 8)
    with pytest.raises(ValueError, match=r"features \[b, d\], got \(8, 2, 2\)"):
        step = make_feature_step(lambda v, batch: jnp.zeros((8, 2, 2)), mesh)
        extract_features(step, WEIGHTS, made, mesh)
    made[0]["inputs"][3] = np.nan
    with pytest.raises(ValueError, match="1 of 8 examples are NaN"):
        extract_features(make_feature_step(apply, mesh), WEIGHTS, made, mesh)


def test_a_split_without_examples_is_named(mesh):
    step = make_feature_step(apply, mesh)
    with pytest.raises(ValueError, match="no batches"):
        extract_features(step, WEIGHTS, [], mesh)
    _, _, made = batches(8, 8)
    made[0]["batch_mask"][:] = 0
    with pytest.raises(ValueError, match="no example that counts"):
        extract_features(step, WEIGHTS, made, mesh)


def test_splits_that_do_not_fit_together_are_named():
    one = Features(np.zeros((2, 3), np.float32), np.array([0, 1], np.int32))
    other = Features(np.zeros((2, 4), np.float32), np.array([0, 1], np.int32))
    with pytest.raises(ValueError, match="'test': 4"):
        Splits(one, one, other, 2)
    with pytest.raises(ValueError, match="from 0 to 0; the train split has some from 0 to 1"):
        Splits(one, one, one, 1)
