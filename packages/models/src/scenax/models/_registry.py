"""Models by name: the zoo's, and those that users register.

A builder is a function from options to a Flax module. The options of a builder are its keyword
parameters; if it takes ``**options`` too, then also the fields of the module class that it is
annotated to return, and for a field ``size`` the fields of that. Nothing here imports jax; a family
is imported when it is first built.
"""

import dataclasses
import fnmatch
import functools
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from scenax.common.registry import Registry, RegistryError, did_you_mean
from scenax.models import _catalog, _weights

if TYPE_CHECKING:
    from flax import linen as nn

Builder = TypeVar("Builder", bound=Callable[..., Any])

_NOT_OPTIONS = {"parent", "name", "default_cfg"}
"""Fields of modules that are not a user's to choose."""

_custom: Registry[Callable[..., Any]] = Registry("model")


def create_model(name: str, **options: Any) -> "nn.Module":
    """Returns the architecture of a name, a ``flax.linen.Module`` that holds no arrays.

    Names, options and their meanings are timm's; an option that is None keeps its default. Most
    families know ``num_classes`` (0: pooled features and no head), ``in_chans``, ``img_size``
    (an integer or height and width), ``global_pool``, ``features_only`` with ``out_indices``
    (feature maps instead of logits), ``drop_rate``, ``drop_path_rate``, ``dtype`` (of the
    computation; parameters are float32) and ``remat`` (less memory for more computation: the
    backward pass computes all of a block again with ``"full"`` or True, and all but products with
    weights, convolutions included, with ``"dots"``). ViTs and MLP-Mixers know ``scan_blocks`` too,
    with which the time to compile does not grow with depth; variables stay as they are.

    >>> import jax, jax.numpy as jnp
    >>> model = create_model("test_vit", num_classes=10, in_chans=1, img_size=32)
    >>> model.num_features
    64
    >>> images = jnp.zeros((2, 32, 32, 1))
    >>> variables = model.init(jax.random.key(0), images, train=False)
    >>> model.apply(variables, images, train=False).shape
    (2, 10)

    Args:
      name: a name from ``list_models``, with or without the tag of published weights, as in
        ``"resnet50.tv_in1k"``. Without one the defaults are those of the architecture's default
        tag, whose weights may have no head: ``num_classes`` is 0 then, as in timm.
      **options: options of the architecture.

    Raises:
      RegistryError: if there is no such name or tag; the message has the closest ones.
      TypeError: if the architecture has no such option; the message has the closest ones.
      ValueError: if the architecture cannot have this value of an option.
    """
    architecture, _, tag = name.partition(".")
    builder = _builder(architecture)
    options = {key: value for key, value in options.items() if value is not None}
    known = _options_of(builder)
    for option in options:
        if known is not None and option not in known:
            raise TypeError(
                f"{architecture} has no option {option!r}. {did_you_mean(option, known)}"
            )
    if architecture in _catalog.families():
        options["default_cfg"] = _weights.card(architecture, tag)
    elif tag:
        raise RegistryError(
            f"{architecture} is a model of your own, for which no weights are published. Leave "
            f"{'.' + tag!r} out."
        )
    return builder(**options)


