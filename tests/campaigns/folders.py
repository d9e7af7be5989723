"""Damaged folders: a clear error comes of each, or predictions, and nothing else.

Saved estimators, checkpoints and folders of models as the hub has them are changed at
random. Damage leaves the digests as they were; what is signed again has digests that
fit it. Each case is loaded in a process of its own, with little memory and time, that
may not connect, nor write, nor read outside. From the folder ``tests``::

    python -m campaigns.folders 10000 2000 0    # damaged, signed again, the first seed
    python -m campaigns.folders --case damaged:17
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from tiny import (
    SHORT,
    blobs,
    labels_of,
    mixed_table,
    numbers_of,
    saved_gpt2,
    saved_llama,
)

import liftlearn
from campaigns.outcomes import FOR_USERS, in_child, refusal, report
from liftlearn import FineTuner, LIFTClassifier, LIFTDensity, LIFTRegressor, RowEncoder
from liftlearn._finetuner._checkpoint import Checkpoint

_SECONDS, _MEMORY = 60, 2**31
_SECRET = "outside.json"
_MODELS = ("llama", "gpt2")
# What Python and its libraries read by themselves.
_LIBRARIES = [sys.prefix, sys.base_prefix, "/proc", "/sys", "/usr", "/dev", "/etc"]
_ODD_VALUES = [
    *[None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -1e308, 1e308],
    *[
        "",
        "a",
        "../outside.json",
        "/etc/passwd",
        "auto",
        "(a+)+$",
        "\ud800",
        "x" * 9999,
    ],
    *[[], {}, [[]], [None], {"type": "tuple", "value": []}, {"": 0}, [0] * 1000],
    {"type": "float", "value": "nan"},
    {"type": "array", "value": ["<U250000000", [3], ["a", "b", "c"]]},
]


# What is changed, and how it is used


def made(top):
    """Save one folder of each kind below a folder; return what uses each, by name.

    A use returns predictions. It is given the changed folder.
    """
    table = mixed_table()
    X, y = blobs()
    llama = saved_llama(top / "llama")
    saved_gpt2(top / "gpt2")
    small = {"finetuner": FineTuner(**SHORT), "random_state": 0}
    lora = FineTuner(**SHORT, adapter=LoraConfig(r=2, target_modules=["q_proj"]))
    two = FineTuner(**SHORT, n_models=2)
    by_index = RowEncoder(columns="index", numbers="scaled")
    estimators = {
        "classes": LIFTClassifier(llama, encoder=by_index, **small),
        "two members": LIFTClassifier(llama, finetuner=two, random_state=0),
        "adapter": LIFTClassifier(llama, finetuner=lora, random_state=0),
        "in context": LIFTClassifier(llama, n_shots=4, shots="nearest", **small),
        "numbers": LIFTRegressor(llama, **small),
        "rows": LIFTDensity(llama, **small),
    }
    uses = {}
    for name, estimator in estimators.items():
        if name == "rows":
            estimator.fit(X, y).save(top / name)
            uses[name] = partial(_scores_of_rows, X)
            continue
        target = numbers_of(table) if name == "numbers" else labels_of(table)
        estimator.fit(table, target).save(top / name)
        uses[name] = partial(_predictions, table)
    with patch.object(Checkpoint, "remove"):  # the last one stays
        _resumed(llama, X, y, top / "checkpoint")
    uses["checkpoint"] = partial(_resumed, llama, X, y)
    uses |= dict.fromkeys(_MODELS, partial(_learnt, X, y))
    return uses


def _predictions(table, folder):
    estimator = liftlearn.load(folder)
    if isinstance(estimator, LIFTRegressor):
        return estimator.predict(table)
    return estimator.predict_proba(table)


def _scores_of_rows(X, folder):
    estimator = liftlearn.load(folder)
    return estimator.score_samples(X, np.zeros(len(X), int))


def _resumed(model, X, y, folder):
    tuner = FineTuner(max_steps=4, batch_size=8, checkpoint_every=2)
    tuner.set_params(checkpoint_dir=folder)
    classifier = LIFTClassifier(model, finetuner=tuner, random_state=0)
    return classifier.fit(X, y).predict_proba(X)


def _learnt(X, y, folder):
    tuner = FineTuner(max_steps=1, batch_size=8)
    classifier = LIFTClassifier(folder, finetuner=tuner, random_state=0)
    return classifier.fit(X, y).predict_proba(X)


# How it is changed


def damage(folder, rng):
    """Change one file of a folder at random, and no digest; return what was done."""
    file = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    content = file.read_bytes()
    kind = rng.choice(sorted(_DAMAGES))
    if kind in _BYTES:
        file.write_bytes(_BYTES[kind](content, rng))
    else:
        _FILES[kind](file, rng)
    return f"{kind}: {file.relative_to(folder)}"


def _flipped(content, rng):
    changed = bytearray(content or b"\0")
    for _ in range(rng.choice([1, 1, 1, 8])):
        changed[_place(changed, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _place(content, rng):
    """Return a place in bytes, often near the beginning, where headers are."""
    most = len(content) if rng.random() < 0.5 else min(len(content), 200)
    return rng.randrange(most)


def _overwritten(content, rng):
    at, n = rng.randrange(len(content) + 1), rng.choice([1, 8, 100])
    return content[:at] + rng.randbytes(n) + content[at + n :]


def _repeated(content, rng):
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:end] + content[start:end] + content[end:]


_BYTES = {
    "bits flipped": _flipped,
    "bytes replaced": _overwritten,
    "cut off": lambda content, rng: content[: rng.randrange(len(content) or 1)],
    "longer": lambda content, rng: content + rng.randbytes(rng.choice([1, 100])),
    "empty": lambda content, rng: b"",
    "a part repeated": _repeated,
    "a part missing": lambda content, rng: content[rng.randrange(9) :],
    "zeros": lambda content, rng: bytes(len(content)),
    "a huge header": lambda content, rng: (2**62).to_bytes(8, "little") + content[8:],
    "JSON changed": lambda content, rng: _changed_json(content, rng),
}


def _removed(file, rng):
    file.unlink()


def _as_folder(file, rng):
    file.unlink()
    file.mkdir()


def _as_pipe(file, rng):
    file.unlink()
    os.mkfifo(file)


def _as_link(file, rng):
    file.unlink()
    file.symlink_to(
        rng.choice(["/dev/zero", "/etc/passwd", f"../{_SECRET}", file.name])
    )


def _renamed(file, rng):
    names = [
        "model.safetensors.index.json",
        "adapter_config.json",
        "chat_template.jinja",
    ]
    file.rename(file.with_name(rng.choice([*names, f"{file.name}.bak", "config.json"])))


def _swapped(file, rng):
    other = rng.choice(sorted(path for path in file.parent.glob("*") if path.is_file()))
    mine, theirs = file.read_bytes(), other.read_bytes()
    file.write_bytes(theirs)
    other.write_bytes(mine)


def _joined(file, rng):
    name = rng.choice(["modeling.py", "pytorch_model.bin", "generation_config.json"])
    (file.parent / name).write_bytes(rng.randbytes(50))


_FILES = {
    "missing": _removed,
    "a folder": _as_folder,
    "a pipe": _as_pipe,
    "a link": _as_link,
    "another name": _renamed,
    "two exchanged": _swapped,
    "one more": _joined,
}
_DAMAGES = {*_BYTES, *_FILES}


def _changed_json(content, rng):
    """Return JSON with one value, key or item changed; bytes where there is none."""
    try:
        value = json.loads(content)
    except ValueError:
        return _flipped(content, rng)
    holder = {"": value}
    at, key = rng.choice([*_places(holder)])
    kind = rng.choice(["value", "value", "value", "gone", "key", "again", "other"])
    if kind == "gone" and at is not holder:
        del at[key]
    elif kind == "key" and isinstance(at, dict) and at is not holder:
        at[f"{key}_"] = at.pop(key)
    elif kind == "again" and isinstance(at, list):
        at.insert(key, at[key])
    elif kind == "other":
        other, name = rng.choice([*_places(holder)])
        at[key] = json.loads(json.dumps(other[name]))
    else:
        at[key] = rng.choice(_ODD_VALUES)
    return json.dumps(holder[""]).encode()


def _places(value):
    """Yield each place of a JSON value: what holds it, and by which key."""
    keys = value if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def sign_anew(folder, rng):
    """Change a file of a saved estimator or checkpoint, and its digests to fit."""
    if (folder / "checkpoint.safetensors").exists():
        return _sign_checkpoint(folder / "checkpoint.safetensors", rng)
    state = folder / "liftlearn.json"
    if not state.exists():
        return damage(folder, rng)  # a model's folder has no digests
    content = json.loads(state.read_text())
    del content["sha256"]
    names = sorted(path for path in content["files"] if (folder / path).is_file())
    name = rng.choice([state.name] * len(names) + names)
    if name == state.name:
        content = json.loads(_changed_json(json.dumps(content).encode(), rng))
    elif name.endswith(".safetensors"):
        _change_tensors(folder / name, rng)
    else:
        (folder / name).write_bytes(_changed_json((folder / name).read_bytes(), rng))
    if isinstance(content, dict) and isinstance(content.get("files"), dict):
        for file in content["files"]:
            if _is_inside(folder, file):
                digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
                content["files"][file] = digest
    unsigned = json.dumps(content)
    digest = hashlib.sha256(unsigned.encode()).hexdigest()
    state.write_text(f'{unsigned[:-1]}, "sha256": "{digest}"}}')
    return f"signed again: {name}"


def _is_inside(folder, file):
    path = folder / file
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def _sign_checkpoint(file, rng):
    content = file.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    metadata = header["__metadata__"]
    kind = rng.choice(["values", "values", "header", "numbers"])
    tensors = content[8 + size :]
    if kind == "values":
        changed = _changed_json(metadata["liftlearn"].encode(), rng)
        metadata["liftlearn"] = changed.decode()
    elif kind == "header":
        header = json.loads(_changed_json(json.dumps(header).encode(), rng))
    else:
        tensors = _flipped(tensors, rng)
    blank = "0" * 64
    if isinstance(header, dict) and isinstance(header.get("__metadata__"), dict):
        header["__metadata__"]["sha256"] = blank
    head = json.dumps(header, separators=(",", ":")).encode()
    written = struct.pack("<Q", len(head)) + head + tensors
    digest = hashlib.sha256(written).hexdigest().encode()
    file.write_bytes(
        written.replace(b'"sha256":"' + blank.encode(), b'"sha256":"' + digest, 1)
    )
    return f"signed again: {kind} of {file.name}"


def _change_tensors(file, rng):
    """Change one tensor of a file: its type, its shape, its name, or its numbers."""
    tensors = load_file(file)
    name = rng.choice(sorted(tensors))
    tensor = tensors.pop(name)
    kind = rng.choice(
        ["type", "shape", "name", "gone", "more", "nan", "large", "zeros"]
    )
    if kind == "type":
        dtypes = [torch.float16, torch.int8, torch.float64, torch.bool, torch.bfloat16]
        tensors[name] = tensor.to(rng.choice(dtypes))
    elif kind == "shape":
        other = [tensor.reshape(-1), tensor[None], tensor[:0], tensor[:1].clone()]
        tensors[name] = rng.choice(other)
    elif kind == "name":
        tensors[f"{name}.other"] = tensor
    elif kind == "more":
        tensors |= {name: tensor, rng.choice(["x", "../x", f"{name}.bias"]): tensor + 1}
    elif kind != "gone":
        fill = {"nan": torch.nan, "large": 1e38, "zeros": 0.0}[kind]
        tensors[name] = torch.full_like(tensor, fill)
    save_file(tensors, file, {"format": "pt"})


# One case, and all of them


def confine(folder):
    """Give this process little memory; let it touch no file outside, nor connect."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, limit))
    inside = [str(folder), str(folder.parent.parent / "llama")]
    if folder.name in _MODELS:  # links are followed, as the hub's cache has them
        inside.append(str(folder.parent / _SECRET))
    package = str(Path(liftlearn.__file__).parents[1])

    def hook(event, arguments):
        if event in ("socket.connect", "subprocess.Popen", "os.system"):
            _end(f"FAULT {event} {arguments[1:]}")
        if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        writes = arguments[2] & (os.O_WRONLY | os.O_RDWR)
        may = inside[:1] if writes else [*inside, package, *_LIBRARIES]
        if path != "/dev/null" and not any(Path(path).is_relative_to(at) for at in may):
            _end(f"FAULT opens {path} {'to write' if writes else ''}")

    sys.addaudithook(hook)


