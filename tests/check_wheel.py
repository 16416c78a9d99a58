"""Checks one installed package: run by the Python of an environment that holds it alone."""

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys

NEVER = {
    "common": {"tensorflow", "tensorflow_datasets", "flax", "optax"},
    "models": {"tensorflow", "tensorflow_datasets", "grain"},
    "train": {"tensorflow", "tensorflow_datasets", "flax"},
    "data": {"flax", "optax"},
}
SIBLINGS = {"common", "data", "models", "train"}


def main(package: str) -> int:
    """Imports every module of ``scenax.<package>``; returns 0 if all is as it should be."""
    version = importlib.metadata.version(f"scenax-{package}")
    module = importlib.import_module(f"scenax.{package}")
    names = [m.name for m in pkgutil.walk_packages(module.__path__, f"scenax.{package}.")]
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)

    problems = [f"it imports {other}" for other in sorted(NEVER[package]) if other in sys.modules]
    problems += [
        f"its environment has {other}"
        for other in sorted(NEVER[package])
        if importlib.util.find_spec(other) is not None
    ]
    problems += [
        f"its environment has scenax.{sibling}"
        for sibling in sorted(SIBLINGS - {package, "common"})
        if importlib.util.find_spec(f"scenax.{sibling}") is not None
    ]
    if hasattr(sys.modules["scenax"], "__file__") and sys.modules["scenax"].__file__:
        problems.append("it ships scenax/__init__.py")
    for problem in problems:
        sys.stdout.write(f"scenax-{package} {version}: {problem}\n")
    if not problems:
        sys.stdout.write(f"scenax-{package} {version}: {len(names)} modules import, alone.\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
