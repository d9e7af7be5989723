import numpy as np
import pytest
from tiny import FixedScores, ScoresByPrompt, by_rule

from liftlearn import LabelDecoder, NumberDecoder


def log(proba):
    with np.errstate(divide="ignore"):
        return np.log(proba)


# Classes


def test_probabilities_are_the_normalised_scores():
    decoder = LabelDecoder().fit(["a", "b", "c"])
    proba = [[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]]

    decoded = decoder.predict_proba(ScoresByPrompt(log(proba)), ["0", "1", "0"])

    np.testing.assert_allclose(decoded, [proba[0], proba[1], proba[0]], rtol=1e-12)


def test_scores_that_do_not_sum_to_1_are_normalised():
    decoder = LabelDecoder().fit([0, 1])

    decoded = decoder.predict_proba(FixedScores(log([0.1, 0.3])), ["0"])

    np.testing.assert_allclose(decoded, [[0.25, 0.75]], rtol=1e-12)


@pytest.mark.parametrize("shift", [-1e5, -1000.0, 0.0, 1000.0])
def test_very_negative_scores_keep_their_ratio(shift):
    decoder = LabelDecoder().fit([0, 1, 2])
    scores = shift + np.array([0.0, np.log(3.0), -2000.0])

    decoded = decoder.predict_proba(FixedScores(scores), ["0"])

    np.testing.assert_allclose(decoded, [[0.25, 0.75, 0.0]], rtol=1e-9)


@pytest.mark.parametrize(
    ("y", "classes", "words"),
    [
        ([12, 1, 123, 1], [1, 12, 123], ["1", "12", "123"]),
        ([True, False], [False, True], ["False", "True"]),
        (["b", "a, or", "b"], ["a, or", "b"], ["a, or", "b"]),
    ],
)
def test_labels_answer_in_their_own_words(y, classes, words):
    decoder = LabelDecoder(words="labels").fit(y)

    assert decoder.classes_.tolist() == classes
    assert decoder.answers_.texts == words
    assert LabelDecoder().fit(y).answers_.texts == words


def test_codes_are_short_distinct_words():
    decoder = LabelDecoder(words="codes").fit(["rather long", "quite long", "long"])

    assert decoder.answers_.texts == ["y0", "y1", "y2"]
    many = LabelDecoder(words="codes").fit(np.arange(500)).answers_.texts
    assert len(set(many)) == 500


def test_words_can_be_given_by_label_or_in_the_order_of_the_labels():
    y = ["no", "yes", "no"]

    by_label = LabelDecoder(words={"yes": "granted", "no": "refused", "-": "?"}).fit(y)
    in_order = LabelDecoder(words=["refused", "granted"]).fit(y)
    array = LabelDecoder(words=np.array(["refused", "granted"])).fit(y)

    for decoder in (by_label, in_order, array):
        assert decoder.answers_.texts == ["refused", "granted"]
        assert decoder.answers_.write(np.array(y)).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({0: "no"}, r"no word for \[1\]"),
        (["no", "maybe", "yes"], "3 words for 2 classes"),
        (["no"], "1 words for 2 classes"),
        (["no", "no"], "same word 'no'"),
        ({0: "no", 1: "no"}, "same word 'no'"),
        ("letters", "words"),
        (3, "words"),
    ],
)
def test_words_that_do_not_fit_the_classes_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        LabelDecoder(words=words).fit([0, 1, 1])


def test_labels_of_the_same_text_are_refused():
    y = np.array([1, "1"], dtype=object)

    with pytest.raises((ValueError, TypeError)):
        LabelDecoder(words="labels").fit(y)


