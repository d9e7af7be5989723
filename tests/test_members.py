import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from tiny import FixedScores, by_rule

from liftlearn import (
    FineTuner,
    LabelDecoder,
    LanguageModel,
    LIFTClassifier,
    LIFTRegressor,
    RowEncoder,
)
from liftlearn._corpus import Corpus
from liftlearn._finetuner._loop import Training


@pytest.fixture
def seen(monkeypatch):
    """Keep the rows and weights that each member learns from."""
    seen, run = [], Training.run

    def recorded(training, *options):
        corpus = training.corpus
        rows = dict(zip(corpus.table.iloc[:, 0], corpus.weight, strict=True))
        seen.append(rows)
        return run(training, *options)

    monkeypatch.setattr(Training, "run", recorded)
    return seen


@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_that_a_model_has_not_seen_fit_the_temperature(seen, early_stopping):
    table = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0) ** 2})
    labels = np.arange(20) % 2
    finetuner = FineTuner(
        max_steps=4,
        learning_rate=0.02,
        n_models=3,
        validation_fraction=0.3,
        early_stopping=early_stopping,
    )
    classifier = LIFTClassifier(finetuner=finetuner, random_state=0)

    classifier.fit(table, labels)

    rows = [set(learnt) for learnt in seen]
    assert [len(learnt) for learnt in rows] == [
        14,
        *([14] * 2 if early_stopping else [20] * 2),
    ]
    assert not early_stopping or rows[0] != rows[1] != rows[2]
    held_out = []
    for lm, learnt in zip(classifier.language_model_.members, rows, strict=True):
        # As many of each class
        assert sum(int(row) % 2 for row in learnt) == len(learnt) / 2
        unseen = np.array([row not in learnt for row in table["a"]])
        if unseen.any():
            prompts = classifier.encoder_.transform(table[unseen])
            held_out.append((lm, prompts, labels[unseen], np.ones(6)))
    expected = by_rule(LabelDecoder(words="codes"), "temperature").fit(labels)
    expected.calibrate(held_out)
    assert classifier.decoder_.temperature_ == pytest.approx(expected.temperature_)


def test_a_row_that_is_repeated_may_be_learnt_and_left_out(seen):
    table = pd.DataFrame({"a": np.repeat([0.0, 1.0], [8, 10])})
    finetuner = FineTuner(max_steps=1, n_models=2, validation_fraction=0.2)
    classifier = LIFTClassifier(finetuner=finetuner, random_state=0)

    classifier.fit(table, np.repeat([0, 1], [8, 10]))

    # Proportions count: these are as good as 4 and 5 rows, of which one each is out.
    assert seen == [{0.0: 3, 1.0: 4}, {0.0: 4, 1.0: 5}]
    weighted = clone(classifier).fit(table[::10], [0, 1], sample_weight=[8, 10])
    np.testing.assert_array_equal(
        classifier.predict_proba(table), weighted.predict_proba(table)
    )


def test_a_row_of_a_share_or_of_a_very_great_weight_is_on_one_side_or_divided(seen):
    table, weight = pd.DataFrame({"a": np.arange(10.0)}), np.full(10, 0.5)
    weight[3] = 1e9
    finetuner = FineTuner(max_steps=1, n_models=2, validation_fraction=0.25)

    classifier = LIFTClassifier(finetuner=finetuner, random_state=0)
    classifier.fit(table, np.arange(10) % 2, sample_weight=weight)

    learnt = seen[0]
    assert len(learnt) < 10
    assert 0 < learnt.pop(3.0) < 2e9  # in units of the others
    assert set(learnt.values()) == {1}


