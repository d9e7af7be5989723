"""A fitted estimator as a folder, and back: safetensors weights and typed JSON.

The folder is that of the estimator's language model, with one more file: what else
the estimator has learnt, and a digest of every file. Nothing in it is executed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import torch

from liftlearn._answers import LabelAnswers, NumberAnswers
from liftlearn._cells import WRITERS
from liftlearn._codec import Codec, Kind
from liftlearn._decoder import LabelDecoder, NumberDecoder
from liftlearn._encoder import RowEncoder
from liftlearn._finetuner import FineTuner
from liftlearn._language_model import (
    Ensemble,
    adapter_config,
    adapter_parameters,
)
from liftlearn._numbers import Scale

# Raised whenever an older liftlearn could not read, or would misread, what is written.
_FORMAT = 2
_STATE = "liftlearn.json"
_STAGING = ".liftlearn-saving-"
# Files of these kinds change what transformers loads from a folder.
_READ_BY_TRANSFORMERS = {".json", ".safetensors"}

# What an estimator is made of, by the names that stand in saved files.
_PARTS: dict[str, type] = {
    "FineTuner": FineTuner,
    "LabelAnswers": LabelAnswers,
    "LabelDecoder": LabelDecoder,
    "NumberAnswers": NumberAnswers,
    "NumberDecoder": NumberDecoder,
    "RowEncoder": RowEncoder,
    "Scale": Scale,
    **WRITERS,
}


def save_fitted(
    estimator: Any, folder: str | PathLike[str], estimators: Mapping[str, type]
) -> None:
    """Write a fitted estimator of one of the given classes as a folder.

    The state file goes first and comes last: whatever interrupts this, a folder that
    has one is whole.
    """
    bare = copy.copy(estimator)
    del bare.language_model_  # whose files are beside the state
    routing = vars(bare).pop("_metadata_request", None)
    codec = _codec(estimators)
    written = codec.encode(bare, type(estimator).__name__)
    folder = Path(folder)
    earlier = _files_to_replace(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for left_behind in folder.glob(f"{_STAGING}*"):
        shutil.rmtree(left_behind)
    with TemporaryDirectory(prefix=_STAGING, dir=folder) as staging:
        estimator.language_model_.save(staging)
        files = _digests(Path(staging), _files_below(Path(staging)))
        content = {
            "format": _FORMAT,
            "files": files,
            "requests": None if routing is None else _requests(routing),
            "estimator": written,
        }
        document = json.dumps({**content, "sha256": _content_digest(content)})
        (Path(staging) / _STATE).write_text(document, encoding="ascii")
        # Unlinked, not written over: weights in use may be mapped from these files.
        for name in [_STATE, *earlier]:
            (folder / name).unlink(missing_ok=True)
        for below in {(folder / name).parent for name in earlier} - {folder}:
            with suppress(OSError):  # not empty, or gone
                below.rmdir()
        for name in [*files, _STATE]:
            (folder / name).parent.mkdir(exist_ok=True)
            os.replace(Path(staging) / name, folder / name)


def load_fitted(
    folder: str | PathLike[str], device: str | None, estimators: Mapping[str, type]
) -> Any:
    """Read what `save_fitted` wrote, with every file checked."""
    folder = Path(folder)
    content = _read_state(folder)
    _check_files(folder, content["files"])
    try:
        estimator = _codec(estimators).decode(content["estimator"])
        if content["requests"] is not None:
            _request(estimator, content["requests"])
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as e:
        raise ValueError(
            f"{str(folder / _STATE)!r} holds a value that this version of liftlearn "
            f"cannot read ({type(e).__name__}: {e}). Load it with the version that "
            "saved it, or save the estimator again."
        ) from e
    estimator.language_model_ = Ensemble.load(
        folder, device=device or _device_here(estimator.device)
    )
    return estimator


def _codec(estimators: Mapping[str, type]) -> Codec:
    """Return what writes the state of an estimator of one of the given classes."""
    # Unless peft is imported, nothing is of its class.
    lora = getattr(sys.modules.get("peft"), "LoraConfig", type(None))
    kinds = {"LoraConfig": Kind(lora, adapter_parameters, adapter_config)}
    return Codec({**_PARTS, **estimators}, kinds)


def _requests(routing: Any) -> dict[str, dict[str, Any]]:
    """Return what ``set_fit_request`` and its like asked for, by method."""
    by_method = {k: v.requests for k, v in vars(routing).items() if k != "owner"}
    return {method: dict(asked) for method, asked in by_method.items() if asked}


def _request(estimator: Any, requests: Mapping[str, Mapping[str, Any]]) -> None:
    """Ask for the same metadata again; this works where routing is off, too."""
    routing = estimator.get_metadata_routing()
    for method, asked in requests.items():
        for name, alias in asked.items():
            getattr(routing, method).add_request(param=name, alias=alias)
    estimator._metadata_request = routing


def _files_to_replace(folder: Path) -> list[str]:
    """Return the files of an earlier save; refuse a folder of something else."""
    if (folder / _STATE).exists():
        return list(_read_state(folder)["files"])
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(
            f"Expected a folder to save to, but {str(folder)!r} is a file. Give "
            "another name."
        )
    others = [path.name for path in folder.glob("[!.]*")]
    if others:
        raise FileExistsError(
            f"Expected a new or empty folder, or one that holds a saved estimator, but "
            f"{str(folder)!r} holds {min(others)!r}. Give another folder."
        )
    return []


def _read_state(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's state file, whole and of a known format."""
    file = folder / _STATE
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"Expected a folder that an estimator's save wrote, but {str(folder)!r} "
            f"{found}."
        )
    if not file.exists():
        raise FileNotFoundError(
            f"{str(folder)!r} has no {_STATE}, so it is not a saved estimator, or was "
            "not saved to its end. If it is a language model, give it to an "
            "estimator: LIFTClassifier(model=folder)."
        )
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="ascii"))
        version = content["format"]
        if isinstance(version, int) and version > _FORMAT:
            raise ValueError(
                f"{str(file)!r} was saved by a newer version of liftlearn, in format "
                f"{version}; this one reads formats up to {_FORMAT}. Upgrade liftlearn."
            )
        digest = content.pop("sha256")
    except (json.JSONDecodeError, UnicodeDecodeError, LookupError, TypeError) as error:
        raise _changed(file) from error
    if digest != _content_digest(content):
        raise _changed(file)
    for name in content["files"]:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"{str(file)!r} names a file outside its folder: {name!r}."
            )
    return content


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise unless the folder's files are those that were saved."""
    found = _files_below(folder)
    for name, digest in files.items():
        if name not in found:
            raise FileNotFoundError(
                f"{str(folder / name)!r} is missing. Copy the saved folder again, "
                "with all of its files."
            )
        if _digests(folder, [name])[name] != digest:
            raise _changed(folder / name)
    for name in found:
        known = name in files or name == _STATE
        if not known and PurePosixPath(name).suffix in _READ_BY_TRANSFORMERS:
            raise ValueError(
                f"{str(folder / name)!r} does not belong to the estimator saved there, "
                "but could change its model. Remove it."
            )


def _changed(file: Path) -> ValueError:
    return ValueError(
        f"{str(file)!r} is not as it was saved: it was changed, or copied in part. "
        "Copy the saved folder again, or save the estimator again."
    )


def _files_below(folder: Path) -> list[str]:
    """Return the files of a folder and its visible subfolders, sorted."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    visible = [path for path in paths if not path.parts[0].startswith(".")]
    return sorted(path.as_posix() for path in visible)


def _digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of each file."""
    digests = {}
    for name in names:
        with open(folder / name, "rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _content_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()


def _device_here(device: str | None) -> str | None:
    """Return the device if this machine has it, else None."""
    if device is None or torch.device(device).type == "cpu":
        return device
    wanted, here = torch.device(device), torch.accelerator.current_accelerator()
    is_here = (
        here is not None
        and here.type == wanted.type
        and (wanted.index or 0) < torch.accelerator.device_count()
    )
    return device if is_here else None
