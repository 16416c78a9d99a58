"""Which architectures there are, read from their sources without importing them.

A family is a file in ``architectures/`` with a top-level dictionary ``VARIANTS``, whose literal
string keys are the names of its models, a function ``build(name, **options)``, and a literal
``REPRESENTATIVE``: the name that stands for the family where all of them cost too much, and the
options that make a small copy of it, for images of 32x32 pixels.
"""

import ast
import functools
import pathlib
from typing import Any

_FOLDER = pathlib.Path(__file__).parent / "architectures"


@functools.cache
def families() -> dict[str, str]:
    """Returns the module of every architecture that Scenax ships, by the architecture's name.

    Raises:
      ValueError: if a family file has no table that can be read, or two share a name.
    """
    modules: dict[str, str] = {}
    for path in sorted(_FOLDER.glob("[!_]*.py")):
        module = f"scenax.models.architectures.{path.stem}"
        for name in variants(path.read_text(encoding="utf-8"), path.name):
            if name in modules:
                raise ValueError(f"Both {modules[name]} and {module} have a variant {name!r}.")
            modules[name] = module
    return modules


@functools.cache
def representatives() -> dict[str, tuple[str, dict[str, Any]]]:
    """Returns what stands for a family, by the family's file: a name, and options of a small copy.

    Raises:
      ValueError: if a family file names none of its variants.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for path in sorted(_FOLDER.glob("[!_]*.py")):
        source = path.read_text(encoding="utf-8")
        found[path.stem] = representative(source, path.name)
    return found


def representative(source: str, filename: str = "<string>") -> tuple[str, dict[str, Any]]:
    """Returns the top-level ``REPRESENTATIVE = (name, options)`` in a family's source.

    Raises:
      ValueError: if there is none, or not a literal, or not one of the family's variants.
    """
    for node in ast.parse(source, filename).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="REPRESENTATIVE")], value=value):
                name, options = ast.literal_eval(value)
                if name not in (names := variants(source, filename)):
                    raise ValueError(
                        f"REPRESENTATIVE in {filename} is {name!r}, which is none of its VARIANTS: "
                        f"{', '.join(names)}."
                    )
                return name, options
    raise ValueError(
        f'{filename} has no top-level REPRESENTATIVE = ("name", {{"option": value}}), which says '
        "what stands for the family in benchmarks."
    )


def variants(source: str, filename: str = "<string>") -> list[str]:
    """Returns the keys of the top-level ``VARIANTS = {...}`` in a family's source.

    Raises:
      ValueError: if there is no such dictionary, or if a key is not a literal string.
    """
    for node in ast.parse(source, filename).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="VARIANTS")], value=ast.Dict(keys=keys)):
                pass
            case ast.AnnAssign(target=ast.Name(id="VARIANTS"), value=ast.Dict(keys=keys)):
                pass
            case _:
                continue
        names = [key.value for key in keys if isinstance(key, ast.Constant)]
        if len(names) < len(keys) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"Every key of VARIANTS in {filename} has to be a literal string.")
        return [str(name) for name in names]
    raise ValueError(f"{filename} has no top-level dictionary VARIANTS.")
