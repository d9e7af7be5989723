"""Adapters: small trainable weights put into a copy that shares its base's storage.

This module and `_lora` alone import peft, which is an extra, when it is needed.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from enum import Enum
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from liftlearn._files import open_regular, parsed_json, read_whole
from liftlearn._language_model._passes import own_logits, shared_copy
from liftlearn._language_model._surroundings import MAKING, import_whole

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
# Where peft's own files say that a weight lies.
_PREFIX = "base_model.model."
# Others write what they start from into the base's weights, which are shared.
_STARTS = (True, False, "gaussian", "orthogonal")
# Their weights are read by a fused kernel, past any adapter.
_STATE_SPACE_LAYERS = ["x_proj", "dt_proj", "out_proj"]
# What a file may not ask for: to import a module by its name, to repeat layers.
_REFUSED = ("megatron_config", "layer_replication")
_PATTERNS = ("target_modules", "exclude_modules", "layers_pattern")
_MOST_CONFIG = 2**24
_MOST_RANK = 2**16
# What a configuration tells of its file, not of the adapter.
_OF_FILES = {"base_model_name_or_path", "revision", "peft_version"}
_MISFIT = (
    "The adapter's weights do not fit the layers of its base model. The base must be "
    "the model that the adapter was trained on."
)


class SavedAdapter(NamedTuple):
    """An adapter by itself, with its base's name and, where known, fingerprint."""

    base: str
    config: Any
    weights: dict[str, Tensor]
    fingerprint: str | None


def lora(model: Any) -> Any:
    """Return the configuration of LoRA on all linear layers of a model but its head.

    Those are left out that don't read text, such as a tower for images, or give more
    than a product, such as some routers.
    """
    excluded = _unfit_layers(model)
    if any(hasattr(module, "A_log") for module in model.modules()):
        ends = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        excluded += [name for name in _STATE_SPACE_LAYERS if name in ends]
    return _peft().LoraConfig(
        r=16,
        lora_alpha=32,
        target_modules="all-linear",
        exclude_modules=excluded or None,
        task_type="CAUSAL_LM",
    )


def adapter_parameters(config: Any) -> dict[str, Any]:
    """Return the parameters of a ``peft.LoraConfig`` as plain values."""
    return {
        name: value.value if isinstance(value, Enum) else value
        for name, value in config.to_dict().items()
    }


def adapter_config(parameters: Mapping[str, Any]) -> Any:
    """Return the ``peft.LoraConfig`` of such parameters, which a file may hold.

    Another adapter's, and what a file may not ask for, raise ValueError.
    """
    _check_parameters(parameters)
    return _peft().PeftConfig.from_peft_type(**parameters)


def adapter_of(model: Any) -> Any | None:
    """Return the configuration of the adapter in a model, and None without one."""
    configs: Mapping[str, Any] = getattr(model, "peft_config", None) or {}
    return next(iter(configs.values()), None)


def adapter_weights(model: Any) -> dict[str, Tensor]:
    """Return the weights of a model's adapter in float32, by their names in peft."""
    weights: Mapping[str, Tensor] = _peft().get_peft_model_state_dict(
        model, save_embedding_layers=False
    )
    return {name: weight.detach().float() for name, weight in weights.items()}


def with_adapter(
    model: Any,
    config: Any,
    weights: Mapping[str, Tensor] | None = None,
    base_precision: torch.dtype | None = None,
) -> Any:
    """Return a copy of a model with an adapter, which alone requires gradients.

    What is not trained shares its storage with the model, unless ``base_precision``
    is another. The adapter's weights are float32; without given ones it is new.
    """
    peft = _peft()
    _check_config(peft, config)
    copied = shared_copy(model)
    config = _config_for(copied, config)
    shared = {id(weight) for weight in copied.parameters()}
    head = copied.get_output_embeddings().weight
    with MAKING:
        # On no device nothing is drawn from the random stream of the process.
        with nullcontext() if weights is None else torch.device("meta"):
            try:
                peft.inject_adapter_in_model(config, copied)
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                raise ValueError(
                    f"peft cannot give the model this adapter: {error}"
                ) from error
        if weights is not None:
            _put(peft, copied, weights)
    _check_head(copied, head)
    frozen = [weight for weight in copied.parameters() if not weight.requires_grad]
    for weight in copied.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.float32, copy=id(weight) in shared)
    if base_precision is not None:
        _cast(copied, frozen, base_precision)
    from liftlearn._language_model._lora import make_fast

    make_fast(copied)
    return copied


