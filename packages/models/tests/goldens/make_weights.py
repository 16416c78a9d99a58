"""Writes ``weights.csv``, what is known of published weights: ``python make_weights.py RESULTS``.

Run by hand where timm 1.0.31 is installed, after an architecture came in. ``RESULTS`` is the
``results-imagenet.csv`` of timm's repository. A row is a tag of an architecture of the zoo, the
default one first; ``OTHERS`` are architectures that timm does not have.
"""

import csv
import pathlib
import runpy
import sys

FOLDER = pathlib.Path(__file__).parent
SOURCE = FOLDER.parents[1] / "src" / "scenax" / "models"
TIMM, RELEASED = "1.0.31", "2026-11-03"
"""Version, and when it came to PyPI."""
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SWIN_MLP = "https://github.com/SwinTransformer/storage/releases/download/v1.0.5"
OTHERS = {
    "fully_connected": {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    | {"classifier": "head"},
    # The figures of the papers' own tables: 2102.12122, table 1; Microsoft's release notes.
    **{
        f"pvt_{size}": {
            **IMAGENET,
            "tag": "in1k",
            "source": f"Zetatech/pvt-{size}-224",
            "license": "apache-2.0",
            "crop_pct": 0.9,
            "fixed_input_size": True,
            "first_conv": "patch_embed1.proj",
            "classifier": "head",
            "top1": top1,
            "top1_size": 224,
        }
        for size, top1 in (("tiny", 75.1), ("small", 79.8), ("medium", 81.2), ("large", 81.7))
    },
    **{
        name: {
            **IMAGENET,
            "tag": "ms_in1k",
            "source": f"{SWIN_MLP}/{name}.pth",
            "license": "mit",
            "input_size": (3, size, size),
            "crop_pct": 0.9,
            "fixed_input_size": True,
            "pool_size": (size // 32, size // 32),
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "top1": top1,
            "top1_size": size,
        }
        for name, size, top1 in (
            ("swin_mlp_tiny_c24_patch4_window8_256", 256, 79.4),
            ("swin_mlp_tiny_c12_patch4_window8_256", 256, 79.6),
            ("swin_mlp_tiny_c6_patch4_window8_256", 256, 79.7),
            ("swin_mlp_base_patch4_window7_224", 224, 81.3),
        )
    },
}
COLUMNS = (
    "architecture",
    "tag",
    "source",
    "license",
    "input_size",
    "test_input_size",
    "fixed_input_size",
    "crop_pct",
    "test_crop_pct",
    "crop_mode",
    "interpolation",
    "mean",
    "std",
    "num_classes",
    "pool_size",
    "first_conv",
    "classifier",
    "top1",
    "top1_size",
)
DEFAULTS = {
    "tag": "untrained",
    "input_size": (3, 224, 224),
    "fixed_input_size": False,
    "crop_pct": 0.875,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "num_classes": 1000,
}


def text(value: object) -> str:
    """Returns an entry of the table; a tuple's parts are joined by spaces."""
    if isinstance(value, tuple | list):
        return " ".join(map(text, value))
    return "" if value is None else str(int(value) if isinstance(value, bool) else value)


def rows_of(name: str, results: dict[str, dict[str, str]]) -> list[dict[str, object]]:
    """Returns an architecture's rows, the default tag's first."""
    if name in OTHERS:
        return [{"architecture": name, **DEFAULTS, **OTHERS[name]}]
    from timm.models import _registry as registry

    known = registry._model_default_cfgs[name]
    rows = []
    for tag in known.tags:
        cfg = known.cfgs[tag]
        result = results.get(f"{name}.{tag}", {})
        source = cfg.hf_hub_id or cfg.url
        source = f"timm/{name}.{tag}" if source == "timm/" else source
        row = {column: getattr(cfg, column, None) for column in COLUMNS}
        row |= {"architecture": name, "tag": tag or "untrained", "source": source}
        rows.append(row | {"top1": result.get("top1"), "top1_size": result.get("img_size")})
    return [row for row in rows[:1] if not row["source"]] + [row for row in rows if row["source"]]


def main(results: str) -> None:
    """Writes the table."""
    runpy.run_path(str(FOLDER / "make.py"))["declare_operators"]()
    import timm

    if timm.__version__ != TIMM:
        raise SystemExit(f"This is timm {timm.__version__}: set TIMM and RELEASED to its own.")
    with open(results, encoding="utf-8") as file:
        of_tag = {row["model"]: row for row in csv.DictReader(file)}
    names = sorted(runpy.run_path(str(SOURCE / "_catalog.py"))["families"]())
    with open(SOURCE / "weights.csv", "w", encoding="utf-8", newline="") as file:
        file.write(f"# Published weights by architecture and tag, as timm {TIMM} ({RELEASED}) and ")
        file.write("its results-imagenet.csv have them.\n")
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for name in names:
            for row in rows_of(name, of_tag):
                table.writerow({column: text(row.get(column)) for column in COLUMNS})


if __name__ == "__main__":
    main(*sys.argv[1:])
