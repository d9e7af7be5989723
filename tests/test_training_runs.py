"""Training that is cut off, starts together with others, or runs out of memory."""

import json
import os
import runpy
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from families import made
from numpy.random import RandomState
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from sklearn.model_selection import GridSearchCV
from sklearn.utils import check_random_state
from tiny import (
    SETTINGS,
    CutOff,
    Ticks,
    are_equal,
    bytes_without_start,
    jittered,
    only,
    scores_of,
    sentences,
    weights_of,
)

from liftlearn import (
    FineTuner,
    LabelDecoder,
    LanguageModel,
    LIFTClassifier,
)
from liftlearn._corpus import Corpus
from liftlearn._finetuner._checkpoint import Checkpoint, _seal


class Metrics:
    """A metric that falls and rises with the weights."""

    def __call__(self, lm, rows):
        return lm.model.get_input_embeddings().weight.sum().item() * 1000 % 1


# Checkpoints


@pytest.fixture(scope="module")
def unbroken(gpt2_folder):
    """Return what fits the jittered rows without a stop, once for its parameters."""

    @cache
    def fit(**parameters):
        tuner, rng = FineTuner(**SETTINGS, **parameters), RandomState(0)
        lm, rows = LanguageModel.load(gpt2_folder), jittered(40)
        tuned = only(tuner.finetune(lm, rows, rng, metric=Metrics()))
        return tuned, tuner, rng.randint(2**31)

    return fit


@pytest.mark.parametrize(
    ("parameters", "n_times"),
    [
        ({"checkpoint_every": 1}, 5),  # the 40 rows of an epoch are written in 2 times
        ({"checkpoint_every": 7}, 4),
        ({"checkpoint_every": 20}, 5),  # at the end of an epoch
        ({"checkpoint_every": 4, "gradient_accumulation_steps": 3}, 5),
        ({"checkpoint_every": 9, "early_stopping": True, "max_time": 1e6}, 6),
        ({"checkpoint_every": 100}, 5),  # before the first checkpoint
    ],
)
def test_a_resumed_fit_is_an_unbroken_one(
    gpt2, unbroken, tmp_path, parameters, n_times
):
    def tuned(n_times):
        tuner = FineTuner(**SETTINGS, **parameters, checkpoint_dir=tmp_path)
        rng = RandomState(0)
        lm = only(tuner.finetune(gpt2, jittered(40, n_times), rng, metric=Metrics()))
        return lm, tuner, rng.randint(2**31)

    with pytest.raises(KeyboardInterrupt):
        tuned(n_times)
    resumed, tuner, drawn = tuned(1000)

    also = {name: parameters[name] for name in parameters if name != "checkpoint_every"}
    whole, other, drawn_by_other = unbroken(**also)
    assert are_equal(weights_of(resumed), weights_of(whole))
    assert tuner.n_steps_ == other.n_steps_
    assert all(epoch["seconds"] > 0 for epoch in tuner.history_)
    assert drawn == drawn_by_other
    of_both = [
        [{**epoch, "seconds": None} for epoch in fit.history_] for fit in (tuner, other)
    ]
    assert of_both[0] == of_both[1]


def cut(lm, folder, *, seed=0):
    """Train until a checkpoint is written, and stop."""
    tuner = FineTuner(**SETTINGS, checkpoint_dir=folder, checkpoint_every=7)
    with pytest.raises(KeyboardInterrupt):
        tuner.finetune(lm, jittered(40, 4), RandomState(seed))
    assert (folder / "checkpoint.safetensors").exists()


def changed(corpus, **parts):
    return Corpus(**{**vars(corpus), **parts})


def with_target(corpus):
    return changed(corpus, target=corpus.target[::-1])


def with_cell(corpus):
    table = corpus.table.copy()
    table.loc[39, "x"] += 1e-9
    return changed(corpus, table=table)


def with_weight(corpus):
    return changed(corpus, weight=1.0 + np.arange(40))


def with_wording(corpus):
    encoder = CutOff(jitter=0.4, question="y?").fit(corpus.table).cut_after(1000)
    return changed(corpus, encoder=encoder)


