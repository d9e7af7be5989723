"""Pretrained models: where one is, and what transformers makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RevisionNotFoundError,
)
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
)
from transformers.utils import logging as transformers_logging
from transformers.utils.quantization_config import GgufConfig

from liftlearn._language_model._adapter import adapter_of, merge
from liftlearn._language_model._passes import bases, is_quantized, shared_copy
from liftlearn._language_model._preferences import preferences_of
from liftlearn._language_model._shards import is_to_spread, without_fsdp
from liftlearn._language_model._surroundings import MAKING, import_whole, plain_torch
from liftlearn._language_model._trial import UnreadableModelError, find_manner
from liftlearn._language_model._untrusted import (
    BoundedBuilding,
    check_config,
    check_folder,
)

# What `dtype` may be. "auto" keeps models of more weights than this as their files
# have them; smaller ones are read in float32, which costs little memory.
QUANTIZED = ("int8", "nf4")
DTYPES = ("auto", "float32", "bfloat16", "float16", *QUANTIZED)
_FEW_WEIGHTS = 300_000_000
# The name of the embedded model that reads tables in context. No folder has it.
READER = "liftlearn:reader"
# One model's module, which imports what those of all models do.
_WHAT_MODELS_IMPORT = "transformers.models.llama.modeling_llama"
_WANTED = (
    "Expected a folder with config.json, safetensors weights and tokenizer files, a "
    ".gguf file, or the name of a model on the Hugging Face hub, which needs a "
    "connection the first time."
)
_WANTED_TOKENIZER = (
    "Expected a folder with the files of the model's tokenizer, as "
    "tokenizer.save_pretrained writes them, beside the weights."
)
_OWN_CONFIG = "Expected the config.json that was saved with the weights."
# Positions and masks that older versions of transformers saved with the weights.
_OLD_BUFFERS = (
    ".attention.bias",
    ".attn.bias",
    "inv_freq",
    "masked_bias",
    "position_ids",
)


@dataclass(frozen=True)
class Source:
    """Where a model is."""

    name: str  # a folder, or a name on the hub
    revision: str | None = None  # the branch, tag or commit on the hub
    gguf: str | None = None  # the file in the folder that holds the model
    # What tells a local folder's or file's content from any other that may replace it:
    # names, inodes, sizes, and times that no tool can set.
    files: tuple[tuple[Any, ...], ...] = ()

    def __str__(self) -> str:
        if self.gguf:
            return str(Path(self.name) / self.gguf)
        return f"{self.name}@{self.revision}" if self.revision else self.name


def find_source(
    model: str | PathLike[str] | None, *, local_files_only: bool = False
) -> Source:
    """Return where the model is that the user named.

    A name on the hub is that of a folder in its cache, if only local files may be read.
    """
    if model is None or model == READER:
        folder = "embedded" if model is None else "reader"
        return Source(str(resources.files("liftlearn") / folder))
    path = Path(model)
    is_gguf = path.suffix.lower() == ".gguf"
    if path.is_dir():
        return Source(str(path.resolve()), files=_states(sorted(path.iterdir())))
    if path.is_file():
        if not is_gguf:
            raise ValueError(
                "Expected a folder with a causal language model or a .gguf file, but "
                f"{str(model)!r} is another file. Give the folder that holds it."
            )
        folder = str(path.resolve().parent)
        return Source(folder, gguf=path.name, files=_states([path]))
    name = str(model)
    is_local = isinstance(model, PathLike) or path.is_absolute() or path.is_symlink()
    if is_local or name.startswith(".") or is_gguf:
        what = "does not exist"
        if path.is_symlink():
            what = f"is a link to {str(path.readlink())!r}, which does not exist"
        raise FileNotFoundError(
            f"Expected a folder with a causal language model or a .gguf file, but "
            f"{name!r} {what}."
        )
    name, _, revision = name.partition("@")
    if local_files_only:
        return Source(str(_cached_folder(name, revision or None)))
    return Source(name, revision=revision or None)


def _states(paths: list[Path]) -> tuple[tuple[Any, ...], ...]:
    """Return what changes whenever a file is written, moved or replaced."""
    states = ((path.name, path.stat()) for path in paths if path.exists())
    return tuple(
        (name, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
        for name, s in states
    )


def _cached_folder(name: str, revision: str | None) -> Path:
    """Return where a model of the hub has been downloaded to.

    transformers could look there, too, but its hub client opens a connection then.
    """
    found = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(found, str):
        raise FileNotFoundError(
            f"Expected a folder or a downloaded model, but {name!r} is neither, and "
            "only local files are read here."
        )
    return Path(found).parent


def find_device(device: str | None) -> str:
    """Return the device that the user named, or the best there is."""
    if device is None:
        # Where processes are to keep shares, whole weights take up no GPU.
        is_gpus = torch.cuda.is_available() and not is_to_spread()
        return "cuda" if is_gpus else "cpu"
    here = torch.accelerator.current_accelerator()
    n_here = torch.accelerator.device_count()
    names = ["cpu", *(f"{here.type}:{i}" for i in range(n_here) if here)]
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"Expected a device of this machine, {' or '.join(map(repr, names))}, as "
            f"device, got {device!r}. None takes a GPU where there is one."
        ) from error
    is_here = here is not None and here.type == wanted.type
    if wanted.type != "cpu" and not (is_here and (wanted.index or 0) < n_here):
        raise ValueError(
            f"device={device!r} is not on this machine, or torch was installed without "
            f"support for it. Set device to {' or '.join(map(repr, names))}, or None."
        )
    return str(device)


def check_dtype(dtype: Any) -> None:
    """Raise ValueError unless it is one that a model can be kept in."""
    if dtype not in DTYPES:
        raise ValueError(
            f"Expected one of {', '.join(map(repr, DTYPES))} as dtype, got {dtype!r}."
        )


def computes(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether a device computes with half of float32's bits by itself."""
    if device.type == "cuda":
        return dtype == torch.float16 or torch.cuda.is_bf16_supported(
            including_emulation=False
        )
    is_cpu = device.type == "cpu"
    return is_cpu and dtype == torch.bfloat16 and _has_one_of(*_SLOW, *_FAST)


