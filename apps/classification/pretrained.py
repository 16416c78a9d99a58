"""Starting from weights that there are already, published ones or one's own."""

import dataclasses

import jax

from scenax.common import tree
from scenax.common.contracts import PyTree
from scenax.data.transforms import preprocessing, to_plain
from scenax.models import create_model, load_pretrained, pretrained_cfg

from .config import Config
from .task import Task


def complete(config: Config) -> Config:
    """Returns a configuration that says how the images are normalized: as its weights want.

    So a run's own configuration, and what it does, depend on no file of weights any more.

    Raises:
      FileNotFoundError, ValueError: as ``load_pretrained``.
    """
    if config.weights is None or "normalize" in config.dataset.args:
        return config
    model = create_model(config.model.name, **config.model.args)
    normalize = preprocessing.normalization(pretrained_cfg(model, config.weights))
    args = {**config.dataset.args, "normalize": to_plain([normalize])[0]}
    return dataclasses.replace(config, dataset=dataclasses.replace(config.dataset, args=args))


def variables(task: Task) -> dict[str, PyTree]:
    """Returns the variables that training starts from, where the task has them.

    Raises:
      FileNotFoundError, ValueError: as ``load_pretrained``.
    """
    wanted = tree.flatten_with_paths(task.abstract_state.variables)
    return load_pretrained(
        task.model.flax_model,
        task.config.weights,
        rng=jax.random.key(task.config.seed),
        sharding=lambda path: wanted[path].sharding,
        input_shape=task.dataset.meta_data.input_shape,
        fresh=task.config.fresh,
    )
