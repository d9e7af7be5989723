"""Threads and processes that share a process, a folder, or a fitted estimator.

What one thread computes alone, many compute together, to the bit. From the folder
``tests``, for 20 rounds::

    python -m campaigns.sharing 20
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import torch
from sklearn.model_selection import GridSearchCV
from tiny import SHORT, blobs, saved_llama

import liftlearn
from campaigns.kills import fits, learnt
from campaigns.outcomes import in_child, report
from liftlearn import FineTuner, LIFTClassifier


def classifier(model, seed=0):
    """Return a classifier that learns for a moment."""
    return LIFTClassifier(model, finetuner=FineTuner(**SHORT), random_state=seed)


def together(model):
    """Let 8 threads predict with one estimator while 4 others fit their own."""
    X, y = blobs()
    fitted = classifier(model).fit(X, y)
    alone = fitted.predict_proba(X)
    learnt_alone = [classifier(model, i).fit(X, y).predict_proba(X) for i in range(4)]
    start = threading.Barrier(12, timeout=60)

    def predict(_):
        start.wait()
        return all(np.array_equal(fitted.predict_proba(X), alone) for _ in range(5))

    def fit(i):
        start.wait()
        found = classifier(model, i).fit(X, y).predict_proba(X)
        return np.array_equal(found, learnt_alone[i])

    with ThreadPoolExecutor(12) as threads:
        predicted = threads.map(predict, range(8))  # begun, as the fits must be
        done = [*threads.map(fit, range(4)), *predicted]
    return "as alone" if all(done) else "FAULT other than alone"


def cold(folder, model):
    """Do the same in a new process, in which nothing was imported by a thread yet."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from campaigns.sharing import together\n"
        "import torch; torch.set_num_threads(1)\n"
        "print(together(sys.argv[2]))"
    )
    here = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", code, here, str(model)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False
    )
    return done.stdout.strip() or f"FAULT {done.stderr[-300:]}"


def searched(model, backend):
    """Search two learning rates with two of joblib's workers."""
    X, y = blobs()
    grid = {"finetuner__learning_rate": [1e-3, 1e-2]}
    search = GridSearchCV(classifier(model), grid, cv=2, n_jobs=2)
    alone = GridSearchCV(classifier(model), grid, cv=2).fit(X, y)
    if backend == "dask":
        from dask.distributed import Client

        workers = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with workers, joblib.parallel_config("dask"):
            search.fit(X, y)
    else:
        with joblib.parallel_config(backend):
            search.fit(X, y)
    names = ["mean_test_score", "split0_test_score", "split1_test_score"]
    same = all(
        np.array_equal(search.cv_results_[n], alone.cv_results_[n]) for n in names
    )
    proba = search.predict_proba(X)
    same &= np.allclose(proba, alone.predict_proba(X), rtol=1e-6)
    return "as alone" if same else "FAULT other than alone"


def forked_amid_a_fit(model):
    """Fork a child while another thread fits; both learn what they learn alone."""
    X, y = blobs()
    alone = classifier(model).fit(X, y).predict_proba(X)
    found = []
    thread = threading.Thread(
        target=lambda: found.append(classifier(model).fit(X, y).predict_proba(X))
    )
    thread.start()

    def child():
        proba = classifier(model).fit(X, y).predict_proba(X)
        return "as alone" if np.array_equal(proba, alone) else "FAULT in the child"

    came = in_child(child, 120)
    thread.join()
    return came if np.array_equal(found[0], alone) else "FAULT in the parent"


def two_savers(model, folder):
    """Let two processes save to one folder at once, while a thread loads from it."""
    X, y = blobs()
    both = [classifier(model).fit(X, labels) for labels in (y, 1 - y)]
    expected = [estimator.predict_proba(X) for estimator in both]
    both[0].save(folder)

    def save(estimator):
        for _ in range(5):
            estimator.save(folder)
        return "saved"

    over, loads = threading.Event(), []

    def load():
        while not over.is_set():
            loads.append(liftlearn.load(folder).predict_proba(X))

    with ThreadPoolExecutor(3) as threads:
        loading = threads.submit(load)
        saves = [threads.submit(in_child, partial(save, e), 120) for e in both]
        done = [each.result() for each in saves]
        over.set()
        loading.result()
    loads.append(liftlearn.load(folder).predict_proba(X))
    if done != ["saved", "saved"]:
        return f"FAULT {done}"
    is_one = [any(np.array_equal(one, e) for e in expected) for one in loads]
    return "one of both" if all(is_one) else "FAULT neither of both"


def two_fits(model, folder):
    """Let two processes fit with one folder of checkpoints at once."""
    estimator = fits(model)["one member"]
    other = fits(model)["LoRA"]
    alone = [learnt(e, folder / "alone") for e in (estimator, other)]
    told = []
    for pair in ((0, 0), (0, 1)):
        acts = [
            partial(_digest_or_refusal, (estimator, other)[i], folder) for i in pair
        ]
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(partial(in_child, seconds=120), acts))
        for i, came in zip(pair, found, strict=True):
            if came != alone[i] and not came.startswith("ValueError"):
                return f"FAULT {came}"
            told.append(came == alone[i])
    return "each as alone, or refused" if any(told) else "FAULT both refused"


def _digest_or_refusal(estimator, folder):
    from campaigns.kills import learnt_or_told

    return learnt_or_told(estimator, folder)


def run(n_rounds, backends=("loky", "threading", "multiprocessing", "dask")):
    """Try everything so many times; count what came of it."""
    torch.set_num_threads(1)
    found = Counter()
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        model = saved_llama(top / "llama")
        for number in range(n_rounds):
            here = top / f"{number}"
            trials = {
                "8 threads predict, 4 fit": partial(together, model),
                "the same in a new process": partial(cold, here, model),
                "a fork amid a fit": partial(forked_amid_a_fit, model),
                "two savers and a reader": partial(two_savers, model, here / "saved"),
                "two fits in a folder": partial(two_fits, model, here / "kept"),
                **{f"a search by {b}": partial(searched, model, b) for b in backends},
            }
            for name, trial in trials.items():
                found[f"{name}: {trial()}"] += 1
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("n_rounds", type=int)
    options = parser.parse_args()
    counts = run(options.n_rounds)
    # A fault is told behind the name of its trial.
    faults = Counter({f"FAULT {c}": n for c, n in counts.items() if "FAULT" in c})
    report(faults or counts, **vars(options))
