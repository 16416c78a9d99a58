import functools
import importlib
import json
import pathlib

import jax
import pytest

from scenax.models import _catalog, create_model

GOLDENS = pathlib.Path(__file__).parent / "goldens"
PUBLISHED = {
    name: facts
    for path in GOLDENS.glob("*.facts.json")
    for name, facts in json.loads(path.read_text())["models"].items()
}
"""What timm knows of each architecture."""


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


def test_every_family_has_a_representative_of_its_own():
    for family, (name, _) in _catalog.representatives().items():
        assert _catalog.families()[name].endswith(f".{family}")


def test_the_small_copy_of_a_family_can_be_made_of_each_of_its_variants(pytestconfig):
    families, copies = _catalog.families(), _catalog.representatives()
    sample = list(families) if pytestconfig.getoption("every_name") else list(families)[::12]
    for name in {*sample, *(representative for representative, _ in copies.values())}:
        _, options = copies[families[name].rpartition(".")[2]]
        logits, parameters = shapes(create_model(name, num_classes=10, **options))
        assert logits == (1, 10), name
        if name in PUBLISHED:
            assert parameters < PUBLISHED[name]["parameters"], name


def shapes(model):
    """The shape of the logits of a small image, and the number of parameters."""
    made = functools.partial(model.init_with_output, train=False)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
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
