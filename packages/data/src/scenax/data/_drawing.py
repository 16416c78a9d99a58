"""What pages of examples are made of: pictures, sounds, overlays and charts as HTML.

Everything is inline, images and sounds as data URIs, boxes as SVG, charts as HTML in the page's own
colours; the same input gives the same string. Names are escaped here, wherever a function takes
some. Letters: t frames, h w image, c channels, n boxes.
"""

import base64
import colorsys
import html
import io
import wave
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image

Color = tuple[int, int, int]

_PALETTE = (
    *("#4c8dff", "#ff9f2e", "#2fbf71", "#f0529c", "#a274ff", "#f2d03b", "#e5484d", "#22c3d6"),
    *("#9a6b42", "#b6e03f", "#8592a3", "#ffb3a7"),
)
EXACT_SIDE = 160
"""Pixels a side up to which a picture is kept as it is; larger ones are compressed."""
_LARGEST_SIDES = (512, 256)
"""Of stills and of clips."""


def class_color(number: int) -> Color:
    """Returns the colour of a class, in 8 bits; of the first twelve, no two are alike."""
    if 0 <= number < len(_PALETTE):
        red, green, blue = bytes.fromhex(_PALETTE[number][1:])
        return red, green, blue
    # By the golden ratio, so that neighbours are far apart.
    hue, lightness = number * 0.618 % 1, (0.5, 0.65, 0.4)[number % 3]
    red, green, blue = (round(255 * v) for v in colorsys.hls_to_rgb(hue, lightness, 0.75))
    return red, green, blue


def image_uri(frames: UInt8[np.ndarray, "t h w c"], *, milliseconds: int = 100) -> str:
    """Returns a picture, or of several frames one that plays again and again.

    Small ones are PNG and have exactly these pixels; large ones are made smaller, and WebP. Of two
    channels the first is shown, of more than three the first three.
    """
    channels = 3 if frames.shape[-1] >= 3 else 1
    pictures = [Image.fromarray(f[..., 0] if channels == 1 else f[..., :3]) for f in frames]
    options: dict[str, Any] = {"format": "PNG"}
    if max(frames.shape[1:3]) > EXACT_SIDE:
        options = {"format": "WEBP", "quality": 85}
        for picture in pictures:
            side = _LARGEST_SIDES[len(pictures) > 1]
            picture.thumbnail((side, side))
    if len(pictures) > 1:
        options |= {"save_all": True, "append_images": pictures[1:]}
        options |= {"duration": milliseconds, "loop": 0}
    buffer = io.BytesIO()
    pictures[0].save(buffer, **options)
    return _data_uri(f"image/{options['format'].lower()}", buffer.getvalue())


def overlay(layer: str, colors: UInt8[np.ndarray, "h w 4"]) -> str:
    """Returns a picture, colours with their opacity, that lies over another as a layer."""
    buffer = io.BytesIO()
    Image.fromarray(colors).save(buffer, "PNG")
    uri = _data_uri("image/png", buffer.getvalue())
    return f'<img class="{layer}" src="{uri}" alt="">'


def painted(
    regions: Sequence[tuple[Bool[np.ndarray, "h w"], Color]], opacity: float, shape: tuple[int, int]
) -> UInt8[np.ndarray, "h w 4"]:
    """Returns every region in its colour, later ones over earlier ones, and nothing elsewhere."""
    colors = np.zeros((*shape, 4), np.uint8)
    for region, color in regions:
        colors[region] = (*color, round(255 * opacity))
    return colors


