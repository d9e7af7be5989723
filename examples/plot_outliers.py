"""
Do far outliers move it?
========================

Little: with 5 % outliers its error on a line is .054, with none .052, and on a cosine
.156 after .150. With 20 % it is .108 and .266, where ridge regression, a Gaussian
process and boosting have .52 to .57. Huber regression, which is made for outliers,
stays far below LIFT, at .026 and .068.
"""

# %%
# A line and a cosine, and rows that lie far off
# ----------------------------------------------
# 200 rows follow a function of one column, with a noise of a tenth of its standard
# deviation. Outliers are added: rows anywhere along the column, whose target is the
# size of a normal number of standard deviation 20. So they pull upwards only, up to
# five times as far as the function goes. The function itself is asked at 101 places.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import HuberRegressor, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler
from stored import stored

from liftlearn import LIFTRegressor

FUNCTIONS = {
    "line": lambda x: 0.9 * x,
    "cosine": lambda x: 9 * np.cos(0.5 * np.pi * x),
}


def draw(function, share, seed, n_train=200):
    """Return the column and the target of the training rows, outliers last."""
    rng = np.random.RandomState(seed)
    x = rng.uniform(-10, 10, n_train)
    y = FUNCTIONS[function](x)
    y = y + 0.1 * y.std() * rng.normal(size=n_train)
    n_outliers = round(share * n_train)
    far = np.abs(rng.normal(0, 20, n_outliers))
    x = np.concatenate([x, rng.uniform(-10, 10, n_outliers)])
    return pd.DataFrame({"x1": x}), np.concatenate([y, far])


# %%
# Models that square errors, and models that don't
# ------------------------------------------------
# Ridge regression, the Gaussian process and gradient boosting fit means, which
# outliers move. Huber regression and boosting of absolute errors are meant for
# outliers. The linear models see the column itself for the line, and its splines for
# the cosine. LIFT has its defaults: it predicts a whole distribution for each row, and
# the answer is the median. Its mean is shown, too.


def rivals(function, seed):
    """Return the models to compare with."""
    # From longer scales it does not find the waves in all draws.
    kernel = ConstantKernel() * RBF(0.2) + WhiteKernel()
    process = GaussianProcessRegressor(kernel, normalize_y=True)

    def linear(model):
        splines = [SplineTransformer(30)] if function == "cosine" else []
        return make_pipeline(*splines, StandardScaler(), model)

    return {
        "ridge": linear(RidgeCV(np.logspace(-3, 3, 7))),
        "Huber": linear(HuberRegressor(max_iter=10_000)),
        "Gaussian process": make_pipeline(StandardScaler(), process),
        "boosting": GradientBoostingRegressor(random_state=seed),
        "boosting, absolute": GradientBoostingRegressor(
            loss="absolute_error", random_state=seed
        ),
    }


def measure(functions=tuple(FUNCTIONS), shares=(0, 0.02, 0.05, 0.1, 0.2), n_seeds=3):
    """Return what each model predicts along the column."""
    x = np.linspace(-10, 10, 101)
    X_new = pd.DataFrame({"x1": x})
    results = []
    for function in functions:
        for share in shares:
            for seed in range(n_seeds):
                X, y = draw(function, share, seed)
                lift = LIFTRegressor(random_state=seed).fit(X, y)
                answer = lift.predict_distribution(X_new)
                predicted = {"LIFT": answer.median, "LIFT, mean": answer.mean} | {
                    name: model.fit(X, y).predict(X_new)
                    for name, model in rivals(function, seed).items()
                }
                where = {"function": function, "share": share, "seed": seed, "x": x}
                results.append(pd.DataFrame(where | predicted))
    return pd.concat(results).round(2)


figures = stored("outliers", measure)

