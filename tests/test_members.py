import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from liftlearn import FineTuner, LabelDecoder, LIFTClassifier, LIFTRegressor


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
    settings = {"n_models": 2, "n_epochs": 8}  # steps by the table: briefly, too

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


def test_two_models_are_enough_if_they_agree():
    rng = np.random.RandomState(0)
    table = pd.DataFrame(rng.normal(size=(60, 3)))
    counts = []
    for labels in (table[0] > 0, rng.permutation(table[0] > 0)):
        finetuner = FineTuner(max_steps=60)
        classifier = LIFTClassifier(finetuner=finetuner, random_state=0)
        classifier.fit(table, labels)
        counts.append(classifier.finetuner_.n_models_)

    assert counts == [2, 3]


@pytest.mark.parametrize(("noise", "is_brief"), [(0.0, False), (5.0, True)])
def test_noisy_numbers_are_learnt_briefly(noise, is_brief):
    rng = np.random.RandomState(0)
    table = pd.DataFrame(rng.uniform(-1, 1, (80, 1)))
    target = np.cos(6 * table[0]) + noise * rng.normal(size=80)

    regressor = LIFTRegressor(finetuner=FineTuner(n_epochs=15), random_state=0)
    regressor.fit(table, target)

    assert regressor.finetuner_.is_brief_ is is_brief


def test_rows_count_as_often_as_they_are_repeated_when_training_stops_early():
    table, labels = pd.DataFrame({"a": np.zeros(5)}), ["yes"] * 3 + ["no"] * 2
    finetuner = FineTuner(max_steps=10, early_stopping=True, validation_fraction=0.4)

    classifier = LIFTClassifier(finetuner=finetuner, random_state=0).fit(table, labels)

    assert classifier.finetuner_.history_[-1]["monitored"] == 0.5  # one of each
