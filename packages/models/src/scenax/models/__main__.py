"""The zoo on the command line: ``python -m scenax.models list 'resnet*'`` and ``show NAME``.

Parameters and multiply-adds are counted from shapes, so nothing is compiled or allocated. Top-1 is
that of the default weights on ImageNet-1k, in percent (``weights.csv`` has the sources).
"""

import argparse
import functools
import sys
from typing import Any, NamedTuple

from scenax.common.registry import RegistryError
from scenax.models import create_model, list_models


class Card(NamedTuple):
    """What there is to say of an architecture."""

    name: str
    params: Any
    """Abstract parameters."""
    gmacs: float
    """Billions of multiply-adds of one image's forward pass."""
    input_size: tuple[int, int, int]
    """Channels, height and width that the figures are for."""
    model: Any


def card(name: str) -> Card:
    """Returns an architecture's card.

    Raises:
      RegistryError: if there is no such name.
    """
    import jax

    from scenax.common.flops import count_flops

    model: Any = create_model(name)
    channels, *size = model.default_cfg["input_size"]
    images = jax.ShapeDtypeStruct((1, *size, channels), "float32")
    key = jax.eval_shape(jax.random.key, 0)
    variables = jax.eval_shape(functools.partial(model.init, train=False), key, images)
    gmacs = count_flops(model.apply, variables, images, train=False) / 2e9
    return Card(
        name,
        variables["params"],
        gmacs,
        (channels, size[0], size[1]),
        model,
    )


def main(arguments: list[str] | None = None) -> int:
    """Prints what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scenax.models")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="a table of architectures")
    listing.add_argument("pattern", nargs="*", help="names with wildcards; all if not given")
    showing = commands.add_parser("show", help="one architecture's card and its layers")
    showing.add_argument("name")
    flags = parser.parse_args(arguments)
    try:
        return _list(flags.pattern) if flags.command == "list" else _show(flags.name)
    except RegistryError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1


def _list(patterns: list[str]) -> int:
    from scenax.common.tree import parameter_count

    names = list_models(patterns)
    if not names:
        sys.stderr.write(f"Error: no name is like {' or '.join(map(repr, patterns))}.\n")
        return 1
    width = max(map(len, names))
    sys.stdout.write(
        f"{'name':{width}}  {'parameters':>13}  {'GMACs':>7}  {'input':>7}  {'top-1':>6}\n"
    )
    for name in names:
        one = card(name)
        size = "x".join(map(str, one.input_size[1:]))
        sys.stdout.write(
            f"{name:{width}}  {parameter_count(one.params):13,}  {one.gmacs:7.2f}  {size:>7}  "
            f"{'' if (top1 := one.model.default_cfg['top1']) is None else f'{top1:.2f}':>6}\n"
        )
        sys.stdout.flush()
    return 0


def _show(name: str) -> int:
    from scenax.common.tree import parameter_table

    one = card(name)
    facts = dict(one.model.default_cfg)
    facts |= {"num_features": one.model.num_features, "GMACs": f"{one.gmacs:.2f}"}
    if (top1 := facts.pop("top1")) is not None:
        facts["top-1"] = f"{top1} % at {facts.pop('top1_size')} pixels"
    lines = [name, ""]
    lines += [f"  {key:18} {value}" for key, value in facts.items() if value is not None]
    lines += ["", "  feature maps: module, channels, stride"]
    lines += [
        f"    {level['module']:16} {level['num_chs']:6} {level['reduction']:4}"
        for level in one.model.feature_info
    ]
    sys.stdout.write("\n".join(lines) + "\n\n" + parameter_table(one.params) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
