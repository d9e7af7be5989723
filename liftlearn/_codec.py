"""Values to JSON and back, each under the name of its type: what a file may hold.

Numbers, text, dates, arrays and objects of given classes go in, and what the json
module writes comes out. No name in a file is imported or called.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.random import RandomState
from numpy.typing import NDArray

# The types of arrays that are read, and the bytes that fixed-width texts of one file
# may take beyond the texts that stand in it.
_DTYPE = re.compile(
    r"[<>|=]?(b1|[iu][1248]|f[248]|O|U\d{1,9}"
    r"|[mM]8(\[\d{0,9}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)"
)
_MOST_PADDING = 2**24
# Objects of one file, at the most: some take a thousand times as long as a number.
_MOST_OBJECTS = 2**18


class Codec:
    """Writes values as JSON, and reads them back as equal values of the same types.

    JSON's own values stand for themselves; any other is an object with a ``type`` and
    a ``value``, which is written in turn. Objects of ``classes``, by their names in the
    file, are their attributes: no constructor is called. ``kinds`` are further types
    that are written as simpler values.

    >>> Codec({}).encode((1, 2.5), "pair")
    {'type': 'tuple', 'value': [1, 2.5]}
    >>> Codec({}).decode({"type": "tuple", "value": [1, 2.5]})
    (1, 2.5)
    """

    def __init__(
        self, classes: Mapping[str, type], kinds: Mapping[str, Kind] | None = None
    ) -> None:
        self._classes = classes
        self._names = {cls: name for name, cls in classes.items()}
        self._kinds = {**_KINDS, **(kinds or {})}

    def encode(self, value: Any, where: str) -> Any:
        """Return the value as JSON; ``where`` is its name in error messages."""
        if _is_json(value):
            return value
        if type(value) is list:
            return [self.encode(v, f"{where}[{i}]") for i, v in enumerate(value)]
        if type(value) in self._names:
            attributes = {
                name: self.encode(attribute, f"{where}.{name}")
                for name, attribute in vars(value).items()
            }
            return {"type": self._names[type(value)], "value": attributes}
        kind = self._kind_of(value, where)
        simpler = self._kinds[kind].write(value)
        return {"type": kind, "value": self.encode(simpler, where)}

    def decode(self, written: Any) -> Any:
        """Return the value that was written; it takes little more than its text.

        What `encode` did not write, or with other classes, may raise ValueError,
        TypeError, LookupError, AttributeError, ArithmeticError or RecursionError.
        """
        return self._decode(written, _Room())

    def _decode(self, written: Any, room: _Room) -> Any:
        if isinstance(written, list):
            return [self._decode(item, room) for item in written]
        if not isinstance(written, dict):
            return written
        room.count()
        if written.keys() != {"type", "value"}:
            raise ValueError(f"expected a type and a value, found {list(written)[:5]}")
        name, value = written["type"], written["value"]
        if name in self._classes:
            return _made(self._classes[name], value, self._decode, room)
        plain = self._decode(value, room)
        if name in ("array", "scalar"):
            room.check(plain)
        return self._kinds[name].read(plain)

    def _kind_of(self, value: Any, where: str) -> str:
        """Return the name of the value's kind, and raise if there is none."""
        names = {kind.type: name for name, kind in self._kinds.items()}
        name = names.get(type(value))
        if name is None and isinstance(value, np.generic):
            name = "scalar"
        if name in ("scalar", "array"):
            # Not structured or complex ones, nor those of a machine's own size.
            plain = value.dtype.kind in "biufUmMO" and value.dtype.char != "g"
            name = name if plain else None
        if name == "RandomState":
            generator = value.get_state(legacy=False)["bit_generator"]
            name = name if generator == "MT19937" else None
        if name is None:
            own = f"{type(value).__module__}.{type(value).__qualname__}"
            if isinstance(value, np.ndarray):
                own += f" of {value.dtype}"
            raise TypeError(
                f"{where} is a {own}. A user's own part cannot be saved, nor can other "
                "types: a saved estimator holds liftlearn's parts with numbers, text, "
                "dates, and lists, dictionaries and arrays of them, but no code. "
                "Replace it by one of these, or pickle the estimator."
            )
        return name


def _made(
    cls: type,
    attributes: Any,
    decode: Callable[[Any, _Room], Any],
    room: _Room,
) -> Any:
    """Return an object of a class with attributes that none of its own hide."""
    own = {field.name for field in fields(cls)} if is_dataclass(cls) else set()
    for name in attributes.keys() - own:
        if name.startswith("__") or hasattr(cls, name):
            raise ValueError(f"{cls.__name__} cannot have an attribute {name!r}")
    if own and attributes.keys() != own:
        raise ValueError(f"{cls.__name__} has {sorted(own)}, not {list(attributes)}")
    made: Any = object.__new__(cls)
    vars(made).update({name: decode(v, room) for name, v in attributes.items()})
    return made


