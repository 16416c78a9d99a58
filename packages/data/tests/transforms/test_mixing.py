"""Mixed batches against the papers' formulas; pasted objects against their colours."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scenax.data.transforms.mixing import CopyPaste, CutMix, Mixup, MixupOrCutMix


def batch_of(size, shape=(4, 6, 3), seed=0, dtype=np.float32):
    """Examples of random pixels, each of a class of its own."""
    inputs = np.random.default_rng(seed).uniform(-1, 1, (size, *shape)).astype(np.float32)
    label = np.eye(size, dtype=np.float32)
    return {"inputs": jnp.asarray(inputs, dtype), "label": jnp.asarray(label)}


def shares_of(label):
    """What every example kept of itself, where it and its partner have their own classes."""
    size = len(label)
    own, other = np.arange(size), np.arange(size)[::-1]
    label = np.asarray(label)
    np.testing.assert_allclose(label.sum(axis=1), 1, atol=1e-6)
    share = np.where(own == other, 1, label[own, own])
    rest = label.copy()
    rest[own, own] = rest[own, other] = 0
    assert not rest.any()
    return share


def key(seed=0):
    return jax.random.key(seed)


@pytest.fixture
def quick():
    """Draws Beta(a, a) as Beta(1, 1), which compiles in a tenth of the time."""

    def uniform(key, a, b, shape, dtype):
        return jax.random.uniform(key, shape, dtype)

    with mock.patch.object(jax.random, "beta", uniform):
        yield


# Mixup.


@pytest.mark.parametrize("size", [2, 7, 8])
@pytest.mark.parametrize("shape", [(4, 6, 3), (2, 4, 6, 3)])
@pytest.mark.parametrize("per_example", [True, False])
@pytest.mark.usefixtures("quick")
def test_mixup_is_the_papers_blend_of_inputs_and_labels(size, shape, per_example):
    batch = batch_of(size, shape) | {"name": jnp.arange(size)}
    found = jax.jit(Mixup(0.8, per_example=per_example))(batch, key(3))
    share = shares_of(found["label"]).reshape(-1, *[1] * len(shape))
    x = np.asarray(batch["inputs"], np.float64)
    np.testing.assert_allclose(found["inputs"], share * x + (1 - share) * x[::-1], atol=1e-6)
    assert found["inputs"].dtype == found["label"].dtype == jnp.float32
    np.testing.assert_array_equal(found["name"], np.arange(size))
    assert ((share > 0) & (share <= 1)).all()
    assert (share < 0.999).any()


@pytest.mark.usefixtures("quick")
def test_images_keep_their_precision():
    batch = batch_of(8, dtype=jnp.bfloat16)
    for mix in (Mixup(0.8), CutMix(), MixupOrCutMix()):
        found = jax.jit(mix)(batch, key())
        assert found["inputs"].dtype == jnp.bfloat16
        assert found["label"].dtype == jnp.float32


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_draws_a_share_for_each_example_from_the_beta_distribution(alpha):
    batch = {"inputs": jnp.zeros((4000, 1, 1, 1)), "label": jnp.eye(4000)}
    shares = shares_of(Mixup(alpha)(batch, key())["label"])
    # A symmetric Beta has mean 1/2, variance 1 / (4 (2 a + 1)) and this fourth moment.
    deviation = shares - 0.5
    np.testing.assert_allclose(deviation.mean(), 0, atol=0.025)
    np.testing.assert_allclose((deviation**2).mean(), 1 / (4 * (2 * alpha + 1)), rtol=0.06)
    fourth = 3 / (16 * (2 * alpha + 1) * (2 * alpha + 3))
    np.testing.assert_allclose((deviation**4).mean(), fourth, rtol=0.12)
    # Partners do not share one share, nor do neighbours.
    for other in (shares[::-1], np.roll(shares, 1)):
        assert abs(np.corrcoef(shares, other)[0, 1]) < 0.06


@pytest.mark.parametrize("mix", [Mixup(0.8, per_example=False), Mixup(0.8)])
@pytest.mark.usefixtures("quick")
def test_a_batch_has_one_share_or_each_example_its_own(mix):
    shares = [shares_of(mix(batch_of(8), key(seed))["label"]) for seed in range(20)]
    different = {len(np.unique(share)) for share in shares}
    assert different == ({8} if mix.per_example else {1})
    assert len({share[0] for share in shares}) == 20  # Anew with every key.


# CutMix.


def pasted(found):
    """Where each image of the batch shows its partner; image i is all i."""
    values = np.asarray(found["inputs"])[..., 0]
    own = np.arange(len(values)).reshape(-1, 1, 1)
    assert ((values == own) | (values == own[::-1])).all()
    return values != own


def numbered(size, height, width):
    inputs = np.broadcast_to(np.arange(size).reshape(-1, 1, 1, 1), (size, height, width, 1))
    return {"inputs": jnp.asarray(inputs, jnp.float32), "label": jnp.eye(size)}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("per_example", [True, False])
def test_labels_go_by_the_area_that_is_really_pasted(per_example):
    cut = jax.jit(CutMix(per_example=per_example))
    areas = []
    for seed in range(40):
        found = cut(numbered(8, 20, 30), key(seed))
        inside = pasted(found)
        area = inside.mean(axis=(1, 2))
        np.testing.assert_allclose(shares_of(found["label"]), 1 - area, atol=1e-6)
        areas.append(area)
        for each in inside:  # Rectangles.
            rows, columns = each.any(axis=1), each.any(axis=0)
            np.testing.assert_array_equal(each, rows[:, None] & columns)
            assert (np.diff(np.flatnonzero(rows)) == 1).all()
            assert (np.diff(np.flatnonzero(columns)) == 1).all()
    assert 0.1 < np.mean(areas) < 0.5
    assert np.max(areas) > 0.6


def test_rectangles_have_the_images_aspect_ratio_and_any_centre():
    size, height, width = 500, 32, 48
    share = 0.75  # Rectangles of half the sides.
    with mock.patch.object(jax.random, "beta", return_value=jnp.full(size, share)):
        inside = [pasted(CutMix()(numbered(size, height, width), key(seed))) for seed in range(8)]
    inside = np.concatenate(inside)
    heights = inside.any(axis=2).sum(axis=1)
    widths = inside.any(axis=1).sum(axis=1)
    assert (heights.max(), widths.max()) == (16, 24)
    whole = (heights == 16) & (widths == 24)
    # A centre is one of the pixels: of 32 rows, 17 have 8 others on both sides, 8 before, 8 after.
    np.testing.assert_allclose(whole.mean(), 17 / 32 * 25 / 48, atol=0.03)
    for shown, half, count in ((inside.any(axis=2), 8, height), (inside.any(axis=1), 12, width)):
        places = np.arange(count)
        covers = [((places - half <= row) & (row < places + half)).mean() for row in places]
        np.testing.assert_allclose(shown.mean(axis=0), covers, atol=0.03)
    # Rows and columns are drawn independently of each other.
    tops, lefts = (shown.argmax(axis=1) for shown in (inside.any(axis=2), inside.any(axis=1)))
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.06


def test_cutmix_draws_shares_from_the_beta_distribution():
    size = 1600
    found = CutMix(alpha=1.0)(numbered(size, 64, 64), key())
    inside = pasted(found)
    rows, columns = inside.any(axis=2), inside.any(axis=1)
    uncut = ~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1])
    side = rows.sum(axis=1)[uncut] / 64
    np.testing.assert_allclose(side, columns.sum(axis=1)[uncut] / 64)
    # With s uniform, the side r = sqrt(1 - s) has the density 2 r, and (1 - r)^2 of the rectangles
    # reach over no border: the mean is 2/5 of those.
    np.testing.assert_allclose(side.mean(), 0.4 - 1 / 64, atol=0.03)
    np.testing.assert_allclose(uncut.mean(), 1 / 6, atol=0.03)


@pytest.mark.usefixtures("quick")
def test_a_batch_has_one_size_of_rectangle_or_each_example_its_own():
    for per_example in (False, True):
        found = CutMix(per_example=per_example)(numbered(64, 64, 64), key(1))
        inside = pasted(found)
        rows, columns = inside.any(axis=2), inside.any(axis=1)
        uncut = ~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1])
        sizes = set(rows.sum(axis=1)[uncut].tolist())
        assert len(sizes) > 3 if per_example else len(sizes) == 1


@pytest.mark.usefixtures("quick")
def test_every_frame_of_a_clip_has_the_same_rectangle():
    clips = jnp.broadcast_to(numbered(8, 20, 30)["inputs"][:, None], (8, 3, 20, 30, 1))
    found = CutMix()({"inputs": clips, "label": jnp.eye(8)}, key(2))
    frames = [pasted({"inputs": found["inputs"][:, t]}) for t in range(3)]
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[0], frames[2])
    np.testing.assert_allclose(
        shares_of(found["label"]), 1 - frames[0].mean(axis=(1, 2)), atol=1e-6
    )


# Both.


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_either_of_the_two_is_drawn_for_every_batch(probability):
    mix = jax.jit(MixupOrCutMix(Mixup(4.0), CutMix(), probability))
    batch = numbered(8, 16, 16)
    cuts = 0
    for seed in range(200):
        values = np.asarray(mix(batch, key(seed))["inputs"])[..., 0]
        whole = values == np.round(values)  # A blend of two whole numbers is none.
        assert whole.all() or not whole.any()
        cuts += bool(whole.all())
    assert abs(cuts - 200 * probability) <= (20 if 0 < probability < 1 else 0)


MIXES = [Mixup(0.8), Mixup(0.8, per_example=False), CutMix(), MixupOrCutMix()]


def test_eight_devices_draw_as_one_does():
    assert_devices_agree(Mixup(0.7))  # Beta's own draws, too.


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mix", MIXES)
def test_eight_devices_mix_as_one_does(mix):
    assert_devices_agree(mix)


def assert_devices_agree(mix):
    batch = batch_of(16) | {"batch_mask": jnp.asarray(np.arange(16) != 3, jnp.float32)}
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    assert mesh.size == 8
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    spread, jitted = jax.device_put(batch, rows), jax.jit(mix)
    for seed in range(4):
        plain, found = mix(batch, key(seed)), jitted(spread, key(seed))
        assert found.keys() == batch.keys()
        for name, value in found.items():
            np.testing.assert_allclose(np.asarray(value), plain[name], atol=1e-6)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("size", [7, 8])
def test_padding_is_mixed_with_nothing_and_into_nothing(mix, size):
    batch = batch_of(size)
    mask = np.ones(size, np.float32)
    mask[[0, 2]] = 0
    alone = np.isin(np.arange(size), [0, 2, size - 1, size - 3])
    mixed = np.zeros(size, bool)
    mix = jax.jit(mix)
    for seed in range(10):
        found = mix(batch | {"batch_mask": jnp.asarray(mask)}, key(seed))
        for name in ("inputs", "label"):
            before, after = np.asarray(batch[name]), np.asarray(found[name])
            np.testing.assert_array_equal(after[alone], before[alone])
            mixed |= (before != after).reshape(size, -1).any(axis=1)
        np.testing.assert_array_equal(found["batch_mask"], mask)
    # All others were, but the one in the middle, which is its own partner.
    own = np.arange(size) == np.arange(size)[::-1]
    np.testing.assert_array_equal(mixed | own, ~alone)


@pytest.mark.usefixtures("quick")
def test_a_key_decides_what_is_mixed():
    for mix in MIXES:
        first, again, other = (np.asarray(mix(batch_of(8), key(s))["inputs"]) for s in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


@pytest.mark.usefixtures("quick")
def test_what_cannot_be_mixed_is_named():
    for mix in (Mixup, CutMix):
        for alpha in (0.0, -1.0, float("nan")):
            with pytest.raises(ValueError, match=rf"{mix.__name__} needs alpha above 0, got"):
                mix(alpha)
    ids = {"inputs": jnp.zeros((4, 2, 2, 1)), "label": jnp.arange(4)}
    advice = r"needs one-hot labels, got int32\[4\]\. .* one_hot=True, or use transforms.*OneHot"
    for mix in MIXES:
        with pytest.raises(TypeError, match=advice):
            mix(ids, key())


# Copy-paste. Each object has a colour of its own: 10 times its class, from which it is known.


def scene(classes, *, seed=0, height=40, width=60, crowds=()):
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width), np.uint8)
    for number in classes:
        h, w = rng.integers(6, 22, size=2)
        top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
        pixels[top : top + h, left : left + w] = 10 * number
    shown = [number for number in classes if (pixels == 10 * number).any()]
    masks = pixels == 10 * np.array(shown, np.uint8).reshape(-1, 1, 1)
    return {
        "inputs": np.repeat(pixels[..., None], 3, axis=-1),
        "boxes": boxes_of(masks),
        "classes": np.array(shown, np.int32),
        "is_crowd": np.isin(shown, crowds),
        # No count of pixels, so that it is seen which areas are counted anew.
        "area": np.array([-1.0 * number for number in shown], np.float32),
        "masks": masks,
        "image_id": seed,
    }


def boxes_of(masks):
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


FIRST, SECOND = (1, 2, 3, 4, 5), (11, 12, 13, 14, 15, 16)
PER_OBJECT = ("boxes", "classes", "is_crowd", "area", "masks")


def paste(seed, transform=CopyPaste(), crowds=()):  # noqa: B008  (frozen)
    pair = scene(FIRST, seed=seed, crowds=crowds), scene(SECOND, seed=seed + 1000, crowds=crowds)
    return pair, transform(*pair, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(25))
def test_masks_boxes_and_areas_are_those_of_what_is_seen(seed):
    pair, both = paste(seed)
    for before, other, after in ((*pair, both[0]), (*pair[::-1], both[1])):
        pixels = after["inputs"][..., 0]
        assert after["inputs"].dtype == np.uint8
        assert after["image_id"] == before["image_id"]
        count = len(after["classes"])
        assert len(set(after["classes"].tolist())) == count
        for name in PER_OBJECT:
            assert len(after[name]) == count
            assert after[name].dtype == before[name].dtype
        for number, mask, box, area in zip(
            *(after[name] for name in ("classes", "masks", "boxes", "area")), strict=True
        ):
            np.testing.assert_array_equal(mask, pixels == 10 * number)
            np.testing.assert_array_equal(box, boxes_of(mask[None])[0])
            # Only what is partly hidden is counted anew.
            source = before if number in before["classes"] else other
            hidden = (source["inputs"][..., 0] == 10 * number).sum() > mask.sum()
            assert area == (mask.sum() if hidden else -number)
        # Nothing moves: every pixel shows one of the two images there.
        changed = pixels != before["inputs"][..., 0]
        np.testing.assert_array_equal(pixels[changed], other["inputs"][changed][:, 0])


def test_objects_stay_as_long_as_enough_of_them_is_seen():
    kept, gone = [], []
    for seed in range(60):
        pair, both = paste(seed, CopyPaste(min_visible=0.4))
        for before, after in zip(pair, both, strict=True):
            for number in before["classes"].tolist():
                area = (before["inputs"][..., 0] == 10 * number).sum()
                share = (after["inputs"][..., 0] == 10 * number).sum() / area
                (kept if number in after["classes"] else gone).append(share)
    assert min(kept) >= 0.4
    assert max(gone) < 0.4
    assert 0.4 <= min(share for share in kept if share < 1) < 0.5
    assert max(gone) > 0.2


@pytest.mark.parametrize("min_visible", [0.0, 0.1])
def test_an_object_of_which_nothing_is_seen_is_taken_out(min_visible):
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    pixels[0, 2:4, 2:4] = 10
    pixels[1, 1:6, 1:6] = 110
    examples = []
    for number, image in ((1, pixels[0]), (11, pixels[1])):
        masks = image[None, ..., 0] == 10 * number
        classes = np.array([number], np.int32)
        examples.append(
            {"inputs": image, "boxes": boxes_of(masks), "classes": classes, "masks": masks}
        )
    seen = set()
    for seed in range(12):
        first, _ = CopyPaste(min_visible)(*examples, np.random.default_rng(seed))
        seen.add(tuple(first["classes"].tolist()))
    assert seen == {(1,), (11,)}


def test_half_of_the_objects_are_pasted_each_by_its_own_draw():
    pasted_counts = []
    for seed in range(300):
        pair, both = paste(seed)
        for other, after in zip(pair[::-1], both, strict=True):
            taken = np.isin(other["classes"], after["classes"])
            pasted_counts.append((taken.sum(), len(taken)))
    taken, of = np.array(pasted_counts).T
    np.testing.assert_allclose(taken.sum() / of.sum(), 0.5, atol=0.03)
    share = taken / of
    assert (share == 0).any()
    assert (share == 1).any()


def test_crowds_are_never_pasted_and_stay_where_they_are():
    crowds, seen = (2, 4, 12, 14), 0
    for seed in range(60):
        pair, both = paste(seed, crowds=crowds)
        for before, other, after in ((*pair, both[0]), (*pair[::-1], both[1])):
            foreign = np.isin(after["classes"], other["classes"])
            assert not after["is_crowd"][foreign].any()
            np.testing.assert_array_equal(after["is_crowd"], np.isin(after["classes"], crowds))
            seen += int(after["is_crowd"].sum())
            assert before["is_crowd"].any()
    assert seen > 60


def test_images_without_objects_can_be_in_a_pair():
    for seed in range(8):
        empty, full = scene((), seed=seed), scene(FIRST, seed=seed)
        onto_empty, onto_full = CopyPaste()(empty, full, np.random.default_rng(seed))
        np.testing.assert_array_equal(onto_full["inputs"], full["inputs"])
        np.testing.assert_array_equal(onto_full["masks"], full["masks"])
        shown = onto_empty["inputs"][..., 0]
        assert set(np.unique(shown)) - {0} == {10 * n for n in onto_empty["classes"].tolist()}
        assert onto_empty["masks"].shape == (len(onto_empty["classes"]), 40, 60)


def test_a_seed_decides_what_is_pasted_and_nothing_is_written_into():
    before, _ = paste(3)
    pair, first = paste(3)
    _, again = paste(3)
    for each in range(2):
        for name in ("inputs", *PER_OBJECT):
            np.testing.assert_array_equal(pair[each][name], before[each][name])
            np.testing.assert_array_equal(first[each][name], again[each][name])


def test_what_cannot_be_pasted_is_named():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"\(40, 60, 3\) and \(40, 61, 3\)\. Put it after Large"):
        CopyPaste()(scene(FIRST), scene(SECOND, width=61), rng)
    without = {name: value for name, value in scene(FIRST).items() if name != "masks"}
    with pytest.raises(KeyError, match="Copy-paste needs 'masks', and the example has inputs"):
        CopyPaste()(without, scene(SECOND), rng)