class _End(BaseException):
    """Ends a case at once: no handler of an Exception holds it back."""


def _end(outcome):
    raise _End(outcome)


def outcome(use, folder, expected, exactly):
    """Return what comes of using a changed folder."""
    confine(folder)
    try:
        found = use(folder)
    except _End as end:
        return str(end)
    except FOR_USERS as error:
        return refusal(error)
    if not np.isfinite(found).all() or found.shape != expected.shape:
        return f"FAULT predictions {found.ravel()[:3]}"
    if np.array_equal(found, expected):
        return "the same predictions"
    return "FAULT other predictions" if exactly else "other predictions"


def copied(top, name):
    """Copy a folder to one of its own, beside a file that is not its own."""
    shutil.rmtree(top / "case", ignore_errors=True)
    folder = shutil.copytree(top / name, top / "case" / name)
    (top / "case" / _SECRET).write_text("{}")
    return folder


def case(top, uses, expected, kind, number):
    """Try the case of a number; return what was done, and what came of it."""
    rng = random.Random(f"{kind}:{number}")
    name = rng.choice(sorted(uses))
    folder = copied(top, name)
    change = damage if kind == "damaged" else sign_anew
    done = change(folder, rng)
    # A model's folder has no digests: other weights are another model.
    exactly = kind == "damaged" and name not in _MODELS
    act = partial(outcome, uses[name], folder, expected[name], exactly)
    before = _times(top, folder)
    came = in_child(act, _SECONDS)
    if _times(top, folder) != before:
        came = f"FAULT files outside have changed ({came})"
    return f"{name}, {done}", came


