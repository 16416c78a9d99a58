import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.train.prefetch import DevicePrefetch


class Slow:
    """A stream whose every batch takes ``seconds`` to make."""

    def __init__(self, stream, seconds):
        self._stream, self._seconds = stream, seconds

    def __iter__(self):
        return self

    def __next__(self):
        time.sleep(self._seconds)
        return next(self._stream)

    def get_state(self):
        return self._stream.get_state()

    def set_state(self, state):
        self._stream.set_state(state)


def test_batches_come_in_order_on_the_devices_and_so_does_the_position(toy, mesh):
    plain, stream = toy.Stream(), toy.Stream()
    with DevicePrefetch(stream, mesh) as ahead:
        assert ahead.get_state() == {"next": 0}
        for number in range(1, 6):
            batch = ahead.next_after(())
            np.testing.assert_array_equal(batch["inputs"], next(plain)["inputs"])
            assert batch["inputs"].sharding.num_devices == 8
            assert ahead.get_state() == {"next": number}
    again = toy.Stream()
    again.set_state(ahead.get_state())  # Whatever was fetched beyond it.
    np.testing.assert_array_equal(next(again)["inputs"], next(plain)["inputs"])


def test_no_more_than_a_few_are_fetched_ahead(toy, mesh):
    stream = toy.Stream()
    with DevicePrefetch(stream, mesh) as ahead:
        ahead.next_after(())
        time.sleep(0.5)
        assert 2 <= stream.get_state()["next"] <= 5


def test_what_fetching_raises_reaches_the_loop(toy, mesh):
    class Broken(toy.Stream):
        def __next__(self):
            if self._next == 2:
                raise OSError("the disk is gone")
            return super().__next__()

    with DevicePrefetch(Broken(), mesh) as ahead:
        ahead.next_after(())
        ahead.next_after(())
        with pytest.raises(OSError, match="the disk is gone"):
            ahead.next_after(())


def test_the_thread_ends(toy, mesh):
    with DevicePrefetch(toy.Stream(), mesh) as ahead:
        ahead.next_after(())
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_waiting_counts_from_when_the_devices_are_done(toy, mesh):
    def busy(seconds, x):
        def wait(y):
            time.sleep(seconds)
            return y

        return jax.pure_callback(wait, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    work = jax.jit(busy, static_argnums=0)
    for seconds in (0.0, 0.6):
        jax.block_until_ready(work(seconds, jnp.ones(())))  # Compiled.

    with DevicePrefetch(Slow(toy.Stream(), 0.3), mesh) as ahead:
        for _ in range(4):
            ahead.next_after(work(0.0, jnp.ones(())))
        starved = ahead.input_seconds
        assert 0.9 < starved < 2  # Four times 0.3 s: the devices had nothing to do.
        for _ in range(4):
            ahead.next_after(work(0.6, jnp.ones(())))
        assert ahead.input_seconds - starved < 0.6  # The work took longer than the batches.