def gains_by_bf16(device: torch.device) -> bool:
    """Return whether a device computes bf16 products faster than those of float32."""
    if device.type == "cuda":
        return computes(torch.bfloat16, device)
    return device.type == "cpu" and _has_one_of(*_FAST)


# Instructions for bf16. With AVX-512 alone products take twice as long as in float32.
_FAST, _SLOW = ("amx_bf16", "sve_bf16"), ("avx512_bf16",)


def _has_one_of(*names: str) -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in names)


def load_pretrained(source: Source, device: str, dtype: str) -> tuple[Any, Any]:
    """Load a model and a tokenizer, once for each source, device and dtype."""
    with MAKING, plain_torch(device), without_fsdp():
        return _load(source, device, dtype)


@lru_cache(maxsize=4)
def _load(source: Source, device: str, dtype: str) -> tuple[Any, Any]:
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
    if dtype in QUANTIZED:
        has_bf16 = computes(torch.bfloat16, torch.device(device))
        dense_in = "bfloat16" if has_bf16 else "float32"
        how |= _quantizing(source, dtype, device, getattr(torch, dense_in))
        dtype = dense_in
    with _explained(source, "a causal language model", _WANTED), no_bars():
        import_whole(_WHAT_MODELS_IMPORT)
        # In its file's precision first, so that nothing larger is made on the way. A
        # .gguf file's numbers are unpacked.
        first = "float32" if dtype == "auto" and source.gguf else dtype
        model = _whole_model(source, options, how, first)
        kept_in = _kept_in(model, torch.device(device), dtype)
        if kept_in.itemsize > model.dtype.itemsize == 2:
            del model  # what it computed of its own is rounded, too: read it anew
            model = _whole_model(source, options, how, "float32")
        if is_quantized(model):
            _settle_weights(model)
        find_manner(ready_to_score(model, kept_in))
    with _explained(source, "a tokenizer", _WANTED_TOKENIZER), no_bars():
        tokenizer = AutoTokenizer.from_pretrained(source.name, **options)
        _check_tokenizer(tokenizer, model)
    return model if is_quantized(model) else model.to(device), tokenizer