@pytest.mark.parametrize(("labels", "share"), [([0, 1], 1 / 2), ([0] * 4 + [1], 2 / 7)])
def test_the_temperature_divides_what_a_row_says_beyond_the_classes_shares(
    labels, share
):
    scores = FixedScores(log([[0.2, 0.8]]))

    less_sure = LabelDecoder(temperature=2.0).fit(labels)
    same = LabelDecoder().fit(labels)

    odds = np.sqrt(0.8 / 0.2 * share / (1 - share))
    np.testing.assert_allclose(
        less_sure.predict_proba(scores, ["0"]), [[1 / (1 + odds), odds / (1 + odds)]]
    )
    np.testing.assert_allclose(same.predict_proba(scores, ["0"]), [[0.2, 0.8]])
    assert (same.temperature_, less_sure.temperature_) == (1.0, 2.0)


def test_a_high_temperature_leaves_the_classes_shares_by_weight():
    labels, weight = ["a", "b", "b", "b", "c"], [20, 5, 5, 10, 0]
    scores = FixedScores(log([[0.2, 0.7, 0.1], [0.1, 0.0, 0.9]]))
    decoder = LabelDecoder(temperature=1e9).fit(labels, sample_weight=weight)

    proba = decoder.predict_proba(scores, ["0", "1"])

    # Four rows of some weight, two of them "a" by weight; and one more of each class.
    np.testing.assert_allclose(decoder.class_prior_, [3 / 7, 3 / 7, 1 / 7])
    np.testing.assert_allclose(proba, [[3 / 7, 3 / 7, 1 / 7], [3 / 4, 0, 1 / 4]])


@pytest.mark.parametrize(
    ("n_samples", "temperature"), [(10, 6.0), (50, 3.5), (370, 1.5), (19970, 1.01)]
)
def test_few_samples_make_a_model_overconfident(n_samples, temperature):
    labels, weight = [0, 1] * (n_samples // 2), np.repeat([1, 0], [n_samples, 100])

    decoder = by_rule(LabelDecoder(), "temperature").fit(labels)
    assert decoder.temperature_ == pytest.approx(temperature)

    decoder.fit(labels + [0] * 100, sample_weight=5 * weight)
    assert decoder.temperature_ == pytest.approx(temperature)


def test_the_temperature_is_fitted_to_the_least_log_loss():
    rng = np.random.RandomState(0)
    scores = log(rng.dirichlet([1, 1, 1], size=2000))
    # Labels drawn from the probabilities, which then become three times as sure.
    labels = np.array(["a", "b", "c"])[
        (np.exp(scores).cumsum(axis=1) < rng.uniform(size=(2000, 1))).sum(axis=1)
    ]
    lm, prompts = ScoresByPrompt(3 * scores), [str(i) for i in range(2000)]
    decoder = LabelDecoder().fit(labels)
    held_out = [(lm, prompts, labels, np.ones(2000))]

    assert decoder.calibrate(held_out) is decoder

    assert decoder.temperature_ == pytest.approx(3.0, rel=0.05)
    np.testing.assert_allclose(
        decoder.predict_proba(lm, prompts), np.exp(scores), atol=0.02
    )
    few = by_rule(LabelDecoder(), "temperature").fit(labels)
    assert few.calibrate(held_out).temperature_ == pytest.approx(
        decoder.temperature_, rel=0.01
    )
    given = LabelDecoder(temperature=1.5).fit(labels)
    assert given.calibrate(held_out).temperature_ == 1.5


def test_few_rows_move_the_temperature_little_and_weights_are_repetitions():
    scores = log([[0.9, 0.1], [0.2, 0.8]])
    lm, prompts = ScoresByPrompt(scores), ["0", "1"]
    labels = ["a", "a"]
    one = LabelDecoder(temperature="auto").fit(["a", "b"])
    one.calibrate([(lm, prompts, labels, [2.0, 6.0])])

    # In units of the mean weight the rows count a half and one and a half; the
    # derivative of the loss by the logarithm of the temperature is zero.
    def slope(t):
        x = np.array([np.log(9), np.log(1 / 4)]) / t  # a's log odds
        return 4 * np.log(t) + np.array([0.5, 1.5]) @ (x / (1 + np.exp(x)))

    assert one.temperature_ > 1
    assert slope(one.temperature_) == pytest.approx(0, abs=1e-3)
    twice = LabelDecoder(temperature="auto").fit(["a", "b"])
    twice.calibrate([(lm, prompts, labels, [1.0, 3.0])])
    assert twice.temperature_ == one.temperature_


def test_several_models_are_averaged_after_the_temperature():
    class Pair:
        members = (
            ScoresByPrompt(log([[0.2, 0.8]])),
            ScoresByPrompt(log([[0.6, 0.4]])),
        )

    decoder = LabelDecoder(temperature=2.0).fit([0, 1])

    softened = np.sqrt([[0.2, 0.8], [0.6, 0.4]])
    softened /= softened.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        decoder.predict_proba(Pair(), ["0"]), [softened.mean(axis=0)]
    )


