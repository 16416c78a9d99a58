"""What asv runs: a module a kind of figures, whose names are those of ``figures`` and results."""

import pathlib
import sys

# asv imports this folder by itself, and drops what PYTHONPATH says.
_ROOT = str(pathlib.Path(__file__).parents[2])
if _ROOT not in sys.path:
    sys.path.append(_ROOT)
