"""The device that figures are of, which is asked for and never chosen by itself."""

import os


def require() -> str:
    """Returns the platform, ``"cpu"``, ``"gpu"`` or ``"tpu"``, if it is the one asked for.

    Raises:
      RuntimeError: if jax runs on another one, or does not run at all.
    """
    import jax

    wanted = os.environ.get("SCENAX_BENCH_DEVICE", "cpu")
    try:
        found = jax.devices()[0].platform
    except (AssertionError, RuntimeError) as error:  # The first where jax lacks the plugin.
        raise RuntimeError(
            f"The figures were to be of a {wanted}, and jax finds none: {error!r}. Install jax "
            f"for a {wanted}, or give another --device."
        ) from error
    if found != wanted:
        raise RuntimeError(
            f"The figures were to be of a {wanted}, and jax runs on a {found}. Give --device="
            f"{found}, or install jax for a {wanted}."
        )
    return found
