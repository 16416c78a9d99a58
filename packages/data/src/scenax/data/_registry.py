"""Datasets by name."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

from scenax.common.registry import Registry
from scenax.data import caching, pipeline
from scenax.data.transforms import from_plain
from scenax.data.transforms.image import Normalize

DatasetFactory = Callable[..., pipeline.PipelineDataset]

_DATASETS: Registry[DatasetFactory] = Registry("dataset")


def register(name: str) -> Callable[[DatasetFactory], DatasetFactory]:
    """Returns a decorator that enters a function as the dataset ``name``.

    The function takes a ``pipeline.Reading`` and its own options by keyword, and returns the
    dataset.

    Raises:
      RegistryError: if the name is taken.

    >>> import numpy as np
    >>> from scenax.data import pipeline
    >>> from scenax.data.examples import ArraySource
    >>> @register("doctest_squares")
    ... def squares(reading):
    ...     x = np.arange(4, dtype=np.float32)
    ...     source = ArraySource({"inputs": x, "label": x**2})
    ...     info = pipeline.DatasetInfo("squares", (), "float32", 1, (), {"train": 4})
    ...     return pipeline.PipelineDataset(reading, info, {"train": source})
    >>> "doctest_squares" in list_datasets()
    True
    """
    return _DATASETS.register(name)


def list_datasets() -> list[str]:
    """Returns the names that ``get_dataset`` knows, sorted.

    >>> "digits" in list_datasets()
    True
    """
    return _DATASETS.names()


def get_dataset(  # noqa: PLR0913  (all by name; how data are read has many sides)
    name: str,
    *,
    batch_size: int,
    eval_batch_size: int | None = None,
    seed: int = 0,
    data_dir: str | None = None,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int | None = None,
    unreadable: Literal["raise", "skip"] = "raise",
    cache: caching.Cache | None = None,
    train_transforms: Sequence[Any] | None = None,
    eval_transforms: Sequence[Any] | None = None,
    normalize: Any = None,
    repeats: int = 1,
    **options: Any,
) -> pipeline.PipelineDataset:
    """Returns a dataset's batches, prepared on disk first if they are not there yet.

    Args:
      name: one of ``list_datasets()``.
      batch_size: examples per training batch, over all hosts together.
      eval_batch_size: the same in evaluation; ``batch_size`` if not given.
      seed: decides the order of the training examples and what their random transforms do.
      data_dir: where prepared data lie; TFDS's own default if not given.
      process_index: which of the hosts this is (``jax.process_index()``).
      process_count: how many hosts read, each a disjoint part (``jax.process_count()``).
      num_threads: how many threads of this host decode and transform; batches are the same for any
        number.
      unreadable: ``"skip"`` makes an example that cannot be read padding (``batch_mask`` is 0) and
        names it in the dataset's ``report``; ``"raise"`` makes it an error.
      cache: keeps examples once they were read: ``"memory"`` and ``"disk"`` as they are stored,
        ``"decoded_memory"`` and ``"decoded_disk"`` decoded. Disk caches are in
        ``$SCENAX_CACHE_DIR``, or ``~/.cache/scenax``.
      train_transforms: what is done to decoded training examples, instead of the dataset's own: a
        list of ``scenax.data.transforms``, or plain data that name them.
      eval_transforms: the same in evaluation.
      normalize: ``transforms.image.Normalize``, or plain data that name it, for the mean and the
        standard deviation that a model was trained with; images are in [-1, 1] if not given.
      repeats: how often in a row a training example comes, each time transformed anew.
      **options: the dataset's own.

    Raises:
      RegistryError: if there is no such dataset or option; the message has the closest ones.
      ValueError: if a batch size does not divide among the hosts.

    >>> dataset = get_dataset("digits", batch_size=8)
    >>> next(dataset.train_iter)["inputs"].shape
    (8, 8, 8, 1)
    >>> dataset.meta_data.num_classes
    10
    """
    reading = pipeline.Reading(
        batch_size=batch_size,
        eval_batch_size=batch_size if eval_batch_size is None else eval_batch_size,
        seed=seed,
        data_dir=data_dir,
        process_index=process_index,
        process_count=process_count,
        num_threads=num_threads,
        unreadable=unreadable,
        cache=cache,
        train_transforms=None if train_transforms is None else from_plain(train_transforms),
        eval_transforms=None if eval_transforms is None else from_plain(eval_transforms),
        normalize=Normalize() if normalize is None else cast(Normalize, from_plain([normalize])[0]),
        repeats=repeats,
    )
    return _DATASETS.make(name, reading, **options)
