import numpy as np
import pytest

from scenax.train.transfer import nearest_neighbors as module
from scenax.train.transfer.nearest_neighbors import nearest_neighbors

KS = (1, 3, 20, 200)


def brute_force(splits, part, k, temperature):
    """All similarities at once, in float64; returns the accuracy."""
    keys, questions = (
        x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        for x in (splits.train.features, part.features)
    )
    similarities = questions @ keys.T
    guesses = []
    for row in similarities:
        votes = np.zeros(splits.num_classes)
        for place in np.argsort(-row, kind="stable")[:k]:
            votes[splits.train.labels[place]] += np.exp(row[place] / temperature)
        guesses.append(votes.argmax())
    return (np.array(guesses) == part.labels).mean()


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_it_is_all_similarities_at_once(make_splits, monkeypatch, rows, temperature):
    monkeypatch.setattr(module, "_SIMILARITIES", rows * 200)
    splits = make_splits(12)
    sweep = nearest_neighbors(splits, ks=KS, temperature=temperature)
    for place, k in enumerate(KS):
        assert sweep.choices[place] == {"k": k}
        for part, found in ((splits.validation, sweep.validation), (splits.test, sweep.test)):
            np.testing.assert_allclose(
                found[0, place], brute_force(splits, part, k, temperature), atol=1e-9
            )
    assert len({*sweep.test[0].tolist()}) > 1


def test_a_tiny_temperature_is_the_nearest_alone(make_splits):
    found = nearest_neighbors(make_splits(12), ks=(1, 50), temperature=1e-6)
    np.testing.assert_array_equal(found.test[0, 0], found.test[0, 1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ks": (10, 201)}, r"from 1 to 200, .* got \[10, 201\]"),
        ({"ks": (0,)}, "from 1 to 200"),
        ({"ks": ()}, "from 1 to 200"),
        ({"temperature": 0.0}, "temperature has to be positive"),
    ],
)
def test_an_option_out_of_its_range_is_named(make_splits, options, said):
    with pytest.raises(ValueError, match=said):
        nearest_neighbors(make_splits(3), **options)
