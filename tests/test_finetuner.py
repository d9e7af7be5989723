import logging
import math
import os
import random
import threading
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.random import RandomState
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from tiny import (
    Ticks,
    are_equal,
    by_rule,
    examples,
    only,
    own_loss,
    prompts_of,
    scores_of,
    sentences,
    weights_of,
)
from transformers.utils import logging as transformers_logging

from liftlearn import FineTuner, LabelDecoder, LanguageModel, NumberDecoder, RowEncoder
from liftlearn._corpus import Corpus
from liftlearn._finetuner._progress import Clock, Epoch
from liftlearn._language_model import AnswerScorer


def one_answer(n_rows):
    """Return a corpus whose every row has the same of two answers.

    A step along the gradient of any row is one along those of all: whatever the seed
    and the rounding, more steps mean a lower loss, by orders of magnitude.
    """
    return replace(sentences(n_rows), target=np.full(n_rows, "a"))


class MetricsInTurn:
    """Stands in for a metric: gives listed values and keeps the weights it saw."""

    def __init__(self, metrics):
        self.metrics = iter(metrics)
        self.seen = []

    def __call__(self, lm, rows):
        self.seen.append(weights_of(lm))
        return next(self.metrics)


# Learning


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("constrained", [True, False])
def test_the_loss_falls(request, family, constrained):
    lm, corpus = request.getfixturevalue(family), one_answer(20)
    settings = {"n_epochs": 5, "batch_size": 5, "learning_rate": 0.01}
    tuner = FineTuner(**settings, constrained=constrained)

    tuned = only(tuner.finetune(lm, corpus, RandomState(0)))

    losses = [epoch["loss"] for epoch in tuner.history_]
    assert losses[-1] < 0.5 * losses[0]
    assert own_loss(tuned, corpus) < 0.5 * own_loss(lm, corpus)


def test_a_number_is_learnt_to_the_grids_precision():
    table = pd.DataFrame({"x": np.tile([0.0, 1.0], 20)})
    y = np.where(table["x"] == 1, 8.0, 2.0)
    encoder = RowEncoder(columns="index", numbers="scaled", question="y=").fit(table)
    decoder = NumberDecoder(grid="scaled", low=0, high=10).fit(y)
    corpus = Corpus(encoder, decoder.answers_, table, y, np.ones(40))
    tuner = FineTuner(n_epochs=40, batch_size=20, learning_rate=3e-3)

    tuned = only(tuner.finetune(LanguageModel.load(), corpus, RandomState(0)))

    points = decoder.predict(tuned, prompts_of(corpus))
    np.testing.assert_allclose(points, y, atol=0.5)


def test_the_first_loss_is_the_models_own(llama):
    corpus = sentences(12)
    tuner = FineTuner(n_epochs=1, batch_size=12)

    tuner.finetune(llama, corpus, RandomState(0))

    assert tuner.history_[0]["loss"] == pytest.approx(own_loss(llama, corpus), rel=1e-5)


