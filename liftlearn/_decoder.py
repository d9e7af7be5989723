"""Scores to predictions: class probabilities, or a distribution over numbers.

A language model is seen through its ``score`` alone. No torch is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from liftlearn._answers import (
    LabelAnswers,
    grid_span,
    plain_grid,
    scaled_grid,
)
from liftlearn._distribution import NumberDistribution, log_normalised
from liftlearn._rules import (
    BY_TABLE,
    Part,
    is_rule,
    spacing_by_table,
    temperature_by_table,
)
from liftlearn._validation import (
    Interval,
    StrOptions,
    check_fitted,
    check_sample_weight,
    check_target,
    fits_whole,
)

# The rows' sentences; or several lists of them, each in another wording.
Prompts = Sequence[str] | Sequence[Sequence[str]]

_N_WORDINGS = [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")]
# Where a temperature is looked for: from a twentieth to twenty.
_LOG_TEMPERATURES = (-3.0, 3.0)
# Standard deviation of a temperature's logarithm around what is expected.
_SPREAD = 0.5


@runtime_checkable
class Scorer(Protocol):
    """Gives each answer's log-probability, given that one of them follows."""

    def score(
        self, prompts: Sequence[str], answers: Sequence[str]
    ) -> NDArray[np.float64]: ...


class Scorers(Protocol):
    """Several of them, of which the mean is predicted."""

    @property
    def members(self) -> Sequence[Scorer]: ...