def test_the_probabilities_of_several_wordings_are_averaged():
    lm = ScoresByPrompt(log([[0.2, 0.8], [0.6, 0.4], [1.0, 0.0]]))
    decoder = LabelDecoder().fit([0, 1])

    proba = decoder.predict_proba(lm, [["0", "1"], ["1", "2"]])

    np.testing.assert_allclose(proba, [[0.4, 0.6], [0.8, 0.2]], rtol=1e-12)
    even = LabelDecoder(temperature=1e9).fit([0, 1])
    proba = even.predict_proba(lm, [["0", "1"], ["1", "0"]])
    np.testing.assert_allclose(proba, 0.5, atol=1e-6)


# Numbers

FIVE = NumberDecoder(grid="plain", low=0, high=4).fit([0.0, 1.0, 2.0, 3.0, 4.0])


def predict(proba, **options):
    """Return what is predicted from probabilities of the numbers 0 to 4."""
    decoder = NumberDecoder(grid="plain", low=0, high=4, **options)
    decoder.fit([0.0, 1.0, 2.0, 3.0, 4.0])
    return decoder.predict(FixedScores(log(proba)), ["0"], return_std=True)


def test_the_plain_grid_is_the_round_numbers():
    assert FIVE.answers_.texts == ["0", "1", "2", "3", "4"]
    np.testing.assert_allclose(FIVE.answers_.numbers, [0, 1, 2, 3, 4], atol=1e-12)


@pytest.mark.parametrize(
    ("proba", "median", "mean", "std"),
    [
        # Half of the probability lies below the median; each number's is spread
        # evenly over half a unit to each side, which adds 1/12 to the variance.
        ([0.2, 0.2, 0.2, 0.2, 0.2], 2.0, 2.0, np.sqrt(2.0)),
        ([0.5, 0.5, 0.0, 0.0, 0.0], 0.5, 0.5, 0.5),
        ([0.0, 0.0, 0.0, 1.0, 0.0], 3.0, 3.0, 0.0),
        ([0.0, 0.6, 0.2, 0.2, 0.0], 0.5 + 0.5 / 0.6, 1.6, 0.8),
        ([0.9, 0.0, 0.0, 0.0, 0.1], 0.5 / 0.9 - 0.5, 0.4, 1.2),
        ([0.0, 0.0, 0.0, 0.25, 0.75], 3.5 + 0.25 / 0.75, 3.75, np.sqrt(3) / 4),
    ],
)
def test_median_mean_and_deviation_are_those_worked_out_by_hand(
    proba, median, mean, std
):
    by_median, spread = predict(proba)
    by_mean, same_spread = predict(proba, point="mean")

    np.testing.assert_allclose(by_median, [median], rtol=1e-9)
    np.testing.assert_allclose(by_mean, [mean], rtol=1e-9)
    np.testing.assert_allclose(spread, [np.hypot(std, 12**-0.5)], rtol=1e-9)
    np.testing.assert_allclose(same_spread, spread, rtol=1e-9)


def test_a_point_is_given_for_each_prompt():
    scorer = ScoresByPrompt(log(np.eye(5)))

    points = FIVE.predict(scorer, ["4", "0", "2"])

    np.testing.assert_allclose(points, [4.0, 0.0, 2.0], atol=1e-12)


