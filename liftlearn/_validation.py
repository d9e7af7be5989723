"""Checks of what users pass: targets, weights, parameters, arguments; whole fits.

The one module that imports scikit-learn's private helpers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial, wraps
from numbers import Real
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import HasMethods as _HasMethods
from sklearn.utils._param_validation import Interval as Interval
from sklearn.utils._param_validation import (
    InvalidParameterError,
    validate_parameter_constraints,
)
from sklearn.utils._param_validation import StrOptions as StrOptions
from sklearn.utils._repr_html.estimator import _VisualBlock
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
)

from liftlearn._tables import check_table, names_of, remember_columns
from liftlearn._values import check_texts

# By methods that check their tables, what they do after that.
_TRUSTING: dict[Any, Callable[..., Any]] = {}
# What a message shows of a value.
_MOST_LETTERS = 60
# The least weight may be a count of so many rows.
_MOST_PARTS = 8

Method = TypeVar("Method", bound=Callable[..., Any])
Estimator = TypeVar("Estimator", bound=BaseEstimator)
Given = ParamSpec("Given")
Fit = Callable[Concatenate[Estimator, Given], Estimator]


def fits_whole(fit: Fit[Estimator, Given]) -> Fit[Estimator, Given]:
    """Let a ``fit`` happen whole or not at all.

    It checks the object's parameters, those of its parts too, then learns on a copy
    that has learnt nothing, but in a warm start what the class goes on from
    (``_goes_on_from``). What the copy has learnt becomes the object's at the end, at
    once: a fit that fails or is interrupted leaves the object as it was.
    """
    fitted = _whole(fit)
    if fit in _TRUSTING:
        _TRUSTING[fitted] = _whole(_TRUSTING[fit])
    return fitted


def _whole(fit: Fit[Estimator, Given]) -> Fit[Estimator, Given]:
    checked = _fit_context(prefer_skip_nested_validation=False)(fit)

    @wraps(fit)
    def fitted(
        self: Estimator, /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Estimator:
        attempt = unlearnt(self)
        checked(attempt, *args, **kwargs)
        self.__dict__ = vars(attempt)
        return self

    return fitted


def unlearnt(estimator: Estimator) -> Estimator:
    """Return a copy that a fit begins with: the parts are shared, nothing is learnt."""
    attempt, kept = object.__new__(type(estimator)), _goes_on_from(estimator)
    vars(attempt).update(
        {k: v for k, v in vars(estimator).items() if k in kept or not _is_learnt(k)}
    )
    return attempt


def _goes_on_from(estimator: BaseEstimator) -> Collection[str]:
    """Return the fitted attributes that a fit begins with: none but in a warm start."""
    is_warm = vars(estimator).get("warm_start", False)
    names: Collection[str] = getattr(estimator, "_goes_on_from", ())
    # The parameter is not checked yet.
    return names if isinstance(is_warm, bool | np.bool_) and is_warm else ()


def _is_learnt(name: str) -> bool:
    return name.endswith("_") and not name.startswith("__")


def one_after_another(parts: list[Any]) -> Any:
    """Return parts as scikit-learn's diagram of an estimator shows a flow of them."""
    details = [str(part) for part in parts]
    return _VisualBlock("serial", parts, names=details, name_details=details)


def check_fitted(estimator: BaseEstimator) -> None:
    """Raise NotFittedError as scikit-learn does, and take no time where all is well."""
    if not any(map(_is_learnt, vars(estimator))):
        check_is_fitted(estimator)


class HasMethods(_HasMethods):
    """A constraint: an instance that has the methods; a class has them, too."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether the value is such an instance."""
        return not isinstance(val, type) and super().is_satisfied_by(val)

    def __str__(self) -> str:
        return f"{super().__str__()} (an instance, not a class)"


def check_parameters(
    constraints: Mapping[str, Any], values: Mapping[str, Any], owner: str
) -> None:
    """Raise ValueError, in scikit-learn's words, for a value its constraints refuse."""
    validate_parameter_constraints(constraints, values, owner)


def check_number(value: Any, interval: Interval, expected: str, advice: str) -> None:
    """Raise what is a ValueError and a TypeError unless it is a number in a range.

    >>> check_number(0.9, Interval(Real, 0, 1, closed="both"), "A share", "Give one.")
    """
    if isinstance(value, bool | np.bool_) or not interval.is_satisfied_by(value):
        raise InvalidParameterError(f"{expected}, got {value!r}. {advice}")


def checks_table(method: Method) -> Method:
    """Let a method check its table first, but for who calls it through `unchecked`.

    A ``fit`` also remembers the names of the columns, and the others compare them.
    """
    is_fit = method.__name__ == "fit"

    @wraps(method)
    def checked(self: BaseEstimator, X: Any, *args: Any, **options: Any) -> Any:
        if not is_fit:
            check_fitted(self)
        table = check_table(self, X, reset=is_fit)
        return method(self, table, *args, **options)

    def trusting(self: BaseEstimator, X: Any, *args: Any, **options: Any) -> Any:
        if is_fit:
            remember_columns(self, X, names_of(X))
        return method(self, X, *args, **options)

    _TRUSTING[checked] = trusting
    return cast(Method, checked)