def with_words(corpus):
    answers = LabelDecoder(words=["c", "d"]).fit(corpus.target).answers_
    return changed(corpus, answers=answers)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_target, "other rows, targets or weights"),
        (with_cell, "other rows, targets or weights"),
        (with_weight, "other rows, targets or weights"),
        (with_wording, "other wording"),
        (with_words, "other wording"),
    ],
)
def test_a_checkpoint_of_other_data_is_refused(gpt2, tmp_path, change, reason):
    cut(gpt2, tmp_path)
    tuner = FineTuner(**SETTINGS, checkpoint_dir=tmp_path)

    with pytest.raises(ValueError, match=f"with {reason}.* another checkpoint_dir"):
        tuner.finetune(gpt2, change(jittered(40)), RandomState(0))


def test_a_checkpoint_of_another_fit_is_refused(gpt2, llama_folder, tmp_path):
    cut(gpt2, tmp_path)

    def finetune(lm, seed, **parameters):
        tuner = FineTuner(**{**SETTINGS, **parameters}, checkpoint_dir=tmp_path)
        tuner.finetune(lm, jittered(40), RandomState(seed))

    with pytest.raises(ValueError, match=r"with learning_rate=0.01 \(now 0.02\)\. A"):
        finetune(gpt2, 0, learning_rate=0.02)
    with pytest.raises(ValueError, match=r"with other random_state\. .* an integer as"):
        finetune(gpt2, 1)
    with pytest.raises(ValueError, match=r"with other base model\. "):
        finetune(LanguageModel.load(llama_folder), 0)
    finetune(gpt2, 0)


def test_a_fit_that_ends_leaves_the_folder_to_the_next(gpt2, tmp_path):
    cut(gpt2, tmp_path)
    (tmp_path / "checkpoint.safetensors.partial").write_text("cut off")

    for learning_rate in (SETTINGS["learning_rate"], 0.5):
        tuner = FineTuner(**{**SETTINGS, "learning_rate": learning_rate})
        tuner.set_params(checkpoint_dir=tmp_path, checkpoint_every=9)
        tuner.finetune(gpt2, jittered(40), RandomState(0))

        assert list(tmp_path.iterdir()) == []


def test_fits_that_share_a_folder_do_not_overwrite_each_other(gpt2, tmp_path):
    def meanwhile(lm, rows):
        cut(gpt2, tmp_path, seed=1)
        return 0.0

    tuner = FineTuner(**SETTINGS, checkpoint_dir=tmp_path, checkpoint_every=25)
    tuner.set_params(early_stopping=True)
    with pytest.raises(ValueError, match=r"other random_state.* one fit at a time"):
        tuner.finetune(gpt2, jittered(40), RandomState(0), metric=meanwhile)
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_a_damaged_checkpoint_is_refused(gpt2, tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    tuner = FineTuner(**SETTINGS, checkpoint_dir=tmp_path)
    cut(gpt2, tmp_path)

    save_file(load_file(file), file)  # without the header
    with pytest.raises(ValueError, match="is none, or is damaged"):
        tuner.finetune(gpt2, jittered(40), RandomState(0))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="is none, or is damaged"):
        tuner.finetune(gpt2, jittered(40), RandomState(0))


