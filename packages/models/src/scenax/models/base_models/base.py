"""What the base models of all tasks share.

The API is that of the Scenic paper (arXiv 2110.11403): a base model is an architecture
with a loss and metrics, made for a dataset. The architecture is a field, so that there is one
class per task. What a task adds is its loss, its metrics and the options of these.
"""

import abc
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from scenax.common.contracts import Batch, DatasetInfo, MetricsFn, PyTree, Split
from scenax.common.registry import did_you_mean
from scenax.models import _registry


class BaseModel(abc.ABC):
    """An architecture with a loss and metrics; fulfils ``scenax.common.contracts.Model``."""

    task_options: ClassVar[Mapping[str, Any]] = {}
    """The config keys of a task and their default values."""

    task_choices: ClassVar[Mapping[str, Collection[str]]] = {}
    """Of config keys whose value is one of several names, these names."""

    network_inputs: ClassVar[tuple[str, ...]] = ("inputs",)
    """The arrays of a batch that the architecture is called with, in order."""

    def __init__(
        self,
        config: Mapping[str, Any],
        dataset_meta_data: DatasetInfo,
        *,
        architecture: str | None = None,
    ) -> None:
        """Makes the architecture for the dataset.

        Args:
          config: ``architecture``, a name that ``create_model`` knows; ``args``, a mapping of its
            options; and the options of the task.
          dataset_meta_data: what the dataset says of itself.
          architecture: a name that makes ``config["architecture"]`` superfluous.

        Raises:
          ValueError: if a key of the config is unknown, or has a value that it cannot have; if the
            architecture is missing, or named twice and differently; and whatever ``create_model``
            raises.
        """
        known = {"architecture", "args", *self.task_options}
        for key in config:
            if key not in known:
                raise ValueError(
                    f"{type(self).__name__} has no config key {key!r}. {did_you_mean(key, known)}"
                )
        named = {name for name in (architecture, config.get("architecture")) if name}
        if len(named) != 1:
            raise ValueError(
                "Name one architecture, as config['architecture'] or through get_model_cls"
                "('<architecture>_<task>'); got " + (" and ".join(sorted(named)) or "none") + "."
            )
        self.architecture: str = named.pop()
        self.args: dict[str, Any] = dict(config.get("args") or {})
        self.options = {key: config.get(key, value) for key, value in self.task_options.items()}
        for key, choices in self.task_choices.items():
            if (value := self.options[key]) not in choices:
                raise ValueError(
                    f"There is no {key} {value!r}. {did_you_mean(str(value), choices)}"
                )
        self.dataset_meta_data = dataset_meta_data
        self.flax_model = self.build_flax_model()

    def build_flax_model(self) -> nn.Module:
        """Returns the architecture made for the dataset's input shape and number of classes.

        Options in ``config["args"]`` go before those.
        """
        info = self.dataset_meta_data
        fitting: dict[str, Any] = {"num_classes": info.num_classes}
        if len(info.input_shape) == 3:
            fitting |= {"img_size": info.input_shape[:2], "in_chans": info.input_shape[-1]}
        options = {
            key: value
            for key, value in fitting.items()
            if _registry.has_option(self.architecture, key)
        }
        return _registry.create_model(self.architecture, **{**options, **self.args})

    def init(self, rng: jax.Array, batch: Batch) -> dict[str, PyTree]:
        """Returns fresh variables for batches of this shape.

        Args:
          rng: a key.
          batch: of which only the shapes and dtypes of ``network_inputs`` matter.
        """
        variables = self.flax_model.init(rng, *self._inputs_of(batch), train=False)
        return {name: value for name, value in variables.items() if name != "intermediates"}

    def apply(
        self,
        variables: Mapping[str, PyTree],
        batch: Batch,
        *,
        train: bool,
        rngs: Mapping[str, jax.Array] | None = None,
    ) -> tuple[PyTree, dict[str, PyTree]]:
        """Returns the outputs, and the variables other than ``"params"`` after the call.

        Args:
          variables: as from ``init``.
          batch: its ``network_inputs`` go through the network.
          train: whether to drop, and to update running statistics.
          rngs: in training, a key under ``"dropout"``.
        """
        state = {
            name: value
            for name, value in variables.items()
            if name not in ("params", "intermediates")
        }
        outputs, updated = self.flax_model.apply(
            {"params": variables["params"], **state},
            *self._inputs_of(batch),
            train=train,
            rngs=None if rngs is None else dict(rngs),
            mutable=list(state) if train else [],
        )
        return outputs, {**state, **updated}

    def _inputs_of(self, batch: Batch) -> list[jax.Array]:
        if missing := [name for name in self.network_inputs if name not in batch]:
            raise ValueError(
                f"{type(self).__name__} needs {' and '.join(map(repr, missing))} in every batch; "
                f"this one has {', '.join(map(repr, sorted(batch)))}."
            )
        return [jnp.asarray(batch[name]) for name in self.network_inputs]

    @abc.abstractmethod
    def loss_fn(self, outputs: PyTree, batch: Batch, params: PyTree | None = None) -> jax.Array:
        """Returns the scalar to minimise, a mean over the batch's real examples."""

    @abc.abstractmethod
    def get_metrics_fn(self, split: Split) -> MetricsFn:
        """Returns ``fn(outputs, batch) -> {name: (sum, normalizer)}`` for a split."""
