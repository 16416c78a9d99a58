"""Tests of models compile much and compute little."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="session")
def quick_to_compile():
    """One program is compared with another, and either may be as slow as it likes."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
