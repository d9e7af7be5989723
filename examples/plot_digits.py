"""
Can it draw one?
================

An image of a digit is a row of 64 pixels. A model of whole rows learns how likely each
pixel is after those before it. So it can draw a digit of a given class, or go on from
the upper half of one that it never saw.
"""

# %%
# A table of digits
# -----------------
# scikit-learn's digits have 8 by 8 pixels of 17 shades. The class stands in the first
# column, so that it can be given; the pixels follow line by line. The columns keep this
# order, since an image has one.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from stored import stored

from liftlearn import FineTuner, LIFTDensity, RowEncoder

images, classes = load_digits(return_X_y=True)
pixels = [f"pixel {i}" for i in range(64)]
table = pd.DataFrame(images.astype(int), columns=pixels)
table.insert(0, "digit", classes)
train, test = train_test_split(
    table, test_size=0.2, stratify=table["digit"], random_state=0
)

upper, lower = pixels[:32], pixels[32:]


def measure(steps=400, n_draws=20, n_halves=100):
    """Return drawn digits, completed ones, and the means of ten completions."""
    density = LIFTDensity(
        encoder=RowEncoder(shuffle_columns=False),
        finetuner=FineTuner(max_steps=steps),
        random_state=0,
    ).fit(train)
    given = pd.DataFrame({"digit": np.repeat(np.arange(10), n_draws)})
    drawn = density.sample(len(given), given=given, random_state=0)
    halves = test.head(n_halves)[["digit", *upper]]
    completed = [
        density.sample(len(halves), given=halves, random_state=seed)
        for seed in range(10)
    ]
    mean = completed[0].copy()
    mean[pixels] = np.mean([each[pixels] for each in completed], axis=0).round(1)
    kinds = {"drawn": drawn, "completed": completed[0], "mean of ten": mean}
    return pd.concat(kinds, names=["kind", None]).reset_index("kind")


figures = stored("digits", measure)
of_kind = dict(list(figures.groupby("kind")))

# %%
# Drawn digits
# ------------
# A logistic regression that learnt from real digits names the drawn ones.

judge = LogisticRegression(max_iter=5000).fit(train[pixels] / 16, train["digit"])
drawn = of_kind["drawn"]
right = judge.predict(drawn[pixels] / 16) == drawn["digit"]
print(
    f"real ones that are named right:  {judge.score(test[pixels] / 16, test.digit):.3f}"
)
print(f"drawn ones that are named right: {right.mean():.3f}")

# %%
# Completed digits
# ----------------
# The upper half and the class of held-out digits are given. The mean of ten draws is
# compared with the mean image of the class.

completed, mean = of_kind["completed"], of_kind["mean of ten"]
halves = test.head(len(completed))
of_class = train.groupby("digit")[lower].mean().loc[halves["digit"]].to_numpy()
truth = halves[lower].to_numpy()
for name, guess in [("completed", mean[lower]), ("mean of the class", of_class)]:
    error = np.sqrt(((np.asarray(guess) - truth) ** 2).mean())
    print(f"{name}: root mean squared error of a pixel {error:.2f} of 16")

# %%
# The picture
# -----------


def show(axis, values):
    """Draw one image."""
    axis.imshow(np.reshape(values, (8, 8)), cmap="gray_r", vmin=0, vmax=16)
    axis.set_xticks([])
    axis.set_yticks([])


figure, axes = plt.subplots(6, 10, figsize=(8, 5.6), layout="constrained")
first_of_class = halves.groupby("digit").head(1).sort_values("digit")
places = [halves.index.get_loc(i) for i in first_of_class.index]
rows = {
    "real": train.groupby("digit").head(1).sort_values("digit")[pixels].to_numpy(),
    "drawn": drawn.groupby("digit").head(1)[pixels].to_numpy(),
    "drawn again": drawn.groupby("digit").tail(1)[pixels].to_numpy(),
    "held-out": first_of_class[pixels].to_numpy(),
    "one draw of\nits lower half": completed[pixels].to_numpy()[places],
    "mean of\nten draws": mean[pixels].to_numpy()[places],
}
for line, (name, values) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axis, image in zip(line, values, strict=False):
        show(axis, image)
for line in axes[4:]:
    for axis in line:
        axis.axhline(3.5, color="tab:red", linewidth=1)
figure.suptitle("Digits, drawn pixel by pixel; below the red lines: completed")
plt.show()
