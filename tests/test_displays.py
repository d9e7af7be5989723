import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from liftlearn import (
    DensityDisplay,
    FineTuner,
    IntervalDisplay,
    LIFTClassifier,
    LIFTRegressor,
    TrainingDisplay,
)

RNG = np.random.RandomState(0)
X = pd.DataFrame(RNG.normal(size=(30, 2)), columns=["a", "b"])
Y = X["a"].to_numpy() + 0.1 * RNG.normal(size=30)


@pytest.fixture(scope="module")
def regressor():
    return LIFTRegressor(finetuner=FineTuner(max_steps=2), random_state=0).fit(X, Y)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_bands_lie_between_the_ends_of_the_intervals(regressor):
    display = IntervalDisplay.from_estimator(regressor, X, Y, x="a", coverages=[0.8])

    order = np.argsort(X["a"].to_numpy())
    (band,) = display.ax_.collections
    lower, upper = regressor.predict_interval(X, 0.8)[order].T
    corners = band.get_paths()[0].vertices
    for end in (lower, upper):
        points = np.column_stack([X["a"].to_numpy()[order], end])
        assert all(
            (np.abs(corners - point).max(axis=1) < 1e-9).any() for point in points
        )
    median, truth = display.ax_.lines
    np.testing.assert_array_equal(median.get_ydata(), regressor.predict(X)[order])
    np.testing.assert_array_equal(truth.get_ydata(), Y[order])
    assert display.ax_.get_xlabel() == "a"
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["80%", "median", "true"]


def test_without_a_column_rows_stand_in_the_order_of_their_medians(regressor):
    figure, ax = plt.subplots()

    display = IntervalDisplay.from_estimator(regressor, X, ax=ax)

    (median,) = display.ax_.lines
    np.testing.assert_array_equal(median.get_ydata(), np.sort(regressor.predict(X)))
    np.testing.assert_array_equal(median.get_xdata(), np.arange(30))
    assert (display.ax_, display.figure_) == (ax, figure)


def test_the_column_of_an_array_is_named_by_its_index():
    regressor = LIFTRegressor(finetuner=FineTuner(max_steps=1), random_state=0)
    regressor.fit(X.to_numpy(), Y)

    display = IntervalDisplay.from_estimator(regressor, X.to_numpy(), x=1)

    np.testing.assert_array_equal(display.x, X["b"])
    assert display.label == "1"


def test_conformalised_bands_are_shown_as_such():
    regressor = LIFTRegressor(finetuner=FineTuner(max_steps=1), random_state=0)
    regressor.fit(X, Y).conformalize(X, Y)

    display = IntervalDisplay.from_estimator(regressor, X, coverages=[0.6])

    np.testing.assert_array_equal(
        display.intervals[0.6], regressor.predict_interval(X, 0.6)
    )


def test_densities_have_an_area_of_1_and_lines_at_the_true_numbers(regressor):
    display = DensityDisplay.from_estimator(regressor, X[:2], Y[:2])

    stairs = [patch.get_data() for patch in display.ax_.patches]
    areas = [heights @ np.diff(edges) for heights, edges, _ in stairs]
    np.testing.assert_allclose(areas, [1.0, 1.0], rtol=1e-9)
    assert [line.get_xdata()[0] for line in display.ax_.lines] == Y[:2].tolist()
    assert not DensityDisplay.from_estimator(regressor, X[:2]).ax_.lines


def test_training_shows_the_loss_and_the_metric_that_was_watched():
    tuner = FineTuner(
        n_epochs=2, n_models=1, early_stopping=True, validation_fraction=0.3
    )
    classifier = LIFTClassifier(finetuner=tuner, random_state=0).fit(X, Y > 0)

    display = TrainingDisplay.from_estimator(classifier)

    history = classifier.finetuner_.history_
    loss, metric = (ax.lines[0].get_ydata() for ax in display.figure_.axes)
    assert list(loss) == [epoch["loss"] for epoch in history]
    assert list(metric) == [epoch["monitored"] for epoch in history]


def test_training_shows_the_loss_and_the_score_of_validation_rows():
    tuner = FineTuner(n_epochs=2, n_models=1)
    classifier = LIFTClassifier(finetuner=tuner, random_state=0)
    classifier.fit(X, Y > 0, X_val=X, y_val=Y > 0)

    display = TrainingDisplay.from_estimator(classifier)

    history = classifier.finetuner_.history_
    lines = [line for ax in display.figure_.axes for line in ax.lines]
    for line, name in zip(lines, ["loss", "val_loss", "val_score"], strict=True):
        assert list(line.get_ydata()) == [epoch[name] for epoch in history]
    assert lines[1].get_linestyle() == "--"


def test_training_of_several_models_shows_a_line_of_each():
    tuner = FineTuner(n_epochs=3, n_models=2)
    classifier = LIFTClassifier(finetuner=tuner, random_state=0).fit(X, Y > 0)

    lines = TrainingDisplay.from_estimator(classifier).ax_.lines

    losses = [epoch["loss"] for epoch in classifier.finetuner_.history_]
    assert [list(line.get_ydata()) for line in lines] == [losses[:3], losses[3:]]
    assert [list(line.get_xdata()) for line in lines] == [[1, 2, 3]] * 2


def test_without_matplotlib_the_error_says_how_to_get_it(regressor, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(ImportError, match=r"pip install 'liftlearn\[plot\]'"):
        TrainingDisplay.from_estimator(regressor)


def test_without_early_stopping_training_shows_the_loss_alone(regressor):
    assert len(TrainingDisplay.from_estimator(regressor).figure_.axes) == 1
