"""Authors' state dicts, against what timm makes of the same arrays."""

import json
import pathlib
import runpy
import zlib

import numpy as np
import pytest
from safetensors.numpy import save_file

import scenax.models
from scenax.models.pretrained.timm import to_timm

GOLDENS = pathlib.Path(__file__).parent / "goldens"
SEEDED = runpy.run_path(str(GOLDENS.parents[1] / "goldens" / "seeded.py"))
CASES = json.loads((GOLDENS / "layouts.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_every_array_is_the_one_that_timm_has(case, tmp_path):
    what = CASES[case]
    state = {
        key: SEEDED["weight"](key, tuple(shape)).astype(np.float32)
        for key, shape in what["shapes"].items()
    }
    save_file(state, tmp_path / "x.safetensors")
    model = scenax.models.create_model(what["model"], **what["options"])
    got = to_timm(scenax.models.load_pretrained(model, tmp_path / "x.safetensors"), model)
    assert {key: zlib.crc32(array.tobytes()) for key, array in got.items()} == what["checksums"]


@pytest.mark.parametrize("case", ["clip", "trunk"])
def test_a_tower_without_its_projection(case, tmp_path):
    what = CASES[case]
    shapes = what["shapes"].items()
    save_file({key: np.zeros(shape, "f") for key, shape in shapes}, tmp_path / "x.safetensors")
    model = scenax.models.create_model(what["model"], **{**what["options"], "num_classes": 0})
    got = scenax.models.load_pretrained(model, tmp_path / "x.safetensors")
    assert "head" not in got["params"]
