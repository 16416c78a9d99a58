"""Every option of a transfer evaluation, with its type and default."""

import dataclasses
from typing import Any, Literal

from scenax.common.config import schema
from scenax.train.transfer import few_shot, linear_probe, nearest_neighbors, ridge

Method = Literal["nearest_neighbors", "ridge", "linear_probe", "few_shot"]


@schema
class Choice:
    """Something that is made by name, and the options it is made with."""

    name: str
    args: dict[str, Any] = dataclasses.field(default_factory=dict)


@schema
class NearestNeighbors:
    """Weighted votes of neighbours by cosine similarity."""

    ks: tuple[int, ...] = nearest_neighbors.KS
    temperature: float = nearest_neighbors.TEMPERATURE


@schema
class Ridge:
    """Ridge regression in closed form."""

    penalties: tuple[float, ...] = ridge.PENALTIES


@schema
class LinearProbe:
    """SGD: every learning rate with every weight decay."""

    learning_rates: tuple[float, ...] = linear_probe.LEARNING_RATES
    weight_decays: tuple[float, ...] = (0.0,)
    epochs: int = 100
    batch_size: int = 256


@schema
class FewShot:
    """Ridge regression on so many examples of every class, drawn once for each seed."""

    shots: tuple[int, ...] = few_shot.SHOTS
    seeds: tuple[int, ...] = few_shot.SEEDS
    penalties: tuple[float, ...] = ridge.PENALTIES


@schema
class Config:
    """An evaluation."""

    dataset: Choice
    model: Choice
    """The architecture; its head is left out."""
    weights: str | None = None
    """Anything that ``load_pretrained`` takes: a name with its tag, a file, a folder (of a run of
    apps/classification, for instance), ``hf-hub:OWNER/NAME``; None for random parameters."""
    preprocessing: Literal["weights", "dataset"] = "weights"
    """Who says how images look, in size, crop, mean and standard deviation: what is known of the
    weights (``pretrained_cfg``; for random parameters, of the model), or the dataset.
    ``eval_transforms`` and ``normalize`` among the dataset's args go before both. Datasets whose
    images are floats already, such as ``digits``, want "dataset"."""
    methods: tuple[Method, ...] = ("nearest_neighbors", "ridge", "linear_probe", "few_shot")
    nearest_neighbors: NearestNeighbors = dataclasses.field(default_factory=NearestNeighbors)
    ridge: Ridge = dataclasses.field(default_factory=Ridge)
    linear_probe: LinearProbe = dataclasses.field(default_factory=LinearProbe)
    few_shot: FewShot = dataclasses.field(default_factory=FewShot)
    batch_size: int = 256
    """Images at a time when features are computed, over all devices and hosts together."""
    seed: int = 0
    """Decides random parameters, and the order in the linear probe."""
