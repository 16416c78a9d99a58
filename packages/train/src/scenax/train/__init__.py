"""How state changes: step, loop, checkpoints and evaluation for any model that fits the contract.

Nothing here knows flax, a dataset or an architecture; see ``scenax.common.contracts``.
"""
