"""
How many rows does it need?
===========================

About as many as its rivals. With 20 rows of a table of two columns it has 93.0 %
accuracy (an RBF-SVM 93.0 %), with 80 rows 97.2 % (95.2 %). On iris and wine the bands
of all methods overlap. For numbers it needs fewer rows than a forest, but more than a
Gaussian process: with 200 rows its RAE is 0.12, theirs 0.21 and 0.07.
"""

# %%
# Classes
# -------
# Iris, wine, and the table of two columns that a network of random weights labels, as
# on the page *Where does it draw the line?* One row in five is kept for the test. Of
# the others 5, 10, 20, 50 and 100 % are learnt, ten rows at least. LIFT reads them in
# context. All methods have their defaults.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import t
from sklearn.datasets import load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from stored import stored

from liftlearn import LIFTClassifier, LIFTRegressor


def network(n_rows=500, weight=1.2):
    """Return rows labelled by a network of two hidden layers, half of them as ones."""
    rng = np.random.RandomState(7)
    first, second, last = (rng.normal(size=shape) for shape in [(2, 6), (6, 6), 6])
    shift = 3 * rng.normal(size=6)
    rows = rng.uniform(-6, 6, size=(n_rows, 2))
    output = np.tanh(2 * np.tanh(weight * (rows @ first + shift)) @ second) @ last
    return rows, (output > np.median(output)).astype(int)


def measure_classes(tables, shares, n_seeds):
    """Yield table, rows learnt, seed, method and accuracy on the test rows."""
    for name, seed in [(name, seed) for name in tables for seed in range(n_seeds)]:
        X, y = TABLES[name]()
        X_rest, X_test, y_rest, y_test = train_test_split(
            X, y, test_size=0.2, stratify=y, random_state=seed
        )
        for share in shares:
            n_rows = max(10, int(share * len(y_rest)))
            some = np.arange(len(y_rest))
            if n_rows < len(y_rest):
                some, _ = train_test_split(
                    some, train_size=n_rows, stratify=y_rest, random_state=seed
                )
            methods = {"LIFT": LIFTClassifier(random_state=seed)} | {
                rival: make_pipeline(StandardScaler(), model)
                for rival, model in CLASSIFIERS.items()
            }
            for method, model in methods.items():
                model.fit(X_rest[some], y_rest[some])
                yield name, n_rows, seed, method, model.score(X_test, y_test)


