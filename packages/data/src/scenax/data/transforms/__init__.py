"""What is done to an example between its source and its batch.

A transform is a frozen dataclass, called with an example and a generator from which it draws all
its randomness; it returns a new example. A list of them is given to ``get_dataset``:

>>> import scenax.data
>>> from scenax.data.transforms.geometry import RandomAffine
>>> dataset = scenax.data.get_dataset(
...     "digits", batch_size=2, train_transforms=[RandomAffine(max_degrees=5.0, fill=-1.0)]
... )

In a configuration, which is plain data, ``to_plain`` and ``from_plain`` write and read them.

What sources give, before any transform:

- ``image``: the bytes of an encoded image, or ``inputs``: uint8 ``[h, w, c]``.
- ``video``: a video file's path, or ``inputs``: uint8 ``[t, h, w, c]``.
- ``audio``: a sound file's path, or ``waveform``: float32 ``[samples]`` in [-1, 1], with
  ``sample_rate``.
- ``label``: a class id from 0; ``text``: a string.
- ``boxes`` float32 ``[n, 4]``, xyxy in pixels, right and bottom exclusive; ``classes`` int32
  ``[n]`` from 0; ``is_crowd`` bool ``[n]``; ``area`` float32 ``[n]``; ``masks`` bool ``[n, h, w]``.
- ``segmentation``: class ids ``[h, w]``, 255 where nothing counts.
- ``segments``: ids ``[h, w]``, 0 for none, with ``segment_ids`` and ``segment_classes`` int32.
- ``name``: the file or key, for reports.

What a batch holds is in ``targets``.
"""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from scenax.common.registry import did_you_mean
from scenax.data.examples import Transform

_MODULES = ("audio", "geometry", "image", "mixing", "policies", "targets", "video")


def to_plain(transforms: Sequence[Any]) -> list[dict[str, Any]]:
    """Returns transforms as plain data: the name and the options of each.

    >>> from scenax.data.transforms.geometry import RandomFlip
    >>> to_plain([RandomFlip()])
    [{'name': 'geometry.RandomFlip', 'args': {'probability': 0.5}}]
    """
    return [_to_plain(transform) for transform in transforms]


def from_plain(plain: Sequence[Transform | Mapping[str, Any]]) -> list[Transform]:
    """Returns the transforms that plain data name; those that are objects already stay.

    >>> from_plain([{"name": "geometry.RandomFlip"}])
    [RandomFlip(probability=0.5)]

    Raises:
      ValueError: if there is no such transform or option; the message has the closest.
    """
    return [_from_plain(item) if isinstance(item, Mapping) else item for item in plain]


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        module = kind.__module__.removeprefix(f"{__name__}.")
        fields = {f.name: _to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"name": f"{module}.{kind.__qualname__}", "args": fields}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    return value


def _from_plain(value: Any) -> Any:
    """A transform for a mapping with a name; tuples for lists, so that it can be hashed."""
    if isinstance(value, Mapping) and "name" in value:
        kind = _class(str(value["name"]))
        args = {key: _from_plain(item) for key, item in value.get("args", {}).items()}
        unknown = sorted(args.keys() - {field.name for field in dataclasses.fields(kind)})
        if unknown:
            names = [field.name for field in dataclasses.fields(kind)]
            raise ValueError(
                f"{value['name']} has no option {unknown[0]!r}. {did_you_mean(unknown[0], names)}"
            )
        return kind(**args)
    if isinstance(value, list | tuple):
        return tuple(_from_plain(item) for item in value)
    return value


def _class(name: str) -> type:
    """The transform of a name. Only this package's: a saved configuration runs no other code."""
    module, _, kind = name.rpartition(".")
    known = [
        f"{part}.{cls.__name__}"
        for part in _MODULES
        for cls in vars(importlib.import_module(f"{__name__}.{part}")).values()
        if isinstance(cls, type)
        and dataclasses.is_dataclass(cls)
        and cls.__module__ == f"{__name__}.{part}"
    ]
    if name not in known:
        raise ValueError(f"There is no transform {name!r}. {did_you_mean(name, known)}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), kind)