def test_unconstrained_the_first_loss_is_that_of_all_texts(llama):
    corpus = sentences(12)
    tuner = FineTuner(n_epochs=1, batch_size=12, constrained=False)
    trie = llama.trie(corpus.answers.texts)
    scorer = AnswerScorer(llama.model, trie, constrained=False)
    own = corpus.answers.write(corpus.target)
    with torch.no_grad():
        score = scorer(**examples(llama, scorer, prompts_of(corpus), own))
    expected = -score.mean()

    tuner.finetune(llama, corpus, RandomState(0))

    assert tuner.history_[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("stop", [{"n_epochs": 0}, {"max_steps": 0}])
def test_without_steps_the_model_stays_as_it_was(llama, stop):
    tuner = FineTuner(**stop)

    tuned = only(tuner.finetune(llama, sentences(6), RandomState(0)))

    assert are_equal(weights_of(tuned), weights_of(llama))
    assert tuner.history_ == []
    assert tuner.n_steps_ == 0


@pytest.mark.parametrize("constrained", [True, False])
def test_a_single_answer_trains_nothing(llama, constrained):
    corpus = sentences(6, target=np.array(["a"] * 6))
    tuner = FineTuner(constrained=constrained)

    tuned = only(tuner.finetune(llama, corpus, RandomState(0)))

    assert are_equal(weights_of(tuned), weights_of(llama))
    assert tuner.n_steps_ == 0
    np.testing.assert_array_equal(scores_of(tuned, corpus), 0.0)


def test_the_base_model_is_never_changed():
    lm = LanguageModel.load()
    before = weights_of(lm)

    tuned = only(FineTuner(max_steps=3).finetune(lm, sentences(20), RandomState(0)))

    assert LanguageModel.load().model is lm.model
    assert are_equal(weights_of(lm), before)
    assert not are_equal(weights_of(tuned), before)
    assert not lm.model.training
    assert not any(weight.requires_grad for weight in lm.model.parameters())


def test_the_tuned_model_is_ready_to_score():
    lm = LanguageModel.load()

    tuned = only(FineTuner(max_steps=1).finetune(lm, sentences(6), RandomState(0)))

    assert tuned.model.dtype == lm.model.dtype == torch.float64
    assert not tuned.model.training
    assert not any(weight.requires_grad for weight in tuned.model.parameters())


def test_one_seed_gives_one_model(gpt2):
    def tuned(seed):
        tuner = FineTuner(n_epochs=2, batch_size=4)
        return weights_of(only(tuner.finetune(gpt2, sentences(10), RandomState(seed))))

    assert are_equal(tuned(0), tuned(0))  # with the dropout of GPT-2
    assert not are_equal(tuned(0), tuned(1))


# Steps, schedule, history


@pytest.mark.parametrize(
    ("parameters", "n_steps", "n_epochs"),
    [
        ({"n_epochs": 3}, 9, 3),  # 10 rows: 3 batches of 4, 4 and 2
        ({"n_epochs": 3, "max_steps": 7}, 7, 3),
        ({"n_epochs": 3, "max_steps": 100}, 9, 3),
        ({"n_epochs": 3, "max_steps": None}, 9, 3),
        ({"n_epochs": 3, "gradient_accumulation_steps": 2}, 6, 3),
        ({"n_epochs": 2, "gradient_accumulation_steps": 3}, 2, 2),
        ({"n_epochs": 2, "gradient_accumulation_steps": 8}, 2, 2),
        (
            {"n_epochs": 3, "gradient_accumulation_steps": 2, "max_steps": 3},
            3,
            2,
        ),
    ],
)
def test_steps_and_epochs_are_counted(llama, parameters, n_steps, n_epochs):
    tuner = FineTuner(batch_size=4, **parameters)

    tuner.finetune(llama, sentences(10), RandomState(0))

    assert tuner.n_steps_ == n_steps
    assert len(tuner.history_) == n_epochs


CLASSES = {n: LabelDecoder().fit(np.arange(n)).answers_ for n in (2, 15, 1000)}
GRID = NumberDecoder(grid="scaled").fit([0.0, 1.0]).answers_


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("n_rows", "answers", "batch_size", "n_steps"),
    [
        (10, CLASSES[2], 4, 120),
        (10, CLASSES[15], 4, 150),  # ten for each class
        (900, CLASSES[2], 10, 720),  # eight epochs
        (1300, CLASSES[2], 10, 2600),  # twenty of a larger table
        (40_000, CLASSES[2], 500, 240),  # three, since more would read too many tokens
        (10, GRID, 4, 240),  # 120 for each factor of ten
        (900, GRID, 10, 720),  # eight epochs
        (10, GRID, 10_000, 120),  # more would read too many tokens
    ],
)
def test_steps_by_table(llama, n_rows, answers, batch_size, n_steps):
    corpus = replace(sentences(n_rows, np.arange(n_rows) % 2), answers=answers)
    tuner = by_rule(FineTuner(n_epochs=1, batch_size=batch_size), "max_steps")

    tuner.finetune(llama, corpus, RandomState(0))

    assert tuner.max_steps_ == n_steps


@pytest.mark.parametrize(
    ("dropout", "answers", "settled"),
    [
        (0.0, CLASSES[2], (20, 120, 1e-3)),
        (0.0, CLASSES[15], (38, 150, 1e-3)),  # at least half of a class's steps
        (0.0, GRID, (40, 240, 1e-3)),
        (0.1, CLASSES[2], (120, 240, 2e-3)),  # twice as many steps
        (0.1, GRID, (120, 240, 2e-3)),
        (0.1, CLASSES[15], (120, 300, 2e-3)),  # twenty for each class
    ],
)
def test_epochs_steps_and_rate_by_table(llama, dropout, answers, settled):
    corpus = replace(sentences(10, np.zeros(10, int)), answers=answers)
    corpus.encoder.set_params(cell_dropout=dropout).fit(corpus.table)
    tuner = FineTuner(max_time=1e-9)
    by_rule(tuner, "n_epochs", "max_steps", "learning_rate")

    with pytest.warns(ConvergenceWarning):
        tuner.finetune(llama, corpus, RandomState(0))

    assert (tuner.n_epochs_, tuner.max_steps_, tuner.learning_rate_) == settled


