"""The device that figures are of, which is asked for and never chosen by itself."""

import os


def require() -> str:
    """Returns the platform, ``"cpu"``, ``"gpu"`` or ``"tpu"``, if it is the one asked for.

    Raises:
      RuntimeError: if jax runs on another one.
    """
    import jax

    wanted = os.environ.get("SCENAX_BENCH_DEVICE", "cpu")
    found = jax.devices()[0].platform
    if found != wanted:
        raise RuntimeError(
            f"The figures were to be of a {wanted}, and jax runs on a {found}. Give --device="
            f"{found}, or install jax for a {wanted}."
        )
    return found
