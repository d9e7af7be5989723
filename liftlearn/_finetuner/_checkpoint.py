"""Checkpoints of training: what a fit is told by, and its state in one file.

Tensors and plain values go in and come out. The file is safetensors with JSON in its
header, so that nothing in it is executed when it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import torch
from numpy.random import RandomState
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from liftlearn._corpus import Corpus
from liftlearn._files import locked, open_regular, sync, writing_to
from liftlearn._language_model import LanguageModel

# Raised when the same file would continue training in another way.
_CHECKPOINT_FORMAT = 3
# The digest in a file's header is of the file with zeros for the digest.
_SEAL = re.compile(rb'(?<=[{,]"sha256":")[0-9a-f]{64}(?=")')
_UNSEALED = "0" * 64
_MOST_HEADER = 2**28
# What reading a file may raise that is not as `Checkpoint.write` writes it.
_UNREADABLE = (
    SafetensorError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
)
_STILL_WHOLE = (
    "The last checkpoint, if there is one, is whole: make room, and call fit again to "
    "resume."
)
# Sentences that tell one wording from another.
_N_SENTENCES = 256


def describe_fit(
    lm: LanguageModel, corpus: Corpus, rng: RandomState, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what tells one fit from another, under the names that messages use.

    That is digests, and the texts of parameters in use. It equals its own copy in JSON.
    Nothing is drawn from the stream.
    """
    # Written with a stream of its own, so that jitter, dither and order count, too.
    rows = np.arange(min(len(corpus), _N_SENTENCES))
    sentences, *answers = corpus.write(rows, RandomState(0))
    texts = [text for _, texts in corpus.fields for text in texts]
    validation = corpus.validation
    return {
        "checkpoint format": _CHECKPOINT_FORMAT,
        "rows, targets or weights": _rows_digest(corpus),
        "validation rows": None if validation is None else _rows_digest(validation),
        "wording": _digest(
            [*sentences, *texts, *(repr(each.tolist()) for each in answers)]
        ),
        "base model": _digest(
            [repr(lm.prompt_tokens(sentences)), *_contents(lm.model.state_dict())]
        ),
        "random_state": _digest([_json(rng.get_state(legacy=False))]),
        "parameters": {
            name: _text(value) for name, value in sorted(parameters.items())
        },
    }


def _rows_digest(corpus: Corpus) -> str:
    columns = [corpus.table.iloc[:, i] for i in range(corpus.table.shape[1])]
    cells = [repr((str(column.dtype), column.tolist())) for column in columns]
    target = np.asarray(corpus.target).tolist()  # None of whole rows
    weight = corpus.weight.tolist()
    return _digest([*cells, repr(target), repr(weight)])


