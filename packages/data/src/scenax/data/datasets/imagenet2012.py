"""ImageNet-1k (Russakovsky et al., arXiv 1409.0575): 1.28 million photographs of 1,000 classes.

TFDS's ``imagenet2012``, whose files a user fetches by hand; the error that says so has the command
that prepares them. Training reads the first 99 % of TFDS's training split, validation the last 1 %,
which no published number uses, and test is ImageNet's own validation split, as papers report it.

The transforms are those of "Better plain ViT baselines for ImageNet-1k" (Beyer et al., arXiv
2205.01580); its recipe is ``randaugment_layers=2, randaugment_magnitude=10, mixup_alpha=0.2``.
"""

from typing import Any, cast

import numpy as np
from PIL import Image

from scenax.common.contracts import DatasetInfo
from scenax.data import _registry, pipeline
from scenax.data.sources import tfds as tfds_source
from scenax.data.transforms import image as image_transforms
from scenax.data.transforms import mixing, policies

_SPLITS = {"train": "train[:99%]", "validation": "train[99%:]", "test": "validation"}


@_registry.register("imagenet2012")
def imagenet2012(
    reading: pipeline.Reading,
    *,
    image_size: int = 224,
    resize_to: int = 256,
    randaugment_layers: int = 0,
    randaugment_magnitude: float = 10,
    mixup_alpha: float = 0.0,
) -> pipeline.PipelineDataset:
    """Returns ImageNet with ``inputs`` float32 in [-1, 1], ``[image_size, image_size, 3]``.

    Training images are inception crops, flipped half of the time; evaluation images are resized
    and cropped centrally. ``label`` is the class as int32; with mixup it is float32 ``[1000]`` that
    sums to 1, in evaluation too, so that one model fits both. Class names are WordNet's synset ids.

    Args:
      reading: how it is read.
      image_size: side of the images in pixels.
      resize_to: what an evaluation image's smaller side is resized to before it is cropped.
      randaugment_layers: how many random operations a training image goes through.
      randaugment_magnitude: how strong they are, from 0 to 10.
      mixup_alpha: training images are blended in pairs by shares from Beta(alpha, alpha); 0 for
        none.

    Raises:
      FileNotFoundError: if the data are not prepared; the message says how to.
      ValueError: if an option is out of its range.
    """
    if not 0 < image_size <= resize_to:
        raise ValueError(
            "Evaluation crops image_size pixels from an image resized to resize_to, so it needs "
            f"0 < image_size <= resize_to, got image_size={image_size} and resize_to={resize_to}."
        )
    policy = policies.RandAugment(randaugment_layers, randaugment_magnitude)
    mixup = None if mixup_alpha == 0 else mixing.Mixup(mixup_alpha)

    builder = tfds_source.open_prepared("imagenet2012", data_dir=reading.data_dir)
    sources = {
        split: tfds_source.open_lazily(builder, part, encoded=["image"])
        for split, part in _SPLITS.items()
    }
    label_names = tuple(cast(Any, builder.info.features)["label"].names)

    def finished(image: Image.Image, class_id: int) -> pipeline.Example:
        label = np.int32(class_id) if mixup is None else mixing.one_hot(class_id, len(label_names))
        return {"inputs": image_transforms.normalize(image), "label": label}

    def augment(example: pipeline.Example, rng: np.random.Generator) -> pipeline.Example:
        image = image_transforms.open_encoded(example["image"])
        image = image_transforms.random_resized_crop(image, image_size, rng)
        image = image_transforms.random_flip(image, rng)
        return finished(policy(image, rng), example["label"])

    def evaluate(example: pipeline.Example) -> pipeline.Example:
        image = image_transforms.open_encoded(example["image"])
        image = image_transforms.resize_smaller_side(image, resize_to)
        return finished(image_transforms.central_crop(image, image_size), example["label"])

    info = DatasetInfo(
        name="imagenet2012",
        input_shape=(image_size, image_size, 3),
        input_dtype="float32",
        num_classes=len(label_names),
        label_names=label_names,
        num_examples={split: len(source) for split, source in sources.items()},
        targets="class_id" if mixup is None else "one_hot",
    )
    return pipeline.PipelineDataset(
        reading,
        info,
        sources,
        train_transform=augment,
        pair_transform=mixup,
        eval_transform=evaluate,
    )
