"""A fitted estimator as a folder, and back: safetensors weights and typed JSON.

The folder is that of the estimator's language model, with one more file: what else
the estimator has learnt, and a digest of every file. Nothing in it is executed, and
nothing in it is trusted: names, sizes, digests and types are checked before use.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from liftlearn._answers import LabelAnswers, NumberAnswers
from liftlearn._cells import WRITERS
from liftlearn._codec import Codec, Kind
from liftlearn._decoder import LabelDecoder, NumberDecoder
from liftlearn._encoder import RowEncoder
from liftlearn._files import (
    abandon,
    bring_in,
    decide_on,
    decided_files,
    file_digest,
    files_below,
    locked,
    parsed_json,
    read_whole,
    staging_folder,
    writing_to,
)
from liftlearn._finetuner import FineTuner
from liftlearn._language_model import (
    Ensemble,
    adapter_config,
    adapter_parameters,
)
from liftlearn._learnt import check_learnt
from liftlearn._numbers import Scale
from liftlearn._shots import Context, Neighbours, NumberCells, TextCells
from liftlearn._topics import Topics
from liftlearn._whole_rows import (
    ColumnType,
    GridAnswers,
    LevelAnswers,
    RowColumn,
    WholeRows,
)

# Raised whenever an older liftlearn could not read, or would misread, what is written.
_FORMAT = 7
_STATE = "liftlearn.json"
_MOST_STATE = 64 * 2**20
# The state's own digest stands at its end, so that it is compared before all else.
_SIGNATURE = re.compile(rb', "sha256": "([0-9a-f]{64})"}\s*\Z')
# The files that a language model and its tokenizer are saved in. Of a saved folder
# only these are read, replaced or removed.
_OURS = re.compile(
    r"(member-[1-9]\d{0,3}/)?("
    r"(config|generation_config|adapter_config)\.json"
    r"|(model|adapter_model)(-\d{5}-of-\d{5})?\.safetensors"
    r"|model\.safetensors\.index\.json"
    r"|(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|tekken"
    r"|normalizer|byte_maps|emoji|(entity|source|target)_vocab|vocab-(src|tgt)"
    r"|word_(shape|pronunciation))\.json"
    r"|chat_template\.(json|jinja)|additional_chat_templates/[\w-]+\.jinja"
    r"|(merges|vocab|dict)\.txt|bpe\.codes|prophetnet\.tokenizer"
    r"|(spiece|spm|spm_char|tokenizer|sentencepiece|sentencepiece\.bpe)\.model"
    r"|(source|target|vocab)\.spm"
    r")"
)
_MEMBER = re.compile(r"member-\d+")
# Other files of these kinds could change what is loaded from a folder, too.
_READ_BY_TRANSFORMERS = {".json", ".safetensors", ".jinja", ".py", ".bin", ".gguf"}
# What reading a state may raise that is not as `save` writes it.
_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)

# What an estimator is made of, by the names that stand in saved files.
_PARTS: dict[str, type] = {
    "ColumnType": ColumnType,
    "Context": Context,
    "FineTuner": FineTuner,
    "GridAnswers": GridAnswers,
    "LabelAnswers": LabelAnswers,
    "LabelDecoder": LabelDecoder,
    "LevelAnswers": LevelAnswers,
    "NumberAnswers": NumberAnswers,
    "Neighbours": Neighbours,
    "NumberCells": NumberCells,
    "NumberDecoder": NumberDecoder,
    "RowColumn": RowColumn,
    "RowEncoder": RowEncoder,
    "Scale": Scale,
    "TextCells": TextCells,
    "Topics": Topics,
    "WholeRows": WholeRows,
    **WRITERS,
}


def save_fitted(
    estimator: Any,
    folder: str | PathLike[str],
    estimators: Mapping[str, type],
    *,
    merged: bool = False,
) -> None:
    """Write a fitted estimator of one of the given classes as a folder.

    All files are written aside; then they are decided on, in one step, and brought
    in. What is cut off after that, the next `load_fitted` or `save_fitted` ends.
    """
    lm = estimator.language_model_
    bare = copy.copy(estimator)
    del bare.language_model_  # whose files are beside the state
    routing = vars(bare).pop("_metadata_request", None)
    codec = _codec(estimators)
    content = {
        "requests": None if routing is None else _requests(routing),
        "estimator": codec.encode(bare, type(estimator).__name__),
    }
    folder = Path(folder)
    _check_target(folder)
    folder.mkdir(parents=True, exist_ok=True)
    untouched = (
        "What was saved there before is whole. Make room, or give another folder."
    )
    with locked(folder, exclusive=True):
        _end_earlier_save(folder)
        with writing_to(folder, untouched), staging_folder(folder) as staging:
            (lm.merged() if merged else lm).save(staging)
            _check_base(folder, staging)
            _write_state(staging, content, codec)
            _check_room(folder, files_below(staging))
            decide_on(staging)
        _bring_in(folder)


def load_fitted(
    folder: str | PathLike[str],
    device: str | None,
    estimators: Mapping[str, type],
    *,
    base: str | PathLike[str] | None = None,
    dtype: str | None = None,
) -> Any:
    """Read what `save_fitted` wrote, with every file checked."""
    folder = Path(folder)
    _check_folder(folder)
    if decided_files(folder):
        with locked(folder, exclusive=True):
            _bring_in(folder)
    with locked(folder, exclusive=False):
        content = _read_state(folder)
        _check_files(folder, content["files"])
        try:
            estimator = _decoded(content, _codec(estimators))
        except _UNREADABLE as error:
            raise ValueError(
                f"{str(folder / _STATE)!r} holds a value that this version of "
                f"liftlearn cannot read ({type(error).__name__}: {error}). Load it "
                "with the version that saved it, or save the estimator again."
            ) from error
        # Only a base that the caller names may come over a network.
        estimator.language_model_ = lm = Ensemble.load(
            folder,
            device=device or _device_here(estimator.device),
            dtype=dtype or estimator.dtype,
            base=base,
            local_files_only=base is None,
        )
    for member in getattr(lm, "members", [lm]):
        member.fields(estimator._fields)  # raises where two are alike
    return estimator


def _decoded(content: Mapping[str, Any], codec: Codec) -> Any:
    """Return the estimator of a state, but for its language model."""
    estimator = codec.decode(content["estimator"])
    check_learnt(estimator)
    if content["requests"] is not None:
        _request(estimator, content["requests"])
    return estimator


def _write_state(staging: Path, content: dict[str, Any], codec: Codec) -> None:
    """Write the state beside the model's files; refuse what could not be loaded."""
    names = files_below(staging)
    if unknown := [name for name in names if not _OURS.fullmatch(name)]:
        raise ValueError(
            f"The tokenizer saves a file {unknown[0]!r}, which is of no kind that "
            "liftlearn knows. Give the model a tokenizer that saves tokenizer.json."
        )
    digests = {name: file_digest(staging / name) for name in names}
    content = {"format": _FORMAT, "files": digests, **content}
    state = json.dumps({**content, "sha256": _content_digest(content)}).encode("ascii")
    try:
        if len(state) > _MOST_STATE:
            raise ValueError(f"{len(state)} bytes, of {_MOST_STATE} at most")
        _decoded(content, codec)
    except _UNREADABLE as error:
        raise ValueError(
            f"The estimator holds what `load` would not read ({error}). Fit it again, "
            "or leave out what was set on it since, or pickle it."
        ) from error
    (staging / _STATE).write_bytes(state)


