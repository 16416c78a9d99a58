"""Bipartite matching: which prediction answers for which target.

Every matcher has one signature, ``matcher(cost, mask=None) -> indices``. ``cost`` is ``[b n m]``,
of predictions by targets; ``mask`` ``[b m]`` says which targets are real rather than padding (all,
if it is left out). ``indices`` is ``[b 2 k]`` with ``k = min(n, m)``: predictions first, targets
second, no index twice, in the order of the targets, or of the predictions if these are fewer. Real
targets are matched before padding, whose costs do not matter.

What holds for all:

- Results do not depend on the scale of the costs: a factor that is a power of two changes nothing.
- NaN and infinity count as a cost above every sum of the finite ones, minus infinity as one below.
  Such pairs come up only where there is no other way, and no matcher ever hangs on them.
- No gradient flows through a matching.

Letters in shapes: b batch, n predictions, m targets, k pairs.
"""
