"""What a function computes, counted from its jaxpr: nothing is compiled, nothing is allocated.

One FLOP is one multiplication or one addition, and what is counted is twice the multiply-adds of
matrix products and convolutions; elementwise work, normalisations, factorisations and Fourier
transforms are left out. Paper tables mostly print multiply-adds and call them GFLOPs: ViT-B/16 at
224 pixels is 17.6 there and 35.1 here.

Why not XLA's own cost analysis: it counts the body of a ``scan`` once, however often it runs (0.03
of a scanned ViT-H/14), leaves out the taps of a convolution that fall on padding, which papers
count (2.4 % of a 3x3 one on 56x56), and adds elementwise work.

Activations are the elements that convolutions and matrix products put out (Radosavovic et al.,
"Designing Network Design Spaces", arXiv 2003.13678): the time on an accelerator follows them more
closely than FLOPs.

Checked against XLA's cost analysis where the two definitions meet, against torchvision's FLOPs of
ViT-B/16 and ViT-H/14, and against timm's activations.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters import partial_eval

from scenax.common.contracts import Array

# Primitives that run the one jaxpr they hold once.
_CALLS = {
    "checkpoint",
    "closed_call",
    "composite",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "jit",
    "pjit",
    "remat",
    "remat2",
}
# Primitives whose products no jaxpr shows.
_OPAQUE = {
    "dot_product_attention_bwd_wrapper",
    "dot_product_attention_fwd_wrapper",
    "ffi_call",
    "pallas_call",
    "ragged_dot",
    "ragged_dot_general",
    "scaled_matmul_wrapper",
}


class Cost(NamedTuple):
    """What is counted of a function."""

    flops: int
    """2 x multiply-adds."""
    activations: int
    """Elements."""


def count_flops(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Returns the FLOPs of ``fn(*args, **kwargs)``: 2 x multiply-adds of products and convolutions.

    Every array among the arguments is abstract, so a ``jax.ShapeDtypeStruct`` does as well;
    anything else (``train=False``, a string) reaches ``fn`` as it is. Counted is what runs, and
    what no output needs is removed first: in a gradient the forward pass counts only as far as the
    backward pass needs it, and what ``remat`` computes again counts again. A ``scan`` counts as
    often as it runs, a ``cond`` as its costliest branch, a ``shard_map`` over all its shards. The
    taps of a convolution that fall on padding count; the zeros that a transposed convolution puts
    between its inputs do not. A complex multiply-add counts as one.

    >>> images, kernel = jax.ShapeDtypeStruct((8, 32), "float32"), jax.numpy.ones((32, 10))
    >>> count_flops(jax.numpy.dot, images, kernel)
    5120

    Raises:
      ValueError: if the count cannot be known: products inside a ``while`` loop, whose number of
        rounds depends on values, or a kernel that hides its products (Pallas, a foreign call).
    """
    return count_cost(fn, *args, **kwargs).flops


def count_cost(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Cost:
    """Returns FLOPs and activations of ``fn(*args, **kwargs)``, as ``count_flops`` counts them.

    >>> images, kernel = jax.ShapeDtypeStruct((8, 32), "float32"), jax.numpy.ones((32, 10))
    >>> count_cost(jax.numpy.dot, images, kernel)
    Cost(flops=5120, activations=80)

    Raises:
      ValueError: if they cannot be known.
    """
    leaves, treedef = jax.tree.flatten((args, kwargs))
    is_array = [isinstance(leaf, Array | jax.ShapeDtypeStruct) for leaf in leaves]

    def traced(*arrays: jax.Array) -> Any:
        remaining = iter(arrays)
        full = [
            next(remaining) if yes else leaf for leaf, yes in zip(leaves, is_array, strict=True)
        ]
        fn_args, fn_kwargs = jax.tree.unflatten(treedef, full)
        return fn(*fn_args, **fn_kwargs)

    arrays = [leaf for leaf, yes in zip(leaves, is_array, strict=True) if yes]
    jaxpr = jax.make_jaxpr(traced)(*arrays).jaxpr
    needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _jaxpr_cost(needed)


def _equation_cost(eqn: JaxprEqn) -> Cost:
    name, params = eqn.primitive.name, eqn.params
    if name in _OPAQUE:
        raise ValueError(
            f"The function calls {name}, whose matrix products count_flops cannot see. Count an "
            "implementation of the same function that is written in plain JAX."
        )
    if name == "dot_general":
        return Cost(_dot_flops(eqn), math.prod(_shape(eqn.outvars[0])))
    if name == "conv_general_dilated":
        return Cost(_convolution_flops(eqn), math.prod(_shape(eqn.outvars[0])))

    parts = [_jaxpr_cost(jaxpr) for jaxpr in _inner_jaxprs(params)]
    total = _times(1, parts)
    if not total.flops or name in _CALLS:
        return total
    if name == "scan":
        return _times(params["length"], parts)
    if name == "cond":
        return Cost(*map(max, zip(*parts, strict=True)))
    if name == "shard_map":
        # jax 0.10 writes newly_manual_axes where jax 0.7 writes manual_axes.
        axes = params.get("newly_manual_axes", params.get("manual_axes", ()))
        return _times(_size(params["mesh"].shape, axes), parts)
    if name == "while":
        raise ValueError(
            "There are matrix products in a while loop, and how often it runs depends on values. "
            "Write the loop as jax.lax.scan, or as jax.lax.fori_loop between Python integers."
        )
    raise ValueError(
        f"There are matrix products in a {name}, and count_flops does not know how often it runs "
        "what it holds. Count the parts of the function one by one."
    )


def _jaxpr_cost(jaxpr: Jaxpr | ClosedJaxpr) -> Cost:
    return _times(1, list(map(_equation_cost, jaxpr.eqns)))


def _times(count: int, parts: Sequence[Cost]) -> Cost:
    """What all the parts cost together, so many times."""
    return Cost(count * sum(p.flops for p in parts), count * sum(p.activations for p in parts))


def _inner_jaxprs(params: Mapping[str, Any]) -> list[Jaxpr | ClosedJaxpr]:
    return [leaf for leaf in jax.tree.leaves(dict(params)) if isinstance(leaf, Jaxpr | ClosedJaxpr)]


def _dot_flops(eqn: JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    return 2 * math.prod(_shape(eqn.outvars[0])) * _size(_shape(eqn.invars[0]), contracted)


def _convolution_flops(eqn: JaxprEqn) -> int:
    inputs, kernel, outputs = map(_shape, (*eqn.invars, *eqn.outvars))
    numbers = eqn.params["dimension_numbers"]
    batch, features, *out_axes = numbers.out_spec
    _, inputs_per_group, *kernel_axes = numbers.rhs_spec
    _, _, *in_axes = numbers.lhs_spec
    flops = 2 * outputs[batch] * outputs[features] * kernel[inputs_per_group]
    dilations = eqn.params["lhs_dilation"]
    for i, k, o, dilation in zip(in_axes, kernel_axes, out_axes, dilations, strict=True):
        if dilation == 1:  # every output meets every tap
            flops *= outputs[o] * kernel[k]
        else:  # every input meets every tap, or every output in the gradient to a kernel
            flops *= inputs[i] * min(kernel[k], outputs[o])
    return flops


def _shape(var: Any) -> tuple[int, ...]:
    return var.aval.shape


def _size(shape: Any, axes: Iterable[Any]) -> int:
    return math.prod(shape[axis] for axis in axes)
