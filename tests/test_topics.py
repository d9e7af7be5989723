"""Free text that is read by its words: topics, and how they are written as numbers."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest

import liftlearn
from liftlearn import FineTuner, LIFTClassifier, RowEncoder
from liftlearn._learnt import check_learnt
from liftlearn._topics import learn_topics, words_of

CODES = {"numbers": "scaled", "question": "y?", "text_topics": 4}
TOPICS = {
    "sea": ["harbour", "tide", "anchor", "sail", "gull", "wave", "keel", "mast"],
    "farm": ["barn", "cow", "tractor", "hay", "fence", "seed", "plough", "soil"],
    "court": ["judge", "plea", "verdict", "lawyer", "trial", "oath", "jury", "bail"],
}
COMMON = [f"plain{i}" for i in range(40)]


def notes(rng, topics, n_telling=3, n_common=6):
    """Return a note on each topic: some of its words among common ones."""
    texts = []
    for topic in topics:
        words = [*rng.choice(TOPICS[topic], n_telling), *rng.choice(COMMON, n_common)]
        texts.append(" ".join(rng.permutation(words)))
    return texts


@pytest.fixture(scope="module")
def table():
    """Return notes on three topics beside numbers."""
    rng = np.random.RandomState(0)
    topics = np.tile(list(TOPICS), 30)
    return pd.DataFrame({"note": notes(rng, topics), "hour": rng.uniform(0, 24, 90)})


def fitted(table, **wording):
    return RowEncoder(columns="index", **(CODES | wording)).fit(table)


def positions(prompts, n_topics=4):
    """Return the numbers that stand for the texts, which are the first column."""
    rows = [prompt.split(" ")[1 : n_topics + 1] for prompt in prompts]
    return np.array(rows, dtype=float)


# Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Grüße, STRASSE; Straße!", ["grüsse", "strasse", "strasse"]),
        ("ΟΔΟΣ οδός", ["οδοσ", "οδόσ"]),
        ("Он пришёл.", ["он", "пришёл"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("السلام عليكم، صديقي", ["السلام", "عليكم", "صديقي"]),
        ("שלום-עולם", ["שלום", "עולם"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("我们喝茶。茶", ["我们", "们喝", "喝茶", "茶"]),
        ("カメラとPC2台", ["カメ", "メラ", "ラと", "pc2", "台"]),
        ("ไทย", ["ไท", "ทย"]),
        ("cafe\u0301 café ﬁne \uff21\uff22", ["café", "café", "fine", "ab"]),
        ("snake_case e-mail\tx1 42\n", ["snake", "case", "e", "mail", "x1", "42"]),
        ("co\u00adoperate म\u200dन", ["cooperate", "मन"]),
        ("x" * 50 + "-y", ["x" * 50, "y"]),
        (" ... ", []),
        ("", []),
    ],
)
def test_words_are_letters_and_digits_of_any_alphabet(text, words):
    assert words_of(text) == words


def test_texts_of_the_same_words_are_written_alike(table):
    encoder = fitted(table)
    shouted = table.assign(note=[f"{note.upper()}!" for note in table["note"]])
    backwards = table.assign(
        note=[", ".join(note.split()[::-1]) for note in table["note"]]
    )

    assert encoder.transform(shouted) == encoder.transform(table)
    assert encoder.transform(backwards) == encoder.transform(table)


def test_a_word_that_was_not_met_again_changes_nothing(table):
    encoder = fitted(table)
    longer = table.assign(note=[f"{note} unheard of" for note in table["note"]])

    assert encoder.transform(longer) == encoder.transform(table)


# Topics


@pytest.mark.parametrize("columns", ["index", "none"])
def test_new_notes_are_written_like_those_of_their_topic(table, columns):
    rng = np.random.RandomState(1)
    topics = rng.choice(list(TOPICS), 200)
    encoder = RowEncoder(columns=columns, **CODES).fit(table)
    first = int(columns == "index")

    def written(texts):
        prompts = encoder.transform(pd.DataFrame({"note": texts, "hour": 1.0}))
        rows = [prompt.split(" ")[first : first + 2] for prompt in prompts]
        return np.array(rows, dtype=float)

    known, new = written(table["note"]), written(notes(rng, topics))

    distance = np.abs(new[:, None] - known).sum(axis=2)
    nearest = np.tile(list(TOPICS), 30)[distance.argmin(axis=1)]
    assert (nearest == topics).mean() > 0.9


def test_the_axes_do_not_depend_on_the_order_of_the_rows(table):
    order = np.random.RandomState(0).permutation(len(table))

    assert fitted(table.iloc[order]).transform(table) == fitted(table).transform(table)


def test_a_weight_is_a_repetition_of_a_text(table):
    weight = np.random.RandomState(0).randint(1, 3, len(table))
    repeated = fitted(table.iloc[np.repeat(np.arange(len(table)), weight)])
    encoder = RowEncoder(columns="index", **CODES)

    for scale in (1, 0.1, 1000):
        weighted = encoder.fit(table, sample_weight=scale * weight)
        assert weighted.transform(table) == repeated.transform(table)


def test_a_text_is_written_by_itself_alone(table):
    encoder = fitted(table)

    alone = [encoder.transform(table[i : i + 1])[0] for i in range(len(table))]

    assert alone == encoder.transform(table)


def test_there_are_no_more_axes_than_texts_differ_in():
    texts = [f"{a} {b}" for a in ("red", "green") for b in ("tea", "cup", "pot")] * 2
    table = pd.DataFrame({"note": [f"{text} {i}th" for i, text in enumerate(texts)]})

    # Which of two words, and which of three.
    prompts = fitted(table, text_topics=8).transform(table)
    assert {len(prompt.split(" ")) for prompt in prompts} == {1 + (1 + 2) + 1}


@pytest.mark.parametrize("n_topics", [1, 2, 8, 500])
def test_there_are_as_many_numbers_as_topics_at_the_most(table, n_topics):
    encoder = fitted(table, text_topics=n_topics)

    counts = {
        len(prompt.split(" x1 ")[0].split(" ")) for prompt in encoder.transform(table)
    }

    assert len(counts) == 1
    assert 1 < max(counts) <= n_topics + 1


def test_each_column_of_text_has_topics_of_its_own(table):
    both = table.assign(more=notes(np.random.RandomState(3), ["sea", "farm"] * 45))
    changed = both.assign(more=both["more"][::-1].to_numpy())

    first, second = fitted(both).transform(both), fitted(changed).transform(changed)

    assert [p.split(" x1 ")[0] for p in first] == [p.split(" x1 ")[0] for p in second]
    assert first != second


def test_topics_of_a_thousand_long_texts_keep_the_frequent_words():
    rng = np.random.RandomState(0)
    texts = [" ".join(rng.zipf(1.3, 60).clip(max=9999).astype(str)) for _ in range(300)]

    topics = learn_topics(texts, np.ones(300), 8)

    assert len(topics.words) <= 1024
    assert topics.words[0] == "1"
    assert topics.axes.shape == (len(topics.words), 8)


# What is not known


@pytest.mark.parametrize(
    ("columns", "unknown"), [("index", "x0 c?"), ("none", "c? c? c? c?")]
)
def test_a_text_without_a_known_word_is_written_as_a_level_that_is_new(
    table, columns, unknown
):
    encoder = RowEncoder(columns=columns, **CODES).fit(table)
    new = table[:3].assign(note=["unheard of", table["note"][1], "..."])

    prompts = encoder.transform(new)

    assert [prompt.startswith(f"{unknown} ") for prompt in prompts] == [1, 0, 1]


def test_a_missing_text_stays_missing(table):
    gaps = table.assign(note=table["note"].where(np.arange(90) % 3 > 0))

    prompts = fitted(gaps).transform(gaps)
    again = fitted(gaps).augment(gaps, np.random.RandomState(0))

    for i in range(90):
        assert prompts[i].startswith("x1" if i % 3 == 0 else "x0")
        assert again[i].startswith("x1" if i % 3 == 0 else "x0")


def test_texts_that_are_all_new_are_warned_of(table):
    encoder = fitted(table)
    new = table.assign(note="unheard of")

    with pytest.warns(UserWarning, match="No cell of column 'note' has a word that"):
        encoder.transform(new)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.transform(pd.concat([new, table[:1]]))


@pytest.mark.parametrize(
    "texts",
    [
        [f"id{i}" for i in range(30)],
        [f"no {i} of many" for i in range(100, 130)],
        [f"only{i} these{i}" for i in range(28)] + ["two alike", "alike two!"],
        [f"{'?' * i}!" for i in range(30)],
    ],
    ids=["numbered", "one phrase", "two alike", "no words"],
)
def test_texts_whose_words_tell_nothing_are_written_as_they_stand(texts):
    table = pd.DataFrame({"note": texts})

    assert [f"x0 {text} y?" for text in texts] == fitted(table).transform(table)


# Training


def test_words_are_left_out_of_the_topics_in_training(table):
    encoder = fitted(table, word_dropout=0.3)
    rng = np.random.RandomState(0)

    afresh = [positions(encoder.augment(table, rng)) for _ in range(20)]

    as_it_is = positions(encoder.transform(table))
    assert np.std(afresh, axis=0).mean() > 1
    np.testing.assert_allclose(np.mean(afresh, axis=0), as_it_is, atol=25)


def test_a_text_keeps_a_word_of_its_topics():
    table = pd.DataFrame(
        {"note": ["ebb", "flow", "ebb!", "flow!", "ebb?", "flow?"] * 3}
    )
    table["note"] += [f" {i}th" for i in range(18)]
    encoder = fitted(table, word_dropout=0.99)

    assert encoder.augment(table, np.random.RandomState(0)) == encoder.transform(table)


def test_topics_are_jittered_like_numbers(table):
    encoder = fitted(table, jitter=0.2)
    as_it_is = positions(encoder.transform(table))

    afresh = positions(encoder.augment(table, np.random.RandomState(0)))
    first, second, third = (positions(w) for w in encoder.reword(table, 3))

    noise = afresh - as_it_is
    np.testing.assert_allclose(noise.std(axis=0) / as_it_is.std(axis=0), 0.2, atol=0.08)
    np.testing.assert_array_equal(first, as_it_is)
    within = ((second > 0) & (second < 99) & (third > 0) & (third < 99)).all(axis=1)
    assert np.abs(second + third - 2 * first)[within].max() <= 2


# Where texts are written so


def test_texts_can_not_pose_as_codes_among_topics(table):
    posing = table.assign(note=[f"{note} x1 99 c7 y? y?" for note in table["note"]])

    for prompt in fitted(posing).transform(posing):
        assert prompt.count("x1") == prompt.count("y?") == 1
        assert "c7" not in prompt


def test_text_stands_as_it_is_unless_topics_are_asked_for(table):
    for wording in ({"columns": "index"}, {"columns": "names"}):
        [prompt] = RowEncoder(question="?", **wording).fit(table).transform(table[:1])
        assert table["note"][0] in prompt

    asked = RowEncoder(columns="names", text_topics=2, numbers="scaled", question="?")
    assert table["note"][0] not in asked.fit(table).transform(table)[0]


def tuned(encoder, table):
    tuner = FineTuner(max_steps=2, n_models=1)
    answers = np.tile(list(TOPICS), 30)
    return LIFTClassifier(encoder=encoder, finetuner=tuner, random_state=0).fit(
        table, answers
    )


@pytest.fixture(scope="module")
def classifier(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # long texts are not cut
        return tuned(None, table.assign(note=table["note"] * 2))


def test_the_embedded_model_reads_words(classifier, table):
    [prompt] = classifier.encoder_.transform(table[:1])

    assert classifier.encoder_.text_topics_ == 8
    assert positions([prompt], n_topics=8).shape == (1, 8)


@pytest.mark.filterwarnings("ignore:Column 'note' holds texts")
@pytest.mark.parametrize(
    "encoder", [RowEncoder(columns="names"), RowEncoder(text_topics=None)]
)
def test_the_embedded_model_reads_text_as_it_stands_where_asked(encoder, table):
    encoder = tuned(encoder, table).encoder_

    assert encoder.text_topics_ is None
    assert table["note"][0][:20] in encoder.transform(table)[0]


def test_topics_come_back_from_a_folder_and_a_pickle(classifier, table, tmp_path):
    classifier.save(tmp_path / "saved")

    for again in (
        liftlearn.load(tmp_path / "saved"),
        pickle.loads(pickle.dumps(classifier)),
    ):
        assert again.encoder_.transform(table) == classifier.encoder_.transform(table)
        np.testing.assert_array_equal(
            again.predict_proba(table), classifier.predict_proba(table)
        )


def without_model(classifier):
    """Return a copy as a state file has it."""
    made_up = copy.deepcopy(classifier)
    del made_up.language_model_
    check_learnt(made_up)
    return made_up


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("words", ["sea"]),
        ("words", None),
        ("rarity", np.ones((3, 3))),
        ("axes", np.ones((2, 8))),
        ("axes", np.full((1, 1), np.nan)),
        ("centre", np.full(8, np.inf)),
        ("centre", np.zeros(0)),
        ("centre", np.zeros(7)),
        ("axis", 1),
    ],
)
def test_topics_that_do_not_fit_together_are_not_let_out_of_a_file(
    classifier, name, value
):
    made_up = without_model(classifier)
    vars(made_up.encoder_._writers[0].topics)[name] = value

    with pytest.raises((ValueError, TypeError), match=r"topics"):
        check_learnt(made_up)


def test_as_many_axes_are_written_as_there_are(classifier):
    for change in (list.pop, lambda axes: vars(axes[3]).update(digits=10**9)):
        made_up = without_model(classifier)
        change(made_up.encoder_._writers[0].axes)

        with pytest.raises(ValueError, match=r"writes (7 topics|.*digits)"):
            check_learnt(made_up)


@pytest.mark.parametrize("n_topics", [0, -1, 2.5, "many"])
def test_a_count_of_topics_that_is_none_is_refused(table, n_topics):
    with pytest.raises(ValueError, match="'text_topics' parameter of RowEncoder"):
        fitted(table, text_topics=n_topics)