class Checkpoint:
    """The state of one fit in the user's folder, which other fits must leave alone.

    One of several members has a name, and a folder of that name within. Its state is
    kept when it is tuned, for the others may be interrupted.
    """

    def __init__(
        self, folder: str | os.PathLike[str], fit: dict[str, Any], name: str = ""
    ) -> None:
        self.name = name
        self._file = Path(folder, name, "checkpoint.safetensors")
        self._fit = fit
        self._is_ours = False

    def read(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Return the values and tensors written last; None where there are none.

        A file that is another fit's, damaged, or no checkpoint raises ValueError.
        """
        if not self._file.exists():
            return None
        values = self._values()
        self._is_ours = True
        return values, load_file(self._file)

    def restore(
        self, resume: Callable[[dict[str, Any], dict[str, Tensor]], None]
    ) -> bool:
        """Give what was written last to ``resume``; return whether there was any.

        What ``resume`` can't take raises ValueError.
        """
        saved = self.read()
        if saved is None:
            return False
        try:
            resume(*saved)
        except _UNREADABLE as error:
            raise self._none_of_ours() from error
        return True

    def write(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Replace what was written before, in one indivisible step.

        If another fit has written to the folder meanwhile, raise ValueError.
        """
        folder = self._file.parent
        folder.mkdir(parents=True, exist_ok=True)
        header = {
            "liftlearn": _json({"fit": self._fit, "values": values}),
            "sha256": _UNSEALED,
        }
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        partial = folder / f"{self._file.name}.{secrets.token_hex(4)}.partial"
        try:
            with locked(folder, exclusive=True):
                if self._file.exists():
                    self._values()
                with writing_to(self._file, _STILL_WHOLE):
                    try:
                        save_file(whole, partial, header)
                        _seal(partial)
                        sync(partial)
                        partial.replace(self._file)
                    finally:
                        partial.unlink(missing_ok=True)
                    sync(folder)
        except FileNotFoundError as error:
            raise ValueError(
                f"Another process has emptied the folder {str(folder)!r} meanwhile. A "
                "folder serves one fit at a time: give this one another checkpoint_dir."
            ) from error
        self._is_ours = True

    def remove(self) -> None:
        """Remove this fit's file, if there is one, and what a killed `write` left.

        Files of others, and what cannot be removed, stay: the fit has succeeded.
        """
        if not self._is_ours:
            return
        folder = self._file.parent
        with suppress(OSError), locked(folder, exclusive=True):
            for left_behind in folder.glob(f"{self._file.name}*.partial"):
                left_behind.unlink()
            with suppress(ValueError):  # it has become another fit's
                self._values()
                self._file.unlink()
        if self.name:
            with suppress(OSError):  # not empty, or gone
                folder.rmdir()

    def _values(self) -> dict[str, Any]:
        """Return the file's values; raise if they are not this fit's."""
        try:
            if self._file.is_symlink():
                raise ValueError("it is a link")
            _check_seal(self._file)
            with safe_open(self._file, "pt") as opened:
                header = json.loads(opened.metadata()["liftlearn"])
            fit, values = dict(header["fit"]), dict(header["values"])
        except _UNREADABLE as error:
            raise self._none_of_ours() from error
        if fit != self._fit:
            self._refuse(fit)
        return values

    def _none_of_ours(self) -> ValueError:
        return ValueError(
            f"Expected a checkpoint of liftlearn, but {str(self._file)!r} is none, "
            "or is damaged, or an older version wrote it. Delete it, or give "
            "another checkpoint_dir."
        )

    def _refuse(self, fit: dict[str, Any]) -> NoReturn:
        """Raise with what tells the file's fit from this one."""
        reasons = [
            f"other {name}"
            for name, value in self._fit.items()
            if name != "parameters" and fit.get(name) != value
        ]
        theirs = fit.get("parameters", {})
        ours = self._fit["parameters"]
        reasons += [
            f"{name}={theirs.get(name)} (now {ours.get(name)})"
            for name in sorted({*theirs, *ours})
            if theirs.get(name) != ours.get(name)
        ]
        raise ValueError(
            f"The checkpoint {str(self._file)!r} is of a fit with "
            f"{', '.join(reasons)}. A folder serves one fit at a time: give this one "
            "another checkpoint_dir, or delete the checkpoint to start afresh. To "
            "resume, call fit with what it was called with, and an integer as "
            "random_state."
        )


def _seal(file: Path) -> None:
    """Write a file's digest into its header."""
    with file.open("rb+") as opened:
        offset, digest = _digest_at(opened)
        opened.seek(offset)
        opened.write(digest.encode())


def _check_seal(file: Path) -> None:
    """Raise ValueError unless a file has the digest that its header says."""
    with open_regular(file) as opened:
        offset, digest = _digest_at(opened)
        opened.seek(offset)
        if opened.read(len(digest)) != digest.encode():
            raise ValueError("the digest is another")


def _digest_at(opened: BinaryIO) -> tuple[int, str]:
    """Return where the digest stands in a safetensors file, and what it should be."""
    size = opened.read(8)
    header = opened.read(min(int.from_bytes(size, "little"), _MOST_HEADER))
    seal = _SEAL.search(header)
    if seal is None:
        raise ValueError("there is no digest")
    blank = header[: seal.start()] + _UNSEALED.encode() + header[seal.end() :]
    total = hashlib.sha256(size + blank)
    while chunk := opened.read(2**20):
        total.update(chunk)
    return len(size) + seal.start(), total.hexdigest()


def _contents(tensors: Mapping[str, Tensor]) -> Iterable[str | memoryview]:
    """Yield the names, shapes and bytes of tensors."""
    for name, tensor in tensors.items():
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}"
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().data


def _digest(parts: Iterable[str | memoryview]) -> str:
    """Return one short text that changes with any of the parts.

    >>> _digest(["ab", "c"]) == _digest(["a", "bc"])
    False
    """
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, default=np.ndarray.tolist)


def _text(value: Any) -> str:
    """Return a parameter's value as text that is the same in every process.

    >>> from dataclasses import make_dataclass
    >>> _text({"b", "a"}), _text(0.5), _text(make_dataclass("Config", ["r"])(8))
    ("['a', 'b']", '0.5', 'r=8')
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_text(value[key])}" for key in sorted(value))
    if isinstance(value, set | frozenset):
        value = sorted(value)
    return repr(value)
