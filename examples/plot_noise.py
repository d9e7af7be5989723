"""
Is its doubt as large as the noise?
===================================

On a line, nearly: its standard deviation is off by 17 % with 200 rows and by 14 % with
1,000. A Gaussian process, which takes the noise to be the same everywhere, is off by
69 and 68 %, and a second one that learns the noise by 12 and 6 %. On a cosine of five
waves LIFT doubts too much: its deviation is 1.5 times the noise.
"""

# %%
# Noise that grows
# ----------------
# A line and a cosine of one column. The standard deviation of the noise grows from left
# to right, from .1 to .8 of the function's own, the paper's smallest and largest level.
# It is known at each place, so that what a model says of it can be checked, at 41
# places. *How sure a prediction is* shows what else a predicted distribution is good
# for.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stored import stored

from liftlearn import LIFTClassifier, LIFTRegressor

FUNCTIONS = {
    "line": (lambda x: 0.9 * x, 5.2),  # and its standard deviation
    "cosine": (lambda x: 9 * np.cos(0.5 * np.pi * x), 6.4),
}


def curve_and_noise(function, x):
    """Return the function, and the standard deviation of its noise."""
    curve, spread = FUNCTIONS[function]
    return curve(x), spread * (0.45 + 0.035 * x)


# %%
# Three other ways to a deviation
# -------------------------------
# A Gaussian process with a white kernel takes the noise to be the same everywhere. A
# second one that learns the logarithm of the first one's squared residuals does not.
# Boosting of quantiles says as much as LIFT does: half the distance of the 16 % and
# the 84 % quantile is a normal noise's standard deviation.


def process():
    """Return a Gaussian process that estimates the noise."""
    # From longer scales it does not find the waves in all draws.
    kernel = ConstantKernel() * RBF(0.2) + WhiteKernel()
    return make_pipeline(
        StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True)
    )


def deviations(X, y, X_new):
    """Return the standard deviations that the rivals predict."""
    first = process().fit(X, y)
    log_square = np.log((y - first.predict(X)) ** 2)
    # The mean of the logarithm of a squared normal number of deviation 1 is -1.27.
    learnt = np.exp((process().fit(X, log_square).predict(X_new) + 1.27) / 2)
    lower, upper = (
        HistGradientBoostingRegressor(loss="quantile", quantile=share)
        .fit(X, y)
        .predict(X_new)
        for share in (0.16, 0.84)
    )
    return {
        "Gaussian process": first.predict(X_new, return_std=True)[1],
        "two processes": learnt,
        "quantile boosting": (upper - lower) / 2,
    }


# %%
# Draws and votes
# ---------------
# LIFT in the paper draws its answers. Here 200 are drawn of each place at three
# temperatures, of numbers and of the class "above zero", whose true probability is
# known as well.
TEMPERATURES = (0.25, 0.5, 1.0)


def measure(sizes=(200, 1000), n_seeds=3, n_draws=200):
    """Return the noise along each function, and what is said of it."""
    x_new = np.linspace(-10, 10, 41)
    X_new = pd.DataFrame({"x1": x_new})
    results = []
    for function in FUNCTIONS:
        truth, noise = curve_and_noise(function, x_new)
        for size in sizes:
            for seed in range(n_seeds):
                rng = np.random.RandomState(seed)
                X = pd.DataFrame({"x1": rng.uniform(-10, 10, size)})
                curve, deviation = curve_and_noise(function, X["x1"].to_numpy())
                y = curve + deviation * rng.normal(size=size)
                lift = LIFTRegressor(random_state=seed).fit(X, y)
                sign = LIFTClassifier(n_shots="all", random_state=seed).fit(X, y > 0)
                found = {
                    "function": function, "rows": size, "seed": seed, "x": x_new,
                    "noise": noise, "above": norm.cdf(truth / noise),
                    "LIFT": lift.predict(X_new, return_std=True)[1],
                    **deviations(X, y, X_new),
                }  # fmt: skip
                for heat in TEMPERATURES:
                    options = {"temperature": heat, "random_state": seed}
                    drawn = lift.sample_y(X_new, n_draws, **options)
                    votes = sign.sample_y(X_new, n_draws, **options)
                    found[f"draws {heat}"] = drawn.std(axis=1)
                    found[f"votes {heat}"] = votes.mean(axis=1)
                results.append(pd.DataFrame(found))
    return pd.concat(results).round(3)


figures = stored("noise", measure)

