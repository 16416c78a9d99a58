"""Datasets: arrays in, deterministic and resumable batches out.

Importing this package enters the embedded datasets with TFDS, so that ``tfds.load("digits")``
works; TensorFlow itself is imported only by whoever reads through it.
"""

from scenax.data._registry import get_dataset as get_dataset
from scenax.data._registry import list_datasets as list_datasets
from scenax.data._registry import register as register
from scenax.data.datasets import digits as _digits  # noqa: F401  (registers on import)
from scenax.data.datasets import imagenet2012 as _imagenet2012  # noqa: F401
from scenax.data.pipeline import PipelineDataset as PipelineDataset
