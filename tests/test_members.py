import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from liftlearn import (
    FineTuner,
    LabelDecoder,
    LanguageModel,
    LIFTClassifier,
    LIFTRegressor,
    RowEncoder,
)
from liftlearn._corpus import Corpus
from liftlearn._estimators._members import tune_members


class Recorded(FineTuner):
    """Keeps the rows and weights that each copy learns from."""

    def finetune(self, lm, corpus, rng, **options):
        if options["turn"][0] == 0:
            self.seen_ = []
        self.seen_.append(
            dict(zip(corpus.table.iloc[:, 0], corpus.weight, strict=True))
        )
        return super().finetune(lm, corpus, rng, **options)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_that_a_model_has_not_seen_fit_the_temperature(early_stopping):
    table = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0) ** 2})
    labels = np.arange(20) % 2
    finetuner = Recorded(
        max_steps=4,
        learning_rate=0.02,
        n_models=3,
        validation_fraction=0.3,
        early_stopping=early_stopping,
    )
    classifier = LIFTClassifier(finetuner=finetuner, random_state=0)

    classifier.fit(table, labels)

    rows = [set(seen) for seen in classifier.finetuner_.seen_]
    assert [len(seen) for seen in rows] == [
        14,
        *([14] * 2 if early_stopping else [20] * 2),
    ]
    assert not early_stopping or rows[0] != rows[1] != rows[2]
    held_out = []
    for lm, seen in zip(classifier.language_model_.members, rows, strict=True):
        # As many of each class
        assert sum(int(row) % 2 for row in seen) == len(seen) / 2
        unseen = np.array([row not in seen for row in table["a"]])
        if unseen.any():
            prompts = classifier.encoder_.transform(table[unseen])
            held_out.append((lm, prompts, labels[unseen], np.ones(6)))
    expected = LabelDecoder(**classifier.decoder_.get_params()).fit(labels)
    expected.calibrate(held_out)
    assert classifier.decoder_.temperature_ == pytest.approx(expected.temperature_)


def test_a_row_that_is_repeated_may_be_learnt_and_left_out():
    table = pd.DataFrame({"a": np.repeat([0.0, 1.0], [8, 10])})
    finetuner = Recorded(max_steps=1, n_models=2, validation_fraction=0.2)
    classifier = LIFTClassifier(finetuner=finetuner, random_state=0)

    classifier.fit(table, np.repeat([0, 1], [8, 10]))

    # Proportions count: these are as good as 4 and 5 rows, of which one each is out.
    assert classifier.finetuner_.seen_ == [{0.0: 3, 1.0: 4}, {0.0: 4, 1.0: 5}]
    weighted = clone(classifier).fit(table[::10], [0, 1], sample_weight=[8, 10])
    np.testing.assert_array_equal(
        classifier.predict_proba(table), weighted.predict_proba(table)
    )


def test_a_row_of_a_share_or_of_a_very_great_weight_is_on_one_side_or_divided():
    table, weight = pd.DataFrame({"a": np.arange(10.0)}), np.full(10, 0.5)
    weight[3] = 1e9
    finetuner = Recorded(max_steps=1, n_models=2, validation_fraction=0.25)

    classifier = LIFTClassifier(finetuner=finetuner, random_state=0)
    classifier.fit(table, np.arange(10) % 2, sample_weight=weight)

    seen = classifier.finetuner_.seen_[0]
    assert len(seen) < 10
    assert 0 < seen.pop(3.0) < 2e9  # in units of the others
    assert set(seen.values()) == {1}


class Interrupted(FineTuner):
    """Is interrupted before the second copy, and tells what the first one took."""

    def finetune(self, lm, corpus, rng, *, turn, **options):
        if turn[0] == 1:
            raise KeyboardInterrupt(self.history_)
        return super().finetune(lm, corpus, rng, turn=turn, **options)


@pytest.mark.parametrize("estimator", [LIFTClassifier, LIFTRegressor])
def test_copies_that_were_done_are_not_tuned_again(tmp_path, estimator):
    X, y = pd.DataFrame({"a": np.arange(20.0)}), np.arange(20) % 2
    settings = {"n_models": 2, "n_epochs": 4}  # steps by the table: briefly, too

    def fit(finetuner, folder):
        finetuner.set_params(**settings, checkpoint_dir=folder)
        return estimator(finetuner=finetuner, random_state=0).fit(X, y)

    with pytest.raises(KeyboardInterrupt) as interruption:
        fit(Interrupted(), tmp_path / "cut")
    resumed = fit(FineTuner(), tmp_path / "cut")

    (done,) = interruption.value.args
    history = resumed.finetuner_.history_
    # To the microsecond
    assert [epoch for epoch in history if epoch["model"] == 0] == done
    assert {epoch["model"] for epoch in history} == {0, 1}
    unbroken = fit(FineTuner(), tmp_path / "whole")
    prompts, answers = resumed.encoder_.transform(X), resumed.decoder_.answers_.texts
    np.testing.assert_array_equal(
        resumed.language_model_.score(prompts, answers),
        unbroken.language_model_.score(prompts, answers),
    )
    assert not list((tmp_path / "cut").iterdir())


