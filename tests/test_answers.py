import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liftlearn import LabelDecoder, NumberDecoder
from liftlearn._answers import LabelAnswers, plain_grid, scaled_grid

fast = settings(max_examples=50)
labels = st.one_of(
    st.lists(st.integers(-(2**62), 2**62), min_size=1, unique=True),
    # numpy's strings drop trailing null characters.
    st.lists(st.text().filter(lambda t: t[-1:] != "\0"), min_size=1, unique=True),
    st.lists(st.booleans(), min_size=1, unique=True),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, unique=True),
)
targets = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20).map(np.array)
by_spacing = pytest.mark.parametrize("spacing", ["uniform", "quantile", "mixed"])


@pytest.fixture(params=["scaled", "plain"])
def grid_of(request):
    """Return a function from targets and bounds to a grid."""
    if request.param == "plain":
        return plain_grid
    return lambda y, low, high: scaled_grid(
        y, np.ones(len(y)), low=low, high=high, spacing="uniform"
    )


@pytest.mark.parametrize("words", ["codes", "labels"])
@fast
@given(labels=labels)
def test_a_label_is_read_as_it_was_written(words, labels):
    y = np.array(labels)
    answers = LabelAnswers(np.unique(y), words)

    indices = answers.write(y)

    np.testing.assert_array_equal(answers.classes[indices], y)
    assert len(set(answers.texts)) == len(answers.texts) == len(answers.classes)


def test_the_labels_own_words_may_begin_each_other_and_hold_separators():
    y = np.array(["1", "12", "123", "is 1. a", "x, y", "نعم"])

    answers = LabelDecoder(words="labels").fit(y).answers_

    assert answers.texts == sorted(y.tolist())


def test_many_classes_have_codes_of_two_words_that_differ():
    answers = LabelDecoder(words="codes").fit(np.arange(1000)).answers_

    assert {len(text.split()) for text in answers.texts} == {2}
    assert len(set(answers.texts)) == 1000


def test_given_words_stand_for_the_sorted_labels():
    y = ["b", "a", "b"]

    by_label = LabelDecoder(words={"b": "second", "a": "first"}).fit(y).answers_
    in_order = LabelDecoder(words=["first", "second"]).fit(y).answers_

    assert by_label.texts == in_order.texts == ["first", "second"]


@pytest.mark.parametrize(
    ("words", "error", "phrase"),
    [
        ({0: "no"}, ValueError, r"no word for \[1\]"),
        (["no"], ValueError, "1 words for 2 classes"),
        (["no", "no"], ValueError, "the same word 'no'"),
        ({0: "no", 1: 5}, TypeError, "Expected text as the word of each class, got 5"),
        ("letters", ValueError, "'words' parameter"),
    ],
)
def test_words_that_do_not_fit_the_classes_are_refused(words, error, phrase):
    with pytest.raises(error, match=phrase):
        LabelDecoder(words=words).fit([0, 1, 1])


def test_labels_of_one_text_are_refused():
    y = np.array([1, "1"], dtype=object)

    with pytest.raises(ValueError, match="the same word '1'"):
        LabelAnswers(y, "labels")


@by_spacing
@fast
@given(y=targets)
def test_a_number_lies_in_the_room_of_its_answer(spacing, y):
    grid = scaled_grid(y, np.ones(len(y)), low=None, high=None, spacing=spacing)

    indices = grid.write(y)

    start, end = grid.number_at(indices), grid.number_at(indices + 1)
    rounding = 1e-9 * (grid.high - grid.low) + 4 * np.spacing(np.abs(y).max())
    assert np.all(start - rounding <= y)
    assert np.all(y <= end + rounding)
    assert np.all((start <= grid.numbers[indices]) & (grid.numbers[indices] <= end))


