import csv
import json
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

import liftlearn
from liftlearn import FineTuner, LIFTClassifier

EXAMPLES = Path(__file__).parents[1] / "examples"
EMBEDDED = Path(liftlearn.__file__).parent / "embedded"


def page(name):
    """Return a page of the gallery, run with its stored figures."""
    return runpy.run_path(str(EXAMPLES / f"plot_{name}.py"))


@pytest.fixture(autouse=True)
def pages_find_their_figures(monkeypatch):
    monkeypatch.delenv("LIFTLEARN_REFRESH", raising=False)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)


def test_the_first_steps_compare_with_other_models_on_both_tables(capsys, monkeypatch):
    # As long as by default they run in .ci/run, as the README's main job.
    monkeypatch.setattr("liftlearn._finetuner._tuner.steps_by_table", lambda *_: 5)

    runpy.run_path(str(EXAMPLES / "plot_first_steps.py"), run_name="__main__")

    words = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert words.count("random forest") == 2
    classes, numbers = "LIFTClassifier", "LIFTRegressor"
    for name in [classes, "logistic regression", numbers, "linear regression"]:
        assert words.count(name) == 1


def test_the_uncertainty_example_tells_coverages_spreads_and_draws(capsys, monkeypatch):
    # How near they come to their promise is for the docs to show: chance has a say.
    monkeypatch.setattr("liftlearn._finetuner._tuner.steps_by_table", lambda *_: 2)

    spreads = page("uncertainty")["measure"]()["spread"]

    lines = capsys.readouterr().out.splitlines()
    for step in ("as it stands", "conformalised"):
        (held,) = [line for line in lines if line.startswith(step)]
        shares = [int(share) for share in re.findall(r"(\d+)%", held)]
        assert shares == sorted(shares)
        assert len(shares) == 3
    assert len(spreads) == 4
    assert spreads.min() > 0
    assert sum(" draws: " in line for line in lines) == 4


def test_showing_and_training_are_compared_on_every_table(llama_folder, tmp_path):
    rng = np.random.RandomState(0)
    table = pd.DataFrame({"size": rng.rand(20), "target": ["no", "yes"] * 10})
    for name in ("customers", "breast_cancer"):
        table.to_csv(tmp_path / f"{name}.csv", index=False)

    shown = page("in_context")
    figures = shown["measure"](
        llama_folder, tmp_path, shots=(6, 3), n_draws=2, n_test=6
    )

    assert list(figures.columns) == list(shown["figures"].columns)
    counts = figures.groupby(["set", "rows"])["method"].value_counts()
    for name in ("iris", "customers", "breast_cancer"):
        assert counts[name, 3, "shown"] == counts[name, 6, "trained"] == 2
        assert counts[name, 3, "nearest of all"] == 1


@pytest.mark.slow
def test_digits_are_drawn_and_completed(capsys):
    digits = page("digits")

    figures = digits["measure"](steps=2, n_draws=1, n_halves=4)

    printed = capsys.readouterr().out
    assert "drawn ones that are named right: " in printed
    assert "completed: root mean squared error" in printed
    kinds = figures["kind"].value_counts()
    assert kinds.to_dict() == {"drawn": 10, "completed": 4, "mean of ten": 4}
    known = figures[figures["kind"] != "drawn"]
    halves = digits["test"][digits["upper"]].head(4).to_numpy()
    for _, rows in known.groupby("kind"):
        np.testing.assert_array_equal(rows[digits["upper"]], halves)
    assert figures[digits["pixels"]].isin(np.arange(161) / 10).all(axis=None)


def test_odd_rows_are_looked_for_by_both_methods(capsys):
    figures = page("odd_rows")["measure"](steps=2)

    lines = capsys.readouterr().out.splitlines()
    for method in ("LIFTDensity", "IsolationForest"):
        assert sum(f"{method}: AUC" in line for line in lines) == 2
    groups = figures.groupby(["table", "method"])["is_odd"]
    assert len(groups) == 4
    assert (groups.mean() == 0.5).all()


def test_a_first_stage_is_compared_with_none_from_both_starts(capsys):
    # What it is worth is for the docs to show: two draws of two steps say nothing.
    figures = page("two_stages")["measure"](n_draws=2, n_steps=2)

    lines = capsys.readouterr().out.splitlines()
    for start in ("pretrained", "random weights"):
        assert sum(line.startswith(f"{start}: gain ") for line in lines) == 1
    assert (figures.groupby(["model", "way"]).size() == 2).all()
    assert len(figures) == 8
    assert figures["accuracy"].between(0, 1).all()


