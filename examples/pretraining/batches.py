"""Batches of tables to read: drawn from the prior and written by the package itself.

The tables of a step have one shape. Their encoder and answers are fitted to the rows
that are the context, as in `fit`, and written with what a prediction is written with.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from reader import byte_ids, word_ids
from synthetic import SyntheticTable, draw_table

from liftlearn import RowEncoder
from liftlearn._answers import LabelAnswers, scaled_grid

# CUDA's grids have no room for more rows in a batch.
MOST_ROWS = 65_000
# So many steps have easy tables: few columns, rows and classes.
EASY_STEPS = 400
# The most tokens of one table's context.
MOST_CONTEXT = 30_000
# Of text the most frequent words of the context have codes, others share some.
N_FREQUENT, N_SHARED, MOST_WORDS = 448, 64, 64
# Bytes of text, where texts are written as bytes.
TEXT_LENGTH = 24


@dataclass(frozen=True)
class Shape:
    """What the tables of one step have in common."""

    kind: str  # easy, plain, wide or mixed; the last has texts and dates
    n_tables: int
    n_columns: int
    n_context: int
    n_asked: int


@dataclass(frozen=True)
class Written:
    """One table, written: its cells' tokens, and its answers."""

    ids: NDArray[np.int16]  # (n_rows, n_tokens), padded at the left with 0
    answer: NDArray[np.int16]  # -1 where the context does not have it
    n_answers: int
    is_number: bool


@dataclass(frozen=True)
class Batch:
    """Tables of one shape: `ids` with room for the answer behind the question."""

    shape: Shape
    ids: NDArray[np.int16]  # (n_tables, n_rows, n_tokens)
    answer: NDArray[np.int16]
    n_answers: NDArray[np.int16]
    is_number: NDArray[np.bool_]


