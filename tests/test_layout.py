"""The house: what stands where, and how much of it."""

import ast
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
SOURCES = [*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("apps/**/*.py")]


def project(package: pathlib.Path) -> dict:
    return tomllib.loads((package / "pyproject.toml").read_text())["project"]


def test_there_are_four_packages():
    assert [package.name for package in PACKAGES] == ["common", "data", "models", "train"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_a_package_is_complete(package):
    portion = package / "src" / "scenax" / package.name
    for path in (package / "README.md", package / "CHANGELOG.md", package / "LICENSE"):
        assert path.is_file()
    assert (portion / "py.typed").is_file()
    assert not (package / "src" / "scenax" / "__init__.py").exists()  # A PEP 420 namespace.
    assert [path.name for path in (package / "src" / "scenax").iterdir() if path.is_dir()] == [
        package.name
    ]
    version = project(package)["version"]
    assert f"## [{version}]" in (package / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_siblings_are_declared_by_range(package):
    for requirement in project(package)["dependencies"]:
        if requirement.startswith("scenax-"):
            assert re.fullmatch(r"scenax-common>=\d+\.\d+,<\d+\.\d+", requirement)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_tests_mirror_sources(package):
    portion = package / "src" / "scenax" / package.name
    sources = {path.relative_to(portion).with_suffix("") for path in portion.rglob("*.py")}
    for test in (package / "tests").rglob("test_*.py"):
        path = test.relative_to(package / "tests").with_suffix("")
        name = path.name.removeprefix("test_")
        mirrored = {path.with_name(name), path.with_name(f"_{name}"), path.with_name(f"__{name}__")}
        assert mirrored & sources or name in ("conformance", "parity"), (
            f"{test} tests no source file"
        )


def test_nothing_is_called_utils():
    forbidden = {"utils", "helpers", "misc", "lib", "util", "helper"}
    assert [path for path in SOURCES if forbidden & {path.stem, path.parent.name}] == []


def test_what_has_to_stay_short_is_short():
    def lines(path, function=None):
        text = (ROOT / path).read_text()
        if function is None:
            return len(text.splitlines())
        (node,) = [
            n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and n.name == function
        ]
        return node.end_lineno - node.lineno + 1

    assert lines("packages/common/src/scenax/common/contracts.py") < 200
    assert lines("packages/train/src/scenax/train/loop.py", "fit") <= 150
    for path in ROOT.glob("apps/*/train.py"):
        assert lines(path) <= 150
    for path in ROOT.glob("packages/models/src/scenax/models/architectures/*.py"):
        assert lines(path) <= 400


@pytest.mark.parametrize("app", sorted(ROOT.glob("apps/*/main.py")), ids=lambda p: p.parent.name)
def test_an_app_has_the_names_that_every_app_has(app):
    for name in ("README.md", "train.py", "evaluate.py", "config.py", "configs/smoke.py", "tests"):
        assert (app.parent / name).exists()


def test_apps_import_relatively_or_from_scenax():
    for path in ROOT.glob("apps/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            assert not any(name.split(".")[0] == "apps" for name in names), path
