"""
Can it see that a number is even?
=================================

If it reads digits: written as they are, all unseen numbers are told even or odd, and
after a long training a cosine of period 4 is learnt with an error of .071. By default
it reads positions on a scale, and sees neither (accuracy 41 %, error 1.06). Nearest
neighbours, a Gaussian process and boosting don't, either.
"""

# %%
# Even or odd, and a cosine
# -------------------------
# Of the whole numbers from -150 to 150, 200 are learnt, and the other 101 are asked. Is
# a number even? And what is the cosine of period 4, which is 9, 0, -9, 0 for 0, 1, 2, 3
# and so on? Its training targets have a noise of a tenth of its standard deviation.
# Neighbours mislead, but the last digit tells the first, and the last two digits tell
# the second.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.gaussian_process import (
    GaussianProcessClassifier,
    GaussianProcessRegressor,
)
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from stored import stored

from liftlearn import FineTuner, LIFTClassifier, LIFTRegressor, RowEncoder

# %%
# Four ways to learn it
# ---------------------
# By default the embedded model writes a number as its position on the column's scale,
# with two digits, and moves it a little in training (jitter). ``numbers="plain"``
# writes the number itself. A rule of digits is found long after the rows are
# overfitted, if the weights are kept small: so there is a long training, with a strong
# weight decay. It is also given to positions of four digits, which tell all numbers
# apart.
WORDING = {"template": "x={x1} y=", "digits": 4, "jitter": 0}


def lifts(task, seed, n_steps):
    """Return LIFT with each way to write and to learn."""
    short = FineTuner(n_models=1)
    long = FineTuner(
        n_models=1, n_epochs=n_steps, max_steps=n_steps, learning_rate=3e-3,
        weight_decay=2.0,
    )  # fmt: skip
    plain, scaled = (
        RowEncoder(numbers=numbers, **WORDING) for numbers in ("plain", "scaled")
    )
    parts = {
        "LIFT, default": {},
        "positions, long training": {"encoder": scaled, "finetuner": long},
        "digits, default training": {"encoder": plain, "finetuner": short},
        "digits, long training": {"encoder": plain, "finetuner": long},
    }
    estimator = LIFTClassifier if task == "even" else LIFTRegressor
    return {
        name: estimator(random_state=seed, **options) for name, options in parts.items()
    }


