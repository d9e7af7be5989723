"""Pretrained models: where one is, and what transformers makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging
from transformers.utils.quantization_config import GgufConfig

from liftlearn._language_model._adapter import adapter_of, merge
from liftlearn._language_model._preferences import preferences_of
from liftlearn._language_model._reader import check_reading


@dataclass(frozen=True)
class Source:
    """Where a model is.

    Attributes
    ----------
    name : str
        A folder, or a name on the hub.
    revision : str or None
        The branch, tag or commit on the hub.
    gguf : str or None
        The file in the folder that holds the model.
    changed : float
        When a local file changed last.
    """

    name: str
    revision: str | None = None
    gguf: str | None = None
    changed: float = 0.0

    def __str__(self) -> str:
        if self.gguf:
            return str(Path(self.name) / self.gguf)
        return f"{self.name}@{self.revision}" if self.revision else self.name


def find_source(model: str | PathLike[str] | None) -> Source:
    """Return where the model is that the user named."""
    if model is None:
        return Source(str(resources.files("liftlearn") / "embedded"))
    path = Path(model)
    if path.is_dir():
        changed = max((f.stat().st_mtime for f in path.iterdir()), default=0.0)
        return Source(str(path.resolve()), changed=changed)
    if path.is_file():
        if path.suffix != ".gguf":
            raise ValueError(
                "Expected a folder with a causal language model or a .gguf file, but "
                f"{str(model)!r} is another file. Give the folder that holds it."
            )
        folder = str(path.resolve().parent)
        return Source(folder, gguf=path.name, changed=path.stat().st_mtime)
    name = str(model)
    is_local = isinstance(model, PathLike) or path.is_absolute()
    if is_local or name.startswith(".") or path.suffix == ".gguf":
        raise FileNotFoundError(
            f"Expected a folder with a causal language model or a .gguf file, but "
            f"{name!r} does not exist."
        )
    name, _, revision = name.partition("@")
    return Source(name, revision=revision or None)


def find_device(device: str | None) -> str:
    """Return the device that the user named, or the best there is."""
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    here = torch.accelerator.current_accelerator()
    n_here = torch.accelerator.device_count()
    names = ["cpu", *(f"{here.type}:{i}" for i in range(n_here) if here)]
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"Expected a device of this machine, {' or '.join(map(repr, names))}, as "
            f"device, got {device!r}. None takes a GPU where there is one."
        ) from error
    is_here = here is not None and here.type == place.type
    if place.type != "cpu" and not (is_here and (place.index or 0) < n_here):
        raise ValueError(
            f"device={device!r} is not on this machine, or torch was installed without "
            f"support for it. Set device to {' or '.join(map(repr, names))}, or None."
        )
    return str(device)


@lru_cache(maxsize=4)
def load_pretrained(source: Source, device: str) -> tuple[Any, Any]:
    """Load a model and a tokenizer, once for each source and device."""
    options: dict[str, Any] = {"trust_remote_code": False}
    how: dict[str, Any] = {"use_safetensors": True}
    if source.revision:
        options["revision"] = source.revision
    if source.gguf:
        if find_spec("gguf") is None:
            raise ImportError(
                f"Reading {source.gguf!r} needs the package gguf. Install it with "
                "pip install 'liftlearn[gguf]'."
            )
        options["gguf_file"] = source.gguf
        # Else the weights stay packed, and are slow to train.
        unpacked = GgufConfig(gguf_file=source.gguf, dequantize=True)
        how = {"quantization_config": unpacked}
    with _explained(source), no_bars():
        model, notes = AutoModelForCausalLM.from_pretrained(
            source.name, dtype=torch.float32, output_loading_info=True, **options, **how
        )
        tokenizer = AutoTokenizer.from_pretrained(source.name, **options)
    if missing := sorted(notes["missing_keys"]):
        raise ValueError(
            f"The files of {str(source)!r} have no weights for {missing[0]!r} and "
            f"{len(missing) - 1} more parts of a {type(model).__name__}. Expected a "
            "causal language model with all of its weights."
        )
    if adapter_of(model) is not None:  # transformers has loaded one from the hub
        merge(model)
    check_reading(model.eval())
    return ready_to_score(model).to(device), tokenizer


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Say what was expected where transformers can't load a model."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        causes = [error, error.__cause__, error.__context__]
        what_to_do = (
            "Expected a folder with config.json, safetensors weights and tokenizer "
            "files, a .gguf file, or the name of a model on the Hugging Face hub, "
            "which needs a connection the first time."
        )
        if any(isinstance(cause, GatedRepoError) for cause in causes):
            what_to_do = (
                "Its owners ask for consent: give it on the model's page of the "
                "Hugging Face hub, then log in with `hf auth login`."
            )
        elif any(isinstance(cause, RevisionNotFoundError) for cause in causes):
            what_to_do = f"The model has no branch, tag or commit {source.revision!r}."
        raise ValueError(
            f"Could not load a causal language model from {str(source)!r}: "
            f"{str(error).strip().splitlines()[0]} {what_to_do}"
        ) from error


def ready_to_score(model: Any) -> Any:
    """Put a model into evaluation mode and its preferred precision."""
    preferences = preferences_of(model.config)
    precision = getattr(torch, preferences.get("precision", "float32"))
    if model.is_activation_checkpointing:
        model.activation_checkpointing_disable()
    model.requires_grad_(False)
    return model.eval().to(precision)


@contextmanager
def no_bars() -> Iterator[None]:
    """Quiet the progress bars of transformers."""
    if not transformers_logging.is_progress_bar_enabled():
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()
