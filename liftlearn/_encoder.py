"""Table to sentences: how a row and a whole table are written.

A pandas table goes in, prompts come out: ``transform`` writes each row as it is,
``augment`` writes it afresh for training. No model is known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.base import TransformerMixin

from liftlearn._cells import (
    UNSEEN,
    Augmentation,
    CellWriter,
    Wording,
    fit_writer,
    warn_of_cuts,
    warn_of_unseen,
    way_of_writing,
    words_for_unknown,
)
from liftlearn._columns import Column, learn_column, warn_of_disguise
from liftlearn._numbers import row_shapes, write_codes
from liftlearn._rules import (
    Part,
    columns_by_table,
    dropout_by_table,
    is_auto,
    is_rule,
    jitter_by_table,
    numbers_by_table,
)
from liftlearn._tables import distinct_names, names_of
from liftlearn._validation import (
    Interval,
    StrOptions,
    check_number,
    check_sample_weight,
    checks_table,
    fits_whole,
)
from liftlearn._values import check_text

# So many columns have a single word for their index; more have two.
_N_INDEXED = 128

# Questions that are codes, too: of a class, and of a number.
_CODE_QUESTIONS = {"y?", "y="}

# What tells the size of a curve.
_SIZES = ("row median", "row deviation")

_STANDALONE = {
    "columns": "names",
    "numbers": "plain",
    "spacing": "mixed",
    "jitter": 0.0,
    "jitter_decay": 1.0,
    "word_dropout": 0.0,
    "cell_dropout": 0.0,
    "shuffle_columns": False,
    "text_length": None,
    "text_topics": None,
}


class ColumnWording(NamedTuple):
    """How one column is written, where each cell is an answer of its own."""

    name: Any  # the column's, for messages
    column: Column
    header: str  # what stands before a cell
    ending: str  # and behind it
    way: str
    writer: CellWriter


# scikit-learn would give the sentences a frame's columns; its class keyword that says
# no has no types.
class RowEncoder(
    TransformerMixin,
    Part,
    auto_wrap_output_keys=None,  # type: ignore[call-arg]
):
    """Write each row of a table as a sentence that ends in a question.

    A parameter left at ``"auto"`` takes the preference of the model that the estimator
    was given, and the value after "alone" where there is none. The values in use are
    stored in attributes of the same names with a trailing underscore. The user guide
    has the embedded model's preferences in a table.

    Parameters
    ----------
    columns : {"auto", "names", "index", "none"}, default="auto"
        What a column is called. ``"names"`` writes ``age is 41, job is nurse.`` with
        the table's own names, levels and words; ``"index"`` writes short codes for
        columns and levels, ``x0 53 x1 c7``; ``"none"`` writes the levels' codes and
        numbers alone, ``53 c7``, so that the order tells the column. Alone:
        ``"names"``.
    numbers : {"auto", "plain", "scaled", "row"}, default="auto"
        How numbers are written: with significant digits; as a position on the column's
        scale, with a fixed count of digits; or, for rows that are curves, as a position
        among the numbers of the same row, followed by the row's median and mean
        deviation. Alone: ``"plain"``.
    digits : int or "auto", default="auto"
        Significant digits of plain numbers, or the fixed count of digits of scaled
        ones. Alone: 4 for plain numbers, 2 for scaled ones.
    spacing : {"auto", "zscore", "quantile", "mixed"}, default="auto"
        Scale of a column for ``numbers="scaled"``: linear within four standard
        deviations of the mean; equal room for equally many training rows; or the mean
        of the quantile position and of the normal distribution function of the robust
        z-score. Alone: ``"mixed"``.
    template : str, default=None
        A sentence of your own with column names in braces, such as ``"A
        {age}-year-old {job}. Retired?"``; a missing cell is written ``unknown``.
        It replaces ``columns`` and ``question``.
    task : str, default=None
        A description of the task, written before each row.
    descriptions : mapping of column name to str, default=None
        Words to write for a column instead of its name or index.
    question : str, default="auto"
        The text that ends each sentence. Alone: ``What is <name of y>?``.
    jitter : float or "auto", default="auto"
        Standard deviation of the noise that `augment` adds to each number of a
        continuous column before it is written, in units of the standard deviation of
        the column (of its positions, where numbers are scaled). Alone: 0.
    jitter_decay : float or "auto", default="auto"
        What the jitter is multiplied by at the end of training, at most 1; it falls
        geometrically until then. Below 1, steps and waves come out sharper. Alone: 1.
    word_dropout : float or "auto", default="auto"
        Probability with which `augment` leaves out each word of a free text cell, but
        not all of them [2]_, against overfitting. Alone: 0.
    cell_dropout : float or "auto", default="auto"
        Probability with which `augment` writes a cell as one that is not known [3]_:
        ``c?``, or nothing with ``columns="names"``. Alone: 0.
    shuffle_columns : bool or "auto", default="auto"
        Whether `augment` writes the columns of each row in a random order. Alone:
        False.
    text_length : int, None or "auto", default="auto"
        Most characters of a free text cell that is written as it stands; longer ones
        are cut with a warning. None cuts nothing. Alone: None.
    text_topics : int, None or "auto", default="auto"
        Write a free text by its words, as so many numbers: its positions on the axes
        along which the words of the column differ most, by latent semantic analysis
        [4]_. None writes texts as they stand, and so does a model's preference with
        ``columns="names"``. Alone: None.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of the table seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where all of them are strings. Equal ones are numbered.
    column_kinds_ : dict of column name to str
        What each column was read as: ``"continuous"`` or ``"discrete"`` for numbers,
        ``"duration"``, ``"time"``, ``"datetime"``, ``"boolean"``, ``"ordinal"`` or
        ``"categorical"`` for levels, ``"text"``, or ``"empty"`` where no cell was
        known. Equal names are numbered.
    columns_, numbers_, digits_, spacing_, question_, jitter_, jitter_decay_, \
