import importlib.util
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import liftlearn

EXAMPLES = Path(__file__).parents[1] / "examples"

# Pages with stored figures, and what makes their measuring short.
QUICK: dict[str, dict[str, object]] = {
    "countries": {
        "seeds": [0],
        "n_test": 10,
        "model": Path(liftlearn.__file__).parent / "embedded",
    },
    "digits": {"steps": 2, "n_draws": 1, "n_halves": 4},
    "odd_rows": {"steps": 2},
    "salaries": {"seeds": [0], "seeds_of_smollm2": [], "n_test": 320},
    "names": {
        "tables": ["iris"],
        "n_splits": 1,
        "of_smollm2": 0,
        "sizes": (8,),
        "n_steps": 2,
    },
    "start": {"sizes": (10,), "n_draws": 1, "n_steps": 2, "n_tables": 1},
    "two_stages": {"n_draws": 1, "n_steps": 2},
    "uncertainty": {"levels": (0.1,)},
    "images": {
        "n_train": 30,
        "n_test": 10,
        "n_splits": 1,
        "n_epochs": 2,
        "sizes": (0.1,),
    },
    "mixup": {"n_train": 10, "n_mixed": 4, "n_test": 20, "n_splits": 1},
    "moved": {
        "n_train": 30,
        "n_test": 20,
        "n_explained": 1,
        "n_repeats": 1,
        "n_background": 2,
    },
    "wide_rows": {"widths": (2,), "n_splits": 1, "n_train": 20, "n_trees": 2},
    "boundaries": {
        "n_rows": 20,
        "n_new": 5,
        "n_seeds": 1,
        "side": 4,
        "tables": ["moons"],
    },
    "how_many_rows": {
        "tables": ["iris"],
        "shares": (0.1,),
        "sizes": (20,),
        "n_splits": 1,
        "n_draws": 1,
    },
    "integers": {"steps": {"even": 2, "cosine": 2}, "n_seeds": 1},
    "noise": {"sizes": (40,), "n_seeds": 1, "n_draws": 2},
    "outliers": {"functions": ("line",), "shares": (0.1,), "n_seeds": 1},
    "overfitting": {"noises": (0.8,), "n_seeds": 1, "n_epochs": 2},
    "rare_class": {"shares": (0.2,), "n_rows": 40, "n_new": 20, "n_seeds": 1},
    "nothing_seen": {
        "plans": [("hole", "linear", 0)],
        "n_seeds": 1,
        "n_rows": 20,
        "n_trees": 2,
    },
    "wrong_labels": {"shares": (0.1,), "n_seeds": 1, "tables": ["iris"]},
}


@pytest.mark.parametrize("name", QUICK)
def test_a_page_shows_its_stored_figures_and_can_measure_them(
    name, capsys, monkeypatch
):
    monkeypatch.delenv("LIFTLEARN_REFRESH", raising=False)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(plt, "show", lambda: None)
    path = EXAMPLES / f"plot_{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    page = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, page)

    spec.loader.exec_module(page)

    printed = capsys.readouterr().out
    source = next(x for x in printed.splitlines() if x.startswith("Measured by "))
    assert f"python examples/plot_{name}.py" in source
    assert " at commit " in source
    assert plt.get_fignums()
    plt.close("all")
    if name == "moved":
        pytest.importorskip("shap")
    # As long as it takes by default is for whoever refreshes the figures.
    monkeypatch.setattr("liftlearn._finetuner._tuner.steps_by_table", lambda *_: 2)
    figures = page.measure(**QUICK[name])
    assert list(figures.columns) == list(page.figures.columns)
    assert len(figures)
