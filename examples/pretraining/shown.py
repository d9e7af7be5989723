"""Latent numbers shown as the columns that people have: counts, categories, texts.

A latent matrix goes in, a table comes out, and what can still be seen in it.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
T = TypeVar("T")

WIDE = 16  # columns; tables of more are mostly numbers, and have more classes
KINDS = ["number", "integer", "boolean", "nominal", "ordered", "text", "date"]
BESIDE_TEXT = [0.35, 0.15, 0.1, 0.25, 0.05, 0.1, 0.0]
SHAPES = ["plain", "exp", "power", "heavy", "uniform", "zeros", "rounded"]
SYLLABLES = [
    "ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo",
    "zu", "an", "er", "il", "om", "st",
]  # fmt: skip
GRADES = [
    ["low", "high"], ["low", "medium", "high"], ["small", "medium", "large", "huge"],
    ["bad", "poor", "fair", "good", "excellent"],
]  # fmt: skip


def show_columns(
    rng: np.random.Generator, latent: Floats, plain: bool = False
) -> tuple[pd.DataFrame, Floats]:
    """Show each latent column as one kind, and return what can be seen of it.

    Returns
    -------
    X : DataFrame of shape (n_rows, n_columns)
        The columns as a user has them.
    seen : ndarray of shape (n_rows, n_columns)
        The information in `X` as standardised numbers, before cells went missing.
    """
    n_rows, n_columns = latent.shape
    kinds, shapes = _draw_kinds(rng, n_columns, plain), _draw_shapes(rng, n_columns)
    as_shown = rng.random() < 0.25  # else the target depends on the unskewed column
    has_missing = rng.random() < 0.25
    names = _draw_names(rng, n_columns)
    columns, seen = {}, np.empty_like(latent)
    for j, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        z = latent[:, j]
        if kind == "number":
            shown = _shape_number(rng, z, shapes[j])
            seen[:, j] = shown if as_shown or shapes[j] == "zeros" else z
            column = pd.Series(rescale(rng, shown))
        elif kind == "date":
            column, seen[:, j] = _show_date(rng, z)
        else:
            column, seen[:, j] = _show_levels(rng, z, kind, plain)
        if has_missing and rng.random() < 0.5:
            rate = np.exp(rng.uniform(np.log(0.01), np.log(0.4)))
            # Where the value decides, large values go missing first.
            depends = z > np.quantile(z, 0.7) if rng.random() < 0.3 else True
            column = column.mask(depends & (rng.random(n_rows) < rate))
        columns[name] = column
    return pd.DataFrame(columns), np.clip(standard(seen), -4, 4)


def _draw_kinds(rng: np.random.Generator, n_columns: int, plain: bool) -> list[str]:
    """Draw the kinds of a table's columns: often all numbers, else a mixture."""
    if plain:
        rare = {"text": "nominal", "date": "number"}
        return [rare.get(kind, kind) for kind in _draw_mixture(rng, n_columns)]
    if n_columns <= 12 and rng.random() < 0.5:
        n_texts = int(rng.integers(1, 3)) if rng.random() < 0.7 else n_columns
        others = rng.choice(KINDS, max(0, n_columns - n_texts), p=BESIDE_TEXT)
        return _shuffled(rng, ["text"] * min(n_texts, n_columns) + others.tolist())
    return _draw_mixture(rng, n_columns)


def _draw_mixture(rng: np.random.Generator, n_columns: int) -> list[str]:
    if rng.random() < (0.7 if n_columns > WIDE else 0.4):
        return ["number"] * n_columns
    rare = rng.random() < 0.15
    base = np.array([1.0, 0.5, 0.25, 0.6, 0.25, 0.1 * rare, 0.2 * rare])
    share = rng.gamma(base)
    return [KINDS[i] for i in rng.choice(len(KINDS), n_columns, p=share / share.sum())]