word_dropout_, cell_dropout_, shuffle_columns_, text_length_, text_topics_
        The values in use.

    Notes
    -----
    The user guide says how cells of each kind are read and written. The numbers of a
    column are scaled with what `fit` saw; later numbers beyond that range are written
    as its end. Missing cells are left out of the sentence, or written ``c?`` with
    ``columns="none"``, as a level not seen in `fit` is.

    References
    ----------
    .. [1] T. Dinh et al., "LIFT: Language-Interfaced Fine-Tuning for Non-Language
       Machine Learning Tasks", NeurIPS 2022, section 2.
    .. [2] M. Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods for
       Text Classification", ACL 2015, section 3.2.
    .. [3] P. Vincent et al., "Extracting and Composing Robust Features with Denoising
       Autoencoders", ICML 2008: masking noise.
    .. [4] S. Deerwester et al., "Indexing by Latent Semantic Analysis", Journal of the
       American Society for Information Science 1990.

    Examples
    --------
    >>> import pandas as pd
    >>> from liftlearn import RowEncoder
    >>> table = pd.DataFrame({"age": [41, 23], "job": ["nurse", None]})
    >>> RowEncoder(question="Retired?").fit_transform(table)
    ['age is 41, job is nurse. Retired?', 'age is 23. Retired?']
    >>> encoder = RowEncoder(columns="index", numbers="scaled", question="y?")
    >>> encoder.fit_transform(table)
    ['x0 75 x1 c0 y?', 'x0 24 y?']
    """

    _ruled = frozenset({"columns", "numbers", "jitter", "cell_dropout"})
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "columns": [StrOptions({"auto", "names", "index", "none"})],
        "numbers": [StrOptions({"auto", "plain", "scaled", "row"})],
        "digits": [StrOptions({"auto"}), Interval(Integral, 1, 17, closed="both")],
        "spacing": [StrOptions({"auto", "zscore", "quantile", "mixed"})],
        "template": [str, None],
        "task": [str, None],
        "descriptions": [Mapping, None],
        "question": [str],
        "jitter": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "jitter_decay": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="right")],
        "word_dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "cell_dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "shuffle_columns": [StrOptions({"auto"}), "boolean"],
        "text_length": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "text_topics": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
    }

    def __init__(
        self,
        *,
        columns: str = "auto",
        numbers: str = "auto",
        digits: int | str = "auto",
        spacing: str = "auto",
        template: str | None = None,
        task: str | None = None,
        descriptions: Mapping[Any, str] | None = None,
        question: str = "auto",
        jitter: float | str = "auto",
        jitter_decay: float | str = "auto",
        word_dropout: float | str = "auto",
        cell_dropout: float | str = "auto",
        shuffle_columns: bool | str = "auto",
        text_length: int | str | None = "auto",
        text_topics: int | str | None = "auto",
    ) -> None:
        self.columns = columns
        self.numbers = numbers
        self.digits = digits
        self.spacing = spacing
        self.template = template
        self.task = task
        self.descriptions = descriptions
        self.question = question
        self.jitter = jitter
        self.jitter_decay = jitter_decay
        self.word_dropout = word_dropout
        self.cell_dropout = cell_dropout
        self.shuffle_columns = shuffle_columns
        self.text_length = text_length
        self.text_topics = text_topics

    @fits_whole
    @checks_table
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> RowEncoder:
        """Learn the kind, scale and levels of each column.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            The table. Any dataframe that narwhals reads is taken.
        y : array-like of shape (n_samples,), default=None
            The target; only its name is used, for the question.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts in the columns' statistics. None counts each
            once.

        Returns
        -------
        self : RowEncoder
            The fitted encoder.

        Raises
        ------
        ValueError
            If the table is empty, holds infinite or complex numbers, types without
            single values (lists, structs) or texts with lone surrogates, or a
            parameter, the template or a description does not fit it.

        Warns
        -----
        UserWarning
            If the strings of a column are dates, times, durations or numbers, or texts
            are cut.
        """
        weight = check_sample_weight(sample_weight, X)
        table, weight = X.iloc[np.flatnonzero(weight)], weight[weight > 0]
        self._settle(getattr(y, "name", None))
        self._check_wording()
        names = distinct_names([str(name).strip() for name in table.columns])
        self._fields = _template_fields(self.template, names)
        columns = [table.iloc[:, i] for i in range(table.shape[1])]
        self._columns = [learn_column(column) for column in columns]
        for cells, column in zip(columns, self._columns, strict=True):
            warn_of_disguise(cells, column)
        own_names = names_of(table)
        if len(set(own_names)) < len(names):
            own_names = [*distinct_names([str(name) for name in own_names])]
        kinds = [column.kind for column in self._columns]
        self.column_kinds_ = dict(zip(own_names, kinds, strict=True))
        cells = self._cells(table)
        self._ways = [
            way_of_writing(column, read)
            for column, read in zip(self._columns, cells, strict=True)
        ]
        self._settle_by_table(columns, cells, weight)
        self._labels = self._column_labels(list(table.columns), names)
        readable = self._readable(cells)
        self._writers = [
            fit_writer(way, read, weight, self._wording()) for way, read in readable
        ]
        self._blanks = self._words_for_unknown(readable)
        self._cut = warn_of_cuts(self._writers, [c for _, c in readable], set())
        return self

    @checks_table
    def transform(self, X: Any) -> list[str]:
        """Write each row as it is.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.

        Returns
        -------
        prompts : list of str
            One sentence for each row.

        Raises
        ------
        ValueError
            If the columns differ from those of `fit`, or a cell is not of its
            column's kind.

        Warns
        -----
        UserWarning
            If no known cell of a column of levels was met in `fit`, or texts are cut in
            a column where `fit` cut none.
        """
        [prompts] = self._new_sentences(X, [None])
        return prompts

    @checks_table
    def augment(self, X: Any, rng: RandomState, progress: float = 0.0) -> list[str]:
        """Write each row afresh for training: jittered, thinned and shuffled.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.
        rng : numpy.random.RandomState
            The stream to draw from.
        progress : float, default=0
            Share of the training that is over.

        Returns
        -------
        prompts : list of str
            One sentence for each row, another at each call.

        Raises
        ------
        ValueError
            If the columns differ from those of `fit`, or an argument can't be used.
        """
        if not isinstance(rng, RandomState):
            raise TypeError(
                f"Expected a numpy.random.RandomState as rng, got {rng!r}. Make one of "
                "a seed: numpy.random.RandomState(0)."
            )
        check_number(
            progress,
            Interval(Real, 0, None, closed="left"),
            "The progress of training is a share in [0, 1]",
            "It is 0 at the beginning.",
        )
        augmentation = Augmentation(rng, self.jitter_decay_**progress)
        return self._write(self._cells(X), augmentation)

    @checks_table
    def reword(self, X: Any, n_wordings: int) -> list[list[str]]:
        """Write each row in several ways: as it is, then as training might have.

        The jitter of a wording is drawn once for each column and the order of columns
        once for all rows, so that a row's sentences depend on that row alone. The
        jitters of a second and a third wording are opposite, and so on: they cancel in
        the mean. No words are left out.

        Parameters
        ----------
        X : dataframe or array-like of shape (n_samples, n_features)
            A table with the columns seen in `fit`.
        n_wordings : int
            How many ways.

        Returns
        -------
        wordings : list of n_wordings lists of n_samples str
            The first is `transform`'s.

        Raises
        ------
        ValueError
            If the columns differ from those of `fit`, or the count is no such.

        Examples
        --------
        >>> import pandas as pd
        >>> from liftlearn import RowEncoder
        >>> table = pd.DataFrame({"height": [1.784, 1.6, 1.712]})
        >>> encoder = RowEncoder(jitter=0.1, question="?").fit(table)
        >>> encoder.reword(table[:1], 3)
        [['height is 1.784. ?'], ['height is 1.797. ?'], ['height is 1.771. ?']]
        """
        check_number(
            n_wordings,
            Interval(Integral, 1, None, closed="left"),
            "n_wordings is a whole number of at least 1",
            "1 writes each row as it is.",
        )
        return self._new_sentences(X, [None, *map(_rewording, range(1, n_wordings))])

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """Return the cells of each column, in the one form of its kind.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            A checked table with the columns seen in `fit`.

        Returns
        -------
        cells : list
            For each column floats, a ``DatetimeIndex`` or levels.

        Raises
        ------
        ValueError
            If a cell is not of its column's kind.
        """
        return self._cells(X)

    def column_wordings(self) -> list[ColumnWording]:
        """Return how each column is written, for rows whose cells are all answers.

        Returns
        -------
        wordings : list of ColumnWording
            One for each column.

        Raises
        ------
        ValueError
            If a row is not written cell by cell, each with its column's name or code.
        """
        template, columns, numbers = self.template, self.columns_, self.numbers_
        if template is not None or columns == "none" or numbers == "row":
            raise ValueError(
                "Where each cell is an answer, its column's name or code must stand "
                "before it, and no other cells may change how it is written, but "
                f"template={template!r}, columns={columns!r}, numbers={numbers!r}. "
                'Set RowEncoder(template=None, columns="names" or "index", '
                'numbers="plain" or "scaled").'
            )
        says, ending = ("", "") if columns == "index" else (" is", ",")
        return [
            ColumnWording(name, column, f"{label}{says}", ending, way, writer)
            for name, column, label, way, writer in zip(
                self.column_kinds_,
                self._columns,
                self._labels,
                self._ways,
                self._writers,
                strict=True,
            )
        ]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    def _settle(self, target_name: Any) -> None:
        """Store the values in use of all parameters that may be ``"auto"``."""
        for name, alone in _STANDALONE.items():
            setattr(self, f"{name}_", self._chosen(name, alone))
        self.digits_ = int(self._chosen("digits", 4 if self.numbers_ == "plain" else 2))
        subject = "the target" if target_name in (None, "") else target_name
        self.question_ = self._chosen("question", f"What is {subject}?")

    def _check_wording(self) -> None:
        """Refuse texts that no tokenizer can read."""
        for name in ("task", "template", "question_"):
            check_text(getattr(self, name), f"RowEncoder, {name.rstrip('_')}")
        for name, text in (self.descriptions or {}).items():
            check_text(text, f"RowEncoder, description of {name!r}")

    def _wording(self) -> Wording:
        """Return what the writers have to know."""
        scaled = self.numbers_ != "plain"
        has_codes = (
            self.columns_ != "names"
            or (self.template is not None and scaled)
            or self.question_ in _CODE_QUESTIONS
        )
        return Wording(
            self.columns_,
            self.numbers_,
            self.digits_,
            self.spacing_,
            self.jitter_,
            self.word_dropout_,
            self.text_length_,
            self.text_topics_,
            has_codes,
        )

    def _settle_by_table(
        self, columns: list[pd.Series], cells: list[Any], weight: NDArray[np.float64]
    ) -> None:
        """Store the values in use of all parameters that have a rule."""
        if is_rule(self.numbers_):
            numbers = self._numbers(cells)
            self.numbers_: str = numbers_by_table(numbers, weight, self.spacing_)
        # The numbers of a curve are not known one by one.
        has_curves = self._has_curves()
        n_numbers = 0 if has_curves else self._ways.count("number")
        if is_rule(self.jitter_):
            self.jitter_: float = jitter_by_table(n_numbers)
        if is_rule(self.cell_dropout_):
            share = 0.0 if has_curves else dropout_by_table(n_numbers, len(weight))
            self.cell_dropout_: float = share
        if is_rule(self.columns_):
            n_missing = sum(int(column.isna().sum()) for column in columns)
            missing = n_missing / (len(columns) * len(weight))
            called = columns_by_table(len(columns), missing, self._ways)
            needs_words = bool(self.descriptions or self.shuffle_columns_)
            self.columns_: str = "index" if needs_words else called
        # Among names, text is what the user wrote unless the user asks for topics.
        if is_auto(self.text_topics) and self.columns_ == "names":
            self.text_topics_: int | None = None

    def _words_for_unknown(self, readable: list[tuple[str, Any]]) -> list[str]:
        """Return what stands for each column's cells that are not known.

        Among names nothing does; else as many words as stand for others of the column.
        """
        if self.columns_ == "names":
            return [""] * len(self._writers)
        return [
            words_for_unknown(writer, cells)
            for writer, (_, cells) in zip(self._writers, readable, strict=True)
        ]

    def _column_labels(self, columns: list[Any], names: list[str]) -> list[str]:
        """Return what each column is called in the sentence."""
        if self.columns_ == "none" and (self.descriptions or self.shuffle_columns_):
            raise ValueError(
                'columns="none" writes no word for a column, which its order alone '
                "tells, so that it can't have descriptions or shuffle_columns. Leave "
                'these out, or set columns="index".'
            )
        labels = distinct_names([*names, *_SIZES]) if self._has_curves() else names
        if self.columns_ == "index":
            labels = write_codes(range(len(labels)), len(labels), "x", _N_INDEXED)
        for name, description in (self.descriptions or {}).items():
            if name not in columns:
                raise ValueError(
                    f"descriptions names the column {name!r}, which the table has not; "
                    f"it has {columns!r}. Use the table's own names."
                )
            labels[columns.index(name)] = str(description)
        return labels

    def _has_curves(self) -> bool:
        return self.numbers_ == "row" and "number" in self._ways

    def _numbers(self, cells: list[Any]) -> NDArray[np.float64]:
        """Return the columns of many numbers: (n_rows, n_number_columns)."""
        numbers = [
            c for way, c in zip(self._ways, cells, strict=True) if way == "number"
        ]
        return np.column_stack(numbers) if numbers else np.empty((0, 0))

    def _cells(self, table: pd.DataFrame) -> list[Any]:
        """Return the cells of each column in the one form of its kind."""
        columns = zip(self._columns, table.items(), strict=True)
        return [column.read(cells) for column, (_, cells) in columns]

    def _readable(self, cells: list[Any]) -> list[tuple[str, Any]]:
        """Return what is written, and in which way: cells; curves by shape and size."""
        if not self._has_curves():
            return list(zip(self._ways, cells, strict=True))
        positions, *sizes = row_shapes(self._numbers(cells))
        shapes = iter(positions.T)
        readable = [
            ("position", next(shapes)) if way == "number" else (way, column)
            for way, column in zip(self._ways, cells, strict=True)
        ]
        return [*readable, *(("number", size) for size in sizes)]

    def _new_sentences(
        self, table: pd.DataFrame, augmentations: Sequence[Augmentation | None]
    ) -> list[list[str]]:
        """Write each row of a new table in several ways."""
        cells = self._cells(table)
        # Curves, whose sizes follow the columns, have no levels or texts.
        writers = self._writers[: len(cells)]
        warn_of_unseen(writers, cells)
        warn_of_cuts(writers, cells, self._cut)
        return [self._write(cells, augmentation) for augmentation in augmentations]

    def _write(self, cells: list[Any], augmentation: Augmentation | None) -> list[str]:
        """Write rows of cells as they are, or otherwise."""
        texts = [
            writer.write(column, augmentation)
            for writer, (_, column) in zip(
                self._writers, self._readable(cells), strict=True
            )
        ]
        if augmentation is not None and augmentation.drops and self.cell_dropout_:
            texts = [
                _masked(column, blank, self.cell_dropout_, augmentation)
                for column, blank in zip(texts, self._blanks, strict=True)
            ]
        lead = f"{self.task} " if self.task else ""
        if self.template is not None:
            return [
                lead + _filled(self.template, self._fields, row)
                for row in zip(*texts, strict=True)
            ]
        if self.columns_ == "none":
            return [
                f"{lead}{' '.join(row)} {self.question_}"
                for row in zip(*self._filled_in(texts), strict=True)
            ]
        is_coded = self.columns_ == "index"
        says, comma, stop = (" ", " ", " ") if is_coded else (" is ", ", ", ". ")
        facts = [
            [label + says + text if text else "" for text in column]
            for label, column in zip(self._labels, texts, strict=True)
        ]
        prompts = []
        for row in zip(*facts, strict=True):
            known = [fact for fact in row if fact]
            if augmentation is not None and self.shuffle_columns_:
                augmentation.shuffle(known)
            sentence = comma.join(known) + stop if known else ""
            prompts.append(lead + sentence + self.question_)
        return prompts

    def _filled_in(self, texts: list[list[str]]) -> list[list[str]]:
        """Return each column's texts with its blank for those that are not known."""
        return [
            [blank if text in ("", UNSEEN) else text for text in column]
            for blank, column in zip(self._blanks, texts, strict=True)
        ]


