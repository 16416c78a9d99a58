"""The import contracts hold, and a tool that says so would say if they did not."""

import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def house(tmp_path):
    """A copy of the sources that import-linter sees instead of the installed ones."""
    ignore = shutil.ignore_patterns("__pycache__", "tests")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for portion in ROOT.glob("packages/*/src/scenax/*"):
        shutil.copytree(portion, tmp_path / "scenax" / portion.name, ignore=ignore)
    shutil.copytree(ROOT / "apps", tmp_path / "apps", ignore=ignore)
    return tmp_path


def lint(house):
    """Runs import-linter with only the copy to import from."""
    program = (
        "import sys; sys.path[:] = [p for p in sys.path if '/packages/' not in p];"
        f"sys.path.insert(0, {str(house)!r});"
        "from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=house, capture_output=True, text=True, check=False
    )


def test_the_house_keeps_its_contracts(house):
    ran = lint(house)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " 0 broken" in ran.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("scenax/models/layers/drop_path.py", "import scenax.data"),
        ("scenax/data/pipeline.py", "from scenax.train import loop"),
        ("scenax/train/step.py", "from scenax.models import create_model"),
        ("scenax/common/tree.py", "from scenax import models"),
        ("scenax/models/losses/reduction.py", "import tensorflow"),
        ("scenax/train/state.py", "import flax"),
        ("scenax/common/flops.py", "import apps.classification.config"),
    ],
)
def test_a_planted_import_is_caught(house, file, line):
    path = house / file
    path.write_text(f"{path.read_text()}\n\ndef _planted():\n    {line}\n")
    ran = lint(house)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "BROKEN" in ran.stdout