def hatch(region: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Returns the part of a region that is on every other stripe."""
    rows, columns = np.indices(region.shape)
    stripe = max(1, max(region.shape) // 64)
    return region & ((rows + columns) // stripe % 4 < 2)


def edges(segments: Integer[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Returns the pixels whose lower or right neighbour is of another segment."""
    found = np.zeros(segments.shape, bool)
    found[:-1] |= segments[:-1] != segments[1:]
    found[:, :-1] |= segments[:, :-1] != segments[:, 1:]
    return found


def boxes(
    xyxy: Float[np.ndarray, "n 4"],
    colors: Sequence[Color],
    titles: Sequence[str],
    size: tuple[int, int],
) -> str:
    """Returns rectangles as a layer, in the pixels of an image of ``size``, width and height."""
    width, height = size
    drawn = "".join(
        f'<rect x="{x0:g}" y="{y0:g}" width="{x1 - x0:g}" height="{y1 - y0:g}" '
        f'stroke="{_css(color)}"><title>{html.escape(title)}</title></rect>'
        for (x0, y0, x1, y1), color, title in zip(xyxy.tolist(), colors, titles, strict=True)
    )
    return (
        f'<svg class="boxes" viewBox="0 0 {width} {height}" preserveAspectRatio="none" '
        f'aria-hidden="true">{drawn}</svg>'
    )


def box_tag(name: str, color: Color, box: Sequence[float]) -> str:
    """Returns a name at a box, xyxy in shares: over it if there is room, and inside if not."""
    x0, y0, x1, _ = box
    side = f"left:{max(x0, 0):.2%}" if x0 < 0.6 else f"right:{max(1 - x1, 0):.2%}"
    ink = "#000" if np.dot(color, (0.299, 0.587, 0.114)) > 110 else "#fff"
    style = f"{side};top:{max(y0, 0):.2%};background:{_css(color)};color:{ink}"
    kind = "tag over names" if y0 > 0.08 else "tag names"
    return f'<span class="{kind}" aria-hidden="true" style="{style}">{html.escape(name)}</span>'


def centred_tag(name: str, x: float, y: float) -> str:
    """Returns a name about a point, in shares of the image."""
    return (
        f'<span class="tag about names" aria-hidden="true" style="left:{x:.2%};top:{y:.2%}">'
        f"{html.escape(name)}</span>"
    )


def legend(names: Sequence[str], colors: Sequence[Color]) -> str:
    """Returns names with their colours."""
    items = "".join(
        f'<li><i style="background:{_css(color)}"></i>{html.escape(name)}</li>'
        for name, color in zip(names, colors, strict=True)
    )
    return f'<ul class="legend">{items}</ul>'


def sound(waveform: Float[np.ndarray, " samples"], rate: int, *, seconds: float) -> str:
    """Returns a waveform's outline, and a player of its first ``seconds``."""
    loudest = max(1.0, float(np.abs(waveform).max(initial=0)))
    scaled = waveform / loudest
    starts = np.linspace(0, len(scaled), min(240, len(scaled)), endpoint=False).astype(int)
    low, high = np.minimum.reduceat(scaled, starts), np.maximum.reduceat(scaled, starts)
    upper = [f"{x},{-y:.3g}" for x, y in enumerate(high)]
    lower = [f"{x},{-y:.3g}" for x, y in reversed(list(enumerate(low)))]
    samples = np.rint(scaled[: round(rate * seconds)] * (2**15 - 1)).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return (
        f'<svg class="wave" viewBox="0 -1 {len(starts) - 1} 2" preserveAspectRatio="none" '
        f'role="img" aria-label="Waveform of {len(waveform):,} samples">'
        f'<polygon points="{" ".join(upper + lower)}"/></svg>'
        f'<audio controls preload="none" src="{_data_uri("audio/wav", buffer.getvalue())}"></audio>'
    )


def bars(rows: Sequence[tuple[str, float, str]], colors: Sequence[Color] = ()) -> str:
    """Returns bars: of each its name, its length, and what is written beside it."""
    largest = max((value for _, value, _ in rows), default=0) or 1
    fills = [f";background:{_css(color)}" for color in colors] or [""] * len(rows)
    items = "".join(
        f'<dt title="{html.escape(name)}">{html.escape(name)}</dt>'
        f'<dd><i style="width:{value / largest:.1%}{fill}"></i></dd><dd>{html.escape(text)}</dd>'
        for (name, value, text), fill in zip(rows, fills, strict=True)
    )
    return f'<dl class="bars">{items}</dl>'


def columns(labels: Sequence[str], counts: Sequence[int]) -> str:
    """Returns a histogram: a column for every label."""
    largest = max(counts, default=0) or 1
    items = "".join(
        f'<li><b>{count:,}</b><i style="--share:{count / largest:.3f}"></i>'
        f"<span>{html.escape(label)}</span></li>"
        for label, count in zip(labels, counts, strict=True)
    )
    return f'<ol class="columns">{items}</ol>'


def facts(items: Sequence[tuple[str, str]]) -> str:
    """Returns names with what they are, as tiles."""
    tiles = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in items
    )
    return f'<dl class="facts">{tiles}</dl>'


def panels(titled: Sequence[tuple[str, str]]) -> str:
    """Returns HTML under its titles, side by side where there is room."""
    items = "".join(
        f'<div class="panel"><h3>{html.escape(title)}</h3>{content}</div>'
        for title, content in titled
    )
    return f'<div class="panels">{items}</div>'


def _css(color: Color) -> str:
    return "#" + bytes(color).hex()


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


