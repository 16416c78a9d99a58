import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu

from scenax.models.metrics.sequence import BLEU, exact_match, token_correct


def case(seed, examples=20, tokens=6, classes=4):
    rng = np.random.default_rng(seed)
    logits = rng.integers(0, 3, size=(examples, tokens, classes)).astype(np.float32)  # ties
    targets = rng.integers(0, classes, size=(examples, tokens))
    weights = rng.choice([0.0, 0.25, 1.0], size=(examples, tokens)).astype(np.float32)
    weights[0] = 0
    return logits, targets, weights


def test_token_correct_against_a_loop():
    logits, targets, weights = case(0)
    got = jax.jit(token_correct)(*map(jnp.asarray, (logits, targets, weights)))
    for right, count, rows, labels, row_weights in zip(*got, logits, targets, weights, strict=True):
        hits = [w for r, y, w in zip(rows, labels, row_weights, strict=True) if r.argmax() == y]
        assert right == sum(hits)
        assert count == row_weights.sum()
    assert got[0][0] == got[1][0] == 0
    assert 0.0 < got[0].sum() < got[1].sum()


def test_tokens_that_do_not_count_may_be_nan():
    logits = jnp.asarray([[[0.0, 1.0], [jnp.nan, jnp.nan]]])
    got = token_correct(logits, jnp.asarray([[1, 0]]), jnp.asarray([[1.0, 0.0]]))
    assert [v.item() for v in got] == [1.0, 1.0]
    empty = token_correct(jnp.zeros((0, 3, 2)), jnp.zeros((0, 3), jnp.int32), jnp.zeros((0, 3)))
    assert [v.shape for v in empty] == [(0,), (0,)]


def test_exact_match():
    targets = jnp.asarray([[1, 2, 3]] * 5)
    predictions = jnp.asarray([[1, 2, 3], [1, 2, 0], [1, 0, 3], [1, 2, 0], [0, 0, 0]])
    weights = jnp.asarray([[1, 1, 1], [1, 1, 1], [1, 1, 0.5], [0.1, 1, 0], [0, 0, 0]])
    got = jax.jit(exact_match)(predictions, targets, weights)
    np.testing.assert_array_equal(got, [1, 0, 0, 1, 0])
    assert exact_match(targets[:0], targets[:0], weights[:0]).shape == (0,)


def corpus(seed, examples=40, references=3, longest=12, vocabulary=4):
    rng = np.random.default_rng(seed)

    def sentence():
        return rng.integers(0, vocabulary, size=rng.integers(1, longest + 1)).tolist()

    wanted = [[sentence() for _ in range(references)] for _ in range(examples)]
    return [sentence() for _ in range(examples)], wanted


def by_sacrebleu(predictions, references, **settings):
    def text(tokens):
        return " ".join(map(str, tokens))

    metric = sacrebleu.BLEU(tokenize="none", force=True, **settings)
    streams = [[text(r) for r in stream] for stream in zip(*references, strict=True)]
    return metric.corpus_score([text(p) for p in predictions], streams).score


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize("order", [1, 4])
@pytest.mark.parametrize("smoothing", ["exp", "none"])
def test_bleu_against_sacrebleu(seed, references, order, smoothing):
    predictions, wanted = corpus(seed, references=references)
    metric = BLEU(max_order=order, smoothing=smoothing)
    metric.add(predictions[:7], wanted[:7])
    metric.add(predictions[7:], wanted[7:])
    reference = by_sacrebleu(predictions, wanted, max_ngram_order=order, smooth_method=smoothing)
    assert reference > 1
    assert metric.compute()["bleu"] == pytest.approx(reference, rel=1e-12)


@pytest.mark.parametrize("smoothing", ["exp", "none"])
@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        ([[1, 2, 3, 4, 5]], [[[1, 9, 2, 9, 3]]]),  # no hit in orders 2 to 4
        ([[1, 2, 3]], [[[1, 2, 3]]]),  # too short to have an n-gram of order 4
        ([[1, 2, 3, 4]], [[[5, 6, 7, 8]]]),  # no hit at all
        ([[1, 2, 3, 4, 5]], [[[1, 2, 3, 4, 5, 6, 7, 8]]]),  # too short
        ([[1, 2, 3, 4, 5, 6]], [[[1, 2, 3, 4]]]),  # too long
    ],
)
def test_bleu_of_few_tokens_against_sacrebleu(predictions, references, smoothing):
    metric = BLEU(smoothing=smoothing)
    metric.add(predictions, references)
    wanted = by_sacrebleu(predictions, references, smooth_method=smoothing)
    assert metric.compute()["bleu"] == pytest.approx(wanted, rel=1e-12)


def test_the_papers_example_of_clipping():
    # Section 2.1: "the the the the the the the" has a unigram precision of 2/7.
    the, cat, is_, on, mat, there, a = range(7)
    references = [[the, cat, is_, on, the, mat], [there, is_, a, cat, on, the, mat]]
    metric = BLEU(max_order=1)
    metric.add([[the] * 7], [references])
    assert metric.compute()["bleu"] == pytest.approx(100 * 2 / 7)


def test_the_papers_brevity_penalty():
    # Section 2.2.2: a candidate of 12 words has no penalty where a reference has 12 as well.
    metric = BLEU()
    metric.add([list(range(12))], [[list(range(12)), list(range(15)), list(range(17))]])
    assert metric.compute()["bleu"] == pytest.approx(100)
    metric.clear()
    metric.add([list(range(12))], [[list(range(15)), list(range(17))]])
    assert metric.compute()["bleu"] == pytest.approx(100 * math.exp(1 - 15 / 12))


def test_padding_arrays_and_merging():
    predictions, references = corpus(5)
    whole, one, other = BLEU(), BLEU(), BLEU()
    whole.add(predictions, references)
    mask = np.append(np.ones(9), 0)
    one.add([*map(np.asarray, predictions[:9]), np.asarray([1])], [*references[:9], []], mask)
    other.add(predictions[9:], references[9:])
    one.merge(other)
    one.merge(BLEU())
    assert one.compute() == whole.compute()
    np.testing.assert_equal(one.to_arrays(), whole.to_arrays())


def test_empty_sequences_and_nothing_at_all():
    metric = BLEU()
    with pytest.raises(ValueError, match="No sequences were added"):
        metric.compute()
    metric.add([[]], [[[1, 2]]])
    assert metric.compute() == {"bleu": 0.0}
    assert by_sacrebleu([[]], [[[1, 2]]]) == 0.0


def test_errors():
    with pytest.raises(ValueError, match="2 predictions, 1 lists of references and a mask of 2"):
        BLEU().add([[1], [2]], [[[1]]])
    with pytest.raises(ValueError, match="An example has no reference"):
        BLEU().add([[1]], [[]])
    with pytest.raises(ValueError, match="order 2 cannot be added to BLEU of order 4"):
        BLEU().merge(BLEU(max_order=2))
    with pytest.raises(ValueError, match="1 or more, got 0"):
        BLEU(max_order=0)