def test_large_tables_may_read_more_tokens_with_cells_left_out(llama):
    corpus = sentences(30_000)
    tuner = by_rule(FineTuner(n_epochs=0, batch_size=10), "max_steps")

    n_steps = []
    for dropout in [0.0, 0.1]:
        corpus.encoder.set_params(cell_dropout=dropout).fit(corpus.table)
        tuner.finetune(llama, corpus, RandomState(0))
        n_steps.append(tuner.max_steps_)

    assert n_steps[0] < n_steps[1] < 20 * 30_000 / 10
    assert n_steps[1] / n_steps[0] == pytest.approx(6, rel=1e-3)


@pytest.mark.usefixtures("untrained")
def test_accumulated_batches_are_one_step_by_table(llama):
    corpus = sentences(900, np.arange(900) % 2)
    tuner = FineTuner(n_epochs=1, batch_size=5, gradient_accumulation_steps=2)
    by_rule(tuner, "max_steps")

    tuner.finetune(llama, corpus, RandomState(0))

    assert tuner.max_steps_ == 720  # eight epochs


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("n_rows", "answers", "batch_size", "budget"),
    [
        (10, CLASSES[1000], 100, 6_000_000),
        (1200, CLASSES[2], 4, 100_000),
        (10, GRID, 100, 250_000),
        (20_000, GRID, 100, 1_000_000),
    ],
)
def test_steps_by_table_are_bounded_by_the_tokens_they_read(
    llama, n_rows, answers, batch_size, budget
):
    corpus = replace(sentences(n_rows, np.zeros(n_rows, int)), answers=answers)
    (length,) = set(map(len, llama.prompt_tokens(prompts_of(corpus))))
    tuner = by_rule(FineTuner(n_epochs=1, batch_size=batch_size), "max_steps")

    tuner.finetune(llama, corpus, RandomState(0))

    assert tuner.max_steps_ == math.ceil(budget / (batch_size * length)) > 120


