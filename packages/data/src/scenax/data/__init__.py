"""Datasets: arrays in, deterministic and resumable batches out.

Importing this package enters the embedded datasets with TFDS, so that ``tfds.load("digits")``
works; TensorFlow itself is imported only by whoever reads through it.
"""

from scenax.data._registry import get_dataset as get_dataset
from scenax.data._registry import list_datasets as list_datasets
from scenax.data._registry import register as register
from scenax.data.datasets import audio_visual as _audio_visual  # noqa: F401
from scenax.data.datasets import digit_scenes as _digit_scenes  # noqa: F401  (registers on import)
from scenax.data.datasets import digit_strings as _digit_strings  # noqa: F401
from scenax.data.datasets import digit_tones as _digit_tones  # noqa: F401
from scenax.data.datasets import digits as _digits  # noqa: F401
from scenax.data.datasets import image_classification as _image_classification  # noqa: F401
from scenax.data.datasets import moving_digits as _moving_digits  # noqa: F401
from scenax.data.datasets import object_detection as _object_detection  # noqa: F401
from scenax.data.datasets import segmentation as _segmentation  # noqa: F401
from scenax.data.datasets import video_classification as _video_classification  # noqa: F401
from scenax.data.pipeline import PipelineDataset as PipelineDataset
