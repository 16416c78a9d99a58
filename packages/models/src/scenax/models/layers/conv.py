"""Convolutions of images, with a path for CPUs.

On GPU and TPU this is ``jax.lax.conv_general_dilated``. XLA for CPUs is slow at depthwise
convolutions and at gradients of kernels, so there

- what does not overlap (1x1, patches) is a matrix product,
- a depthwise convolution is a sum of shifted maps, each times one tap of the kernel,
- the gradient of a kernel is a matrix product for each tap.

Which one runs is decided when a program is lowered for its platform. Both paths can be
differentiated any number of times, in both modes.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

Padding = str | int | Sequence[tuple[int, int]]
_Geometry = tuple[tuple[int, ...], tuple[tuple[int, int], ...], int]
"""Strides, padding of each side, and groups."""

CONVOLVED = "convolved"
"""Name of every result, for policies of ``jax.checkpoint``."""


class Conv(nn.Module):
    """A convolution of NHWC maps with the parameters and initial values of ``flax.linen.Conv``."""

    features: int
    kernel_size: tuple[int, ...]
    """Rows and columns."""
    strides: int | tuple[int, ...] = 1
    padding: Padding = "SAME"
    """``"SAME"`` as TensorFlow has it, ``"VALID"``, one number for all sides, or one for each."""
    feature_group_count: int = 1
    use_bias: bool = True
    dtype: Any = jnp.float32
    """Of the computation; parameters are float32."""
    kernel_init: Any = nn.initializers.lecun_normal()
    bias_init: Any = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b rows cols d"]:
        """Returns the map, of a ``strides``-th of the sides.

        Raises:
          ValueError: if the groups do not divide the channels.
        """
        groups, chans = self.feature_group_count, x.shape[-1]
        if chans % groups or self.features % groups:
            raise ValueError(
                f"{groups} groups do not divide {chans} channels and {self.features} features."
            )
        shape = (*self.kernel_size, chans // groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(self.dtype)
        y = convolve(x.astype(self.dtype), kernel, self.strides, self.padding, groups)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return y


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "m n i d"],
    strides: int | tuple[int, ...] = 1,
    padding: Padding = "SAME",
    groups: int = 1,
) -> Float[Array, "b rows cols d"]:
    """Returns a map convolved with a kernel, whose ``i`` is ``c / groups``; see ``Conv``."""
    both: tuple[int, ...] = (strides, strides) if isinstance(strides, int) else strides
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], both, padding)
    elif isinstance(padding, int):
        padding = ((padding, padding),) * 2
    padded = tuple((int(before), int(after)) for before, after in padding)
    return checkpoint_name(_convolve(x, kernel, (both, padded, groups)), CONVOLVED)


@functools.partial(jax.jit, static_argnums=2)  # Blocks repeat: each shape is traced once.
def _convolve(x: Array, kernel: Array, geometry: _Geometry) -> Array:
    strides, padding, groups = geometry
    sides, chans = kernel.shape[:2], x.shape[-1]
    if groups == 1 and not any(map(any, padding)) and sides in ((1, 1), strides):
        return _on_cpu(_patches, x, kernel, geometry)
    if groups == chans == kernel.shape[-1] and groups > 1:
        return _on_cpu(_depthwise, x, kernel, geometry)
    if groups == 1:
        return _dense(x, kernel, geometry)
    return _native(x, kernel, geometry)


def _on_cpu(fast: Any, x: Array, kernel: Array, geometry: _Geometry) -> Array:
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(fast, geometry=geometry),
        default=functools.partial(_native, geometry=geometry),
    )


def _native(x: Array, kernel: Array, geometry: _Geometry) -> Array:
    strides, padding, groups = geometry
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _patches(x: Array, kernel: Array, geometry: _Geometry) -> Array:
    (rows, cols), (down, right) = kernel.shape[:2], geometry[0]
    batch, height, width, chans = x.shape
    if (rows, cols) == (1, 1):
        return x[:, ::down, ::right] @ kernel[0, 0]
    x = x[:, : height // rows * rows, : width // cols * cols]
    x = x.reshape(batch, height // rows, rows, width // cols, cols, chans)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(*x.shape[:2], width // cols, -1)
    return x @ kernel.reshape(-1, kernel.shape[-1])


def _depthwise(x: Array, kernel: Array, geometry: _Geometry) -> Array:
    wide = x.dtype if x.dtype.itemsize >= 4 else jnp.float32  # Sums of taps need the digits.
    taps = kernel.astype(wide).reshape(-1, 1, 1, 1, kernel.shape[-1])
    shifted = _shifted(x, kernel.shape[:2], geometry)
    parts = (part.astype(wide) * tap for part, tap in zip(shifted, taps, strict=True))
    return functools.reduce(jnp.add, parts).astype(x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _dense(x: Array, kernel: Array, geometry: _Geometry) -> Array:
    return _native(x, kernel, geometry)


@_dense.defjvp
def _dense_jvp(
    geometry: _Geometry, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    # Linear in the kernel's tangent: what runs backwards is the transpose of it.
    along_kernel = _on_cpu(_products, x, dkernel, geometry)
    return _dense(x, kernel, geometry), _native(dx, kernel, geometry) + along_kernel


def _products(x: Array, kernel: Array, geometry: _Geometry) -> Array:
    shifted, taps = _shifted(x, kernel.shape[:2], geometry), kernel.reshape(-1, *kernel.shape[2:])
    if x.shape[-1] < 16:  # Products as thin as an image's channels are slow: one for all taps.
        return jnp.concatenate(list(shifted), axis=-1) @ taps.reshape(-1, kernel.shape[-1])
    parts = (part @ tap for part, tap in zip(shifted, taps, strict=True))
    return functools.reduce(jnp.add, parts)


def _shifted(x: Array, sides: Sequence[int], geometry: _Geometry) -> Iterator[Array]:
    """Yields what each tap of a kernel, row by row, sees of the map."""
    (down, right), padding, _ = geometry
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, cols = (
        (n - k) // s + 1 for n, k, s in zip(x.shape[1:3], sides, geometry[0], strict=True)
    )
    for i in range(sides[0]):
        for j in range(sides[1]):
            yield x[:, i : i + down * (rows - 1) + 1 : down, j : j + right * (cols - 1) + 1 : right]
