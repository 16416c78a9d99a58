"""Where figures are measured: the device that was asked for, or nowhere.

jax falls back to the CPU where it finds no other device, and figures of one device in another's
series would look like a change of the code.
"""

import os

JAX_PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
"""What the environment variable ``JAX_PLATFORMS`` calls each device."""


def require() -> str:
    """Returns the device that jax computes on: ``cpu``, ``gpu`` or ``tpu``.

    Raises:
      RuntimeError: if it is not the one of the environment variable ``SCENAX_BENCH_DEVICE``, the
        CPU if that is not set.
    """
    import jax

    wanted = os.environ.get("SCENAX_BENCH_DEVICE") or "cpu"
    if wanted not in JAX_PLATFORMS:
        raise RuntimeError(
            f"SCENAX_BENCH_DEVICE must be one of {', '.join(JAX_PLATFORMS)}, got {wanted!r}."
        )
    cause = None
    try:
        found = jax.devices()[0].platform
    except RuntimeError as error:
        found, cause = "nothing", error
    if found != wanted:
        raise RuntimeError(
            f"Figures of the {wanted} are asked for, and jax computes on {found}, with "
            f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')!r}. Set JAX_PLATFORMS="
            f"{JAX_PLATFORMS[wanted]} on a machine that has the device and jax's support of it, or "
            "SCENAX_BENCH_DEVICE to another device."
        ) from cause
    return wanted