def draw_shape(seed: int, step: int, n_tokens: int) -> Shape:
    """Draw the shape of a step's tables, which have about so many tokens."""
    rng = np.random.default_rng([seed, step, 1])
    if step < EASY_STEPS:
        kind, n_columns = "easy", int(rng.integers(1, 5))
        n_context, n_asked = int(rng.integers(8, 81)), 64
        width = n_columns
    else:
        kind = str(rng.choice(["plain", "wide", "mixed"], p=[0.69, 0.15, 0.16]))
        n_columns = int(np.clip(np.exp(rng.normal(np.log(8), 0.8)), 1, 40))
        if kind == "wide":
            n_columns = int(np.exp(rng.uniform(np.log(17), np.log(221))))
        if kind == "mixed":
            n_columns = int(rng.integers(1, 11))
        width = n_columns + (24 if kind == "mixed" else 0)
        n_context = int(np.exp(rng.uniform(np.log(8), np.log(1000))))
        n_context = max(8, min(n_context, MOST_CONTEXT // width))
        n_asked = int(np.clip(n_context // 2, 48 if kind == "wide" else 96, 320))
    n_rows = n_context + n_asked
    # Rows of few tokens count as eight: tables are drawn more slowly than read.
    n_tables = min(n_tokens // (n_rows * max(8, width + 2)), MOST_ROWS // n_rows)
    return Shape(kind, max(1, n_tables), n_columns, n_context, n_asked)


def draw_tables(seed: int, step: int, part: int, shape: Shape) -> list[Written]:
    """Draw and write a part of a step's tables."""
    warnings.simplefilter("ignore")
    rng = np.random.default_rng([seed, step, 2, part])
    tables: list[Written] = []
    while len(tables) < shape.n_tables:
        drawn = draw_table(
            rng,
            n_rows=shape.n_context + shape.n_asked,
            n_columns=shape.n_columns,
            wide=shape.kind == "wide",
            plain=shape.kind != "mixed",
            noisy=bool(rng.random() < 0.5),
        )
        if shape.kind == "easy" and drawn.task == "classification":
            drawn = SyntheticTable(drawn.X, drawn.y % 3, drawn.task)
        table = write_table(drawn, shape.n_context, rng)
        # Rows of one length need no pads.
        if shape.kind == "mixed" or table.ids.shape[1] == shape.n_columns:
            tables.append(table)
    return tables


def write_table(
    drawn: SyntheticTable, n_context: int, rng: np.random.Generator
) -> Written:
    """Write a table of which the first rows are the context."""
    rows = _write_cells(drawn.X, n_context, rng)
    ids = np.zeros((len(rows), max(map(len, rows))), np.int16)
    for filled, row in zip(ids, rows, strict=True):
        filled[len(filled) - len(row) :] = row
    known = drawn.y[:n_context]
    if drawn.task == "regression":
        spacing = "uniform" if rng.random() < 0.7 else "mixed"
        weight = np.ones(len(known))
        grid = scaled_grid(known, weight, low=None, high=None, spacing=spacing)
        position = grid.position_of(drawn.y) + rng.uniform(-0.5, 0.5, len(drawn.y))
        answer = np.floor(position).clip(0, len(grid.texts) - 1)
        n_answers = len(grid.texts)
    else:
        answers = LabelAnswers(np.unique(known), "codes")
        n_answers = len(answers.texts)
        answer = answers.write(drawn.y).clip(max=n_answers - 1)
        answer = np.where(answers.classes[answer] == drawn.y, answer, -1)
    if n_answers == 1:
        answer = np.full(len(answer), -1)
    is_number = drawn.task == "regression"
    return Written(ids, answer.astype(np.int16), n_answers, is_number)


def _write_cells(
    table: pd.DataFrame, n_context: int, rng: np.random.Generator
) -> list[list[int]]:
    """Return the tokens of each row's cells; texts, as words or bytes, come last."""
    encoder = RowEncoder(
        columns="none",
        spacing="mixed",
        jitter=0.0,
        question="",
        text_length=TEXT_LENGTH,
    )._prefer({"numbers": "by_table"})
    kinds = encoder.fit(table[:n_context]).column_kinds_
    texts = [name for name, kind in kinds.items() if kind == "text"]
    if len(texts) > 2 or (texts and rng.random() < 0.85):
        others = table.drop(columns=texts)
        rows: list[list[int]] = [[] for _ in range(len(table))]
        if others.shape[1]:
            rows = _tokens(encoder.fit(others[:n_context]).transform(others))
        n_words = max(8, MOST_WORDS // len(texts))
        for name in texts:
            words = write_words(table[name], n_context, n_words)
            rows = [row + own for row, own in zip(rows, words, strict=True)]
        return rows
    return _tokens(encoder.transform(table))


def _tokens(prompts: list[str]) -> list[list[int]]:
    """Return the tokens of prompts, which end with an empty question."""
    ids = word_ids()
    return [
        [
            token
            for word in prompt.rstrip(" ").split(" ")
            for token in ([ids[word]] if word in ids else _spelled(word))
        ]
        for prompt in prompts
    ]


def _spelled(word: str) -> list[int]:
    """Return the tokens of a word's bytes, with the space before it."""
    return [byte_ids()[byte] for byte in f" {word}".encode()]


def write_words(texts: pd.Series, n_context: int, n_most: int) -> list[list[int]]:
    """Write texts as bags of words: the context's frequent ones, and others hashed."""
    ids = word_ids()
    first = ids["w0"]
    bags = [
        None if pd.isna(text) else list(dict.fromkeys(text.split(" ")))
        for text in texts
    ]
    counts: dict[str, int] = {}
    for bag in bags[:n_context]:
        for word in bag or []:
            counts[word] = counts.get(word, 0) + 1
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[:N_FREQUENT]
    code = {word: i for i, word in enumerate(frequent)}

    def written(bag: list[str] | None) -> list[int]:
        if bag is None:
            return [ids["c?"]]
        shared = (N_FREQUENT + zlib.crc32(word.encode()) % N_SHARED for word in bag)
        codes = (code.get(word, other) for word, other in zip(bag, shared, strict=True))
        return [ids["w="], *(first + number for number in list(codes)[:n_most])]

    return [written(bag) for bag in bags]


def stack(shape: Shape, tables: list[Written]) -> Batch:
    """Put a step's tables together, padded to the widest row."""
    ids_of = word_ids()
    width = max(table.ids.shape[1] for table in tables)
    ids = np.zeros((len(tables), shape.n_context + shape.n_asked, width + 2), np.int16)
    for own, table in zip(ids, tables, strict=True):
        own[:, width - table.ids.shape[1] : width] = table.ids
        own[:, width] = ids_of["y=" if table.is_number else "y?"]
    return Batch(
        shape,
        ids,
        np.stack([table.answer for table in tables]),
        np.array([table.n_answers for table in tables], np.int16),
        np.array([table.is_number for table in tables]),
    )


def supply(seed: int, first: int, n_tokens: int, n_workers: int) -> Iterator[Batch]:
    """Yield the batches of one step after another, drawn ahead by other processes."""
    step = first
    if not n_workers:
        while True:
            shape = draw_shape(seed, step, n_tokens)
            yield stack(shape, draw_tables(seed, step, 0, shape))
            step += 1
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the workers
    waiting: deque[tuple[Shape, list[Future[list[Written]]]]] = deque()
    with ProcessPoolExecutor(n_workers) as pool:
        while True:
            while len(waiting) <= 8:
                shape = draw_shape(seed, step, n_tokens)
                sizes = np.diff(
                    np.linspace(0, shape.n_tables, n_workers + 1).astype(int)
                )
                jobs = [
                    pool.submit(
                        draw_tables,
                        seed,
                        step,
                        part,
                        replace(shape, n_tables=int(size)),
                    )
                    for part, size in enumerate(sizes)
                    if size
                ]
                waiting.append((shape, jobs))
                step += 1
            shape, jobs = waiting.popleft()
            yield stack(shape, [table for job in jobs for table in job.result()])
