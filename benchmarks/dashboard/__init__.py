"""The dashboard: one static site, built from asv's result files alone.

``python -m benchmarks.dashboard.site --results benchmarks/results --out benchmarks/html`` writes
``index.html`` and ``data/``. The page fetches nothing that is not beside it, and so works from a
folder as well as from a server.

``data.py`` reads results, ``series.py`` says what of them is a change, ``cards.py`` what is known
of an architecture, and ``site.py`` writes. The page is ``page.html``, ``page.css`` and the
scripts beside it. ``vendor.py`` makes asv's own pages fetch nothing from elsewhere either, and
``synthetic.py`` makes results to try all this on.
"""
