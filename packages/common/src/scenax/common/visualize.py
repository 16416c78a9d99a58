"""Pictures and pages for reports: strings that go into one HTML file and need nothing else.

Figures are inline SVG in the page's own text colour, so that they read in light and in dark;
images are PNG data inside ``<img>``. The same input gives the same string, ids of different figures
never meet, and nothing is fetched when the page is opened. ``curves``, ``confusion_matrix``,
``image_grid`` and ``attention_overlay`` need matplotlib, the extra ``scenax-common[visualize]``.

Letters in shapes: n images or points, h w image, c channels (1 or 3), k classes, gh gw grid of
attention.
"""

import base64
import hashlib
import html
import io
import itertools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Integer, Num, UInt8

Image: TypeAlias = UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"]
Images: TypeAlias = UInt8[np.ndarray, "n h w c"] | Float[np.ndarray, "n h w c"]
Points: TypeAlias = Num[np.ndarray, " _"]

_INK = "#010203"  # stands for the page's text colour while matplotlib draws
_COLORS = ("#3b7dd8", "#e0762f", "#2f9e6e", "#c2549d", "#8a6fd1", "#b8912b", "#d1495b", "#35a3b8")
_DASHES = ("-", "--", ":", "-.")
_CELL_COLOR = (45 / 255, 110 / 255, 205 / 255)
_STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "scenax",
    "text.parse_math": False,
} | dict.fromkeys(
    ["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"],
    _INK,
)