class _Room:
    """What the objects of a file may still take beyond its text."""

    def __init__(self) -> None:
        self._padding = _MOST_PADDING
        self._objects = _MOST_OBJECTS

    def count(self) -> None:
        """Raise if the file holds too many objects."""
        self._objects -= 1
        if self._objects < 0:
            raise ValueError(f"there are more than {_MOST_OBJECTS} objects")

    def check(self, written: list[Any]) -> None:
        """Raise if an array would be much larger than what was written of it."""
        dtype, _, cells = written
        if not _DTYPE.fullmatch(dtype):
            raise ValueError(f"arrays of {dtype!r} are not read")
        if np.dtype(dtype).kind == "U":
            n_bytes = np.dtype(dtype).itemsize * len(_as_list(cells))
            self._padding -= max(0, n_bytes - 4 * sum(map(len, cells)))
        if self._padding < 0:
            raise ValueError(f"an array of {dtype!r} is far wider than its texts")


def _is_json(value: Any) -> bool:
    # Exact types: a numpy float is a float, too, but must come back as its own type.
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) in (bool, int, str)


@dataclass(frozen=True)
class Kind:
    """A type that is written as a simpler value."""

    type: type
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _write_array(array: NDArray[Any]) -> list[Any]:
    # Times are counts of their unit; Python's own types don't hold all of them.
    cells = array.astype(np.int64) if array.dtype.kind in "mM" else array
    return [array.dtype.str, list(array.shape), cells.ravel().tolist()]


def _read_array(written: list[Any]) -> NDArray[Any]:
    dtype, shape, cells = np.dtype(written[0]), written[1], _as_list(written[2])
    if min(_as_list(shape), default=0) < 0:
        raise ValueError(f"{shape} is no shape")
    if dtype.kind == "O":  # np.array would look into cells that are lists
        return np.fromiter(cells, dtype, len(cells)).reshape(shape)
    if dtype.kind in "mM":
        return np.array(cells, np.int64).astype(dtype).reshape(shape)
    return np.array(cells, dtype).reshape(shape)


def _read_scalar(written: list[Any]) -> Any:
    if written[1]:
        raise ValueError(f"a scalar has no shape such as {written[1]}")
    return _read_array(written)[()]


def _as_list(written: Any) -> list[Any]:
    """Return a list; of a text list would make its letters."""
    if not isinstance(written, list):
        raise TypeError(f"expected a list, found {type(written).__name__}")
    return written


def _read_datetime(written: list[Any]) -> datetime:
    clock, zone, fold = written
    return datetime.fromisoformat(clock).replace(tzinfo=zone, fold=fold)


def _write_stamp(stamp: pd.Timestamp) -> list[Any]:
    return [int(stamp.asm8.astype(np.int64)), stamp.unit, stamp.tzinfo]


def _read_stamp(written: list[Any]) -> pd.Timestamp:
    count, unit, zone = written
    stamp = pd.Timestamp(np.datetime64(count, unit))
    return stamp if zone is None else stamp.tz_localize("UTC").tz_convert(zone)


def _read_stream(state: list[Any]) -> RandomState:
    key, position, has_gauss, gauss = state
    if not 0 <= position <= 624 or has_gauss not in (0, 1):
        raise ValueError("a stream has 624 positions")  # numpy does not look
    stream = RandomState(0)
    stream.set_state(("MT19937", key, position, has_gauss, gauss))
    return stream


_KINDS = {
    "float": Kind(float, repr, float),  # nan and the infinities
    "tuple": Kind(tuple, list, lambda written: tuple(_as_list(written))),
    "set": Kind(set, list, lambda written: set(_as_list(written))),
    "dict": Kind(
        dict,
        lambda d: [list(item) for item in d.items()],
        lambda written: dict(map(_as_list, written)),
    ),
    "Path": Kind(type(Path()), str, Path),
    "Decimal": Kind(Decimal, str, Decimal),
    "date": Kind(date, date.isoformat, date.fromisoformat),
    "datetime": Kind(
        datetime,
        lambda d: [d.replace(tzinfo=None, fold=0).isoformat(), d.tzinfo, d.fold],
        _read_datetime,
    ),
    "timedelta": Kind(
        timedelta,
        lambda t: [t.days, t.seconds, t.microseconds],
        lambda written: timedelta(*written),
    ),
    "timezone": Kind(
        timezone,
        lambda zone: list(zone.__getinitargs__()),  # its offset, and its name if any
        lambda written: timezone(*written),
    ),
    "ZoneInfo": Kind(ZoneInfo, lambda zone: zone.key, ZoneInfo),
    "Timestamp": Kind(pd.Timestamp, _write_stamp, _read_stamp),
    "Timedelta": Kind(
        pd.Timedelta,
        lambda t: [int(t.asm8.astype(np.int64)), t.unit],
        lambda written: pd.Timedelta(np.timedelta64(*written)),
    ),
    "NaT": Kind(type(pd.NaT), lambda _: None, lambda _: pd.NaT),
    "NA": Kind(type(pd.NA), lambda _: None, lambda _: pd.NA),
    "array": Kind(np.ndarray, _write_array, _read_array),
    # As an array, or by str(), it would lose NULs at its end.
    "str_": Kind(np.str_, "".join, np.str_),
    "scalar": Kind(
        np.generic,
        lambda scalar: _write_array(np.asarray(scalar)),
        _read_scalar,
    ),
    "RandomState": Kind(
        RandomState, lambda stream: list(stream.get_state()[1:]), _read_stream
    ),
}
