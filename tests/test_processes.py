"""Many users of one process: threads, children, Ctrl-C, and folders that change."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from liftlearn import FineTuner, LanguageModel, LIFTClassifier
from liftlearn._language_model._pretrained import _load

# What each script below begins with: a table, and a fit that is quickly done.
BEGIN = """
    import os, signal, sys, threading, multiprocessing
    import numpy as np
    from liftlearn import FineTuner, LanguageModel, LIFTClassifier, load

    X = np.arange(40.0).reshape(20, 2)
    y = np.arange(20) // 2 % 2

    def classifier(n_steps=3, **parameters):
        tuner = FineTuner(max_steps=n_steps, n_epochs=n_steps, n_models=1, **parameters)
        return LIFTClassifier(finetuner=tuner, random_state=0)
"""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def run(script, *arguments, n_threads=1):
    """Run a script in a new process, and return what it prints."""
    code = textwrap.dedent(BEGIN) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(n_threads)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save a fitted classifier; return its folder."""
    folder = tmp_path_factory.mktemp("saved")
    X = np.arange(40.0).reshape(20, 2)
    tuner = FineTuner(max_steps=3, n_epochs=3, n_models=1)
    classifier = LIFTClassifier(finetuner=tuner, random_state=0)
    classifier.fit(X, np.arange(20) // 2 % 2).save(folder)
    return folder


# Each of these runs in a child of its own, in which nothing was loaded yet.
COLD = """
    import json, traceback

    folder, outcomes = sys.argv[1], {}

    def threads_begin_together(n_threads):
        start = threading.Barrier(n_threads)
        results, models = [None] * n_threads, [None] * n_threads

        def work(i):
            start.wait()
            models[i] = LanguageModel.load().model
            fitted = load(folder) if i % 2 else classifier().fit(X, y)
            results[i] = fitted.predict_proba(X)

        threads = [threading.Thread(target=work, args=[i]) for i in range(n_threads)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert all(model is models[0] for model in models)
        serial = classifier().fit(X, y).predict_proba(X)
        assert all(np.array_equal(result, serial) for result in results)

        # transformers ties and draws weights as before
        from transformers import LlamaConfig, LlamaForCausalLM
        tiny = LlamaForCausalLM(LlamaConfig(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=1, vocab_size=9, tie_word_embeddings=True,
        ))
        assert tiny.lm_head.weight is tiny.get_input_embeddings().weight
        assert tiny.lm_head.weight.std() > 0

    def threads_read_together(n_threads):
        start, results = threading.Barrier(n_threads), [None] * n_threads

        def work(i):
            start.wait()
            fitted = LIFTClassifier(random_state=0).fit(X, y)
            results[i] = fitted.predict_proba(X)

        threads = [threading.Thread(target=work, args=[i]) for i in range(n_threads)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        serial = LIFTClassifier(random_state=0).fit(X, y).predict_proba(X)
        assert all(np.array_equal(result, serial) for result in results)

    def ctrl_c_amid_an_import(module):
        class Interrupts:
            is_done = False

            def find_spec(self, name, path=None, target=None):
                if name == module and not self.is_done:
                    self.is_done = True
                    main = threading.main_thread().ident
                    signal.pthread_kill(main, signal.SIGINT)

        sys.meta_path.insert(0, Interrupts())
        try:
            classifier().fit(X, y)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("not interrupted")
        assert classifier().fit(X, y).predict(X).shape == y.shape

    for name, value in [
        ("threads_begin_together", 2),
        ("threads_begin_together", 4),
        ("threads_begin_together", 8),
        ("threads_read_together", 4),
        ("ctrl_c_amid_an_import", "torch._inductor.config"),
        ("ctrl_c_amid_an_import", "torch._dynamo"),
    ]:
        here, there = multiprocessing.Pipe()
        if os.fork() == 0:
            try:
                globals()[name](value)
                there.send("")
            except BaseException:
                there.send(traceback.format_exc())
            os._exit(0)
        outcomes[f"{name} {value}"] = here.recv() if here.poll(120) else "hangs"
    print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def outcomes(saved):
    """Return what went wrong in each cold process, or an empty text."""
    return json.loads(run(COLD, saved).splitlines()[-1])


@pytest.mark.slow
@forks
@pytest.mark.parametrize("n_threads", [2, 4, 8])
def test_threads_that_begin_together_do_what_one_would(n_threads, outcomes):
    assert outcomes[f"threads_begin_together {n_threads}"] == ""


@pytest.mark.slow
@forks
def test_threads_that_read_a_table_together_do_what_one_would(outcomes):
    assert outcomes["threads_read_together 4"] == ""


@pytest.mark.slow
@forks
@pytest.mark.parametrize("module", ["torch._inductor.config", "torch._dynamo"])
def test_a_process_can_fit_after_ctrl_c_amid_an_import(module, outcomes):
    assert outcomes[f"ctrl_c_amid_an_import {module}"] == ""


@pytest.mark.slow
@forks
def test_a_child_forked_amid_a_fit_fits_too():
    script = """
        import time
        from accelerate.state import PartialState

        expected = classifier().fit(X, y).predict_proba(X)
        amid, over = threading.Event(), threading.Event()

        from liftlearn import RowEncoder
        class Waits(RowEncoder):
            def augment(self, X, rng, progress=0.0):
                amid.set()
                over.wait()
                return super().augment(X, rng, progress)

        slow = classifier().set_params(encoder=Waits())
        thread = threading.Thread(target=slow.fit, args=(X, y))
        thread.start()
        amid.wait()

        def child(connection):
            assert not PartialState._shared_state  # nothing of the other's fit
            connection.send(classifier().fit(X, y).predict_proba(X))

        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()
        process = context.Process(target=child, args=[there])
        process.start()
        is_done = here.poll(120)
        process.kill() if not is_done else process.join()
        over.set()
        thread.join()
        assert is_done
        # With one thread sums may be rounded otherwise than with two.
        assert np.allclose(here.recv(), expected, rtol=1e-3)
    """
    run(script, n_threads=2)  # which a child can't have


def test_a_model_is_loaded_once_and_again_when_its_folder_changes(
    gpt2_folder, tmp_path
):
    folder = shutil.copytree(gpt2_folder, tmp_path / "model")
    weights = folder / "model.safetensors"
    first = LanguageModel.load(folder)
    assert LanguageModel.load(folder).model is first.model

    # Another copy takes its place, with equal names, sizes and times.
    other = shutil.copytree(folder, tmp_path / "other")
    tensors = load_file(weights)
    save_file(
        {name: 2 * tensor for name, tensor in tensors.items()},
        other / weights.name,
        {"format": "pt"},
    )
    for file in folder.iterdir():
        times = file.stat().st_atime_ns, file.stat().st_mtime_ns
        os.utime(other / file.name, ns=times)
    folder.rename(tmp_path / "former")
    other.rename(folder)
    again = LanguageModel.load(folder)
    ratio = again.model.lm_head.weight / first.model.lm_head.weight
    np.testing.assert_allclose(ratio.numpy(), 2)

    # A file is written over in place, and given the times it had.
    status = weights.stat()
    weights.write_bytes((tmp_path / "former" / weights.name).read_bytes())
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    third = LanguageModel.load(folder)
    assert (third.model.lm_head.weight == first.model.lm_head.weight).all()


@forks
def test_a_child_may_be_made_while_another_thread_loads():
    """No child inherits what transformers has replaced for a moment."""
    from liftlearn._language_model._surroundings import MAKING

    forked = threading.Event()

    def fork():
        process = os.fork()
        if process == 0:
            os._exit(0)
        os.waitpid(process, 0)
        forked.set()

    thread = threading.Thread(target=fork)
    with MAKING:
        thread.start()
        assert not forked.wait(0.2)
    thread.join()
    assert forked.is_set()


def test_a_model_is_not_read_while_it_is_written(llama_folder, tmp_path):
    lm = LanguageModel.load(llama_folder)
    lm.save(tmp_path)
    is_over = threading.Event()

    def save_again():
        while not is_over.is_set():
            lm.save(tmp_path)

    with ThreadPoolExecutor() as pool:
        saved = [pool.submit(save_again) for _ in range(2)]
        try:
            for _ in range(15):
                _load.cache_clear()
                loaded = LanguageModel.load(tmp_path)
        finally:
            is_over.set()
    assert [each.result() for each in saved] == [None, None]
    assert (
        loaded.score(["a"], ["b", "c"]).tolist() == lm.score(["a"], ["b", "c"]).tolist()
    )
