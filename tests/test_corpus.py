"""Training meets rows by weight, freshly written."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liftlearn import RowEncoder
from liftlearn._answers import LabelAnswers
from liftlearn._corpus import Corpus

fast = settings(max_examples=40)


def corpus_of(weight, encoder=None):
    """Return a corpus of as many rows as weights."""
    n_rows = len(weight)
    table = pd.DataFrame({"a": np.arange(n_rows) / 2})
    return Corpus(
        encoder or RowEncoder(jitter=0.1).fit(table),
        LabelAnswers(np.array(["even", "odd"]), "labels"),
        table,
        np.array(["even", "odd"])[np.arange(n_rows) % 2],
        np.asarray(weight, float),
    )


@pytest.mark.parametrize("n_rows", [1, 2, 49, 1000])
@pytest.mark.parametrize("weight", [1.0, 0.1, 1e-9, 3e7])
def test_an_epoch_meets_rows_of_equal_weight_once_each(n_rows, weight):
    corpus = corpus_of(np.full(n_rows, weight))

    rows = corpus.draw(np.random.RandomState(0))

    np.testing.assert_array_equal(np.sort(rows), np.arange(n_rows))


@pytest.mark.parametrize("unit", [1.0, 1e-12, 1e12])
def test_weights_that_differ_by_rounding_are_equal(unit):
    weight = np.array([0.3, 0.1 + 0.2] * 25) * unit
    assert np.ptp(weight) > 0

    rows = corpus_of(weight).draw(np.random.RandomState(0))

    np.testing.assert_array_equal(np.sort(rows), np.arange(50))
    state = np.random.RandomState(0)
    np.testing.assert_array_equal(rows, corpus_of(np.ones(50)).draw(state))


@fast
@given(
    weight=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30),
    seed=st.integers(0, 2**32 - 1),
)
def test_an_epoch_meets_each_row_as_evenly_as_whole_numbers_allow(weight, seed):
    corpus = corpus_of(weight)

    rows = corpus.draw(np.random.RandomState(seed))

    expected = corpus.weight / corpus.weight.sum() * len(corpus)
    counts = np.bincount(rows, minlength=len(corpus))
    assert len(rows) == len(corpus)
    assert np.all(np.abs(counts - expected) < 1 + 1e-9)


def test_over_many_epochs_rows_are_met_in_proportion_to_their_weight():
    weight = np.array([0.5, 1, 1.7, 4, 0.1, 2.7])
    corpus, rng = corpus_of(weight), np.random.RandomState(0)

    counts = sum(np.bincount(corpus.draw(rng), minlength=6) for _ in range(4000))

    # A row's count in one epoch is one of two neighbours: variance at most 1 / 4.
    np.testing.assert_allclose(
        counts / 4000, 6 * weight / weight.sum(), atol=5 * 0.5 / np.sqrt(4000)
    )


def test_a_corpus_writes_prompts_afresh_beside_the_answers_of_their_rows():
    corpus, rng = corpus_of(np.ones(20)), np.random.RandomState(0)
    rows = np.array([3, 0, 3])

    prompts, indices = corpus.write(rows, rng)
    again, _ = corpus.write(rows, rng)

    np.testing.assert_array_equal(indices, [1, 0, 1])
    assert prompts != again
    assert len(prompts) == len(again) == 3


def test_a_corpus_takes_an_encoder_that_cannot_augment():
    class Counter:
        def transform(self, table):
            return [f"{cell}?" for cell in table["a"]]

    corpus = corpus_of(np.ones(4), Counter())

    prompts, _ = corpus.write(np.array([2, 1]), np.random.RandomState(0))

    assert prompts == ["1.0?", "0.5?"]
