"""What a column is worth to predictions, marginalised by its conditional."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from liftlearn import FineTuner, LIFTClassifier, LIFTDensity, marginal_importance

QUICK = FineTuner(max_steps=20, n_models=1)


def twins(n_rows=40, seed=0):
    """Return two columns that are one, one of its own, and a target of all three."""
    rng = np.random.RandomState(seed)
    a = rng.choice([0.0, 1.0], n_rows)
    X = pd.DataFrame({"a": a, "twin": a, "own": rng.choice([0.0, 1.0], n_rows)})
    return X, X["a"] + X["own"]


@pytest.fixture(scope="module")
def fitted():
    X, y = twins()
    tuner = FineTuner(max_steps=80, n_models=1)
    return X, y, LIFTDensity(finetuner=tuner, random_state=0).fit(X)


def test_a_column_that_others_tell_is_worth_little_though_it_is_used(fitted):
    X, y, density = fitted
    linear = LinearRegression().fit(X, y)

    found = marginal_importance(
        linear, X, y, density=density, n_draws=4, random_state=0
    )

    a, twin, own = found.importances_mean
    assert linear.coef_.min() > 0.4, "all are used"
    assert max(a, twin) < 0.1 < 0.3 < own
    assert found.importances.shape == (3, 5)
    np.testing.assert_allclose(found.importances_std, found.importances.std(axis=1))


def test_a_column_that_is_not_used_is_worth_nothing(fitted):
    X, y, density = fitted
    blind = DummyClassifier().fit(X, y > 1)

    found = marginal_importance(
        blind,
        X,
        y > 1,
        density=density,
        scoring="neg_log_loss",
        n_draws=2,
        n_repeats=2,
        random_state=0,
    )

    np.testing.assert_allclose(found.importances, 0.0, atol=1e-12)


def test_without_a_column_the_mean_over_its_conditional_is_predicted(fitted):
    X, y, density = fitted
    linear = LinearRegression().fit(X, y)

    found = marginal_importance(
        linear, X, y, density=density, n_draws=40, n_repeats=1, random_state=0
    )

    share = density.conditional(X, "own")[1.0]
    expected = linear.predict(X) + linear.coef_[2] * (share - X["own"])
    residual, total = ((y - expected) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    without = 1 - residual / total
    assert found.importances[2, 0] == pytest.approx(1.0 - without, abs=0.1)


@pytest.mark.parametrize("kind", ["frame", "array"])
def test_tables_of_any_kind_and_our_own_estimators_are_judged(kind):
    X, y = twins(40)
    X = X.to_numpy() if kind == "array" else X
    labels = (y > 1).to_numpy()
    density = LIFTDensity(finetuner=QUICK, random_state=0).fit(X)
    classifier = LIFTClassifier(finetuner=QUICK, random_state=0).fit(X, labels)

    found = [
        marginal_importance(
            classifier, X, labels, density=density, n_repeats=1, random_state=3
        ).importances
        for _ in range(2)
    ]

    assert np.isfinite(found[0]).all()
    np.testing.assert_array_equal(*found)


def test_what_can_t_be_judged_is_refused(fitted):
    X, y, density = fitted
    labels = y > 1
    knows = LIFTDensity(finetuner=QUICK, random_state=0).fit(X, y)
    classifier = LogisticRegression().fit(X, labels)

    with pytest.raises(ValueError, match="knows the target, 'target'"):
        marginal_importance(classifier, X, labels, density=knows)
    with pytest.raises(ValueError, match="n_draws is a whole number"):
        marginal_importance(classifier, X, labels, density=density, n_draws=0)
    hard = LinearSVC().fit(X, labels)
    with pytest.raises(TypeError, match="predict_proba"):
        marginal_importance(hard, X, labels, density=density)