@pytest.fixture
def folder(tmp_path):
    """Return a folder of one small classification set and one split regression set."""
    rng = np.random.RandomState(0)
    # So few rows that one copy of the model learns them.
    table = pd.DataFrame({"size": rng.normal(size=20), "kind": ["a", "b"] * 10})
    table.assign(target=["no", "yes"] * 10).to_csv(tmp_path / "one.csv", index=False)
    table.assign(target=rng.normal(size=20)).to_csv(tmp_path / "two.csv", index=False)
    index = {
        name: {"file": f"{name}.csv", "task": task, "categorical": ["kind"]}
        for name, task in [("one", "classification"), ("two", "regression")]
    }
    (tmp_path / "index.json").write_text(json.dumps(index))
    splits = tmp_path / "lift_splits"
    splits.mkdir()
    paper_names = pd.read_csv(tmp_path / "two.csv").set_axis(["M", "S", "C"], axis=1)
    paper_names[:15].to_csv(splits / "two_train_full.csv")
    paper_names[15:].to_csv(splits / "two_test.csv")
    return tmp_path


def paper(monkeypatch, *arguments):
    monkeypatch.setattr(
        sys, "argv", [str(EXAMPLES / "benchmarks" / "paper.py"), *arguments]
    )
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    return runpy.run_path(sys.argv[0], run_name="__main__")


