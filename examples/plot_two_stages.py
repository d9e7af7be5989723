"""
Does a first stage without labels help?
=======================================

Labels are dear, rows are not. LIFT therefore tunes in two stages: first on *pretext*
tables, whose answers cost nothing, then on the few labelled rows. With
``warm_start=True`` a second `fit` goes on from the weights of the first one. What is it
worth on ten labelled rows?
"""

# %%
# Tables whose answers cost nothing
# ---------------------------------
# The rows are those of four blobs. Clusters of unlabelled rows are a pretext: which of
# them is called what is drawn anew for each table, since the classes' names will be
# others, too.
import copy
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.model_selection import train_test_split
from stored import stored
from transformers import AutoModelForCausalLM

from liftlearn import FineTuner, LanguageModel, LIFTClassifier

rows, blob = make_blobs(1000, centers=4, random_state=123)
X = pd.DataFrame(rows, columns=["x1", "x2"])
y = np.array(["north", "east", "south", "west"])[blob]
X_rest, X_test, y_rest, y_test = train_test_split(X, y, test_size=300, random_state=0)


def cluster_tables(X, n_tables, n_clusters, rng, n_rows=200):
    """Yield some of the rows with the cluster of each, under names drawn at random."""
    for _ in range(n_tables):
        some = X.sample(n_rows, random_state=rng)
        means = KMeans(n_clusters, n_init=1, random_state=rng.randint(2**31))
        yield some, rng.permutation(n_clusters)[means.fit_predict(some)]


# %%
# Two models to begin with
# ------------------------
# The embedded model was pretrained on many synthetic tables, a pretext stage of its
# own: one table of the new rows is enough for it. The same architecture with
# random weights has never met a table.


def random_weights():
    """Return a folder with the embedded model's architecture, and no pretraining."""
    embedded, folder = LanguageModel.load(), tempfile.mkdtemp()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(copy.deepcopy(embedded.model.config))
    LanguageModel(model, embedded.tokenizer).save(folder)
    return folder


def first_stage(model, n_tables, n_steps, rng):
    """Return a classifier that was tuned on pretext tables, one after another."""
    tuner = FineTuner(n_epochs=n_steps, max_steps=n_steps, n_models=1)
    classifier = LIFTClassifier(model, finetuner=tuner, warm_start=True)
    for table, clusters in cluster_tables(X_rest, n_tables, 4, rng):
        classifier.set_params(random_state=rng.randint(2**31)).fit(table, clusters)
    return classifier


# %%
# Ten labelled rows, many times
# -----------------------------
# Each draw of ten labelled rows is learnt alone and after a first stage. Four draws in
# turn go on from copies of one first stage, then a new one is made.


def measure(n_draws=20, n_steps=60):
    """Return the accuracy of each start, way and draw of ten rows."""
    second = FineTuner(max_steps=n_steps, n_models=1)
    # The model, the number of pretext tables, and the steps on each
    starts = {
        "pretrained": (None, 1, 2 * n_steps),
        "random weights": (random_weights(), 4, n_steps),
    }
    results = []
    for name, (model, *stage) in starts.items():
        for draw in range(n_draws):
            if draw % 4 == 0:
                rng = np.random.RandomState(draw)
                staged = first_stage(model, *stage, rng).set_params(finetuner=second)
            X_few, _, y_few, _ = train_test_split(
                X_rest, y_rest, train_size=10, stratify=y_rest, random_state=draw
            )
            ways = {
                "ten rows alone": LIFTClassifier(model, finetuner=second),
                "after clusters": copy.deepcopy(staged),
            }
            for way, classifier in ways.items():
                classifier.set_params(random_state=draw).fit(X_few, y_few)
                results.append([name, way, draw, classifier.score(X_test, y_test)])
    return pd.DataFrame(results, columns=["model", "way", "draw", "accuracy"])


figures = stored("two_stages", measure)

# %%
# The answer
# ----------

scores = figures.pivot_table("accuracy", ["model", "draw"], "way")
scores = scores[["ten rows alone", "after clusters"]]
print(scores.groupby("model").agg(["mean", "std"]).round(3).to_string())
gain = scores["after clusters"] - scores["ten rows alone"]
by_model = gain.groupby("model")
error = by_model.std() / np.sqrt(by_model.size())
for name, mean in by_model.mean().items():
    print(f"{name}: gain {mean:+.3f}, standard error {error[name]:.3f}")

figure, axes = plt.subplots(1, 2, figsize=(8, 3.5), sharey=True)
for ax, name in zip(axes, ["pretrained", "random weights"], strict=True):
    of_model = scores.loc[name]
    for draw in of_model.to_numpy():
        ax.plot([0, 1], draw, color="0.8", marker="o", markersize=3)
    ax.plot([0, 1], of_model.mean(), color="C0", marker="o", label="mean")
    ax.set(title=name, xticks=[0, 1], xlim=(-0.3, 1.3), xticklabels=of_model.columns)
axes[0].set_ylabel("accuracy")
axes[0].legend()
figure.tight_layout()
