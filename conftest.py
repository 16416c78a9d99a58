"""Settings of every test: eight simulated devices, and nothing that passes in silence.

XLA's fusion emitters are off: tests compile much and compute little, and without them it compiles
a third faster.
"""

import gc
import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8 --xla_cpu_use_fusion_emitters=false"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

# What is traced stays: to look through all of it, again and again, takes a tenth of the time.
gc.set_threshold(500_000)


def pytest_collection_finish():
    gc.freeze()


def pytest_addoption(parser):
    parser.addoption(
        "--every-name",
        dest="every_name",
        action="store_true",
        help="trace every architecture at its published size, and not every twelfth",
    )
