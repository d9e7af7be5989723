"""Saves and fits that are killed, or find the disk full: nothing is lost or halved.

``kill -9`` at each operation on a file of a save leaves the old or the new copy whole.
A fit that is killed at a random moment is resumed to the bits of an unbroken one. A
disk that is full at any page fails a save or a checkpoint in words, and leaves what
was there. From the folder ``tests``, for 200 killed fits of the seed 0::

    python -m campaigns.kills 200 0
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig
from sklearn.base import clone
from tiny import SHORT, blobs, outputs, saved_llama

import liftlearn
from campaigns.outcomes import FOR_USERS, in_child, refusal, report
from liftlearn import FineTuner, LIFTClassifier, LIFTDensity, LIFTRegressor

_WRITES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.chmod",
    "shutil.rmtree",
}
_PAGE = 4096


# Saves


def killed_at(n_operations, act):
    """Call something in a child that dies before an operation on files.

    Return whether it died, or had ended before.
    """
    process = os.fork()
    if process == 0:
        left = iter(range(n_operations))

        def hook(event, arguments):
            opens = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if (event in _WRITES or opens) and next(left, None) is None:
                os._exit(9)

        sys.addaudithook(hook)
        with suppress(BaseException):
            act()
            os._exit(0)
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, 9)
    return code == 9


def tree(folder):
    """Return the bytes of each file at any depth, but for unfinished ones."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".liftlearn-saving" not in str(path)
    }


def states_after_kills(old, new, top):
    """Save one estimator over another, killed at each operation on a file.

    Return the folders that differ, each with the number of what is in it after it was
    loaded: 0 for the old copy, 1 for the new one; and how many operations there were.
    """
    wholes = []
    for i, estimator in enumerate([old, new]):
        estimator.save(top / f"{i}")
        (top / f"{i}" / ".git").mkdir()
        for name in (".git/config", "README.md"):
            (top / f"{i}" / name).write_text("mine")
        wholes.append(tree(top / f"{i}"))
    cut, n_operations, is_cut = {}, 0, True
    while is_cut:
        folder = shutil.copytree(top / "0", top / f"after-{n_operations}")
        is_cut = killed_at(n_operations, partial(new.save, folder))
        n_operations += 1
        # Each state once: what is not decided on makes no difference.
        cut[frozenset(tree(folder).items())] = folder
    found = []
    for folder in cut.values():
        loaded = liftlearn.load(folder)
        is_one = [tree(folder) == whole for whole in wholes]
        assert any(is_one), f"{folder} is neither the old copy nor the new one"
        found.append((loaded, is_one.index(True)))
        new.save(folder)
        changed = {*tree(folder).items()} ^ {*wholes[1].items()}
        assert not changed, sorted(name for name, _ in changed)
    return found, n_operations


def pairs_to_save(llama):
    """Return estimators to save one over the other, by what is told of them."""
    X, y = blobs()
    one, two = FineTuner(**SHORT), FineTuner(**SHORT, n_models=2)
    lora = FineTuner(**SHORT, adapter=LoraConfig(r=2, target_modules=["q_proj"]))
    classes = LIFTClassifier(llama, finetuner=one, random_state=0).fit(X, y)
    members = clone(classes).set_params(finetuner=two).fit(X, y)
    adapted = clone(classes).set_params(finetuner=lora).fit(X, y)
    adapters = (
        clone(classes)
        .set_params(finetuner=clone(lora).set_params(n_models=2))
        .fit(X, y)
    )
    numbers = LIFTRegressor(llama, finetuner=one, random_state=0).fit(X, X["a"])
    rows = LIFTDensity(llama, finetuner=one, random_state=0).fit(X, y)
    return {
        "one member over two": (members, classes),
        "two members over one": (classes, members),
        "an adapter over weights": (classes, adapted),
        "weights over two adapters": (adapters, classes),
        "numbers over classes": (classes, numbers),
        "rows over numbers": (numbers, rows),
    }


# Fits


def fits(llama):
    """Return estimators whose fits can be resumed, by what is told of them."""
    plain = FineTuner(n_epochs=3, max_steps=None, batch_size=4, checkpoint_every=3)
    lora = LoraConfig(r=2, target_modules=["q_proj"])
    tuners = {
        "one member": plain,
        "three members": clone(plain).set_params(n_models=3),
        "early stopping": clone(plain).set_params(early_stopping=True),
        "LoRA": clone(plain).set_params(adapter=lora),
    }
    return {
        name: LIFTClassifier(llama, finetuner=tuner, random_state=0)
        for name, tuner in tuners.items()
    }


def learnt(estimator, folder):
    """Return a digest of what a fit with checkpoints in a folder predicts."""
    X, y = blobs()
    estimator = clone(estimator).set_params(finetuner__checkpoint_dir=folder)
    proba = outputs(estimator.fit(X, y), X)
    return hashlib.sha256(proba.tobytes()).hexdigest()


