"""How long an import takes in a fresh interpreter.

Both are light by design: a list of models, or a configuration, needs no jax.
"""

params = ["scenax.common", "scenax.models"]
param_names = ["module"]
version = "1"


def timeraw_import(module: str) -> str:
    """Returns what asv times, in a process of its own."""
    return f"import {module}"
