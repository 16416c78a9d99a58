"""The matching of least cost, exact, on the accelerator.

Shortest augmenting paths (the Hungarian method in the form of Jonker and Volgenant, 1987; on
rectangular costs Crouse, doi 10.1109/TAES.2016.140952). Items are put in one by one, each along the
cheapest path of re-matchings that ends in a free slot, which a search in the manner of Dijkstra
finds under reduced costs. All problems of a batch advance in one loop, each at a pace of its own:
one turn settles one slot in each problem, with work proportional to the slots.

What makes it quick: a start that gives most items their best slot for nothing, the columns'
smallest costs as first potentials of square problems, padding that is never put in, and the ways
through the search tree kept as sets, so that a path is applied at once and not step by step.

Checked against scipy's solver in float64.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from scenax.models.matchers._costs import Cost, Indices, Mask, finite, free_first, pairs


def hungarian(cost: Cost, mask: Mask | None = None) -> Indices:
    """Returns the matching of least cost; see ``matchers`` for the arguments.

    Sums and differences are rounded as the dtype has it (float32 at least), so of matchings whose
    costs differ by less than the rounding of a cost, any may come out.
    """
    b, n, m = cost.shape
    cost = finite(cost, mask)
    if mask is None and n <= m:
        prediction = _slots_of(cost, jnp.ones((b, n), bool))
        return pairs(prediction, n)[:, ::-1] if n == m else pairs(_inverse(prediction, n), m)
    real = jnp.ones((b, m), bool) if mask is None else mask
    slots = cost.transpose(0, 2, 1)
    if m <= n:
        return pairs(_inverse(_slots_of(slots, real), m), n)[:, ::-1]
    # Too few predictions: as many more slots, at no cost, as there are real targets without one.
    over = jnp.sum(real, axis=1, keepdims=True) - n > jnp.arange(m - n)[None]
    more = jnp.where(over, 0.0, jnp.inf).astype(cost.dtype)
    slots = jnp.concatenate([slots, jnp.broadcast_to(more[:, None], (b, m, m - n))], axis=2)
    return pairs(_slots_of(slots, real)[:, :n], m)


class _Search(NamedTuple):
    """Where every problem of the batch is. Letters: b batch, r items, c slots."""

    turn: Int[Array, " b"]  # How many items have been put in.
    item: Int[Array, " b"]  # The item that is looking for a slot,
    offset: Float[Array, " b"]  # and what its reduced costs lack to the length of the path to it.
    potential: Float[Array, "b c"]
    holder: Int[Array, "b c"]  # The item that has a slot, or -1.
    length: Float[Array, "b c"]  # Of the shortest path to a slot,
    previous: Int[Array, "b c"]  # and the item that it comes from.
    settled: Bool[Array, "b c"]
    way: Bool[Array, "b r c"]  # The slots on the shortest path to an item.


def _slots_of(cost: Float[Array, "b r c"], real: Bool[Array, "b r"]) -> Int[Array, "b c"]:
    """Returns which item has each slot, -1 for none; items that are not real have none.

    Slots of infinite cost are never given, and there have to be enough others.
    """
    b, r, c = cost.shape
    if not b * r * c:
        return jnp.full((b, c), -1, jnp.int32)
    batch = jnp.arange(b)
    slots = jnp.arange(c)[None]

    # Any potentials will do if all slots are given in the end, else a free slot's has to be 0.
    full = jnp.all(real, axis=1, keepdims=True) & (r == c)
    potential = jnp.where(full, jnp.min(cost, axis=1), 0.0)
    # Items take their best slot, the first that comes.
    best = jnp.where(real, jnp.argmin(cost - potential[:, None], axis=2), c)
    items = jnp.arange(r, dtype=jnp.int32)[None]
    first = jnp.full((b, c), r, jnp.int32).at[batch[:, None], best].min(items, mode="drop")
    holder = jnp.where(first == r, -1, first)
    has_slot = jnp.take_along_axis(first, jnp.minimum(best, c - 1), axis=1) == items
    waiting = real & ~has_slot
    queue = jnp.pad(free_first(~waiting), ((0, 0), (0, 1)))
    count = jnp.sum(waiting, axis=1)

    def unfinished(at: _Search) -> Bool[Array, ""]:
        return jnp.any(at.turn < count)

    def settle_one_slot(at: _Search) -> _Search:
        # Lengths through the item. A settled slot's cannot improve.
        lengths = cost[batch, at.item] - at.potential - at.offset[:, None]
        better = (lengths < at.length) & ~at.settled
        length = jnp.where(better, lengths, at.length)
        previous = jnp.where(better, at.item[:, None], at.previous)

        # The nearest slot. Two minima: a single argmin takes twice as long on CPUs.
        nearest = jnp.where(at.settled, jnp.inf, length)
        shortest = jnp.min(nearest, axis=1)
        slot = jnp.min(jnp.where(nearest == shortest[:, None], slots, c - 1), axis=1)
        here = slots == slot[:, None]
        holder = at.holder[batch, slot]
        way = at.way[batch, previous[batch, slot]] | here

        # A free one: re-match along the way to it, and start with the next item.
        found = holder < 0
        apply = (found & (at.turn < count))[:, None]
        potential = jnp.where(
            apply & at.settled, at.potential + length - shortest[:, None], at.potential
        )
        turn = at.turn + apply[:, 0].astype(jnp.int32)

        # One that is held: its holder looks on.
        reduced = cost[batch, holder, slot] - at.potential[batch, slot]
        return _Search(
            turn=turn,
            item=jnp.where(found, queue[batch, turn], holder),
            offset=jnp.where(found, 0.0, reduced - shortest),
            potential=potential,
            holder=jnp.where(apply & way, previous, at.holder),
            length=jnp.where(found[:, None], jnp.inf, length),
            previous=previous,
            settled=~found[:, None] & (at.settled | here),
            way=at.way.at[batch, jnp.where(found, r, holder)].set(way, mode="drop"),
        )

    start = _Search(
        turn=jnp.zeros(b, jnp.int32),
        item=queue[:, 0],
        offset=jnp.zeros(b, cost.dtype),
        potential=potential,
        holder=holder,
        length=jnp.full((b, c), jnp.inf, cost.dtype),
        previous=jnp.zeros((b, c), jnp.int32),
        settled=jnp.zeros((b, c), bool),
        way=jnp.zeros((b, r, c), bool),
    )
    return jax.lax.while_loop(unfinished, settle_one_slot, start).holder


def _inverse(holder: Int[Array, "b c"], items: int) -> Int[Array, "b r"]:
    """Returns the slot of each item, -1 for none."""
    b, c = holder.shape
    where = jnp.where(holder < 0, items, holder)
    slots = jnp.arange(c, dtype=jnp.int32)[None]
    empty = jnp.full((b, items), -1, jnp.int32)
    return empty.at[jnp.arange(b)[:, None], where].set(slots, mode="drop")
