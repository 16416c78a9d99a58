import pytest

from scenax.models import _catalog, _weights


def test_the_table_has_a_default_row_for_every_architecture_and_no_other():
    assert set(_weights._table()) == set(_catalog.families())
    for name in _catalog.families():
        card = _weights.card(name)
        assert card["architecture"] == name
        assert card["tag"] in card["tags"] or (card["tag"] == "untrained" and not card["tags"])
        assert bool(card["tags"]) == bool(card["hf_hub_id"] or card["url"])


@pytest.mark.parametrize(
    ("name", "tag", "facts"),
    [  # As timm 1.0.31 has them.
        ("resnet18d", "", {"tag": "ra2_in1k", "crop_pct": 0.875, "first_conv": "conv1.0"}),
        (
            "resnet50",
            "tv_in1k",
            {"hf_hub_id": "timm/resnet50.tv_in1k", "interpolation": "bilinear"},
        ),
        ("efficientnet_b0", "", {"tag": "ra_in1k", "classifier": "classifier"}),
        ("deit_small_distilled_patch16_224", "", {"classifier": ("head", "head_dist")}),
        ("swin_tiny_patch4_window7_224", "", {"fixed_input_size": True, "pool_size": (7, 7)}),
        (
            "vit_base_patch16_224",
            "",
            {"mean": (0.5, 0.5, 0.5), "top1": 85.108, "license": "apache-2.0"},
        ),
        ("vit_huge_patch14_224", "", {"num_classes": 0, "tag": "orig_in21k", "top1": None}),
        ("caformer_b36", "sail_in1k_384", {"input_size": (3, 384, 384), "pool_size": (12, 12)}),
    ],
)
def test_facts_of_published_weights(name, tag, facts):
    card = _weights.card(name, tag)
    assert {key: card[key] for key in facts} == facts


def test_published_figures_are_percentages():
    cards = [_weights.card(n, tag) for n in _catalog.families() for tag in _weights.tags(n)]
    rated = [card for card in cards if card["top1"] is not None]
    assert len(rated) > 300
    for card in rated:
        assert 40 < card["top1"] < 95
        assert card["top1_size"] >= 128
