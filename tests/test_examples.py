import csv
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_first_steps_compare_with_other_models_on_both_tables(capsys):
    runpy.run_path(str(EXAMPLES / "plot_first_steps.py"), run_name="__main__")

    words = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert words.count("random forest") == 2
    for name in ["LIFTClassifier", "logistic regression"]:
        assert words.count(name) == 1
    for name in ["LIFTRegressor", "linear regression"]:
        assert words.count(name) == 1


def test_intervals_are_nearer_to_their_promise_when_conformalised(capsys):
    runpy.run_path(str(EXAMPLES / "plot_uncertainty.py"), run_name="__main__")

    lines = capsys.readouterr().out.splitlines()
    (held,) = [line for line in lines if line.startswith("conformalised")]
    shares = [int(share) for share in re.findall(r"(\d+)%", held)]
    np.testing.assert_allclose(shares, [50, 80, 90], atol=8)
    spreads = [float(line.split()[-1]) for line in lines if line.startswith("noise")]
    assert spreads == sorted(spreads)


@pytest.fixture
def folder(tmp_path):
    """Return a folder of one small classification set and one split regression set."""
    rng = np.random.RandomState(0)
    table = pd.DataFrame({"size": rng.normal(size=40), "kind": ["a", "b"] * 20})
    table.assign(target=["no", "yes"] * 20).to_csv(tmp_path / "one.csv", index=False)
    table.assign(target=rng.normal(size=40)).to_csv(tmp_path / "two.csv", index=False)
    index = {
        name: {"file": f"{name}.csv", "task": task, "categorical": ["kind"]}
        for name, task in [("one", "classification"), ("two", "regression")]
    }
    (tmp_path / "index.json").write_text(json.dumps(index))
    splits = tmp_path / "lift_splits"
    splits.mkdir()
    paper_names = pd.read_csv(tmp_path / "two.csv").set_axis(["M", "S", "C"], axis=1)
    paper_names[:30].to_csv(splits / "two_train_full.csv")
    paper_names[30:].to_csv(splits / "two_test.csv")
    return tmp_path


def test_the_accuracy_benchmark_measures_both_starts_on_every_set(
    folder, capsys, monkeypatch
):
    out = folder / "out.csv"
    arguments = [str(folder), "--sets", "one", "two", "--seeds", "0", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["accuracy.py", *arguments])

    runpy.run_path(str(EXAMPLES / "benchmarks" / "accuracy.py"), run_name="__main__")

    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["set"], row["start"], row["metric"]) for row in rows] == [
        ("one", "pretrained", "accuracy"),
        ("one", "random", "accuracy"),
        ("two", "pretrained", "RAE"),
        ("two", "random", "RAE"),
    ]
    assert "| one | accuracy |" in capsys.readouterr().out


def test_the_wordings_benchmark_measures_names_and_slots(
    folder, llama_folder, capsys, monkeypatch
):
    arguments = [str(folder), str(llama_folder), "--sets", "one", "--seeds", "0"]
    monkeypatch.setattr(sys, "argv", ["wordings.py", *arguments, "--epochs", "1"])
    monkeypatch.syspath_prepend(EXAMPLES / "benchmarks")

    runpy.run_path(str(EXAMPLES / "benchmarks" / "wordings.py"), run_name="__main__")

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["names", "slots"]
    assert all(0 <= float(line.split(" | ")[2]) <= 1 for line in lines[2:])


def test_the_formats_benchmark_measures_each_way_to_write_numbers(
    folder, capsys, monkeypatch
):
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


def test_the_speed_benchmark_compares_with_rivals_and_a_matrix_product(
    capsys, monkeypatch
):
    arguments = ["--only", "numbers", "train", "efficiency", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])

    runpy.run_path(str(EXAMPLES / "benchmarks" / "speed.py"), run_name="__main__")

    printed = capsys.readouterr().out
    assert "one number, greedily" in printed
    assert "Trainer, no" in printed
    assert "GFLOP/s" in printed


def test_the_functions_benchmark_compares_with_classical_regressors(
    capsys, monkeypatch
):
    arguments = ["--functions", "linear", "--columns", "1", "--seeds", "0"]
    monkeypatch.setattr(sys, "argv", ["functions.py", *arguments])

    runpy.run_path(str(EXAMPLES / "benchmarks/functions.py"), run_name="__main__")

    heads, _, row = capsys.readouterr().out.splitlines()
    scores = dict(zip(heads.split(" | "), row.split(" | "), strict=True))
    assert 0 < float(scores["Gaussian process"]) < float(scores["liftlearn"]) < 0.3
    assert scores["LIFT/GPT-3 |"] == "0.064 |"


def test_the_uncertainty_benchmark_measures_every_method(folder, capsys, monkeypatch):
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