@pytest.fixture
def untrained(monkeypatch):
    """Let members take no time, and never be found alike."""
    monkeypatch.setattr("liftlearn._finetuner._loop.Training.run", lambda *_: True)
    monkeypatch.setattr("liftlearn._finetuner._tuner.agree", lambda *_: False)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("parameters", "n_rows", "n_models"),
    [
        ({}, 100, 1),
        ({"n_models": 3}, 10, 3),
    ],
)
def test_models_are_counted(llama, parameters, n_rows, n_models):
    tuner = FineTuner(**parameters)

    members = tuner.finetune(llama, sentences(n_rows), RandomState(0))

    assert len(members) == tuner.n_models_ == n_models


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("n_epochs", "n_rows", "n_models"),
    [(1, 100, 3), (1, 20, 3), (1, 19, 1), (10_000, 100, 1)],
)
def test_few_rows_and_long_fits_have_one_model_by_table(
    llama, n_epochs, n_rows, n_models
):
    tuner = by_rule(FineTuner(n_epochs=n_epochs), "n_models")

    members = tuner.finetune(llama, sentences(n_rows), RandomState(0))

    assert len(members) == tuner.n_models_ == n_models


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("n_rows", "dropout", "budget"),
    [
        (100, 0.0, 700_000),
        (100, 0.1, 700_000),
        (1201, 0.0, 2_500_000),
        (1201, 0.1, 9_000_000),
    ],
)
def test_models_by_table_are_as_many_as_the_tokens_they_read_allow(
    llama, n_rows, dropout, budget
):
    corpus = sentences(n_rows)
    corpus.encoder.set_params(cell_dropout=dropout).fit(corpus.table)
    (length,) = set(map(len, llama.prompt_tokens(prompts_of(corpus))))
    tokens = n_rows * length  # in an epoch
    tuner = by_rule(FineTuner(n_epochs=budget // (2 * tokens)), "n_models")
    tuner.set_params(batch_size=1)

    assert len(tuner.finetune(llama, corpus, RandomState(0))) == 2
    tuner.set_params(n_epochs=tuner.n_epochs + 1)
    assert len(tuner.finetune(llama, corpus, RandomState(0))) == 1


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("n_rows", "early_stopping", "fraction"),
    [(500, False, 0.2), (2000, False, 0.05), (2000, True, 0.2)],
)
def test_validation_fraction_by_table_is_a_hundred_rows_at_most(
    llama, n_rows, early_stopping, fraction
):
    tuner = FineTuner(early_stopping=early_stopping, n_models=2)
    by_rule(tuner, "validation_fraction")
    metric = MetricsInTurn([])

    members = tuner.finetune(llama, sentences(n_rows), RandomState(0), metric=metric)

    assert tuner.validation_fraction_ == fraction
    n_unseen = [0 if rows is None else len(rows) for _, rows in members]
    assert n_unseen == [fraction * n_rows, early_stopping * fraction * n_rows]


def test_members_add_to_one_history_and_share_the_time(llama):
    tuner = FineTuner(n_epochs=2, n_models=2, max_time=1e9)

    tuner.finetune(llama, sentences(10), RandomState(0))

    assert [epoch["model"] for epoch in tuner.history_] == [0, 0, 1, 1]
    assert tuner.n_models_ == 2
    tuner.set_params(max_time=1e-9)
    with pytest.warns(ConvergenceWarning, match="max_time=1e-09 seconds"):
        tuner.finetune(llama, sentences(10), RandomState(0))


def test_a_second_call_of_finetune_knows_nothing_of_the_first(llama, tmp_path):
    numbers = replace(sentences(10, np.zeros(10, int)), answers=GRID)
    used = by_rule(FineTuner(n_epochs=4, n_models=2), "max_steps")
    with pytest.raises(KeyboardInterrupt):
        used.set_params(checkpoint_dir=tmp_path).finetune(
            llama, numbers, RandomState(0), metric=interrupting
        )
    used.set_params(checkpoint_dir=None)
    used.finetune(llama, numbers, RandomState(0), metric=MetricsInTurn([-1.0, -2.0]))
    assert used.short_schedule_
    fresh = by_rule(clone(used), "max_steps")

    def tuned(tuner):
        members = tuner.finetune(llama, numbers, RandomState(1))
        told = [{**epoch, "seconds": 0} for epoch in tuner.history_]
        settled = {**vars(tuner), "history_": told}
        return settled, [weights_of(lm) for lm, _ in members]

    settled, weights = tuned(used)
    expected, others = tuned(fresh)
    assert settled == expected
    assert not settled["short_schedule_"]
    assert all(map(are_equal, weights, others))


def interrupting(lm, rows):
    raise KeyboardInterrupt


def test_early_stopping_without_a_metric_is_refused(llama):
    with pytest.raises(ValueError, match=r"early_stopping=True needs a metric"):
        FineTuner(early_stopping=True).finetune(llama, sentences(8), RandomState(0))


def test_members_keep_their_checkpoints_apart(llama, tmp_path):
    tuner = FineTuner(max_steps=4, n_models=2, early_stopping=True)
    tuner.set_params(checkpoint_dir=tmp_path, checkpoint_every=2)
    options = {"validation_fraction": 0.5}
    tuner.set_params(**options)
    names = []

    def tune(metrics):
        def metric(lm, rows):
            names.append(sorted(path.parent.name for path in tmp_path.rglob("*.saf*")))
            return next(values)

        values = iter(metrics)
        return tuner.finetune(llama, sentences(32), RandomState(0), metric=metric)

    for metrics in ([0.1], [0.2, 0.3]):  # the second goes on with the second member
        with pytest.raises(StopIteration):
            tune(metrics)
    tune([0.4, 0.5])

    assert names[0] == names[1] == ["0"]
    assert names[-1] == ["0", "1"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metrics", "is_short"), [([-1.0, -1.1], True), ([-1.0, -1.04], False)]
)
def test_numbers_are_learnt_briefly_where_that_is_much_better(llama, metrics, is_short):
    corpus = replace(sentences(10, np.zeros(10, int)), answers=GRID)
    tuner = by_rule(FineTuner(n_epochs=8, batch_size=5, n_models=2), "max_steps")
    metric = MetricsInTurn(metrics)

    first, _ = tuner.finetune(llama, corpus, RandomState(0), metric=metric)

    assert tuner.short_schedule_ is is_short
    assert are_equal(weights_of(first.lm), metric.seen[0 if is_short else 1])
    assert not are_equal(metric.seen[0], metric.seen[1])
    n_steps = 4 if is_short else 16
    assert tuner.n_steps_ == n_steps
    assert [epoch["model"] for epoch in tuner.history_].count(0) == n_steps / 2
    assert [epoch["model"] for epoch in tuner.history_].count(1) == n_steps / 2


def test_what_is_tried_briefly_shares_the_time_of_its_member(llama, monkeypatch):
    corpus = replace(sentences(10, np.zeros(10, int)), answers=GRID)
    given = []

    def clock(n_steps, max_time):
        given.append(max_time)
        return Clock(n_steps, None)

    monkeypatch.setattr("liftlearn._finetuner._tuner.Clock", clock)
    tuner = by_rule(FineTuner(n_epochs=1, max_time=8.0, n_models=2), "max_steps")
    metric = MetricsInTurn([-1.0, -1.0])

    tuner.finetune(llama, corpus, RandomState(0), metric=metric)

    assert given == [1.0, 3.0, 4.0]


@pytest.mark.parametrize(("answers", "max_steps"), [("labels", "auto"), (GRID, 8)])
def test_labels_and_steps_that_are_given_are_not_learnt_briefly(
    llama, answers, max_steps
):
    corpus = sentences(10)
    if answers is GRID:
        corpus = replace(sentences(10, np.zeros(10, int)), answers=GRID)
    metric = MetricsInTurn([])

    tuner = by_rule(FineTuner(max_steps=max_steps, n_epochs=1, n_models=2), "max_steps")

    tuner.finetune(llama, corpus, RandomState(0), metric=metric)

    assert not metric.seen


def test_a_short_member_keeps_its_checkpoint_apart(llama, tmp_path, monkeypatch):
    corpus = replace(sentences(10, np.zeros(10, int)), answers=GRID)
    tuner = by_rule(FineTuner(n_epochs=8, n_models=2), "max_steps")
    tuner.set_params(checkpoint_dir=tmp_path, checkpoint_every=1)
    written, n_taken = [], []

    def interrupt(lm, rows):
        written.append(sorted(path.parent.name for path in tmp_path.rglob("*.saf*")))
        raise KeyboardInterrupt

    monkeypatch.setattr(Epoch, "add", counting(Epoch.add, n_taken))
    for _ in range(2):  # the second finds both done
        with pytest.raises(KeyboardInterrupt):
            tuner.finetune(llama, corpus, RandomState(0), metric=interrupt)
        n_first = len(n_taken)
        n_taken.clear()
    assert written == [["0", "0-short"]] * 2
    assert n_first == 0
    metric = MetricsInTurn([-1.0, -2.0])
    tuner.finetune(llama, corpus, RandomState(0), metric=metric)

    assert tuner.short_schedule_
    assert not list(tmp_path.iterdir())


def counting(function, calls):
    def counted(*args):
        calls.append(args)
        return function(*args)

    return counted


def test_history_tells_of_each_epoch(llama):
    corpus = sentences(10)
    tuner = FineTuner(n_epochs=3, batch_size=5)

    tuner.finetune(llama, corpus, RandomState(0))

    keys = {"model", "loss", "learning_rate", "tokens", "monitored", "seconds"}
    keys |= {"val_loss", "val_score"}
    assert [set(epoch) for epoch in tuner.history_] == [keys] * 3
    n_tokens = sum(map(len, llama.prompt_tokens(prompts_of(corpus))))
    n_tokens += 10  # the space before the answer, which is certain
    assert [epoch["tokens"] for epoch in tuner.history_] == [n_tokens] * 3
    assert [epoch["monitored"] for epoch in tuner.history_] == [None] * 3
    seconds = [epoch["seconds"] for epoch in tuner.history_]
    assert seconds == sorted(seconds)


def test_sentences_are_written_with_the_share_of_the_steps_that_are_over(llama):
    class Recorder(RowEncoder):
        def augment(self, X, rng, progress):
            shares.append(progress)
            return super().augment(X, rng, progress)

    shares = []
    corpus = sentences(100)
    corpus = replace(corpus, encoder=Recorder(question="y?").fit(corpus.table))
    tuner = FineTuner(n_epochs=2, batch_size=1, gradient_accumulation_steps=2)

    tuner.finetune(llama, corpus, RandomState(0))

    # Of the 100 steps, each of two rows, eight are written at a time.
    starts = [*range(0, 50, 8), *range(50, 100, 8)]
    np.testing.assert_allclose(shares, np.array(starts) / 100)


def test_the_learning_rate_rises_and_falls_linearly(llama):
    tuner = FineTuner(n_epochs=10, batch_size=8, learning_rate=0.01, warmup_ratio=0.3)

    tuner.finetune(llama, sentences(8), RandomState(0))

    # One step an epoch, its rate that of the middle of its tenth of training.
    middle = np.arange(10) / 10 + 0.05
    expected = 0.01 * np.minimum(middle / 0.3, (1 - middle) / 0.7)
    rates = [epoch["learning_rate"] for epoch in tuner.history_]
    np.testing.assert_allclose(rates, expected, rtol=1e-9)


@pytest.mark.parametrize("warmup_ratio", [0, 1])
def test_the_learning_rate_can_only_fall_or_only_rise(llama, warmup_ratio):
    tuner = FineTuner(n_epochs=4, learning_rate=0.01, warmup_ratio=warmup_ratio)

    tuner.finetune(llama, sentences(8), RandomState(0))

    middle = np.arange(4) / 4 + 0.125
    rates = [epoch["learning_rate"] for epoch in tuner.history_]
    expected = 0.01 * (middle if warmup_ratio else 1 - middle)
    np.testing.assert_allclose(rates, expected, rtol=1e-9)


@pytest.mark.parametrize("n_rows", [12, 9])
def test_accumulated_batches_learn_what_one_large_batch_learns(llama, n_rows):
    corpus = sentences(n_rows)

    def tuned(**parameters):
        tuner = FineTuner(n_epochs=4, max_steps=4, **parameters)
        return only(tuner.finetune(llama, corpus, RandomState(0))), tuner

    whole, tuner = tuned(batch_size=12)
    parts, same = tuned(batch_size=4, gradient_accumulation_steps=3)

    assert tuner.n_steps_ == same.n_steps_ == 4
    np.testing.assert_allclose(
        scores_of(parts, corpus), scores_of(whole, corpus), rtol=1e-3
    )
    for a, b in zip(tuner.history_, same.history_, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)


def test_settings_of_one_fit_do_not_reach_the_next(llama):
    corpus = sentences(8)

    def tuned():
        tuner = FineTuner(n_epochs=2, batch_size=4)
        return weights_of(only(tuner.finetune(llama, corpus, RandomState(0))))

    before = tuned()
    FineTuner(
        n_epochs=1, gradient_accumulation_steps=3, mixed_precision="bf16"
    ).finetune(llama, corpus, RandomState(0))

    assert are_equal(tuned(), before)


def test_what_is_auto_is_settled_and_stored(llama):
    tuner = FineTuner(batch_size=4, max_steps=1)

    tuner.finetune(llama, sentences(4), RandomState(0))

    assert tuner.learning_rate == "auto"
    assert (tuner.batch_size_, tuner.max_steps_) == (4, 1)
    assert (tuner.n_epochs_, tuner.learning_rate_) == (10, 1e-3)
    assert (tuner.weight_decay_, tuner.warmup_ratio_) == (0.01, 0.1)
    assert (tuner.max_grad_norm_, tuner.early_stopping_) == (1.0, False)


def test_clipped_gradients_and_decay_reach_the_optimizer(llama):
    def change(**parameters):
        tuner = FineTuner(max_steps=1, learning_rate=0.01, **parameters)
        tuned = weights_of(only(tuner.finetune(llama, sentences(4), RandomState(0))))
        before = weights_of(llama)
        return sum((tuned[name] - before[name]).abs().sum() for name in before).item()

    # Gradients far below the optimizer's epsilon move nothing; decay shrinks anyway.
    plain = change(weight_decay=0)
    assert change(weight_decay=0, max_grad_norm=1e-14) < 1e-3 * plain
    size = sum(weight.abs().sum() for weight in llama.model.parameters()).item()
    decayed = change(weight_decay=1.0, max_grad_norm=1e-14)
    rate = 0.01 * 0.5 / 0.9  # at the middle of training
    assert decayed == pytest.approx(rate * size, rel=0.01)


@pytest.mark.parametrize(
    "parameter",
    [
        {"n_epochs": -1},
        {"max_steps": 1.5},
        {"learning_rate": 0},
        {"batch_size": 0},
        {"warmup_ratio": 1.1},
        {"gradient_accumulation_steps": 0},
        {"mixed_precision": "int8"},
        {"max_time": 0},
        {"n_iter_no_change": 0},
    ],
)
def test_parameters_out_of_range_are_refused(llama, parameter):
    (name,) = parameter

    with pytest.raises(ValueError, match=name):
        FineTuner(**parameter).finetune(llama, sentences(4), RandomState(0))


@pytest.mark.parametrize(
    ("constrained", "n_longest"),
    [
        (True, 1022),  # " a" or " b" must fit into 1024 tokens
        (False, 1009),  # " a long answer" and the end mark must fit
    ],
)
def test_a_row_too_long_with_its_answer_is_named(gpt2, constrained, n_longest):
    answers = LabelDecoder(words=["a long answer", "b"]).fit(["a", "b"]).answers_
    tuner = FineTuner(n_epochs=1, constrained=constrained)

    def finetune(n_tokens):
        table = pd.DataFrame({"text": ["~" * n_tokens]})
        encoder = RowEncoder(template="{text}").fit(table)
        corpus = Corpus(encoder, answers, table, np.array(["a"]), np.ones(1))
        tuner.finetune(gpt2, corpus, RandomState(0))

    finetune(n_longest)
    with pytest.raises(ValueError, match=r"Row 0 is 1025 tokens .* 1024"):
        finetune(n_longest + 1)


# Time


def test_without_time_nothing_is_trained_and_a_warning_says_so(llama):
    tuner = FineTuner(n_epochs=3, batch_size=4, max_time=1e-9)

    with pytest.warns(ConvergenceWarning, match=r"max_time=1e-09 .* 0 of 6 steps"):
        tuned = only(tuner.finetune(llama, sentences(8), RandomState(0)))

    assert tuner.n_steps_ == 0
    assert are_equal(weights_of(tuned), weights_of(llama))


@pytest.mark.parametrize("gradient_accumulation_steps", [1, 2])
def test_the_schedule_reaches_its_end_by_the_end_of_the_time(
    llama, gradient_accumulation_steps, monkeypatch
):
    monkeypatch.setattr("liftlearn._finetuner._progress.time", Ticks())
    tuner = FineTuner(
        n_epochs=10**6,
        learning_rate=0.01,
        batch_size=4,
        max_time=20.0,
        gradient_accumulation_steps=gradient_accumulation_steps,
    )

    with pytest.warns(ConvergenceWarning, match=r"max_time=20\.0 seconds ended"):
        tuner.finetune(llama, sentences(8), RandomState(0))

    assert 0 < tuner.n_steps_ < 20
    assert 20.0 <= tuner.history_[-1]["seconds"] < 23.0  # the last step and its end
    rates = [epoch["learning_rate"] for epoch in tuner.history_]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert 0 <= rates[-1] < 0.1 * 0.01 < max(rates)


def test_time_to_spare_changes_nothing_and_warns_of_nothing(llama):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuner = FineTuner(n_epochs=2, batch_size=4, max_time=1e6)
        tuner.finetune(llama, sentences(8), RandomState(0))

    assert tuner.n_steps_ == 4


# Early stopping


def test_early_stopping_keeps_the_best_weights(llama):
    metric = MetricsInTurn([0.1, 0.5, 0.4, 0.5, 0.3, 0.9, 0.9])
    tuner = FineTuner(n_epochs=20, batch_size=4, early_stopping=True)
    tuner.set_params(n_iter_no_change=3)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned = only(tuner.finetune(llama, sentences(8), RandomState(0), metric=metric))

    # The second metric is the best; three follow that are not better.
    monitored = [epoch["monitored"] for epoch in tuner.history_]
    assert monitored == [0.1, 0.5, 0.4, 0.5, 0.3]
    assert tuner.n_steps_ == 10
    assert are_equal(weights_of(tuned), metric.seen[1])
    assert not are_equal(weights_of(tuned), metric.seen[-1])


def test_the_best_weights_are_kept_without_an_early_stop(llama):
    metric = MetricsInTurn([-3.0, -1.0, -2.0])
    tuner = FineTuner(n_epochs=3, batch_size=4, early_stopping=True)

    tuned = only(tuner.finetune(llama, sentences(8), RandomState(0), metric=metric))

    assert len(tuner.history_) == 3
    assert are_equal(weights_of(tuned), metric.seen[1])


def test_what_all_rows_begin_with_is_learnt_as_if_each_read_it(llama, monkeypatch):
    corpus, before = sentences(8), []
    corpus.encoder.set_params(task="Say a or b.").fit(corpus.table)
    tuner = FineTuner(n_epochs=2, batch_size=4)
    hook = llama.model.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: before.append(inputs[0].numel())
    )
    with hook:
        whole = only(tuner.finetune(llama, corpus, RandomState(0)))
        n_whole = sum(before)
        monkeypatch.setattr("liftlearn._language_model._passes._SHARED_TOKENS", 1)
        parted = only(tuner.finetune(llama, corpus, RandomState(0)))

    assert sum(before) - n_whole < 0.6 * n_whole
    for name, weight in weights_of(parted).items():
        torch.testing.assert_close(weight, weights_of(whole)[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("precision", "n_most", "is_fused"),
    [("bf16", 500, False), ("bf16", 5, True), ("no", 500, True)],
)
def test_short_rows_in_bf16_go_without_the_fused_attention(
    llama_folder, monkeypatch, precision, n_most, is_fused
):
    lm = LanguageModel.load(llama_folder, device="cpu")
    monkeypatch.setattr("liftlearn._finetuner._loop._SHORT_ROW", n_most)

    with torch.profiler.profile() as profile:
        FineTuner(max_steps=1, mixed_precision=precision).finetune(
            lm, sentences(4), RandomState(0)
        )

    names = " ".join(event.key for event in profile.key_averages())
    assert ("flash_attention" in names) == is_fused


def test_a_metric_may_score_while_training_goes_on(gpt2):
    corpus = one_answer(8)
    losses = []

    def metric(lm, rows):
        losses.append(own_loss(lm, corpus))
        return -losses[-1]

    tuner = FineTuner(n_epochs=4, batch_size=4, learning_rate=0.01)
    tuner.set_params(early_stopping=True)
    tuned = only(tuner.finetune(gpt2, corpus, RandomState(0), metric=metric))

    assert own_loss(tuned, corpus) == pytest.approx(min(losses), abs=1e-6)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("gradient_accumulation_steps", [1, 3])
def test_after_an_interrupt_the_next_fit_is_as_ever(gpt2, gradient_accumulation_steps):
    def tuned(metric=None):
        tuner = FineTuner(
            n_epochs=2,
            batch_size=4,
            gradient_accumulation_steps=gradient_accumulation_steps,
            early_stopping=metric is not None,
        )
        return weights_of(
            only(tuner.finetune(gpt2, sentences(8), RandomState(0), metric=metric))
        )

    before, base = tuned(), weights_of(gpt2)
    torch_state = torch.get_rng_state()

    with pytest.raises(KeyboardInterrupt):
        tuned(interrupting)

    assert torch.equal(torch.get_rng_state(), torch_state)
    assert are_equal(weights_of(gpt2), base)
    after = []
    thread = threading.Thread(target=lambda: after.append(tuned()))
    thread.start()  # a lock left held would stop another thread
    thread.join(timeout=60)
    assert are_equal(after[0], before)


# The world outside


def global_state():
    """Return what a fit could change outside of itself, in comparable form."""
    loggers = dict(logging.root.manager.loggerDict)
    for thread in threading.enumerate():
        # transformers does not wait for those that it loads weights with to end.
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(timeout=60)
    return {
        "environment": dict(os.environ),
        "numpy": str(check_random_state(None).get_state()),
        "python": random.getstate(),
        "torch": torch.get_rng_state().tolist(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch settings": (
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_autocast_enabled("cpu"),
        ),
        "warnings": list(warnings.filters),
        "levels": {
            name: logger.level
            for name, logger in loggers.items()
            if isinstance(logger, logging.Logger)
        },
        "root level": logging.root.level,
        "transformers": (
            transformers_logging.get_verbosity(),
            transformers_logging.is_progress_bar_enabled(),
        ),
        "errors": np.geterr(),
        "running threads": threading.active_count(),
    }


def test_no_global_state_is_changed(llama_folder, tmp_path):
    def load_tune_score_and_save():
        lm = LanguageModel.load(llama_folder)
        tuner = FineTuner(max_steps=2, mixed_precision="bf16", early_stopping=True)
        tuned = only(
            tuner.finetune(
                lm, sentences(8), RandomState(0), metric=lambda lm, rows: 0.0
            )
        )
        scores_of(tuned, sentences(8))
        tuned.save(tmp_path)
        LanguageModel.load(tmp_path)

    load_tune_score_and_save()  # libraries import parts of themselves the first time
    before = global_state()

    load_tune_score_and_save()

    assert global_state() == before


def test_two_threads_fit_at_once(llama):
    def tuned(seed):
        tuner = FineTuner(n_epochs=2, batch_size=4, gradient_accumulation_steps=seed)
        return weights_of(only(tuner.finetune(llama, sentences(10), RandomState(seed))))

    alone = {seed: tuned(seed) for seed in (1, 2)}
    together = {}

    threads = [
        threading.Thread(target=lambda seed=seed: together.update({seed: tuned(seed)}))
        for seed in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert are_equal(together[1], alone[1])
    assert are_equal(together[2], alone[2])


@pytest.mark.parametrize("mixed_precision", ["bf16", "fp16"])
def test_mixed_precision_learns_and_stays_finite(gpt2, mixed_precision):
    corpus = one_answer(20)
    settings = {"n_epochs": 4, "batch_size": 5, "learning_rate": 0.01}
    tuner = FineTuner(**settings, mixed_precision=mixed_precision)

    tuned = only(tuner.finetune(gpt2, corpus, RandomState(0)))

    assert all(np.isfinite(epoch["loss"]) for epoch in tuner.history_)
    assert all(weight.isfinite().all() for weight in tuned.model.parameters())
    assert tuned.model.dtype == torch.float32
    assert own_loss(tuned, corpus) < 0.5 * own_loss(gpt2, corpus)


def test_a_bar_is_shown_only_if_asked_for(llama, capfd):
    tuner = FineTuner(n_epochs=2, batch_size=4)

    tuner.finetune(llama, sentences(8), RandomState(0))
    quiet = capfd.readouterr()
    tuner.finetune(llama, sentences(8), RandomState(0), verbose=1)
    shown = capfd.readouterr()

    assert quiet.out == quiet.err == shown.out == ""
    assert "fine-tuning: 100%" in shown.err
    assert "4/4" in shown.err
    assert "loss=" in shown.err