def _settle_weights(model: Any) -> None:
    """Bring quantized weights into the form that they keep, since copies share them.

    Their layers would change it in place when they are first read.
    """
    for module in model.modules():
        if hasattr(module, "init_8bit_state"):
            module.init_8bit_state()
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def name_of_dtype(model: Any, dtype: torch.dtype) -> str:
    """Return what a model is kept in, if that of its dense weights is this."""
    if is_quantized(model):
        given = model.config.quantization_config
        return given.bnb_4bit_quant_type if given.load_in_4bit else "int8"
    return str(dtype).removeprefix("torch.")


def dense(model: Any, dtype: torch.dtype) -> Any:
    """Return a copy of a quantized model whose weights are no more so."""
    with no_bars():
        return shared_copy(model).dequantize().to(dtype)


def _quantizing(
    source: Source, dtype: str, device: str, dense_in: torch.dtype
) -> dict[str, Any]:
    """Return how transformers is asked for weights of 4 or 8 bits."""
    if source.gguf:
        raise ValueError(
            f"dtype={dtype!r} quantizes dense weights, but {source.gguf!r} holds "
            'packed ones. Set dtype="auto", or save the model as a folder first: '
            "LanguageModel.load(file).save(folder)."
        )
    if find_spec("bitsandbytes") is None:
        raise ImportError(
            f"dtype={dtype!r} needs the package bitsandbytes. Install it with "
            "pip install 'liftlearn[quantized]', or set dtype=\"bfloat16\"."
        )
    # The head, and what is no linear layer, stay as they are.
    config = BitsAndBytesConfig(
        load_in_8bit=dtype == "int8",
        load_in_4bit=dtype == "nf4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dense_in,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def _whole_model(
    source: Source, options: dict[str, Any], how: dict[str, Any], dtype: str
) -> Any:
    """Return a model with all of its weights, and any adapter merged."""
    with _checked(source, options):
        model, notes = AutoModelForCausalLM.from_pretrained(
            source.name,
            dtype=dtype,
            output_loading_info=True,
            # The first one is named below; transformers refers to its log.
            ignore_mismatched_sizes=True,
            **options,
            **how,
        )
    _check_weights(model, notes)
    if adapter_of(model) is not None:  # transformers has loaded one from the hub
        merge(model)
    return model


def _kept_in(model: Any, device: torch.device, dtype: str) -> torch.dtype:
    """Return in which precision a model is kept, that was loaded in its file's."""
    own: torch.dtype = model.dtype
    if is_quantized(model):
        return own
    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    preferred = preferences_of(model.config).get("precision")
    if preferred:
        preference: torch.dtype = getattr(torch, preferred)
        return preference
    is_large = sum(w.numel() for w in model.parameters()) > _FEW_WEIGHTS
    is_half = own in (torch.bfloat16, torch.float16)
    keeps = is_large and is_half and computes(own, device)
    return own if keeps else torch.float32


def _checked(source: Source, options: dict[str, Any]) -> AbstractContextManager[Any]:
    """Check what a model's files ask for; return in what to build the model."""
    if source.gguf:
        return nullcontext()
    if Path(source.name).is_dir():
        return BoundedBuilding(check_folder(Path(source.name)))
    try:
        config, _ = PreTrainedConfig.get_config_dict(source.name, **options)
    except OSError as error:  # which loading will explain
        if isinstance(error.__cause__, LocalEntryNotFoundError):
            options["local_files_only"] = True  # there is no connection to wait for
        return nullcontext()
    check_config(config)
    return nullcontext()


@contextmanager
def _explained(source: Source, what: str, wanted: str) -> Iterator[None]:
    """Say what was expected where a model's files, or its code, fail in any way."""
    try:
        yield
    except UnreadableModelError as error:
        raise ValueError(
            f"Could not load {what} from {str(source)!r}: {error}"
        ) from error.__cause__
    # Files of others, read by code of others: tokenizers, for one, raises Exception.
    except Exception as error:
        causes = [error, error.__cause__, error.__context__]
        if any(isinstance(cause, GatedRepoError) for cause in causes):
            wanted = (
                "Its owners ask for consent: give it on the model's page of the "
                "Hugging Face hub, then log in with `hf auth login`."
            )
        elif any(isinstance(cause, RevisionNotFoundError) for cause in causes):
            wanted = f"The model has no branch, tag or commit {source.revision!r}."
        raise ValueError(
            f"Could not load {what} from {str(source)!r}: {_first_words(error)} "
            f"{wanted}"
        ) from error


