"""What the tests of this app share. The package's own name is not written: forks have another."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

APP = pathlib.Path(__file__).parents[1]
ROOT = APP.parents[1]
PACKAGE = f"{APP.parent.name}.{APP.name}"
SMOKE = APP / "configs" / "smoke.py"

# optax's own arithmetic mixes integers and floats, which strict promotion does not allow.
jax.config.update("jax_numpy_dtype_promotion", "standard")


class Command:
    """Runs the app's command line in processes of their own, as a user does."""

    def __init__(self, data_dir: pathlib.Path, compiled: pathlib.Path) -> None:
        self.data_dir = data_dir
        self.environment = os.environ | {
            "XLA_FLAGS": "",
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(compiled),  # Most runs compile the same programs.
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def start(self, *arguments: str, module: str = "main") -> subprocess.Popen:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                f"{PACKAGE}.{module}",
                f"--data_dir={self.data_dir}",
                *arguments,
            ],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, module: str = "main") -> subprocess.CompletedProcess:
        process = self.start(*arguments, module=module)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def command(data_dir, tmp_path_factory):
    return Command(data_dir, tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="session")
def smoke_run(command, tmp_path_factory):
    """The folder and the output of a finished run of the smoke config."""
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    ran = command(f"--config={SMOKE}", f"--workdir={folder}")
    assert ran.returncode == 0, ran.stderr
    return folder, ran
