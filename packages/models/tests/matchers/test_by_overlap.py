import jax.numpy as jnp
import numpy as np
import pytest

from scenax.models.matchers.by_overlap import by_overlap


def match(iou, mask, low=0.4, high=0.5):
    iou, mask = jnp.asarray(iou, jnp.float32)[None], jnp.asarray(mask, bool)[None]
    return by_overlap(iou, mask, low=low, high=high)[0].tolist()


def test_thresholds():
    iou = [[0.7, 0.6], [0.45, 0.1], [0.39, 0.2], [0.5, 0.8], [0.0, 0.0]]
    assert match(iou, [1, 1]) == [0, -2, -1, 1, -1]


def test_no_target_is_left_alone():
    # The second target is nearest to the third anchor, and that to the second target.
    iou = [[0.9, 0.0], [0.3, 0.1], [0.1, 0.2]]
    assert match(iou, [1, 1]) == [0, -1, 1]
    # The nearest anchor answers for what it overlaps most itself.
    assert match([[0.9, 0.3], [0.1, 0.0]], [1, 1]) == [0, -1]


def test_padding_and_nothing():
    assert match([[0.9, 0.8], [0.1, 0.9]], [0, 1]) == [1, 1]
    assert match([[0.9, 0.8], [0.1, 0.9]], [0, 0]) == [-1, -1]
    assert match([[0.0], [0.0]], [1]) == [-1, -1]  # In torchvision both would be its anchors.
    assert match(np.zeros((3, 0)), np.zeros(0)) == [-1, -1, -1]


def test_thresholds_in_the_wrong_order():
    with pytest.raises(ValueError, match=r"low has to be at most high, got 0.6 and 0.5"):
        match([[0.0]], [1], low=0.6)
