"""
Which rows are odd?
===================

A row can be odd though each of its cells is usual: a tall man with a child's weight. A
model of whole rows knows which cells go together, and tells how probable a row is. How
well does it find odd rows, beside scikit-learn's isolation forest? Run

    pip install "liftlearn[plot]" && python examples/plot_odd_rows.py

It takes some minutes.
"""

# %%
# Two kinds of odd rows
# ---------------------
# Both tables come with scikit-learn. Of the tumors the benign ones are usual, and the
# malignant ones odd. Of the wines the odd rows are made: each of their cells comes from
# another wine.

import argparse

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import IsolationForest
from sklearn.metrics import RocCurveDisplay, roc_auc_score
from sklearn.model_selection import train_test_split

from liftlearn import FineTuner, LIFTDensity

parser = argparse.ArgumentParser(description="Which rows are odd?")
parser.add_argument("--steps", type=int, help="of training; the default's own else")
parser.add_argument("--out", help="a file for the picture")
options = parser.parse_args()

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

figure, axes = plt.subplots(1, 2, figsize=(8, 4.2), layout="constrained")
tables = {
    "malignant among benign tumors": (benign, malignant),
    "mixed wines": (wines, mixed),
}
for axis, (name, (usual, odd)) in zip(axes, tables.items(), strict=True):
    train, test = train_test_split(usual, test_size=0.3, random_state=0)
    asked = pd.concat([test, odd.sample(len(test), random_state=0)])
    is_odd = np.repeat([0, 1], len(test))
    tuner = FineTuner() if options.steps is None else FineTuner(max_steps=options.steps)
    density = LIFTDensity(finetuner=tuner, random_state=0).fit(train)
    forest = IsolationForest(random_state=0).fit(train)
    for method, model in [("LIFTDensity", density), ("IsolationForest", forest)]:
        oddness = -model.score_samples(asked)
        print(f"{name}, {method}: AUC {roc_auc_score(is_odd, oddness):.3f}")
        RocCurveDisplay.from_predictions(is_odd, oddness, name=method, ax=axis)
    axis.set_title(name)
    axis.set_xlabel("share of usual rows that are called odd")
    axis.set_ylabel("share of odd rows that are found")

# %%
# The picture
# -----------
# The further up and to the left, the better.

if options.out:
    figure.savefig(options.out, dpi=120)
else:
    plt.show()