STYLE = """
h3 { margin: 0 0 0.6rem; font-size: 0.95rem; font-weight: 600; }
p { margin: 0 0 1rem; }
.note { color: var(--soft); font-size: 0.85rem; margin: 0.6rem 0 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr));
  margin: 0 0 1.6rem; border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
.facts div { padding: 0.6rem 0.8rem; box-shadow: 0.5px 0.5px 0 0.5px var(--line); }
.facts dt { color: var(--soft); font-size: 0.78rem; }
.facts dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(16.5rem, 100%), 1fr));
  gap: 1.8rem 2rem; }
.panel { min-width: 0; overflow-x: auto; }
.panel td, .panel th { padding: 0.25rem 1.1rem 0.25rem 0; }
.bars { display: grid; grid-template-columns: fit-content(9rem) minmax(4rem, 1fr) max-content;
  gap: 0.3rem 0.7rem; align-items: center; margin: 0; font-size: 0.85rem; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
.bars dt { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bars dd { margin: 0; color: var(--soft); text-align: right; }
.bars i { display: block; height: 0.85rem; min-width: 1px; border-radius: 3px;
  background: var(--accent); }
.columns { display: flex; gap: 4px; height: 11rem; margin: 0; padding: 0; list-style: none;
  font-size: 0.72rem; line-height: 1.2; text-align: center; font-variant-numeric: tabular-nums; }
.columns li { flex: 1; min-width: 0; display: flex; flex-direction: column;
  justify-content: flex-end; }
.columns i { height: calc((100% - 2.4rem) * var(--share)); min-height: 1px; margin: 0.15rem 0;
  border-radius: 3px 3px 0 0; background: var(--accent); }
.columns b { font-weight: 400; } .columns span { color: var(--soft); white-space: nowrap; }
.legend { display: flex; flex-wrap: wrap; gap: 0.25rem 0.9rem; margin: 0 0 1rem; padding: 0;
  list-style: none; font-size: 0.85rem; }
.legend i { display: inline-block; width: 0.75rem; height: 0.75rem; margin-right: 0.35rem;
  border-radius: 3px; vertical-align: -0.05rem; }
.toggle { accent-color: var(--accent); margin: 0 0.35rem 0 0; vertical-align: -0.1rem; }
.toggle + label { display: inline-block; margin: 0 1rem 0.8rem 0; font-size: 0.9rem; }
.examples { display: grid; gap: 1.1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(17rem, 44%), 1fr)); }
.examples.small { grid-template-columns: repeat(auto-fill, minmax(min(12.5rem, 44%), 1fr)); }
.example { margin: 0; min-width: 0; }
.frame { position: relative; overflow: hidden; border-radius: 6px; background: var(--line);
  line-height: 0; }
.frame + * { margin-top: 0.4rem; }
.frame img { width: 100%; height: auto; }
.small img, .frame .masks, .frame .classes, .frame .segments { image-rendering: pixelated; }
.frame .masks, .frame .classes, .frame .segments, .boxes { position: absolute; inset: 0;
  width: 100%; height: 100%; }
.boxes { filter: drop-shadow(0 0 1px #000); }
.boxes rect { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; }
.tag { position: absolute; max-width: 100%; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; padding: 0 0.3em; border-radius: 3px; font-size: 0.66rem;
  font-weight: 700; line-height: 1.35; pointer-events: none; }
.tag.over { transform: translateY(-100%); }
.tag.about { transform: translate(-50%, -50%); color: #fff;
  text-shadow: 0 0 2px #000, 0 0 3px #000; }
.wave { display: block; width: 100%; height: 3rem; fill: var(--accent); }
audio { display: block; width: 100%; height: 2rem; margin-top: 0.4rem; }
.example figcaption { overflow-wrap: anywhere; color: var(--ink); display: -webkit-box;
  -webkit-box-orient: vertical; -webkit-line-clamp: 4; overflow: hidden; }
.index { color: var(--soft); margin-right: 0.4rem; }
.masked .frame { aspect-ratio: 1; display: grid; place-items: center; padding: 1rem;
  text-align: center; line-height: 1.3; font-size: 0.8rem; color: var(--soft);
  background: repeating-linear-gradient(45deg, var(--line) 0 8px, transparent 8px 16px); }
#show-boxes:not(:checked) ~ .examples .boxes, #show-names:not(:checked) ~ .examples .names,
#show-masks:not(:checked) ~ .examples .masks, #show-classes:not(:checked) ~ .examples .classes,
#show-segments:not(:checked) ~ .examples .segments { display: none; }
"""
