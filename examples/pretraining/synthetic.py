"""Random tables to pretrain on: a random stream goes in, tables come out.

A table is drawn from the inside out. Its *latent* columns are correlated continuous
numbers; each is then *shown* as one kind of column (a skewed number, a count, a
category, a date, a text, ...), and the target is a simple, slightly noisy function of
what the shown columns still tell of the latent ones. So most tables can be learnt, as
the data sets that people collect can: from a handful of the columns, by a function of
low complexity. Three ways to the target take turns: a function of the columns, clusters
that belong to classes, and a node of a random causal graph that also made the columns.

It and `shown` may import numpy, pandas and the standard library alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from shown import WIDE, bins, rescale, show_columns, standard

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Task = Literal["classification", "regression"]
T = TypeVar("T")


@dataclass(frozen=True)
class SyntheticTable:
    """One table with its target.

    Attributes
    ----------
    X : DataFrame of shape (n_rows, n_columns)
        Columns of floats, integers, booleans, strings, ordered categories and dates;
        cells may be missing.
    y : ndarray of shape (n_rows,)
        Classes ``0 .. n_classes - 1``, each on two rows or more, or floats.
    task : {"classification", "regression"}
        What `y` holds.
    """

    X: pd.DataFrame
    y: NDArray[np.int64] | NDArray[np.float64]
    task: Task


def draw_table(
    rng: np.random.Generator,
    *,
    n_rows: int | None = None,
    max_rows: int = 1000,
    wide: bool = False,
    n_columns: int | None = None,
    plain: bool = False,
    noisy: bool = False,
) -> SyntheticTable:
    """Draw a table from the prior.

    Parameters
    ----------
    rng : Generator
        The only source of chance.
    n_rows : int, default=None
        The number of rows, at least 20. None draws it, too.
    max_rows : int, default=1000
        The largest number of rows that is drawn, at least 20.
    wide : bool, default=False
        Whether the table has 17 to 220 columns, and often many classes.
    n_columns : int, default=None
        The number of columns. None draws it, too.
    plain : bool, default=False
        Whether all columns are numbers, booleans or categories: no text, no date.
    noisy : bool, default=False
        Whether the target is mostly noise, as whether a loan will be paid back.

    Returns
    -------
    table : SyntheticTable
        1 to 100 columns, or the many of a wide one; five of eight tables are
        classifications, and of wide ones four of five.

    Examples
    --------
    >>> import numpy as np
    >>> table = draw_table(np.random.default_rng(5), max_rows=50)
    >>> len(table.X) == len(table.y) <= 50
    True
    """
    if n_rows is None:
        n_rows = int(min(max_rows, 20 * 50 ** rng.beta(2, 1.2)))
    noise = np.exp(rng.uniform(np.log(0.4), np.log(3))) if noisy else 0.0
    while True:
        width = n_columns or _draw_n_columns(rng, wide)
        if rng.random() < (0.2 if wide else 0.375):
            X, y = _regression(rng, n_rows, width, plain, noise)
            return SyntheticTable(X, y, "regression")
        X, labels = _classification(rng, n_rows, width, plain, noise)
        # A target that a rare threshold left with one class is drawn anew.
        if (classes := _common_classes(rng, labels)).any():
            return SyntheticTable(X, classes, "classification")


def _draw_n_columns(rng: np.random.Generator, wide: bool) -> int:
    if wide:
        return int(np.exp(rng.uniform(np.log(WIDE + 1), np.log(221))))
    if rng.random() < 0.2:  # the narrow tables that texts come in
        return int(rng.integers(1, 5))
    return int(np.clip(np.exp(rng.normal(np.log(9), 0.9)), 1, 100))


# --- the two tasks --------------------------------------------------------------------


def _classification(
    rng: np.random.Generator, n_rows: int, n_columns: int, plain: bool, noise: float
) -> tuple[pd.DataFrame, Integers]:
    """Draw columns and labels, by one of the three ways."""
    many = 0.45 if n_columns > WIDE else 0.15
    n_classes = min(_draw_n_classes(rng, many), max(2, n_rows // 6))
    # Above ten classes, only clusters and prototypes give each its own place.
    if n_columns > WIDE and rng.random() < 0.15:
        return _curves(rng, n_rows, n_columns - 2)  # level and size come beside
    if rng.random() < 0.3:
        latent, labels = _class_clusters(rng, n_rows, n_columns, n_classes)
        # Far from all others, a cluster is told in spite of much noise.
        blurred = latent + 0.7 * noise * rng.normal(size=latent.shape)
        X, _ = show_columns(rng, standard(blurred), plain)
    elif rng.random() < 0.2 and n_classes <= 10:
        nodes = _causal_nodes(rng, n_rows, n_columns + n_classes)
        X, _ = show_columns(rng, nodes[:, n_classes:], plain)
        labels = _label(rng, _blurred(rng, nodes[:, :n_classes], noise))
    else:
        X, seen = show_columns(rng, _draw_latent(rng, n_rows, n_columns), plain)
        function = _prototypes if n_classes > 10 else _choose(rng, FUNCTIONS)
        scores = standard(function(rng, _relevant(rng, seen), n_classes))
        labels = _label(rng, _blurred(rng, scores, noise))
    if rng.random() < 0.4:
        flipped = rng.random(n_rows) < rng.uniform(0, 0.15)
        labels = np.where(flipped, rng.permutation(labels), labels)
    return X, labels


def _blurred(rng: np.random.Generator, scores: Floats, noise: float) -> Floats:
    """Add noise to standardised scores."""
    return standard(scores + noise * rng.normal(size=scores.shape)) if noise else scores


def _regression(
    rng: np.random.Generator, n_rows: int, n_columns: int, plain: bool, blur: float
) -> tuple[pd.DataFrame, Floats]:
    """Draw columns and a target, from a function of them or a causal graph."""
    if rng.random() < 0.2:
        nodes = _causal_nodes(rng, n_rows, n_columns + 1)
        X, seen = show_columns(rng, nodes[:, 1:], plain)
        score = nodes[:, 0]
    else:
        X, seen = show_columns(rng, _draw_latent(rng, n_rows, n_columns), plain)
        score = _choose(rng, FUNCTIONS)(rng, _relevant(rng, seen), 1)[:, 0]
    noise = rng.normal(size=n_rows) * (blur or max(0.0, rng.uniform(-0.15, 0.5)))
    if rng.random() < 0.15:
        noise *= np.exp(0.6 * seen[:, rng.integers(n_columns)])
    return X, _shape_target(rng, standard(standard(score) + noise))


def _draw_n_classes(rng: np.random.Generator, many: float) -> int:
    """Draw a number of classes: often 2, else 3 to 10, or at that rate up to 160."""
    if rng.random() < 0.35:
        return 2
    low, high = (11, 161) if rng.random() < many else (3, 11)
    return int(np.exp(rng.uniform(np.log(low), np.log(high))))


def _label(rng: np.random.Generator, scores: Floats) -> Integers:
    """Turn one standardised score per class into labels, by bins or by the largest."""
    n_classes = scores.shape[1]
    if n_classes == 2 or (n_classes <= 7 and rng.random() < 0.35):
        share = rng.dirichlet(np.full(n_classes, rng.choice([2.0, 8.0, 40.0])))
        return bins(scores[:, 0], share)
    imbalance = rng.choice([0.0, 0.3, 0.8])
    return (scores + imbalance * rng.normal(size=n_classes)).argmax(axis=1)


def _common_classes(rng: np.random.Generator, labels: Integers) -> Integers:
    """Join classes of a single row to the largest and number the rest at random."""
    _, place, count = np.unique(labels, return_inverse=True, return_counts=True)
    place = np.where(count[place] < 2, count.argmax(), place)
    kept, place = np.unique(place, return_inverse=True)
    return rng.permutation(len(kept))[place]


def _shape_target(rng: np.random.Generator, score: Floats) -> Floats:
    """Give a standardised score the distribution and the unit of a real target."""
    shape = rng.choice(
        ["plain", "skewed", "count", "bimodal", "bounded", "rounded"],
        p=[0.4, 0.2, 0.12, 0.08, 0.12, 0.08],
    )
    if shape == "skewed":
        score = np.exp(np.minimum(rng.uniform(0.3, 1.2) * score, 6.0))
    elif shape == "count":
        rate = np.exp(np.minimum(rng.uniform(0, 3) + rng.uniform(0.3, 1) * score, 7.0))
        return np.floor(rate) if rng.random() < 0.6 else rng.poisson(rate).astype(float)
    elif shape == "bimodal":
        score = score + rng.uniform(1, 4) * (score > rng.normal(0, 0.5))
    elif shape == "bounded":
        score = np.clip(score, *np.sort(rng.uniform([-2.5, 0.5], [-0.5, 2.5])))
    elif shape == "rounded":
        score = np.round(score * rng.uniform(1, 8))
    return rescale(rng, score)


# --- latent columns -------------------------------------------------------------------


def _draw_latent(rng: np.random.Generator, n_rows: int, n_columns: int) -> Floats:
    """Draw latent columns: independent, of common factors, in clusters or causal."""
    kind = rng.choice(["free", "factors", "clusters", "causal"], p=[0.3, 0.4, 0.1, 0.2])
    if kind == "causal":
        return _causal_nodes(rng, n_rows, n_columns)
    if kind == "free":
        return rng.normal(size=(n_rows, n_columns))
    if kind == "clusters":
        n_clusters = int(rng.integers(2, 9))
        latent, _ = _class_clusters(rng, n_rows, n_columns, n_clusters)
        return latent
    return standard(_correlated(rng, n_rows, n_columns))


def _correlated(rng: np.random.Generator, n_rows: int, n_columns: int) -> Floats:
    """Draw Gaussian columns that share some factors."""
    n_factors = int(rng.integers(1, min(n_columns, 8) + 1))
    loading = rng.normal(size=(n_factors, n_columns))
    loading *= rng.random(loading.shape) < rng.uniform(0.3, 1)
    own = rng.normal(size=(n_rows, n_columns)) * rng.uniform(0.2, 1.2, n_columns)
    return rng.normal(size=(n_rows, n_factors)) @ loading + own


def _class_clusters(
    rng: np.random.Generator, n_rows: int, n_columns: int, n_classes: int
) -> tuple[Floats, Integers]:
    """Draw columns from Gaussian clusters, and each row's class.

    Centres differ on some columns only, and are spread so that the nearest other class
    is 1.5 to 5 standard deviations away: a Bayes accuracy of about 0.7 to 1.
    """
    share = rng.dirichlet(np.full(n_classes, rng.choice([2.0, 8.0, 40.0])))
    labels = rng.choice(n_classes, n_rows, p=share)
    n_each = int(rng.choice([1, 1, 2, 3]))
    cluster = labels * n_each + rng.integers(n_each, size=n_rows)

    centres = rng.normal(size=(n_classes * n_each, n_columns))
    differs = rng.random(n_columns) < rng.uniform(0.3, 1)
    centres *= rng.gamma(1, size=n_columns) * differs
    owner = np.arange(len(centres)) // n_each
    distance = np.sqrt(((centres[:, None] - centres) ** 2).sum(axis=2))
    nearest = np.where(owner[:, None] == owner, np.inf, distance).min(axis=1)
    centres *= rng.uniform(1.5, 5) / (np.median(nearest) + 1e-6)

    around = standard(_correlated(rng, n_rows, n_columns))
    if rng.random() < 0.5:  # each cluster has its own size and orientation
        spread = rng.uniform(0.4, 1.6, size=(len(centres), n_columns))
        around *= spread[cluster] * rng.choice([-1, 1], size=spread.shape)[cluster]
    return standard(centres[cluster] + around), labels


def _causal_nodes(rng: np.random.Generator, n_rows: int, n_nodes: int) -> Floats:
    """Draw nodes of a random layered causal graph, in random order, standardised."""
    width = int(min(n_nodes, rng.integers(2, 13)))
    noise = np.exp(rng.uniform(np.log(0.03), np.log(0.5)))
    layers = [standard(_correlated(rng, n_rows, width))]
    while width * len(layers) < 1.3 * n_nodes:
        weight = rng.normal(size=(width, width)) / np.sqrt(width)
        weight *= rng.random(weight.shape) < rng.uniform(0.3, 1)
        node = _choose(rng, ACTIVATIONS)(1.5 * layers[-1] @ weight)
        layers.append(standard(standard(node) + noise * rng.normal(size=node.shape)))
    nodes = np.concatenate(layers, axis=1)
    return nodes[:, rng.permutation(nodes.shape[1])[:n_nodes]]


# --- functions from columns to scores -------------------------------------------------


def _relevant(rng: np.random.Generator, seen: Floats) -> Floats:
    """Choose the columns that count, a handful mostly, and weigh them: few or alike."""
    n_columns = seen.shape[1]
    n_most = n_columns if rng.random() < 0.2 else min(n_columns, 12)
    n_relevant = int(np.exp(rng.uniform(np.log(min(2, n_most)), np.log(n_most + 0.99))))
    chosen = rng.permutation(n_columns)[:n_relevant]
    shape = rng.choice([0.5, 3.0])
    return seen[:, chosen] * rng.gamma(shape, 1 / shape, size=n_relevant)


def _linear(rng: np.random.Generator, x: Floats, n_scores: int) -> Floats:
    """Weigh the columns."""
    return x @ rng.normal(size=(x.shape[1], n_scores))


def _network(rng: np.random.Generator, x: Floats, n_scores: int) -> Floats:
    """Pass the columns through one to three random layers."""
    activation = _choose(rng, ACTIVATIONS)
    gain = rng.uniform(0.6, 1.8)
    for _ in range(rng.integers(1, 4)):
        width = int(rng.integers(3, 17))
        weight = rng.normal(size=(x.shape[1], width)) * gain / np.sqrt(x.shape[1])
        x = activation(x @ weight + 0.5 * rng.normal(size=width))
    return x @ rng.normal(size=(x.shape[1], n_scores))


def _trees(rng: np.random.Generator, x: Floats, n_scores: int) -> Floats:
    """Sum the leaves of one to six trees with splits on single columns."""
    rows = np.arange(len(x))
    total = np.zeros((len(x), n_scores))
    for _ in range(rng.integers(1, 7)):
        depth = int(rng.integers(2, 6))
        column = rng.integers(x.shape[1], size=2**depth)
        cut = x[rng.integers(len(x), size=2**depth), column]
        node = np.ones(len(x), dtype=np.int64)
        for _ in range(depth):
            node = 2 * node + (x[rows, column[node]] > cut[node])
        total += rng.normal(size=(2**depth, n_scores))[node - 2**depth]
    return total


def _additive(rng: np.random.Generator, x: Floats, n_scores: int) -> Floats:
    """Weigh a bent version of each column."""
    bends = [np.tanh, np.abs, np.square, np.sign, np.sin, np.positive]
    bent = [
        _choose(rng, bends)(rng.uniform(0.5, 2) * column + rng.normal(0, 0.5))
        for column in x.T
    ]
    return np.column_stack(bent) @ rng.normal(size=(x.shape[1], n_scores))


def _products(rng: np.random.Generator, x: Floats, n_scores: int) -> Floats:
    """Weigh the columns and some products of two."""
    n_pairs = int(rng.integers(1, 2 + min(4, x.shape[1])))
    one, other = rng.integers(x.shape[1], size=(2, n_pairs))
    terms = np.concatenate([x, rng.uniform(0.5, 2) * x[:, one] * x[:, other]], axis=1)
    return terms @ rng.normal(size=(terms.shape[1], n_scores))


def _rules(rng: np.random.Generator, x: Floats, n_scores: int) -> Floats:
    """Sum the weights of the rules that hold, each an *and* of one to three tests."""
    n_rules = int(rng.integers(1, 6)) + n_scores
    column = rng.integers(x.shape[1], size=(3, n_rules))
    cut = x[rng.integers(len(x), size=column.shape), column]
    tests = (x[:, column] > cut) == (rng.random(column.shape) < 0.5)
    unused = np.arange(3)[:, None] >= rng.integers(1, 4, size=n_rules)
    holds = (tests | unused).all(axis=1)
    # The slight slope breaks ties between rows that the same rules hold for.
    slope = 0.05 * x @ rng.normal(size=(x.shape[1], n_scores))
    return holds @ rng.normal(size=(n_rules, n_scores)) + slope


def _prototypes(rng: np.random.Generator, x: Floats, n_scores: int) -> Floats:
    """Score by the nearness of prototypes, one or more to each score."""
    n_each = int(rng.choice([1, 1, 2, 4])) if n_scores > 1 else int(rng.integers(3, 10))
    centres = x[rng.integers(len(x), size=n_scores * n_each)]
    centres = centres + 0.3 * rng.normal(size=centres.shape)
    square = ((x[:, None] - centres) ** 2).sum(axis=2) / x.shape[1]
    if n_scores > 1:
        return -np.sqrt(square).reshape(len(x), n_scores, n_each).min(axis=2)
    return np.exp(-square * rng.uniform(0.5, 2)) @ rng.normal(size=(n_each, 1))


def _waves(rng: np.random.Generator, x: Floats, n_scores: int) -> Floats:
    """Weigh waves of one or two columns, or of a sum of some."""
    n_waves = int(rng.integers(1, 3))
    direction = rng.normal(size=(x.shape[1], n_waves))
    if rng.random() < 0.7:  # each wave along one column
        direction = np.eye(x.shape[1])[rng.integers(x.shape[1], size=n_waves)].T
    rate = np.exp(rng.uniform(np.log(0.7), np.log(6), n_waves))
    wave = np.sin(rate * (x @ direction) + rng.uniform(0, 2 * np.pi, n_waves))
    return wave @ rng.normal(size=(n_waves, n_scores)) + 0.1 * _linear(rng, x, n_scores)


def _curves(
    rng: np.random.Generator, n_rows: int, n_columns: int
) -> tuple[pd.DataFrame, Integers]:
    """Draw rows that are curves of unlike level and size, told apart by their shape."""
    x = np.linspace(-1, 1, n_columns)
    n_classes = int(rng.integers(2, 5))
    labels = rng.integers(n_classes, size=n_rows)
    kind = rng.choice(["hump", "place", "waves", "slope"])
    place, width = rng.uniform(-0.8, 0.8, n_rows), rng.uniform(0.05, 0.3, n_rows)
    height = np.exp(0.5 * rng.normal(size=n_rows))
    each = rng.permutation(n_classes)[labels][:, None]
    if kind == "hump":  # up, down, and by other powers
        height = height * np.linspace(-1, 1, n_classes)[each[:, 0]]
    elif kind == "place":
        place = (2 * each[:, 0] + 1) / n_classes - 1 + 0.1 * rng.normal(size=n_rows)
    bump = np.exp(-(((x - place[:, None]) / width[:, None]) ** 2)) * height[:, None]
    if kind == "waves":
        rate = rng.uniform(1, 8, n_classes)[each]
        bump = np.sin(rate * np.pi * x + rng.uniform(0, 2 * np.pi, (n_rows, 1)))
    elif kind == "slope":
        bump = x * np.linspace(-1, 1, n_classes)[each]
    noise = np.exp(rng.uniform(np.log(0.003), np.log(0.3)))
    shape = bump + noise * rng.normal(size=bump.shape)
    level = np.exp(rng.uniform(0, 3) * rng.normal(size=(n_rows, 1)))
    cells = level * (rng.uniform(1, 4) + shape)
    return pd.DataFrame(cells, columns=[f"t{i}" for i in range(n_columns)]), labels


ScoreFunction = Callable[[np.random.Generator, Floats, int], Floats]
# Linear twice: most of what people tabulate is nearly monotone in each column.
FUNCTIONS: list[ScoreFunction] = [
    _linear, _linear, _network, _trees, _trees, _additive, _products, _rules,
    _prototypes, _waves,
]  # fmt: skip
ACTIVATIONS: list[Callable[[Floats], Floats]] = [
    np.tanh, lambda x: np.maximum(x, 0), np.sin, np.positive
]  # fmt: skip


def _choose(rng: np.random.Generator, options: list[T]) -> T:
    """Choose one, whatever it is: `rng.choice` would make an array of the options."""
    return options[rng.integers(len(options))]
