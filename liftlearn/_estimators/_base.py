"""What both estimators share: the way from a table to a tuned model.

The base class runs the parts in order.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from liftlearn._corpus import Corpus
from liftlearn._decoder import Prompts
from liftlearn._estimators._cost import Cost
from liftlearn._estimators._hub import push
from liftlearn._estimators._parts import (
    CalibratedDecoder,
    Decoder,
    Encoder,
    Tuner,
    fitted_decoder,
    fitted_encoder,
    members_of,
    sentences,
    wordings,
)
from liftlearn._finetuner import (
    FineTuner,
    Member,
    PeakMemory,
    TrainingCost,
    bytes_of,
    share_stream,
    tell,
)
from liftlearn._language_model import DTYPES, READER, Ensemble, LanguageModel
from liftlearn._rules import Part, is_auto
from liftlearn._saving import save_fitted
from liftlearn._shots import (
    N_SHOTS,
    WAYS,
    Context,
    Ended,
    Shots,
    shot,
    with_endings,
)
from liftlearn._tables import check_table
from liftlearn._validation import (
    HasMethods,
    Interval,
    StrOptions,
    check_number,
    check_sample_weight,
    check_target,
    fits_whole,
    one_after_another,
    unchecked,
    unlearnt,
    weights_in_proportion,
)

# The estimators by the names that stand in saved folders; each module adds its own.
ESTIMATORS: dict[str, type[Parted]] = {}


# So many rows are predicted to tell how long more of them take.
_MOST_TRIED = 100


class Parted(BaseEstimator):
    """An estimator of parts, which are parameters: each None, or an instance."""

    _parts: ClassVar[dict[str, type[Part]]]
    _task: ClassVar[str]
    # What parts prefer where the model prefers nothing else.
    _usual: ClassVar[dict[str, dict[str, Any]]] = {}

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

    def push_to_hub(
        self,
        repo_id: str,
        *,
        merged: bool = False,
        private: bool = True,
        token: str | None = None,
        commit_message: str = "Upload a fitted liftlearn estimator",
    ) -> str:
        """Upload the fitted estimator to the Hugging Face hub, as `save` writes it.

        A model card is written where the repository has none: what the estimator is,
        its columns and classes, how it was trained and how to load it.
        ``liftlearn.load(repo_id, from_hub=True)`` loads it.

        Parameters
        ----------
        repo_id : str
            Name of the repository, such as ``"user/name"``. It is made if needed; an
            earlier estimator in it is replaced.
        merged : bool, default=False
            As for `save`.
        private : bool, default=True
            Whether a repository that is made is private. It holds names of columns,
            levels and labels, and with ``n_shots`` rows of the training table.
        token : str, default=None
            An access token that may write. None is that of ``hf auth login``.
        commit_message : str, default="Upload a fitted liftlearn estimator"
            What the hub shows.

        Returns
        -------
        url : str
            The commit's address.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError, ValueError
            Where `save` raises one, or if the name is none of a repository.
        HfHubHTTPError
            If the hub refuses it.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from liftlearn import LIFTClassifier
        >>> classifier = LIFTClassifier().fit(*load_iris(return_X_y=True))
        >>> classifier.push_to_hub("user/iris")  # doctest: +SKIP
        """
        check_is_fitted(self, "language_model_")
        return push(
            self,
            repo_id,
            merged=merged,
            private=private,
            token=token,
            commit_message=commit_message,
        )

    def _chosen_parts(self, pretrained: LanguageModel) -> list[Any]:
        """Return copies of the parts, which know what the model prefers."""
        preferences = pretrained.preferences.get(self._task, {})
        chosen = []
        for name, default in self._parts.items():
            given = getattr(self, name)
            part: Any = default() if given is None else clone(given, safe=False)
            if isinstance(part, default):
                usual = self._usual.get(name, {})
                part._prefer(usual | preferences.get(name, {}))
            chosen.append(part)
        return chosen

    def _sk_visual_block_(self) -> Any:
        """Return the way of the data, as scikit-learn's diagram shows it."""
        given = [(getattr(self, name), part) for name, part in self._parts.items()]
        parts: list[Any] = [part() if own is None else own for own, part in given]
        model: Any = getattr(self, "model_", self.model)
        named = "an embedded one" if model is None else model
        return one_after_another([parts[0], f"model: {named}", *parts[1:]])

    @property
    def _fields(self) -> list[tuple[str, list[str]]]:
        """What a sentence asks of the model, as `LanguageModel.fields` takes it."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


class LIFT(Parted):
    """What the classifier and the regressor share: the way from a table to a model."""

    _goes_on_from: ClassVar = frozenset({"language_model_", "model_"})

    model_: str | PathLike[str] | None
    encoder_: Encoder
    finetuner_: Tuner
    decoder_: Decoder
    language_model_: LanguageModel | Ensemble
    n_shots_: int
    context_: Context | None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, PathLike, None],
        "encoder": [HasMethods(["fit", "transform"]), None],
        "finetuner": [HasMethods("finetune"), None],
        "n_shots": [StrOptions({"auto"}), *N_SHOTS],
        "shots": WAYS,
        "device": [str, None],
        "dtype": [StrOptions(set(DTYPES))],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
    }

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        encoder: Any = None,
        finetuner: Any = None,
        decoder: Any = None,
        n_shots: int | str = "auto",
        shots: str = "random",
        device: str | None = None,
        dtype: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        warm_start: bool = False,
    ) -> None:
        self.model = model
        self.encoder = encoder
        self.finetuner = finetuner
        self.decoder = decoder
        self.n_shots = n_shots
        self.shots = shots
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start

    @fits_whole
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
    ) -> Self:
        """Fine-tune the model on a table and its target.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            The table: numbers, categories, text, dates; cells may be missing. Any
            dataframe that narwhals reads is taken.
        y : array-like of shape (n_samples,)
            The labels or numbers. The name of a pandas series is used in the question
            where the wording has one.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts. None counts each once.
        X_val : dataframe or array-like of shape (n_val, n_features), default=None
            Validation rows, with the columns of `X`, which are not learnt. They are
            measured after each epoch, and used where rows would be held out else: by
            early stopping, to fit a temperature, to choose a schedule. None holds rows
            out for these.
        y_val : array-like of shape (n_val,), default=None
            The validation rows' labels, of those in `y`, or numbers.

        Returns
        -------
        self : estimator
            The fitted estimator.

        Raises
        ------
        ValueError
            If the table, the target, the weights, the validation rows or a parameter
            can't be used, or a row is longer than the model can read, alone or with
            one that is to be shown before it; if no row is left to learn from beside
            held-out ones; if a warm start has nothing to go on from, or the model, the
            device or the number of members is not that of the earlier fit.
        TypeError
            If a part of your own does not do what such a part does, or what is given
            is of another kind altogether.

        Warns
        -----
        UserWarning
            If ``n_shots`` is more than there are rows, or than the model can read.
        """
        # 1.-3. What is to be learnt, and what the fit starts from.
        start, corpus, rng = self._prepared(X, y, sample_weight, X_val, y_val)
        # 4. The members learn it.
        tuned = self.finetuner_.finetune(
            start, corpus, rng, metric=self._metric, verbose=self.verbose
        )
        members = members_of(self.finetuner_, tuned)
        models = tuple(lm for lm, _ in members)
        self.language_model_ = Ensemble(models) if len(models) > 1 else models[0]
        if reads_in_context(self.language_model_):
            self._answering(self.language_model_).read(self.decoder_.answers_.texts)
        # 5. Rows that were not learnt tell how overconfident they are.
        if isinstance(self.decoder_, CalibratedDecoder):
            unseen = [*self._unseen(members, corpus.validation)]
            if unseen:
                self.decoder_.calibrate(unseen)
        return self

    def _prepared(
        self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any
    ) -> tuple[LanguageModel | Ensemble, Corpus, RandomState]:
        """Return the model to begin with, what it is to learn, and the fit's stream."""
        # 1. What was given, and what the fit starts from.
        table = check_table(self, X, reset=True)
        target = self._checked_target(y, table)
        weight = self._checked_weight(sample_weight, table, target)
        validation = self._checked_validation(X_val, y_val)
        rng = fit_stream(self.random_state)
        share_stream(rng, self.device)
        rows, weight = distinct_rows(table, target, weight)
        table, target = table.iloc[rows], target[rows]
        start = self._start(table, target)
        pretrained = members_in(start)[0]
        encoder, self.finetuner_, decoder = self._chosen_parts(pretrained)
        # 2. What is to be learnt, and how it is written.
        self.decoder_ = fitted_decoder(decoder, target, weight)
        named = pd.Series(target, name=getattr(y, "name", None))
        self.encoder_ = fitted_encoder(encoder, table, named, weight)
        answers = self.decoder_.answers_
        # Training meets rows in another order: too long a row is better named here, by
        # its number in the whole table.
        prompts = sentences(self.encoder_, table)
        pretrained.check_lengths(prompts, pretrained.trie(answers.texts).depth, rows)
        corpus = Corpus(self.encoder_, answers, table, target, weight)
        if self.verbose:
            first = int(np.argmin(rows))
            answer = answers.texts[answers.write(target[[first]], None)[0]]
            tell(f"The first row is written: {prompts[first]!r}, answer {answer!r}.")
        # 3. Which labelled rows are shown before each.
        shots = self._chosen_shots(pretrained, corpus, prompts, rng)
        corpus = replace(corpus, shots=shots)
        if validation is not None:
            rows_to_validate = self._validation_corpus(*validation, pretrained, corpus)
            corpus = replace(corpus, validation=rows_to_validate)
        self.n_shots_, self.context_ = 0, None
        if shots is not None:
            write = partial(wordings, self.encoder_, self.decoder_)
            self.n_shots_, self.context_ = shots.n_shots, corpus.context(write)
            if pretrained.reads_in_context and shots.n_shots < len(corpus):
                # The weights have drawn the rows, and count no more.
                even = np.ones(len(self.context_.weight))
                self.context_ = replace(self.context_, weight=even)
        return start, corpus, rng

    def estimate_cost(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None
    ) -> Cost:
        """Tell before a fit what it will take, and predictions after it.

        A second or two of the training are tried on a copy, and a few predictions.
        Nothing is learnt: a fitted estimator stays as it is.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            The table that `fit` is to be given.
        y : array-like of shape (n_samples,)
            Its labels or numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        cost : Cost
            With ``n_models``, ``n_steps``, ``n_tokens``, ``tokens_per_row``,
            ``fit_seconds`` and ``fit_memory``, which are at the most: a fit ends sooner
            where members agree or early stopping ends one. With ``predict_seconds`` and
            ``predict_memory`` of 1,000 rows. Memory is in bytes, of the model and
            tensors, without the libraries.

        Raises
        ------
        ValueError
            If `fit` would raise one.
        TypeError
            If a part of your own does not do what such a part does, or the fine-tuner
            has no method ``estimate``.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from liftlearn import FineTuner, LIFTClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> tuner = FineTuner(max_steps=100, n_models=1)
        >>> LIFTClassifier(finetuner=tuner).estimate_cost(X, y).n_steps
        100
        """
        self._validate_params()
        trial = unlearnt(self)
        trial.verbose = 0
        if not isinstance(trial.random_state, Integral):
            trial.random_state = 0  # no stream of the user's moves on
        began = time.monotonic()
        start, corpus, rng = trial._prepared(X, y, sample_weight, None, None)
        tuner: Any = trial.finetuner_
        if not hasattr(tuner, "estimate"):
            raise TypeError(
                "Expected a fine-tuner with a method estimate(lm, corpus, rng), but "
                f"{type(tuner).__name__} has none. Use a FineTuner."
            )
        beside = time.monotonic() - began
        training: TrainingCost = tuner.estimate(start, corpus, rng)
        trial.language_model_ = training.lm
        return trial._cost(training, corpus, beside)

    def _cost(self, training: TrainingCost, corpus: Corpus, beside: float) -> Cost:
        """Return the whole cost: of training, of what is done beside it, of answers."""
        began, fit_memory, weights = time.monotonic(), training.memory, 0
        if isinstance(training.lm, LanguageModel):
            weights = bytes_of(training.lm.model)
        if reads_in_context(training.lm):
            with PeakMemory() as memory:
                self._answering(training.lm).read(self.decoder_.answers_.texts)
            beside += time.monotonic() - began
            fit_memory = weights + memory.most
        predict = unchecked(getattr(self, "predict_proba", self.predict))
        n_rows = min(len(corpus), _MOST_TRIED)
        table = corpus.table.iloc[np.arange(n_rows)]
        with PeakMemory() as memory:
            predict(table)
        began = time.monotonic()
        predict(table)
        seconds = (time.monotonic() - began) / n_rows
        return Cost(
            n_models=training.n_models,
            n_steps=training.n_steps,
            n_tokens=training.n_tokens,
            tokens_per_row=training.tokens_per_row,
            fit_seconds=beside + training.seconds + training.n_rows_measured * seconds,
            fit_memory=fit_memory,
            predict_seconds=1000 * seconds * training.n_models,
            predict_memory=weights * training.n_models + memory.most,
        )

    def sample_y(
        self,
        X: Any,
        n_samples: int = 1,
        *,
        temperature: float = 1.0,
        random_state: Any = None,
    ) -> NDArray[Any]:
        """Draw targets from what is predicted of each row, as LIFT does from the model.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_rows, n_features)
            A table with the columns seen in `fit`.
        n_samples : int, default=1
            How many are drawn for each row.
        temperature : float, default=1.0
            Probabilities, or densities, are raised to the power of its inverse: below 1
            the probable becomes more so, above 1 less.
        random_state : int, RandomState instance or None, default=None
            Draws them.

        Returns
        -------
        targets : ndarray of shape (n_rows, n_samples)
            Labels, or numbers in the units of the target.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table is not like that of `fit`, a row is longer than the model can
            read, or the temperature or the count of draws is no positive number.
        """
        return self._sampled(X, n_samples, temperature, random_state)

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

    @property
    def _fields(self) -> list[tuple[str, list[str]]]:
        return [("", self.decoder_.answers_.texts)]

    def _checked_target(self, y: Any, table: pd.DataFrame) -> NDArray[Any]:
        raise NotImplementedError

    def _known_target(self, target: NDArray[Any], name: str) -> NDArray[Any]:
        """Return a target of other rows, in which `fit` has seen all labels."""
        return target

    def _checked_validation(
        self, X_val: Any, y_val: Any
    ) -> tuple[pd.DataFrame, NDArray[Any]] | None:
        """Return the validation rows as a table and its target, if there are some."""
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            given, missing = "X_val", "y_val"
            if X_val is None:
                given, missing = missing, given
            raise ValueError(
                "Expected validation rows as a table and its target, got "
                f"{given} without {missing}. Give fit both, or neither."
            )
        with _of_validation_rows():
            table = check_table(self, X_val, reset=False)
            is_number = self._task == "regression"
            return table, check_target(self, y_val, table, numeric=is_number)

    def _validation_corpus(
        self,
        table: pd.DataFrame,
        target: NDArray[Any],
        lm: LanguageModel,
        corpus: Corpus,
    ) -> Corpus:
        """Return validation rows as they are written and answered; each counts once."""
        with _of_validation_rows():
            target = self._known_target(target, "y_val")
            prompts = sentences(self.encoder_, table)
            depth = lm.trie(corpus.answers.texts).depth
            lm.check_lengths(prompts, depth, range(len(table)))
        weight = np.ones(len(table))
        return replace(corpus, table=table, target=target, weight=weight, shown=corpus)

    def _checked_weight(
        self, sample_weight: Any, table: pd.DataFrame, target: NDArray[Any]
    ) -> NDArray[np.float64]:
        return check_sample_weight(sample_weight, table)

    def _sampled(
        self, X: Any, n_samples: int, temperature: float, random_state: Any
    ) -> NDArray[Any]:
        raise NotImplementedError

    def _conformity(
        self, table: pd.DataFrame, target: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Return how far each row's target is from what is predicted, in [0, 1]."""
        raise NotImplementedError

    def _start(
        self, table: pd.DataFrame, target: NDArray[Any]
    ) -> LanguageModel | Ensemble:
        """Return a model to begin with, or in a warm start what the last fit tuned."""
        if hasattr(self, "language_model_"):
            self._check_warm_start()
            return self.language_model_
        self.model_ = self._chosen_model(table, target)
        return LanguageModel.load(self.model_, device=self.device, dtype=self.dtype)

    def _check_warm_start(self) -> None:
        """Raise unless the last fit left what this one can go on from."""
        advice = "Or set warm_start=False to begin afresh."
        for member in members_in(self.language_model_):
            if not isinstance(member, LanguageModel):
                raise TypeError(
                    "warm_start=True goes on from a LanguageModel, but the last fit's "
                    f"fine-tuner gave a {type(member).__name__}. {advice}"
                )
            if member.reads_in_context:
                raise ValueError(
                    "warm_start=True goes on from what the last fit tuned, but that "
                    "read its rows in context and tuned nothing. Fit the first table "
                    f"with n_shots=0, which tunes. {advice}"
                )
            if self.dtype != "auto" and self.dtype != member.dtype:
                raise ValueError(
                    f"dtype={self.dtype!r}, but warm_start=True goes on from a model "
                    f'in {member.dtype}. Set dtype="auto". {advice}'
                )
            if self.device is not None and not member.is_on(self.device):
                raise ValueError(
                    f"device={self.device!r}, but warm_start=True goes on from a model "
                    "on another one. Save the estimator and move it with "
                    f"liftlearn.load(folder, device={self.device!r}). {advice}"
                )
        if str(self.model) != str(self.model_):
            raise ValueError(
                f"model={self.model!r}, but warm_start=True goes on from what was "
                f"tuned from model={self.model_!r}. Set that again. {advice}"
            )

    def _chosen_model(
        self, table: pd.DataFrame, target: NDArray[Any]
    ) -> str | PathLike[str] | None:
        """Return the user's model, or which of the embedded ones suits the table.

        One reads the labelled rows in context, the other one is fine-tuned on them. A
        warm start needs tuned weights.
        """
        tuner = self.finetuner
        trains = not is_default(tuner, FineTuner) and getattr(tuner, "n_epochs", 1) != 0
        if self.model is not None or self.n_shots == 0 or trains:
            return self.model
        if not is_auto(self.n_shots):
            return READER
        reads = not self.warm_start and self._suits_reader(table, target)
        return READER if reads else None

    def _suits_reader(self, table: pd.DataFrame, target: NDArray[Any]) -> bool:
        """Return whether a table is better read in context than learnt."""
        return False

    def _chosen_shots(
        self,
        pretrained: LanguageModel,
        corpus: Corpus,
        prompts: list[str],
        rng: RandomState,
    ) -> Shots | None:
        """Return how many labelled rows are shown, and which; None shows none."""
        asked = self.n_shots
        if is_auto(asked):
            preferences = pretrained.preferences.get(self._task, {})
            asked = preferences.get("n_shots", 0)
        if asked == 0 and pretrained.reads_in_context:
            raise ValueError(
                "n_shots=0 shows no labelled rows, but to read them is all that this "
                'model can do. Set n_shots="auto" or "all", or choose another model.'
            )
        if asked == 0:
            return None
        n_most = len(corpus) if isinstance(asked, str) else min(int(asked), len(corpus))
        answers = corpus.answers.texts
        if pretrained.reads_in_context:
            if self.shots == "nearest":
                raise ValueError(
                    "shots='nearest' shows each question rows of its own, but this "
                    "model reads the same rows for all questions, and weighs them for "
                    "each. Leave shots at 'random', or set it to 'balanced'."
                )
            self._tell_of_shots(n_most, len(corpus))
            return Shots(
                n_most,
                self.shots,
                of_numbers=self._task == "regression",
                separator="",
                seed=int(rng.randint(2**31)),
                too_long=lambda _: [],
            )
        separator = pretrained.separator(answers)
        own = corpus.answers.write(corpus.target, None)
        texts = [
            shot(prompt, answers[answer], separator)
            for prompt, answer in zip(prompts, own, strict=True)
        ]
        ended = with_endings(answers, separator)
        n_more = max(map(len, pretrained.trie(ended).whole))
        n_shots = pretrained.n_fitting(prompts, texts, n_most, n_more)
        self._tell_of_shots(n_shots, len(corpus))
        return Shots(
            n_shots,
            self.shots,
            of_numbers=self._task == "regression",
            separator=separator,
            seed=int(rng.randint(2**31)),
            too_long=partial(pretrained.too_long, n_more=n_more),
        )

    def _tell_of_shots(self, n_shots: int, n_rows: int) -> None:
        """Raise if none can be shown, and warn if they are fewer than the user's."""
        if not n_shots:
            raise ValueError(
                f"n_shots={self.n_shots!r} shows labelled rows before each question, "
                "but the longest row does not fit before another one into what the "
                "model reads. Drop columns, write fewer digits with "
                "RowEncoder(digits=...) or less text with RowEncoder(text_length=...), "
                "or set n_shots=0."
            )
        if not isinstance(self.n_shots, str) and n_shots < self.n_shots:
            reason = (
                f"there are {n_rows} different rows"
                if n_shots == n_rows
                else f"the model reads no more than {n_shots} with the longest row"
            )
            warnings.warn(
                f"n_shots={self.n_shots!r}, but {reason}: {n_shots} are shown. Set "
                'n_shots="all" to show as many as there are and fit.',
                UserWarning,
                stacklevel=7,
            )

    def _metric(self, lm: LanguageModel, rows: Corpus) -> float:
        """Return how well a model does on rows: higher is better."""
        raise NotImplementedError

    def _prompts(self, table: pd.DataFrame) -> Prompts:
        """Return what is asked of each row, behind the rows that are shown."""
        questions = wordings(self.encoder_, self.decoder_, table)
        if self.context_ is None or reads_in_context(self.language_model_):
            return questions
        return self.context_.before(questions, table, self._too_long)

    def _unseen(
        self, members: Sequence[Member], validation: Corpus | None
    ) -> Iterator[tuple[Any, Prompts, NDArray[Any], NDArray[np.float64]]]:
        """Yield, for each member, prompts, targets and weights of rows not learnt."""
        for lm, held_out in members:
            if validation is not None:  # new rows, and asked as such
                prompts, rows = self._prompts(validation.table), validation
            elif held_out is not None:
                prompts, rows = self._held_out_prompts(held_out), held_out
            else:
                continue
            yield self._answering(lm), prompts, rows.target, rows.weight

    def _held_out_prompts(self, rows: Corpus) -> Prompts:
        return rows.wordings(partial(wordings, self.encoder_, self.decoder_))

    def _answering(self, lm: Any) -> Any:
        """Return a model that answers as the rows that are shown are answered."""
        if self.context_ is None:
            return lm
        if not reads_in_context(lm):
            return Ended(lm, self.context_.separator)
        context = self.context_
        return lm.in_context(
            context.sentences[0], context.answers, context.weight, context.seed
        )

    def _too_long(self, prompts: Sequence[str]) -> list[int]:
        """Return which prompts are longer than the model can read."""
        lm = members_in(self.language_model_)[0]
        if self.context_ is None or not isinstance(lm, LanguageModel):
            return []
        ended = with_endings(self.decoder_.answers_.texts, self.context_.separator)
        return lm.too_long(prompts, max(map(len, lm.trie(ended).whole)))


def is_default(part: Any, default: type[Part]) -> bool:
    """Return whether a part has nothing but its default parameters."""
    if part is None:
        return True
    usual = default().get_params(deep=False)
    given = part.get_params(deep=False) if type(part) is default else {}
    return given.keys() == usual.keys() and all(
        value is usual[name] or (np.isscalar(value) and value == usual[name])
        for name, value in given.items()
    )


def members_in(lm: Any) -> Sequence[Any]:
    """Return the members of an ensemble; of anything else itself."""
    members: Sequence[Any] = getattr(lm, "members", [lm])
    return members


@contextmanager
def _of_validation_rows() -> Iterator[None]:
    """Let an error say that it is of the validation rows, not of X and y."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"In the validation rows, X_val and y_val: {error}") from error


def reads_in_context(lm: Any) -> bool:
    """Return whether it is a model that sees labelled rows through its attention."""
    return isinstance(lm, LanguageModel) and lm.reads_in_context


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


def fit_stream(random_state: Any) -> RandomState:
    """Return the stream of a fit; None takes one seed from numpy's global stream."""
    stream = check_random_state(random_state)
    return RandomState(stream.randint(2**31)) if random_state is None else stream


def distinct_rows(
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
    """Return the rank of each cell among the sorted distinct ones; -1 if missing."""
    if cells.dtype == object:  # unlike types can't be sorted, lists not be compared
        cells = cells.map(repr, na_action="ignore")
    codes: NDArray[np.intp] = pd.factorize(cells, sort=True)[0]
    return codes