def makes_again(model: Any, config: Any, adapted: Any) -> bool:
    """Return whether a configuration asks for the adapter that a model has already.

    It is compared as it is after peft has found its layers in the model under it.
    """
    peft, copied = _peft(), shared_copy(model)
    _check_config(peft, config)
    config = _config_for(copied, config)
    with MAKING, torch.device("meta"):
        peft.inject_adapter_in_model(config, copied)
    asked, own = (
        {k: v for k, v in adapter_parameters(each).items() if k not in _OF_FILES}
        for each in (config, adapter_of(adapted))
    )
    return asked == own


def _config_for(model: Any, config: Any) -> Any:
    """Return a copy of a configuration to train a model's adapter with."""
    config = copy.deepcopy(config)
    config.inference_mode = False
    config.fan_in_fan_out = any(isinstance(m, Conv1D) for m in model.modules())
    return config


def merge(module: Any) -> None:
    """Add the adapter of a model into the model's own weights, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, child in module.named_children():
        if hasattr(child, "unload_and_optionally_merge_module"):
            whole = child.unload_and_optionally_merge_module(
                merge=True, safe_merge=False, adapter_names=None
            )
            setattr(module, name, whole)
        elif isinstance(child, BaseTunerLayer):
            child.merge()
            setattr(module, name, child.get_base_layer())
        else:
            merge(child)
    if adapter_of(module) is not None:
        del module.peft_config


def fingerprint(model: Any) -> str:
    """Return hashes of a sample of the weights, alike on any device and in any dtype.

    The first is of linear layers, and empty where they are quantized; the second is of
    all else.
    """
    linear, other = hashlib.sha256(), hashlib.sha256()
    head = model.get_output_embeddings()
    of_layers = {
        id(weight)
        for module in model.modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
        for weight in module.parameters()
    }
    is_dense = all(weight.is_floating_point() for weight in model.parameters())
    for name, weight in model.named_parameters():
        is_layers = id(weight) in of_layers
        if is_layers and not is_dense:
            continue
        entries = weight.detach().flatten()
        # As it would be in 16 bits, which float32 holds.
        sample = entries[:: len(entries) // 64 + 1].bfloat16().float().cpu()
        digest = linear if is_layers else other
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return f"{linear.hexdigest() if is_dense else ''}:{other.hexdigest()}"


def are_alike(one: str, other: str) -> bool:
    """Return whether two fingerprints are of the same weights, as far as they tell."""
    pairs = zip(one.split(":"), other.split(":"), strict=False)
    return all(a == b or not a or not b for a, b in pairs)


def write_adapter(folder: str | PathLike[str], adapter: SavedAdapter) -> None:
    """Write an adapter as peft does, with its base's fingerprint beside its weights."""
    config = copy.deepcopy(adapter.config)
    config.inference_mode = True
    _name_modules(config, adapter.weights)
    config.base_model_name_or_path, config.revision = adapter.base, None
    if "@" in adapter.base and not Path(adapter.base).exists():
        name, _, config.revision = adapter.base.rpartition("@")
        config.base_model_name_or_path = name
    config.save_pretrained(str(folder))
    weights = {
        f"{_PREFIX}{name}": weight.cpu().contiguous()
        for name, weight in adapter.weights.items()
    }
    # One key: safetensors writes several in any order, and so other bytes each time.
    metadata = {"base_fingerprint": str(adapter.fingerprint)}
    save_file(weights, Path(folder) / _WEIGHTS, metadata=metadata)


def holds_adapter(folder: str | PathLike[str]) -> bool:
    """Return whether a folder holds an adapter; refuse one with a whole model, too."""
    is_adapter = (Path(folder) / _CONFIG).is_file()
    if is_adapter and (Path(folder) / "config.json").is_file():
        raise ValueError(
            f"Expected a whole model or an adapter, but {str(folder)!r} holds both. "
            f"Move {_CONFIG} and {_WEIGHTS} to a folder of their own."
        )
    return is_adapter