def killed_fit(estimator, seconds, folder, expected):
    """Kill a fit after some seconds, and resume it; return what came of it."""
    process = os.fork()
    if process == 0:
        learnt(estimator, folder)
        os._exit(0)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    left = [*folder.rglob("checkpoint.safetensors")] if folder.exists() else []
    found = in_child(partial(learnt, estimator, folder), 120)
    if found != expected:
        return f"FAULT {found}"
    if folder.exists() and [*folder.rglob("*.partial")]:
        return "FAULT parts of a checkpoint are left"
    if code == 0:
        return "it had ended"
    return "resumed to the same bits" if left else "begun again, to the same bits"


# A full disk


def on_a_full_disk(top):
    """Save and train with less and less room; return counts of what came of it.

    ``top`` is a mounted tmpfs, whose size is changed.
    """
    found = Counter()
    with tempfile.TemporaryDirectory() as aside:
        llama = saved_llama(Path(aside) / "llama")
        X, y = blobs()
        small = LIFTClassifier(llama, finetuner=FineTuner(**SHORT), random_state=0)
        old, new = small.fit(X, y), clone(small).fit(X, 1 - y)
        old.save(top / "saved")
        before = tree(top / "saved")
        new.save(Path(aside) / "new")
        after = tree(Path(aside) / "new")
        for n_pages in range(10**4):
            _leave_room(top, n_pages)
            came = in_child(partial(_done, partial(new.save, top / "saved")), 60)
            _leave_room(top, 10**4)
            liftlearn.load(top / "saved")  # ends what was decided on
            now = tree(top / "saved")
            if now not in (before, after) or (came == "done") > (now == after):
                came = f"FAULT neither the old nor the new copy, after {came}"
            found[f"save, {came}"] += 1
            if came == "done":
                break
            if now == after:
                old.save(top / "saved")
        shutil.rmtree(top / "saved")
        (top / "kept").mkdir()
        estimator = fits(llama)["one member"]
        expected = learnt(estimator, Path(aside) / "unbroken")
        for n_pages in range(0, 10**4, 2):
            _leave_room(top, n_pages)
            came = in_child(partial(learnt_or_told, estimator, top / "kept"), 60)
            _leave_room(top, 10**4)
            resumed = in_child(partial(learnt, estimator, top / "kept"), 60)
            if resumed != expected:
                came = f"FAULT it resumes to {resumed}, after {came}"
            found[f"fit, {'done' if came == expected else came}"] += 1
            if came == expected:
                break
    return found


def _leave_room(top, n_pages):
    used = shutil.disk_usage(top).used // _PAGE
    size = (used + n_pages) * _PAGE
    options = f"remount,size={size}"
    subprocess.run(["mount", "-o", options, str(top)], check=True)


def _done(act):
    try:
        act()
    except FOR_USERS as error:
        return refusal(error)
    return "done"


def learnt_or_told(estimator, folder):
    """Return a digest of what was learnt, or the error that is meant for users."""
    try:
        return learnt(estimator, folder)
    except FOR_USERS as error:
        return refusal(error)


def _full_disk(found):
    """Mount a small disk in a namespace of its own, and try it there."""
    command = [sys.executable, "-m", "campaigns.kills", "0", "--full-disk"]
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()[1:]
    if not lines:
        found["FAULT " + done.stderr] += 1
    for line in lines:
        n, came = line.split(maxsplit=1)
        found[came] += int(n)


def run(n_fits, seed=0, n_pairs=None):
    """Try every kill of some saves, and so many of fits; count what came of them."""
    found = Counter()
    rng = random.Random(seed)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        llama = saved_llama(top / "llama")
        for name, (old, new) in [*pairs_to_save(llama).items()][:n_pairs]:
            (top / name).mkdir()
            states, n_operations = states_after_kills(old, new, top / name)
            copies = [copy for _, copy in states]
            good = copies == sorted(copies) and {*copies} == {0, 1}
            told = "the old copy or the new one" if good else f"FAULT {copies}"
            found[f"save of {name}: {told}"] += n_operations
        unbroken = {}
        for name, estimator in fits(llama).items() if n_fits else ():
            start = time.monotonic()
            expected = learnt(estimator, top / name)
            unbroken[name] = estimator, expected, time.monotonic() - start
        for number in range(n_fits):
            name = [*unbroken][number % len(unbroken)]
            estimator, expected, seconds = unbroken[name]
            moment = rng.uniform(0, 1.2 * seconds)
            kept = top / f"killed-{number}"
            came = killed_fit(estimator, moment, kept, expected)
            shutil.rmtree(kept, ignore_errors=True)
            found[f"fit with {name}: {came}"] += 1
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("n_fits", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--full-disk", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.full_disk:
        with tempfile.TemporaryDirectory() as disk:
            mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", disk]
            subprocess.run(mount, check=True)
            counts = on_a_full_disk(Path(disk))
            subprocess.run(["umount", "--lazy", disk], check=True)
    else:
        counts = run(options.n_fits, options.seed)
        _full_disk(counts)
    report(counts, n_fits=options.n_fits, seed=options.seed)