TABLES = {
    "iris": lambda: load_iris(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "network": network,
}
CLASSIFIERS = {
    "logistic regression": LogisticRegression(),
    "RBF-SVM": SVC(),
    "forest": RandomForestClassifier(random_state=0),
}

# %%
# Numbers
# -------
# The paper's function of two columns that lie between -10 and 10: the mean of their
# absolute values, scaled to -9 to 9. Training rows have noise of a tenth of its
# standard deviation, test rows none. LIFT is fine-tuned. The measure is the relative
# absolute error (RAE): the mean absolute error, as a share of the one that the mean of
# the test rows has.


def l1norm(n_rows, rng):
    """Return rows, and the paper's l1 norm of each without noise."""
    rows = rng.uniform(-10, 10, size=(n_rows, 2))
    return rows, 18 * (np.abs(rows) / 10 - 0.5).mean(axis=1)


def measure_numbers(sizes, n_seeds, n_test=300):
    """Yield table, rows learnt, seed, method and RAE on the test rows."""
    for seed in range(n_seeds):
        rng = np.random.RandomState(seed)
        X_test, y_test = l1norm(n_test, rng)
        for n_rows in sizes:
            X, y = l1norm(n_rows, rng)
            y += 0.1 * y.std() * rng.normal(size=n_rows)
            methods = {"LIFT": LIFTRegressor(random_state=seed)} | {
                rival: make_pipeline(StandardScaler(), model)
                for rival, model in REGRESSORS.items()
            }
            for method, model in methods.items():
                error = np.abs(model.fit(X, y).predict(X_test) - y_test).mean()
                rae = error / np.abs(y_test - y_test.mean()).mean()
                yield "l1 norm", n_rows, seed, method, rae


REGRESSORS = {
    "Gaussian process": GaussianProcessRegressor(
        RBF() + WhiteKernel(0.1), normalize_y=True, random_state=0
    ),
    "5 nearest neighbours": KNeighborsRegressor(),
    "forest": RandomForestRegressor(random_state=0),
}


def measure(
    tables=tuple(TABLES),
    shares=(0.05, 0.1, 0.2, 0.5, 1),
    sizes=(50, 200, 500),
    n_splits=8,
    n_draws=4,
):
    """Return the score of each method by the number of rows that it learnt."""
    results = [
        *measure_classes(tables, shares, n_splits),
        *measure_numbers(sizes, n_draws),
    ]
    columns = ["table", "rows", "seed", "method", "score"]
    return pd.DataFrame(results, columns=columns).round(4)


figures = stored("how_many_rows", measure)

# %%
# The answer
# ----------
# Means, and 95 % bands for them by Student's t, over eight splits for classes and four
# draws for numbers.

grouped = figures.groupby(["table", "method", "rows"])["score"]
mean, count = grouped.mean(), grouped.count()
half = t.ppf(0.975, count - 1) * grouped.sem()
summary = figures.groupby("table", sort=False)
figure, axes = plt.subplots(2, 2, figsize=(8.5, 8))
for ax, (table, of_table) in zip(axes.flat, summary, strict=True):
    numbers = table == "l1 norm"
    factor = 1 if numbers else 100
    for number, method in enumerate(of_table["method"].unique()):
        line, band = factor * mean[table, method], factor * half[table, method]
        ax.plot(
            line.index, line, ["o-", "s--", "^-.", "v:"][number], color=f"C{number}",
            label=method, linewidth=2.5 if method == "LIFT" else 1.3, markersize=5,
        )  # fmt: skip
        ax.fill_between(
            line.index, line - band, line + band, color=f"C{number}", alpha=0.12
        )
    ticks = sorted(of_table["rows"].unique())
    ticks = [rows for rows in ticks if rows not in (12, 14)]
    ax.set_xscale("log")
    ax.set_xticks(ticks, ticks)
    ax.minorticks_off()
    ax.set_title(table, fontsize=11)
    ax.set_xlabel("rows learnt")
    ax.set_ylabel("RAE (less is better)" if numbers else "accuracy (%)")
    ax.set_ylim(*((0, None) if numbers else (None, 101)))
    ax.legend(fontsize=9)
figure.tight_layout()
plt.show()

print(mean.reset_index().pivot_table(
    "score", ["table", "rows"], "method"
).round(3).to_string())  # fmt: skip

# %%
# Beside the paper
# ----------------
# As published for LIFT with GPT-J and GPT-3 (NeurIPS 2022), and ours: the mean accuracy
# in % of eight splits, and the mean RAE of four draws.
#
# .. list-table::
#    :header-rows: 1
#
#    * - row of the paper
#      - GPT-J
#      - GPT-3
#      - here
#      - best rival here
#    * - 2: iris, all training rows
#      - 96.67
#      - 97.00
#      - 95.4
#      - RBF-SVM 96.7
#    * - 2: wine, all training rows
#      - 93.52
#      - 92.59
#      - 98.3
#      - forest 99.0
#    * - 7: iris, 20 % of them
#      - not published
#      - not published
#      - 94.2
#      - forest 94.2
#    * - 7: wine, 20 % of them
#      - not published
#      - not published
#      - 96.5
#      - logistic regression 97.9
#    * - 25: l1 norm, 200 rows
#      - 0.403
#      - 0.19
#      - 0.119
#      - Gaussian process 0.070
#    * - 25: l1 norm, 500 rows
#      - 0.120
#      - not published
#      - 0.077
#      - Gaussian process 0.052
#
# The protocols differ. The paper fine-tunes for classes, too; here the rows are read in
# context. Its splits are others (three runs, 30 test rows of iris and 36 of wine), and
# it has 17 further tables. For the l1 norm it tests on a grid (GPT-3), or on other
# points (GPT-J), and it has five further functions.
