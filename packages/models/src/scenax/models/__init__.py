"""Architectures, losses, metrics and base models for computer vision, in Flax.

Importing this module loads neither jax nor flax: a name is enough to list models, and an
architecture is imported when it is made.
"""

import importlib
from typing import TYPE_CHECKING, Any

from scenax.models._registry import create_model as create_model
from scenax.models._registry import list_models as list_models
from scenax.models._registry import register_model as register_model
from scenax.models._tasks import get_model_cls as get_model_cls

if TYPE_CHECKING:
    from scenax.models.base_models.base import BaseModel as BaseModel
    from scenax.models.base_models.classification import ClassificationModel as ClassificationModel
    from scenax.models.base_models.contrastive import ContrastiveModel as ContrastiveModel
    from scenax.models.base_models.dense_detection import DenseDetectionModel as DenseDetectionModel
    from scenax.models.base_models.detection import DetectionModel as DetectionModel
    from scenax.models.base_models.encoder_decoder import EncoderDecoderModel as EncoderDecoderModel
    from scenax.models.base_models.multilabel_classification import (
        MultiLabelClassificationModel as MultiLabelClassificationModel,
    )
    from scenax.models.base_models.regression import RegressionModel as RegressionModel
    from scenax.models.base_models.segmentation import SegmentationModel as SegmentationModel
    from scenax.models.pretrained.load import load_pretrained as load_pretrained
    from scenax.models.pretrained.save import save_pretrained as save_pretrained
    from scenax.models.pretrained.sources import pretrained_cfg as pretrained_cfg
    from scenax.models.pretrained.sources import pretrained_model as pretrained_model

__all__ = [
    "BaseModel",
    "ClassificationModel",
    "ContrastiveModel",
    "DenseDetectionModel",
    "DetectionModel",
    "EncoderDecoderModel",
    "MultiLabelClassificationModel",
    "RegressionModel",
    "SegmentationModel",
    "create_model",
    "get_model_cls",
    "list_models",
    "load_pretrained",
    "pretrained_cfg",
    "pretrained_model",
    "register_model",
    "save_pretrained",
]

_LAZY = {
    "BaseModel": "base_models.base",
    "ClassificationModel": "base_models.classification",
    "ContrastiveModel": "base_models.contrastive",
    "DenseDetectionModel": "base_models.dense_detection",
    "DetectionModel": "base_models.detection",
    "EncoderDecoderModel": "base_models.encoder_decoder",
    "MultiLabelClassificationModel": "base_models.multilabel_classification",
    "RegressionModel": "base_models.regression",
    "SegmentationModel": "base_models.segmentation",
    "load_pretrained": "pretrained.load",
    "pretrained_cfg": "pretrained.sources",
    "pretrained_model": "pretrained.sources",
    "save_pretrained": "pretrained.save",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