# %%
# The deviation along the column
# ------------------------------
# Lines are means of three draws of the training rows, the band around LIFT reaches from
# the least of them to the greatest.
METHODS = {
    "LIFT": ("C0", "-"),
    "Gaussian process": ("0.35", ":"),
    "two processes": ("0.35", "--"),
    "quantile boosting": ("C1", "-."),
}
figure, axes = plt.subplots(2, 2, figsize=(8.5, 6.5), sharex=True, sharey="row")
for row, function in zip(axes, FUNCTIONS, strict=True):
    for ax, (size, part) in zip(
        row, figures.query("function == @function").groupby("rows"), strict=True
    ):
        along = part.groupby("x")
        ax.plot(along["noise"].mean(), "k", lw=3, alpha=0.35, label="true noise")
        for method, (color, style) in METHODS.items():
            line = along[method].mean()
            wide = 2.2 if method == "LIFT" else 1.4
            ax.plot(line, style, color=color, lw=wide, label=method)
        low, high = along["LIFT"].min(), along["LIFT"].max()
        ax.fill_between(low.index, low, high, color="C0", alpha=0.2)
        ax.set_title(f"{function}, {size:,} rows", fontsize=11)
        ax.set_ylim(0)
for ax in axes[:, 0]:
    ax.set_ylabel("standard deviation")
for ax in axes[1]:
    ax.set_xlabel("x1")
    ax.set_xticks([-10, -5, 0, 5, 10])
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="upper center", ncols=5)
figure.tight_layout(rect=(0, 0, 1, 0.95))

# %%
# The answer
# ----------
# By how many percent of the true one a deviation is off, and the mean ratio of both.
groups = [figures["function"], figures["rows"]]
ratios = figures[list(METHODS)].div(figures["noise"], axis=0)
off = 100 * (ratios - 1).abs().groupby(groups).mean()
print(off.round(0).to_string())
print(ratios.groupby(groups).mean().round(2).to_string())

# %%
# Temperatures
# ------------
# A temperature below 1 makes draws more alike. The spread of a normal number falls with
# the temperature's square root, so that only at 1 it can be the noise. On the line,
# votes are nearest to the true probability at 1. On the cosine the reader hardly finds
# the waves: its votes are off by .16 to .33.
draws = figures[[f"draws {heat}" for heat in TEMPERATURES]]
ratio = draws.div(figures["noise"], axis=0).groupby(groups).mean()
print(ratio.round(2).to_string())
wrong = [(figures[f"votes {h}"] - figures["above"]).abs() for h in TEMPERATURES]
wrong = pd.concat(wrong, axis=1, keys=TEMPERATURES).groupby(groups).mean()
print(wrong.round(3).to_string())

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 4))
looks = dict(zip(ratio.index, ["o-", "o--", "s-", "s--"], strict=True))
for (function, size), style in looks.items():
    color = "C0" if function == "line" else "C1"
    label = f"{function}, {size:,} rows"
    left.plot(TEMPERATURES, ratio.loc[function, size], style, color=color, label=label)
left.plot(TEMPERATURES, np.sqrt(TEMPERATURES), "k:", label="square root")
left.set(xlabel="temperature", ylabel="spread of draws / true noise", ylim=0)
left.legend()
of_line = figures.query("function == 'line' and rows == 1000").groupby("x")
right.plot(of_line["above"].mean(), "k", lw=3, alpha=0.35, label="true probability")
for heat, style in zip(TEMPERATURES, [":", "--", "-"], strict=True):
    votes = of_line[f"votes {heat}"].mean()
    right.plot(votes, style, color="C0", label=f"temperature {heat:g}")
right.set(xlabel="x1 of the line, 1,000 rows", ylabel='votes for "above zero"')
right.legend()
figure.tight_layout()
plt.show()

# %%
# Beside the paper
# ----------------
#
# .. list-table::
#    :header-rows: 1
#
#    * - row of LIFT (NeurIPS 2022)
#      - published
#      - here
#    * - 21: deviation of predictions with a noise of .1 to .8
#      - a picture, in which it grows with the noise
#      - on a line 1.09 and 1.12 times the noise, on a cosine 1.47 and 1.50 times
#        (200 and 1,000 rows)
#    * - 34: calibration by draws at a temperature
#      - "calibrated", no number
#      - on a line 1.06 and 1.08 times the noise at temperature 1, .47 and .48 times at
#        temperature .25
#
# In the paper each table's noise is the same everywhere, and answers are drawn at a
# temperature that was not at hand. Here the noise grows along the column. *How sure a
# prediction is* has the spread of draws at four levels of even noise.
