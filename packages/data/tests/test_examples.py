import numpy as np
import pytest

from scenax.data.examples import ArraySource, Source


def test_examples_are_the_rows_of_arrays():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 1), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1, 5], np.int32)
    source = ArraySource({"inputs": images, "label": labels})
    assert len(source) == 5
    for index in (0, 2, 4):
        example = source[index]
        assert example.keys() == {"inputs", "label"}
        np.testing.assert_array_equal(example["inputs"], images[index])
        assert example["label"] == labels[index]
        assert (example["label"].dtype, example["label"].shape) == (np.int32, ())
    with pytest.raises(IndexError):
        source[5]


def test_arrays_of_other_lengths_are_named():
    with pytest.raises(ValueError, match=r"one row per example, got rows \{'a': 2, 'b': 3\}"):
        ArraySource({"a": np.zeros(2), "b": np.zeros(3)})


def test_whatever_has_a_length_and_items_is_a_source():
    assert isinstance(ArraySource({"a": np.zeros(1)}), Source)
    assert isinstance([{"a": 1}], Source)
    assert not isinstance(iter([{"a": 1}]), Source)
