import pytest

from scenax import data
from scenax.common.registry import RegistryError


def test_unknown_dataset_names_the_closest():
    with pytest.raises(RegistryError, match=r"Unknown dataset 'digit'\. Did you mean 'digits'"):
        data.get_dataset("digit", batch_size=8)


def test_unknown_option_names_the_closest():
    with pytest.raises(
        ValueError, match=r"The dataset 'digits' has no option 'augmnt'\. Did you mean 'augment'"
    ):
        data.get_dataset("digits", batch_size=8, augmnt="affine")


def test_a_taken_name_is_refused():
    with pytest.raises(RegistryError, match="'digits' is registered already"):
        data.register("digits")(lambda reading: None)
