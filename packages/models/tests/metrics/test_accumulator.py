import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

import scenax.models.metrics.accumulator as accumulator_module
from scenax.models.metrics.accumulator import Accumulator, merge_across_hosts
from scenax.models.metrics.detection import CocoEvaluator
from scenax.models.metrics.panoptic import PanopticQuality
from scenax.models.metrics.ranking import AUROC, AveragePrecision
from scenax.models.metrics.retrieval import RetrievalRecall
from scenax.models.metrics.sequence import BLEU


class Mean(Accumulator):
    """The smallest accumulator: the mean of numbers, in the order in which they came."""

    def __init__(self):
        self.values = np.zeros(0)

    def add(self, values):
        self.values = np.concatenate([self.values, values])

    def compute(self):
        if not self.values.size:
            raise ValueError("Nothing was added.")
        return {"mean": float(self.values.mean())}

    def to_arrays(self):
        return {"values": self.values}

    def add_arrays(self, arrays):
        self.add(arrays["values"])

    def clear(self):
        self.values = np.zeros(0)


class Other(Mean):
    pass


def test_an_accumulator_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Accumulator()


def test_merge_adds_what_the_other_has():
    one, other = Mean(), Mean()
    one.add(np.asarray([1.0, 2.0]))
    other.add(np.asarray([6.0]))
    one.merge(other)
    assert one.values.tolist() == [1.0, 2.0, 6.0]
    assert one.compute() == {"mean": 3.0}
    assert other.values.tolist() == [6.0]
    one.merge(Mean())
    assert one.values.tolist() == [1.0, 2.0, 6.0]


def test_only_accumulators_of_one_class_merge():
    with pytest.raises(TypeError, match="Mean cannot merge Other"):
        Mean().merge(Other())


def test_on_one_host_nothing_changes():
    one = Mean()
    one.add(np.asarray([1.0, 2.0]))
    merge_across_hosts(one)
    assert one.values.tolist() == [1.0, 2.0]


def test_what_would_need_pickle_is_not_sent(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(accumulator_module, "_gather", lambda data: [data, data])
    one = Mean()
    one.values = np.asarray([{}], object)
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        merge_across_hosts(one)


def fill_average_precision(metric, seed):
    rng = np.random.default_rng(seed)
    metric.add(rng.normal(size=(5, 3)).astype(np.float32), rng.integers(0, 2, size=(5, 3)))


def fill_retrieval(metric, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(4, 3)).astype(np.float32)
    metric.add_images(vectors, 10 * seed + np.arange(4))
    metric.add_texts(vectors[::-1] + 1, 10 * seed + np.arange(4))


def fill_bleu(metric, seed):
    rng = np.random.default_rng(seed)
    metric.add([rng.integers(0, 3, size=9)], [[rng.integers(0, 3, size=8)]])


def fill_coco(metric, seed):
    box = np.asarray([[1.0, 2.0, 30.0, 40.0 + seed]])
    masks = np.random.default_rng(seed).random((1, 50, 60)) < 0.5
    metric.add_targets(seed, box, np.asarray([1]), masks=masks)
    metric.add_predictions(seed, box + 3, np.asarray([0.5]), np.asarray([1]), masks=masks[:, ::-1])


def fill_panoptic(metric, seed):
    metric.add(np.asarray([[1, 1 + seed]]), {1: 1, 1 + seed: 2}, np.asarray([[1, 1]]), {1: 1})


FILLED = {
    "average precision": (AveragePrecision, fill_average_precision),
    "auroc": (AUROC, fill_average_precision),
    "retrieval": (lambda: RetrievalRecall((1, 2)), fill_retrieval),
    "bleu": (BLEU, fill_bleu),
    "boxes": (lambda: CocoEvaluator([1]), fill_coco),
    "masks": (lambda: CocoEvaluator([1], iou_type="segm"), fill_coco),
    "panoptic": (lambda: PanopticQuality([1, 2], [1]), fill_panoptic),
}


@pytest.mark.parametrize("name", FILLED)
def test_every_accumulator_travels_as_bytes(name, monkeypatch):
    """Three hosts, of which one has nothing; each ends with what one host would have."""
    make, fill = FILLED[name]
    whole, hosts, sent = make(), [make(), make(), make()], []
    for seed in (1, 2):
        fill(hosts[seed], seed)
        fill(whole, seed)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    # First every host's bytes are taken as they leave, then every host is given all of them.
    for gather in (lambda data: sent.append(data) or [data], lambda data: sent):
        monkeypatch.setattr(accumulator_module, "_gather", gather)
        for host in hosts:
            merge_across_hosts(host)
    for host in hosts:
        np.testing.assert_equal(host.to_arrays(), whole.to_arrays())
        np.testing.assert_equal(host.compute(), whole.compute())


HOST = """
    import sys

    import jax

    index, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=index)

    import numpy as np

    sys.path.insert(0, folder)
    import test_accumulator
    from scenax.models.metrics import accumulator as module

    module._CHUNK = 300  # several chunks even for these few numbers
    amounts = {"uneven": (100, 3), "first empty": (0, 5), "second empty": (5, 0), "none": (0, 0)}
    for name, amount in amounts.items():
        mean = test_accumulator.Mean()
        mean.add(1000.0 * index + np.arange(amount[index]))
        module.merge_across_hosts(mean)
        wanted = [*range(amount[0]), *range(1000, 1000 + amount[1])]
        assert mean.values.tolist() == wanted, (name, mean.values)
    assert jax.process_count() == 2
    sys.stdout.write(f"host {index} has all")
"""


def test_two_hosts_end_with_everything_once_and_in_one_order():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    folder = str(Path(__file__).parent)
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HOST), str(index), str(port), folder],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        for index, host in enumerate(hosts):
            out, error = host.communicate(timeout=120)
            assert host.returncode == 0, error
            assert out.endswith(f"host {index} has all")  # gloo greets on the same stream
    finally:
        for host in hosts:
            host.kill()
            host.wait()