def _first_words(error: Exception) -> str:
    """Return what an error says, up to the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    n_lines = 2 if lines and lines[0].endswith(":") else 1
    text = " ".join(lines[:n_lines]).rstrip(",.") + "."
    is_plain = isinstance(error, OSError | RuntimeError | ValueError)
    return text if lines and is_plain else f"{type(error).__name__}: {text}"


def _check_weights(model: Any, notes: Mapping[str, Any]) -> None:
    """Refuse weights that are missing, don't fit, are left over or are no numbers."""
    kind = type(model).__name__
    if missing := sorted(notes["missing_keys"]):
        raise UnreadableModelError(
            f"its files have no weights for {missing[0]!r} and {len(missing) - 1} more "
            f"parts of a {kind}. Expected a causal language model with all of its "
            "weights."
        )
    if misfits := sorted(notes["mismatched_keys"]):
        name, found, wanted = misfits[0]
        raise UnreadableModelError(
            f"config.json asks for {name!r} of shape {tuple(wanted)}, but the file has "
            f"{tuple(found)}, and {len(misfits) - 1} more do not fit. {_OWN_CONFIG}"
        )
    surplus = [name for name in notes["unexpected_keys"] if _belongs(name, model)]
    if surplus:
        raise UnreadableModelError(
            f"its files have weights for {min(surplus)!r} and {len(surplus) - 1} more "
            f"parts that a {kind} by this config.json has not. {_OWN_CONFIG}"
        )
    for name, weight in model.state_dict().items():
        # NaN passes through both bounds, and infinity is one of them.
        if weight.is_floating_point() and weight.numel():
            least, most = weight.aminmax()
            if not bool((most - least).isfinite()):
                raise UnreadableModelError(
                    f"the weights {name!r} hold NaN or infinity. Expected finite "
                    "weights: save or download the model again."
                )


def _belongs(name: str, model: Any) -> bool:
    """Return whether weights of a file would change what a model reads.

    Buffers that older versions saved don't, nor does what stands beside the text
    decoder and its head, such as a tower for images or the head of another task.
    """
    if name.endswith(_OLD_BUFFERS):
        return False
    parts = dict(model.named_modules())
    steps = name.split(".")
    at = next(n for n in range(len(steps), -1, -1) if ".".join(steps[:n]) in parts)
    around = parts[".".join(steps[:at])]
    return all(around is not whole for whole in (model, *bases(model)))


def _check_tokenizer(tokenizer: Any, model: Any) -> None:
    """Refuse a tokenizer that can't write text, or that has tokens unknown to a model.

    Control tokens that no text becomes may be more than the model knows.
    """
    calls = {"add_special_tokens": False, "split_special_tokens": True}
    ids = tokenizer(["x0 is 1.5. y?"], **calls)["input_ids"][0]
    if not ids or set(ids) == {tokenizer.unk_token_id}:
        raise UnreadableModelError(
            f"it writes 'x0 is 1.5. y?' as the tokens {ids!r}. {_WANTED_TOKENIZER}"
        )
    decoder = tokenizer.added_tokens_decoder
    control = {token for token, added in decoder.items() if added.special}
    written = set(tokenizer.get_vocab().values()) - control
    written |= {
        *tokenizer("", split_special_tokens=True)["input_ids"],
        tokenizer.eos_token_id or 0,
    }
    n_known = len(model.get_input_embeddings().weight)
    if max(written) >= n_known:
        raise UnreadableModelError(
            f"it writes tokens up to {max(written)}, but the model knows those below "
            f"{n_known} alone. Expected the tokenizer that the model was trained with."
        )


def ready_to_score(model: Any, dtype: torch.dtype) -> Any:
    """Put a model into evaluation mode, and another precision where it is in one."""
    if model.is_activation_checkpointing:
        model.activation_checkpointing_disable()
    model.requires_grad_(False)
    if model.dtype == dtype:
        return model.eval()
    if dtype.itemsize > 2:
        return model.eval().to(dtype)
    # Buffers, such as the frequencies of positions, stay in float32.
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model.eval()


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
