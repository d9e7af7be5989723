"""What both estimators share: the way from a table to a tuned model.

The base class runs the parts in order.
"""

from __future__ import annotations

import math
from numbers import Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from liftlearn._corpus import Corpus
from liftlearn._estimators._members import Monitor, tune_members
from liftlearn._finetuner import share_stream
from liftlearn._language_model import Ensemble, LanguageModel
from liftlearn._saving import save_fitted
from liftlearn._tables import check_table
from liftlearn._validation import (
    HasMethods,
    Interval,
    check_number,
    unchecked,
    weights_in_proportion,
)

# The estimators by the names that stand in saved folders; each module adds its own.
ESTIMATORS: dict[str, type[LIFT]] = {}


class LIFT(BaseEstimator):
    """What the classifier and the regressor share: the way from a table to a model."""

    _parts: ClassVar[dict[str, type[BaseEstimator]]]
    _task: ClassVar[str]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, PathLike, None],
        "encoder": [HasMethods(["fit", "transform"]), None],
        "finetuner": [HasMethods("finetune"), None],
        "device": [str, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the estimator and of its parts.

        A parameter of a part that is None, as in ``finetuner__learning_rate``, makes
        the default part first.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self : estimator
            The estimator.

        Raises
        ------
        ValueError
            If the estimator or the part has no parameter of that name.
        """
        for name, part in self._parts.items():
            is_reached = any(key.startswith(f"{name}__") for key in params)
            chosen = params.get(name, getattr(self, name))
            if is_reached and chosen is None:
                params[name] = part()
            elif is_reached and not hasattr(type(chosen), "set_params"):
                raise ValueError(
                    f"{name}={chosen!r} has no parameters to set. Give an instance of "
                    f"{part.__name__}."
                )
        super().set_params(**params)
        return self

    def save(self, folder: str | PathLike[str], *, merged: bool = False) -> None:
        """Save the fitted estimator as a folder, which `liftlearn.load` reads.

        The folder is also a language model's: given as ``model``, it is where another
        fit starts from. A ``random_state`` that is an instance is saved as it stands,
        and comes back as a new instance that draws the same numbers.

        Parameters
        ----------
        folder : str or PathLike
            A folder that is new, empty but for hidden files, or of an earlier save,
            whose files are then replaced. It gets safetensors weights, the tokenizer's
            files and ``liftlearn.json`` with all else that was learnt, and the sha256
            of every file.
        merged : bool, default=False
            Whether an adapter is added to the weights of its base model, which are
            then saved whole. Else the adapter is saved alone, a few MB, and its base
            must stay where it is, or be named to `liftlearn.load`. Predictions of a
            merged model are equal but for rounding.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If a part or a parameter is of a type that liftlearn does not know, such as
            a user's own.
        ValueError
            If it holds what could not be loaded again, or a newer liftlearn saved
            what is in the folder.
        FileExistsError
            If the folder holds something else.
        """
        check_is_fitted(self, "language_model_")
        save_fitted(self, folder, ESTIMATORS, merged=merged)

    def conformalize(self, X: Any, y: Any) -> Self:
        """Learn from held-out rows how wide sets and intervals must be.

        Split conformal prediction [1]_: if these rows and new ones are exchangeable,
        what `predict_set` or `predict_interval` returns for a new row holds its true
        target with at least the coverage that is asked for, on average over new rows
        and over draws of these ones. Other predictions stay as they were. A second
        call replaces the first one's rows, and `fit` forgets them.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            Rows that were not in `fit`.
        y : array-like of shape (n_samples,)
            Their targets.

        Returns
        -------
        self : estimator
            The estimator, with ``conformity_scores_``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table or the target can't be used, or a label is not in
            ``classes_``.

        References
        ----------
        .. [1] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random
           World", Springer 2005.
        """
        check_is_fitted(self)
        table = check_table(self, X, reset=False)
        target = self._checked_target(y, table)
        self.conformity_scores_ = self._conformity(table, target)
        return self

    def _checked_target(self, y: Any, table: pd.DataFrame) -> NDArray[Any]:
        raise NotImplementedError

    def _conformity(
        self, table: pd.DataFrame, target: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Return how far each row's target is from what is predicted, in [0, 1]."""
        raise NotImplementedError

    def _fit(
        self, table: pd.DataFrame, y: Any, target: NDArray[Any], weight: NDArray[Any]
    ) -> None:
        """Make the parts and run them in order."""
        rng = _stream(self.random_state)
        share_stream(rng, self.device)
        pretrained = LanguageModel.load(self.model, device=self.device)
        encoder, finetuner, decoder = self._chosen_parts(pretrained)
        rows, weight = _distinct_rows(table, target, weight)
        self.decoder_ = _fitted_decoder(decoder, target[rows], weight)
        named = pd.Series(target[rows], name=getattr(y, "name", None))
        options = _weight_option(encoder, weight)
        self.encoder_ = unchecked(encoder.fit)(table.iloc[rows], named, **options)
        answers = self.decoder_.answers_
        # Training meets rows in another order: too long a row is better named here, by
        # its place in the whole table.
        prompts = _sentences(self.encoder_, table.iloc[rows])
        pretrained.check_lengths(prompts, pretrained.trie(answers.texts).depth, rows)
        corpus = Corpus(self.encoder_, answers, table.iloc[rows], target[rows], weight)
        self.finetuner_ = finetuner
        members = tune_members(
            finetuner,
            pretrained,
            corpus,
            rng,
            stratify=self._task == "classification",
            watch=self._monitor,
            verbose=self.verbose,
        )
        models = tuple(lm for lm, _ in members)
        self.language_model_ = Ensemble(models) if len(models) > 1 else models[0]
        held_out = [
            (lm, self._prompts(rows.table), rows.target, rows.weight)
            for lm, rows in members
            if rows is not None
        ]
        if held_out and hasattr(self.decoder_, "calibrate"):
            self.decoder_.calibrate(held_out)

    def _chosen_parts(self, pretrained: LanguageModel) -> list[Any]:
        """Return copies of the parts, with what is "auto" as the model prefers it."""
        preferences = pretrained.preferences.get(self._task, {})
        chosen = []
        for name, default in self._parts.items():
            given = getattr(self, name)
            part: Any = default() if given is None else clone(given, safe=False)
            if isinstance(part, default):
                settled = part.get_params(deep=False)
                part.set_params(
                    **{
                        parameter: value
                        for parameter, value in preferences.get(name, {}).items()
                        if isinstance(settled[parameter], str)
                        and settled[parameter] == "auto"
                    }
                )
            chosen.append(part)
        return chosen

    def _monitor(self, rows: Corpus) -> Monitor:
        """Return what tells how well a model does on rows."""
        raise NotImplementedError

    def _prompts(self, table: pd.DataFrame) -> list[str] | list[list[str]]:
        """Return the rows' sentences, in as many wordings as the decoder reads."""
        n_wordings = getattr(self.decoder_, "n_wordings_", 1)
        prompts: list[str] | list[list[str]]
        if n_wordings == 1:
            prompts = _sentences(self.encoder_, table)
        elif hasattr(self.encoder_, "reword"):
            prompts = unchecked(self.encoder_.reword)(table, n_wordings)
        else:
            raise TypeError(
                f"n_wordings={n_wordings} needs an encoder with a method reword, which "
                f"{type(self.encoder_).__name__} has not. Use a RowEncoder, or set the "
                "decoder's n_wordings to 1."
            )
        return prompts

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


def check_coverage(coverage: float) -> None:
    """Raise unless it is one share of the rows."""
    check_number(
        coverage,
        Interval(Real, 0, 1, closed="neither"),
        "The coverage is a share in (0, 1)",
        "Give one number, such as 0.9, and call once for each of several.",
    )


def conformal_quantile(scores: NDArray[np.float64], coverage: float) -> float:
    """Return what a new row's score exceeds with less than the left-over probability.

    Among the scores and the new one each rank is equally probable. Too few scores
    promise nothing less than 1, the greatest.

    >>> conformal_quantile(np.arange(1, 10) / 10, 0.8)
    0.8
    >>> conformal_quantile(np.arange(1, 10) / 10, 0.95)
    1.0
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else 1.0


def _stream(random_state: Any) -> RandomState:
    """Return the stream of a fit; None takes one seed from numpy's global stream."""
    stream = check_random_state(random_state)
    return RandomState(stream.randint(2**31)) if random_state is None else stream


def _distinct_rows(
    table: pd.DataFrame, target: NDArray[Any], weight: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return where each distinct row and target stands first, sorted, and its weight.

    So rows in another order, repeated rows, and rows with weights are the same to fit.
    """
    present = np.flatnonzero(weight)
    columns = [table.iloc[present, i] for i in range(table.shape[1])]
    codes = [_codes(column) for column in [*columns, pd.Series(target[present])]]
    _, first, inverse = np.unique(
        np.column_stack(codes), axis=0, return_index=True, return_inverse=True
    )
    total = np.bincount(inverse.ravel(), weight[present])
    return present[first], weights_in_proportion(total.astype(np.float64))


def _codes(cells: pd.Series) -> NDArray[np.intp]:
    """Return the place of each cell among the sorted distinct ones; -1 if missing."""
    if cells.dtype == object:  # unlike types can't be sorted, lists not be compared
        cells = cells.map(repr, na_action="ignore")
    codes: NDArray[np.intp] = pd.factorize(cells, sort=True)[0]
    return codes


def _fitted_decoder(
    decoder: Any, target: NDArray[Any], weight: NDArray[np.float64]
) -> Any:
    """Return a decoder that knows the answers; a user's own may be anything."""
    fitted = None
    if not isinstance(decoder, ClassifierMixin | RegressorMixin):  # they fit tables
        fitted = decoder.fit(target, **_weight_option(decoder, weight))
    if not hasattr(getattr(fitted, "answers_", None), "texts"):
        raise TypeError(
            "Expected a decoder whose fit(y) returns it with answers_, the texts that "
            f"the model is to answer with, got {decoder!r}. Use a LabelDecoder for "
            "classes and a NumberDecoder for numbers, or a class derived from these."
        )
    return fitted


def _sentences(encoder: Any, table: pd.DataFrame) -> list[str]:
    """Return what an encoder writes of each row; a user's own may be anything."""
    if not hasattr(encoder, "transform"):
        raise TypeError(
            "Expected the encoder's fit to return a fitted encoder, got "
            f"{encoder!r}. Return self there."
        )
    sentences = [*unchecked(encoder.transform)(table)]
    for sentence in sentences:
        if not isinstance(sentence, str):
            raise TypeError(
                "Expected a sentence for each row from the encoder's transform, but "
                f"{type(encoder).__name__} gave a {type(sentence).__name__}. Use a "
                "RowEncoder, or return a list of str."
            )
    if len(sentences) != len(table):
        raise ValueError(
            f"Expected a sentence for each of {len(table)} rows from the encoder's "
            f"transform, but {type(encoder).__name__} gave {len(sentences)}."
        )
    return sentences


def _weight_option(part: Any, weight: NDArray[np.float64]) -> dict[str, Any]:
    """Return the weights as an argument of the part's ``fit``, if it takes them."""
    takes_weight = has_fit_parameter(part, "sample_weight")
    return {"sample_weight": weight} if takes_weight else {}
