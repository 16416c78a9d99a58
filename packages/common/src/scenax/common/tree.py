"""Trees of arrays by path: names of leaves, parameter counts, and a table to read.

The one place where a path becomes a string. Everything works on abstract trees too
(``jax.ShapeDtypeStruct`` as leaves), so that a model can be described without memory for it.
"""

import math

import jax
import numpy as np

from scenax.common.contracts import PyTree


def flatten_with_paths(tree: PyTree) -> dict[str, PyTree]:
    """Returns the leaves by path, in the tree's own order; paths read ``"blocks_0/attn/kernel"``.

    A dictionary gives its keys, a tuple or list its positions, a dataclass or named tuple its field
    names; a tree that is one leaf has the path ``""``. ``None`` is an empty tree and has no leaf.
    Since the order is the tree's, any list made from the paths turns back into a tree:

    >>> params = {"dense": {"bias": np.zeros(2), "kernel": np.zeros((3, 2))}}
    >>> decayed = [path.endswith("kernel") for path in flatten_with_paths(params)]
    >>> jax.tree.unflatten(jax.tree.structure(params), decayed)
    {'dense': {'bias': False, 'kernel': True}}

    Raises:
      ValueError: if two leaves have the same path, as in ``{"a/b": 1, "a": {"b": 2}}``.
    """
    leaves: dict[str, PyTree] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        if path in leaves:
            raise ValueError(
                f"Two leaves of the tree have the path {path!r}. Use keys that stay different when "
                "they are joined by '/' as strings."
            )
        leaves[path] = leaf
    return leaves


def parameter_count(params: PyTree) -> int:
    """Returns the number of elements in all leaves together.

    >>> parameter_count({"bias": np.zeros(2), "kernel": jax.ShapeDtypeStruct((3, 2), "float32")})
    8
    """
    return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(params))


def parameter_table(params: PyTree) -> str:
    """Returns path, shape, dtype and number of elements of every leaf, and the total, as text.

    >>> print(parameter_table({"bias": np.zeros(2), "kernel": np.zeros((300, 20), np.float32)}))
    path    shape     dtype     size
    bias    (2,)      float64      2
    kernel  (300, 20) float32  6,000
    total                      6,002
    """
    rows = [("path", "shape", "dtype", "size")]
    for path, leaf in flatten_with_paths(params).items():
        dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        shape = tuple(np.shape(leaf))
        rows.append((path, str(shape), str(dtype), f"{math.prod(shape):,}"))
    rows.append(("total", "", "", f"{parameter_count(params):,}"))
    path_width, shape_width, dtype_width, size_width = (
        max(map(len, column)) for column in zip(*rows, strict=True)
    )
    return "\n".join(
        f"{path:<{path_width}}  {shape:<{shape_width}} {dtype:<{dtype_width}}  {size:>{size_width}}"
        for path, shape, dtype, size in rows
    )