@by_spacing
def test_each_answer_is_written_for_the_number_it_is_read_as(spacing):
    y = np.random.RandomState(0).lognormal(size=200)

    grid = scaled_grid(y, np.ones(200), low=0, high=None, spacing=spacing)

    np.testing.assert_array_equal(grid.write(grid.numbers), np.arange(100))


@pytest.mark.parametrize(
    ("power", "low", "spacing"),
    [
        (1.0, None, "uniform"),
        (1.0, -100.0, "mixed"),  # far too low a bound leaves the targets little room
        (12.0, None, "mixed"),
    ],
)
def test_an_even_grid_that_is_too_coarse_gives_way_to_a_mixed_one(power, low, spacing):
    y = np.linspace(0.0, 1.0, 101) ** power

    def decoder(spacing):
        return NumberDecoder(grid="scaled", low=low, spacing=spacing).fit(y)

    def numbers(spacing):
        return decoder(spacing).answers_.numbers

    assert decoder("auto").spacing_ == spacing
    np.testing.assert_array_equal(numbers("auto"), numbers(spacing))
    assert not np.allclose(numbers("uniform"), numbers("mixed"))


def test_targets_of_zero_weight_do_not_make_a_grid_coarse():
    y = np.append(np.linspace(0.0, 1.0, 10), np.zeros(30))
    weight = np.repeat([1.0, 0.0], [10, 30])

    grid = NumberDecoder(grid="scaled").fit(y, weight).answers_

    np.testing.assert_allclose(np.diff(grid.numbers), np.diff(grid.numbers)[0])


@fast
@given(y=targets)
def test_a_plain_answer_is_the_text_of_its_number(y):
    grid = plain_grid(y, low=None, high=None)

    numbers = np.array([float(text) for text in grid.texts])
    step = numbers[1] - numbers[0] if len(numbers) > 1 else grid.high - grid.low
    # An answer at the grid's very end is read as that end; six digits tell a constant.
    tolerance = max(0.51 * step, 1e-5 * abs(y[0])) if len(numbers) == 1 else 0.51 * step
    np.testing.assert_allclose(grid.numbers[grid.write(y)], y, rtol=0, atol=tolerance)
    np.testing.assert_allclose(grid.numbers, numbers, rtol=0, atol=tolerance)


@fast
@given(y=targets)
def test_plain_answers_differ_and_are_a_few_hundred(y):
    grid = plain_grid(y, low=None, high=None)

    assert len(set(grid.texts)) == len(grid.texts) <= 521
    assert all(text not in ("-0", "-0.0", "-0.00") for text in grid.texts)


def test_whole_targets_have_whole_plain_answers():
    grid = plain_grid(np.array([0.0, 3.0, 10.0]), low=None, high=None)

    assert grid.texts == [str(i) for i in range(11)]


def test_a_plain_grid_is_no_finer_than_the_floats():
    y = 1e9 + np.array([0.0, 1e-6])

    grid = plain_grid(y, low=None, high=None)

    np.testing.assert_allclose(grid.numbers[grid.write(y)], y, rtol=0, atol=2e-6)
    assert len(set(grid.texts)) == len(grid.texts)


def test_numbers_rise_and_stay_between_low_and_high(grid_of):
    y = np.array([1.25, 4.0, 7.5])

    grid = grid_of(y, low=0.5, high=8)

    assert np.all(np.diff(grid.numbers) > 0)
    assert grid.numbers.min() >= 0.5
    assert grid.numbers.max() <= 8
    assert (grid.low, grid.high) == (0.5, 8.0)


def test_a_grid_reaches_two_percent_beyond_the_targets(grid_of):
    grid = grid_of(np.array([0.5, 100.5]), low=None, high=None)

    assert (grid.low, grid.high) == (-1.5, 102.5)


def test_a_number_beyond_the_grid_is_written_as_its_end(grid_of):
    grid = grid_of(np.array([0.5, 100.5]), low=None, high=None)

    indices = grid.write(np.array([-1e9, 1e9]))

    np.testing.assert_array_equal(indices, [0, len(grid.texts) - 1])


