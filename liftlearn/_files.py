"""Files that others may have written, and folders that a kill may cut off.

Paths go in; open files, parsed JSON and digests come out. What is no regular file is
not opened, and what is written survives a crash. What files mean, others know.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl

# Within a folder: files on their way in, and those that are decided to come in.
_STAGING = ".liftlearn-saving-"
_DECIDED = ".liftlearn-saved"
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def open_regular(file: Path) -> BufferedReader:
    """Open a file to be read.

    What is no regular file, but a folder, a pipe, a device or the like, which might
    have no end, raises ValueError.
    """
    wrong = ValueError(f"Expected a file, but {str(file)!r} is of another kind.")
    try:
        # Not to wait for a writer where it is a pipe.
        opened = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:  # a socket, or a link to itself
        raise wrong from error
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise wrong
    return os.fdopen(opened, "rb")


def read_whole(file: Path, most: int) -> bytes:
    """Return a file's bytes; raise ValueError if there are more than ``most``."""
    with open_regular(file) as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise ValueError(
            f"Expected at most {most // 2**20} MiB in {str(file)!r}, but it is larger."
        )
    return content


def parsed_json(content: bytes, name: str, *, finite: bool = False) -> Any:
    """Return the value of a JSON text.

    Text that is no JSON, names a key twice, nests too deeply, or holds numbers that
    are not ``finite`` where these alone are allowed, raises ValueError.
    """
    try:
        return json.loads(
            content,
            object_pairs_hook=_distinct_keys,
            parse_constant=_refused if finite else None,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"Expected JSON in {name!r}, but it cannot be read "
            f"({type(error).__name__}: {error}). Copy or save the folder again."
        ) from error


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ValueError("a key occurs twice")
    return read


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def file_digest(file: Path) -> str:
    """Return the sha256 of a file."""
    with open_regular(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def files_below(folder: Path) -> list[str]:
    """Return what a folder and its visible subfolders hold but folders, sorted.

    Links are named, and not followed.
    """
    names = []
    for at, folders, files in os.walk(folder):
        is_top = Path(at) == folder
        links = [name for name in folders if Path(at, name).is_symlink()]
        if is_top:
            folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(at).relative_to(folder)
        names += [(below / name).as_posix() for name in [*files, *links]]
    return sorted(name for name in names if not name.startswith("."))


def sync(path: Path) -> None:
    """Wait until a file, or what a folder lists, is on the disk."""
    if sys.platform == "win32" and path.is_dir():  # it cannot open folders
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def locked(folder: Path, *, exclusive: bool) -> Iterator[None]:
    """Keep other processes and threads that lock the folder, too, waiting.

    The lock ends with its process, however that ends. Windows has none for folders.
    """
    if sys.platform == "win32":
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(opened, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        # A child that was forked meanwhile has the lock, too, until it is released.
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_UN)
        os.close(opened)


@contextmanager
def writing_to(path: Path, whole: str) -> Iterator[None]:
    """Make what fails a write, such as a full disk, an OSError that tells of a path.

    ``whole`` says what is none the worse for it, and what to do.
    """
    try:
        yield
    except FileExistsError:  # a refusal
        raise
    # Libraries in Rust tell the system's number in exceptions of their own, tokenizers
    # even in Exception itself. Whatever has no such number is raised as it came.
    except Exception as error:
        told = _OS_ERROR.search(str(error))
        number = getattr(error, "errno", None) or (told and int(told[1]))
        if number is None:
            raise
        reason = getattr(error, "strerror", None) or error
        raise OSError(
            number, f"Cannot write {str(path)!r} ({reason}). {whole}"
        ) from error


@contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """Give a new folder within a folder, on the same file system, for a while.

    What killed processes left behind is removed; the folder must be locked.
    """
    for left_behind in folder.glob(f"{_STAGING}*"):
        _remove(left_behind)
    staging = folder / f"{_STAGING}{secrets.token_hex(4)}"
    staging.mkdir()
    try:
        yield staging
    finally:
        _remove(staging)


def decide_on(staging: Path) -> None:
    """Decide, in one indivisible step, that staged files are to come in."""
    mode, names = _usual_mode(staging), files_below(staging)
    for name in names:
        # Some libraries let only the owner read what they write.
        (staging / name).chmod(mode)
        sync(staging / name)
    for at in _folders_of(staging, names):
        sync(at)
    abandon(staging.parent)  # what has that name, but is no folder
    staging.replace(staging.with_name(_DECIDED))
    sync(staging.parent)


def abandon(folder: Path) -> None:
    """Forget what was decided on, if anything."""
    _remove(folder / _DECIDED)


def decided_files(folder: Path) -> Path | None:
    """Return where files are that were decided on, and may not all have come in."""
    decided = folder / _DECIDED
    return decided if decided.is_dir() and not decided.is_symlink() else None


def bring_in(folder: Path, names: Iterable[str], replaced: Iterable[str]) -> None:
    """Bring in what was decided on, by its names, and remove what it replaces.

    Replaced are files, and folders that are empty then. The last name is of the file
    that makes a folder whole: it goes first and comes last. Wherever a kill cuts this
    off, doing it again ends it.
    """
    names = list(names)
    decided = folder / _DECIDED
    if (decided / names[-1]).is_file():
        others = [folder / name for name in set(replaced) - set(names)]
        folders = [at for at in others if at.is_dir() and not at.is_symlink()]
        # Unlinked, not written over: weights in use may be mapped from these files.
        for file in [folder / names[-1], *(at for at in others if at not in folders)]:
            file.unlink(missing_ok=True)
        for at in folders:
            with suppress(OSError):  # it is not empty
                at.rmdir()
        for name in names:
            target = folder / name
            if target.parent != folder and target.parent.is_symlink():
                target.parent.unlink()
            target.parent.mkdir(exist_ok=True)
            if name == names[-1]:
                for at in _folders_of(folder, names):
                    sync(at)
            if (decided / name).is_file():
                (decided / name).replace(target)
        sync(folder)
    abandon(folder)


def _folders_of(folder: Path, names: Iterable[str]) -> set[Path]:
    return {folder, *((folder / name).parent for name in names)}


def _remove(path: Path) -> None:
    """Remove a folder with all it holds, or a file; a link, not what it names."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _usual_mode(folder: Path) -> int:
    """Return the mode of new files; the process itself tells it only by changing it."""
    probe = folder / f"{_STAGING}probe"
    os.close(os.open(probe, os.O_CREAT | os.O_WRONLY, 0o666))
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode
