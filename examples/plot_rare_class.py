"""
Will it find the rare class?
============================

As well as a forest does: where 5 % of the rows are rare, F1 of the rare class is 0.55
at the threshold of one half (0.56 for a forest), and 0.67 at 0.2, the best in hindsight
(0.61). Where 12 % are rare it is 0.76 (0.76), and 0.79 at best (0.77). A lower
threshold helps LIFT, balanced weights do not. The five draws of the rows differ by more
than the two methods.
"""

# %%
# Few rows of a class
# -------------------
# Of 400 training rows 5 or 12 in a hundred belong to the rare class. It lies in two
# clumps among the common ones, and some labels are wrong. The measure is F1 of the rare
# class on new rows: the harmonic mean of the share of its rows that are found, and of
# the share of the finds that are right.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stored import stored

from liftlearn import LIFTClassifier


def draw(share, n_rows, n_new, seed):
    """Return training rows, new rows, and the labels of both: 1 is the rare class."""
    X, y = make_classification(
        n_rows + n_new, n_features=6, n_informative=4, n_redundant=0, class_sep=1.2,
        weights=[1 - share], flip_y=0.01, random_state=seed,
    )  # fmt: skip
    return train_test_split(X, y, train_size=n_rows, stratify=y, random_state=seed)


# %%
# Thresholds and weights
# ----------------------
# There are two remedies. A row may be called rare at a probability below one half; or
# ``class_weight="balanced"`` gives both classes the same sum of weights in learning.
# Nearest neighbours have no weights.


def classifiers(weight, seed):
    """Return LIFT and its rivals with defaults, but for the weights of the classes."""
    rivals = {
        "logistic regression": LogisticRegression(class_weight=weight),
        "forest": RandomForestClassifier(class_weight=weight, random_state=seed),
    }
    if weight is None:
        rivals["5 nearest neighbours"] = KNeighborsClassifier()
    return {"LIFT": LIFTClassifier(class_weight=weight, random_state=seed)} | {
        name: make_pipeline(StandardScaler(), model) for name, model in rivals.items()
    }


def measure(shares=(0.05, 0.12), n_rows=400, n_new=1000, n_seeds=5):
    """Return F1 of both classes, and the accuracy, by the rare class's threshold."""
    results = []
    for share, seed in [(share, seed) for share in shares for seed in range(n_seeds)]:
        X, X_new, y, y_new = draw(share, n_rows, n_new, seed)
        for weight in (None, "balanced"):
            for method, classifier in classifiers(weight, seed).items():
                rare = classifier.fit(X, y).predict_proba(X_new)[:, 1]
                for threshold in np.arange(1, 20) / 20:
                    called = (rare >= threshold).astype(int)
                    scores = [
                        f1_score(y_new, called, pos_label=label, zero_division=0)
                        for label in (1, 0)
                    ] + [accuracy_score(y_new, called)]
                    results.append(
                        [share, seed, method, weight or "equal", threshold, *scores]
                    )
    columns = ["share", "seed", "method", "weight", "threshold"]
    columns += ["f1_rare", "f1_common", "accuracy"]
    return pd.DataFrame(results, columns=columns).round(4)


figures = stored("rare_class", measure)

# %%
# The answer
# ----------
# Means of the seeds, and one standard error on either side for LIFT. Solid lines learnt
# with equal weights, dashed ones with balanced weights. Grey lines mark one half.

names = ["LIFT", "logistic regression", "forest", "5 nearest neighbours"]
grouped = figures.groupby(["share", "weight", "method", "threshold"])["f1_rare"]
mean, error = grouped.mean(), grouped.sem()
shares = sorted(figures["share"].unique())
figure, axes = plt.subplots(1, 2, figsize=(8.5, 5), sharey=True)
for ax, share in zip(axes, shares, strict=True):
    for number, method in enumerate(names):
        for weight, style in (("equal", "-"), ("balanced", "--")):
            if (share, weight, method, 0.5) not in mean.index:
                continue
            line, spread = mean[share, weight, method], error[share, weight, method]
            label = method if weight == "equal" else f"{method}, balanced"
            ax.plot(
                line.index, line, style, color=f"C{number}", label=label,
                linewidth=2.5 if method == "LIFT" else 1.3,
            )  # fmt: skip
            if method == "LIFT":
                ax.fill_between(
                    line.index, line - spread, line + spread, color="C0", alpha=0.15
                )
    ax.axvline(0.5, color="0.7", linewidth=1, zorder=0)
    ax.set_title(f"{share:.0%} of the rows are rare", fontsize=11)
    ax.set(xlabel="threshold of the rare class's probability", ylim=(0, 1))
axes[0].set_ylabel("F1 of the rare class on new rows")
lines = axes[0].get_legend_handles_labels()
figure.legend(*lines, loc="lower center", ncols=2, fontsize=10, frameon=False)
figure.tight_layout(rect=(0, 0.2, 1, 1))
plt.show()

# %%
# At one half, and at the threshold that was the best in hindsight, one for all seeds. A
# threshold chosen on held-out rows would give less.

half = figures[figures["threshold"] == 0.5]
keys = ["share", "weight", "method"]
table = half.groupby(keys)[["f1_rare", "f1_common", "accuracy"]].mean()
table["f1_rare_best"] = mean.groupby(keys).max()
table["at_threshold"] = [line[1][-1] for line in mean.groupby(keys).idxmax().items()]
print(table.round(3).to_string())

# %%
# Beside the paper
# ----------------
# The paper's F1 is that of the common class, for which calling all rows common has
# 93.64 already. Below are accuracy and F1 of the common class in %, as published for
# LIFT with GPT-3 (NeurIPS 2022; three splits, three settings), and ours at one half as
# the mean of five draws. Nothing is published for GPT-J.
#
# .. list-table::
#    :header-rows: 1
#
#    * - row of the paper
#      -
#      - all common
#      - LIFT
#      - best rival
#    * - 9: PizzaCutter3, 12 % rare
#      - accuracy, GPT-3
#      - 88.04
#      - 84.69 to 87.08
#      - XGBoost 90.43 (one split)
#    * -
#      - F1, GPT-3
#      - 93.64
#      - 91.49 to 92.95
#      - XGBoost 94.71 (one split)
#    * - 9: customers, 32 % rare
#      - accuracy, GPT-3
#      - 68.18
#      - 80.68 to 86.36
#      - KNN 88.64
#    * -
#      - F1, GPT-3
#      - 81.08
#      - 85.71 to 90.16
#      - KNN 91.94
#    * - 9: here, 12 % rare
#      - accuracy
#      - 87.5
#      - 95.0
#      - forest 94.2
#    * -
#      - F1
#      - 93.4
#      - 97.2
#      - forest 96.7
#    * - 9: here, 5 % rare
#      - accuracy
#      - 94.4
#      - 96.5
#      - forest 96.2
#    * -
#      - F1
#      - 97.1
#      - 98.2
#      - forest 98.0
#
# The protocols differ. The paper has tables of OpenML and fine-tunes; here the tables
# are generated, and 400 rows are read in context. So the figures can be compared with
# their own rivals and with calling all rows common, but not with each other.
