"""
Which rows are odd?
===================

A row can be odd though each of its cells is usual: a tall man with a child's weight. A
model of whole rows knows which cells go together, and tells how probable a row is. How
well does it find odd rows, beside scikit-learn's isolation forest?
"""

# %%
# Two kinds of odd rows
# ---------------------
# Both tables come with scikit-learn. Of the tumors the benign ones are usual, and the
# malignant ones odd. Of the wines the odd rows are made: each of their cells comes from
# another wine.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import IsolationForest
from sklearn.metrics import RocCurveDisplay, roc_auc_score
from sklearn.model_selection import train_test_split
from stored import stored

from liftlearn import FineTuner, LIFTDensity

rng = np.random.RandomState(0)
tumors = load_breast_cancer(as_frame=True)
means = [name for name in tumors.data if name.startswith("mean")]
benign = tumors.data.loc[tumors.target == 1, means]
malignant = tumors.data.loc[tumors.target == 0, means]
wines = load_wine(as_frame=True).data
mixed = wines.apply(lambda cells: rng.permutation(cells.to_numpy()))

# %%
# What each method makes of them
# ------------------------------
# Both learn from usual rows alone, and are asked of usual ones that they never saw, and
# of odd ones.

tables = {
    "malignant among benign tumors": (benign, malignant),
    "mixed wines": (wines, mixed),
}


def measure(steps="auto"):
    """Return how odd each method finds each row that it is asked of."""
    results = []
    for name, (usual, odd) in tables.items():
        train, test = train_test_split(usual, test_size=0.3, random_state=0)
        asked = pd.concat([test, odd.sample(len(test), random_state=0)])
        for model in (
            LIFTDensity(finetuner=FineTuner(max_steps=steps), random_state=0),
            IsolationForest(random_state=0),
        ):
            columns = {"table": name, "method": type(model).__name__}
            is_odd = np.repeat([0, 1], len(test))
            oddness = -model.fit(train).score_samples(asked)
            results.append(
                pd.DataFrame({**columns, "is_odd": is_odd, "oddness": oddness})
            )
    return pd.concat(results).round(6)


figures = stored("odd_rows", measure)

# %%
# The answer
# ----------
# The further up and to the left, the better.

figure, axes = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
for axis, name in zip(axes, tables, strict=True):
    for method, rows in figures[figures["table"] == name].groupby("method"):
        auc = roc_auc_score(rows["is_odd"], rows["oddness"])
        print(f"{name}, {method}: AUC {auc:.3f}")
        RocCurveDisplay.from_predictions(
            rows["is_odd"], rows["oddness"], name=method, ax=axis
        )
    axis.set_title(name)
    axis.set_xlabel("share of usual rows that are called odd")
    axis.set_ylabel("share of odd rows that are found")
plt.show()