class LabelDecoder(Part):
    """Read class probabilities from a language model's scores of the classes' words.

    Parameters
    ----------
    words : {"auto", "codes", "labels"}, mapping or sequence of str, default="auto"
        The answer of each class: a short code word; the label's own text; a word given
        for each label; or words in the order of the sorted labels. ``"auto"`` is the
        model's preference, and ``"labels"`` for a model without one.
    temperature : float or "auto", default="auto"
        Temperature scaling [1]_ of an overconfident model: ``(score - log prior) / T``
        is used, so that a large one gives the class frequencies. A number is used as it
        is; 1 leaves probabilities as they are. ``"auto"`` begins with the model's
        preference, or with 1, and is fitted to held-out rows by their log-loss where
        training has some.
    n_wordings : int or "auto", default="auto"
        In how many ways each row is written for a prediction, which is the mean of
        their probabilities. ``"auto"`` is the model's preference, and 1 for a model
        without one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The distinct labels, sorted.
    answers_ : LabelAnswers
        Their answers: ``answers_.texts`` are the words, in the order of ``classes_``.
    class_prior_ : ndarray of shape (n_classes,)
        Their shares of the training rows, by weight and with one row more of each.
    temperature_, n_wordings_
        The values in use.

    Notes
    -----
    The probability of a class is that of its word and an end mark, given that one of
    the words follows: at each token only those compete that can still become a word.

    References
    ----------
    .. [1] C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, where
       there is no prior, so that a large temperature gives uniform probabilities.

    Examples
    --------
    >>> from liftlearn import LabelDecoder
    >>> LabelDecoder(words={0: "no", 1: "yes"}).fit([0, 1, 1]).answers_.texts
    ['no', 'yes']
    """

    _ruled = frozenset({"temperature"})
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "words": [StrOptions({"auto", "codes", "labels"}), Mapping, "array-like"],
        "temperature": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="neither"),
        ],
        "n_wordings": _N_WORDINGS,
    }

    def __init__(
        self,
        words: Any = "auto",
        *,
        temperature: float | str = "auto",
        n_wordings: int | str = "auto",
    ) -> None:
        self.words = words
        self.temperature = temperature
        self.n_wordings = n_wordings

    @fits_whole
    def fit(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> LabelDecoder:
        """Learn the classes.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            The labels.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts in the classes' shares. None counts each once.

        Returns
        -------
        self : LabelDecoder
            The fitted decoder.

        Raises
        ------
        ValueError
            If a label is missing, a class has no word, two classes have the same, a
            weight is negative, or all are zero.
        """
        y = check_target(self, y)
        weight = check_sample_weight(sample_weight, y)
        n_samples = int(np.count_nonzero(weight))
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.answers_ = LabelAnswers(self.classes_, self._chosen("words", "labels"))
        counts = np.bincount(codes, weight) * (n_samples / weight.sum())
        self.class_prior_ = (counts + 1) / (n_samples + len(counts))
        temperature = self._chosen("temperature", 1.0)
        if is_rule(temperature):
            temperature = temperature_by_table(n_samples)
        self.temperature_ = float(temperature)
        self.n_wordings_ = self._chosen("n_wordings", 1)
        return self

    def calibrate(
        self, held_out: Iterable[tuple[Scorer, Prompts, ArrayLike, ArrayLike]]
    ) -> LabelDecoder:
        """Fit the temperature, unless it is a number, on held-out rows.

        It is the most probable one. A prior keeps few rows from moving it much: its
        logarithm is normal around that of the temperature without such rows, with a
        standard deviation of a half.

        Parameters
        ----------
        held_out : iterable of tuple
            For each member: the model, sentences of its held-out rows as
            `predict_proba` takes them, their labels and their weights.

        Returns
        -------
        self : LabelDecoder
            The decoder, with its ``temperature_``.

        Raises
        ------
        NotFittedError
            If the decoder is not fitted.
        """
        check_fitted(self)
        if not is_rule(self._chosen("temperature", BY_TABLE)):
            return self
        parts = [
            (
                _scores(lm, prompts, self.answers_.texts),
                self.answers_.write(np.asarray(y)),
                np.asarray(weight),
            )
            for lm, prompts, y, weight in held_out
        ]
        # On any scale; a row counts as one on average.
        unit = np.concatenate([weight for *_, weight in parts]).mean()
        expected = np.log(self.temperature_)

        def loss(log_temperature: float) -> float:
            total = ((log_temperature - expected) / _SPREAD) ** 2 / 2
            for score, own, weight in parts:
                log_prob = self._log_proba(score, np.exp(log_temperature))
                total -= log_prob[np.arange(len(own)), own] @ weight / unit
            return float(total)

        found = minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded")
        self.temperature_ = float(np.exp(found.x))
        return self

    def predict_proba(
        self, lm: Scorer | Scorers, prompts: Prompts
    ) -> NDArray[np.float64]:
        """Return the probability of each class after each prompt.

        Parameters
        ----------
        lm : LanguageModel or Ensemble
            The model, or several, whose mean is predicted.
        prompts : sequence of str, or of sequences of str
            The rows' sentences; or several lists of them, each in another wording.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities; each row sums to 1.

        Raises
        ------
        NotFittedError
            If the decoder is not fitted.
        TypeError
            If it is no language model, or the prompts are no sentences.
        """
        check_fitted(self)
        score = _scores(lm, prompts, self.answers_.texts)
        return np.exp(self._log_proba(score, self.temperature_))

    def _log_proba(
        self, score: NDArray[np.float64], temperature: float
    ) -> NDArray[np.float64]:
        """Return the logarithm of the mean over members and wordings.

        Each is scaled first, since each is overconfident.
        """
        prior = np.log(self.class_prior_)
        return _log_mean(prior + (score - prior) / temperature)


class NumberDecoder(Part):
    """Read a distribution over numbers from a language model's scores of a grid.

    Parameters
    ----------
    point : {"median", "mean"}, default="median"
        What is predicted: the median has the least expected absolute error, the mean
        the least expected squared error.
    low, high : float, default=None
        Least and greatest number of the grid. None is the least or greatest training
        target, less or plus 2 % of the targets' range.
    grid : {"auto", "scaled", "plain"}, default="auto"
        How answers are written: as two-digit positions on the grid, or as round numbers
        in the target's own units. ``"auto"`` is the model's preference, and
        ``"plain"`` for a model without one.
    spacing : {"auto", "uniform", "quantile", "mixed"}, default="auto"
        How the hundred numbers of a scaled grid are spaced: evenly; with equally many
        training targets between them; or the mean of the quantile and of the normal
        distribution function. ``"auto"`` is the model's preference; else even, or
        ``"mixed"`` where fewer than 5 of the numbers would lie between the quartiles
        of the targets, as with heavy tails.
    n_wordings : int or "auto", default="auto"
        In how many ways each row is written for a prediction, which is the mean of
        their distributions. ``"auto"`` is the model's preference, and 1 for a model
        without one.

    Attributes
    ----------
    answers_ : NumberAnswers
        The grid: ``answers_.numbers`` and ``answers_.texts``, in increasing order.
    grid_, spacing_, n_wordings_
        The values in use; a plain grid is spaced evenly.

    Notes
    -----
    In training a target is moved at random each time it is written, by up to half the
    distance of two numbers of the grid or, where targets are few, by up to
    ``0.4 / sqrt(n_samples)`` of the grid, at most 5 %. So predictions are finer than
    the grid, and few targets are not overfitted so soon.

    Examples
    --------
    >>> from liftlearn import NumberDecoder
    >>> NumberDecoder(grid="plain", low=0).fit([1, 2, 4]).answers_.texts
    ['0', '1', '2', '3', '4']
    """

    _ruled = frozenset({"spacing"})
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "point": [StrOptions({"median", "mean"})],
        "low": [Interval(Real, None, None, closed="neither"), None],
        "high": [Interval(Real, None, None, closed="neither"), None],
        "grid": [StrOptions({"auto", "scaled", "plain"})],
        "spacing": [StrOptions({"auto", "uniform", "quantile", "mixed"})],
        "n_wordings": _N_WORDINGS,
    }

    def __init__(
        self,
        *,
        point: str = "median",
        low: float | None = None,
        high: float | None = None,
        grid: str = "auto",
        spacing: str = "auto",
        n_wordings: int | str = "auto",
    ) -> None:
        self.point = point
        self.low = low
        self.high = high
        self.grid = grid
        self.spacing = spacing
        self.n_wordings = n_wordings

    @fits_whole
    def fit(
        self, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> NumberDecoder:
        """Learn the grid.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each target counts in the grid. None counts each once.

        Returns
        -------
        self : NumberDecoder
            The fitted decoder.

        Raises
        ------
        ValueError
            If a target is no number or lies outside ``low`` and ``high``, a weight is
            negative, or all are zero.
        """
        y = check_target(self, y, numeric=True)
        weight = check_sample_weight(sample_weight, y)
        y, weight = y[weight > 0], weight[weight > 0]
        bounds = {"low": self.low, "high": self.high}
        self.grid_ = self._chosen("grid", "plain")
        self.spacing_ = "uniform"
        if self.grid_ == "scaled":
            self.spacing_ = self._chosen("spacing", BY_TABLE)
            if is_rule(self.spacing_):
                least, greatest = grid_span(y, **bounds)
                self.spacing_ = spacing_by_table(y, weight, greatest - least)
            self.answers_ = scaled_grid(y, weight, spacing=self.spacing_, **bounds)
        else:
            self.answers_ = plain_grid(y, **bounds)
        self.n_wordings_ = self._chosen("n_wordings", 1)
        return self

    def predict(
        self, lm: Scorer | Scorers, prompts: Prompts, *, return_std: bool = False
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the point prediction after each prompt.

        Parameters
        ----------
        lm : LanguageModel or Ensemble
            The model, or several, whose mean is predicted.
        prompts : sequence of str, or of sequences of str
            The rows' sentences; or several lists of them, each in another wording.
        return_std : bool, default=False
            Whether to return the distribution's standard deviation, too.

        Returns
        -------
        point : ndarray of shape (n_samples,)
            The median or mean, in the units of the target.
        std : ndarray of shape (n_samples,)
            Standard deviations; only if ``return_std``.

        Raises
        ------
        NotFittedError
            If the decoder is not fitted.
        TypeError
            If it is no language model, or the prompts are no sentences.
        """
        distribution = self.predict_distribution(lm, prompts)
        point = distribution.median if self.point == "median" else distribution.mean
        return (point, distribution.std) if return_std else point

    def predict_distribution(
        self, lm: Scorer | Scorers, prompts: Prompts
    ) -> NumberDistribution:
        """Return the distribution over numbers after each prompt.

        Parameters
        ----------
        lm : LanguageModel or Ensemble
            The model, or several, whose mean is predicted.
        prompts : sequence of str, or of sequences of str
            The rows' sentences; or several lists of them, each in another wording.

        Returns
        -------
        distribution : NumberDistribution
            A row for each prompt. Each answer's probability is spread evenly over its
            room on the grid.

        Raises
        ------
        NotFittedError
            If the decoder is not fitted.
        TypeError
            If it is no language model, or the prompts are no sentences.
        """
        check_fitted(self)
        log_prob = _log_mean(_scores(lm, prompts, self.answers_.texts))
        edges, answer, share = self.answers_.pieces()
        log_mass = log_prob[:, answer] + np.log(share)
        return NumberDistribution(
            edges, log_mass, self.answers_.low, self.answers_.high
        )


def _scores(
    lm: Scorer | Scorers, prompts: Prompts, answers: list[str]
) -> NDArray[np.float64]:
    """Return each answer's score: (n_models * n_wordings, n_rows, n_answers)."""
    if isinstance(prompts, str) or not len(prompts):
        raise TypeError(f"Expected a list of sentences as prompts, got {prompts!r}.")
    wordings = [prompts] if isinstance(prompts[0], str) else prompts
    if len({len(texts) for texts in wordings}) > 1:
        raise ValueError(
            "Expected a sentence for each row in each wording, got lists of "
            f"{[len(texts) for texts in wordings]} sentences."
        )
    members: Sequence[Any] = getattr(lm, "members", [lm])
    for member in members:
        if not hasattr(member, "score"):  # sooner than asking the protocol
            raise TypeError(f"Expected a language model as lm, got {member!r}.")
    # One wording at a time: what its prompts begin with is read once.
    return np.stack([m.score(texts, answers) for m in members for texts in wordings])


def _log_mean(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the mean over members and wordings."""
    return log_normalised(np.logaddexp.reduce(log_normalised(score), axis=0))
