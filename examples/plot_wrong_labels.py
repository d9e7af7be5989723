"""
Does it believe wrong labels?
=============================

Little: with 20 % of the training labels wrong it loses 3.7 points of accuracy on new
rows, the mean of five cases. Its rivals lose 6.2 (nearest neighbours) to 19.9 (tree).
On iris systematic errors cost it more than random ones, 6.3 points against 2.0. On wine
a forest loses less, and on the network's table logistic regression does, from a lower
start.
"""

# %%
# Labels are spoilt in two ways
# -----------------------------
# A share of the training rows gets a wrong label: another class drawn at *random*, or
# *systematically* the next class, as when a form was read one line off. With two
# classes both are the same. New rows keep their true labels. The network's table is as
# on the page *Where does it draw the line?*: two columns, labelled by a network of
# random weights.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from stored import stored

from liftlearn import LIFTClassifier


def network(n_rows=600, weight=1.2):
    """Return rows labelled by a network of two hidden layers, half of them as ones."""
    rng = np.random.RandomState(7)
    first, second, last = (rng.normal(size=shape) for shape in [(2, 6), (6, 6), 6])
    shift = 3 * rng.normal(size=6)
    rows = rng.uniform(-6, 6, size=(n_rows, 2))
    output = np.tanh(2 * np.tanh(weight * (rows @ first + shift)) @ second) @ last
    return rows, (output > np.median(output)).astype(int)


def spoil(y, share, way, rng):
    """Return the labels with a share of them wrong."""
    n_classes, wrong = y.max() + 1, rng.permutation(len(y))[: round(share * len(y))]
    step = 1 if way == "systematic" else rng.randint(1, n_classes, size=len(wrong))
    spoilt = y.copy()
    spoilt[wrong] = (y[wrong] + step) % n_classes
    return spoilt


# %%
# Classifiers learn the same spoilt labels
# ----------------------------------------
# The embedded model reads the training rows in context; all classifiers have their
# defaults.

TABLES = {
    "iris": lambda: load_iris(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "network": network,
}
RIVALS = {
    "logistic regression": LogisticRegression(),
    "5 nearest neighbours": KNeighborsClassifier(),
    "tree": DecisionTreeClassifier(random_state=0),
    "forest": RandomForestClassifier(random_state=0),
}


def measure(shares=(0, 0.05, 0.1, 0.2), n_seeds=5, tables=tuple(TABLES)):
    """Return the accuracy on new rows for each table, way and share."""
    results = []
    for name in tables:
        X, y = TABLES[name]()
        ways = ["random", "systematic"] if y.max() > 1 else ["random"]
        for seed in range(n_seeds):
            X_train, X_new, y_train, y_new = train_test_split(
                X, y, test_size=0.4, stratify=y, random_state=seed
            )
            for way, share in [(way, share) for way in ways for share in shares]:
                spoilt = spoil(y_train, share, way, np.random.RandomState(seed))
                classifiers = {"LIFT": LIFTClassifier(random_state=seed)} | {
                    rival: make_pipeline(StandardScaler(), model)
                    for rival, model in RIVALS.items()
                }
                for method, classifier in classifiers.items():
                    accuracy = classifier.fit(X_train, spoilt).score(X_new, y_new)
                    results.append([name, way, share, seed, method, accuracy])
    columns = ["table", "way", "share", "seed", "method", "accuracy"]
    return pd.DataFrame(results, columns=columns).round(4)


figures = stored("wrong_labels", measure)

# %%
# The answer
# ----------
# Means of the seeds; the band around LIFT is one standard error on either side.

grouped = figures.groupby(["table", "way", "share", "method"])["accuracy"]
mean, error = 100 * grouped.mean(), 100 * grouped.sem()
print(mean.reset_index().pivot_table(
    "accuracy", ["table", "way", "share"], "method"
).round(1).to_string())  # fmt: skip
panels = list(figures.groupby(["table", "way"], sort=False).groups)
styles = dict(zip(["LIFT", *RIVALS], ["o-", "s--", "^-.", "v:", "D--"], strict=True))
figure, axes = plt.subplots(2, 3, figsize=(8.5, 6), sharex=True, sharey=True)
for ax, (table, way) in zip(axes.flat, panels, strict=False):
    for number, (method, style) in enumerate(styles.items()):
        line = mean[table, way, :, method]
        ax.plot(
            100 * line.index, line, style, color=f"C{number}", label=method,
            linewidth=2.5 if method == "LIFT" else 1.2, markersize=5,
        )  # fmt: skip
    line, band = mean[table, way, :, "LIFT"], error[table, way, :, "LIFT"]
    ax.fill_between(100 * line.index, line - band, line + band, color="C0", alpha=0.2)
    way = way if table != "network" else "two classes"
    ax.set_title(f"{table}, {way}", fontsize=11)
    ax.set_xlabel("wrong labels (% of rows)")
    ax.xaxis.set_tick_params(labelbottom=True)
for ax in axes[:, 0]:
    ax.set_ylabel("accuracy on new rows (%)")
for ax in axes.flat[len(panels) :]:
    ax.axis("off")
axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center")
figure.tight_layout()
plt.show()

# %%
# Beside the paper
# ----------------
# Accuracy in % with 0, 5 and 20 % of the labels wrong, as published for LIFT with GPT-J
# and GPT-3 (NeurIPS 2022), and ours as the mean of five splits.
#
# .. list-table::
#    :header-rows: 1
#
#    * - row of the paper
#      - GPT-J
#      - GPT-3
#      - here
#      - forest here
#    * - 6: easiest network, random
#      - 97.25, 93.75, 83.00
#      - 99.00, 97.25, 95.50
#      - not measured
#      - not measured
#    * - 6: hardest network, random
#      - 88.00, 80.00, 65.75
#      - 87.75, 85.00, 78.50
#      - 97.5, 96.8, 95.4
#      - 97.3, 95.6, 88.5
#    * - 8: iris, random
#      - not published
#      - not published
#      - 97.0, 96.3, 95.0
#      - 97.0, 95.0, 87.0
#    * - 8: iris, systematic
#      - not published
#      - not published
#      - 97.0, 96.3, 90.7
#      - 97.0, 94.7, 82.3
#    * - 8: wine, random
#      - not published
#      - not published
#      - 98.6, 98.6, 94.7
#      - 98.1, 98.6, 96.1
#    * - 8: wine, systematic
#      - not published
#      - not published
#      - 98.6, 99.2, 94.2
#      - 98.1, 98.1, 95.3
#
# The protocols differ. The paper fine-tunes, its networks' tables have 2,000 rows;
# here 90 (iris), 106 (wine) or 360 (network) rows are read in context, and our network
# has random weights, so that rows 6 can't be compared number by number. For row 8 the
# paper took tables of OpenML, and no figure of it was at hand.
