"""What is known of architectures beside their figures: families, tasks, papers and weights."""

import ast
import pathlib
from typing import Any

RETIRED = "retired"
"""The family of names that the registry no longer has."""


def families() -> dict[str, str]:
    """Returns the family of every architecture: its file's name."""
    from scenax.models import _catalog

    return {name: module.rpartition(".")[2] for name, module in _catalog.families().items()}


def task_of(name: str) -> str:
    """Returns what an architecture is for. All of them classify images so far."""
    del name
    return "classification"


def cards(names: list[str]) -> dict[str, Any]:
    """Returns model cards of those names that the registry has, and texts of their families."""
    from scenax.models import _catalog, _weights

    modules = _catalog.families()
    folder = pathlib.Path(_catalog.__file__).parent / "architectures"
    known = [name for name in names if name in modules]
    stems = sorted({modules[name].rpartition(".")[2] for name in known})
    return {
        "models": {name: _card(_weights.card(name)) for name in known},
        "families": {stem: _paragraphs(folder / f"{stem}.py") for stem in stems},
    }


def top1(names: list[str]) -> list[float | None]:
    """Returns the published top-1 accuracy on ImageNet of default weights, in percent."""
    from scenax.models import _catalog, _weights

    known = _catalog.families()
    return [_weights.card(name)["top1"] if name in known else None for name in names]


def _card(card: dict[str, Any]) -> dict[str, Any]:
    keys = ("tag", "license", "input_size", "top1", "top1_size", "tags")
    return {key: card[key] for key in keys} | {"source": card["hf_hub_id"] or card["url"] or ""}


def _paragraphs(path: pathlib.Path) -> list[str]:
    """Returns what a family is and its papers: the first paragraphs of its file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")[:2]]