def list_models(
    pattern: str | Sequence[str] = "",
    *,
    pretrained: bool = False,
    exclude: str | Sequence[str] = "",
    module: str = "",
) -> list[str]:
    """Returns the names of architectures in natural order, that is with numbers by their value.

    >>> list_models("vit_small_patch*_224")
    ['vit_small_patch8_224', 'vit_small_patch16_224', 'vit_small_patch32_224']
    >>> list_models(["vit_giant_*", "fully_*"], exclude="vit_*")
    ['fully_connected']
    >>> list_models("resnet18", pretrained=True)[:2]
    ['resnet18.a1_in1k', 'resnet18.a2_in1k']
    >>> list_models("*_b16_*", exclude="gmlp_*", module="mlp_mixer")
    ['mixer_b16_224']

    Args:
      pattern: a name with wildcards as in file names, or several of which one has to match; empty
        for all. With ``pretrained`` a pattern is for the name alone, or with its tag.
      pretrained: whether to list published weights: names with their tags, ``"resnet18.a1_in1k"``.
      exclude: patterns of names to leave out; empty for none.
      module: the file of a family, such as ``"resnet"``; empty for all.
    """
    families = _catalog.families()
    names: dict[str, tuple[str, ...]] = {}  # Every name, by all the forms that a pattern is for.
    for name in {*families, *_custom}:
        if module and families.get(name, "").rpartition(".")[2] != module:
            continue
        if pretrained:
            names |= {f"{name}.{tag}": (name, f"{name}.{tag}") for tag in _weights.tags(name)}
        else:
            names[name] = (name,)

    def matches(forms: tuple[str, ...], patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(form, one) for form in forms for one in patterns)

    wanted, unwanted = _patterns(pattern) or ["*"], _patterns(exclude)
    found = [n for n, forms in names.items() if matches(forms, wanted)]
    return sorted((n for n in found if not matches(names[n], unwanted)), key=_natural)


def register_model(name: str) -> Callable[[Builder], Builder]:
    """Returns a decorator that enters a builder of your own, for ``create_model`` and the rest.

    >>> from flax import linen as nn
    >>> @register_model("my_linear")
    ... def my_linear(*, num_classes=10):
    ...     return nn.Dense(num_classes)
    >>> create_model("my_linear", num_classes=3).features
    3

    Args:
      name: the name to enter it under. It cannot have a dot, which starts a tag.

    Raises:
      RegistryError: if the name is taken, or has a dot.
    """
    if "." in name:
        raise RegistryError(f"A dot starts a tag, so {name!r} cannot be a model's name.")
    if name in _catalog.families():
        raise RegistryError(
            f"The model {name!r} is registered already, by {_catalog.families()[name]}. "
            "Choose another name."
        )

    def decorator(builder: Builder) -> Builder:
        _custom.register(name)(builder)
        return builder

    return decorator


def is_model(name: str) -> bool:
    """Returns whether ``create_model`` knows a name, without its tag."""
    return name in _custom or name in _catalog.families()


def has_option(name: str, option: str) -> bool:
    """Returns whether ``create_model(name)`` knows an option.

    Raises:
      RegistryError: if there is no such name.
    """
    known = _options_of(_builder(name.partition(".")[0]))
    return known is None or option in known


def _builder(name: str) -> Callable[..., Any]:
    if name in _custom:
        return _custom.get(name)
    if name in (families := _catalog.families()):
        return functools.partial(importlib.import_module(families[name]).build, name)
    raise RegistryError(
        f"Unknown model {name!r}. {did_you_mean(name, {*families, *_custom}, count=5)} "
        f"scenax.models.list_models({name.partition('_')[0] + '*'!r}) lists names by wildcards."
    )


def _options_of(builder: Callable[..., Any]) -> set[str] | None:
    """Returns the names of a builder's options, or None if it takes any."""
    parameters = inspect.signature(builder).parameters.values()
    names = {
        each.name
        for each in parameters
        if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)
    }
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        function = builder.func if isinstance(builder, functools.partial) else builder
        try:
            module = typing.get_type_hints(function).get("return")
        except NameError:  # an annotation that only a type checker can read
            return None
        if not dataclasses.is_dataclass(module):
            return None
        hints = typing.get_type_hints(module)
        for field in dataclasses.fields(module):
            # A size is chosen by a variant's name, and changed number by number.
            inner = hints.get(field.name) if field.name == "size" else None
            names |= {f.name for f in dataclasses.fields(inner)} if inner else {field.name}
    return names - _NOT_OPTIONS


def _patterns(value: str | Sequence[str]) -> list[str]:
    return [one for one in ([value] if isinstance(value, str) else value) if one]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
