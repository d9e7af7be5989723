"""What suits a model: the key ``liftlearn`` of its configuration, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from liftlearn._rules import BY_TABLE, Part, is_auto, is_rule
from liftlearn._shots import N_SHOTS
from liftlearn._validation import check_parameters

# For each task its parts: the estimators, which know them, put theirs here.
TASKS: dict[str, Mapping[str, type[Part]]] = {}

_PRECISION = "precision"
# A parameter of the estimators themselves.
_N_SHOTS = "n_shots"
_PRECISIONS = ("float32", "float64", "bfloat16", "float16")


def preferences_of(config: Any) -> Mapping[str, Any]:
    """Return what a configuration prefers, and raise ValueError for what can't be.

    Preferences are ``{task: {part: {parameter: value}}}``, beside the precision, and
    beside a task's parts its count of shots.
    """
    given = getattr(config, "liftlearn", None)
    if given is None:
        return {}
    file = _ConfigFile(config)
    preferences = file.of("liftlearn", given, [*TASKS, _PRECISION])
    for name, value in preferences.items():
        if name == _PRECISION:
            if value not in _PRECISIONS:
                file.refuse(f"liftlearn.{name}", value, _one_of(_PRECISIONS))
            continue
        task = f"liftlearn.{name}"
        for part, values in file.of(task, value, [*TASKS[name], _N_SHOTS]).items():
            key = f"{task}.{part}"
            if part == _N_SHOTS:
                _check_value(file, key, {part: N_SHOTS}, values)
            else:
                _check_part(file, key, values, TASKS[name][part])
    return preferences


class _ConfigFile:
    """The file that preferences stand in, for error messages."""

    def __init__(self, config: Any) -> None:
        folder = getattr(config, "name_or_path", "")
        self._name = f"{folder}/config.json" if folder else "config.json"

    def of(self, key: str, value: Any, known: Any) -> Mapping[str, Any]:
        """Return the mapping at a key, and raise if it is none of known names."""
        if not isinstance(value, Mapping):
            self.refuse(key, value, f"an object with {_one_of(known)}")
        for name in value:
            if name not in known:
                self.refuse(key, name, _one_of(known))
        return value

    def refuse(self, key: str, value: Any, expected: str) -> NoReturn:
        """Raise for what stands at a key."""
        raise ValueError(
            f"Expected {expected} at {key} in {self._name!r}, got {value!r}. Correct "
            "it there, or remove it: what is not named there has a default."
        )


def _check_part(file: _ConfigFile, key: str, values: Any, part: type[Part]) -> None:
    """Raise unless the values can be preferences for a part."""
    # What the user leaves at another default is no choice of the model's.
    free = [k for k, v in part().get_params(deep=False).items() if is_auto(v)]
    file.of(key, values, free)
    for name, value in values.items():
        has_rule = name in part._ruled
        if has_rule and is_rule(value):
            continue
        constraints = {name: part._parameter_constraints[name]}
        rule = f"{BY_TABLE!r}, or " if has_rule else ""
        _check_value(file, f"{key}.{name}", constraints, value, rule)


def _check_value(
    file: _ConfigFile,
    key: str,
    constraints: Mapping[str, list[Any]],
    value: Any,
    rule: str = "",
) -> None:
    """Raise unless a value is one that the constraints of its parameter allow."""
    [(name, allowed)] = constraints.items()
    try:
        check_parameters(constraints, {name: value}, "")
    except ValueError as error:
        expected = str(error).partition(" must be ")[2].partition(". Got ")[0]
        file.refuse(key, value, rule + expected)
    # To Python true is a number, too.
    if isinstance(value, bool) and "boolean" not in allowed:
        file.refuse(key, value, "no boolean")


def _one_of(names: Any) -> str:
    return "one of " + ", ".join(map(repr, names))
