"""What asv runs: a module a kind of figures, whose names are those of ``figures`` and results."""
