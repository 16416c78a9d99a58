import io

import numpy as np
import pytest
from rich.console import Console

from scenax.train.progress import Progress
from scenax.train.transfer.linear_probe import linear_probe


def trained(splits, rate, decay, steps):
    """SGD on all examples at once, in float64: returns the test accuracy."""
    x, labels = splits.train.features.astype(np.float64), splits.train.labels
    mean, std = x.mean(0), x.std(0) + 1e-5
    x, y = (x - mean) / std, np.eye(splits.num_classes)[labels]
    w, b = np.zeros((x.shape[1], y.shape[1])), np.zeros(y.shape[1])
    mw, mb = np.zeros_like(w), np.zeros_like(b)
    for step in range(steps):
        logits = x @ w + b
        p = np.exp(logits - logits.max(1, keepdims=True))
        error = (p / p.sum(1, keepdims=True) - y) / len(x)
        mw, mb = 0.9 * mw + x.T @ error + decay * w, 0.9 * mb + error.sum(0)
        share = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        w, b = w - share * mw, b - share * mb
    scores = (splits.test.features - mean) / std @ w + b
    return (scores.argmax(1) == splits.test.labels).mean()


def test_every_choice_is_trained_as_if_alone(make_splits):
    splits = make_splits(12)
    rates, decays = (1e-3, 1e-1), (0.0, 0.5)
    sweep = linear_probe(splits, learning_rates=rates, weight_decays=decays, epochs=30)
    assert [(c["learning_rate"], c["weight_decay"]) for c in sweep.choices] == [
        (1e-3, 0.0),
        (1e-3, 0.5),
        (1e-1, 0.0),
        (1e-1, 0.5),
    ]
    expected = [trained(splits, rate, decay, 30) for rate in rates for decay in decays]
    np.testing.assert_allclose(sweep.test[0], expected, atol=1e-9)
    assert len(set(expected)) > 2


def test_the_order_is_a_function_of_the_seed(make_splits):
    splits = make_splits(40)

    def accuracies(seed):
        return linear_probe(splits, epochs=3, batch_size=16, seed=seed).test

    first = accuracies(0)
    np.testing.assert_array_equal(accuracies(0), first)
    assert (accuracies(1) != first).any()


def test_what_diverges_is_never_chosen(make_splits):
    sweep = linear_probe(make_splits(12), learning_rates=(1e38, 1e-2), epochs=5)
    assert (sweep.validation[0, 0], sweep.test[0, 0]) == (0, 0)
    assert sweep.choice["learning_rate"] == 1e-2


def test_progress_is_told_of_every_epoch(make_splits):
    text = io.StringIO()
    with Progress(Console(file=text), 4, unit="features", seconds_per_line=0) as progress:
        linear_probe(make_splits(3), epochs=4, progress=progress)
    assert [line.split()[1] for line in text.getvalue().splitlines()] == [
        "1/4",
        "2/4",
        "3/4",
        "4/4",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rates": ()}, "learning_rates have to be positive"),
        ({"learning_rates": (0.0,)}, "learning_rates have to be positive"),
        ({"weight_decays": (-1.0,)}, "weight_decays have to be at least 0"),
        ({"epochs": 0}, "got 0 and 256"),
        ({"batch_size": 0}, "got 100 and 0"),
    ],
)
def test_an_option_out_of_its_range_is_named(make_splits, options, said):
    with pytest.raises(ValueError, match=said):
        linear_probe(make_splits(3), **options)
