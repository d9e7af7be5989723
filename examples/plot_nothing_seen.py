"""
What does it say where it saw nothing?
======================================

ANSWER
"""

# %%
# Six functions, seen in part
# ---------------------------
# They are the paper's functions of one column, about -9 to 9 high, and so is the noise
# of a tenth of the target's standard deviation. The paper takes 200 rows, as here.
# Either x is drawn from -10 to 10 and asked from -20 to 20 (*beyond*), or the middle
# third of that range is never drawn (*hole*).
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import LinearRegression
from stored import stored

from liftlearn import FineTuner, LIFTRegressor


def piecewise(x):
    """Return two lines of slope 1, and 0 between them, on the scale of the others."""
    steps = np.select([x < -3, x < 3], [x + 6, 0 * x], x - 6)
    return ((steps + 4) / 8 - 0.5) * 18


FUNCTIONS = {
    "linear": lambda x: 0.9 * x,
    "quadratic": lambda x: (x**2 - 50) * 9 / 50,
    "exponential": lambda x: (
        18 * ((np.exp(0.2 * x) - np.exp(-2)) / (np.exp(2) - np.exp(-2)) - 0.5)
    ),
    "cosine": lambda x: 9 * np.cos(np.pi * x / 2),
    "l1norm": lambda x: (np.abs(x) / 10 - 0.5) * 18,
    "piecewise": piecewise,
    "slope 5.1": lambda x: 5.1 * x,
}

# %%
# Two more questions have a line for their target. With a slope of 5.1 it is five times
# as high as the others. *Pseudo-rows* are how least squares becomes ridge regression:
# a row with x = λ and y = 0, appended to rows without noise, shrinks the slope as the
# penalty λ² does. Does it shrink LIFT's?


def draw(task, function, penalty, n_rows, rng):
    """Return the training rows of a task, and their targets."""
    low = 10 / 3 if task == "hole" else 0
    x = rng.choice([-1, 1], n_rows) * rng.uniform(low, 10, n_rows)
    y = FUNCTIONS[function](x)
    if task == "pseudo-row":
        return np.append(x, penalty), np.append(y, 0.0)
    return x, y + 0.1 * y.std() * rng.normal(size=n_rows)


def bands(x, y, x_new, seed, n_trees):
    """Return medians and 90 % bands of LIFT and a Gaussian process, and a forest's."""
    X, X_new = (pd.DataFrame({"x": values}) for values in (x, x_new))
    lift = LIFTRegressor(finetuner=FineTuner(n_models=1), random_state=seed).fit(X, y)
    kernel = RBF(3.0) + WhiteKernel()
    process = GaussianProcessRegressor(
        kernel, normalize_y=True, n_restarts_optimizer=2, random_state=seed
    ).fit(X, y)
    mean, deviation = process.predict(X_new, return_std=True)
    forest = RandomForestRegressor(n_trees, random_state=seed).fit(X, y)
    names = [f"{name}{end}" for name in ("lift", "gp") for end in (" low", "", " high")]
    values = np.column_stack(
        [
            lift.predict(X_new, quantiles=[0.05, 0.5, 0.95]),
            mean[:, None] + deviation[:, None] * [-1.645, 0, 1.645],
            forest.predict(X_new),
        ]
    )
    return pd.DataFrame(values, columns=[*names, "forest"])


# %%
# A single fine-tuned ensemble member keeps this page short. The Gaussian process learns
# the length of its kernel and the noise.

PLANS = [
    *((task, name, 0) for task in ("beyond", "hole") for name in list(FUNCTIONS)[:6]),
    ("slope", "linear", 0),
    ("slope", "slope 5.1", 0),
    *(("pseudo-row", "linear", penalty) for penalty in (0, 10, 50, 100, 1000)),
]


def measure(plans=tuple(PLANS), n_seeds=3, n_rows=200, n_trees=100):
    """Return what each model says at each x, with 90 % bands."""
    results = []
    for task, function, penalty in plans:
        end = 20 if task == "beyond" else 10
        x_new = np.linspace(-end, end, 4 * end + 1)
        for seed in range(n_seeds):
            rng = np.random.RandomState(seed)
            x, y = draw(task, function, penalty, n_rows, rng)
            found = bands(x, y, x_new, seed, n_trees).round(2)
            found.insert(0, "x", x_new)
            for name, value in (
                ("seed", seed),
                ("penalty", penalty),
                ("function", function),
                ("task", task),
            ):
                found.insert(0, name, value)
            results.append(found)
    return pd.concat(results, ignore_index=True)


figures = stored("nothing_seen", measure)
