"""Names for things that are made on request: lazy, without duplicates, kind about typing errors."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T", bound=Callable[..., Any])


class RegistryError(ValueError):
    """A name or an option that is not there, or a name that is there already."""


def closest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """Returns the names most like ``name``, best first, at most ``count`` of them."""
    return difflib.get_close_matches(name, list(names), n=count, cutoff=0.5)


def did_you_mean(name: str, names: Iterable[str], count: int = 3) -> str:
    """Returns a sentence with the names closest to ``name``, or with all if none is close."""
    names = sorted(names)
    found = closest(name, names, count)
    if found:
        return f"Did you mean {' or '.join(map(repr, found))}?"
    listed = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
    return f"There {'is' if len(names) == 1 else 'are'} {listed or 'none'}."


class Registry(Generic[T]):
    """A mapping from names to callables, of which some are imported only when they are asked for.

    >>> shapes = Registry("shape")
    >>> @shapes.register("square")
    ... def square(side):
    ...     return side * side
    >>> shapes.get("square")(3)
    9
    >>> shapes.register_lazy("sqrt", "math:sqrt")
    >>> shapes.names()
    ['sqrt', 'square']
    """

    def __init__(self, kind: str) -> None:
        """``kind`` is the noun that messages use, such as ``"dataset"``."""
        self._kind = kind
        self._entries: dict[str, T | str] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that enters a callable under ``name``.

        Raises:
          RegistryError: if the name is taken.
        """

        def decorator(value: T) -> T:
            self._add(name, value)
            return value

        return decorator

    def register_lazy(self, name: str, target: str) -> None:
        """Enters ``"module:attribute"``, to be imported when ``name`` is asked for.

        Raises:
          RegistryError: if the name is taken.
        """
        self._add(name, target)

    def _add(self, name: str, value: T | str) -> None:
        if name in self._entries:
            raise RegistryError(
                f"The {self._kind} {name!r} is registered already, as {self._entries[name]}. "
                "Choose another name."
            )
        self._entries[name] = value

    def get(self, name: str) -> T:
        """Returns the callable under ``name``, imported first if it is lazy.

        Raises:
          RegistryError: if there is no such name; the message has the closest ones.
        """
        if name not in self._entries:
            raise RegistryError(
                f"Unknown {self._kind} {name!r}. {did_you_mean(name, self._entries)}"
            )
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), attribute)
        return cast(T, entry)

    def make(self, name: str, *args: Any, **options: Any) -> Any:
        """Calls what is under ``name``.

        Raises:
          RegistryError: if there is no such name, or it takes no such option by keyword; the
            message has the closest ones.
        """
        entry = self.get(name)
        parameters = inspect.signature(entry).parameters.values()
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            for option in options:
                if option not in known:
                    raise RegistryError(
                        f"The {self._kind} {name!r} has no option {option!r}. "
                        f"{did_you_mean(option, known)}"
                    )
        return entry(*args, **options)

    def names(self) -> list[str]:
        """Returns all names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._entries)