def unchecked(method: Any) -> Callable[..., Any]:
    """Return a part's method for a table that `check_table` returned.

    That is the method itself, unless it would check the table again: one of a user's
    own, or that overrides ours, is called as it is.
    """
    trusting = _TRUSTING.get(getattr(method, "__func__", None))
    return partial(trusting, method.__self__) if trusting else method


def check_sample_weight(sample_weight: Any, X: Any) -> NDArray[np.float64]:
    """Return one finite weight for each row, not all of them zero; None means ones.

    They are `weights_in_proportion`.
    """
    if sample_weight is not None and not isinstance(sample_weight, Real):
        sample_weight = finite_numbers(sample_weight, "sample_weight")
    weight: NDArray[np.float64] = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    return weights_in_proportion(weight)


def weights_in_proportion(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights in units of the least that is not zero, to twelve digits.

    So weights on any scale are the same weights. Counts stay counts: where a part of
    the least makes all of them whole, that is the unit. It is a part of the greatest
    where the least is too small beside that.

    >>> weights_in_proportion(np.array([0.1, 0.3, 0.0]))
    array([1., 3., 0.])
    >>> weights_in_proportion(np.array([20.0, 50.0]))
    array([2., 5.])
    """
    if not weight.any():
        return weight
    unit = max(weight[weight > 0].min(), weight.max() / 2**52)
    share, power = np.frexp(weight / unit)
    ratio: NDArray[np.float64] = np.ldexp(np.rint(share * 2**40), power - 40)
    for n_parts in range(1, _MOST_PARTS + 1):
        counts: NDArray[np.float64] = np.rint(n_parts * ratio)
        if np.allclose(counts, n_parts * ratio, rtol=1e-9, atol=0):
            return counts
    return ratio


def check_target(
    estimator: BaseEstimator,
    y: Any,
    table: pd.DataFrame | None = None,
    *,
    numeric: bool = False,
) -> NDArray[Any]:
    """Return the target as an array with one finite entry for each row."""
    owner = type(estimator).__name__
    if y is None:
        raise ValueError(f"{owner} requires y to be passed, but the target y is None.")
    _refuse_missing(y)
    target: NDArray[Any] = _check_y(_as_array(y), estimator=estimator)
    check_consistent_length(table, target)
    if not len(target):
        raise ValueError(f"Found array with 0 sample(s) as y, which {owner} can't fit.")
    if numeric:
        return finite_numbers(target, "y", " LIFTClassifier is for classes.")
    _refuse_unlike(target)
    if target.dtype.kind in "UO":
        check_texts(target.tolist(), "The label of row")
    return target


def _refuse_missing(y: Any) -> None:
    """Raise if a target is missing; scikit-learn's check knows float nan alone."""
    missing = np.argwhere(pd.isna(np.asarray(y, dtype=object)))
    if len(missing):
        raise ValueError(
            f"Input y contains NaN: the label of row {missing[0][0]} is missing. Drop "
            "the rows without a label."
        )


def _refuse_unlike(labels: NDArray[Any]) -> None:
    """Raise for labels that have no order, as those of several types."""
    if labels.dtype != object:
        return
    try:
        np.unique(labels)
    except TypeError as error:
        types = sorted({type(label).__name__ for label in labels})
        raise TypeError(
            f"Expected labels of one type as y, text or numbers, got {types}. Make "
            "all of them text, as with y.astype(str)."
        ) from error


def _as_array(values: Any) -> Any:
    """Return lists of unlike lengths as an array of lists, and others as they are."""
    if isinstance(values, list | tuple):
        try:
            np.asarray(values)
        except ValueError:
            return np.fromiter(values, object, len(values))
    return values


def finite_numbers(values: Any, name: str, advice: str = "") -> NDArray[np.float64]:
    """Return what the user passed under a name as floats; raise if it is other things.

    >>> finite_numbers(["1", 2.5], "y")
    array([1. , 2.5])
    """
    array = np.asarray(_as_array(values))
    if array.dtype.kind in "mMcV":
        raise TypeError(
            f"Expected numbers as {name}, got {array.dtype}. Convert them to floats, "
            "in a unit of your choice."
        )
    try:
        numbers = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        row, value = next(
            (row, value)
            for row, value in enumerate(array.ravel().tolist())
            if not _is_float(value)
        )
        where = f" in row {row}" if array.ndim else ""
        raise ValueError(
            f"Expected numbers as {name}, got {_brief(value)}{where}.{advice}"
        ) from error
    assert_all_finite(numbers, input_name=name)
    return numbers


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."


def _is_float(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