@pytest.fixture(scope="module")
def checkpoint(gpt2_folder, tmp_path_factory):
    """Return the bytes of a checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    cut(LanguageModel.load(gpt2_folder), folder)
    return (folder / "checkpoint.safetensors").read_bytes()


@pytest.mark.parametrize("place", [*np.linspace(0, 0.999, 24), 8, 20, -1, -100])
def test_no_flipped_bit_of_a_checkpoint_is_resumed(gpt2, checkpoint, tmp_path, place):
    changed = bytearray(checkpoint)
    at = int(place * len(changed)) if isinstance(place, float) else place
    changed[at] ^= 1 << (abs(at) % 8)
    (tmp_path / "checkpoint.safetensors").write_bytes(changed)

    with pytest.raises(ValueError, match=r"is damaged, .* Delete it"):
        FineTuner(**SETTINGS, checkpoint_dir=tmp_path).finetune(
            gpt2, jittered(40), RandomState(0)
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content[:7],
        lambda content: b"",
        lambda content: content + b"\0",
        lambda content: content.replace(b'"sha256":"', b'"sha257":"'),
        lambda content: content[:-4] + np.float32("nan").tobytes(),
        lambda content: (2**62).to_bytes(8, "little") + content[8:],
    ],
)
def test_no_changed_checkpoint_is_resumed(gpt2, checkpoint, tmp_path, change):
    (tmp_path / "checkpoint.safetensors").write_bytes(change(checkpoint))

    with pytest.raises(ValueError, match="is none, or is damaged"):
        FineTuner(**SETTINGS, checkpoint_dir=tmp_path).finetune(
            gpt2, jittered(40), RandomState(0)
        )


def signed(file, *, values=None, tensors=None):
    """Change a checkpoint's values or tensors, and its digest to fit."""
    with safe_open(file, "np") as opened:
        told = json.loads(opened.metadata()["liftlearn"])
    for path, value in (values or {}).items():
        *way, last = path.split(".")
        at = told["values"]
        for name in way:
            at = at[name]
        at[last] = value
    header = {"liftlearn": json.dumps(told), "sha256": "0" * 64}
    save_file({**load_file(file), **(tensors or {})}, file, header)
    _seal(file)


@pytest.mark.parametrize(
    "values",
    [
        {"epoch.stream.state.pos": "three"},
        {"epoch.stream.state.pos": 10**30},
        {"epoch.stream.state.key": [1, 2]},
        {"epoch.stream": None},
        {"epoch.loss": "much"},
        {"epoch.more": 1},
        {"clock.n_taken": -1},
        {"clock.n_taken": 10**6},
        {"clock.n_taken": 7.0},
        {"clock.seconds": None},
        {"best.n_worse": True},
        {"history": [{"loss": "low"}]},
        {"history": 3},
    ],
    ids=str,
)
def test_a_checkpoint_that_was_made_up_is_refused(gpt2, checkpoint, tmp_path, values):
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(checkpoint)
    signed(file, values=values)

    with pytest.raises(ValueError, match=r"is damaged, .* Delete it"):
        FineTuner(**SETTINGS, checkpoint_dir=tmp_path).finetune(
            gpt2, jittered(40), RandomState(0)
        )


@pytest.mark.parametrize("group", ["weights.", "optimizer."])
def test_tensors_of_other_shapes_are_no_checkpoint(gpt2, checkpoint, tmp_path, group):
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(checkpoint)
    large = {n: t for n, t in load_file(file).items() if group in n and t.ndim == 2}
    name, tensor = next(iter(large.items()))
    signed(file, tensors={name: tensor[:1].clone()})  # which would be broadcast

    with pytest.raises(ValueError, match="is damaged"):
        FineTuner(**SETTINGS, checkpoint_dir=tmp_path).finetune(
            gpt2, jittered(40), RandomState(0)
        )


def test_a_link_is_no_checkpoint(gpt2, checkpoint, tmp_path):
    (tmp_path / "elsewhere").write_bytes(checkpoint)
    (tmp_path / "checkpoint.safetensors").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ValueError, match="is none, or is damaged"):
        FineTuner(**SETTINGS, checkpoint_dir=tmp_path).finetune(
            gpt2, jittered(40), RandomState(0)
        )


def test_a_checkpoint_that_cannot_be_written_leaves_the_last(tmp_path, monkeypatch):
    kept = Checkpoint(tmp_path, {"parameters": {}})
    kept.write(*values_and_tensors())

    def fail(tensors, file, header):
        file.write_bytes(b"half")
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("liftlearn._finetuner._checkpoint.save_file", fail)
    with pytest.raises(OSError, match=r"The last checkpoint.* is whole") as caught:
        kept.write(*values_and_tensors())

    assert caught.value.errno == 28
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    assert kept.read()[0] == {"n": 1}