def _bring_in(folder: Path) -> None:
    """End a save that was decided on, if there is one."""
    decided = decided_files(folder)
    if decided is None:
        return
    try:
        files: list[str] = []
        if (decided / _STATE).exists():
            files = list(_read_state(decided)["files"])
        names = [*files_below(folder), *(at.name for at in folder.iterdir())]
        replaced = [name for name in names if _is_ours(name)]
        bring_in(folder, [*files, _STATE], replaced)
    except OSError as error:
        raise OSError(
            f"A save to {str(folder)!r} was cut off, and its last step cannot be done "
            f"now ({error}). Make the folder writable and load it once."
        ) from error


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


class _DamagedError(ValueError):
    """The state is not what this version's save writes: another may replace it."""


def _check_target(folder: Path) -> None:
    """Refuse what cannot be a folder."""
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        found = "is a file" if folder.exists() else "is a link to nothing"
        raise FileExistsError(
            f"Expected a folder to save to, but {str(folder)!r} {found}. Give "
            "another name."
        )


def _end_earlier_save(folder: Path) -> None:
    """End a save that was cut off; refuse a folder that holds something else."""
    try:
        _bring_in(folder)
    except _DamagedError:
        abandon(folder)
    names = [path.name for path in folder.glob("[!.]*")]
    if _STATE in names:
        try:
            _read_state(folder)
        except _DamagedError:  # of one's own files no list is needed
            names = [name for name in names if not _is_ours(name)]
        else:
            return
    if names:
        raise FileExistsError(
            f"Expected a new or empty folder, or one that holds a saved estimator, but "
            f"{str(folder)!r} holds {min(names)!r}. Give another folder."
        )


def _is_ours(name: str) -> bool:
    """Return whether a file, or a folder at the top, has a name that `save` gives."""
    return name == _STATE or bool(_OURS.fullmatch(name) or _MEMBER.fullmatch(name))


def _check_base(folder: Path, staging: Path) -> None:
    """Refuse to save an adapter over the model that it needs."""
    file = staging / "adapter_config.json"
    if not file.exists():
        return
    base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    if Path(base).exists() and Path(base).resolve() == folder.resolve():
        raise FileExistsError(
            f"The base model of the adapter is in {str(folder)!r}. Give another "
            "folder, or save with merged=True."
        )


