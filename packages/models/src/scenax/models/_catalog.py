"""Which architectures there are, read from their sources without importing them.

A family is a file in ``architectures/`` with a top-level dictionary ``VARIANTS``, whose literal
string keys are the names of its models, and a function ``build(name, **options)``.
"""

import ast
import functools
import pathlib

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
