import pytest
from flax import linen as nn

import scenax.models
from scenax.common.contracts import DatasetInfo
from scenax.common.registry import RegistryError
from scenax.models import _registry


class Toy(nn.Module):
    width: int = 3

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.width, name="head")(x.reshape(x.shape[0], -1))


def test_model_classes(monkeypatch):
    monkeypatch.setattr(_registry, "_custom", _registry.Registry("model"))
    info = DatasetInfo("toy", (8, 8, 1), "float32", 3, ("a", "b", "c"), {"train": 30})
    model = scenax.models.get_model_cls("test_vit_classification")(
        {"args": {"patch_size": 4}}, info
    )
    assert isinstance(model, scenax.models.ClassificationModel)
    assert (model.flax_model.img_size, model.flax_model.in_chans) == ((8, 8), 1)
    scenax.models.register_model("toy")(lambda *, width: Toy(width))
    model = scenax.models.get_model_cls("toy_classification")({"args": {"width": 3}}, info)
    assert model.flax_model == Toy(3)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("clasification", "'classification'"),
        ("test_vit_clasification", "'test_vit_classification'"),
        ("fully_conected_classification", "'fully_connected_classification'"),
        ("_classification", "'classification'"),
    ],
)
def test_unknown_model_classes_are_answered_with_the_closest(name, meant):
    with pytest.raises(RegistryError, match=f"Unknown model class {name!r}.*{meant}"):
        scenax.models.get_model_cls(name)
