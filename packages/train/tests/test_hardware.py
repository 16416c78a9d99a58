import jax
import pytest

from scenax.train import hardware
from scenax.train.hardware import CHIPS

GIB = 2**30


class Device:
    """What of a device is asked for."""

    def __init__(self, kind, stats=None):
        self.device_kind = kind
        self.memory_stats = lambda: stats


# FLOPs of a cycle, times cycles a second: for GPUs multiprocessors x FLOPs of the tensor cores of
# each x boost clock; for TPUs matrix units x their elements x 2 x clock.
ARITHMETIC = {
    "TPU v2": 1 * 128 * 128 * 2 * 0.7e9,
    "TPU v3": 2 * 128 * 128 * 2 * 0.94e9,
    "TPU v4": 8 * 128 * 128 * 2 * 1.05e9,
    "TPU v5 lite": 4 * 128 * 128 * 2 * 1.5e9,
    "TPU v5p": 8 * 128 * 128 * 2 * 1.75e9,
    "Tesla V100-SXM2-16GB": 80 * 1024 * 1.53e9,
    "Tesla T4": 40 * 1024 * 1.59e9,
    "NVIDIA A100-SXM4-40GB": 108 * 2048 * 1.41e9,
    "NVIDIA A10": 72 * 1024 * 1.695e9,
    "NVIDIA RTX A6000": 84 * 1024 * 1.8e9,
    "NVIDIA GeForce RTX 3090": 82 * 512 * 1.695e9,
    "NVIDIA GeForce RTX 4090": 128 * 512 * 2.52e9,
    "NVIDIA L4": 58 * 1024 * 2.04e9,
    "NVIDIA L40S": 142 * 1024 * 2.52e9,
    "NVIDIA H100 80GB HBM3": 132 * 4096 * 1.83e9,
    "NVIDIA H100 PCIe": 114 * 4096 * 1.62e9,
    "NVIDIA H200": 132 * 4096 * 1.83e9,
    "NVIDIA B200": 148 * 8192 * 1.85e9,
}


@pytest.mark.parametrize("kind", ARITHMETIC)
def test_peaks_are_what_units_and_clocks_give(kind):
    dtype = "bfloat16" if CHIPS[kind].bfloat16 else "float16"
    assert hardware.peak_flops(Device(kind), dtype) == pytest.approx(ARITHMETIC[kind], rel=0.025)


@pytest.mark.parametrize("kind", CHIPS)
def test_the_table_is_consistent(kind):
    chip = CHIPS[kind]
    assert 8 <= chip.memory <= 192
    assert chip.bfloat16 or chip.float16
    if kind.startswith("TPU"):
        assert chip.float16 is None
    elif chip.bfloat16:
        assert chip.bfloat16 == chip.float16
    if chip.float32:
        assert chip.float32 < 0.51 * chip.float16
    for size in ("16", "32", "40", "80"):
        if f"{size}GB" in kind:
            assert chip.memory == int(size)


def test_names_of_one_device_mean_the_same():
    for one, other in (("lite", "5e"), ("", "5p"), ("lite", "6e")):
        assert CHIPS[f"TPU v{other[0]} {one}".strip()] == CHIPS[f"TPU v{other}"]


def test_a_cpus_peak_is_not_known():
    (cpu, *_) = jax.devices("cpu")
    assert hardware.peak_flops(cpu) is None
    assert hardware.mfu(1e12, 1.0, [cpu]) is None
    assert hardware.memory_in_use([cpu]) is None
    assert hardware.bytes_limit(cpu.device_kind) is None


def test_what_the_maker_does_not_publish_is_not_known():
    assert hardware.peak_flops(Device("Tesla T4")) is None
    assert hardware.peak_flops(Device("TPU v4"), "float32") is None


def test_another_dtype_is_named():
    with pytest.raises(ValueError, match="bfloat16, float16 and float32, got 'int8'"):
        hardware.peak_flops(Device("TPU v4"), "int8")


def test_mfu_by_hand():
    # PaLM's own example, arXiv 2204.02311, appendix B: 238.3 K tokens a second of 540.35 B
    # parameters, with attention, on 6144 TPU v4 is 46.2 %.
    layers, heads, size, length = 118, 48, 256, 2048
    flops_per_token = 6 * 540.35e9 + 12 * layers * heads * size * length
    found = hardware.mfu(238.3e3 * flops_per_token, 1.0, 6144 * [Device("TPU v4")])
    assert found == pytest.approx(0.462, abs=0.001)


def test_mfu_with_a_device_that_is_not_known_is_not():
    assert hardware.mfu(1e15, 1.0, [Device("TPU v4"), Device("cpu")]) is None
    assert hardware.mfu(1e15, 1.0, []) is None


def test_memory_is_that_of_the_fullest_device():
    devices = [
        Device("gpu", {"bytes_in_use": 3, "peak_bytes_in_use": 40, "bytes_limit": 100}),
        Device("gpu", {"bytes_in_use": 5, "peak_bytes_in_use": 20, "bytes_limit": 100}),
    ]
    assert hardware.memory_in_use(devices) == {"bytes_in_use": 5, "peak_bytes_in_use": 40}


def test_the_limit_is_in_bytes():
    assert hardware.bytes_limit("TPU v4") == 32 * GIB
    assert hardware.bytes_limit("NVIDIA H200") == 141 * GIB
    assert hardware.bytes_limit("abacus") is None