def test_a_constant_target_has_one_answer(grid_of):
    grid = grid_of(np.array([7.0, 7.0]), low=None, high=None)

    assert len(grid.texts) == 1
    np.testing.assert_array_equal(grid.numbers[grid.write(np.array([7.0]))], [7.0])


def test_dithered_answers_are_unbiased(grid_of):
    grid = grid_of(np.array([0.5, 100.5]), low=None, high=None)
    rng = np.random.RandomState(0)
    y = np.linspace(0.5, 100.5, 23)

    written = [grid.numbers[grid.write(y, rng)] for _ in range(4000)]

    # A dither of 5 % of the grid each way has a standard deviation of 5 % / sqrt(3).
    deviation = 0.05 * (grid.high - grid.low) / np.sqrt(3)
    tolerance = 5 * deviation / np.sqrt(4000)
    np.testing.assert_allclose(np.mean(written, axis=0), y, rtol=0, atol=tolerance)


def test_one_of_many_targets_is_dithered_to_its_two_neighbours(grid_of):
    grid = grid_of(np.linspace(0.5, 100.5, 200_000), low=None, high=None)
    rng = np.random.RandomState(0)
    y = np.full(500, 33.3)

    written = set(grid.numbers[grid.write(y, rng)])

    neighbours = np.sort(np.abs(grid.numbers - 33.3))[:2]
    np.testing.assert_allclose(sorted(abs(n - 33.3) for n in written), neighbours)


@pytest.mark.parametrize(("n_targets", "reach"), [(2, 0.05), (400, 0.02)])
def test_few_targets_are_dithered_further(grid_of, n_targets, reach):
    grid = grid_of(np.linspace(0.5, 100.5, n_targets), low=None, high=None)
    rng = np.random.RandomState(0)

    written = grid.numbers[grid.write(np.full(2000, 50.5), rng)]

    length = grid.high - grid.low
    np.testing.assert_allclose(np.ptp(written) / 2, reach * length, atol=0.01 * length)


def test_a_quantile_grid_gives_equal_room_to_equally_many_targets():
    y = np.random.RandomState(0).lognormal(size=10_000)

    grid = scaled_grid(y, np.ones(10_000), low=None, high=None, spacing="quantile")

    np.testing.assert_allclose(np.bincount(grid.write(y)) / 10_000, 0.01, atol=0.002)


def test_a_targets_weight_is_a_number_of_repetitions():
    y, weight = np.array([0.0, 1.0, 5.0, 9.0]), np.array([3, 1, 4, 2])
    decoder = NumberDecoder(grid="scaled", spacing="mixed")

    weighted = decoder.fit(y, weight).answers_.numbers
    repeated = decoder.fit(np.repeat(y, weight)).answers_.numbers

    np.testing.assert_allclose(weighted, repeated, rtol=1e-9)


@pytest.mark.parametrize("bounds", [{"low": 2}, {"high": 8.5}])
def test_targets_beyond_the_bounds_are_refused(grid_of, bounds):
    y = np.array([1.0, 9.0])

    with pytest.raises(ValueError, match="The targets span 1 to 9, beyond low="):
        grid_of(y, **{"low": None, "high": None, **bounds})


def test_targets_too_far_apart_for_floats_are_refused(grid_of):
    y = np.array([-1e308, 1e308])

    with pytest.raises(ValueError, match="too far for float64 to measure"):
        grid_of(y, low=None, high=None)


@pytest.mark.parametrize(
    "parameter", [{"point": "mode"}, {"low": "0"}, {"grid": "fine"}, {"spacing": "log"}]
)
def test_a_wrong_parameter_of_the_number_decoder_is_named(parameter):
    with pytest.raises(ValueError, match=f"'{next(iter(parameter))}' parameter"):
        NumberDecoder(**parameter).fit([1.0, 2.0])
