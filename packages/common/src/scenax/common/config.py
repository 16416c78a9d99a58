"""Configurations: plain data in a Python file, checked against a dataclass.

An app declares its options once, as a dataclass with types and defaults. A config file is code and
trusted: it has a docstring and a function ``get_config()`` that returns a dictionary. The resolved
configuration is written as JSON, from which a run can be started just as well.
"""

import ast
import dataclasses
import json
import pathlib
import runpy
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pydantic
import pydantic.dataclasses

from scenax.common.registry import did_you_mean

T = TypeVar("T")


@typing.dataclass_transform(frozen_default=True)
def schema(cls: type[T]) -> type[T]:
    """Makes a class of annotated fields a frozen dataclass that ``resolve`` can check data with.

    >>> @schema
    ... class Options:
    ...     batch_size: int
    ...     name: str = "digits"
    >>> resolve(Options, {"batch_size": 8}, {"name": "other"})
    Options(batch_size=8, name='other')
    """
    checks = pydantic.ConfigDict(extra="forbid", strict=True)
    make: Any = pydantic.dataclasses.dataclass(frozen=True, config=checks)
    return make(cls)


class ConfigError(ValueError):
    """A configuration that does not fit what the app takes; the message lists every problem."""


def load(path: str | pathlib.Path) -> dict[str, Any]:
    """Returns the data of a config file: ``get_config()`` of a ``.py``, or a ``.json``.

    Raises:
      ConfigError: if the file is not there, or is neither.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*") if p.suffix in (".py", ".json")]
        raise ConfigError(f"There is no config file {path}. {did_you_mean(path.name, beside)}")
    if path.suffix == ".json":
        try:
            return json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path} is not JSON: {error}.") from error
    if path.suffix != ".py":
        raise ConfigError(f"A config file ends in .py or .json, got {path}.")
    get_config = runpy.run_path(str(path)).get("get_config")
    if get_config is None:
        raise ConfigError(f"{path} has no function get_config() that returns a dictionary.")
    return get_config()


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Returns ``{"a.b": value}`` for arguments ``--config.a.b=value``.

    A value is read as Python data (``64``, ``1e-3``, ``(1, 2)``, ``True``, ``None``), else as text.

    >>> parse_overrides(["--config.optimizer.learning_rate=1e-3", "--config.model.name=test_vit"])
    {'optimizer.learning_rate': 0.001, 'model.name': 'test_vit'}

    Raises:
      ConfigError: if an argument has another form.
    """
    overrides = {}
    for argument in arguments:
        key, equals, text = argument.removeprefix("--config.").partition("=")
        if not argument.startswith("--config.") or not equals or not key:
            raise ConfigError(
                f"Unknown argument {argument!r}. A config's value is changed by "
                "--config.KEY=VALUE, with dots for what is nested."
            )
        try:
            overrides[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            overrides[key] = text
    return overrides


def resolve(cls: type[T], data: Mapping[str, Any], overrides: Mapping[str, Any]) -> T:
    """Returns ``data`` with ``overrides`` put in, as an instance of a ``schema`` class.

    Raises:
      ConfigError: names every unknown key, with the closest that there is, every missing one, and
        every value of the wrong type, with what came and what is wanted.
    """
    merged = json_like(data)
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        node = merged
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{dotted}: {parent} holds a value, so nothing is nested in it.")
        node[last] = value
    try:
        plain = json.dumps(merged)
    except TypeError as error:
        raise ConfigError(f"A config holds plain data only: {error}.") from None
    try:
        return pydantic.TypeAdapter(cls).validate_json(plain)
    except pydantic.ValidationError as error:
        problems = [_explain(cls, problem) for problem in error.errors()]
        raise ConfigError("\n".join(problems)) from None


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a configuration's dataclass as plain data that JSON can hold."""
    return json_like(dataclasses.asdict(config))


def save(config: Any, path: pathlib.Path) -> None:
    """Writes a configuration's dataclass as JSON, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(to_dict(config), indent=2) + "\n")
    temporary.replace(path)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns a line for every value that differs between two configurations.

    >>> differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
    ['b.c: 2 there, 3 here']
    """
    lines = []
    for key in sorted(old.keys() | new.keys()):
        there, here = old.get(key, "absent"), new.get(key, "absent")
        if isinstance(there, dict) and isinstance(here, dict):
            lines += differences(there, here, f"{prefix}{key}.")
        elif there != here:
            lines.append(f"{prefix}{key}: {there} there, {here} here")
    return lines


def json_like(value: Any) -> Any:
    """Returns nested mappings and sequences as dictionaries and lists, as JSON would have them."""
    if isinstance(value, Mapping):
        return {key: json_like(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_like(item) for item in value]
    return value


def _explain(cls: type, problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    where = ".".join(path)
    if problem["type"] == "unexpected_keyword_argument":
        return f"Unknown config key {where!r}. {did_you_mean(path[-1], _keys(cls, path[:-1]))}"
    if problem["type"] in ("missing", "missing_argument"):
        return f"The config lacks {where!r}, which has no default."
    came = problem["input"]
    return f"{where}: {problem['msg']}, got {came!r} of type {type(came).__name__}."


def _keys(cls: type, path: Sequence[str]) -> list[str]:
    """The field names of the dataclass that ``path`` leads to from ``cls``."""
    for name in path:
        cls = typing.get_type_hints(cls).get(name, cls)
        # What may be None, or is a mapping of such by name.
        cls = next(
            (kind for kind in typing.get_args(cls) if hasattr(kind, "__dataclass_fields__")), cls
        )
    return [field.name for field in dataclasses.fields(cls)]
