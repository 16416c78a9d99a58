"""Base models by name: a task, or an architecture and a task."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scenax.common.registry import Registry, RegistryError, did_you_mean
from scenax.models import _registry

if TYPE_CHECKING:
    from scenax.models.base_models.base import BaseModel

_tasks: Registry[Callable[..., Any]] = Registry("task")
for _task, _target in {
    "classification": "classification:ClassificationModel",
    "contrastive": "contrastive:ContrastiveModel",
    "dense_detection": "dense_detection:DenseDetectionModel",
    "detection": "detection:DetectionModel",
    "encoder_decoder": "encoder_decoder:EncoderDecoderModel",
    "multilabel_classification": "multilabel_classification:MultiLabelClassificationModel",
    "regression": "regression:RegressionModel",
    "segmentation": "segmentation:SegmentationModel",
}.items():
    _tasks.register_lazy(_task, f"scenax.models.base_models.{_target}")


def get_model_cls(name: str) -> "Callable[..., BaseModel]":
    """Returns a base model by its task, or by architecture and task, as in Scenic.

    >>> from scenax.common.contracts import DatasetInfo
    >>> meta_data = DatasetInfo("toy", (8, 8, 1), "float32", 3, ("a", "b", "c"), {"train": 30})
    >>> model_cls = get_model_cls("fully_connected_classification")
    >>> model = model_cls({"args": {"hid_sizes": (16,)}}, meta_data)
    >>> model.build_flax_model().num_classes
    3

    Args:
      name: ``"<task>"`` or ``"<architecture>_<task>"``.

    Returns:
      What is called as ``model_cls(config, dataset.meta_data)``.

    Raises:
      RegistryError: if there is no such name; the message has the closest ones.
    """
    if name in _tasks:
        return _tasks.get(name)
    for task in _tasks:
        architecture = name.removesuffix(f"_{task}")
        if architecture != name and _registry.is_model(architecture):
            return functools.partial(_tasks.get(task), architecture=architecture)
    names = [*_tasks, *(f"{model}_{task}" for model in _registry.list_models() for task in _tasks)]
    raise RegistryError(f"Unknown model class {name!r}. {did_you_mean(name, names)}")
