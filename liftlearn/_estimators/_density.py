"""Whole rows: drawn, completed, and judged by how probable they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.base import DensityMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from liftlearn._distribution import NumberDistribution, log_normalised
from liftlearn._encoder import RowEncoder
from liftlearn._estimators._base import ESTIMATORS, Parted, distinct_rows, fit_stream
from liftlearn._estimators._parts import members_of
from liftlearn._finetuner import FineTuner, share_stream
from liftlearn._language_model import (
    DTYPES,
    TASKS,
    Ensemble,
    LanguageModel,
    Sentences,
)
from liftlearn._tables import as_pandas, check_table, names_of
from liftlearn._validation import (
    HasMethods,
    Interval,
    StrOptions,
    check_number,
    check_sample_weight,
    fits_whole,
)
from liftlearn._whole_rows import UNKNOWN, UNMET, GridAnswers, RowCorpus, WholeRows

# Orders of the columns over which a row's probability is averaged.
_ORDERS = 8
# What the target's column is called where it has no name.
_TARGET = "target"


class LIFTDensity(DensityMixin, Parted):
    """The joint distribution of a table's columns, learnt by a language model.

    Each row is a sentence in which every cell is an answer, and training maximises the
    probability of all of them. So rows can be drawn, missing cells filled in, and rows
    judged by their probability, all by one model. Columns stand in a fresh order each
    time, so any of them can be given.

    Parameters
    ----------
    model : str, PathLike or None, default=None
        A name on the Hugging Face hub, a folder or a ``.gguf`` file. None is the
        embedded model.
    encoder : RowEncoder, default=None
        How cells are written. None is a ``RowEncoder()``.
        ``RowEncoder(shuffle_columns=False)`` keeps the columns in the table's order.
    finetuner : FineTuner, default=None
        How the model learns. None is a ``FineTuner()``.
    device : str, default=None
        Where to run, such as ``"cpu"`` or ``"cuda:0"``. None is a GPU where there is
        one.
    dtype : {"auto", "float32", "bfloat16", "float16", "int8", "nf4"}, default="auto"
        What the model's weights are kept in. ``"auto"`` is float32 up to 300 million
        weights; larger ones stay in 16 bits, if their files and the device have these.
        ``"int8"`` and ``"nf4"``, 4 bits, quantize its linear layers.
    random_state : int, RandomState instance or None, default=None
        Draws the order of rows and columns. An int makes fits repeatable.
    verbose : int, default=0
        Above 0 one progress bar is shown for the whole fit; not in joblib's workers.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of ``X`` in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where all of them are strings.
    encoder_, finetuner_
        The fitted parts.
    language_model_ : LanguageModel or Ensemble
        The tuned model, or the members of an ensemble.
    rows_ : WholeRows
        What each column's cells can be, and how they are written.
    orders_ : ndarray of shape (n_orders, n_columns)
        The orders of the columns over which probabilities are averaged: eight drawn
        ones, in which a target stands last, or the table's own alone.
    target_ : str, int or None
        The name of the column that ``y`` became.

    See Also
    --------
    sklearn.neighbors.KernelDensity : The same methods for a few continuous columns.

    Notes
    -----
    Cells are of finite lists: a column's levels, or the numbers of a grid. Where all
    numbers of a column are multiples of a unit (whole, tenths, days, ...), so are those
    that are drawn, and they have probabilities. Other numbers have a density per unit
    of the column. Beyond the numbers of `fit` lies the probability that the next of
    exchangeable numbers is the least or the greatest, with an exponential tail; draws
    leave it out. Free text is refused, since there is no finite list of it.

    A model's probability of a row depends on the order of its columns. It is averaged
    over ``orders_`` and over ensemble members, and so are draws: the average is a
    distribution, too, and sums to 1.

    References
    ----------
    .. [1] T. Dinh et al., "LIFT: Language-Interfaced Fine-Tuning for Non-Language
       Machine Learning Tasks", NeurIPS 2022.
    .. [2] V. Borisov et al., "Language Models are Realistic Tabular Data Generators",
       ICLR 2023: columns in random order.
    .. [3] B. Uria, I. Murray, H. Larochelle, "A Deep and Tractable Density
       Estimator", ICML 2014: the mean over orders.

    Examples
    --------
    >>> import pandas as pd
    >>> from liftlearn import FineTuner, LIFTDensity
    >>> X = pd.DataFrame(
    ...     {"age": [41, 23, 35] * 5, "job": ["nurse", "cook", "cook"] * 5}
    ... )
    >>> density = LIFTDensity(finetuner=FineTuner(max_steps=60), random_state=0).fit(X)
    >>> density.sample(2, given={"job": "cook"}, random_state=0)["job"].tolist()
    ['cook', 'cook']
    """

    _parts: ClassVar[dict[str, Any]] = {"encoder": RowEncoder, "finetuner": FineTuner}
    _task = "density"
    _usual: ClassVar[dict[str, dict[str, Any]]] = {"encoder": {"shuffle_columns": True}}

    encoder_: RowEncoder
    language_model_: LanguageModel | Ensemble
    rows_: WholeRows
    orders_: NDArray[np.intp]
    target_: str | int | None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, PathLike, None],
        "encoder": [RowEncoder, None],
        "finetuner": [HasMethods("finetune"), None],
        "device": [str, None],
        "dtype": [StrOptions(set(DTYPES))],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        encoder: Any = None,
        finetuner: Any = None,
        device: str | None = None,
        dtype: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.encoder = encoder
        self.finetuner = finetuner
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    @fits_whole
    def fit(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn the joint distribution of the columns.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            The table: numbers, categories, dates; cells may be missing.
        y : array-like of shape (n_samples,), default=None
            One more column, such as the target. It is called by its name, or
            ``"target"``.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts. None counts each once.

        Returns
        -------
        self : LIFTDensity
            The fitted estimator.

        Raises
        ------
        ValueError
            If the table, the weights or a parameter can't be used, a column holds free
            text, or a row is longer than the model can read.
        """
        # 1. What was given, and what the fit starts from.
        table = check_table(self, X, reset=True)
        _check_distinct(table)
        dtypes = list(X.dtypes if isinstance(X, pd.DataFrame) else table.dtypes)
        self.target_ = None
        if y is not None:
            column = _target_column(y, table)
            self.target_ = column.name
            dtypes.append(column.dtype)
            table = _with_column(table, column)
        weight = check_sample_weight(sample_weight, table)
        rng = fit_stream(self.random_state)
        share_stream(rng, self.device)
        rows, weight = distinct_rows(table, np.zeros(len(table)), weight)
        table = table.iloc[rows]
        pretrained = LanguageModel.load(
            self.model, device=self.device, dtype=self.dtype
        )
        if pretrained.reads_in_context:
            raise ValueError(
                f"model={self.model!r} reads labelled rows and answers one question "
                "of each, but here every cell is an answer. Choose another model."
            )
        encoder, self.finetuner_ = self._chosen_parts(pretrained)
        # 2. What is to be learnt, and how it is written.
        self.encoder_ = encoder.fit(table, sample_weight=weight)
        self.rows_ = WholeRows.fit(self.encoder_, table, dtypes, weight)
        shuffles = bool(self.encoder_.shuffle_columns_)
        self.orders_ = self._orders(rng) if shuffles else _table_order(table)
        corpus = RowCorpus(self.rows_, self.encoder_, table, weight, shuffles)
        self._sentences(pretrained)  # raises where a row is too long to be read
        # 3. The members learn it.
        tuned = self.finetuner_.finetune(
            pretrained, corpus, rng, metric=self._metric, verbose=self.verbose
        )
        models = tuple(lm for lm, _ in members_of(self.finetuner_, tuned))
        self.language_model_ = Ensemble(models) if len(models) > 1 else models[0]
        return self

    def sample(
        self,
        n_samples: int = 1,
        *,
        given: Any = None,
        temperature: float = 1.0,
        random_state: Any = None,
    ) -> pd.DataFrame:
        """Draw rows.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        given : mapping or dataframe, default=None
            Known cells, by the names of their columns: those of one row for all draws,
            or of a row for each. Missing ones are drawn, too.
        temperature : float, default=1.0
            The probabilities of an answer's tokens are raised to the power of its
            inverse: below 1 the probable becomes more so, above 1 less.
        random_state : int, RandomState instance or None, default=None
            Draws the rows.

        Returns
        -------
        table : DataFrame of shape (n_samples, n_columns)
            With the names and types of the columns of `fit`. Every cell is a level or
            within the range that `fit` met, and missing as often as there.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If ``given`` names no column of `fit`, or holds a level that it did not
            meet; if the temperature or the count of draws is no positive number.
        """
        check_is_fitted(self)
        _check_count(n_samples, "n_samples", "It is how many rows are drawn.")
        check_number(
            temperature,
            Interval(Real, 0, None, closed="neither"),
            "The temperature is a positive number",
            "1 draws as the model says.",
        )
        rng = check_random_state(random_state)
        table = self._given({} if given is None else given, n_samples)
        known = self._known(table)
        drawn = self._drawn(known, rng, temperature, missing=True)
        made = self.rows_.table(drawn, rng.uniform(size=drawn.shape))
        return self._with_known(made, table, known != UNKNOWN)

    def impute(
        self, X: Any, *, n_draws: int | None = None, random_state: Any = None
    ) -> Any:
        """Fill in missing cells.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_columns)
            A table with the columns seen in `fit`, with or without the target's.
        n_draws : int, default=None
            How often missing cells are drawn, those of a row jointly: multiple
            imputation. None fills in one value: the most probable level, or the median,
            given the row's known cells.
        random_state : int, RandomState instance or None, default=None
            Draws the cells.

        Returns
        -------
        filled : DataFrame, or list of n_draws of them
            Cells that were known stay as they were, and columns keep their types.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table is not like that of `fit`, or ``n_draws`` is no such count.
        """
        check_is_fitted(self)
        if n_draws is not None:
            _check_count(n_draws, "n_draws", "None fills in one value.")
        rng = check_random_state(random_state)
        table = self._table(X)
        known = self._known(table)
        shown = table.iloc[:, : _n_columns(X)]
        missing = shown.isna().to_numpy()
        if isinstance(X, pd.DataFrame):  # of its own types
            shown = X.set_axis(shown.columns, axis=1)
        if n_draws is not None:
            return [
                self._filled(
                    shown,
                    missing,
                    self._drawn(known, rng, 1.0, missing=False),
                    rng.uniform(size=known.shape),
                )
                for _ in range(n_draws)
            ]
        filled, share = known.copy(), np.full(known.shape, 0.5)
        for i, column in enumerate(self.rows_.columns[: shown.shape[1]]):
            rows = np.flatnonzero(missing[:, i])
            if not len(rows) or not column.n_values:
                continue
            log_prob = self._log_conditional(known[rows], i)
            if isinstance(column.answers, GridAnswers):
                filled[rows, i], share[rows, i] = _median(log_prob)
            else:
                filled[rows, i] = log_prob.argmax(axis=1)
        return self._filled(shown, missing, filled, share)

    def score_samples(self, X: Any, y: Any = None) -> NDArray[np.float64]:
        """Return the logarithm of each row's probability.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_columns)
            A table with the columns seen in `fit`, with or without the target's.
        y : array-like of shape (n_samples,), default=None
            The target's column, if it is not in ``X``. Without it, the probability is
            that of the other cells.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            In nats; for continuous columns a density per unit of the column. A missing
            cell is an event of its own where `fit` met some in its column, else it is
            left out. A row with a level that `fit` did not meet has -inf.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table is not like that of `fit`.
        """
        check_is_fitted(self)
        table = self._table(X, y)
        index = self.rows_.indices(self.encoder_, table)
        if self.target_ is not None and table.iloc[:, -1].isna().all():
            index[:, -1] = UNKNOWN
        is_unmet = (index == UNMET).any(axis=1)
        index[is_unmet] = UNKNOWN
        self._check_beginnings(index)
        scores = [
            self._sentences(lm).score(index, order)
            for lm in self._members
            for order in self.orders_
        ]
        mean = logsumexp(scores, axis=0, b=1 / len(scores))
        mean += self.rows_.log_prob_within(self.encoder_, table, index)
        return np.where(is_unmet, -np.inf, mean)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the logarithm of the probability of all rows: the sum over them.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_columns)
            As for `score_samples`.
        y : array-like of shape (n_samples,), default=None
            As for `score_samples`.

        Returns
        -------
        log_prob : float
            In nats.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table is not like that of `fit`.
        """
        return float(self.score_samples(X, y).sum())

    def conditional(self, X: Any, column: Any) -> pd.DataFrame | NumberDistribution:
        """Return the distribution of one cell of each row, given the others.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_columns)
            A table with the columns seen in `fit`, with or without the target's. The
            column's own cells are not looked at, and missing ones are not known.
        column : str or other name
            The column.

        Returns
        -------
        distribution : DataFrame or NumberDistribution
            The probability of each level, of shape (n_samples, n_levels), with the
            levels as names; or a distribution over numbers (of dates, seconds since
            1970). That the cell is missing is left out.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the table is not like that of `fit`, there is no such column, or all of
            its cells were missing.
        """
        check_is_fitted(self)
        i = self._number_of(column)
        own = self.rows_.columns[i]
        if not own.n_values:
            raise ValueError(f"All cells of column {column!r} were missing in fit.")
        table = self._table(X)
        table = _with_column(
            table, pd.Series([None] * len(table), name=table.columns[i]), i
        )
        log_prob = self._log_conditional(self._known(table), i)
        if isinstance(own.answers, GridAnswers):
            answers = own.answers.answers
            edges, answer, share = answers.pieces()
            log_mass = log_prob[:, answer] + np.log(share)
            return NumberDistribution(edges, log_mass, answers.low, answers.high)
        return pd.DataFrame(
            np.exp(log_prob),
            columns=pd.Index(own.answers.levels, tupleize_cols=False),
        )

    @property
    def _fields(self) -> list[tuple[str, list[str]]]:
        return self.rows_.fields

    @property
    def _members(self) -> Sequence[LanguageModel]:
        lm = self.language_model_
        return lm.members if isinstance(lm, Ensemble) else (lm,)

    def _orders(self, rng: RandomState) -> NDArray[np.intp]:
        """Return orders of the columns, each once; a target stands last."""
        n_columns = len(self.rows_.columns)
        last = [] if self.target_ is None else [n_columns - 1]
        n_free = n_columns - len(last)
        n_orders = min(_ORDERS, math.factorial(min(n_free, _ORDERS)))
        orders: dict[tuple[int, ...], None] = {}
        while len(orders) < n_orders:
            orders[(*rng.permutation(n_free).tolist(), *last)] = None
        return np.array(list(orders))

    def _sentences(self, lm: LanguageModel, *, missing: bool = True) -> Sentences:
        """Return what a member says of rows, with or without missing cells."""
        fields = self.rows_.fields
        if not missing:
            fields = [
                (header, texts[: column.n_values] or texts)
                for (header, texts), column in zip(
                    fields, self.rows_.columns, strict=True
                )
            ]
        return lm.sentences(self.encoder_.task or "", fields)

    def _metric(self, lm: LanguageModel, rows: RowCorpus) -> float:
        """Return the mean log-probability of rows."""
        index = self.rows_.indices(self.encoder_, rows.table)
        sentences = self._sentences(lm)
        scores = [sentences.score(index, order) for order in self.orders_]
        mean = logsumexp(scores, axis=0, b=1 / len(scores))
        return float(np.average(mean, weights=rows.weight))

    def _drawn(
        self,
        index: NDArray[np.intp],
        rng: RandomState,
        temperature: float,
        *,
        missing: bool,
    ) -> NDArray[np.intp]:
        """Return answers with the unknown ones drawn, by members and orders in turn."""
        shares = rng.uniform(size=index.shape)
        drawn = index.copy()
        turns = [(lm, order) for lm in self._members for order in self.orders_]
        for turn, (lm, order) in enumerate(turns):
            rows = slice(turn, None, len(turns))
            if len(index[rows]):
                drawn[rows] = self._sentences(lm, missing=missing).draw(
                    index[rows], order, shares[rows], temperature
                )
        return drawn

    def _log_conditional(self, index: NDArray[np.intp], i: int) -> NDArray[np.float64]:
        """Return the log-probability of each value of a column, given what is known."""
        scores = []
        for lm in self._members:
            sentences = self._sentences(lm, missing=False)
            scores += [sentences.score_next(index, o, i) for o in self.orders_]
        return log_normalised(logsumexp(scores, axis=0))

    def _check_beginnings(self, index: NDArray[np.intp]) -> None:
        """Raise if the order of columns is fixed and cells behind unknown are known."""
        known = index != UNKNOWN
        if self.encoder_.shuffle_columns_ or not (np.diff(known.astype(int)) > 0).any():
            return
        raise ValueError(
            "With RowEncoder(shuffle_columns=False) the model knows a column given all "
            "those before it, but cells are known behind one that is not. Leave "
            "shuffle_columns at its default, and fit again."
        )

    def _known(self, table: pd.DataFrame) -> NDArray[np.intp]:
        """Return the answers of a table's known cells; missing ones are not known."""
        index = self.rows_.indices(self.encoder_, table)
        index[table.isna().to_numpy()] = UNKNOWN
        self._check_beginnings(index)
        unmet = np.argwhere(index == UNMET)
        if len(unmet):
            row, i = unmet[0]
            column = self.rows_.columns[i]
            raise ValueError(
                f"Column {column.name!r} holds {table.iloc[row, i]!r} in row {row}, "
                f"which fit did not meet. It met {column.answers.levels[:5].tolist()!r}"
                ". Give one of its levels, or leave the cell missing."
            )
        return index

    def _given(self, given: Any, n_rows: int) -> pd.DataFrame:
        """Return known cells as a whole table."""
        names = [column.name for column in self.rows_.columns]
        one_row = pd.DataFrame([given]) if isinstance(given, Mapping) else given
        table = as_pandas(one_row)
        if table is None:
            raise TypeError(
                "Expected a mapping from names of columns to cells as given, or a "
                f"dataframe, got {type(given).__name__}."
            )
        for name in names_of(table):
            if name not in names:
                raise ValueError(
                    f"given names the column {name!r}, which the table of fit had not; "
                    f"it had {names!r}."
                )
        if len(table) not in (1, n_rows):
            raise ValueError(
                f"Expected one row as given, or one for each of {n_rows} draws, got "
                f"{len(table)}. Set n_samples to their count."
            )
        table = table.iloc[np.zeros(n_rows, int) if len(table) == 1 else range(n_rows)]
        blank = pd.Series([None] * n_rows, dtype=object)
        whole = [
            table[name].reset_index(drop=True) if name in table else blank
            for name in names
        ]
        frame = pd.concat(whole, axis=1)
        frame.columns = pd.Index(names, tupleize_cols=False)
        return check_table(self.encoder_, frame, reset=False)

    def _with_known(
        self, made: pd.DataFrame, table: pd.DataFrame, known: NDArray[np.bool_]
    ) -> pd.DataFrame:
        """Return drawn rows with the cells that were given as they were given."""
        columns = [made.iloc[:, i] for i in range(made.shape[1])]
        for i in np.flatnonzero(known.any(axis=0)):
            if self.rows_.columns[i].has_levels:
                continue  # a level is the one that it was read as
            rows = np.flatnonzero(known[:, i])
            given = table.iloc[rows, i].tolist()
            dtype = made.dtypes.iloc[i]
            own = pd.Series(given, dtype=object).astype(dtype)
            is_whole = pd.api.types.is_integer_dtype(dtype)
            if is_whole and (own != np.array(given, np.float64)).any():
                raise ValueError(
                    f"given holds {given!r} in column {made.columns[i]!r}, whose "
                    f"type is {dtype}. Give whole numbers."
                )
            cells = columns[i].astype(object)  # some types let no cell be set
            cells.iloc[rows] = own.astype(object)
            columns[i] = cells.astype(dtype)
        return pd.concat(columns, axis=1).set_axis(made.columns, axis=1)

    def _table(self, X: Any, y: Any = None) -> pd.DataFrame:
        """Return a checked table with the target's column, missing where not given."""
        if self.target_ is None:
            return check_table(self, X, reset=False)
        if _n_columns(X) == self.n_features_in_ + 1:
            return check_table(self.encoder_, X, reset=False)
        table = check_table(self, X, reset=False)
        if y is None:
            column = pd.Series([None] * len(table), dtype=object)
        else:
            column = _target_column(y, table)
        return _with_column(table, column.rename(self.target_))

    def _number_of(self, column: Any) -> int:
        names = [own.name for own in self.rows_.columns]
        if column not in names:
            raise ValueError(
                f"There is no column {column!r}; the table of fit had {names!r}."
            )
        return names.index(column)

    def _filled(
        self,
        table: pd.DataFrame,
        missing: NDArray[np.bool_],
        index: NDArray[np.intp],
        share: NDArray[np.float64],
    ) -> pd.DataFrame:
        """Return a table with its missing cells from the answers."""
        columns = []
        for i in range(table.shape[1]):
            cells = table.iloc[:, i]
            rows = np.flatnonzero(missing[:, i])
            if len(rows) and self.rows_.columns[i].n_values:
                own = self.rows_.columns[i]
                values = self.rows_.values(i, index[rows, i], share[rows, i])
                cells = own.type.filled(cells, rows, values, are_levels=own.has_levels)
            columns.append(cells)
        return pd.concat(columns, axis=1).set_axis(table.columns, axis=1)