def test_very_negative_scores_still_have_a_median():
    scores = -2000.0 + log([0.5, 0.5, 0.0, 0.0, 0.0])

    point, std = FIVE.predict(FixedScores(scores), ["0"], return_std=True)

    np.testing.assert_allclose([point[0], std[0]], [0.5, 3**-0.5], rtol=1e-9)


def test_the_distributions_of_several_wordings_are_averaged():
    lm = ScoresByPrompt(log(np.eye(5)))

    one = FIVE.predict_distribution(lm, [["0", "4"], ["1", "4"]])

    np.testing.assert_allclose(np.exp(one.log_mass[0]), [0.5, 0.5, 0, 0, 0])
    np.testing.assert_allclose(one.mean, [0.5, 4.0], rtol=1e-12)


@pytest.mark.parametrize("point", ["median", "mean"])
@pytest.mark.parametrize("grid", ["plain", "scaled"])
@pytest.mark.parametrize("spacing", ["uniform", "quantile", "mixed"])
@pytest.mark.parametrize(("low", "high"), [(None, None), (-0.333, 10.017)])
def test_predictions_stay_inside_the_grids_range(point, grid, spacing, low, high):
    random = np.random.RandomState(0)
    y = np.concatenate([[0.0, 9.87], random.lognormal(0, 0.7, 50).clip(0, 9)])
    decoder = NumberDecoder(point=point, low=low, high=high, grid=grid, spacing=spacing)
    decoder.fit(y)
    n_answers = len(decoder.answers_.texts)
    certain = log(np.eye(n_answers))[[0, -1]]
    scores = np.vstack([certain, random.normal(0, 30, (200, n_answers))])

    points, std = decoder.predict(
        ScoresByPrompt(scores), [str(i) for i in range(202)], return_std=True
    )

    least, greatest = decoder.answers_.low, decoder.answers_.high
    assert (least, greatest) == (
        pytest.approx(-0.02 * 9.87 if low is None else low),
        pytest.approx(1.02 * 9.87 if high is None else high),
    )
    assert np.all((least <= points) & (points <= greatest))
    assert np.all((std >= 0) & (std <= (greatest - least) / 2 + 1e-9))
    assert points[0] < points[2:].mean() < points[1]


def test_a_constant_target_is_predicted_without_doubt():
    for grid in ("plain", "scaled"):
        decoder = NumberDecoder(grid=grid).fit([7.5, 7.5])

        point, std = decoder.predict(FixedScores([0.0]), ["0"], return_std=True)

        np.testing.assert_allclose(point, [7.5], rtol=1e-12)
        np.testing.assert_allclose(std, [0.0], atol=1e-12)


def test_zero_weight_targets_have_no_say_in_the_grids_spacing():
    y = np.array([0.0, 1.0, 2.0, 3.0, 50.0, 100.0])
    weight = np.array([1.0, 2.0, 1.0, 1.0, 0.0, 1.0])
    decoder = NumberDecoder(grid="scaled", spacing="quantile")

    weighted = decoder.fit(y, weight).answers_.numbers
    repeated = decoder.fit([0.0, 1.0, 1.0, 2.0, 3.0, 100.0]).answers_.numbers

    np.testing.assert_allclose(weighted, repeated, rtol=1e-9)


@pytest.mark.parametrize("bounds", [{"low": 1.5}, {"high": 3}, {"low": 5, "high": 2}])
def test_targets_beyond_the_bounds_are_refused(bounds):
    for grid in ("plain", "scaled"):
        with pytest.raises(ValueError, match=r"beyond low=.* or high="):
            NumberDecoder(grid=grid, **bounds).fit([1.0, 2.0, 4.0])


@pytest.mark.parametrize(
    "parameter",
    [{"point": "mode"}, {"low": "zero"}, {"grid": "fine"}, {"spacing": "even"}],
)
def test_parameters_of_unknown_value_are_refused(parameter):
    (name,) = parameter

    with pytest.raises(ValueError, match=name):
        NumberDecoder(**parameter).fit([1.0, 2.0])
