import functools
import importlib

import jax
import pytest

from scenax.models import _catalog, create_model


def test_the_catalog_is_what_the_families_have():
    families = _catalog.families()
    assert {"test_vit", "vit_base_patch16_224", "fully_connected"} <= set(families)
    for name, module in families.items():
        assert name in importlib.import_module(module).VARIANTS


@pytest.mark.parametrize(
    "source", ['VARIANTS = {"a": 1, "b": 2}', 'VARIANTS: dict[str, int] = {"a": 1, "b": 2}']
)
def test_variants_are_read_without_running_the_source(source):
    assert _catalog.variants("import nothing_there\n" + source) == ["a", "b"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("VARIANTS = {name: 1}", "a.py has to be a literal string"),
        ("VARIANTS = {1: 1}", "a.py has to be a literal string"),
        ("VARIANTS = {**more}", "a.py has to be a literal string"),
        ("def f():\n  VARIANTS = {'a': 1}", "a.py has no top-level dictionary VARIANTS"),
    ],
)
def test_a_table_that_cannot_be_read(source, message):
    with pytest.raises(ValueError, match=message):
        _catalog.variants(source, "a.py")


def test_every_family_has_a_representative_that_can_be_made():
    for family, (name, options) in _catalog.representatives().items():
        assert _catalog.families()[name].endswith(f".{family}")
        logits, parameters = shapes(create_model(name, num_classes=10, **options), 32, 32, 3)
        assert logits == (1, 10)
        published = create_model(name, num_classes=10)
        channels, *size = published.default_cfg["input_size"]
        assert parameters <= shapes(published, *size, channels)[1]


def test_the_small_copy_of_a_family_can_be_made_of_each_of_its_variants(pytestconfig):
    families, copies = _catalog.families(), _catalog.representatives()
    for name in list(families)[:: 1 if pytestconfig.getoption("every_name") else 6]:
        _, options = copies[families[name].rpartition(".")[2]]
        assert shapes(create_model(name, num_classes=10, **options), 32, 32, 3)[0] == (1, 10), name


def shapes(model, *size):
    """The shape of the logits of an image, and the number of parameters."""
    made = functools.partial(model.init_with_output, train=False)
    images = jax.ShapeDtypeStruct((1, *size), "float32")
    logits, variables = jax.eval_shape(made, jax.eval_shape(jax.random.key, 0), images)
    return logits.shape, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("VARIANTS = {'a': 1}", "a.py has no top-level REPRESENTATIVE"),
        (
            "VARIANTS = {'a': 1}\nREPRESENTATIVE = ('b', {})",
            "'b', which is none of its VARIANTS: a",
        ),
    ],
)
def test_a_representative_that_is_none(source, message):
    with pytest.raises(ValueError, match=message):
        _catalog.representative(source, "a.py")
