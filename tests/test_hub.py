"""Estimators on a hub, which is a folder here: nothing is sent or fetched."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from sklearn.exceptions import NotFittedError
from tiny import blobs, short_classifier, short_regressor

import liftlearn
from liftlearn import LIFTClassifier, LIFTDensity, LIFTRegressor
from liftlearn._estimators import _hub

X, LABELS = blobs(20)
NAMES = np.array(["<no>", "yes|no"])[LABELS]


class Hub:
    """Keeps repositories as the hub's cache does: links to files beside them."""

    def __init__(self, root):
        self.root, self.made = root, []

    def __call__(self, token):
        self.token = token
        return self

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        self.made.append((repo_id, private))
        self.snapshot(repo_id).mkdir(parents=True, exist_ok=True)

    def snapshot(self, repo_id):
        return self.root / repo_id.replace("/", "--") / "snapshots" / "1"

    def file_exists(self, repo_id, name):
        return (self.snapshot(repo_id) / name).exists()

    def upload_folder(self, *, repo_id, folder_path, commit_message, delete_patterns):
        snapshot = self.snapshot(repo_id)
        for pattern in delete_patterns:
            for file in snapshot.rglob(pattern):
                file.unlink()
        shutil.copytree(folder_path, snapshot, dirs_exist_ok=True)
        blobs_folder = snapshot.parent.parent / "blobs"
        blobs_folder.mkdir(exist_ok=True)
        for i, file in enumerate(sorted(snapshot.rglob("*.*"))):
            if file.is_file() and not file.is_symlink() and file.name[0] != ".":
                blob = blobs_folder / f"{len([*blobs_folder.iterdir()])}-{i}"
                shutil.move(file, blob)
                file.symlink_to(blob)
        return SimpleNamespace(commit_url=f"hub/{repo_id}/commit/{commit_message}")

    def download(self, repo_id):
        if not self.snapshot(repo_id).is_dir():
            raise LocalEntryNotFoundError("no such repository.")
        return str(self.snapshot(repo_id))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(_hub, "HfApi", hub)
    monkeypatch.setattr(_hub, "snapshot_download", hub.download)
    monkeypatch.chdir(tmp_path)
    return hub


@pytest.fixture(scope="module")
def classifier():
    return short_classifier().fit(X, NAMES)


def card_of(hub, repo_id):
    return (hub.snapshot(repo_id) / "README.md").read_text(encoding="utf-8")


def test_what_was_pushed_is_loaded_only_when_the_hub_is_asked(hub, classifier):
    url = classifier.push_to_hub("me/blobs", token="secret", commit_message="one")

    loaded = liftlearn.load("me/blobs", from_hub=True)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert url == "hub/me/blobs/commit/one"
    assert hub.token == "secret"
    assert hub.made == [("me/blobs", True)]
    with pytest.raises(FileNotFoundError, match=r"does not exist.*from_hub=True"):
        liftlearn.load("me/blobs")
    with pytest.raises(FileNotFoundError, match=r"'me/other' is no folder here, and"):
        liftlearn.load("me/other", from_hub=True)


def test_a_local_folder_is_taken_before_the_hub(hub, classifier, tmp_path):
    classifier.push_to_hub("me/blobs", private=False)
    local = short_regressor().fit(X, X["a"])
    local.save(tmp_path / "me" / "blobs")

    assert isinstance(liftlearn.load("me/blobs", from_hub=True), LIFTRegressor)
    assert hub.made == [("me/blobs", False)]


def test_an_earlier_estimator_is_replaced_and_a_card_of_ones_own_stays(hub, classifier):
    two = short_classifier().set_params(finetuner__n_models=2).fit(X, LABELS)
    two.push_to_hub("me/blobs")
    card = hub.snapshot("me/blobs") / "README.md"
    card.unlink()
    card.write_text("Mine.", encoding="utf-8")

    classifier.push_to_hub("me/blobs")

    loaded = liftlearn.load("me/blobs", from_hub=True)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert card_of(hub, "me/blobs") == "Mine."


def test_a_card_tells_what_it_is_and_how_to_load_it_and_invents_no_metric(
    hub, classifier
):
    classifier.push_to_hub("me/blobs")

    card = card_of(hub, "me/blobs")
    assert card.startswith("---\nlibrary_name: liftlearn\n")
    assert "pipeline_tag: tabular-classification" in card
    assert 'liftlearn.load("me/blobs", from_hub=True)' in card
    assert "| a | continuous |" in card
    assert "- &lt;no>\n- yes\\|no" in card
    assert "Tokens read in training" in card
    assert card.rstrip().endswith("None was recorded.")


@pytest.mark.parametrize("kind", ["numbers", "rows", "shown", "folder"])
def test_every_estimator_has_a_card(hub, kind, llama_folder):
    estimator = {
        "numbers": lambda: short_regressor().fit(X, X["a"]),
        "rows": lambda: (
            LIFTDensity()
            .set_params(finetuner__max_steps=1, finetuner__n_models=1)
            .fit(X)
        ),
        "shown": lambda: LIFTClassifier(n_shots="all").fit(X.to_numpy(), LABELS),
        "folder": lambda: short_classifier(model=llama_folder).fit(X, LABELS),
    }[kind]()

    estimator.push_to_hub(f"me/{kind}")

    card = card_of(hub, f"me/{kind}")
    assert f"`{type(estimator).__name__}`" in card
    assert ("A number from" in card) == (kind == "numbers")
    assert ("holds 20 labelled rows as text" in card) == (kind == "shown")
    assert ("a model in a local folder" in card) == (kind == "folder")
    assert str(llama_folder) not in card
    assert type(liftlearn.load(f"me/{kind}", from_hub=True)) is type(estimator)


def test_only_a_fitted_estimator_is_pushed(hub):
    with pytest.raises(NotFittedError):
        LIFTClassifier().push_to_hub("me/blobs")
    assert not hub.made