def read_adapter(folder: str | PathLike[str]) -> SavedAdapter:
    """Read what `write_adapter` or peft wrote; nothing but safetensors and JSON."""
    peft, file = _peft(), Path(folder) / _CONFIG
    parameters = parsed_json(read_whole(file, _MOST_CONFIG), str(file))
    path = Path(folder) / _WEIGHTS
    if not path.exists():
        raise ValueError(
            f"Expected the adapter's weights in {str(path)!r}, but there is no such "
            "file. Weights in other formats than safetensors are not read."
        )
    open_regular(path).close()
    try:
        weights = {
            name.removeprefix(_PREFIX): weight
            for name, weight in load_file(path).items()
        }
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"Expected safetensors weights, but {str(path)!r} is damaged. Save the "
            "adapter, or download it, again."
        ) from error
    try:
        _check_parameters(parameters, _PATTERNS)
        config = peft.PeftConfig.from_peft_type(**parameters)
        _name_modules(config, weights)
        base, revision = config.base_model_name_or_path, config.revision
        if not isinstance(base, str) or not isinstance(revision, str | None):
            raise TypeError(f"its base model is {base!r}")
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f"Expected the configuration of a LoRA adapter in {str(file)!r}, but "
            f"{error}. Save the adapter, or download it, again."
        ) from error
    base = base if revision is None else f"{base}@{revision}"
    return SavedAdapter(base, config, weights, metadata.get("base_fingerprint"))


def _check_parameters(parameters: Any, unread: Iterable[str] = ()) -> None:
    """Raise ValueError where an adapter's parameters ask for what a file may not.

    A regular expression may take for ever to match; ``unread`` ones are not matched.
    """
    if not isinstance(parameters, Mapping) or parameters.get("peft_type") != "LORA":
        raise ValueError("it is no adapter of the kind LORA")
    if asked := [name for name in parameters if _is_barred(name, parameters[name])]:
        raise ValueError(f"it asks for {asked[0]}, which a file may not")
    rank, alpha = parameters.get("r", 1), parameters.get("lora_alpha", 1)
    if type(rank) is not int or not 0 < rank <= _MOST_RANK:
        raise ValueError(f"its rank is {rank!r}")
    if type(alpha) not in (int, float):
        raise ValueError(f"its lora_alpha is {alpha!r}")
    patterns = {
        **{name: parameters.get(name) for name in (*_PATTERNS, "modules_to_save")},
        "rank_pattern": list(parameters.get("rank_pattern") or ()),
        "alpha_pattern": list(parameters.get("alpha_pattern") or ()),
    }
    for name, given in patterns.items():
        texts = [given] if isinstance(given, str) else given or ()
        if not isinstance(texts, list | set | tuple):
            raise ValueError(f"its {name} is {given!r}")
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"its {name} is {given!r}")
            if name not in unread and not _is_tame(text):
                raise ValueError(
                    f"its {name} is {text!r}, a regular expression that might take for "
                    "ever. List the names of modules there"
                )


def _is_barred(name: Any, given: Any) -> bool:
    """Return whether a file may not ask for this, or not in this form."""
    if name in _REFUSED:
        return bool(given)
    return str(name).endswith("_config") and not isinstance(given, Mapping | None)


def _is_tame(pattern: str) -> bool:
    r"""Return whether matching a regular expression takes little time on any name.

    >>> _is_tame(r".*\.(q|v)_proj"), _is_tame("(a+)+"), _is_tame(".*.*.*.*.*x")
    (True, False, False)
    """
    plain = re.sub(r"\\\D|\[\^?.[^]]*\]", "x", pattern)
    repeats = re.findall(r"[*+{]", plain)
    is_nested = re.search(r"\)\s*[*+{]", plain) or re.search(r"\\\d|\(\?P?[=<!]", plain)
    return len(pattern) <= 500 and len(repeats) <= 4 and not is_nested


