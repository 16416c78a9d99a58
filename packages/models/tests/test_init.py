"""The package's surface, and what importing it loads."""

import subprocess
import sys

import pytest

import scenax.models


def test_importing_and_listing_load_no_framework():
    code = (
        "import sys, scenax.models; scenax.models.list_models();"
        "print({'jax', 'flax', 'optax', 'numpy', 'tensorflow', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_everything_public_is_there():
    assert all(hasattr(scenax.models, name) for name in scenax.models.__all__)
    assert set(scenax.models.__all__) <= set(dir(scenax.models))
    assert scenax.models.ClassificationModel is scenax.models.get_model_cls("classification")
    with pytest.raises(AttributeError, match="no attribute 'create_modle'"):
        _ = scenax.models.create_modle