def _draw_shapes(rng: np.random.Generator, n_columns: int) -> list[str]:
    """Draw the distributions of a table's numbers: one for all, or one for each."""
    share = [0.3, 0.14, 0.1, 0.1, 0.12, 0.1, 0.14]
    if rng.random() < 0.4:
        return [str(rng.choice(SHAPES, p=share))] * n_columns
    return [SHAPES[i] for i in rng.choice(len(SHAPES), n_columns, p=share)]


def _shape_number(rng: np.random.Generator, z: Floats, shape: str) -> Floats:
    """Bend a standardised column into a distribution, keeping its order."""
    if shape == "exp":
        return np.exp(np.clip(rng.uniform(0.4, 1.8) * z, -20, 20))
    if shape == "power":
        return np.abs(z - z.min()) ** rng.uniform(1.5, 3.5)
    if shape == "heavy":
        return np.sinh(rng.uniform(0.8, 1.8) * np.clip(z, -8, 8))
    if shape == "uniform":
        return 1 / (1 + np.exp(-1.7 * z))
    if shape == "zeros":
        floor = np.quantile(z, rng.uniform(0.2, 0.92))
        return np.expm1(np.clip(rng.uniform(0.3, 1.2) * (z - floor), 0, 20))
    if shape == "rounded":
        return np.round(z * rng.uniform(1.5, 15))
    return z


