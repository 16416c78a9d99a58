"""Which weights are published for an architecture, and what they ask of images.

The table ``weights.csv``, as of timm 1.0.31 of 2026-11-03, has a row for every tag, the default
one first; an architecture without weights has one row, with the tag ``untrained``. Nothing here
imports jax.
"""

import csv
import functools
import importlib.resources
from collections.abc import Callable
from typing import Any

from scenax.common.registry import RegistryError, did_you_mean

UNTRAINED = "untrained"


def _names(value: str) -> str | tuple[str, ...] | None:
    names = tuple(value.split())
    return names if len(names) > 1 else (names[0] if names else None)


def _numbers(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...] | None]:
    return lambda value: tuple(map(kind, value.split())) or None


def _optional(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda value: kind(value) if value else None


_COLUMNS: dict[str, Callable[[str], Any]] = {
    "architecture": str,
    "tag": str,
    "source": _optional(str),
    "license": _optional(str),
    "input_size": _numbers(int),
    "test_input_size": _numbers(int),
    "fixed_input_size": lambda value: value == "1",
    "crop_pct": float,
    "test_crop_pct": _optional(float),
    "crop_mode": str,
    "interpolation": str,
    "mean": _numbers(float),
    "std": _numbers(float),
    "num_classes": int,
    "pool_size": _numbers(int),
    "first_conv": _names,
    "classifier": _names,
    "top1": _optional(float),
    "top1_size": _optional(int),
}


@functools.cache
def _table() -> dict[str, dict[str, dict[str, str]]]:
    text = importlib.resources.files("scenax.models").joinpath("weights.csv").read_text("utf-8")
    table: dict[str, dict[str, dict[str, str]]] = {}
    for row in csv.DictReader(text.splitlines()[1:]):
        table.setdefault(row["architecture"], {})[row["tag"]] = row
    return table


def tags(architecture: str) -> list[str]:
    """Returns the tags of an architecture's published weights, the default one first."""
    return [tag for tag in _table().get(architecture, {}) if tag != UNTRAINED]


def card(architecture: str, tag: str = "") -> dict[str, Any]:
    """Returns what timm's ``default_cfg`` says of weights and their input, and more.

    Args:
      architecture: a name of the zoo.
      tag: of the weights; empty for the default ones.

    Returns:
      ``architecture``, ``tag``, ``tags`` (all that there are), ``hf_hub_id`` or ``url``,
      ``license``, ``input_size`` (channels, height, width), ``test_input_size``,
      ``fixed_input_size``, ``crop_pct``, ``test_crop_pct``, ``crop_mode``, ``interpolation``,
      ``mean``, ``std``, ``num_classes``, ``pool_size``, ``first_conv``, ``classifier``, and
      ``top1`` (percent on ImageNet-1k) at ``top1_size`` pixels. None is what is not known.

    Raises:
      RegistryError: if the architecture has no weights of that tag.
    """
    rows = _table()[architecture]
    row = rows.get(tag) if tag else next(iter(rows.values()))
    if row is None:
        known = tags(architecture)
        closest = did_you_mean(tag, known) if known else "It has no published weights."
        raise RegistryError(
            f"{architecture} has no weights tagged {tag!r}. {closest} "
            f"Use {architecture!r} alone for the default ones."
        )
    values = {column: convert(row[column]) for column, convert in _COLUMNS.items()}
    source = values.pop("source")
    is_url = bool(source) and "://" in source
    values |= {"hf_hub_id": None if is_url else source, "url": source if is_url else None}
    return values | {"tags": tuple(tags(architecture))}
