"""Pretrained models: where one is, and what transformers makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from liftlearn._language_model._adapter import adapter_of, merge


def find_source(model: str | PathLike[str] | None) -> tuple[str, float]:
    """Return what transformers is to load, and when its files changed last."""
    if model is None:
        return str(resources.files("liftlearn") / "embedded"), 0.0
    path = Path(model)
    if path.is_dir():
        changed = max((f.stat().st_mtime for f in path.iterdir()), default=0.0)
        return str(path.resolve()), changed
    if path.is_file():
        raise ValueError(
            f"Expected a folder with a causal language model, but {str(model)!r} is a "
            "file. Give the folder that holds it."
        )
    if isinstance(model, PathLike) or path.is_absolute() or str(model).startswith("."):
        raise FileNotFoundError(
            f"Expected a folder with a causal language model, but {str(model)!r} does "
            "not exist."
        )
    return str(model), 0.0


@lru_cache(maxsize=4)
def load_pretrained(source: str, changed: float, device: str) -> tuple[Any, Any]:
    """Load a model and a tokenizer, once for each source and device."""
    with no_bars():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source)
            model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"Could not load a causal language model from {source!r}. Expected a "
                "folder with config.json, safetensors weights and tokenizer files, or "
                "the name of one on the Hugging Face hub (which needs a connection the "
                "first time)."
            ) from error
    if adapter_of(model) is not None:  # transformers has loaded one from the hub
        merge(model)
    return ready_to_score(model).to(device), tokenizer


def ready_to_score(model: Any) -> Any:
    """Put a model into evaluation mode and its preferred precision."""
    preferences: Mapping[str, Any] = getattr(model.config, "liftlearn", None) or {}
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
