"""What the pages say can be followed."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# What git ignores holds other people's pages: environments of ours and of the benchmarks.
LISTED = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
PAGES = [ROOT / line for line in subprocess.check_output(LISTED, cwd=ROOT, text=True).splitlines()]


def test_the_readme_opens_with_the_two_commands():
    commands = re.findall(r"^pip install .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands[:2] == [
        'pip install "nox[uv]" && nox -s demo',
        'pip install "nox[uv]" && nox -s tests',
    ]
    assert commands[1] in (ROOT / ".ci" / "run").read_text().replace("--quiet ", "")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sessions_and_files_that_are_named_exist(page):
    text, nox = page.read_text(), (ROOT / "noxfile.py").read_text()
    for session in re.findall(r"nox -s \"?([a-z_]+)", text):
        assert f"def {session}(" in nox, f"{page} names the session {session}"
    for path in re.findall(r"apps/(?!mine)\w+/[\w/]+\.py", text):
        assert (ROOT / path).exists(), f"{page} names {path}"


def test_the_readmes_snippet_runs():
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    program = snippet + "\nassert logits.shape == (1, 10)\nassert len(backbone.feature_info) == 2"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_example_with_a_head_of_ones_own_runs(tmp_path):
    """On weights of chance, in a folder of their own."""
    program = f"""
import jax, jax.numpy as jnp, scenax.models
model = scenax.models.create_model("test_vit", img_size=16, patch_size=8)
variables = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
scenax.models.save_pretrained(model, variables, {str(tmp_path)!r})
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    example = str(ROOT / "docs" / "examples" / "own_head.py")
    environment = os.environ | {"XLA_FLAGS": "", "TFDS_DATA_DIR": str(tmp_path / "data")}
    ran = subprocess.run(
        [sys.executable, example, str(tmp_path), "100"],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    features, share = re.fullmatch(r"(\d+) features, top-1 ([\d.]+)\n", ran.stdout).groups()
    assert features == "64"
    assert float(share) > 0.4  # Of ten classes; the backbone knows nothing.