def curves(series: Mapping[str, tuple[Points, Points]], *, ylabel: str, log: bool = False) -> str:
    """Returns an SVG of one line per name, from its steps and values.

    Points that are not finite are skipped, and so are those that are not positive on a logarithmic
    axis (``log``); a name that has none left stays in the legend and says so.

    Raises:
      ValueError: if there are no series, or one is empty or has more steps than values.
    """
    from matplotlib.ticker import LogLocator

    if not series:
        raise ValueError("There are no series to draw. Pass a name with its steps and values.")
    for name, (steps, values) in series.items():
        if len(steps) != len(values) or len(steps) == 0:
            raise ValueError(
                f"Series {name!r} has {len(steps)} steps and {len(values)} values. Pass one value "
                "for every step, and at least one."
            )

    legend_columns = max(1, min(4, 72 // (max(map(len, series)) + 7)))
    legend_rows = -(-len(series) // legend_columns)

    def draw(axes: Any) -> None:
        looks = itertools.cycle(itertools.product(_DASHES, _COLORS))
        handles, labels = [], []
        for (name, (steps, values)), (dash, color) in zip(series.items(), looks, strict=False):
            shown = np.isfinite(steps) & np.isfinite(values) & ((values > 0) | (not log))
            marker = "o" if shown.sum() == 1 else ""
            handles += axes.plot(steps[shown], values[shown], color=color, ls=dash, marker=marker)
            labels.append(_short(name, 60) + ("" if shown.any() else " (no points)"))
        axes.set(xlabel="step", ylabel=ylabel)
        if log:
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        axes.grid(alpha=0.15)
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        # Labels come second: matplotlib 3.9 has no legend for names such as "_loss".
        legend = axes.legend(
            handles, ["name"] * len(labels), frameon=False, ncols=legend_columns, **place
        )
        for text, label in zip(legend.get_texts(), labels, strict=True):
            text.set_text(label)

    return _svg(draw, (7.2, 3.6 + 0.22 * legend_rows), f"{ylabel} by step: {', '.join(series)}")


def confusion_matrix(counts: Integer[np.ndarray, "k k"], names: Sequence[str]) -> str:
    """Returns an SVG of how often a true class (row) was predicted as which (column).

    The colour is the share of the row; up to 20 classes the cells also show their counts.

    Raises:
      ValueError: if there is not one name per row and column, or a count is negative.
    """
    k = len(names)
    if counts.shape != (k, k) or k == 0:
        raise ValueError(
            f"Pass one name per class and at least one class, got {k} names for {counts.shape} "
            "counts."
        )
    if counts.min() < 0:
        raise ValueError(f"A count is negative: {counts.min()}. Pass numbers of examples.")
    labels = [_short(name, 40) for name in names]
    longest = max(map(len, labels))
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cells = np.concatenate([np.broadcast_to(_CELL_COLOR, (k, k, 3)), share[..., None]], axis=2)

    def draw(axes: Any) -> None:
        axes.imshow(cells, interpolation="none")
        axes.set(xlabel="predicted (colour: share of the row)", ylabel="true")
        if k <= 40:
            axes.set_xticks(range(k), labels, rotation=0 if longest <= 3 else 90)
            axes.set_yticks(range(k), labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for row, column in itertools.product(range(k), repeat=2) if k <= 20 else ():
            color = "white" if share[row, column] > 0.75 else _INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color)

    side = min(max(0.5 * k, 2.5), 9.0) + 0.8 + 0.09 * longest * (k <= 40)
    return _svg(draw, (side, side), f"Confusion matrix of {k} {'class' if k == 1 else 'classes'}")


def image_grid(images: Images, titles: Sequence[str], *, columns: int) -> str:
    """Returns HTML that shows the images in rows of ``columns``, each over its title.

    Values are uint8, or floats in [0, 1]; one channel is grey, three are RGB. Images that are
    smaller than 96 pixels are enlarged by a whole factor, without interpolation.

    Raises:
      ValueError: if titles, channels or values are not as described.
    """
    if len(titles) != len(images) or columns < 1:
        raise ValueError(
            f"Pass one title per image and at least one column, got {len(titles)} titles for "
            f"{len(images)} images and {columns} columns."
        )
    height, width = images.shape[1:3]
    factor = max(1, 96 // max(height, width, 1))
    figures = "".join(
        f'<figure style="margin:0"><img src="{_png(_to_rgb(image))}" alt="{html.escape(title)}" '
        f'width="{width * factor}" height="{height * factor}" '
        f'style="display:block;max-width:100%;height:auto;image-rendering:pixelated">'
        f'<figcaption style="max-width:{max(width * factor, 64)}px;overflow-wrap:anywhere">'
        f"{html.escape(title)}</figcaption></figure>"
        for image, title in zip(images, titles, strict=True)
    )
    grid = f"grid-template-columns:repeat({columns},minmax(64px,max-content))"
    return f'<div style="display:grid;gap:12px;overflow-x:auto;{grid}">{figures}</div>'


def attention_overlay(
    image: Image,
    weights: Float[np.ndarray, "heads gh gw"],
    *,
    resize: Literal["nearest", "bilinear"] = "bilinear",
    opacity: float = 0.6,
) -> UInt8[np.ndarray, "heads h w 3"]:
    """Returns one picture per head: the image under its attention, ready for ``image_grid``.

    Each head's weights are divided by their largest, resized to the image, and laid over it in the
    inferno colours, which go from black to bright; ``opacity`` 0 leaves the image, 1 hides it.

    Raises:
      ValueError: if a weight is negative or not finite, ``opacity`` is outside [0, 1], or the
        image is not as for ``image_grid``.
    """
    import matplotlib

    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("Attention is finite and not negative. Pass weights after the softmax.")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1], got {opacity}.")
    largest = weights.max((1, 2), keepdims=True)
    shares = np.divide(weights, largest, out=np.zeros(weights.shape), where=largest > 0)
    rows, columns = (
        _resize_matrix(size, grid, resize)
        for size, grid in zip(image.shape[:2], weights.shape[1:], strict=True)
    )
    heat = matplotlib.colormaps["inferno"](rows @ shares @ columns.T)[..., :3] * 255.0
    return np.rint((1 - opacity) * _to_rgb(image) + opacity * heat).astype(np.uint8)


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """Returns an HTML table; floats show four digits, and numbers stand to the right.

    >>> table([["vit", 0.98765]], ["model", "accuracy"])  # doctest: +ELLIPSIS
    '<table>...<tr><td>vit</td><td class=number>0.9877</td></tr></tbody></table>'

    Raises:
      ValueError: if a row is not as long as the header.
    """
    body = ""
    for row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"The header has {len(header)} columns, a row has {len(row)}: {row!r}."
            )
        body += f"<tr>{''.join(map(_cell, row))}</tr>"
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """Returns one self-contained page with a table of contents.

    ``sections`` are headings, which are escaped, and HTML, which is not: pass what this module
    returns, and text through ``html.escape``.
    """
    contents, body = "", ""
    for number, (heading, content) in enumerate(sections, start=1):
        name = html.escape(heading)
        contents += f'<li><a href="#section-{number}">{name}</a></li>'
        body += f'<section id="section-{number}"><h2>{name}</h2>\n<div>{content}</div></section>\n'
    name = html.escape(title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>{_PAGE_STYLE}</style>
</head>
<body>
<header><h1>{name}</h1></header>
<nav aria-label="Contents"><ul>{contents}</ul></nav>
<main>
{body}</main>
</body>
</html>
"""


def _svg(draw: Callable[[Any], None], size: tuple[float, float], label: str) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with warnings.catch_warnings(), matplotlib.rc_context(_STYLE):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has a font for it
        figure = Figure(size, layout="constrained")
        draw(figure.subplots())
        no_metadata = dict.fromkeys(["Creator", "Date", "Format", "Type"])
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    drawn = buffer.getvalue()
    inner = re.sub(
        r"<style.*?</style>", "", drawn[drawn.index("<defs>") :], count=1, flags=re.DOTALL
    )
    prefix = "f" + hashlib.sha256(drawn.encode()).hexdigest()[:12]
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', inner))

    def own(tag: re.Match[str]) -> str:
        text = tag[0].replace(_INK, "currentColor")
        text = re.sub(r'((?:href="|url\()#)', rf"\g<1>{prefix}-", text)
        text = re.sub(
            r' id="([^"]*)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", text
        )
        text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
        return re.sub(r"font-family:[^;\"]*;? *", "", text)  # the page's font

    width, height = (round(96 * side) for side in size)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'role="img" aria-label="{html.escape(label)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {72 * size[0]:g} {72 * size[1]:g}" '
        'style="display:block;max-width:100%;height:auto;stroke-linejoin:round">'
    ) + re.sub("<[^>]*>", own, inner).strip()


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _png(image: UInt8[np.ndarray, "h w 3"]) -> str:
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, image, format="png", metadata={"Software": "Scenax"})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _to_rgb(image: Image) -> UInt8[np.ndarray, "h w 3"]:
    if image.shape[2] not in (1, 3):
        raise ValueError(f"An image has 1 channel (grey) or 3 (RGB), got shape {image.shape}.")
    if image.dtype != np.uint8:
        if not (image.min() >= 0 and image.max() <= 1):
            raise ValueError(
                f"Float images have values in [0, 1], got [{image.min():g}, {image.max():g}]. "
                "Undo the input pipeline's normalisation first."
            )
        image = np.rint(image * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _resize_matrix(size: int, grid: int, resize: str) -> Float[np.ndarray, "size grid"]:
    """Returns the share of every grid cell in every pixel, both by their centres."""
    centres = (np.arange(size) + 0.5) * grid / size - 0.5
    if resize == "nearest":
        centres = np.floor(centres + 0.5)
    return np.maximum(0, 1 - np.abs(np.clip(centres, 0, grid - 1)[:, None] - np.arange(grid)))


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return f"<td{' class=number' if is_number else ''}>{html.escape(text)}</td>"


_PAGE_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1c2128; --soft: #5b6672;
  --line: #dfe3e8; --accent: #1f5fbf; }
@media (prefers-color-scheme: dark) { :root { --page: #12151a; --card: #1a1f26; --ink: #e4e8ed;
  --soft: #98a3af; --line: #2d343d; --accent: #7fb0f5; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; }
body { margin: 0 auto; max-width: 78rem; padding: 0 1.5rem 4rem; background: var(--page);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; display: grid;
  grid-template-columns: 12rem minmax(0, 1fr); column-gap: 2.5rem; }
header { grid-column: 1 / -1; padding: 2.5rem 0 1.5rem; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.01em; }
h2 { margin: 0 0 1rem; font-size: 1.2rem; line-height: 1.3; }
a { color: var(--accent); }
nav { position: sticky; top: 1rem; align-self: start; max-height: calc(100vh - 2rem);
  overflow: auto; font-size: 0.9rem; }
nav ul { list-style: none; margin: 0; padding: 0; border-left: 1px solid var(--line); }
nav a { display: block; padding: 0.3rem 0 0.3rem 0.9rem; text-decoration: none; }
nav a:not(:hover, :focus-visible) { color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.4rem 1.6rem; margin-bottom: 1.4rem; }
section > div { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.93rem; }
th, td { padding: 0.4rem 2rem 0.4rem 0; text-align: left; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
.number { text-align: right; }
figcaption { font-size: 0.8rem; color: var(--soft); line-height: 1.3; padding-top: 0.25rem; }
pre, code { font: 0.88em/1.5 ui-monospace, monospace; }
@media (max-width: 50rem) { body { display: block; padding: 0 1rem 3rem; }
  html { scroll-padding-top: 4rem; }
  nav { top: 0; background: var(--page); padding: 0.4rem 0; margin-bottom: 1rem; z-index: 1; }
  nav ul { display: flex; border: 0; white-space: nowrap; } nav a { padding: 0.3rem 1rem 0.3rem 0; }
  section { padding: 1rem; } }
@media print { nav { display: none; } body { display: block; } section { break-inside: avoid; } }
"""
