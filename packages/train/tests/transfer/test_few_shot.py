import numpy as np
import pytest

from scenax.train.transfer.features import Features, Splits
from scenax.train.transfer.few_shot import draw, few_shot
from scenax.train.transfer.ridge import ridge

LABELS = np.random.default_rng(0).integers(0, 5, 300)


def test_draws_are_balanced_nested_and_of_their_seed():
    ten = draw(LABELS, 10, 5, seed=3)
    assert len(set(ten.tolist())) == 50
    np.testing.assert_array_equal(LABELS[ten], np.repeat(np.arange(5), 10))
    np.testing.assert_array_equal(draw(LABELS, 10, 5, seed=3), ten)
    assert {*draw(LABELS, 5, 5, seed=3).tolist()} < {*ten.tolist()}
    assert {*draw(LABELS, 10, 5, seed=4).tolist()} != {*ten.tolist()}


def test_draws_are_those_of_big_vision():
    # What numpy 2.4 gave for `permutation(where(labels == c)[0])[:2]`, class after class.
    assert draw(LABELS, 2, 5, seed=0).tolist() == [223, 42, 79, 83, 268, 140, 28, 115, 60, 224]


def test_every_repeat_is_a_ridge_regression_on_its_draw(make_splits):
    splits = make_splits(20)
    penalties = (0.1, 10.0, 1000.0)
    found = few_shot(splits, shots=(2, 5), seeds=(7, 8), penalties=penalties)
    assert [*found] == [2, 5]
    for shots, sweep in found.items():
        for row, seed in enumerate((7, 8)):
            rows = draw(splits.train.labels, shots, 4, seed=seed)
            drawn = Features(splits.train.features[rows], splits.train.labels[rows])
            alone = ridge(Splits(drawn, splits.validation, splits.test, 4), penalties=penalties)
            np.testing.assert_array_equal(sweep.validation[row], alone.validation[0])
            np.testing.assert_array_equal(sweep.test[row], alone.test[0])
    assert found[5].test_top_1 > found[2].test_top_1
    assert found[2].test_deviation > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shots": (1, 25)}, r"class 0 has \d+.* Choose shots up to \d+"),
        ({"shots": ()}, "shots have to be numbers from 1 on"),
        ({"shots": (0,)}, "shots have to be numbers from 1 on"),
        ({"shots": (1,), "seeds": ()}, "seeds have to be"),
        ({"shots": (1,), "penalties": (0.0,)}, "penalties have to be"),
    ],
)
def test_what_cannot_be_drawn_is_named(make_splits, options, said):
    with pytest.raises(ValueError, match=said):
        few_shot(make_splits(3), **options)
