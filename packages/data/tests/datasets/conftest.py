"""Tiny prepared copies of what TFDS prepares, in its formats, and the reading of batches."""

import functools
import io
import itertools
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

Examples = Mapping[str, Iterable[Mapping[str, Any]]]


@pytest.fixture(scope="session")
def png():
    """A function that returns pixels as the bytes of a PNG file."""
    return _png


def _png(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(np.squeeze(pixels)).save(encoded, "png")
    return encoded.getvalue()


@pytest.fixture(scope="session")
def write_copy():
    """A function that writes examples as TFDS would write its dataset of a name.

    The name, the configuration, the version and the features are those of TFDS's own builder, the
    files are written by TFDS. What an example lacks is made up. ``class_names``, by feature,
    are those that TFDS learns only from the files that it prepares.
    """
    return _write_copy


def _write_copy(
    name: str,
    data_dir: str | pathlib.Path,
    splits: Examples,
    *,
    file_format: str = "tfrecord",
    features: Any = None,
    class_names: Mapping[str, list[str]] | None = None,
) -> None:
    configs, version = [], "1.0.0"
    if features is None:
        real = tfds.builder(name, data_dir=data_dir)
        features, version = real.info.features, str(real.version)
        if real.builder_config is not None:
            configs = [tfds.core.BuilderConfig(name=real.builder_config.name, version=version)]
    kinds = features
    for key, names in (class_names or {}).items():
        functools.reduce(lambda kind, part: kind[part], key.split("."), kinds).names = names

    class Copy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = configs

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=kinds)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(rows) for split, rows in splits.items()}

        def _generate_examples(self, rows):
            for number, row in enumerate(rows):
                unknown = row.keys() - kinds.keys()
                assert not unknown, f"{name} has no {unknown}"
                made_up = {key: _made_up(kind) for key, kind in kinds.items() if key not in row}
                yield number, {**made_up, **row}

    Copy.name = name.partition("/")[0]
    tfds.disable_progress_bar()
    Copy(data_dir=data_dir, file_format=file_format).download_and_prepare()


def _made_up(kind: Any) -> Any:
    """A value that a feature takes."""
    if isinstance(kind, tfds.features.FeaturesDict):
        return {key: _made_up(inner) for key, inner in kind.items()}
    if isinstance(kind, tfds.features.Sequence):
        return []
    if isinstance(kind, tfds.features.Image):
        return _png(np.zeros((2, 2, kind.shape[-1] or 3), np.uint8))
    if isinstance(kind, tfds.features.BBoxFeature):
        return tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
    return "made up" if isinstance(kind, tfds.features.Text) else 0


@pytest.fixture(scope="session")
def take():
    """A function that returns the examples of a stream's next batches, by name."""
    return lambda batches, count: _joined(list(itertools.islice(batches, count)))


@pytest.fixture(scope="session")
def evaluated():
    """A function that returns all examples of an evaluation split, without the padding."""

    def read(batches):
        joined = _joined(list(batches))
        real = joined["batch_mask"] > 0
        return jax.tree.map(lambda rows: rows[real], joined)

    return read


def _joined(batches: list[Any]) -> Any:
    return jax.tree.map(lambda *parts: np.concatenate(parts), *batches)