def _times(top, folder):
    """Return when each file outside a folder has changed."""
    files = (path for path in top.rglob("*") if not path.is_relative_to(folder))
    return {path: path.lstat().st_mtime_ns for path in files if path.is_file()}


def run(n_damaged, n_signed, first=0, only=None):
    """Try so many cases; return counts of what came of them."""
    torch.set_num_threads(1)
    found = Counter()
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder).resolve()
        uses = made(top)
        expected = {name: use(copied(top, name)) for name, use in uses.items()}
        numbers = [("damaged", first + i) for i in range(n_damaged)]
        numbers += [("signed", first + i) for i in range(n_signed)]
        for kind, number in numbers if only is None else [only]:
            done, came = case(top, uses, expected, kind, number)
            if came.startswith("FAULT") or only is not None:
                print(f"{kind}:{number}, {done}: {came}", flush=True)
            found[f"{kind}: {came.split(':')[0] if 'FAULT' not in came else came}"] += 1
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("n_damaged", type=int, nargs="?", default=0)
    parser.add_argument("n_signed", type=int, nargs="?", default=0)
    parser.add_argument("first", type=int, nargs="?", default=0)
    parser.add_argument("--case", help="one case alone, such as damaged:17")
    options = parser.parse_args()
    only = None
    if options.case:
        kind, number = options.case.split(":")
        only = (kind, int(number))
    counts = run(options.n_damaged, options.n_signed, options.first, only)
    report(counts, **vars(options))
