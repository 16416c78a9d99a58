import importlib

import pytest

from scenax.models import _catalog


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
