"""What estimators say of how sure they are: distributions, sets, intervals, draws."""

import math
import pickle

import numpy as np
import pandas as pd
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.regression import ConformalizedQuantileRegressor
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from liftlearn import (
    FineTuner,
    LabelDecoder,
    LanguageModel,
    LIFTClassifier,
    LIFTRegressor,
    NumberDecoder,
    load,
    neg_crps_scorer,
)

COVERAGES = pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
TUNER = FineTuner(max_steps=20)
BRIEF = FineTuner(max_steps=2, n_models=2)


def noisy(n_rows, seed):
    """Return rows with a number that is known up to noise, and a class of it."""
    rng = np.random.RandomState(seed)
    X = pd.DataFrame(rng.normal(size=(n_rows, 2)), columns=["a", "b"])
    y = X["a"].to_numpy() + np.exp(X["b"].to_numpy() / 2) * rng.normal(size=n_rows) / 2
    return X, y, np.array(["low", "mid", "top"])[np.digitize(y, [-0.5, 0.5])]


X_TRAIN, Y_TRAIN, LABELS_TRAIN = noisy(150, 0)
X_HELD, Y_HELD, LABELS_HELD = noisy(199, 1)
X_NEW, Y_NEW, LABELS_NEW = noisy(100, 2)


@pytest.fixture(scope="module")
def fitted_regressor():
    return LIFTRegressor(finetuner=TUNER, random_state=0).fit(X_TRAIN, Y_TRAIN)


@pytest.fixture(scope="module")
def fitted_classifier():
    return LIFTClassifier(finetuner=TUNER, random_state=0).fit(X_TRAIN, LABELS_TRAIN)


@pytest.fixture
def regressor(fitted_regressor):
    return copy_of(fitted_regressor)


@pytest.fixture
def classifier(fitted_classifier):
    return copy_of(fitted_classifier)


def copy_of(estimator):
    """Return an estimator of the same parts, to which attributes can be added."""
    twin = clone(estimator)
    vars(twin).update(vars(estimator))
    return twin


def held(estimator):
    """Return held-out rows and targets for an estimator."""
    return X_HELD, Y_HELD if isinstance(estimator, LIFTRegressor) else LABELS_HELD


@pytest.fixture(params=["regressor", "classifier"])
def estimator(request):
    return request.getfixturevalue(request.param)


def promises(estimator, coverage=0.9):
    """Return the intervals or the sets of new rows."""
    if isinstance(estimator, LIFTRegressor):
        return estimator.predict_interval(X_NEW, coverage)
    return estimator.predict_set(X_NEW, coverage)


# The whole distribution


def test_what_a_regressor_predicts_is_read_from_one_distribution(regressor):
    distribution = regressor.predict_distribution(X_NEW)
    points, std = regressor.predict(X_NEW, return_std=True)

    np.testing.assert_array_equal(points, distribution.median)
    np.testing.assert_array_equal(std, distribution.std)
    np.testing.assert_array_equal(
        regressor.predict(X_NEW, quantiles=[0.2, 0.7]),
        distribution.ppf([[0.2], [0.7]]).T,
    )
    np.testing.assert_array_equal(
        regressor.predict_interval(X_NEW, 0.8).T, distribution.interval(0.8)
    )
    np.testing.assert_array_equal(
        regressor.sample_y(X_NEW, 3, temperature=0.5, random_state=0),
        distribution.sample(3, temperature=0.5, random_state=0),
    )
    np.testing.assert_array_equal(
        regressor.predict(X_NEW, quantiles=0.7), distribution.ppf(0.7)
    )


def test_each_model_reads_each_prompt_once_for_a_distribution(regressor, monkeypatch):
    read = []
    members = regressor.language_model_.members
    score = LanguageModel.score

    def counted(self, prompts, answers):
        read.append((self, prompts))
        return score(self, prompts, answers)

    monkeypatch.setattr(LanguageModel, "score", counted)
    regressor.predict_distribution(X_NEW)

    prompts = regressor.encoder_.transform(X_NEW)
    assert len(members) > 1
    assert read == [(lm, prompts) for lm in members]


