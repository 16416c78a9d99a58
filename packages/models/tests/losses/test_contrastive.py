import jax
import jax.numpy as jnp
import numpy as np

from scenax.models.losses.contrastive import sigmoid_contrastive, softmax_contrastive

RNG = np.random.default_rng(0)
IMAGES, TEXTS = RNG.normal(size=(2, 6, 4))
MASK = np.array([1, 1, 0, 1, 1, 0], np.float32)


def call(loss, *numbers, mask=MASK, images=IMAGES):
    arrays = [jnp.asarray(v, jnp.float32) for v in (images, TEXTS, *numbers, mask)]
    return loss(*arrays)


def test_sigmoid_by_hand():
    wanted = np.zeros(6)
    for i in range(6):
        for j in range(6):
            sign = 1 if i == j else -1
            wanted[i] += np.log1p(np.exp(-sign * (3.0 * IMAGES[i] @ TEXTS[j] - 2.0)))
    got = call(sigmoid_contrastive, 3.0, -2.0, mask=np.ones(6))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_padding_is_nobodys_neighbour():
    real = MASK > 0
    for loss, numbers in ((softmax_contrastive, (3.0,)), (sigmoid_contrastive, (3.0, -2.0))):
        got = call(loss, *numbers)
        few = [jnp.asarray(v, jnp.float32) for v in (IMAGES[real], TEXTS[real], *numbers)]
        np.testing.assert_allclose(got[real], loss(*few, jnp.ones(4)), rtol=1e-5)
        np.testing.assert_array_equal(got[~real], [0, 0])


def test_a_batch_of_padding_is_zero_and_so_is_its_gradient():
    for loss, numbers in ((softmax_contrastive, (3.0,)), (sigmoid_contrastive, (3.0, -2.0))):

        def total(images, loss=loss, numbers=numbers):
            return jnp.sum(call(loss, *numbers, mask=np.zeros(6), images=images))

        value, slope = jax.value_and_grad(total)(jnp.asarray(IMAGES, jnp.float32))
        assert float(value) == 0
        np.testing.assert_array_equal(slope, np.zeros((6, 4)))
