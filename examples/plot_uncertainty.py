"""
How sure a prediction is
========================

A number is predicted as a whole distribution. Here it is learnt from noisy rows of a
known function, so that what it says of the noise can be checked.
"""

# %%
# A function with a known noise
# -----------------------------
# The target is a curve of one column. Its noise grows along the curve, so a good
# prediction is sure on the left and doubtful on the right.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from stored import stored

from liftlearn import (
    DensityDisplay,
    FineTuner,
    IntervalDisplay,
    LIFTClassifier,
    LIFTRegressor,
)

rng = np.random.RandomState(0)


def draw(n_rows, noise):
    """Return a table of one column, the curve and the noisy target."""
    X = pd.DataFrame({"x": rng.uniform(0, 10, n_rows)})
    curve = np.sin(X["x"].to_numpy())
    return X, curve, curve + noise(X["x"].to_numpy()) * rng.normal(size=n_rows)


X, _, y = draw(300, lambda x: 0.05 + 0.05 * x)
regressor = LIFTRegressor(random_state=0).fit(X, y)
X_new, _, y_new = draw(300, lambda x: 0.05 + 0.05 * x)

# %%
# Each row's distribution answers every question. The continuous ranked probability
# score measures a distribution as the absolute error measures a point.
distribution = regressor.predict_distribution(X_new)
print("mean absolute error", np.abs(distribution.median - y_new).mean().round(3))
print("mean CRPS          ", distribution.crps(y_new).mean().round(3))

# %%
# The bands of one column are the whole function, and densities show single rows.
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
IntervalDisplay.from_estimator(regressor, X_new, y_new, x="x", ax=left)
three = X_new["x"].argsort().iloc[[20, 150, 280]]
DensityDisplay.from_estimator(regressor, X_new.iloc[three], y_new[three], ax=right)
figure.tight_layout()

# %%
# Intervals that keep their promise
# ---------------------------------
# How often an interval holds the true number depends on how good the model is, unless
# it is compared with rows that were held out.
X_held, _, y_held = draw(300, lambda x: 0.05 + 0.05 * x)
for step in ("as it stands", "conformalised"):
    covered = []
    for coverage in (0.5, 0.8, 0.9):
        lower, upper = regressor.predict_interval(X_new, coverage).T
        covered.append(f"{np.mean((lower <= y_new) & (y_new <= upper)):.0%}")
    print(f"{step:15} intervals of 50 %, 80 %, 90 % hold", ", ".join(covered))
    regressor.conformalize(X_held, y_held)

# %%
# The spread of draws and the noise
# ---------------------------------
# LIFT draws its predictions. Their spread in a row should be the noise that the row's
# number has, whatever its size. One copy of the model is enough to see that.


def measure(levels=(0.1, 0.2, 0.4, 0.8)):
    """Return the noise and the median spread of draws at levels of a curve's spread."""
    results = []
    for level in levels:
        noise = level * np.sqrt(0.5)
        X, _, y = draw(300, lambda x, noise=noise: noise)
        one = LIFTRegressor(finetuner=FineTuner(n_models=1), random_state=0).fit(X, y)
        drawn = one.sample_y(X_new, 100, random_state=0)
        results.append([noise, np.median(drawn.std(axis=1))])
    return pd.DataFrame(results, columns=["noise", "spread"]).round(4)


figures = stored("uncertainty", measure)
print(figures.round(3).to_string(index=False))

figure, ax = plt.subplots()
noise = figures["noise"]
ax.plot(noise, noise, "k:", label="the noise itself")
ax.plot(noise, figures["spread"], "o-", label="spread of draws")
ax.set(xlabel="standard deviation of the noise", ylabel="median spread of draws")
ax.legend()
figure.tight_layout()

# %%
# Votes and means of draws
# ------------------------
# LIFT lets the majority of several draws decide on a class, and takes their mean for a
# number. The more draws, the nearer both come to what is read from the distribution at
# once.
sign = np.where(y > 0, "above zero", "below zero")
classifier = LIFTClassifier(random_state=0).fit(X, sign)
for n_draws in (1, 5, 25, 125):
    votes = pd.DataFrame(classifier.sample_y(X_new, n_draws, random_state=0))
    agree = (votes.mode(axis=1)[0] == classifier.predict(X_new)).mean()
    means = regressor.sample_y(X_new, n_draws, random_state=0).mean(axis=1)
    error = np.abs(means - distribution.mean).mean()
    print(f"{n_draws:3} draws: {agree:4.0%} of votes agree, means off by {error:.3f}")
