"""Prepares the embedded datasets once, in a temporary folder, and so in silence for doctests."""

import os
import tempfile

import pytest

_FOLDER = tempfile.TemporaryDirectory()
os.environ["TFDS_DATA_DIR"] = _FOLDER.name  # Read when tensorflow_datasets is imported.


@pytest.fixture(scope="session", autouse=True)
def _prepared():
    from scenax import data

    data.get_dataset("digits", batch_size=1)