def _show_levels(
    rng: np.random.Generator, z: Floats, kind: str, plain: bool
) -> tuple[pd.Series, Floats]:
    """Cut a latent column into levels: integers, categories or texts."""
    n_levels = _draw_n_levels(rng, kind, len(z))
    if plain and kind == "nominal":  # of more it would be text
        n_levels = min(n_levels, max(8, len(z) // 8), 64)
    level = bins(z, rng.dirichlet(np.full(n_levels, 3.0)))
    if kind == "boolean":
        return pd.Series(level == 1), level.astype(float)
    if kind == "integer":
        start, step = int(rng.choice([0, 0, 1, 1, 18])), int(rng.choice([1, 1, 1, 5]))
        return pd.Series(start + step * level), level.astype(float)
    if kind == "ordered":
        grades = next(
            (g for g in GRADES if len(g) == n_levels),
            [f"grade {i + 1}" for i in range(n_levels)],
        )
        shown = pd.Categorical.from_codes(level, grades, ordered=True)
        return pd.Series(shown), level.astype(float)
    # A category's effect is free, or follows its hidden order.
    effect = rng.normal(size=n_levels) if rng.random() < 0.6 else np.arange(n_levels)
    if kind == "text":
        return pd.Series(_write_texts(rng, level)), effect[level].astype(float)
    if rng.random() < 0.2:
        words = [chr(ord("a") + i) if i < 26 else f"c{i}" for i in range(n_levels)]
    else:
        words = _draw_names(rng, n_levels)
    words = _shuffled(rng, words)
    return pd.Series([words[i] for i in level]), effect[level].astype(float)


def _draw_n_levels(rng: np.random.Generator, kind: str, n_rows: int) -> int:
    """Draw how many levels a column of this kind has."""
    if kind == "boolean":
        return 2
    if kind in ("ordered", "text"):
        return int(rng.integers(2, 6))
    many = rng.random() < (0.3 if kind == "integer" else 0.12)
    low, high = (10, 201) if many else (2, 11)
    n_levels = int(np.exp(rng.uniform(np.log(low), np.log(high))))
    return max(2, min(n_levels, n_rows // 3))


def _write_texts(rng: np.random.Generator, level: Integers) -> list[str]:
    """Write one to ten words on each row, one or two of which tell the level."""
    n_telling, n_filler = int(rng.integers(1, 7)), int(rng.integers(4, 41))
    is_long = rng.random() < 0.3
    if is_long:
        n_telling, n_filler = int(rng.integers(1, 13)), int(rng.integers(40, 300))
    n_levels = int(level.max()) + 1
    # Words of common syllables are told apart by the order of their letters alone.
    draw = _draw_words if rng.random() < 0.5 else _draw_spellings
    words = draw(rng, n_telling * n_levels + n_filler)
    telling, filler = words[:-n_filler], words[-n_filler:]
    n_told, n_most = int(rng.integers(1, 4)), int(rng.integers(1, 9))
    if is_long:
        n_most = int(rng.integers(9, 50))
    texts = []
    for which in level:
        own = telling[which * n_telling :][:n_telling]
        told = [own[i] for i in rng.integers(n_telling, size=n_told)]
        rest = [filler[i] for i in rng.integers(n_filler, size=rng.integers(n_most))]
        texts.append(" ".join(_shuffled(rng, [*told, *rest])))
    return texts


def _draw_spellings(rng: np.random.Generator, n_words: int) -> list[str]:
    """Draw words of three to eight letters, some letters far oftener than others."""
    share = rng.dirichlet(np.full(26, 0.7))
    letters = rng.choice(26, size=(n_words, 8), p=share)
    lengths = rng.integers(3, 9, size=n_words)
    return [
        "".join(chr(ord("a") + i) for i in word[:length])
        for word, length in zip(letters, lengths, strict=True)
    ]


def _show_date(rng: np.random.Generator, z: Floats) -> tuple[pd.Series, Floats]:
    """Show a column as times, of which the trend, the season or the hour is seen."""
    day = np.exp(rng.uniform(np.log(20), np.log(6000))) / (1 + np.exp(-1.7 * z))
    start = np.datetime64("1990-01-01") + rng.integers(11_000)
    whole = rng.random() < 0.6
    unit = 1440 if whole else 5  # minutes
    minute = (day * 1440 / unit).astype(np.int64) * unit
    time = start.astype("datetime64[s]") + minute.astype("timedelta64[m]")
    what = rng.choice(["trend", "season", "week" if whole else "hour"])
    period = {"trend": None, "season": 365.25, "week": 7, "hour": 1}[str(what)]
    seen = minute / 1440
    if period:
        seen = np.sin(2 * np.pi * ((seen + start.astype(int)) / period + rng.random()))
    return pd.Series(time), seen


def _draw_names(rng: np.random.Generator, n_names: int) -> list[str]:
    """Draw distinct names: numbered after a letter, or made-up words."""
    style = rng.choice(["number", "word", "words"])
    if style == "number":
        letter, first = rng.choice(["x", "V", "f", "col_", "A"]), int(rng.integers(2))
        return [f"{letter}{i + first}" for i in range(n_names)]
    words = _draw_words(rng, n_names)
    if style == "words":
        others = _draw_words(rng, n_names)
        return [f"{one}_{two}" for one, two in zip(words, others, strict=True)]
    return words


def _draw_words(rng: np.random.Generator, n_words: int) -> list[str]:
    """Draw distinct words of two to four syllables."""
    words: dict[str, None] = {}
    while len(words) < n_words:
        syllables = rng.integers(len(SYLLABLES), size=rng.integers(2, 5))
        words["".join(SYLLABLES[i] for i in syllables)] = None
    return list(words)


def _shuffled(rng: np.random.Generator, items: list[T]) -> list[T]:
    """Return the items in random order."""
    return [items[i] for i in rng.permutation(len(items))]


def bins(z: Floats, share: Floats) -> Integers:
    """Cut a column at its quantiles, so that each bin gets its share of the rows."""
    return np.searchsorted(np.quantile(z, np.cumsum(share)[:-1]), z)


def standard(columns: Floats) -> Floats:
    """Bring each column to mean 0 and standard deviation 1; constant ones to 0."""
    return (columns - columns.mean(axis=0)) / (columns.std(axis=0) + 1e-9)


def rescale(rng: np.random.Generator, column: Floats) -> Floats:
    """Give a column a unit from 1e-4 to 1e5, an offset, and a readable precision."""
    scale = 10 ** rng.uniform(-4, 5) if rng.random() < 0.3 else 10 ** rng.uniform(-1, 3)
    offset = rng.choice([0, 0, 1, 5]) * rng.normal()
    column = (standard(column) + offset) * scale
    if rng.random() < 0.5:  # two or three digits within a standard deviation
        digits = int(rng.integers(1, 4)) - int(np.floor(np.log10(scale)))
        column = np.round(column, digits)
    return column
