import numpy as np

from scenax.train.transfer.sweep import Sweep

CHOICES = ({"k": 1}, {"k": 2}, {"k": 3})


def test_validation_chooses_and_test_does_not():
    sweep = Sweep(CHOICES, np.array([[0.2, 0.6, 0.6]]), np.array([[0.9, 0.3, 0.8]]))
    assert (sweep.choice, sweep.validation_top_1, sweep.test_top_1) == ({"k": 2}, 0.6, 0.3)
    assert sweep.test_deviation == 0


def test_one_choice_is_made_for_all_repeats():
    validation = np.array([[0.9, 0.6, 0.0], [0.0, 0.6, 0.9], [0.0, 0.6, 0.0]])
    sweep = Sweep(CHOICES, validation, np.array([[0, 0.1, 0], [0, 0.2, 0], [0, 0.6, 0]]))
    assert sweep.choice == {"k": 2}
    np.testing.assert_allclose(sweep.test_top_1, 0.3)
    np.testing.assert_allclose(sweep.test_deviation, np.sqrt((0.04 + 0.01 + 0.09) / 2))
