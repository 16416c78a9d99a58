"""The base models of every task: losses and metrics by hand, masks, and empty batches."""

import dataclasses
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import scenax.models
from scenax.common.contracts import DatasetInfo
from scenax.models import _registry

GOLDENS = pathlib.Path(__file__).parents[1] / "losses" / "goldens"
WANTED = np.load(GOLDENS / "losses.npz")
X = runpy.run_path(str(GOLDENS / "make_losses.py"))["inputs"]()
INFO = DatasetInfo("toy", (8, 8, 3), "float32", 5, tuple("abcde"), {"train": 30})
RNG = np.random.default_rng(0)


def x(name):
    value = X[name]
    return jnp.asarray(value, jnp.float32 if value.dtype == np.float64 else jnp.int32)


class PerPixel(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Conv(self.num_classes, (3, 3), name="head")(x)


class Objects(nn.Module):
    """A few predictions in the manner of DETR."""

    num_classes: int

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dense(9 * 16, name="queries")(x.reshape(len(x), -1)).reshape(len(x), 9, 16)
        layer = {
            "logits": nn.Dense(self.num_classes + 1, name="class_embed")(x),
            "boxes": nn.sigmoid(nn.Dense(4, name="bbox_embed")(x)),
        }
        return {**layer, "aux_outputs": [layer]}


class Anchors(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dense(75 * 8, name="body")(x.reshape(len(x), -1)).reshape(len(x), 75, 8)
        return {
            "logits": nn.Dense(self.num_classes, name="classes")(x),
            "deltas": nn.Dense(4, name="offsets")(x),
            "anchors": jnp.asarray(X["anchors"], jnp.float32),
        }


class Writer(nn.Module):
    """Sees the tokens before each, and the image."""

    num_classes: int

    @nn.compact
    def __call__(self, x, tokens, *, train):
        before = jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
        x = nn.Dense(8, name="image")(x.reshape(len(x), -1))[:, None]
        return nn.Dense(self.num_classes, name="head")(
            nn.relu(x + nn.Embed(self.num_classes, 8, name="embed")(before))
        )


class TwoTowers(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, text, *, train):
        image = nn.Dense(4, name="image")(x.reshape(len(x), -1))
        text = nn.Embed(7, 4, name="text")(text).mean(1)
        return {
            "image": image / jnp.linalg.norm(image, axis=1, keepdims=True),
            "text": text / jnp.linalg.norm(text, axis=1, keepdims=True),
            "scale": jnp.exp(self.param("scale", nn.initializers.ones, ())),
            "bias": self.param("bias", nn.initializers.zeros, ()),
        }


def objects_label():
    return {"boxes": x("target_boxes"), "classes": x("target_classes"), "mask": x("target_mask")}


IMAGES = jnp.asarray(RNG.normal(size=(4, 8, 8, 3)), jnp.float32)
BATCHES = {
    "classification": {"label": jnp.array([0, 1, 4, 2])},
    "multilabel_classification": {"label": jnp.asarray(RNG.integers(0, 2, (4, 5)))},
    "regression": {"label": jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32)},
    "segmentation": {"label": jnp.asarray(RNG.integers(0, 6, (4, 8, 8)))},
    "encoder_decoder": {"label": jnp.array([[1, 2, 0], [4, 4, 4], [3, 0, 0], [1, 0, 0]])},
    "contrastive": {"text": jnp.asarray(RNG.integers(0, 7, (4, 3)))},
    "detection": {"label": objects_label()},
    "dense_detection": {"label": objects_label()},
}
NETWORKS = {
    "segmentation": PerPixel,
    "detection": Objects,
    "dense_detection": Anchors,
    "encoder_decoder": Writer,
    "contrastive": TwoTowers,
}


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    monkeypatch.setattr(_registry, "_custom", _registry.Registry("model"))
    for task, module in NETWORKS.items():

        def build(*, num_classes, module=module):
            return module(num_classes)

        scenax.models.register_model(f"toy_{task}")(build)


def make(task, **config):
    if task not in NETWORKS:
        return scenax.models.get_model_cls(f"fully_connected_{task}")(config, INFO)
    return scenax.models.get_model_cls(task)({"architecture": f"toy_{task}", **config}, INFO)


def batch_of(task, mask=None):
    batch = {"inputs": IMAGES, **BATCHES[task]}
    return batch if mask is None else {**batch, "batch_mask": jnp.asarray(mask, jnp.float32)}


def run(model, batch):
    variables = model.init(jax.random.key(0), batch)
    outputs, _ = model.apply(variables, batch, train=False)
    return variables, outputs


@pytest.mark.parametrize("task", BATCHES)
def test_trains_on_a_batch(task):
    """A few steps down the gradient make the loss less, and every parameter has a gradient."""
    model, batch = make(task), batch_of(task)
    variables, _ = run(model, batch)

    @jax.jit
    def step(params):
        def objective(params):
            outputs, _ = model.apply({"params": params}, batch, train=True)
            return model.loss_fn(outputs, batch, params)

        loss, slope = jax.value_and_grad(objective)(params)
        return loss, slope, jax.tree.map(lambda p, g: p - 0.02 * g, params, slope)

    params, losses = variables["params"], []
    for _ in range(8):
        loss, slope, params = step(params)
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    used = {path: bool(np.any(leaf != 0)) for path, leaf in jax.tree.leaves_with_path(slope)}
    assert sum(not used_one for used_one in used.values()) <= (1 if task == "contrastive" else 0)


@pytest.mark.parametrize("task", BATCHES)
def test_padding_changes_nothing(task):
    """The loss and metrics are those of the real examples, whatever the padding holds."""
    model = make(task)
    batch = batch_of(task, [1, 0, 1, 1])
    _, outputs = run(model, batch)

    def spoiled(value):
        if jnp.issubdtype(value.dtype, jnp.floating) and value.ndim and len(value) == 4:
            return value.at[1].set(jnp.nan)
        return value

    spoiled_batch = {**jax.tree.map(spoiled, batch), "batch_mask": batch["batch_mask"]}
    rows = np.array([0, 2, 3])

    def real(value):
        return value[rows] if value.ndim and len(value) == 4 else value

    few_outputs, few = jax.tree.map(real, outputs), jax.tree.map(real, batch)
    wanted, got = (
        jax.jit(lambda o, b: (model.loss_fn(o, b), model.get_metrics_fn("test")(o, b)))(o, b)
        for o, b in ((few_outputs, few), (outputs, spoiled_batch))
    )
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5)
    for name in wanted[1]:
        for ours, theirs in zip(got[1][name], wanted[1][name], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("task", BATCHES)
def test_a_batch_of_padding_is_zero_and_so_is_its_gradient(task):
    model, batch = make(task), batch_of(task, [0, 0, 0, 0])
    variables, outputs = run(model, batch)

    def objective(params):
        outputs, _ = model.apply({"params": params}, batch, train=True)
        return model.loss_fn(outputs, batch)

    loss, slope = jax.jit(jax.value_and_grad(objective))(variables["params"])
    assert float(loss) == 0
    for leaf in jax.tree.leaves(slope):
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))
    for split in ("train", "validation", "test"):
        sums = jax.jit(model.get_metrics_fn(split))(outputs, batch)
        for total, count in sums.values():
            assert not np.any(total) and not np.any(count)


