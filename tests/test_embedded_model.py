"""What the embedded model has learnt before: it learns better than from new weights."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss

from liftlearn import FineTuner, LabelDecoder, LanguageModel, LIFTClassifier


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory):
    """Save the embedded model's architecture and tokenizer with new weights."""
    folder = tmp_path_factory.mktemp("random")
    embedded = LanguageModel.load()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = type(embedded.model)(copy.deepcopy(embedded.model.config))
    LanguageModel(model, embedded.tokenizer).save(folder)
    return folder


def held_out_score(model, table, labels, train, **parameters):
    """Return log-loss in nats and accuracy on the rows that are not for training."""
    classifier = LIFTClassifier(model, random_state=0, **parameters)
    classifier.fit(table[train], labels[train])
    proba = classifier.predict_proba(table[~train])
    assert np.all(proba > 0)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
    right = classifier.classes_[proba.argmax(axis=1)] == labels[~train]
    return log_loss(labels[~train], proba, labels=classifier.classes_), right.mean()


def reviews(rng, n_rows=400):
    """Return a table of numbers and a text, and labels in words that need both."""
    words = [
        ["good", "lovely", "fine", "warm"],
        ["poor", "dull", "cold", "broken"],
    ]
    things = ["food", "rooms", "staff", "view", "music", "garden", "price", "bread"]
    mood, numbers = rng.randint(2, size=n_rows), rng.normal(size=(n_rows, 4))
    score = 2 * mood - 1 + numbers[:, 0] - numbers[:, 1]
    score += 0.2 * rng.normal(size=n_rows)
    labels = np.array(["leaves", "thinks", "stays"])[np.digitize(score, [-0.8, 0.8])]
    table = pd.DataFrame(numbers.round(2), columns=[*"abcd"])
    texts = [
        " ".join(rng.permutation([rng.choice(words[i]), *rng.choice(things, 2)]))
        for i in mood
    ]
    return table.assign(review=texts), labels


def test_free_text_and_label_words_are_learnt_better_than_from_random_weights(
    random_folder,
):
    table, labels = reviews(np.random.RandomState(0))
    train = np.arange(400) < 200
    parts = {
        "decoder": LabelDecoder(words="labels"),
        "finetuner": FineTuner(n_models=2),
    }

    loss, accuracy = held_out_score(None, table, labels, train, **parts)

    random_loss, random_accuracy = held_out_score(
        random_folder, table, labels, train, **parts
    )
    assert loss < 0.85 * random_loss
    assert accuracy > random_accuracy + 0.1


def test_a_wide_table_of_many_classes_is_learnt_better_than_from_random_weights(
    random_folder,
):
    rng = np.random.RandomState(0)
    n_classes, n_columns = 150, 300
    labels = np.tile(np.arange(n_classes), 9)
    # A wide table as they are: most cells are missing, and some columns tell something.
    cells = rng.normal(size=(len(labels), n_columns))
    cells[rng.uniform(size=cells.shape) < 0.99] = np.nan
    telling = rng.permutation(n_columns)[:20]
    cells[:, telling] = rng.normal(size=(n_classes, 20))[labels]
    cells[:, telling] += 0.3 * rng.normal(size=(len(labels), 20))
    table = pd.DataFrame(cells, columns=[f"column {i}" for i in range(n_columns)])
    for name in table.columns.difference(table.columns[telling])[:2]:
        levels = labels + rng.randint(0, 50, len(labels))
        table[name] = [f"level {level}" for level in levels]
    train = np.arange(len(labels)) < 8 * n_classes
    parts = {"finetuner": FineTuner(max_steps=200)}  # far fewer than by default

    loss, accuracy = held_out_score(None, table, labels, train, **parts)

    random_loss, random_accuracy = held_out_score(
        random_folder, table, labels, train, **parts
    )
    assert loss < 0.7 * random_loss
    assert accuracy > 2 * random_accuracy
