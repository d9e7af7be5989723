"""
Where does it draw the line?
============================

About where a neural network does: the two say the same at 93.3 % of the points around
seven tables. An RBF-SVM (93.0 %) and nearest neighbours (92.7 %) are as near to LIFT, a
tree (88.0 %) is farther off. On new rows LIFT is six points below the best rival at two
circles, and at most one point below it at the other tables.
"""

# %%
# Seven tables of two columns
# ---------------------------
# Five are the LIFT paper's own: nine Gaussians, blobs, circles, moons, and two pairs of
# circles whose classes are swapped. The last two are labelled by a network of random
# weights, as the paper's were by a trained one. Greater weights bend its boundary more.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from sklearn.datasets import make_blobs, make_circles, make_moons
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from stored import stored

from liftlearn import LIFTClassifier


def nine_clusters(n_rows, rng):
    """Return rows around the points of a grid, with the point of each."""
    cluster = rng.randint(9, size=n_rows)
    centres = 10 * np.column_stack([cluster // 3 - 1, cluster % 3 - 1])
    return centres + np.sqrt(0.1) * rng.normal(size=(n_rows, 2)), cluster


def two_circles(n_rows, rng):
    """Return two pairs of circles. In the right one the classes are swapped."""
    rows, ring = make_circles(n_rows, factor=0.8, noise=0.1, random_state=rng)
    right = rng.randint(2, size=n_rows)
    rows[:, 0] += 3 * right
    return rows, ring ^ right


def network(n_rows, rng, weight):
    """Return rows labelled by a network of two hidden layers, half of them as ones."""
    fixed = np.random.RandomState(7)
    first, second, last = (fixed.normal(size=shape) for shape in [(2, 6), (6, 6), 6])
    rows = rng.uniform(-6, 6, size=(n_rows, 2))
    hidden = np.tanh(weight * rows @ first + weight * 3 * fixed.normal(size=6))
    output = np.tanh(2 * hidden @ second) @ last
    return rows, (output > np.median(output)).astype(int)


TABLES = {
    "9 clusters": nine_clusters,
    "blobs": lambda n, rng: make_blobs(
        n, centers=make_blobs(centers=4, random_state=123, return_centers=True)[2],
        random_state=rng,
    ),
    "circles": lambda n, rng: make_circles(n, factor=0.8, noise=0.1, random_state=rng),
    "moons": lambda n, rng: make_moons(n, noise=0.1, random_state=rng),
    "two circles": two_circles,
    "easy network": lambda n, rng: network(n, rng, 0.1),
    "hard network": lambda n, rng: network(n, rng, 1.2),
}  # fmt: skip

# %%
# Classifiers learn the same rows
# -------------------------------
# The embedded model reads 400 rows in context, and no parameter is changed. Its rivals
# have scikit-learn's defaults. Each one predicts new rows of the same kind, and every
# point of a grid: where two classifiers agree there, they draw alike lines.

RIVALS = {
    "logistic regression": LogisticRegression(),
    "tree": DecisionTreeClassifier(random_state=0),
    "forest": RandomForestClassifier(random_state=0),
    "3 nearest neighbours": KNeighborsClassifier(3),
    "RBF-SVM": SVC(),
    "neural network": MLPClassifier((100, 100), max_iter=1000, random_state=0),
}


def measure(n_rows=400, n_new=400, n_seeds=3, side=24, tables=tuple(TABLES)):
    """Return accuracy, agreement with LIFT on a grid, and the grid in letters."""
    results = []
    for name in tables:
        for seed in range(n_seeds):
            rng = np.random.RandomState(seed)
            rows, labels = TABLES[name](n_rows + n_new, rng)
            X, y, X_new, y_new = (
                rows[:n_rows], labels[:n_rows], rows[n_rows:], labels[n_rows:]
            )  # fmt: skip
            sides = (np.linspace(*column, side) for column in _limits(rows))
            grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
            classifiers = {"LIFT": LIFTClassifier(random_state=seed)} | {
                rival: make_pipeline(StandardScaler(), model)
                for rival, model in RIVALS.items()
            }
            for method, classifier in classifiers.items():
                classifier.fit(X, y)
                answers = classifier.predict(np.concatenate([X_new, grid]))
                accuracy = np.mean(answers[:n_new] == y_new)
                drawn = answers[n_new:]
                if method == "LIFT":
                    lift = drawn
                letters = "".join("abcdefghi"[label] for label in drawn)
                results.append(
                    [name, seed, method, round(accuracy, 4),
                     round(np.mean(drawn == lift), 4), letters, *_limits(rows).ravel()]
                )  # fmt: skip
    columns = ["table", "seed", "method", "accuracy", "agreement", "map"]
    columns += ["left", "right", "bottom", "top"]
    return pd.DataFrame(results, columns=columns).round(3)


def _limits(rows):
    """Return the least and greatest value of each column, with a margin."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    return np.column_stack([low - 0.05 * (high - low), high + 0.05 * (high - low)])


figures = stored("boundaries", measure)

# %%
# The lines
# ---------
# Each picture shows what one classifier says of the points of the grid, after the rows
# of the first seed. The number below is its accuracy on new rows.

shown = ["LIFT", "tree", "3 nearest neighbours", "RBF-SVM", "neural network"]
first = figures[figures["seed"] == 0].set_index(["table", "method"])
tables = list(figures["table"].unique())
colours = ListedColormap(plt.get_cmap("tab20")([0, 2, 16, 14, 6, 18, 8, 1, 3]))
figure, axes = plt.subplots(len(tables), len(shown), figsize=(8.5, 12))
for line, table in zip(axes, tables, strict=True):
    for ax, method in zip(line, shown, strict=True):
        of_one = first.loc[(table, method)]
        classes = np.array([ord(letter) - ord("a") for letter in of_one["map"]])
        side = int(np.sqrt(len(classes)))
        ax.imshow(
            classes.reshape(side, side), origin="lower", aspect="auto", cmap=colours,
            vmin=0, vmax=8, extent=list(of_one[["left", "right", "bottom", "top"]]),
        )  # fmt: skip
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(f"{of_one['accuracy']:.1%}", fontsize=10)
    line[0].set_ylabel(table, fontsize=10)
for ax, method in zip(axes[0], shown, strict=True):
    ax.set_title(method.replace("nearest ", "nearest\n"), fontsize=10)
figure.tight_layout()
plt.show()

# %%
# Whom it resembles
# -----------------
# Points of the grid where a rival says the same as LIFT, mean of all tables and seeds.

rivals = figures[figures["method"] != "LIFT"]
agreement = rivals.pivot_table("agreement", "method", "seed")
agreement = agreement.loc[agreement.mean(axis=1).sort_values().index]
mean = figures.pivot_table("accuracy", "table", "method")
print((100 * mean).round(1).to_string())
print((100 * agreement.mean(axis=1)).round(1).to_string())

figure, ax = plt.subplots(figsize=(7, 3.2))
ax.barh(agreement.index, 100 * agreement.mean(axis=1), color="C0")
for row, values in enumerate(agreement.to_numpy()):
    ax.plot(100 * values, [row] * len(values), "k.", clip_on=False)
ax.set(xlabel="points of the grid with LIFT's class (%; dots: seeds)", xlim=(0, 100))
figure.tight_layout()
plt.show()

# %%
# Beside the paper
# ----------------
# Accuracy in %, as published for LIFT with GPT-J and GPT-3 (NeurIPS 2022), and ours as
# the mean of three seeds.
#
# .. list-table::
#    :header-rows: 1
#
#    * - row of the paper
#      - GPT-J
#      - GPT-3
#      - here
#      - best rival here
#    * - 1: nine clusters
#      - 99.75
#      - 100.00
#      - 100.0
#      - 100.0, all of them
#    * - 1: blobs
#      - 96.17
#      - 96.67
#      - 95.7
#      - 95.8 (neural network)
#    * - 1: circles
#      - 79.95
#      - 81.17
#      - 82.0
#      - 82.6 (neural network)
#    * - 1: moons
#      - 99.58
#      - 100.00
#      - 99.6
#      - 100.0 (3 nearest neighbours)
#    * - 1: two circles
#      - 75.92
#      - 81.42
#      - 74.4
#      - 80.3 (neural network)
#    * - 5: boundaries
#      - pictures
#      - pictures
#      - pictures
#      -
#    * - 6: easy network
#      - 97.25
#      - 99.00
#      - 98.8
#      - 99.6 (neural network)
#    * - 6: hard network
#      - 88.00
#      - 87.75
#      - 97.3
#      - 98.3 (neural network)
#    * - 10: resemblance
#      - not published
#      - not published
#      - 93.3 (neural network)
#      -
#
# The protocols differ. The paper has 2,000 rows of a table and fine-tunes on them; here
# 400 are read in context. The rows of the first five tables are drawn anew by the same
# formulas, with other seeds. The paper's networks were trained, for 10 and for 490
# epochs; ours have random weights, so that rows 6 can't be compared number by number.
# For row 10 the paper fine-tunes on labels that a rival gave; here both learn the same
# true labels, and their answers are compared over the whole grid, which reaches beyond
# the rows. Label noise of row 6 is on the page *Does it believe wrong labels?*