def test_a_learnt_distribution_is_better_than_that_of_the_targets(regressor):
    own = regressor.predict_distribution(X_NEW).crps(Y_NEW).mean()

    pairs = np.abs(Y_TRAIN[:, None] - Y_TRAIN).mean() / 2
    climate = np.abs(Y_NEW[:, None] - Y_TRAIN).mean() - pairs
    assert own < 0.9 * climate


def test_the_crps_is_a_scorer_of_regressors_and_of_pipelines(regressor):
    score = neg_crps_scorer(regressor, X_NEW, Y_NEW)

    assert score == -regressor.predict_distribution(X_NEW).crps(Y_NEW).mean()
    tuner = FineTuner(max_steps=2)
    pipeline = make_pipeline(
        StandardScaler(), LIFTRegressor(finetuner=tuner, random_state=0)
    )
    found = cross_val_score(pipeline, X_TRAIN, Y_TRAIN, cv=2, scoring=neg_crps_scorer)
    halves = [slice(75, 150), slice(0, 75)]
    expected = [
        neg_crps_scorer(
            pipeline.fit(X_TRAIN[train], Y_TRAIN[train]), X_TRAIN[test], Y_TRAIN[test]
        )
        for train, test in zip(halves, halves[::-1], strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# Calibration and averaging


def test_early_stoppings_rows_fit_the_temperature():
    tuner = FineTuner(
        max_steps=20, early_stopping=True, validation_fraction=0.3, n_models=1
    )
    classifier = LIFTClassifier(finetuner=tuner, random_state=0)

    classifier.fit(X_TRAIN, LABELS_TRAIN)

    temperature = classifier.decoder_.temperature_
    assert temperature != 1.0
    plain = classifier.language_model_.score(
        classifier.encoder_.transform(X_NEW), classifier.decoder_.answers_.texts
    )
    prior = np.log(classifier.decoder_.class_prior_)
    scaled = np.exp(prior + (plain - prior) / temperature)
    np.testing.assert_allclose(
        classifier.predict_proba(X_NEW),
        scaled / scaled.sum(axis=1, keepdims=True),
        rtol=1e-9,
    )


@pytest.mark.parametrize("kind", [LIFTClassifier, LIFTRegressor])
def test_a_prediction_is_the_mean_over_the_wordings(kind):
    numbers = kind is LIFTRegressor
    decoder = NumberDecoder(n_wordings=3)
    if not numbers:
        decoder = LabelDecoder(n_wordings=3, temperature=1.0)
    estimator = kind(decoder=decoder, finetuner=BRIEF, random_state=0)
    estimator.set_params(encoder__jitter=0.5)
    estimator.fit(X_TRAIN, Y_TRAIN if numbers else LABELS_TRAIN)

    def proba(prompts):
        if numbers:
            distribution = estimator.decoder_.predict_distribution(
                estimator.language_model_, prompts
            )
            return np.exp(distribution.log_mass)
        return estimator.decoder_.predict_proba(estimator.language_model_, prompts)

    wordings = estimator.encoder_.reword(X_NEW, 3)
    each = [proba(prompts) for prompts in wordings]
    assert not np.allclose(each[0], each[1], atol=1e-3)
    np.testing.assert_allclose(proba(wordings), np.mean(each, axis=0), atol=1e-9)
    found = estimator.predict(X_NEW) if numbers else estimator.predict_proba(X_NEW)
    if numbers:
        mean = estimator.predict_distribution(X_NEW)
        np.testing.assert_array_equal(found, mean.median)
        np.testing.assert_allclose(np.exp(mean.log_mass), np.mean(each, axis=0))
    else:
        np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-9)


class OneWording(BaseEstimator):
    """Writes rows in one way."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return [f"a is {a:.2f}. Which?" for a in X["a"]]


def test_an_encoder_that_cannot_reword_is_refused_several_wordings():
    classifier = LIFTClassifier(
        encoder=OneWording(), decoder=LabelDecoder(n_wordings=2), finetuner=BRIEF
    )

    with pytest.raises(TypeError, match="needs an encoder with a method reword"):
        classifier.fit(X_TRAIN, LABELS_TRAIN).predict(X_NEW)


# Draws


def test_drawn_labels_have_the_classes_probabilities(classifier):
    drawn = classifier.sample_y(X_NEW[:5], 4000, random_state=0)

    shares = (drawn[..., None] == classifier.classes_).mean(axis=1)
    assert drawn.shape == (5, 4000)
    np.testing.assert_allclose(shares, classifier.predict_proba(X_NEW[:5]), atol=0.04)
    again = classifier.sample_y(X_NEW[:5], 4000, random_state=0)
    np.testing.assert_array_equal(drawn, again)


def test_cold_labels_are_the_predicted_ones(classifier):
    drawn = classifier.sample_y(X_NEW, 5, temperature=1e-12, random_state=0)

    predicted = classifier.predict(X_NEW)
    np.testing.assert_array_equal(drawn, np.repeat(predicted[:, None], 5, axis=1))


# Conformal prediction


@COVERAGES
def test_of_rows_held_against_each_other_the_promised_share_is_covered(
    estimator, coverage
):
    X, y = (part[:10] for part in held(estimator))
    scores = estimator.conformalize(X, y).conformity_scores_
    assert len(set(scores)) == 10

    covered = 0
    for row in range(10):
        estimator.conformity_scores_ = np.delete(scores, row)
        covered += bool(holds(estimator, X.iloc[[row]], y[row], coverage))

    # Any of the ten is as probably the new one: the proof of the promise, without luck.
    assert covered == math.ceil(10 * coverage)


def holds(estimator, row, target, coverage):
    """Return whether a row's interval or set holds its target."""
    if isinstance(estimator, LIFTRegressor):
        ((lower, upper),) = estimator.predict_interval(row, coverage)
        return lower <= target <= upper
    (member,) = estimator.predict_set(row, coverage)
    return member[estimator.classes_ == target].all()


class WithNames(ClassifierMixin, BaseEstimator):
    """A fitted classifier of tables, given arrays."""

    def __init__(self, classifier):
        self.classifier = classifier

    def fit(self, X, y):
        return self

    @property
    def classes_(self):
        return self.classifier.classes_

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X):
        return self.classifier.predict_proba(pd.DataFrame(X, columns=["a", "b"]))


