"""A model's folder before transformers reads it: what it may hold, name and ask for.

Folders come from anywhere. transformers executes none of their code here, but would
open what they name, load kernels that they ask for, and build what they describe.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch.overrides import TorchFunctionMode

from liftlearn._files import open_regular, parsed_json, read_whole

# A tokenizer's JSON is the largest text of a folder; fewer bytes hold few tokens.
_MOST_JSON = 2**28
_SMALL_TOKENIZER = 2**20
_ADDED = (
    "added_tokens",
    "added_tokens_decoder",
    "extra_special_tokens",
    "additional_special_tokens",
)
# Sizes below these are taken on trust: to build so many parts takes seconds.
_MANY_LAYERS = 2**10
_SOME, _MANY = 2**14, 2**16
_FAR_POSITION = 2**25
# Calls of torch in which a model is built and loaded, at the most; 15 a tensor are
# usual.
_CALLS = 20_000
_CALLS_A_TENSOR = 500

# Files that transformers may open.
_READ = {".json", ".safetensors", ".jinja", ".model", ".txt", ".spm"}

_IMPLEMENTATION = re.compile(r"(attn|attention|experts)_implementation|use_kernels")
_LAYERS = re.compile(r"layers?$")
_POSITION = re.compile(r"position|length|seq|ctx|context|window")
_NO_SIZE = re.compile(r"token|theta|_id$|_index$|seed")
_SIZE = re.compile(
    r"(^|_)(n|num|number|d)_|size|dim|width|hidden|head|expert|state|inner|ffn|rank"
    r"|group|channel|label|embd|intermediate"
)


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse a configuration that asks for code from elsewhere, or packed weights."""
    for key, value in _items(config):
        if _IMPLEMENTATION.search(key) and not _is_builtin(value):
            raise ValueError(
                f"Its configuration asks for {key}={value!r}, which may be code from a "
                'hub. Remove the key, or set it to "eager" or "sdpa".'
            )
        if key in ("quantization_config", "compression_config") and value:
            raise ValueError(
                f"Its weights are quantized ({key}={str(value)[:60]}...). Expected "
                'dense ones, which dtype="int8" or "nf4" quantizes, or a .gguf file.'
            )


def _is_builtin(implementation: Any) -> bool:
    if isinstance(implementation, dict):
        return all(map(_is_builtin, implementation.values()))
    return implementation in (None, False, "eager", "sdpa")


def check_folder(folder: Path) -> int:
    """Refuse a folder that leads out of itself, or describes more than it holds.

    Returns how many tensors its safetensors files hold. Refused are pipes, devices and
    the like, an index that names files elsewhere, sizes other than the weights', and
    what `check_config` refuses.
    """
    for file in sorted(folder.iterdir()):
        if file.suffix in _READ and file.exists():
            open_regular(file).close()
    shapes = _shapes(folder, _weight_files(folder))
    config = _json_of(folder / "config.json")
    check_config(config)
    largest = max((size for shape in shapes for size in shape), default=0)
    _check_sizes(config, len(shapes), largest)
    _check_tokens(folder, min(max(_SOME, largest), _MANY))
    return len(shapes)


class BoundedBuilding(TorchFunctionMode):
    """Raises where a model takes many more calls of torch than its tensors would."""

    def __init__(self, n_tensors: int) -> None:
        super().__init__()
        self._n_left = _CALLS + _CALLS_A_TENSOR * n_tensors

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self._n_left -= 1
        if self._n_left < 0:
            raise ValueError(
                "Its configuration describes many more parts than its files hold "
                "weights for. Restore config.json."
            )
        return func(*args, **(kwargs or {}))


def _json_of(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where there is no file."""
    if not file.exists():
        return {}
    read = parsed_json(read_whole(file, _MOST_JSON), str(file))
    if not isinstance(read, dict):
        raise ValueError(f"Expected a JSON object in {str(file)!r}, but it is another.")
    return read


def _weight_files(folder: Path) -> list[str]:
    """Return the names of a folder's safetensors files; refuse any outside of it."""
    names = [f.name for f in folder.glob("*.safetensors")]
    index = folder / "model.safetensors.index.json"
    shards = _json_of(index).get("weight_map", {})
    named = list(shards.values()) if isinstance(shards, dict) else [shards]
    for name in named:
        if name not in names:
            raise ValueError(
                f"{str(index)!r} names {name!r}, which is no safetensors file of its "
                "folder. Copy the folder again, with all of its files."
            )
    return names


def _shapes(folder: Path, names: list[str]) -> list[list[int]]:
    shapes = []
    for name in names:
        try:
            with safe_open(folder / name, framework="pt") as file:
                keys = file.keys()
                shapes += [file.get_slice(key).get_shape() for key in keys]
        except SafetensorError as error:
            raise ValueError(
                f"Expected safetensors weights, but {str(folder / name)!r} is damaged "
                f"({error})."
            ) from error
    return shapes


def _items(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a configuration and of those inside it."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key != "liftlearn":  # whose preferences are no sizes
                yield key, value
                yield from _items(value)
    elif isinstance(config, list):
        for value in config:
            yield from _items(value)


def _check_sizes(config: Mapping[str, Any], n_tensors: int, largest: int) -> None:
    """Raise if a configuration's sizes are beyond those of the weights."""
    for key, value in _items(config):
        if type(value) is not int or _NO_SIZE.search(key):
            continue
        if _POSITION.search(key):
            most = max(_FAR_POSITION, largest)
        elif _LAYERS.search(key):
            most = max(_MANY_LAYERS, n_tensors)
        elif _SIZE.search(key):
            most = max(_MANY, largest)
        else:
            continue
        if value > most:
            raise ValueError(
                f"Its configuration has {key}={value}, but its {n_tensors} tensors "
                f"have dimensions of at most {largest}. Restore config.json."
            )


def _check_tokens(folder: Path, most: int) -> None:
    """Raise if more tokens are added to a tokenizer than a model can embed.

    Each takes time that grows with their count; those of its vocabulary don't.
    """
    for name in ("tokenizer.json", "tokenizer_config.json", "added_tokens.json"):
        file = folder / name
        if not file.exists() or file.stat().st_size < _SMALL_TOKENIZER:
            continue
        read = _json_of(file)
        lists = [read] if name == "added_tokens.json" else [*map(read.get, _ADDED)]
        n_tokens = max(
            [len(added) for added in lists if isinstance(added, list | dict)], default=0
        )
        if n_tokens > most:
            raise ValueError(
                f"{str(file)!r} adds {n_tokens} tokens, more than the model can embed, "
                f"or than {_MANY}. Restore the tokenizer's files."
            )
