import jax.numpy as jnp
import numpy as np

from scenax.models.layers import windows


def test_windows_are_cut_row_by_row_and_joined_again():
    x = jnp.arange(2 * 4 * 6).reshape(2, 4, 6, 1).astype(float)
    cut = windows.split_windows(x, (2, 3))
    np.testing.assert_array_equal(cut[1, :, 0], [3, 4, 5, 9, 10, 11])
    np.testing.assert_array_equal(cut[4], x[1, :2, :3].reshape(6, 1))
    np.testing.assert_array_equal(windows.join_windows(cut, 2, (4, 6), (2, 3)), x)


def test_a_relative_position_has_one_row_of_the_table():
    index = windows.relative_positions(2, 3)
    at = [(row, col) for row in range(2) for col in range(3)]
    rows = {}
    for q, (row, col) in enumerate(at):
        for k, (row_k, col_k) in enumerate(at):
            rows.setdefault((row - row_k, col - col_k), set()).add(int(index[q, k]))
    assert rows[-1, -2] == {0}
    assert rows[0, -2] == {5}
    assert [rows[offset] for offset in sorted(rows)] == [{i} for i in range(15)]


def test_a_shifted_window_hides_the_opposite_end_of_the_map():
    mask = windows.shift_mask((4, 4), (2, 2), (1, 1))
    assert not mask[0].any()
    np.testing.assert_array_equal(mask[1], [[0, -100, 0, -100], [-100, 0, -100, 0]] * 2)
    np.testing.assert_array_equal(mask[3], -100 * (1 - np.eye(4)))


def test_an_axis_without_a_shift_hides_nothing():
    mask = windows.shift_mask((2, 4), (2, 2), (0, 1))
    np.testing.assert_array_equal(mask[1], [[0, -100, 0, -100], [-100, 0, -100, 0]] * 2)