def _name_modules(config: Any, weights: Iterable[str]) -> None:
    """Name the modules that an adapter has weights for, where a pattern does.

    So a pattern from a file is never matched.
    """
    given = [getattr(config, name) for name in _PATTERNS]
    texts = [text for text in given if isinstance(text, str) and text != "all-linear"]
    if not texts and config.layers_pattern is None:
        return
    names = {name.partition(".lora_")[0] for name in weights if ".lora_" in name}
    config.target_modules = names
    config.exclude_modules = config.layers_pattern = config.layers_to_transform = None


def _unfit_layers(model: Any) -> list[str]:
    """Return the linear layers that give no plain product when the model reads text."""
    fit: set[str] = set()

    def watch(name: str) -> Callable[[Any, Any, Any], None]:
        def note(layer: Any, inputs: Any, output: Any) -> None:
            is_conv = isinstance(layer, Conv1D)
            n_given = layer.nf if is_conv else layer.out_features
            shape = (*inputs[0].shape[:-1], n_given)
            if isinstance(output, Tensor) and output.shape == shape:
                fit.add(_anywhere(name))

        return note

    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    hooks = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        _read_a_little(model)
    finally:
        for hook in hooks:
            hook.remove()
    # An expert that these few tokens are not sent to is like those beside it.
    return [name for name in layers if _anywhere(name) not in fit]


def _anywhere(name: str) -> str:
    """Return the name of a layer with no numbers."""
    return re.sub(r"\d+", "*", name)


def _read_a_little(model: Any) -> None:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            own_logits(model, torch.arange(4, device=model.device))
    finally:
        model.train(was_training)


def _can_mix(model: Any, precision: torch.dtype) -> bool:
    """Return whether a model's code takes weights of less precision under autocast.

    XGLM's does not, which adds its weights to positions in float32.
    """
    try:
        with torch.autocast(model.device.type, precision):
            _read_a_little(model)
    except RuntimeError:
        return False
    return True


def _peft() -> Any:
    try:
        peft = import_whole("peft")
    except ImportError as error:
        raise ImportError(
            "Adapters need the package peft, which could not be imported. Run "
            "`pip install 'liftlearn[lora]'`, or train all weights with "
            "FineTuner(adapter=None)."
        ) from error
    return peft


def _check_config(peft: Any, config: Any) -> None:
    if not isinstance(config, peft.LoraConfig):
        raise TypeError(
            f"Expected adapter to be 'auto', None or a peft.LoraConfig, got {config!r}."
        )
    if config.init_lora_weights not in _STARTS:
        raise ValueError(
            f"LoraConfig(init_lora_weights={config.init_lora_weights!r}) changes the "
            "weights of the base model, which fits share. Expected one of "
            f"{', '.join(map(repr, _STARTS))}."
        )


def _cast(model: Any, weights: list[nn.Parameter], precision: torch.dtype) -> None:
    """Give weights another precision, if the model can be trained so."""
    former = [weight.data for weight in weights]
    for weight in weights:
        if weight.is_floating_point():
            weight.data = weight.data.to(precision)
    if precision != torch.float32 and not _can_mix(model, precision):
        for weight, data in zip(weights, former, strict=True):
            weight.data = data.float()


def _check_head(model: Any, head: Tensor) -> None:
    """Refuse an adapter on the head, which is read as plain weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for module in model.modules():
        is_adapted = isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
        if is_adapted and any(head is weight for weight in module.parameters()):
            raise ValueError(
                "Expected an adapter that leaves the language model's head as it is, "
                "but target_modules or modules_to_save of the LoraConfig name it, or "
                "the embedding that is tied to it. Leave them out."
            )


def _put(peft: Any, model: Any, weights: Mapping[str, Tensor]) -> None:
    """Give an adapter without values its own copies of the weights."""
    device = model.device
    own = {
        name: weight.detach().to(device, copy=True) for name, weight in weights.items()
    }
    try:
        peft.set_peft_model_state_dict(model, own, low_cpu_mem_usage=True)
    except (KeyError, RuntimeError) as error:
        raise ValueError(_MISFIT) from error
    # peft writes some families' names as older versions of transformers had them.
    for name, weight in list(model.named_parameters()):
        given = own.get(name.replace(".default.", ".", 1))
        if weight.is_meta and given is not None and given.shape == weight.shape:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, nn.Parameter(given))
    if any(weight.is_meta for weight in model.parameters()):
        raise ValueError(_MISFIT)