@pytest.mark.slow
def test_the_papers_tables_are_measured_once_and_written_as_a_page(
    folder, llama_folder, capsys, monkeypatch
):
    (folder / "iris.csv").write_text((folder / "one.csv").read_text())
    for part in ("train_full", "test"):
        path = folder / "lift_splits" / f"servo_{part}.csv"
        path.write_text(path.with_name(f"two_{part}.csv").read_text())
    index = json.loads((folder / "index.json").read_text())
    index |= {"iris": {**index["one"], "file": "iris.csv"}, "servo": index["two"]}
    (folder / "index.json").write_text(json.dumps(index))
    out, page = folder / "out.csv", folder / "page.md"
    arguments = ["--data", str(folder), "--out", str(out), "--seeds", "0"]
    arguments += ["--model", str(llama_folder)]  # of one layer
    arguments += ["--sets", "iris", "servo", "--methods", "linear"]

    paper(monkeypatch, *arguments)
    first = out.read_text()
    more = [*arguments, "majority or mean", "liftlearn", "random weights"]
    paper(monkeypatch, *more, "--page", str(page))

    assert out.read_text().startswith(first)  # nothing is measured twice
    with out.open() as file:
        rows = {(row["set"], row["method"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 + 2 * 3
    # The labels alternate with the categories; one category is the majority.
    assert float(rows["iris", "linear"]["score"]) == 1.0
    assert float(rows["iris", "majority or mean"]["score"]) == 0.5
    megabytes = {key: float(row["megabytes"]) for key, row in rows.items()}
    # One loads torch, the other does not.
    assert megabytes["iris", "liftlearn"] > megabytes["iris", "linear"] > 0
    lines = page.read_text().splitlines()
    assert any(x.startswith("| iris | ") and " 96.7 | 97.0 |" in x for x in lines)
    assert any(x.startswith("| servo | ") and " 1.170 | 0.380 |" in x for x in lines)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        paper(monkeypatch, "--sets", "nowhere")
    assert "No set is called ['nowhere']" in capsys.readouterr().err


def test_the_papers_functions_and_synthetic_sets_are_learnt(capsys, monkeypatch):
    score = {}
    for name in ("linear 2", "moons"):
        paper(monkeypatch, "--one", name, "linear", "0")
        score[name] = json.loads(capsys.readouterr().out)["score"]

    assert score["linear 2"] < 0.1
    assert 0.7 < score["moons"] < 0.95


@pytest.mark.slow
def test_learning_curves_are_measured_once_and_drawn(folder, capsys, monkeypatch):
    out, image = folder / "curves.csv", folder / "curves.png"
    arguments = [str(folder), "--sets", "one", "--out", str(out), "--plot", str(image)]
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")

    for draws in ("1", "2"):
        monkeypatch.setattr(
            sys, "argv", ["curves.py", *arguments, "--sizes", "10", "--draws", draws]
        )
        runpy.run_path(str(EXAMPLES / "benchmarks" / "curves.py"), run_name="__main__")
        if draws == "1":
            first = out.read_text()

    assert out.read_text().startswith(first)
    rows = pd.read_csv(out)
    assert len(rows) == 2 * 4
    lines = capsys.readouterr().out.splitlines()
    mean = rows.groupby("method", sort=False)["accuracy"].mean()
    expected = " | ".join(f"{value:.3f}" for value in mean)
    assert lines[-2:] == [f"| one | 10 | {expected} |", f"| mean | 10 | {expected} |"]
    assert image.stat().st_size > 1000


def test_without_a_folder_the_papers_tables_come_from_openml(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    module = runpy.run_path(str(EXAMPLES / "benchmarks" / "tables.py"))
    asked = {}

    def fetch_openml(**parameters):
        asked.update(parameters)
        return load_iris(as_frame=True)

    module["openml_split"].__globals__["fetch_openml"] = fetch_openml
    rows = module["openml_split"]("wine", seed=0)

    assert asked["data_id"] == 187
    assert rows.is_class
    assert (len(rows.X_train), len(rows.X_test)) == (120, 30)
    assert rows.y_test.value_counts().tolist() == [10, 10, 10]


def test_the_wordings_benchmark_measures_names_and_codes(
    folder, llama_folder, capsys, monkeypatch
):
    arguments = [str(folder), str(llama_folder), "--sets", "one", "--seeds", "0"]
    monkeypatch.setattr(sys, "argv", ["wordings.py", *arguments, "--epochs", "1"])
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")

    runpy.run_path(str(EXAMPLES / "benchmarks" / "wordings.py"), run_name="__main__")

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["names", "index"]
    assert all(0 <= float(line.split(" | ")[2]) <= 1 for line in lines[2:])


def test_the_formats_benchmark_measures_each_way_to_write_numbers(
    folder, capsys, monkeypatch
):
    monkeypatch.setattr("liftlearn._finetuner._tuner.steps_by_table", lambda *_: 2)
    arguments = [str(folder), "--tables", "one", "two", "--seeds", "0"]
    monkeypatch.setattr(sys, "argv", ["formats.py", *arguments])
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")

    runpy.run_path(str(EXAMPLES / "benchmarks" / "formats.py"), run_name="__main__")

    lines = capsys.readouterr().out.splitlines()
    scores = {
        (row[0], len(row) - 1): [float(x) for x in " ".join(row[1:]).split()]
        for row in (line.strip("| ").split(" | ") for line in lines)
        if row[0] in ("one", "two")
    }
    assert set(scores) == {("two", 5), ("one", 6), ("two", 6)}
    assert all(score >= 0 for row in scores.values() for score in row)


@pytest.mark.slow
def test_the_speed_benchmark_compares_with_rivals_and_a_matrix_product(
    capsys, monkeypatch
):
    def few_irises(*, return_X_y=False, as_frame=False):
        iris = load_iris(as_frame=as_frame)
        iris.data, iris.target = iris.data[::10], iris.target[::10]
        return (iris.data, iris.target) if return_X_y else iris

    monkeypatch.setattr("sklearn.datasets.load_iris", few_irises)
    # With a processor's kernels held back its bf16 products would take minutes.
    monkeypatch.setattr(
        "liftlearn._language_model._model.gains_by_bf16", lambda device: False
    )
    arguments = ["--only", "numbers", "train", "efficiency", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")

    runpy.run_path(str(EXAMPLES / "benchmarks" / "speed.py"), run_name="__main__")

    printed = capsys.readouterr().out
    assert "one number, greedily" in printed
    assert "Trainer, no" in printed
    assert "GFLOP/s" in printed


def test_the_serving_benchmark_measures_both_ways_to_serve(capsys, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", socket.socket.connect)  # undone after
    arguments = ["serving.py", "--requests", "1", "--steps", "1"]
    monkeypatch.setattr(sys, "argv", arguments)

    runpy.run_path(str(EXAMPLES / "benchmarks/serving.py"), run_name="__main__")

    _, _, *rows = capsys.readouterr().out.splitlines()
    cells = {row.split(" | ")[0]: row.strip("| ").split(" | ")[1:] for row in rows}
    for name in ("| read in context", "| one fine-tuned member"):
        assert len(cells[name]) == 11
        assert min(float(cell) for cell in cells[name]) > 0
    assert float(cells["| gradient boosting"][0]) > 0.8


def test_the_benchmark_of_texts_compares_with_words_in_a_linear_model(
    capsys, monkeypatch
):
    arguments = ["--tables", "rule", "number", "--seeds", "0", "--topics", "8", "0"]
    arguments += ["--members", "1", "--steps", "1", "--rows", "30"]
    monkeypatch.setattr(sys, "argv", ["texts.py", *arguments])

    runpy.run_path(str(EXAMPLES / "benchmarks/texts.py"), run_name="__main__")

    heads, _, *rows = capsys.readouterr().out.splitlines()
    assert heads == "| table | TF-IDF | 8 topics | bytes |"
    assert [row.split(" | ")[0] for row in rows] == ["| rule", "| number"]


def test_the_functions_benchmark_compares_with_classical_regressors(
    capsys, monkeypatch
):
    monkeypatch.setattr("liftlearn._finetuner._tuner.steps_by_table", lambda *_: 2)
    arguments = ["--functions", "linear", "--columns", "1", "--seeds", "0"]
    monkeypatch.setattr(sys, "argv", ["functions.py", *arguments])
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")

    runpy.run_path(str(EXAMPLES / "benchmarks/functions.py"), run_name="__main__")

    heads, _, row = capsys.readouterr().out.splitlines()
    scores = dict(zip(heads.split(" | "), row.split(" | "), strict=True))
    assert all(float(score) > 0 for score in list(scores.values())[2:-1])
    assert {"Gaussian process", "gradient boosting", "liftlearn"} < scores.keys()
    assert scores["LIFT/GPT-3 |"] == "0.064 |"


def test_the_uncertainty_benchmark_measures_every_method(folder, capsys, monkeypatch):
    monkeypatch.setattr("liftlearn._finetuner._tuner.steps_by_table", lambda *_: 2)
    out = folder / "out.csv"
    arguments = [str(folder), "--sets", "one", "two", "--seeds", "0", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["uncertainty.py", *arguments])
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))

    runpy.run_path(str(EXAMPLES / "benchmarks/uncertainty.py"), run_name="__main__")

    records = pd.read_csv(out)
    regression = records[records["set"] == "two"]
    assert regression.groupby("method").size().tolist() == [7, 7, 7]
    assert set(records["method"]) > {"logistic regression", "Gaussian process"}
    covered = records[records["measure"] == "covered"]["value"]
    assert covered.between(0, 1).all()
    assert "ECE:" in capsys.readouterr().out


def test_the_benchmark_of_whole_rows_measures_draws_and_cells(
    folder, capsys, monkeypatch
):
    monkeypatch.setattr("liftlearn._finetuner._tuner.steps_by_table", lambda *_: 2)
    out = folder / "out.csv"
    arguments = [str(folder), "--sets", "one", "two", "--seeds", "0", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["rows.py", *arguments])
    monkeypatch.syspath_prepend(str(EXAMPLES / "benchmarks"))

    runpy.run_path(str(EXAMPLES / "benchmarks/rows.py"), run_name="__main__")

    draws, cells = (
        pd.read_csv(folder / f"out_{part}.csv") for part in ("draws", "cells")
    )
    assert draws["auc"].between(0, 1).all()
    assert draws["set"].tolist() == ["one", "two"]
    rivals = ["liftlearn", "KNNImputer", "IterativeImputer", "simple"]
    assert (cells[rivals] >= 0).all(axis=None)
    assert "coverage" in capsys.readouterr().out


PRETRAIN_BRIEFLY = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import pretrain
pretrain.TASK_TOKENS = 1  # of a table: the fewest steps
pretrain.main()
"""


@pytest.mark.slow
def test_pretraining_makes_a_model_and_goes_on_from_its_checkpoint(tmp_path):
    command = [sys.executable, "-c", PRETRAIN_BRIEFLY, EXAMPLES / "pretraining"]
    command += [tmp_path, "--hidden", "16", "--layers", "1", "--workers", "1"]
    command += ["--hours"]

    subprocess.run([*command, "1e-9"], check=True)
    seconds = float((tmp_path / "curve.csv").read_text().split(",")[1])
    subprocess.run([*command, f"{(seconds + 1) / 3600}"], check=True)

    tables = [
        int(line.split(",")[0])
        for line in (tmp_path / "curve.csv").read_text().splitlines()
    ]
    assert tables == list(range(1, len(tables) + 1))
    assert len(tables) >= 2
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"| tables | {len(tables)} |" in card
    X, y = load_iris(return_X_y=True)
    classifier = LIFTClassifier(tmp_path / "model", finetuner=FineTuner(max_steps=1))
    assert classifier.fit(X, y).encoder_.columns_ == "index"


READ_AS_TRAINED = """
import argparse, sys
import numpy as np
sys.path.insert(0, sys.argv.pop(1))
from batches import draw_shape, draw_tables, stack
from pretrain_reader import Learner, draw_view
from reader import build_model

args = argparse.Namespace(device="cpu", seed=0, compile=False)
learner = Learner(build_model(32, 2, "row across"), args)
shapes = {step: draw_shape(0, step, 4096) for step in [0, *range(400, 440)]}
of_kind = {shape.kind: (step, shape) for step, shape in shapes.items()}
assert of_kind.keys() == {"easy", "plain", "wide", "mixed"}
for step, shape in of_kind.values():
    batch = stack(shape, draw_tables(0, step, 0, shape))
    view = draw_view(batch, learner.vocabulary, learner.generator)
    n_tables, n_rows, n_tokens = batch.ids.shape
    # Only texts make rows of unlike length.
    assert view.seen is None or shape.kind == "mixed"
    asked = view.ids.reshape(n_tables, n_rows, n_tokens)[:, shape.n_context :]
    assert (asked[:, :, -1] == 0).all()
    # An answer that is asked for is one of those that compete.
    known = view.target >= 0
    assert view.allowed.gather(1, view.target.clamp(min=0))[known].all()
    assert not np.isinf(learner.learn(batch, 0.5)).any()
"""


@pytest.mark.slow
def test_pretraining_of_the_reader_asks_for_answers_that_can_be_known():
    command = [sys.executable, "-c", READ_AS_TRAINED, EXAMPLES / "pretraining"]
    subprocess.run(command, check=True)


@pytest.mark.slow
def test_the_pretrained_reader_reads_a_table(tmp_path):
    script = EXAMPLES / "pretraining" / "pretrain_reader.py"
    command = [sys.executable, script, tmp_path, "--hidden", "16", "--heads", "2"]
    command += ["--layers", "row across", "--tokens", "2048", "--save-every", "0"]

    subprocess.run([*command, "--minutes", "1", "--stop", "0.001"], check=True)
    subprocess.run([*command, "--minutes", "1", "--stop", "0.02"], check=True)

    steps = [
        int(line.split(",")[0])
        for line in (tmp_path / "curve.csv").read_text().splitlines()
    ]
    assert steps == list(range(len(steps)))
    assert len(steps) >= 2
    X, y = load_iris(return_X_y=True)
    classifier = LIFTClassifier(tmp_path / "model", random_state=0).fit(X, y)
    assert classifier.language_model_.reads_in_context
    assert classifier.n_shots_ == len(np.unique(X, axis=0))


@pytest.mark.slow
def test_the_benchmark_of_precisions_compares_each_with_float32(capsys, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    arguments = [str(EMBEDDED), "--steps", "1", "--rows", "30"]
    monkeypatch.setattr(sys, "argv", ["precision.py", *arguments])

    runpy.run_path(str(EXAMPLES / "benchmarks/precision.py"), run_name="__main__")

    *_, exact, bf16, _, _ = capsys.readouterr().out.splitlines()
    assert exact.startswith("| float32 | 0 | 0 | 1 |")
    assert 0 < float(bf16.split(" | ")[1]) < 0.1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_benchmark_of_memory_counts_what_there_is_to_hold(capsys, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")
    script = str(EXAMPLES / "benchmarks/memory.py")
    module = runpy.run_path(script)
    module["SIZES"]["0.1"] = (256, 512, 2)
    monkeypatch.setattr(sys, "argv", ["memory.py", "--sizes", "0.1", "--steps", "2"])
    monkeypatch.setitem(module["main"].__globals__, "__file__", script)

    module["main"]()

    *_, row = capsys.readouterr().out.splitlines()
    size, dtype, weights, *_ = row.strip("| ").split(" | ")
    assert (size, dtype) == ("0.1", "float32")
    # Embedding and head, and two layers of projections.
    assert 0.065 < float(weights) < 0.075