@pytest.mark.parametrize("task", BATCHES)
def test_weights_between_nothing_and_all(task):
    """The original Scenic's accuracy rounds the weight of an example down."""
    model = make(task)
    _, outputs = run(model, batch_of(task))
    fn = jax.jit(model.get_metrics_fn("test"))
    halves = fn(outputs, batch_of(task, [0.5] * 4))
    whole = fn(outputs, batch_of(task))
    for name in set(whole) - ({"loss"} if task == "detection" else set()):
        np.testing.assert_allclose(halves[name][0] * 2, whole[name][0], rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(halves[name][1] * 2, whole[name][1], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("task", ["classification", "segmentation", "detection"])
def test_uneven_padding_over_devices(task):
    """The original Scenic averages the means of devices, whatever each has to average."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    model, batch = make(task), batch_of(task, [1, 1, 0, 0])
    _, outputs = run(model, batch)
    spread = jax.device_put((outputs, batch), NamedSharding(mesh, PartitionSpec("data")))
    wanted = model.loss_fn(*jax.tree.map(lambda leaf: leaf[:2], (outputs, batch)))
    np.testing.assert_allclose(jax.jit(model.loss_fn)(*spread), wanted, rtol=1e-5)


@pytest.mark.parametrize("task", BATCHES)
def test_names(task):
    name = task if task in NETWORKS else f"fully_connected_{task}"
    model = make(task)
    known = scenax.models.get_model_cls(name)
    assert isinstance(model, known if isinstance(known, type) else known.func)
    assert type(model) is getattr(scenax.models, type(model).__name__)
    assert "loss" in model.get_metrics_fn("train")(run(model, batch_of(task))[1], batch_of(task))


def test_what_a_batch_lacks_is_named():
    model, batch = make("contrastive"), batch_of("contrastive")
    del batch["text"]
    with pytest.raises(ValueError, match="needs 'text' in every batch; this one has 'inputs'"):
        model.init(jax.random.key(0), batch)


@pytest.mark.parametrize(
    ("task", "config", "message"),
    [
        ("detection", {"matcher": "hungarain"}, "no matcher 'hungarain'. Did you mean 'hungarian'"),
        ("detection", {"class_loss": "foca"}, "Did you mean 'focal'"),
        ("regression", {"loss": "squared"}, "Did you mean 'squared_error'"),
        ("contrastive", {"loss": "sigmod"}, "Did you mean 'sigmoid'"),
    ],
)
def test_options_with_mistakes(task, config, message):
    with pytest.raises(ValueError, match=message):
        make(task, **config)


def test_shapes_that_do_not_fit():
    model = make("segmentation")
    batch = {**batch_of("segmentation"), "label": jnp.zeros((4, 4, 4), jnp.int32)}
    with pytest.raises(ValueError, match=r"\(4, 8, 8, 5\) for labels \(4, 4, 4\)"):
        model.loss_fn(jnp.zeros((4, 8, 8, 5)), batch)
    with pytest.raises(ValueError, match=r"gives \(4, 1\) and labels are \(4,\)"):
        make("regression").loss_fn(jnp.zeros((4, 1)), {"label": jnp.zeros(4)})


@pytest.mark.parametrize(
    ("name", "class_loss", "coef"), [("detr", "softmax", 1.0), ("deformable", "focal", 2.0)]
)
def test_detection_equals_transformers(name, class_loss, coef):
    model = make("detection", class_loss=class_loss, class_coef=coef)
    logits = x("set_logits")[..., : 6 if class_loss == "softmax" else 5]
    outputs = {"logits": logits, "boxes": x("set_boxes")}
    batch = {"label": objects_label()}
    metrics = jax.jit(model.get_metrics_fn("test"))(outputs, batch)
    for ours, theirs in (("class", "ce"), ("box", "bbox"), ("giou", "giou")):
        total, count = metrics[f"{ours}_loss"]
        np.testing.assert_allclose(total / count, WANTED[f"{name}_{theirs}"], rtol=1e-5)
    wanted = sum(
        c * WANTED[f"{name}_{term}"] for c, term in ((coef, "ce"), (5, "bbox"), (2, "giou"))
    )
    loss_fn = jax.jit(model.loss_fn)
    np.testing.assert_allclose(loss_fn(outputs, batch), wanted, rtol=1e-5)
    twice = loss_fn({**outputs, "aux_outputs": [outputs]}, batch)
    np.testing.assert_allclose(twice, 2 * wanted, rtol=1e-5)


@pytest.mark.parametrize("matcher", ["greedy", "sinkhorn", "hungarian_host", "lazy"])
def test_other_matchers(matcher):
    model = make("detection", matcher=matcher)
    outputs = {"logits": x("set_logits"), "boxes": x("set_boxes")}
    least = float(make("detection").loss_fn(outputs, {"label": objects_label()}))
    loss = float(model.loss_fn(outputs, {"label": objects_label()}))
    assert loss == pytest.approx(least, rel=1e-6) if matcher == "hungarian_host" else loss > 0


def test_detections():
    logits = jnp.log(jnp.array([[[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]]))
    outputs = {"logits": logits, "boxes": jnp.array([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.2, 0.2]]])}
    info = dataclasses.replace(INFO, num_classes=2, label_names=("a", "b"))
    model_cls = scenax.models.get_model_cls("detection")
    found = model_cls({"architecture": "toy_detection"}, info).detections(outputs)
    np.testing.assert_allclose(found["scores"], [[0.2, 0.5]], rtol=1e-6)
    assert found["classes"].tolist() == [[1, 0]]
    np.testing.assert_allclose(found["boxes"][0, 0], [0.4, 0.3, 0.6, 0.7], rtol=1e-6)
    config = {"architecture": "toy_detection", "class_loss": "focal"}
    outputs["logits"] = jnp.array([[[0.0, 2.0], [1.0, -9.0]]])
    found = model_cls(config, info).detections(outputs)
    np.testing.assert_allclose(found["scores"], 1 / (1 + np.exp([[-2.0, -1.0]])), rtol=1e-6)
    assert found["classes"].tolist() == [[1, 0]]
    np.testing.assert_allclose(found["boxes"][0, 1], [0, 0, 0.2, 0.2], atol=1e-7)


def test_dense_detection_equals_torchvision():
    model = make("dense_detection")
    outputs = {
        "logits": x("anchor_logits"),
        "deltas": x("anchor_deltas"),
        "anchors": x("anchors"),
    }
    metrics = jax.jit(model.get_metrics_fn("test"))(outputs, {"label": objects_label()})
    for ours, theirs in (("class_loss", "retinanet_class"), ("box_loss", "retinanet_box")):
        total, count = metrics[ours]
        np.testing.assert_allclose(total / count, WANTED[theirs], rtol=1e-5)


def test_dense_detections():
    anchors = jnp.array([[0, 0, 0.2, 0.2], [0, 0, 0.2, 0.21], [0.5, 0.5, 0.9, 1.0]])
    logits = jnp.full((1, 3, 2), -9.0).at[0, :, 1].set(jnp.array([1.0, 2.0, 0.0]))
    outputs = {"logits": logits, "deltas": jnp.zeros((1, 3, 4)), "anchors": anchors}
    info = dataclasses.replace(INFO, num_classes=2, label_names=("a", "b"))
    model_cls = scenax.models.get_model_cls("dense_detection")
    found = model_cls({"architecture": "toy_dense_detection"}, info).detections(outputs)
    assert found["scores"].shape == (1, 100)
    np.testing.assert_allclose(found["scores"][0, :3], [1 / (1 + np.exp(-2)), 0.5, 0], rtol=1e-6)
    assert found["classes"][0, :2].tolist() == [1, 1]
    np.testing.assert_allclose(found["boxes"][0, :2], anchors[1:], atol=1e-6)


def test_segmentation_metrics_by_hand():
    model = make("segmentation")
    logits = jnp.asarray(X["pixels"], jnp.float32)
    labels = X["pixel_labels"]
    metrics = model.get_metrics_fn("test")(logits, {"label": jnp.asarray(labels)})
    predictions, counts = X["pixels"].argmax(-1), labels != 255
    right = (predictions == labels)[counts]
    assert float(metrics["pixel_accuracy"][0]) == right.sum()
    assert float(metrics["pixel_accuracy"][1]) == counts.sum()
    for k in range(5):
        a, b = (predictions == k) & counts, labels == k
        assert float(metrics["mean_iou"][0][k]) == (a & b).sum()
        assert float(metrics["mean_iou"][1][k]) == (a | b).sum()
    np.testing.assert_allclose(metrics["loss"][0], WANTED["pixel"].sum(), rtol=1e-5)


def test_tokens_by_hand():
    model = make("encoder_decoder")
    logits = jnp.asarray(RNG.normal(size=(2, 3, 5)), jnp.float32)
    likeliest = np.asarray(logits).argmax(-1)
    label = np.where(likeliest == 0, 1, likeliest)
    label[0, 2], label[1, 1] = 0, (likeliest[1, 1] + 1) % 5 or 1
    metrics = model.get_metrics_fn("test")(logits, {"label": jnp.asarray(label)})
    counts, right = label != 0, (label == likeliest)
    assert float(metrics["token_accuracy"][0]) == (right & counts).sum()
    assert float(metrics["token_accuracy"][1]) == counts.sum()
    wanted = [(right | ~counts)[i].all() for i in range(2)]
    assert [float(v) for v in metrics["exact_match"]] == [sum(wanted), 2]
