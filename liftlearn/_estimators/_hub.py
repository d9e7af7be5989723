"""A fitted estimator on the Hugging Face hub: its folder, and a card that says what."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

_TAGS = {
    "classification": "tabular-classification",
    "regression": "tabular-regression",
}
# Files that could change what is loaded, which an earlier estimator may have left.
_REPLACED = ["*.json", "*.safetensors", "*.jinja", "*.bin", "*.gguf", "*.py"]
_CARD = "README.md"
# So many classes are named in a card.
_MOST_NAMED = 100


def push(
    estimator: Any,
    repo_id: str,
    *,
    merged: bool,
    private: bool,
    token: str | None,
    commit_message: str,
) -> str:
    """Upload a fitted estimator's folder, and a card where there is none yet."""
    api = HfApi(token=token)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        estimator.save(folder, merged=merged)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if not api.file_exists(repo_id, _CARD):
            card = model_card(estimator, repo_id)
            (Path(folder) / _CARD).write_text(card, encoding="utf-8")
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message,
            delete_patterns=_REPLACED,
        )
    return str(commit.commit_url)


def downloaded(name: str | PathLike[str]) -> str | PathLike[str]:
    """Return a folder of that name, or where a repository of the hub now is."""
    if Path(name).is_dir():
        return name
    try:
        return snapshot_download(fspath(name))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(
            f"{fspath(name)!r} is no folder here, and was not found on the Hugging "
            f"Face hub: {error} Check the name, the connection, and for a private "
            "repository that you are logged in."
        ) from error


def model_card(estimator: Any, repo_id: str) -> str:
    """Return what a fitted estimator is, in the hub's Markdown; no metric is told."""
    kind = type(estimator).__name__
    tag = _TAGS.get(estimator._task)
    head = ["---", "library_name: liftlearn"]
    head += [f"pipeline_tag: {tag}"] if tag else []
    head += ["tags:", "- liftlearn", "- tabular", "---"]
    columns = [
        f"| {_text(name)} | {kind_of} |"
        for name, kind_of in estimator.encoder_.column_kinds_.items()
    ]
    return "\n".join(
        [
            *head,
            f"# {repo_id}",
            "",
            f"A fitted `{kind}` of liftlearn. It writes the rows of a table as "
            "sentences, and a causal language model answers them.",
            "",
            "## How to load it",
            "",
            "```python",
            "import liftlearn",
            "",
            f'estimator = liftlearn.load("{repo_id}", from_hub=True)',
            "```",
            "",
            "## Columns",
            "",
            "| column | kind |",
            "| --- | --- |",
            *columns,
            "",
            *_target_of(estimator),
            "## Training",
            "",
            f"- Started from {_start_of(estimator)}.",
            *_training_of(estimator),
            "",
            "## Evaluation",
            "",
            "None was recorded.",
            "",
        ]
    )


def _target_of(estimator: Any) -> list[str]:
    """Return the lines about what is predicted."""
    if estimator._task == "classification":
        classes = estimator.classes_.tolist()
        named = [f"- {_text(label)}" for label in classes[:_MOST_NAMED]]
        if len(classes) > _MOST_NAMED:
            named.append(f"- and {len(classes) - _MOST_NAMED} more")
        return ["## Classes", "", *named, ""]
    if estimator._task == "regression":
        answers = estimator.decoder_.answers_
        return [
            "## Target",
            "",
            f"A number from {answers.low:g} to {answers.high:g}.",
            "",
        ]
    return []


def _start_of(estimator: Any) -> str:
    """Return the name of the first model, but no place on one's own machine."""
    name = getattr(estimator, "model_", None) or getattr(estimator, "model", None)
    if name is None:
        return "the model in liftlearn that is fine-tuned"
    is_local = (
        not isinstance(name, str) or Path(name).exists() or Path(name).is_absolute()
    )
    return "a model in a local folder" if is_local else f"`{_text(name)}`"


def _training_of(estimator: Any) -> list[str]:
    """Return the lines about steps, members and the rows that are kept."""
    tuner, context = estimator.finetuner_, getattr(estimator, "context_", None)
    n_tokens = sum(epoch["tokens"] for epoch in tuner.history_)
    lines = ["- No step was taken."]
    if n_tokens:
        lines = [
            f"- Ensemble members: {tuner.n_models_}",
            f"- Tokens read in training: {n_tokens:,}",
        ]
    if context is not None:
        n_rows = len(context.answers)
        lines.append(f"- The repository holds {n_rows:,} labelled rows as text.")
    return lines


def _text(value: Any) -> str:
    r"""Return a name as a cell of a Markdown table.

    >>> _text("a|b"), _text("<b>")
    ('a\\|b', '&lt;b>')
    """
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
