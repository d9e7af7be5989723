"""An engine that speaks vLLM's protocol stands behind an estimator."""

import importlib.util
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import peft
import pytest
import torch
from tiny import saved_llama

import liftlearn
from liftlearn import FineTuner, LIFTClassifier, LIFTRegressor
from liftlearn._language_model._passes import own_logits

SCRIPT = Path(__file__).parents[1] / "examples" / "engine.py"
X = pd.DataFrame({"a": np.arange(12.0), "b": list("xyz") * 4})


@pytest.fixture(scope="module")
def engine():
    spec = importlib.util.spec_from_file_location("engine", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["engine"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["engine"]


@pytest.fixture
def llama(tmp_path):
    return saved_llama(tmp_path / "llama")


STUBS = []


@pytest.fixture(autouse=True)
def closed():
    """Close the servers of a test."""
    yield
    while STUBS:
        stub = STUBS.pop()
        stub.shutdown()
        stub.server_close()


class Stub(HTTPServer):
    """Answers ``/v1/completions`` as vLLM does, from models by their names."""

    def __init__(self, models, *, knows_ids=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.models, self.knows_ids, self.asked = models, knows_ids, []
        threading.Thread(target=self.serve_forever, daemon=True).start()
        STUBS.append(self)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers["Content-Length"])
        asked = json.loads(self.rfile.read(length))
        self.server.asked.append(asked)
        assert self.path == "/v1/completions"
        assert asked["max_tokens"] == 1
        model = self.server.models[asked["model"]]
        choices = []
        for index, ids in enumerate(asked["prompt"]):
            with torch.no_grad():
                logits = own_logits(model, torch.tensor(ids))[-1].double()
            log_prob = logits.log_softmax(-1)
            sampled = int(log_prob.argmax())
            ids = asked["logprob_token_ids"] if self.server.knows_ids else []
            top = {f"token_id:{t}": float(log_prob[t]) for t in {sampled, *ids}}
            choices.append({"index": index, "logprobs": {"top_logprobs": [top]}})
        body = json.dumps({"choices": choices[::-1]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Print nothing."""


def fitted(kind, model, y, **parameters):
    adapter = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
    tuner = FineTuner(max_steps=3, batch_size=4, adapter=adapter, **parameters)
    return kind(model, finetuner=tuner, random_state=0).fit(X, y)


def served_again(engine, estimator, folder):
    """Return the estimator, loaded anew, behind a server of its members."""
    lm = estimator.language_model_
    members = getattr(lm, "members", [lm])
    stub = Stub({f"m{i}": member.model for i, member in enumerate(members)})
    estimator.save(folder)
    loaded = liftlearn.load(folder)
    return engine.served(loaded, stub.url, list(stub.models)), stub


@pytest.mark.parametrize("n_models", [1, 2])
def test_an_engine_gives_the_same_probabilities(engine, llama, tmp_path, n_models):
    labels = ["no", "not so much", "yes"] * 4
    classifier = fitted(LIFTClassifier, llama, labels, n_models=n_models)

    served, stub = served_again(engine, classifier, tmp_path / "saved")

    expected = classifier.predict_proba(X)
    np.testing.assert_allclose(served.predict_proba(X), expected, atol=1e-5)
    assert {asked["model"] for asked in stub.asked} == set(stub.models)


def test_an_engine_gives_the_same_distribution_of_a_number(engine, llama, tmp_path):
    regressor = fitted(LIFTRegressor, llama, np.arange(12.0), n_models=1)

    served, _ = served_again(engine, regressor, tmp_path / "saved")

    for name in ("mean", "std"):
        np.testing.assert_allclose(
            getattr(served.predict_distribution(X[:4]), name),
            getattr(regressor.predict_distribution(X[:4]), name),
            atol=1e-4,
        )


def test_an_engine_that_leaves_tokens_out_is_refused(engine, llama):
    classifier = fitted(LIFTClassifier, llama, ["no", "yes"] * 6, n_models=1)
    stub = Stub({"m": classifier.language_model_.model}, knows_ids=False)

    with pytest.raises(RuntimeError, match="knows logprob_token_ids"):
        engine.served(classifier, stub.url, ["m"]).predict(X)
    with pytest.raises(ValueError, match="a name for each of 1 members"):
        engine.served(classifier, stub.url, ["a", "b"])


def test_the_script_prints_the_rows_with_predictions(
    engine, llama, tmp_path, monkeypatch, capsys
):
    classifier = fitted(LIFTClassifier, llama, ["no", "yes"] * 6, n_models=1)
    classifier.save(tmp_path / "saved")
    X.to_csv(tmp_path / "rows.csv", index=False)
    stub = Stub({"tuned": classifier.language_model_.model})
    arguments = [str(tmp_path / "saved"), str(tmp_path / "rows.csv"), "--url", stub.url]
    monkeypatch.setattr(sys, "argv", ["engine.py", *arguments])

    engine.main()

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a,b,prediction,probability"
    assert [line.split(",")[2] for line in lines[1:]] == [*classifier.predict(X)]