def test_every_nan_of_a_checkpoint_is_noticed(gpt2, checkpoint, tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(checkpoint)
    with safe_open(file, "np") as opened:
        metadata = opened.metadata()
    weights = load_file(file)
    for name in [name for name in weights if weights[name].is_floating_point()][:3]:
        changed = {**weights, name: torch.full_like(weights[name], torch.nan)}
        save_file(changed, file, metadata)

        with pytest.raises(ValueError, match="is damaged"):
            FineTuner(**SETTINGS, checkpoint_dir=tmp_path).finetune(
                gpt2, jittered(40), RandomState(0)
            )


def test_what_is_no_file_is_no_checkpoint(gpt2, tmp_path):
    (tmp_path / "checkpoint.safetensors").mkdir()

    with pytest.raises(ValueError, match="is none, or is damaged"):
        FineTuner(**SETTINGS, checkpoint_dir=tmp_path).finetune(
            gpt2, jittered(40), RandomState(0)
        )


def values_and_tensors():
    return {"n": 1}, {"a": torch.arange(5000.0), "b": torch.ones(3)}


def test_fits_that_are_alike_may_share_a_folder(tmp_path):
    def write(i):
        checkpoint = Checkpoint(tmp_path, {"parameters": {}}, "0")
        for _ in range(20):
            checkpoint.write(*values_and_tensors())
            values, tensors = checkpoint.read()
            assert values == {"n": 1}
            assert are_equal(tensors, values_and_tensors()[1])
        return checkpoint

    with ThreadPoolExecutor(4) as threads:
        checkpoints = list(threads.map(write, range(4)))

    folder = tmp_path / "0"
    assert [path.name for path in folder.iterdir()] == ["checkpoint.safetensors"]
    for checkpoint in checkpoints:
        checkpoint.remove()
    assert not folder.exists()
    assert tmp_path.exists()


def test_tidying_up_leaves_what_is_not_its_own(tmp_path):
    folder = tmp_path / "0"
    copy = Checkpoint(tmp_path, {"parameters": {}}, "0")
    copy.write(*values_and_tensors())
    (folder / ".DS_Store").write_text("mine")

    copy.remove()

    assert [path.name for path in folder.iterdir()] == [".DS_Store"]
    copy.write(*values_and_tensors())
    other = Checkpoint(tmp_path, {"parameters": {"a": "1"}}, "0")
    (folder / "checkpoint.safetensors").unlink()
    other.write(*values_and_tensors())
    copy.remove()
    assert other.read()[0] == {"n": 1}


def test_files_of_others_fail_no_fit_of_several_copies(llama_folder, tmp_path):
    for name in ("0", "1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".DS_Store").touch()
    tuner = FineTuner(max_steps=2, n_models=2, checkpoint_dir=tmp_path)
    X = pd.DataFrame({"x": np.arange(8.0)})

    model = LIFTClassifier(llama_folder, finetuner=tuner, random_state=0)
    model.fit(X, np.arange(8) % 2)

    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*/*"))
    assert left == ["0/.DS_Store", "1/.DS_Store"]


def test_time_before_a_checkpoint_counts(gpt2, tmp_path, monkeypatch):
    def seconds(folder, n_times):
        tuner = FineTuner(**SETTINGS, checkpoint_dir=folder, checkpoint_every=7)
        with suppress(KeyboardInterrupt):
            tuner.finetune(gpt2, jittered(40, n_times), RandomState(0))
        return [epoch["seconds"] for epoch in getattr(tuner, "history_", [])]

    clock = Ticks()
    monkeypatch.setattr("liftlearn._finetuner._progress.time", clock)
    unbroken = seconds(tmp_path / "whole", 1000)

    seconds(tmp_path / "cut", 4)
    clock.seconds += 1e6  # until it is called again, which does not count
    resumed = seconds(tmp_path / "cut", 1000)

    np.testing.assert_allclose(resumed, unbroken, atol=2)  # looks at the clock
    assert len(resumed) == 3


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from numpy.random import RandomState
from liftlearn import FineTuner, LanguageModel
from tiny import SETTINGS, CutOff, jittered

class Killed(CutOff):
    def augment(self, X, rng, progress):
        if self.n_left == 0:
            os.kill(os.getpid(), 9)  # no handler, no cleaning up, on Windows neither
        return super().augment(X, rng, progress)

corpus = jittered(40)
corpus.encoder.__class__ = Killed
corpus.encoder.cut_after(5)
tuner = FineTuner(**SETTINGS, checkpoint_dir=sys.argv[3], checkpoint_every=7)
tuner.finetune(LanguageModel.load(sys.argv[2]), corpus, RandomState(0))
"""


@pytest.mark.slow
def test_a_killed_process_is_resumed_to_the_same_weights(
    gpt2, gpt2_folder, unbroken, tmp_path
):
    here = os.path.dirname(__file__)
    command = [sys.executable, "-c", KILLED, here, gpt2_folder, tmp_path]
    killed = subprocess.run(command, timeout=300, check=False)
    assert abs(killed.returncode) == 9  # negative for a signal, which Windows has not
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]

    resumed = FineTuner(**SETTINGS, checkpoint_dir=tmp_path, checkpoint_every=7)
    tuned = only(resumed.finetune(gpt2, jittered(40), RandomState(0)))

    whole, _, _ = unbroken()
    assert are_equal(weights_of(tuned), weights_of(whole))
    assert list(tmp_path.iterdir()) == []


# Memory


class Watched(LanguageModel):
    """Counts the tokens of each pass, its copies' too."""

    n_tokens: ClassVar[list[int]] = []

    def padded(self, tokens):
        batch = super().padded(tokens)
        self.n_tokens.append(batch["input_ids"].numel())
        return batch


def test_long_batches_are_read_in_passes_of_bounded_size(llama_folder, monkeypatch):
    corpus = jittered(20)
    lm = LanguageModel.load(llama_folder)

    def tuned():
        tuner = FineTuner(n_epochs=2, batch_size=10, gradient_accumulation_steps=2)
        return only(tuner.finetune(lm, corpus, RandomState(0))), tuner

    whole, tuner = tuned()
    monkeypatch.setattr("liftlearn._finetuner._progress._PASS_TOKENS", 100)
    lm = Watched(lm.model, lm.tokenizer)
    parts, same = tuned()

    assert len(lm.n_tokens) > 2 * 2
    assert max(lm.n_tokens) <= 100
    assert tuner.n_steps_ == same.n_steps_ == 2
    for a, b in zip(tuner.history_, same.history_, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["tokens"] == b["tokens"]
    np.testing.assert_allclose(
        scores_of(parts, corpus), scores_of(whole, corpus), rtol=1e-3
    )


def test_a_row_longer_than_a_pass_is_a_pass(llama_folder, monkeypatch):
    monkeypatch.setattr("liftlearn._finetuner._progress._PASS_TOKENS", 3)
    lm = LanguageModel.load(llama_folder)
    lm = Watched(lm.model, lm.tokenizer)
    lm.n_tokens.clear()

    FineTuner(n_epochs=1).finetune(lm, sentences(4), RandomState(0))

    assert len(lm.n_tokens) == 4


def test_out_of_memory_names_the_parameters_to_lower(gpt2):
    def too_large(lm, rows):
        return torch.zeros(2**50).sum().item()

    with pytest.raises(MemoryError, match=r"batch_size=8\. Lower batch_size"):
        FineTuner(n_epochs=1, early_stopping=True).finetune(
            gpt2, sentences(4), RandomState(0), metric=too_large
        )


def test_other_errors_stay_as_they_are(gpt2):
    def broken(lm, rows):
        raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own"):
        FineTuner(n_epochs=1, early_stopping=True).finetune(
            gpt2, sentences(4), RandomState(0), metric=broken
        )


# Together with others


@pytest.fixture
def fresh_state():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_state")
def test_accelerate_is_the_users_own_after_a_fit(gpt2):
    FineTuner(max_steps=1).finetune(gpt2, sentences(4), RandomState(0))

    assert PartialState._shared_state == {}
    assert Accelerator(mixed_precision="bf16", cpu=True).mixed_precision == "bf16"


@pytest.mark.usefixtures("fresh_state")
def test_a_fit_is_the_same_beside_a_users_accelerator(gpt2):
    def tuned():
        tuner = FineTuner(max_steps=2)
        return weights_of(only(tuner.finetune(gpt2, sentences(4), RandomState(0))))

    before = tuned()
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)

    assert are_equal(tuned(), before)

    assert accelerator.mixed_precision == "bf16"
    assert accelerator.num_processes == 1
    assert Accelerator().mixed_precision == "bf16"


@pytest.mark.slow
def test_a_parallel_search_shares_the_processors(monkeypatch, llama_folder):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    classifier = LIFTClassifier(
        llama_folder, finetuner=FineTuner(max_steps=1), random_state=0
    )
    X = pd.DataFrame({"x": np.arange(8.0)})

    search = GridSearchCV(
        classifier,
        {"finetuner__learning_rate": [0.01, 0.02]},
        cv=2,
        n_jobs=2,
        refit=False,
        scoring=lambda estimator, X, y: torch.get_num_threads(),
    ).fit(X, np.arange(8) % 2)

    n_threads = search.cv_results_["mean_test_score"]
    assert np.all(n_threads >= 1)
    assert np.all(n_threads <= max(1, os.cpu_count() // 2))


LAUNCHED = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import liftlearn
import numpy as np
import pandas as pd
from numpy.random import RandomState
from liftlearn import FineTuner, LanguageModel, LIFTClassifier
from tiny import SETTINGS, jittered

process = int(os.environ.get("RANK", 0))
np.random.seed(process)
adapter = None
if sys.argv[4] == "adapter":
    from peft import LoraConfig
    adapter = LoraConfig(r=4, target_modules="all-linear")
SETTINGS = {**SETTINGS, "adapter": adapter}
X = pd.DataFrame({"x": np.arange(13) / 7, "z": np.arange(13) % 3})
y = np.arange(13) % 2

def told(n_rows, random_state, n_val=0, model=sys.argv[2], **parameters):
    tuner = FineTuner(**{**SETTINGS, "batch_size": 4, **parameters})
    model = LIFTClassifier(model, finetuner=tuner, random_state=random_state)
    new = {"X_val": X[-n_val:], "y_val": y[-n_val:]} if n_val else {}
    model.fit(X[:n_rows], y[:n_rows], **new)
    tuner, lm = model.finetuner_, model.language_model_
    weights = [
        weight.double().sum().item()
        for member in getattr(lm, "members", [lm])
        for weight in member.model.parameters()
    ]
    proba = model.predict_proba(X).tolist()
    kept = os.path.join(sys.argv[3], f"saved{process}")
    model.save(kept)
    files = sorted(os.listdir(kept))
    again = liftlearn.load(kept).predict_proba(X).tolist()
    return {
        "weights": weights, "proba": proba, "history": tuner.history_,
        "files": files, "loaded": again,
    }

def resumed(folder):
    corpus = jittered(40, 3 if os.path.basename(folder) == "cut" else 1000)
    parameters = {**SETTINGS, "n_epochs": 2, "checkpoint_every": 7}
    tuner = FineTuner(**parameters, checkpoint_dir=folder)
    lm = LanguageModel.load(sys.argv[2])
    try:
        tuner.finetune(lm, corpus, RandomState(0))
    except KeyboardInterrupt:
        corpus.encoder.cut_after(1000)
        tuner.finetune(lm, corpus, RandomState(0))
    return [epoch["loss"] for epoch in tuner.history_]

with open(os.path.join(sys.argv[3], f"{process}.json"), "w") as file:
    json.dump({
        "short of rows": told(5, 0),
        "accumulated": told(13, 0, gradient_accumulation_steps=3),
        "stopped early": told(13, 0, early_stopping=True, n_iter_no_change=1),
        "validated": told(13, 0, 7),
        "recomputed": told(13, 0, gradient_checkpointing=True),
        "two members": told(13, 0, n_models=2),
        "partly used": told(13, 0, model=sys.argv[5]),
        "out of time": told(13, 0, max_time=0.2, n_epochs=10000)["weights"],
        "without a seed": told(13, None),
        "resumed": resumed(os.path.join(sys.argv[3], "cut")),
        "unbroken": resumed(os.path.join(sys.argv[3], "whole")),
    }, file)
"""


@pytest.mark.parametrize("kind", ["MEGATRON_LM", "DEEPSPEED"])
def test_launches_by_other_libraries_are_refused(gpt2, monkeypatch, kind):
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType[kind])

    with pytest.raises(ValueError, match=rf"adapter to train, got {kind}"):
        FineTuner(max_steps=1).finetune(gpt2, sentences(4), RandomState(0))


@pytest.mark.parametrize(
    ("family", "has_adapter", "reason"),
    [
        ("llama", False, "all its weights are trained"),
        ("mbart", True, "does not read rows of any lengths in one pass"),
        ("zamba2", True, "has no list of layers that share no weights"),
    ],
)
def test_a_model_that_can_not_be_spread_is_refused(
    tmp_path, family, has_adapter, reason
):
    lm = LanguageModel.load(made(family, bytes_without_start(), str(tmp_path)))
    copy = lm.trainable_copy(lm.default_adapter() if has_adapter else None)

    with pytest.raises(ValueError, match=rf"but .*{reason}\. Launch with --multi_gpu"):
        copy.spread(torch.device("cpu"))


@pytest.fixture
def global_stream():
    """Put numpy's own random stream back to where it stood."""
    stream = check_random_state(None)
    state = stream.get_state()
    yield
    stream.set_state(state)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:max_time")
@pytest.mark.usefixtures("fresh_state", "global_stream")
@pytest.mark.parametrize(
    ("launch", "trained"),
    [("--multi_gpu", "all"), ("--use_fsdp", "adapter")],
    ids=["whole", "spread"],
)
def test_launched_processes_learn_what_one_process_learns(
    llama_folder, tmp_path, monkeypatch, launch, trained
):
    # Some of its layers have weights that nothing asks for.
    partly_used = made("gemma3n_text", bytes_without_start(), str(tmp_path / "gemma3n"))
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(LAUNCHED))
    arguments = [str(script), os.path.dirname(__file__), str(llama_folder)]
    launcher = f"-m accelerate.commands.launch {launch} --num_processes 2"
    more = "--num_machines 1 --mixed_precision no --dynamo_backend no"
    command = [sys.executable, *launcher.split(), *more.split()]
    command += ["--main_process_port", "0", *arguments]
    command += [str(tmp_path / "launched"), trained, partly_used]
    for folder in ("launched", "alone"):
        (tmp_path / folder).mkdir()

    subprocess.run(command, check=True, timeout=500)
    monkeypatch.setattr(sys, "path", [*sys.path])
    alone = [*arguments, str(tmp_path / "alone"), trained, partly_used]
    monkeypatch.setattr(sys, "argv", alone)
    runpy.run_path(str(script))

    first, second, alone = (
        json.loads((tmp_path / file).read_text())
        for file in ("launched/0.json", "launched/1.json", "alone/0.json")
    )
    assert first == second
    for name, together in first.items():
        if not isinstance(together, dict) or name == "without a seed":
            continue
        single = alone[name]
        np.testing.assert_allclose(together["proba"], single["proba"], rtol=1e-3)
        assert together["loaded"] == together["proba"]
        assert together["files"] == single["files"]
        for epoch, same in zip(together["history"], single["history"], strict=True):
            assert epoch["loss"] == pytest.approx(same["loss"], rel=1e-4)
            for key in ("tokens", "learning_rate", "monitored"):
                assert epoch[key] == same[key]
            if name == "validated":
                assert epoch["val_loss"] == pytest.approx(same["val_loss"], rel=1e-4)
    assert first["resumed"] == first["unbroken"]
    assert first["resumed"] == pytest.approx(alone["unbroken"], rel=1e-4)