def digits(X):
    """Return the sign, the hundreds, the tens and the ones."""
    x = np.asarray(X)
    return np.hstack([np.sign(x), *(abs(x) // ten % 10 for ten in (100, 10, 1))])


def rivals(task, seed):
    """Return other models; the last one is given the digits as columns."""
    kernel = ConstantKernel() * RBF()
    if task == "even":
        process = GaussianProcessClassifier(kernel, random_state=seed)
        neighbours, boosting = KNeighborsClassifier(), GradientBoostingClassifier
    else:
        process = GaussianProcessRegressor(
            kernel + WhiteKernel(),
            normalize_y=True,
            n_restarts_optimizer=3,
            random_state=seed,
        )
        neighbours, boosting = KNeighborsRegressor(), GradientBoostingRegressor
    return {
        "5 nearest neighbours": neighbours,
        "Gaussian process": make_pipeline(StandardScaler(), process),
        "boosting": boosting(random_state=seed),
        "boosting of digits": make_pipeline(
            FunctionTransformer(digits), boosting(random_state=seed)
        ),
    }


def measure(steps=None, n_seeds=2):
    """Return what each model says of each unseen number: a probability or a value."""
    results = []
    for task, n_steps in (steps or {"even": 300, "cosine": 2000}).items():
        for seed in range(n_seeds):
            rng = np.random.RandomState(seed)
            x = rng.permutation(np.arange(-150, 151))
            truth = x % 2 == 0 if task == "even" else 9 * np.cos(0.5 * np.pi * x)
            X, y = pd.DataFrame({"x1": x}), truth
            if task == "cosine":
                y = truth + 0.1 * truth.std() * rng.normal(size=len(x))
            found = {"task": task, "seed": seed, "x": x[200:], "truth": truth[200:]}
            models = lifts(task, seed, n_steps) | rivals(task, seed)
            for name, model in models.items():
                model.fit(X[:200], y[:200])
                if task == "even":
                    found[name] = model.predict_proba(X[200:])[:, 1]
                else:
                    found[name] = model.predict(X[200:])
            found["truth"] = found["truth"].astype(float)
            results.append(pd.DataFrame(found))
    return pd.concat(results).round(3)


figures = stored("integers", measure)

# %%
# The answer
# ----------
# Accuracy in percent, and the relative absolute error (RAE) of the cosine. Who asks the
# neighbours of an unseen number is often wrong: those of an even one are odd. Boosting
# that is given digits as columns sees the last one at once, but not the rule of the
# last two. Who knows the period would rather add the remainder as a column.
METHODS = list(figures.columns[4:])
scores = []
for (task, seed), asked in figures.groupby(["task", "seed"]):
    truth = asked["truth"]
    for method in METHODS:
        if task == "even":
            score = 100 * ((asked[method] > 0.5) == (truth == 1)).mean()
        else:
            off = (asked[method] - truth).abs().sum()
            score = off / (truth - truth.mean()).abs().sum()
        scores.append([task, seed, method, score])
scores = pd.DataFrame(scores, columns=["task", "seed", "method", "score"])
means = scores.pivot_table("score", "method", "task").loc[METHODS]
print(means.round(3).to_string())

figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
places = np.arange(len(METHODS))
for ax, task in zip(axes, ("even", "cosine"), strict=True):
    ours = ["C0" if "LIFT" in m or "training" in m else "0.6" for m in METHODS]
    ax.barh(places, means[task], color=ours, alpha=0.6)
    for _, draw in scores[scores["task"] == task].groupby("seed"):
        ax.plot(draw["score"], places, "k.", markersize=5)
axes[0].set_yticks(places, METHODS)
axes[0].invert_yaxis()
axes[0].axvline(50, color="k", ls=":")
axes[0].set(xlabel="accuracy (%)", title="even or odd", xlim=(0, 103))
axes[1].axvline(1, color="k", ls=":")
axes[1].set(xlabel="relative absolute error", title="cosine of period 4")
figure.suptitle("unseen whole numbers; dotted: guessing", fontsize=11)
figure.tight_layout()

# %%
# What it says of unseen numbers
# ------------------------------
# The first draw of the cosine, thirty numbers around zero.
figure, ax = plt.subplots(figsize=(9, 3.6))
near = figures.query("task == 'cosine' and seed == 0 and x.abs() < 45").sort_values("x")
ax.plot(near["x"], near["truth"], "o", color="0.6", mfc="none", ms=9, label="truth")
ax.plot(near["x"], near["digits, long training"], "C0o", ms=5, label="LIFT, digits")
ax.plot(near["x"], near["positions, long training"], "C1x", label="LIFT, positions")
ax.plot(near["x"], near["Gaussian process"], ":", color="0.4", label="Gaussian process")
ax.set(xlabel="x1, a whole number", ylabel="cosine")
figure.legend(loc="upper center", ncols=4)
figure.tight_layout(rect=(0, 0, 1, 0.92))
plt.show()

# %%
# Beside the paper
# ----------------
# Relative absolute error of the cosine of period 4 on whole numbers from -150 to 150.
#
# .. list-table::
#    :header-rows: 1
#
#    * - row of the paper
#      - GPT-J
#      - GPT-3
#      - best of its rivals
#      - here
#    * - 20, 22: cosine of whole numbers
#      - .647
#      - .064
#      - Gaussian process .581
#      - .071 (default .743 on digits, 1.06 else), Gaussian process .979
#    * - even or odd
#      - not published
#      - not published
#      - not published
#      - 100 %, boosting of digits 100 %, Gaussian process 54 %
#
# The paper writes digits, too. Its figures leave out the worst errors, ours leave out
# nothing. In the benchmark *Synthetic functions* three members have .078, on rows that
# are drawn one by one, so that some new numbers were seen; here none was.
