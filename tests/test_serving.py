import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

from liftlearn import FineTuner, LIFTClassifier, LIFTRegressor

SCRIPT = Path(__file__).parents[1] / "examples" / "serve.py"


@pytest.fixture(scope="module")
def serve():
    spec = importlib.util.spec_from_file_location("serve", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["serve"] = module  # Its annotations are looked up there.
    spec.loader.exec_module(module)
    yield module
    del sys.modules["serve"]


@pytest.fixture(scope="module")
def table():
    days = pd.date_range("2024-01-01", periods=20)
    return pd.DataFrame(
        {"age": np.arange(20.0), "city": ["Bonn", "Ulm"] * 10, "on": days}
    )


@pytest.fixture(scope="module")
def classifier(table):
    return LIFTClassifier(random_state=0).fit(table, [0, 1] * 10)


def rows_of(table):
    on = table["on"].dt.strftime("%Y-%m-%d")
    return table.assign(on=on).astype(object).to_dict("records")


def test_many_clients_get_what_the_estimator_predicts(serve, classifier, table):
    expected = classifier.predict_proba(table)
    read = []
    application = serve.application(classifier, max_rows=6)
    predict_proba = classifier.predict_proba

    def counted(rows):
        read.append(len(rows))
        return predict_proba(rows)

    with TestClient(application) as client, pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "predict_proba", counted)
        requests = [{"rows": [row]} for row in rows_of(table)]
        with ThreadPoolExecutor(8) as clients:
            answers = list(
                clients.map(lambda json: client.post("/predict", json=json), requests)
            )

    found = [answer.json()[0]["probabilities"] for answer in answers]
    np.testing.assert_allclose([[row["0"], row["1"]] for row in found], expected)
    assert sum(read) == len(table)
    assert 1 < max(read) <= 6


def test_a_refused_request_does_not_refuse_the_others(serve, classifier, table):
    good = rows_of(table)[0]
    bad = [{**good, "age": "old"}, {"age": 1}, {**good, "more": 2}]
    expected = classifier.predict_proba(table[:1])[0]

    with TestClient(serve.application(classifier)) as client:
        requests = [{"rows": [row]} for row in [good, *bad] * 4]
        with ThreadPoolExecutor(8) as clients:
            answers = list(
                clients.map(lambda json: client.post("/predict", json=json), requests)
            )

    assert [answer.status_code for answer in answers] == [200, 422, 422, 422] * 4
    assert "A row needs the cells ['age', 'city', 'on']" in answers[2].json()["detail"]
    for answer in answers[::4]:
        probabilities = answer.json()[0]["probabilities"]
        np.testing.assert_allclose(list(probabilities.values()), expected)


def test_a_missing_cell_is_null(serve, classifier, table):
    row = table[:1].assign(age=np.nan)

    with TestClient(serve.application(classifier)) as client:
        sent = {**rows_of(table)[0], "age": None}
        (answer,) = client.post("/predict", json={"rows": [sent]}).json()

    np.testing.assert_allclose(
        list(answer["probabilities"].values()), classifier.predict_proba(row)[0]
    )


def test_a_number_comes_with_its_interval(serve, table):
    regressor = LIFTRegressor(
        finetuner=FineTuner(max_steps=2, n_models=1), random_state=0
    ).fit(table, table["age"])

    with TestClient(serve.application(regressor)) as client:
        about = client.get("/about").json()
        answers = client.post("/predict", json={"rows": rows_of(table)[:3]}).json()

    assert about == {
        "columns": {"age": "continuous", "city": "categorical", "on": "datetime"}
    }
    found = [[answer["prediction"], *answer["interval"]] for answer in answers]
    expected = np.column_stack(
        [regressor.predict(table[:3]), regressor.predict_interval(table[:3])]
    )
    np.testing.assert_allclose(found, expected)


def test_a_request_without_rows_is_refused(serve, classifier):
    with TestClient(serve.application(classifier)) as client:
        assert client.post("/predict", json={"rows": []}).status_code == 422
        assert client.post("/predict", json={}).status_code == 422
