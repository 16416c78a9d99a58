"""Few-shot evaluation: ridge regression on k examples of every class, drawn several times.

The protocol of BiT (arXiv 1912.11370) and ViT (arXiv 2010.11929), with the draws of big_vision's
``evaluators/fewshot_lsr.py``: numpy's generator of a seed permutes each class in turn, and the
first k of it are taken, so the draws of one seed hold one another. big_vision has one penalty for
everything, 2^10 by default: pass that alone for its protocol. Of several, the one with the best
mean over the draws is chosen on the validation split, for each k; where Scenic's
``train_lib/transfer`` chooses by ranks over many test splits.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from scenax.train.transfer.features import Features, Splits
from scenax.train.transfer.ridge import PENALTIES, check_penalties, fit_ridge
from scenax.train.transfer.sweep import Sweep

SHOTS = (1, 5, 10, 25)
SEEDS = (0, 1, 2)


def few_shot(
    splits: Splits,
    *,
    shots: Sequence[int] = SHOTS,
    seeds: Sequence[int] = SEEDS,
    penalties: Sequence[float] = PENALTIES,
) -> Mapping[int, Sweep]:
    """Returns for each number of shots the accuracies, one repeat for each seed.

    Raises:
      ValueError: if a class has fewer training examples than shots, or an option is empty or out of
        its range.
    """
    check_penalties(penalties)
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds have to be numbers from 0 on, got {list(seeds)}.")
    check_shots(splits, shots)
    choices = tuple({"penalty": float(penalty)} for penalty in penalties)
    sweeps = {}
    for count in shots:
        validation, test = [], []
        for seed in seeds:
            rows = draw(splits.train.labels, count, splits.num_classes, seed=seed)
            drawn = Features(splits.train.features[rows], splits.train.labels[rows])
            path = fit_ridge(drawn, splits.num_classes)
            validation.append(path.accuracies(splits.validation, penalties))
            test.append(path.accuracies(splits.test, penalties))
        sweeps[count] = Sweep(choices, np.stack(validation), np.stack(test))
    return sweeps


def check_shots(splits: Splits, shots: Sequence[int]) -> None:
    """Sees to it that every class has as many training examples.

    Raises:
      ValueError: if not; the message has the classes that lack some.
    """
    if not shots or min(shots) < 1:
        raise ValueError(f"shots have to be numbers from 1 on, got {list(shots)}.")
    counts = np.bincount(splits.train.labels, minlength=splits.num_classes)
    few = [f"class {k} has {n}" for k, n in enumerate(counts.tolist()) if n < max(shots)]
    if few:
        raise ValueError(
            f"{max(shots)} shots need as many training examples of every class, and "
            f"{', '.join(few[:5])}{f' and {len(few) - 5} more lack some' if few[5:] else ''}. "
            f"Choose shots up to {counts.min()}, or a dataset without such classes."
        )


def draw(
    labels: Int[np.ndarray, " n"], shots: int, num_classes: int, *, seed: int
) -> Int[np.ndarray, " m"]:
    """Returns the places of ``shots`` examples of every class, class after class.

    >>> draw(np.array([0, 1, 0, 1, 1]), 2, 2, seed=0)
    array([0, 2, 4, 1])
    """
    generator = np.random.default_rng(seed)
    members = (np.flatnonzero(labels == k) for k in range(num_classes))
    return np.concatenate([generator.permutation(places)[:shots] for places in members])