@COVERAGES
def test_sets_are_those_of_mapie(classifier, coverage):
    mapie = SplitConformalClassifier(
        WithNames(classifier), confidence_level=coverage, conformity_score="lac"
    )
    mapie.conformalize(X_HELD, LABELS_HELD)
    _, expected = mapie.predict_set(X_NEW)

    classifier.conformalize(X_HELD, LABELS_HELD)

    found = classifier.predict_set(X_NEW, coverage)
    assert found.shape == (100, 3)
    np.testing.assert_array_equal(found, expected[:, :, 0])


class AtLevel(RegressorMixin, BaseEstimator):
    """Predicts one quantile on the scale of the distribution function: its level."""

    def __init__(self, level):
        self.level = level

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return np.full(len(X), self.level)


@COVERAGES
def test_intervals_are_mapies_conformalised_quantiles(regressor, coverage):
    levels = [(1 - coverage) / 2, (1 + coverage) / 2, 0.5]
    mapie = ConformalizedQuantileRegressor(
        [AtLevel(level).fit(None, None) for level in levels],
        confidence_level=coverage,
        prefit=True,
    )
    held_out = regressor.predict_distribution(X_HELD)
    mapie.conformalize(X_HELD, held_out.cdf(Y_HELD))
    _, expected = mapie.predict_interval(X_NEW, symmetric_correction=True)

    regressor.conformalize(X_HELD, Y_HELD)

    found = regressor.predict_interval(X_NEW, coverage)
    distribution = regressor.predict_distribution(X_NEW)
    for ends, level in zip(found.T, expected[0, :, 0], strict=True):
        np.testing.assert_allclose(ends, distribution.ppf(level), rtol=1e-9)


