"""Engines that predict large tables, each run with its own package."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "scale.py"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["parquet", "dask", "ray", "pyspark"])
def test_an_engine_predicts_what_one_process_does(engine):
    if engine != "parquet" and find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed: pip install 'liftlearn[engines]'")
    if engine == "pyspark" and not (which("java") or "JAVA_HOME" in os.environ):
        pytest.skip("Spark needs Java")
    name = engine.removeprefix("py")
    command = [sys.executable, str(SCRIPT), "--engines", name, "--rows", "700"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr[-2000:]
    [rate, error] = re.search(
        rf"\| {name} \| ([\d,]+) \| (\S+) \|", done.stdout
    ).groups()
    assert float(rate.replace(",", "")) > 0
    assert float(error) < 1e-9


SEARCH = """
import os, sys
import numpy as np
from joblib import parallel_config
from sklearn.experimental import enable_halving_search_cv
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from liftlearn import FineTuner, LanguageModel, LIFTClassifier

def scored(estimator, X, y):
    loaded = LanguageModel.load().model
    return {"score": estimator.score(X, y), "pid": os.getpid(), "model": id(loaded)}

def main(engine):
    X = np.random.RandomState(0).randn(40, 2)
    y = (X.sum(axis=1) > 0).astype(int)
    tuner = FineTuner(max_steps=2, n_models=1)
    classifier = LIFTClassifier(finetuner=tuner, n_shots=0, random_state=0)
    grid = {"finetuner__learning_rate": [1e-3, 1e-2]}
    if engine == "dask":
        from dask.distributed import Client
        workers = Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
    else:
        import ray
        from ray.util.joblib import register_ray
        register_ray()
        workers = ray.init(num_cpus=2, include_dashboard=False)
    for search in (
        GridSearchCV(classifier, grid, cv=2, scoring=scored, refit="score"),
        HalvingGridSearchCV(
            classifier, grid, cv=2, factor=2, min_resources=20, random_state=0
        ),
    ):
        alone = search.fit(X, y).cv_results_
        with parallel_config(engine, n_jobs=2):
            found = search.set_params(n_jobs=2).fit(X, y).cv_results_
        name = "mean_test_score"
        assert np.array_equal(found[name], alone[name]), (found[name], alone[name])
        if "split0_test_pid" in found:
            pids = {*found["split0_test_pid"], *found["split1_test_pid"]}
            models = {*found["split0_test_model"], *found["split1_test_model"]}
            assert os.getpid() not in pids
            assert len(models) <= len(pids)
    with workers:
        print("as one process")

if __name__ == "__main__":
    main(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_a_search_by_an_engine_finds_what_one_process_does(engine, tmp_path):
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed: pip install 'liftlearn[engines]'")
    (tmp_path / "search.py").write_text(SEARCH)

    done = subprocess.run(
        [sys.executable, str(tmp_path / "search.py"), engine],
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "as one process"
