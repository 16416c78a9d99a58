"""Weights and images that are a function of name, shape and seed, the same in every framework.

Nothing is left at zeros and ones: running statistics, scales of norms and layer scales differ from
channel to channel, so that one that is not loaded, or not applied, shows.
"""

import math
import re
import zlib

import numpy as np


def weight(key: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Returns the float64 array of a state dict's key, of a size that keeps signals alive."""
    noise = _noise(key, shape, seed)
    last = key.rsplit(".", 1)[-1]
    if last == "running_var":
        return 0.5 + np.abs(noise)
    if last == "logit_scale":
        return 2.0 + 0.1 * noise  # Of a cosine attention: the logarithm of a temperature.
    if "gamma" in last or "layer_scale" in key or last.startswith("ls") or ".ls" in key:
        return 0.5 + 0.1 * noise
    if len(shape) <= 1:
        # Pre-activated branches as large as their shortcuts make rounding grow block by block.
        size = 0.3 if re.search(r"\bstages\..*\.norm3\.", key) else 1.0
        if match := re.fullmatch(r"blocks\.\d+\.(\d+)\.bn([23])\.weight", key):
            # Of EfficientNets: gates quieten a block, and many loud ones make a gate a coin's toss.
            loudness, power = {"2": (1.0, 1.0), "3": (0.5, 1.0)}[match[2]]
            size = loudness / (1 + int(match[1])) ** power
        elif match := re.fullmatch(r"layer\d+\.(\d+)\.bn[23]\.weight", key):
            size = 1 / (1 + int(match[1]))  # The gates of deep ResNets, likewise.
        elif match := re.fullmatch(r"s\d+\.b(\d+)\.conv[23]\.bn\.weight", key):
            size = 1 / int(match[1])  # And of RegNets, whose blocks are counted from 1.
        return size * (0.1 * noise + (1.0 if last in ("weight", "scale") else 0.0))
    if last != "weight":  # Tokens, positions, tables of relative positions.
        return 0.5 * noise
    if ".mlp_tokens." in key or ".mlp_channels." in key:  # Gated ones multiply what they are given.
        return noise * math.sqrt(0.5 / math.prod(shape[1:]))
    return noise * math.sqrt(2 / math.prod(shape[1:]))


def images(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Returns float64 images ``[b, h, w, c]`` of unit variance."""
    return _noise("images", shape, seed)


def sketch(outputs: np.ndarray, width: int = 16) -> np.ndarray:
    """Returns ``[b, width]`` random projections of ``[b, ...]`` that differ where the outputs do.

    They have the outputs' own standard deviation, and so a difference keeps its relative size.
    """
    flat = outputs.reshape(len(outputs), -1).astype(np.float64)
    matrix = _noise("sketch", (flat.shape[1], width), 0)
    return flat @ matrix / math.sqrt(flat.shape[1])


def _noise(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng([seed, zlib.crc32(key.encode())]).standard_normal(shape)