def test_conformalizing_changes_no_other_prediction(estimator):
    before = estimator.predict(X_NEW)
    known = set(vars(estimator))

    returned = estimator.conformalize(*held(estimator))

    assert returned is estimator
    assert set(vars(estimator)) - known == {"conformity_scores_"}
    np.testing.assert_array_equal(estimator.predict(X_NEW), before)


def test_a_second_call_replaces_the_first(estimator):
    X, y = held(estimator)
    once = promises(estimator.conformalize(X, y))

    estimator.conformalize(X[:30], y[:30])
    assert len(estimator.conformity_scores_) == 30
    assert not np.array_equal(promises(estimator), once)
    np.testing.assert_array_equal(promises(estimator.conformalize(X, y)), once)


def test_fit_and_clone_forget_the_held_out_rows_and_copies_keep_them(
    estimator, tmp_path
):
    estimator.conformalize(*held(estimator))
    expected = promises(estimator)

    estimator.save(tmp_path / "saved")
    kept = [pickle.loads(pickle.dumps(estimator)), load(tmp_path / "saved")]

    for twin in kept:
        np.testing.assert_array_equal(promises(twin), expected)
    assert not hasattr(clone(estimator), "conformity_scores_")
    estimator.set_params(finetuner=FineTuner(max_steps=1))
    X, y = held(estimator)
    assert not hasattr(estimator.fit(X[:30], y[:30]), "conformity_scores_")


def test_too_few_held_out_rows_promise_everything(classifier, regressor):
    classifier.conformalize(X_HELD[:5], LABELS_HELD[:5])
    regressor.conformalize(X_HELD[:5], Y_HELD[:5])

    assert classifier.predict_set(X_NEW, 0.9).all()
    grid = regressor.decoder_.answers_
    np.testing.assert_allclose(
        regressor.predict_interval(X_NEW, 0.9), [[grid.low, grid.high]] * 100, rtol=1e-9
    )


def test_sets_without_held_out_rows_reach_the_coverage_by_the_fewest_classes(
    classifier,
):
    proba = classifier.predict_proba(X_NEW)

    member = classifier.predict_set(X_NEW, 0.8)

    assert np.all((proba * member).sum(axis=1) >= 0.8 - 1e-12)
    least = np.where(member, proba, np.inf).min(axis=1)
    assert np.all((proba * member).sum(axis=1) - least < 0.8)
    assert np.all(np.where(member, -np.inf, proba).max(axis=1) <= least)
    assert 1 < member.sum(axis=1).mean() < 3


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, np.nan])
def test_a_coverage_that_is_no_share_is_refused(estimator, coverage):
    with pytest.raises(ValueError, match=r"share in \(0, 1\), got"):
        promises(estimator, coverage)


def test_held_out_rows_that_cannot_be_used_are_refused(estimator):
    X, y = held(estimator)
    with pytest.raises(NotFittedError):
        clone(estimator).conformalize(X, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator.conformalize(X, y[:-1])
    with pytest.raises(ValueError, match="feature names"):
        estimator.conformalize(X.add_suffix("!"), y)
    assert not hasattr(estimator, "conformity_scores_")


def test_a_held_out_label_that_fit_has_not_seen_is_named(classifier):
    labels = np.where(LABELS_HELD == "mid", "odd", LABELS_HELD)

    with pytest.raises(ValueError, match=r"fit has not seen: \['odd'\]"):
        classifier.conformalize(X_HELD, labels)


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(estimator, temperature):
    with pytest.raises(ValueError, match="positive number, got"):
        estimator.sample_y(X_NEW, temperature=temperature)