def _rewording(number: int) -> Augmentation:
    """Return how a wording differs: two by two, with opposite jitter."""
    noise = 1.0 if number % 2 else -1.0
    return Augmentation(RandomState((number - 1) // 2), noise, shared_order=number)


def _masked(
    texts: list[str], blank: str, dropout: float, augmentation: Augmentation
) -> list[str]:
    """Write each known cell with that probability as one that is not known."""
    is_kept = augmentation.kept(len(texts), dropout)
    return [
        text if stays or not text else blank
        for text, stays in zip(texts, is_kept, strict=True)
    ]


def _template_fields(template: str | None, names: list[str]) -> list[int]:
    """Return the column of each field of a template, in the template's order."""
    fields = re.findall(r"\{([^{}]*)\}", template or "")
    for field in fields:
        if field not in names:
            raise ValueError(
                f"The template names the column {field!r}, which the table has not; "
                f"it has {names!r}. Write a column's name in braces."
            )
    return [names.index(field) for field in fields]


def _filled(template: str, fields: list[int], row: Sequence[str]) -> str:
    """Return the template with each field replaced by its cell's text.

    >>> _filled("A {age}-year-old {job}.", [0, 1], ["41", ""])
    'A 41-year-old unknown.'
    """
    between = re.split(r"\{[^{}]*\}", template)
    texts = [row[i] or "unknown" for i in fields]
    return "".join(a + b for a, b in zip_longest(between, texts, fillvalue=""))
