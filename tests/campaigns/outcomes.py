"""What comes of a trial: a value, an error that is meant for users, or a fault."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sklearn

import liftlearn

# An error is meant for users if liftlearn raises it, or scikit-learn's checks do.
_SPEAK_TO_USERS = [Path(liftlearn.__file__).parent, Path(sklearn.__file__).parent]
FOR_USERS = (ValueError, TypeError, OSError)


def refusal(error: BaseException) -> str:
    """Return an error that is meant for users in short; raise any other one."""
    raised = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if _speaks_to_users(raised):
        return f"{type(error).__name__}: {str(error)[:40]}"
    raise error


def _speaks_to_users(file: Path) -> bool:
    return any(place in file.parents for place in _SPEAK_TO_USERS)


@contextmanager
def warnings_for_users() -> Iterator[None]:
    """Raise at the end if a library other than liftlearn and scikit-learn has warned.

    Python attributes a warning to the line that its giver names, so who gave it is
    looked up in the stack.
    """
    others = []

    def shown(message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
        frame = sys._getframe()
        while Path(frame.f_code.co_filename).name in (
            Path(__file__).name,
            "warnings.py",
            "_py_warnings.py",
        ):
            frame = frame.f_back
        giver = Path(frame.f_code.co_filename)
        if not _speaks_to_users(giver):
            at = f"{giver}:{frame.f_lineno}"
            others.append(f"{at} warns: {category.__name__}: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = shown
        yield
    assert not others, others[0]


def in_child(act: Callable[[], str], seconds: float) -> str:
    """Return what a function returns in a forked child, or how the child ended."""
    here, there = multiprocessing.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
        process = os.fork()
    if process == 0:
        try:
            outcome = act()
        except BaseException:  # noqa: BLE001 (whatever it is, it is told)
            told = traceback.format_exc()
            print(told, file=sys.stderr, flush=True)
            outcome = "FAULT " + told.splitlines()[-1]
        there.send(outcome)
        os._exit(0)
    there.close()
    outcome = "FAULT it takes too long"
    if here.poll(seconds):
        try:
            outcome = here.recv()
        except EOFError:
            outcome = ""
    else:
        os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    here.close()
    return outcome or f"FAULT the process ended with {code}"


def report(found: Counter[str], **about: Any) -> None:
    """Print counts of outcomes, the most frequent first; exit with 1 for a fault."""
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for outcome, n in found.most_common():
        print(f"{n:6} {outcome}")
    sys.exit(any(outcome.startswith("FAULT") for outcome in found))
