"""What devices can do at best, by their makers' figures, and how much of it a run uses."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Device(Protocol):
    """What of a ``jax.Device`` matters here."""

    device_kind: str

    def memory_stats(self) -> dict[str, Any] | None:
        """Counts bytes, by jax's names."""
        ...


@dataclasses.dataclass(frozen=True)
class Chip:
    """What jax calls one device; None is what its maker does not publish."""

    memory: int
    """Nominal, in GiB; a few per cent of it are not free."""
    bfloat16: float | None = None
    """10**12 FLOPs a second of dense matrix products, added up in float32."""
    float16: float | None = None
    float32: float | None = None
    """The same, without TF32."""


# By device_kind. Makers' tables often count zeros that are skipped: those are halved here.
CHIPS = {
    # cloud.google.com/tpu/docs/v2 ... v6e, "system architecture": figures of a chip. Of v2 and v3,
    # a device is one of a chip's two cores.
    "TPU v2": Chip(8, bfloat16=45 / 2),
    "TPU v3": Chip(16, bfloat16=123 / 2),
    "TPU v4": Chip(32, bfloat16=275),
    "TPU v5 lite": Chip(16, bfloat16=197),
    "TPU v5e": Chip(16, bfloat16=197),
    "TPU v5": Chip(95, bfloat16=459),
    "TPU v5p": Chip(95, bfloat16=459),
    "TPU v6 lite": Chip(32, bfloat16=918),
    "TPU v6e": Chip(32, bfloat16=918),
    # NVIDIA V100 datasheet (2020).
    "Tesla V100-SXM2-16GB": Chip(16, float16=125, float32=15.7),
    "Tesla V100-SXM2-32GB": Chip(32, float16=125, float32=15.7),
    "Tesla V100-PCIE-16GB": Chip(16, float16=112, float32=14),
    "Tesla V100-PCIE-32GB": Chip(32, float16=112, float32=14),
    # NVIDIA T4 datasheet (2019).
    "Tesla T4": Chip(16, float16=65, float32=8.1),
    # NVIDIA A100 datasheet (2021), and those of A10 and RTX A6000.
    "NVIDIA A100-SXM4-40GB": Chip(40, 312, 312, 19.5),
    "NVIDIA A100-SXM4-80GB": Chip(80, 312, 312, 19.5),
    "NVIDIA A100-PCIE-40GB": Chip(40, 312, 312, 19.5),
    "NVIDIA A100 80GB PCIe": Chip(80, 312, 312, 19.5),
    "NVIDIA A10": Chip(24, 125, 125, 31.2),
    "NVIDIA RTX A6000": Chip(48, 154.8, 154.8, 38.7),
    # NVIDIA GA102 whitepaper, table 2 (2020); Ada whitepaper, table 2 (2022).
    "NVIDIA GeForce RTX 3090": Chip(24, 71, 71, 35.6),
    "NVIDIA GeForce RTX 4090": Chip(24, 165.2, 165.2, 82.6),
    # NVIDIA L4 and L40S datasheets (2023).
    "NVIDIA L4": Chip(24, 121, 121, 30.3),
    "NVIDIA L40S": Chip(48, 362, 362, 91.6),
    # NVIDIA H100 whitepaper, table 3 (2022); H100 NVL, H200 and HGX B200 datasheets (2024).
    "NVIDIA H100 80GB HBM3": Chip(80, 989.4, 989.4, 66.9),
    "NVIDIA H100 PCIe": Chip(80, 756, 756, 51.2),
    "NVIDIA H100 NVL": Chip(94, 835.5, 835.5, 60),
    "NVIDIA H200": Chip(141, 989.5, 989.5, 67),
    "NVIDIA H200 NVL": Chip(141, 835.5, 835.5, 60),
    "NVIDIA B200": Chip(180, 2250, 2250, 75),
}


def peak_flops(device: Device, dtype: str = "bfloat16") -> float | None:
    """Returns the FLOPs a second of a device's dense matrix products at best, by its maker.

    A multiplication and an addition are two. None if it is not known, as for CPUs.

    Raises:
      ValueError: for another dtype.
    """
    if dtype not in ("bfloat16", "float16", "float32"):
        raise ValueError(f"Peaks are known of bfloat16, float16 and float32, got {dtype!r}.")
    chip = CHIPS.get(device.device_kind)
    peak = None if chip is None else getattr(chip, dtype)
    return None if peak is None else peak * 1e12


def bytes_limit(device_kind: str) -> int | None:
    """Returns the nominal memory of one device in bytes, to plan with, None if not known.

    >>> bytes_limit("NVIDIA A100-SXM4-40GB")
    42949672960
    """
    chip = CHIPS.get(device_kind)
    return None if chip is None else chip.memory * 2**30


def mfu(flops_per_step: float, seconds_per_step: float, devices: Sequence[Device]) -> float | None:
    """Returns the model FLOPs utilisation (arXiv 2204.02311, appendix B), from 0 to 1.

    Args:
      flops_per_step: what the model needs for one update on the global batch, as by
        ``scenax.common.flops`` of loss and gradient: nothing that is computed anew to save memory.
      seconds_per_step: how long an update takes.
      devices: all that take part.

    Returns:
      Its FLOPs a second by the devices' peaks in bfloat16 together, None if one is not known.
    """
    peaks = [peak_flops(device) for device in devices]
    known = [peak for peak in peaks if peak is not None]
    if not known or len(known) < len(peaks):
        return None
    return flops_per_step / seconds_per_step / sum(known)


def memory_in_use(devices: Sequence[Device]) -> dict[str, int] | None:
    """Returns how many bytes are in use, and were at most: of each, the largest of any device.

    Args:
      devices: of this host, such as ``mesh.local_devices``.

    Returns:
      ``bytes_in_use`` and ``peak_bytes_in_use``; None where devices do not tell, as CPUs.
    """
    stats = [found for device in devices if (found := device.memory_stats())]
    if not stats:
        return None
    return {
        name: max(found[name] for found in stats) for name in ("bytes_in_use", "peak_bytes_in_use")
    }