class Says:
    """Stands in for a tuned copy: gives "yes" one probability, whatever the row."""

    def __init__(self, yes):
        self.yes = yes

    def score(self, prompts, answers):
        return np.log([[1 - self.yes, self.yes]] * len(prompts))


class CopiesInTurn(FineTuner):
    """Gives listed copies instead of tuning them."""

    def give(self, copies):
        self.copies = copies
        return self

    def count_models(self, lm, corpus):
        return super().count_models(LanguageModel.load(), corpus)

    def finetune(self, lm, corpus, rng, *, turn, **options):
        return self.copies[turn[0]]


@pytest.mark.parametrize(
    ("n_models", "apart", "n_tuned"),
    [
        ("by_table", 0.0, 2),
        ("by_table", 0.09, 2),
        ("by_table", 0.11, 3),
        (3, 0.0, 3),  # as many as were asked for
        (2, 0.5, 2),
    ],
)
def test_two_models_are_enough_if_they_agree(n_models, apart, n_tuned):
    table = pd.DataFrame({"a": np.arange(40.0)})
    labels = np.array(["no", "yes"])[np.arange(40) % 2]
    encoder = RowEncoder(question="?").fit(table)
    answers = LabelDecoder().fit(labels).answers_
    corpus = Corpus(encoder, answers, table, labels, np.ones(40))
    copies = [Says(0.4), Says(0.4 + apart), Says(0.5)]
    finetuner = CopiesInTurn(n_models=n_models, max_steps=1).give(copies)

    members = tune_members(
        finetuner,
        None,
        corpus,
        np.random.RandomState(0),
        stratify=True,
        watch=lambda rows: lambda lm: 0.0,
        verbose=0,
    )

    assert [member.lm for member in members] == copies[:n_tuned]


class Judged(FineTuner):
    """Keeps what the judge is asked about the first copy, and what it says."""

    def finetune(self, lm, corpus, rng, *, judge=None, **options):
        def noted(tuned):
            self.judged_.append((tuned, judge(tuned)))
            return self.judged_[-1][1]

        if judge:
            self.judged_, self.seen_ = [], corpus.table
        return super().finetune(
            lm, corpus, rng, judge=noted if judge else None, **options
        )


def test_briefly_and_fully_tuned_copies_are_judged_by_the_error_on_unseen_rows():
    table = pd.DataFrame({"a": np.arange(20.0) ** 2})
    target = np.sqrt(table["a"].to_numpy())
    # As many steps as by the table would be bounded by, in few epochs.
    finetuner = Judged(n_epochs=2, max_steps="by_table", n_models=2)

    regressor = LIFTRegressor(finetuner=finetuner, random_state=0).fit(table, target)

    tuner, decoder = regressor.finetuner_, regressor.decoder_
    unseen = ~table["a"].isin(tuner.seen_["a"]).to_numpy()
    prompts = regressor.encoder_.transform(table[unseen])
    (brief, of_brief), (full, of_full) = tuner.judged_
    for lm, said in tuner.judged_:
        error = np.abs(decoder.predict(lm, prompts) - target[unseen]).mean()
        assert said == pytest.approx(-error, rel=1e-9)
    assert unseen.sum() == 4
    is_brief = of_brief > of_full + 0.05 * abs(of_full)
    assert tuner.is_brief_ is is_brief
    assert regressor.language_model_.members[0] is (brief if is_brief else full)


def test_rows_count_as_often_as_they_are_repeated_when_training_stops_early():
    table, labels = pd.DataFrame({"a": np.zeros(5)}), ["yes"] * 3 + ["no"] * 2
    finetuner = FineTuner(max_steps=10, early_stopping=True, validation_fraction=0.4)

    classifier = LIFTClassifier(finetuner=finetuner, random_state=0).fit(table, labels)

    assert classifier.finetuner_.history_[-1]["monitored"] == 0.5  # one of each
