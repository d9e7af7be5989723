"""What the caller and other threads have set, kept out of a model's way."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch


class HasModel(Protocol):
    """What has a model on a device."""

    model: Any


Owner = TypeVar("Owner", bound=HasModel)
Given = ParamSpec("Given")
Result = TypeVar("Result")

# While transformers makes a model it replaces functions of its own and of torch's for
# the whole process: weights are tied or drawn in no other thread meanwhile, and no
# child is forked.
MAKING = threading.RLock()


class _Forked:
    """Whether this process was forked, and has not computed since."""

    is_new = False

    def note(self) -> None:
        self.is_new = True
        MAKING.release()


_FORKED = _Forked()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=MAKING.acquire,
        after_in_parent=MAKING.release,
        after_in_child=_FORKED.note,
    )


@contextmanager
def plain_torch(device: torch.device | str) -> Iterator[None]:
    """Compute on a device as the weights say, whatever the caller has switched.

    That is without autocast, with gradients to be had, and with tensors that are no
    inference tensors and lie on the processor where no device is named.
    """
    if _FORKED.is_new:
        # OpenMP waits for ever for the threads that the parent had.
        torch.set_num_threads(1)
        _FORKED.is_new = False
    with ExitStack() as stack:
        for kind in {"cpu", torch.device(device).type}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        # It slows every call, so it stands only where it does something.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def in_plain_torch(
    method: Callable[Concatenate[Owner, Given], Result],
) -> Callable[Concatenate[Owner, Given], Result]:
    """Let a method of an object with a ``model`` compute so."""

    @wraps(method)
    def computed(self: Owner, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        with plain_torch(self.model.device):
            return method(self, *args, **kwargs)

    return computed


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put a model into evaluation mode for a while, if it is being trained."""
    if not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


def import_whole(name: str) -> ModuleType:
    """Import a module to its end, even if Ctrl-C is pressed meanwhile.

    Of a module that is left half imported the process is not always rid: torch's
    register operators, which can be done once. Ctrl-C interrupts the main thread
    alone, so another one imports.
    """
    imported: Future[ModuleType] = Future()

    def run() -> None:
        try:
            imported.set_result(import_module(name))
        # Also what is no Exception: `result` raises it in the thread that waits.
        except BaseException as error:  # noqa: BLE001
            imported.set_exception(error)

    if name not in sys.modules:
        threading.Thread(target=run, daemon=True).start()
        return imported.result()
    return import_module(name)
