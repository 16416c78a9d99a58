"""What was wrong with a user's data, counted and named, so that nothing is dropped in silence."""

import collections
import re
import threading

_NAMED = 5
# Libraries' messages name objects with their addresses, another one every time.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class UnreadableError(ValueError):
    """An example that cannot be decoded: its file is cut off, empty, or not what it says it is."""


class Report:
    """Problems by kind, each with the places where it was met; may be used by many threads.

    >>> report = Report()
    >>> report.add("box outside the image, clipped", "cat.jpg")
    >>> report.add("box outside the image, clipped", "dog.jpg")
    >>> print(report)
    box outside the image, clipped: 2 (cat.jpg, dog.jpg)
    """

    def __init__(self) -> None:
        self._places: dict[str, set[str]] = collections.defaultdict(set)
        self._lock = threading.Lock()

    def add(self, kind: str, place: str) -> None:
        """Counts a problem once for each place, however often it is met there."""
        with self._lock:
            self._places[kind].add(_ADDRESS.sub("", place))

    @property
    def places(self) -> dict[str, list[str]]:
        """Every place by the kind of problem, sorted."""
        with self._lock:
            return {kind: sorted(places) for kind, places in sorted(self._places.items())}

    def __bool__(self) -> bool:
        return bool(self._places)

    def __str__(self) -> str:
        """A line for every kind: how many, and the first of them by name."""
        lines = []
        for kind, places in self.places.items():
            named = ", ".join(places[:_NAMED]) + (", ..." if len(places) > _NAMED else "")
            lines.append(f"{kind}: {len(places)} ({named})")
        return "\n".join(lines)