ESTIMATORS["LIFTDensity"] = LIFTDensity
TASKS[LIFTDensity._task] = LIFTDensity._parts


def _table_order(table: pd.DataFrame) -> NDArray[np.intp]:
    return np.arange(table.shape[1])[None]


def _check_distinct(table: pd.DataFrame) -> None:
    """Raise where two columns have one name, unless texts, which become distinct."""
    names = names_of(table)
    twins = [name for name in names if names.count(name) > 1]
    if twins and not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"Expected columns of distinct names, but {twins.count(twins[0])} are "
            f"called {twins[0]!r}. Rename them, such as X.columns = range(X.shape[1])."
        )


def _target_column(y: Any, table: pd.DataFrame) -> pd.Series:
    """Return a target as a column, under a name that no other column has."""
    column = y if isinstance(y, pd.Series) else pd.Series(column_or_1d(y))
    check_consistent_length(table, column)
    column = column.reset_index(drop=True)
    if not all(isinstance(name, str) for name in table.columns):
        # Names are of one type.
        taken, number = names_of(table), table.shape[1]
        while number in taken:
            number += 1
        return column.rename(number)
    name = column.name if isinstance(column.name, str) and column.name else _TARGET
    while name in table.columns:
        name += "_"
    return column.rename(name)


def _n_columns(X: Any) -> int:
    """Return how many columns a table of any kind has; 0 where it is none."""
    if hasattr(X, "shape"):
        return int(X.shape[1]) if len(X.shape) == 2 else 0
    is_rows = isinstance(X, Sequence) and len(X) and hasattr(X[0], "__len__")
    return len(X[0]) if is_rows else 0