def _check_room(folder: Path, names: list[str]) -> None:
    """Refuse to save where a folder stands for a file, or a file for a folder."""
    for name in names:
        at, below = folder / name, (folder / name).parent
        wrong = at if at.is_dir() and not at.is_symlink() else below
        if wrong is at or (below.exists() and not below.is_dir()):
            raise FileExistsError(
                f"{str(wrong)!r} stands in the way of what is to be saved. Remove it, "
                "or give another folder."
            )


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"Expected a folder that an estimator's save wrote, but {str(folder)!r} "
            f"{found}. A name on the Hugging Face hub needs load(name, from_hub=True)."
        )


def _read_state(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's state file, whole and of a known format."""
    file = folder / _STATE
    if not file.exists():
        raise FileNotFoundError(
            f"{str(folder)!r} has no {_STATE}, so it is not a saved estimator, or was "
            "not saved to its end. If it is a language model, give it to an "
            "estimator: LIFTClassifier(model=folder)."
        )
    _refuse_link_out(folder, _STATE)
    try:
        written = read_whole(file, _MOST_STATE)
    except ValueError as error:
        raise _DamagedError(
            f"{error} Copy the saved folder again, or save the estimator again."
        ) from error
    signature = _SIGNATURE.search(written)
    if (
        signature is None
        or signature[1].decode()
        != hashlib.sha256(written[: signature.start()] + b"}").hexdigest()
    ):
        raise _DamagedError(_changed(file))
    content = parsed_json(written, str(file), finite=True)
    del content["sha256"]
    _check_content(file, content)
    return dict(content)


def _check_content(file: Path, content: dict[str, Any]) -> None:
    """Raise unless a state has all its parts, and names none but its own files."""
    version = content.get("format")
    if isinstance(version, int) and version > _FORMAT:
        raise ValueError(
            f"{str(file)!r} was saved by a newer version of liftlearn, in format "
            f"{version}; this one reads format {_FORMAT}. Upgrade liftlearn."
        )
    if type(version) is int and version < _FORMAT:
        raise _DamagedError(
            f"{str(file)!r} was saved by an earlier version of liftlearn, in format "
            f"{version}; this one reads format {_FORMAT}. Fit and save the estimator "
            "again."
        )
    files, requests = content.get("files"), content.get("requests")
    if (
        content.keys() != {"format", "files", "requests", "estimator"}
        or type(version) is not int
        or version < 1
        or not isinstance(files, dict)
        or not all(isinstance(digest, str) for digest in files.values())
        or not isinstance(requests, dict | None)
    ):
        raise ValueError(
            f"{str(file)!r} is no state of a saved estimator: expected format, files, "
            f"requests and estimator, found {list(content)}. Save the estimator again."
        )
    for name in files:
        if not _OURS.fullmatch(name):
            raise ValueError(
                f"{str(file)!r} names a file that lies outside its folder, or that "
                f"no save writes: {name!r}. Save the estimator again."
            )


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise unless the folder's files are those that were saved."""
    found = files_below(folder)
    for name, digest in files.items():
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{str(folder / name)!r} is missing. Copy the saved folder again, "
                "with all of its files."
            )
        _refuse_link_out(folder, name)
        if file_digest(folder / name) != digest:
            raise ValueError(_changed(folder / name))
    for name in found:
        other = name not in files and name != _STATE
        is_read = PurePosixPath(name).suffix in _READ_BY_TRANSFORMERS
        if other and (is_read or _is_ours(name)):
            raise ValueError(
                f"{str(folder / name)!r} does not belong to the estimator saved there, "
                "but could change its model. Remove it."
            )


def _refuse_link_out(folder: Path, name: str) -> None:
    """Raise if a file is a link out of its folder.

    The hub's cache has links, to files in a folder of their own beside it.
    """
    real, top = (folder / name).resolve(), folder.resolve()
    if not real.is_relative_to(top) and real.parent != top.parent.parent / "blobs":
        raise ValueError(
            f"{str(folder / name)!r} is a link to a file outside its folder, "
            f"{str(real)!r}. Replace the link by that file."
        )


def _changed(file: Path) -> str:
    return (
        f"{str(file)!r} is not as it was saved: it was changed, or copied in part. "
        "Copy the saved folder again, or save the estimator again."
    )


def _content_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()


def _device_here(device: str | None) -> str | None:
    """Return the device if this machine has it, else None."""
    if device is None:
        return None
    try:
        wanted, here = torch.device(device), torch.accelerator.current_accelerator()
    except RuntimeError as error:
        raise ValueError(f"The saved device={device!r} is none of torch.") from error
    is_here = wanted.type == "cpu" or (
        here is not None
        and here.type == wanted.type
        and (wanted.index or 0) < torch.accelerator.device_count()
    )
    return device if is_here else None
