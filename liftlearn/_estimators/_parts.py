"""What the estimators need of their parts, and the checks of a user's own.

A part inherits from nothing here: it has the methods, or it is refused by a TypeError.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import has_fit_parameter

from liftlearn._corpus import Answers, Corpus
from liftlearn._decoder import Prompts, Scorer, Scorers
from liftlearn._distribution import NumberDistribution
from liftlearn._finetuner import Member, Metric
from liftlearn._validation import unchecked
from liftlearn._whole_rows import RowCorpus


class Encoder(Protocol):
    """Writes a table as sentences."""

    def fit(self, X: pd.DataFrame, y: Any) -> Encoder: ...
    def transform(self, X: pd.DataFrame) -> Iterable[str]: ...


@runtime_checkable
class RewordingEncoder(Encoder, Protocol):
    """Writes it in several wordings, too."""

    def reword(self, X: pd.DataFrame, n_wordings: int) -> list[list[str]]: ...


class Tuner(Protocol):
    """Teaches a language model to answer: gives the tuned one, or several members.

    In a warm start it is given what it gave before.
    """

    def finetune(
        self,
        lm: Any,
        corpus: Corpus,
        rng: RandomState,
        *,
        metric: Metric,
        verbose: int,
    ) -> Scorer | Sequence[tuple[Any, Corpus | None]]: ...


class Decoder(Protocol):
    """Knows the answers of a target."""

    answers_: Answers

    def fit(self, y: NDArray[Any]) -> Decoder: ...


class LabelsDecoder(Decoder, Protocol):
    """Reads probabilities of classes from scores."""

    classes_: NDArray[Any]

    def predict_proba(
        self, lm: Scorer | Scorers, prompts: Prompts
    ) -> NDArray[np.float64]: ...


class NumbersDecoder(Decoder, Protocol):
    """Reads numbers, and distributions over them, from scores."""

    def predict(
        self, lm: Scorer | Scorers, prompts: Prompts, *, return_std: bool = False
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]: ...

    def predict_distribution(
        self, lm: Scorer | Scorers, prompts: Prompts
    ) -> NumberDistribution: ...


@runtime_checkable
class CalibratedDecoder(Protocol):
    """Learns from rows that a model has not seen."""

    def calibrate(self, held_out: Any) -> Any: ...


def fitted_decoder(
    decoder: Any, target: NDArray[Any], weight: NDArray[np.float64]
) -> Any:
    """Return a decoder that knows the answers."""
    fitted = None
    if not isinstance(decoder, ClassifierMixin | RegressorMixin):  # they fit tables
        fitted = decoder.fit(target, **weight_option(decoder, weight))
    if not hasattr(getattr(fitted, "answers_", None), "texts"):
        raise TypeError(
            "Expected a decoder whose fit(y) returns it with answers_, the texts that "
            f"the model is to answer with, got {decoder!r}. Use a LabelDecoder for "
            "classes and a NumberDecoder for numbers, or a class derived from these."
        )
    return fitted


def fitted_encoder(
    encoder: Encoder, table: pd.DataFrame, y: pd.Series, weight: NDArray[np.float64]
) -> Encoder:
    """Return an encoder that has learnt how to write a table."""
    options = weight_option(encoder, weight)
    fitted: Encoder = unchecked(encoder.fit)(table, y, **options)
    if not hasattr(fitted, "transform"):
        raise TypeError(
            "Expected the encoder's fit to return a fitted encoder, got "
            f"{fitted!r}. Return self there."
        )
    return fitted


def sentences(encoder: Encoder, table: pd.DataFrame) -> list[str]:
    """Return what an encoder writes of each row."""
    written = [*unchecked(encoder.transform)(table)]
    for sentence in written:
        if not isinstance(sentence, str):
            raise TypeError(
                "Expected a sentence for each row from the encoder's transform, but "
                f"{type(encoder).__name__} gave a {type(sentence).__name__}. Use a "
                "RowEncoder, or return a list of str."
            )
    if len(written) != len(table):
        raise ValueError(
            f"Expected a sentence for each of {len(table)} rows from the encoder's "
            f"transform, but {type(encoder).__name__} gave {len(written)}."
        )
    return written


def wordings(encoder: Encoder, decoder: Decoder, table: pd.DataFrame) -> Prompts:
    """Return the rows' sentences, in as many wordings as the decoder reads."""
    n_wordings = getattr(decoder, "n_wordings_", 1)
    if n_wordings == 1:
        return sentences(encoder, table)
    if not isinstance(encoder, RewordingEncoder):
        raise TypeError(
            f"n_wordings={n_wordings} needs an encoder with a method reword, which "
            f"{type(encoder).__name__} has not. Use a RowEncoder, or set the "
            "decoder's n_wordings to 1."
        )
    reworded: list[list[str]] = unchecked(encoder.reword)(table, n_wordings)
    return reworded


def members_of(finetuner: Tuner, tuned: Any) -> list[Member]:
    """Return what a fine-tuner gave as members; one language model is the only one."""
    members = [(tuned, None)] if isinstance(tuned, Scorer) else tuned
    is_list = isinstance(members, list | tuple) and len(members) > 0
    if not (is_list and all(map(_is_member, members))):
        raise TypeError(
            "Expected a language model from the fine-tuner's finetune, or a list with "
            "a pair for each of several: the model, and the Corpus of rows that it "
            f"held out or None. But that of {type(finetuner).__name__} returned "
            f"{tuned!r}."
        )
    return [Member(*member) for member in members]


def _is_member(pair: Any) -> bool:
    match pair:
        case (Scorer() as lm, Corpus() | RowCorpus() | None):
            return not isinstance(lm, type)
    return False


def weight_option(part: Any, weight: NDArray[np.float64]) -> dict[str, Any]:
    """Return the weights as an argument of the part's ``fit``, if it takes them."""
    takes_weight = has_fit_parameter(part, "sample_weight")
    return {"sample_weight": weight} if takes_weight else {}