def _with_column(
    table: pd.DataFrame, column: pd.Series, at: int | None = None
) -> pd.DataFrame:
    """Return a table with one more column at its end, or another one there."""
    columns = [table.iloc[:, i].reset_index(drop=True) for i in range(table.shape[1])]
    names = [*table.columns]
    column = column.reset_index(drop=True)
    if at is None:
        columns.append(column)
        names.append(column.name)
    else:
        columns[at] = column
    whole = pd.concat(columns, axis=1)
    return whole.set_axis(pd.Index(names, tupleize_cols=False), axis=1)


def _median(
    log_prob: NDArray[np.float64],
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return in which answer's room the median lies, and at which share of it.

    >>> _median(np.log([[0.25, 0.5, 0.25]]))
    (array([1]), array([0.5]))
    """
    prob = np.exp(log_prob)
    until = prob.cumsum(axis=1)
    answer = (until < 0.5 * until[:, -1:]).sum(axis=1)
    rows = np.arange(len(prob))
    own = prob[rows, answer]
    share = (0.5 * until[:, -1] - (until[rows, answer] - own)) / own
    return answer, share.clip(0.0, 1.0)


def _check_count(count: Any, name: str, advice: str) -> None:
    check_number(
        count,
        Interval(Integral, 1, None, closed="left"),
        f"{name} is a whole number of at least 1",
        advice,
    )
