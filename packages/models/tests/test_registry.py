import pytest
from flax import linen as nn

import scenax.models
from scenax.common.registry import RegistryError
from scenax.models import _registry


class Toy(nn.Module):
    width: int = 3

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.width, name="head")(x.reshape(x.shape[0], -1))


@pytest.fixture
def names(monkeypatch):
    """A registry that forgets what a test enters."""
    fresh = _registry.Registry("model")
    monkeypatch.setattr(_registry, "_custom", fresh)
    return fresh


def test_unknown_names_are_answered_with_the_closest():
    with pytest.raises(RegistryError, match=r"Unknown model 'vit_tinny_patch16_224'. Did you mean"):
        scenax.models.create_model("vit_tinny_patch16_224")
    with pytest.raises(RegistryError, match="'vit_tiny_patch16_224'") as error:
        scenax.models.create_model("vit_tinny_patch16_224")
    assert str(error.value).count(" or ") == 4
    assert "list_models('vit*') lists" in str(error.value)


def test_unknown_options_are_answered_with_the_closest():
    with pytest.raises(TypeError, match=r"test_vit has no option 'num_clases'.*'num_classes'"):
        scenax.models.create_model("test_vit", num_clases=3)
    with pytest.raises(TypeError, match="fully_connected has no option 'img_size'"):
        scenax.models.create_model("fully_connected", img_size=3)
    with pytest.raises(TypeError, match="test_vit has no option 'default_cfg'"):
        scenax.models.create_model("test_vit", default_cfg={})


def test_none_keeps_the_default():
    assert scenax.models.create_model("test_vit", num_classes=None, drop_rate=None) == (
        scenax.models.create_model("test_vit")
    )
    assert scenax.models.create_model("vit_large_patch32_224").num_classes == 0
    assert scenax.models.create_model("vit_large_patch32_224", num_classes=9).num_classes == 9


def test_a_tag_of_published_weights_sets_the_defaults():
    create_model = scenax.models.create_model
    assert create_model("test_vit.r160_in1k") == create_model("test_vit")
    # timm 1.0.31: 21,843 classes of ImageNet-21k; and a default tag without a head.
    model = create_model("vit_base_patch16_224.augreg_in21k")
    assert (model.num_classes, model.default_cfg["tag"]) == (21843, "augreg_in21k")
    assert create_model("vit_base_patch16_224.augreg_in21k", num_classes=5).num_classes == 5
    assert create_model("vit_huge_patch14_224").default_cfg["tag"] == "orig_in21k"
    assert create_model("vit_huge_patch14_224").num_classes == 0
    assert create_model("resnet50.tv_in1k").default_cfg["crop_pct"] == 0.875
    assert create_model("resnet50").default_cfg["crop_pct"] == 0.95


def test_a_tag_without_weights_is_answered_with_the_closest(names):
    with pytest.raises(RegistryError, match=r"no weights tagged 'tv_in21k'. Did you .*'tv_in1k'"):
        scenax.models.create_model("resnet50.tv_in21k")
    with pytest.raises(RegistryError, match=r"tagged 'a'. It has no published weights. Use"):
        scenax.models.create_model("resnet50t.a")

    @scenax.models.register_model("toy")
    def toy() -> Toy:
        return Toy()

    with pytest.raises(RegistryError, match=r"toy is a model of your own.*'.in1k' out"):
        scenax.models.create_model("toy.in1k")


def test_listing():
    every = scenax.models.list_models()
    assert len(every) == len(set(every)) >= 22
    assert scenax.models.list_models("vit_small_patch*_224") == [
        "vit_small_patch8_224",
        "vit_small_patch16_224",
        "vit_small_patch32_224",
    ]
    assert scenax.models.list_models(
        "vit_*_224", exclude=["vit_?????_*", "vit_gi*", "*_*_*_*_*"]
    ) == [
        "vit_base_patch8_224",
        "vit_base_patch16_224",
        "vit_base_patch32_224",
        "vit_huge_patch14_224",
        "vit_tiny_patch16_224",
    ]
    assert scenax.models.list_models("resnet_of_another_world") == []
    assert scenax.models.list_models(("test_vit", "fully_connected")) == [
        "fully_connected",
        "test_vit",
    ]


def test_a_model_of_ones_own(names):
    @scenax.models.register_model("toy")
    def toy(*, width: int = 3) -> Toy:
        return Toy(width)

    assert "toy" in scenax.models.list_models("t*")
    assert scenax.models.create_model("toy", width=4) == toy(width=4) == Toy(4)
    with pytest.raises(TypeError, match=r"toy has no option 'widht'. Did you mean 'width'"):
        scenax.models.create_model("toy", widht=4)
    with pytest.raises(RegistryError, match="'toy' is registered already"):
        scenax.models.register_model("toy")(toy)


def test_options_of_a_builder_that_passes_them_on(names):
    @scenax.models.register_model("typed")
    def typed(**options) -> Toy:
        return Toy(**options)

    @scenax.models.register_model("untyped")
    def untyped(**options):
        return Toy(**options)

    @scenax.models.register_model("unreadable")
    def unreadable(**options) -> "NotImported":  # noqa: F821
        return Toy(**options)

    assert scenax.models.create_model("typed", width=4) == Toy(4)
    with pytest.raises(TypeError, match="typed has no option 'depth'"):
        scenax.models.create_model("typed", depth=4)
    for name in ("untyped", "unreadable"):
        with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
            scenax.models.create_model(name, depth=4)


def test_names_that_cannot_be_registered():
    with pytest.raises(RegistryError, match="'test_vit' is registered already, by scenax"):
        scenax.models.register_model("test_vit")
    with pytest.raises(RegistryError, match="A dot starts a tag"):
        scenax.models.register_model("my.model")
