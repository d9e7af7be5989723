"""Texts by the words that they hold: latent semantic analysis.

Texts go in, their positions on a few axes come out, along which the words of the
texts of `fit` differ most. Words that are met together lie together there.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array

# Words of fewer different texts tell nothing of others; so many words are known at
# the most, those of most rows.
_FEWEST_TEXTS, _MOST_WORDS = 2, 1024
# Where fewer texts have a known word, as in a column of names, words tell too little.
_LEAST_KNOWN = 0.5
# An axis with less variance, of vectors of length 1, is rounding.
_ROUNDING = 1e-9

# What a text is split into at spaces is remembered up to so many characters.
_LONGEST_KEPT = 40

# A sparse matrix, (n_texts, n_words): how much each known word tells of each text.
Bags = Any


@dataclass(frozen=True, eq=False)
class Topics:
    """The axes of a column of texts, and the words that are known.

    Each text is the vector of its words' tf-idf weights (of logarithmic counts), of
    length 1. Its position on an axis is that of the vector, from the mean of `fit`.
    """

    words: list[str]
    rarity: NDArray[np.float64]  # of each word: 1 - log(share of the rows)
    axes: NDArray[np.float64]  # (n_words, n_axes)
    centre: NDArray[np.float64]  # (n_axes,)

    @property
    def n_axes(self) -> int:
        """How many numbers tell where a text is."""
        return len(self.centre)

    def bags(self, texts: Sequence[str]) -> Bags:
        """Return the weights of each text's known words, in the order of the words."""
        return _bags([Counter(words_of(text)) for text in texts], self)

    def of(self, bags: Bags) -> NDArray[np.float64]:
        """Return the texts' positions, (n_texts, n_axes); nan without a known word."""
        positions: NDArray[np.float64] = _unit(bags) @ self.axes - self.centre
        positions[np.diff(bags.indptr) == 0] = np.nan
        return positions


def thinned(bags: Bags, is_kept: NDArray[np.bool_]) -> Bags:
    """Leave out those of all texts' words, but not all of one text."""
    text_of_word = np.repeat(np.arange(bags.shape[0]), np.diff(bags.indptr))
    n_kept = np.bincount(text_of_word, is_kept, bags.shape[0])
    stays = is_kept | (n_kept == 0)[text_of_word]
    return csr_array((bags.data * stays, bags.indices, bags.indptr), bags.shape)


def learn_topics(
    texts: Sequence[str], weight: NDArray[np.float64], n_topics: int
) -> Topics | None:
    """Return at most so many axes; None where too few texts have words in common.

    A weight means so many repetitions.
    """
    # In sorted order, so that sums are the same in any order of the rows.
    distinct, code = np.unique(np.array(texts, dtype=object), return_inverse=True)
    share = np.bincount(code, weight) / weight.sum()
    counts = [Counter(words_of(text)) for text in distinct.tolist()]
    known, rarity = _known_words(counts, share)
    nothing = Topics(known, rarity, np.zeros((len(known), 0)), np.zeros(0))
    bags = _bags(counts, nothing)
    is_known = np.diff(bags.indptr) > 0
    if not known or is_known.mean() < _LEAST_KNOWN:
        return None
    vectors, share = _unit(bags[is_known]), share[is_known] / share[is_known].sum()
    mean = vectors.T @ share
    weighted = diags_array(np.sqrt(share)) @ vectors
    products = (weighted.T @ weighted).toarray()
    axes = _main_axes(products - np.outer(mean, mean), n_topics)
    return Topics(known, rarity, axes, mean @ axes) if axes.shape[1] else None


def words_of(text: str) -> list[str]:
    """Return the words of a text: letters and digits, whatever their case.

    Where a script puts no spaces between words, pairs of neighbours stand for them.

    >>> words_of("Don't PANIC, naïve_reader: 42!")
    ['don', 't', 'panic', 'naïve', 'reader', '42']
    >>> words_of("東京都 (Tōkyō)")
    ['東京', '京都', 'tōkyō']
    """
    words: list[str] = []
    for chunk in text.split():
        # Long ones hardly come again.
        is_short = len(chunk) <= _LONGEST_KEPT
        words += (_words_of_short_chunk if is_short else _words_of_chunk)(chunk)
    return words


def _words_of_chunk(chunk: str) -> tuple[str, ...]:
    text = unicodedata.normalize("NFKC", chunk).casefold()
    text = unicodedata.normalize("NFKC", text)
    words: list[str] = []
    for run in _SPACELESS.split("".join(map(_letter, text))):
        if _SPACELESS.fullmatch(run) and len(run) > 1:
            words += [first + second for first, second in pairwise(run)]
        else:
            words += run.split()
    return tuple(words)


_words_of_short_chunk = lru_cache(maxsize=2**16)(_words_of_chunk)


def _letter(character: str) -> str:
    """Return a letter, mark or digit as it is, and a space for others.

    Marks are vowels in some alphabets, so regular expressions, which count them as no
    letters, won't do. Formats, such as soft hyphens and joiners, are nothing.
    """
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    return character if category[0] in "LMN" else " "


# Thai, Lao, Burmese, Khmer, Chinese and Japanese.
_SPACELESS = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)"
)


def _known_words(
    counts: list[Counter[str]], share: NDArray[np.float64]
) -> tuple[list[str], NDArray[np.float64]]:
    """Return the words of several texts, most frequent first, and their rarity."""
    n_texts: Counter[str] = Counter()
    share_of: dict[str, float] = {}
    for count, own in zip(counts, share.tolist(), strict=True):
        n_texts.update(count.keys())
        for word in count:
            share_of[word] = share_of.get(word, 0.0) + own
    several = [word for word, n in n_texts.items() if n >= _FEWEST_TEXTS]
    # Shares that differ by rounding are equal.
    several.sort(key=lambda word: (-round(share_of[word], 12), word))
    known = several[:_MOST_WORDS]
    return known, 1 - np.log(np.array([share_of[word] for word in known]))


def _bags(counts: list[Counter[str]], topics: Topics) -> Bags:
    """Return a row of weights for each text, in the order of the known words."""
    index_of = {word: i for i, word in enumerate(topics.words)}
    ends, indices, times = [0], [], []
    for count in counts:
        known = sorted((index_of[w], n) for w, n in count.items() if w in index_of)
        indices += [i for i, _ in known]
        times += [n for _, n in known]
        ends.append(len(indices))
    columns = np.array(indices, dtype=np.intp)
    data = (1 + np.log(np.array(times, dtype=float))) * topics.rarity[columns]
    return csr_array((data, columns, ends), (len(counts), len(topics.words)))


def _unit(bags: Bags) -> Bags:
    """Return the rows, those with words scaled to length 1."""
    length = np.sqrt(bags.power(2).sum(axis=1))
    return diags_array(1 / np.where(length > 0, length, 1.0)) @ bags


def _main_axes(covariance: NDArray[np.float64], n_axes: int) -> NDArray[np.float64]:
    """Return the axes of most variance, largest first: (n_words, n_axes)."""
    n_words = len(covariance)
    first = max(n_words - n_axes, 0)
    variance, axes = eigh(covariance, subset_by_index=[first, n_words - 1])
    axes = axes[:, variance > _ROUNDING][:, ::-1]
    # An axis has no direction of its own: its largest word is positive.
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    oriented: NDArray[np.float64] = axes * np.sign(largest)
    return oriented