@pytest.mark.parametrize("n_epochs", [4, 0])
@pytest.mark.parametrize(
    ("estimator", "n_runs"), [(LIFTClassifier, 1), (LIFTRegressor, 2)]
)
def test_members_that_were_done_are_not_tuned_again(
    tmp_path, monkeypatch, estimator, n_runs, n_epochs
):
    X, y = pd.DataFrame({"a": np.arange(20.0)}), np.arange(20) % 2
    done, run = [], Training.run

    def interrupted(training, clock, history, *options):
        if len(done) == n_runs:
            raise KeyboardInterrupt
        done.append(history)
        return run(training, clock, history, *options)

    def fit(folder):  # steps by the table: of numbers in a short schedule, too
        finetuner = FineTuner(n_models=2, n_epochs=n_epochs)
        finetuner.set_params(checkpoint_dir=folder)
        return estimator(finetuner=finetuner, n_shots=0, random_state=0).fit(X, y)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "cut")
    resumed = fit(tmp_path / "cut")

    history = resumed.finetuner_.history_
    assert {epoch["model"] for epoch in history} == ({0, 1} if n_epochs else set())
    # To the microsecond
    of_first = [epoch for epoch in history if epoch.pop("model") == 0]
    assert of_first in done
    unbroken = fit(tmp_path / "whole")
    prompts, answers = resumed.encoder_.transform(X), resumed.decoder_.answers_.texts
    np.testing.assert_array_equal(
        resumed.language_model_.score(prompts, answers),
        unbroken.language_model_.score(prompts, answers),
    )
    assert not list((tmp_path / "cut").iterdir())


@pytest.mark.parametrize(
    ("n_models", "apart", "n_tuned"),
    [
        ("auto", 0.0, 2),
        ("auto", 0.09, 2),
        ("auto", 0.11, 3),
        (3, 0.0, 3),  # as many as were asked for
        (2, 0.5, 2),
        (1, 0.0, 1),
    ],
)
def test_two_models_are_enough_if_they_agree(monkeypatch, n_models, apart, n_tuned):
    table = pd.DataFrame({"a": np.arange(40.0)})
    labels = np.array(["no", "yes"])[np.arange(40) % 2]
    encoder = RowEncoder(question="?").fit(table)
    answers = LabelDecoder().fit(labels).answers_
    corpus = Corpus(encoder, answers, table, labels, np.ones(40))
    tuned = [FixedScores(np.log([1 - yes, yes])) for yes in (0.4, 0.4 + apart, 0.5)]
    monkeypatch.setattr(FineTuner, "_member", lambda _, fit, which, *rows: tuned[which])
    finetuner = by_rule(FineTuner(n_models=n_models, max_steps=1), "n_models")

    members = finetuner.finetune(LanguageModel.load(), corpus, np.random.RandomState(0))

    assert [member.lm for member in members] == tuned[:n_tuned]


class Judged(LIFTRegressor):
    """Keeps what the metric is asked about, and what it says."""

    def _metric(self, lm, rows):
        self.judged_ = [
            *vars(self).get("judged_", []),
            (lm, rows, super()._metric(lm, rows)),
        ]
        return self.judged_[-1][-1]


def test_short_and_full_schedules_are_judged_by_the_error_on_held_out_rows(seen):
    table = pd.DataFrame({"a": np.arange(20.0) ** 2})
    target = np.sqrt(table["a"].to_numpy())
    # As many steps as by the table would be bounded by, in few epochs.
    finetuner = FineTuner(n_epochs=2, n_models=2)

    regressor = Judged(finetuner=finetuner, random_state=0).fit(table, target)

    tuner, decoder = regressor.finetuner_, regressor.decoder_
    unseen = ~table["a"].isin(seen[0]).to_numpy()
    prompts = regressor.encoder_.transform(table[unseen])
    (short, _, of_short), (full, _, of_full) = regressor.judged_
    for lm, rows, said in regressor.judged_:
        error = np.abs(decoder.predict(lm, prompts) - target[unseen]).mean()
        assert said == pytest.approx(-error, rel=1e-9)
        assert set(rows.table["a"]) == set(table["a"][unseen])
    assert unseen.sum() == 4
    is_short = of_short > of_full + 0.05 * abs(of_full)
    assert tuner.short_schedule_ is is_short
    assert regressor.language_model_.members[0] is (short if is_short else full)


def test_rows_count_as_often_as_they_are_repeated_when_training_stops_early():
    table, labels = pd.DataFrame({"a": np.zeros(5)}), ["yes"] * 3 + ["no"] * 2
    finetuner = FineTuner(max_steps=10, early_stopping=True, validation_fraction=0.4)

    classifier = LIFTClassifier(finetuner=finetuner, random_state=0).fit(table, labels)

    assert classifier.finetuner_.history_[-1]["monitored"] == 0.5  # one of each
