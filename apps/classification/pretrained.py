"""Starting from weights that there are already, published ones or one's own."""

import dataclasses

import jax
from jax.sharding import Mesh

from scenax.common.contracts import PyTree
from scenax.data.transforms import preprocessing, to_plain
from scenax.models import ClassificationModel, create_model, load_pretrained, pretrained_cfg
from scenax.train import sharding

from .config import Config


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


def variables(config: Config, model: ClassificationModel, mesh: Mesh) -> dict[str, PyTree]:
    """Returns the variables that training starts from, on all devices of the mesh.

    Raises:
      FileNotFoundError, ValueError: as ``load_pretrained``.
    """
    return load_pretrained(
        model.flax_model,
        config.weights,
        rng=jax.random.key(config.seed),
        sharding=sharding.replicated(mesh),
        input_shape=model.dataset_meta_data.input_shape,
        fresh=config.fresh,
    )
