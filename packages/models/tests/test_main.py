import re

import pytest

from scenax.models.__main__ import main


def test_the_list_has_the_published_figures(capsys):
    assert main(["list", "vit_base_patch?_224", "vit_base_patch??_224"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "parameters", "GMACs", "input", "top-1"]
    published = {  # timm's tables: parameters, GMACs, top-1.
        "vit_base_patch8_224": ("86,576,872", 78.22, "86.25"),
        "vit_base_patch16_224": ("86,567,656", 17.58, "85.11"),
        "vit_base_patch32_224": ("88,224,232", 4.41, "80.73"),
    }
    assert [row.split()[0] for row in rows] == list(published)
    for row in rows:
        name, parameters, gmacs, size, top1 = row.split()
        assert (parameters, top1) == published[name][::2]
        assert float(gmacs) == pytest.approx(published[name][1], rel=0.02)
        assert size == "224x224"


def test_a_card_has_the_facts_and_the_layers(capsys):
    assert main(["show", "test_vit"]) == 0
    shown = capsys.readouterr().out
    for fact in (r"num_features +64", r"input_size +\(3, 160, 160\)", r"blocks\.5 +64 +16"):
        assert re.search(fact, shown)
    assert re.search(r"blocks_0/attn/qkv/kernel +\(64, 192\) +float32 +12,288", shown)
    assert re.search(r"total +371,240", shown)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "vit_bas_patch16_224"], "Did you mean 'vit_base_patch16_224'"),
        (["list", "nothing_*"], "no name is like 'nothing_*'"),
    ],
)
def test_what_is_not_there_is_named(capsys, arguments, said):
    assert main(arguments) == 1
    assert said in capsys.readouterr().err
