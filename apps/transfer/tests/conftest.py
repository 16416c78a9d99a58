"""What the tests of this app share. The package's own name is not written: forks have another."""

import contextlib
import io
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.common import config as config_lib
from scenax.models import create_model, save_pretrained

from ..config import Config
from ..main import main

APP = pathlib.Path(__file__).parents[1]
SMOKE = APP / "configs" / "smoke.py"
OPTIONS = config_lib.load(SMOKE)["model"]["args"] | {"img_size": 8, "in_chans": 1, "depth": 1}


def smoke(**overrides):
    """The smoke config with some values changed; ``__`` stands for a dot."""
    changed = {"model.args": OPTIONS}
    changed |= {key.replace("__", "."): value for key, value in overrides.items()}
    return config_lib.resolve(Config, config_lib.load(SMOKE), changed)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A folder of random weights with a head, and the model and variables that are in it."""
    folder = tmp_path_factory.mktemp("weights")
    model = create_model("test_vit", num_classes=7, **OPTIONS)
    images = jnp.zeros((1, 8, 8, 1))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    rng = np.random.default_rng(3)
    variables = jax.tree.map(lambda x: jnp.float32(0.2 * rng.normal(size=x.shape)), shapes)
    save_pretrained(model, variables, folder)
    return folder, model, variables


@pytest.fixture(scope="session")
def command(data_dir):
    """A function that runs the command in this process: exit status, output and errors."""

    def run(output, *arguments, config=SMOKE):
        out, err = io.StringIO(), io.StringIO()
        flags = [f"--config={config}", f"--output={output}", f"--data_dir={data_dir}"]
        flags += ["--config.model.args.depth=1"]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([*flags, *arguments])
        assert "Traceback" not in out.getvalue() + err.getvalue()
        return status, out.getvalue(), err.getvalue()

    return run


@pytest.fixture(scope="session")
def finished(command, weights, tmp_path_factory):
    """The folder and the output of a finished command."""
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    status, out, err = command(folder, f"--config.weights={weights[0]}")
    assert status == 0, err
    return folder, out