# %%
# The fits
# --------
# The first of three draws. Outliers above 30 are not shown.
METHODS = list(figures.columns[4:])
LOOKS = {
    "LIFT": ("C0", "-"),
    "Huber": ("C1", "--"),
    "Gaussian process": ("0.35", ":"),
    "boosting": ("C2", "-"),
}
figure, axes = plt.subplots(2, 3, figsize=(9, 6), sharex=True, sharey=True)
for row, function in zip(axes, FUNCTIONS, strict=True):
    for ax, share in zip(row, (0, 0.05, 0.2), strict=True):
        X, y = draw(function, share, 0)
        ax.plot(X["x1"], y, ".", color="0.75", markersize=4, zorder=0)
        fit = figures.query("function == @function and share == @share and seed == 0")
        for method, (color, style) in LOOKS.items():
            wide = 2.4 if method == "LIFT" else 1.4
            ax.plot(fit["x"], fit[method], style, color=color, lw=wide, label=method)
        ax.set_title(f"{function}, {share:.0%} outliers", fontsize=11)
        ax.set_ylim(-13, 30)
for ax in axes[:, 0]:
    ax.set_ylabel("target")
for ax in axes[1]:
    ax.set_xlabel("x1")
handles = axes[0, 0].get_legend_handles_labels()
figure.legend(*handles, loc="upper center", ncols=4)
figure.tight_layout(rect=(0, 0, 1, 0.94))

# %%
# The answer
# ----------
# The relative absolute error of each fit, its mean over three draws and the draws as
# dots. LIFT's median moves far less than its mean, which moves as those of the others:
# the outliers are in its distribution, as they are in the rows. Up to 2 % ridge
# regression and the Gaussian process are better than LIFT, too, and on the cosine up to
# 5 %.
errors = []
for (function, share, seed), fit in figures.groupby(["function", "share", "seed"]):
    truth = FUNCTIONS[function](fit["x"].to_numpy())
    spread = np.abs(truth - truth.mean()).sum()
    for method in METHODS:
        error = np.abs(fit[method] - truth).sum() / spread
        errors.append([function, share, seed, method, error])
errors = pd.DataFrame(errors, columns=["function", "share", "seed", "method", "rae"])
means = errors.pivot_table("rae", ["function", "share"], "method")[METHODS]
print(means.round(3).to_string())

looks = {
    "LIFT": ("C0", "o-"),
    "LIFT, mean": ("C0", "o:"),
    "ridge": ("C3", "v:"),
    "Huber": ("C1", "s--"),
    "Gaussian process": ("0.35", "^:"),
    "boosting": ("C2", "D-"),
    "boosting, absolute": ("C4", "D--"),
}
figure, axes = plt.subplots(1, 2, figsize=(9, 4.4), sharey=True)
for ax, function in zip(axes, FUNCTIONS, strict=True):
    for method, (color, style) in looks.items():
        line = means.loc[function, method]
        ax.plot(100 * line.index, line, style, color=color, label=method, markersize=5)
        of_method = errors.query("function == @function and method == @method")
        ax.plot(
            100 * of_method["share"], of_method["rae"], ".", color=color, alpha=0.4
        )  # fmt: skip
    ax.set(title=function, xlabel="outliers (% of 200 rows)", yscale="log")
    ax.set_xticks([0, 2, 5, 10, 20])
axes[0].set_ylabel("relative absolute error")
axes[0].set_yticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=4)
figure.tight_layout(rect=(0, 0.13, 1, 1))
plt.show()

# %%
# Beside the paper
# ----------------
# Relative absolute error, published for LIFT with GPT-J and GPT-3 (NeurIPS 2022).
#
# .. list-table::
#    :header-rows: 1
#
#    * - row of the paper
#      - GPT-J
#      - GPT-3
#      - best of its rivals
#      - here
#    * - 26: line, 2 % outliers
#      - .070
#      - .068
#      - neural network .102
#      - .055, Huber .010
#    * - 26: cosine, 2 % outliers
#      - .359
#      - .489
#      - kernel ridge .235
#      - .152, Huber .044
#    * - 26: 10 and 20 %
#      - above 1 to 2
#      - .06 to .2, a picture
#      - 3 and 5 neighbours low, a picture
#      - line .072, .108; cosine .187, .266
#
# The noise, the outliers and the count of rows are the paper's. The published figures
# leave out the worst errors, ours leave out nothing. The paper asks 100 random places,
# we 101 even ones. Its rivals square errors, but for the median of neighbours.
