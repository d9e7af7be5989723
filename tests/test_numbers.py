import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liftlearn._numbers import (
    fit_scale,
    fixed_digits,
    row_shapes,
    write_codes,
    write_plain,
    write_scaled,
)

fast = settings(max_examples=50)
floats = st.floats(allow_nan=False, allow_infinity=False)
columns = st.lists(floats, min_size=1, max_size=20).map(np.array)
by_spacing = pytest.mark.parametrize("spacing", ["zscore", "quantile", "mixed", "rank"])


@fast
@given(number=st.floats(-1e308, 1e308), digits=st.integers(1, 17))
def test_a_plain_number_reads_back_to_its_significant_digits(number, digits):
    [text] = write_plain(np.array([number]), digits)

    error = abs(float(text) - number)
    assert error <= 0.51 * 10.0 ** (1 - digits) * abs(number) + 5e-324


@fast
@given(number=st.floats(1e-6, 1e15, exclude_max=True), digits=st.integers(1, 17))
def test_a_number_of_ordinary_size_is_written_without_exponent(number, digits):
    texts = write_plain(np.array([number, -number]), digits)

    assert not any("e" in text for text in texts)
    assert texts[1] == "-" + texts[0]


def test_zero_has_no_sign():
    assert write_plain(np.array([0.0, -0.0]), 3) == ["0", "0"]


@pytest.mark.parametrize("digits", [1, 2, 3, 4])
def test_scaled_digits_are_the_positions_leading_decimals(digits):
    positions = np.random.RandomState(0).uniform(size=200)

    texts = write_scaled(positions, digits)

    read = np.array([int(text.replace(" ", "")) for text in texts])
    np.testing.assert_array_equal(read, np.floor(positions * 10**digits))
    assert {len(text.replace(" ", "")) for text in texts} == {digits}


def test_a_position_beyond_the_scale_is_written_as_its_end():
    assert write_scaled(np.array([-3.0, 1.5]), 2) == ["00", "99"]


def test_numbers_of_fixed_digits_are_all_different():
    assert len(set(fixed_digits(3))) == 1000


@pytest.mark.parametrize("n_codes", [1, 5, 6, 25, 26, 126])
def test_codes_differ_and_none_begins_another(n_codes):
    codes = [c.split(" ") for c in write_codes(range(n_codes), n_codes, "c", base=5)]

    assert len({tuple(words) for words in codes}) == n_codes
    assert len({len(words) for words in codes}) == 1
    assert {word for words in codes for word in words} <= {f"c{i}" for i in range(5)}


@by_spacing
@fast
@given(numbers=columns)
def test_positions_rise_with_the_numbers_and_stay_on_the_scale(spacing, numbers):
    scale = fit_scale(numbers, np.ones(len(numbers)), spacing)

    positions = scale.position(np.sort(numbers))

    assert np.all(np.diff(positions) >= 0)
    assert np.all((positions >= 0) & (positions <= 1))


@by_spacing
@fast
@given(numbers=columns, data=st.data())
def test_a_weight_is_a_number_of_repetitions(spacing, numbers, data):
    counts = data.draw(
        st.lists(st.integers(1, 4), min_size=len(numbers), max_size=len(numbers))
    )

    weighted = fit_scale(numbers, np.array(counts, float), spacing)
    repeated = np.repeat(numbers, counts)
    expected = fit_scale(repeated, np.ones(len(repeated)), spacing)

    np.testing.assert_allclose(
        weighted.position(numbers), expected.position(numbers), atol=1e-9
    )


@by_spacing
def test_a_scale_does_not_depend_on_the_unit(spacing):
    numbers = np.random.RandomState(0).lognormal(size=50)

    scale = fit_scale(numbers, np.ones(50), spacing)

    for unit in (1e-290, 1e290):
        other = fit_scale(numbers * unit, np.ones(50), spacing)
        np.testing.assert_allclose(
            other.position(numbers * unit), scale.position(numbers), rtol=1e-9
        )


@by_spacing
def test_a_constant_column_lies_in_the_middle(spacing):
    scale = fit_scale(np.full(3, 7.0), np.ones(3), spacing)

    np.testing.assert_array_equal(scale.position([7.0, -1.0, 9.0]), [0.5, 0.5, 0.5])


def test_zscore_positions_are_linear_within_four_standard_deviations():
    numbers = np.array([-1.0, 1.0])  # mean 0, standard deviation 1

    scale = fit_scale(numbers, np.ones(2), "zscore")

    np.testing.assert_allclose(
        scale.position([-9.0, -4.0, 0.0, 2.0, 4.0]), [0.0, 0.0, 0.5, 0.75, 1.0]
    )


def test_quantile_positions_are_the_share_of_rows_below():
    numbers = np.random.RandomState(0).lognormal(size=5000)

    scale = fit_scale(numbers, np.ones(5000), "quantile")

    share = [np.mean(numbers < level) for level in numbers]
    np.testing.assert_allclose(scale.position(numbers), share, atol=0.006)


def test_a_number_is_found_again_from_its_position():
    numbers = np.random.RandomState(0).normal(size=40)
    scale = fit_scale(numbers, np.ones(40), "mixed")

    np.testing.assert_allclose(scale.number(scale.position(numbers)), numbers)


def test_a_missing_number_has_no_position():
    scale = fit_scale(np.arange(5.0), np.ones(5), "mixed")

    assert np.isnan(scale.position([np.nan])).all()


def test_the_level_and_size_of_a_row_do_not_move_its_positions():
    rows = np.random.RandomState(0).normal(size=(5, 12))

    moved, level, size = row_shapes(1000 + 1e4 * rows)

    positions, median, deviation = row_shapes(rows)
    np.testing.assert_allclose(moved, positions, rtol=1e-9)
    np.testing.assert_allclose(level, 1000 + 1e4 * median)
    np.testing.assert_allclose(size, 1e4 * deviation)


def test_a_constant_row_lies_in_the_middle_and_a_missing_one_nowhere():
    rows = np.array([[3.0, 3.0], [np.nan, np.nan], [np.nan, 1e308]])

    positions, median, deviation = row_shapes(rows)

    np.testing.assert_array_equal(
        positions, [[0.5, 0.5], [np.nan, np.nan], [np.nan, 0.5]]
    )
    np.testing.assert_array_equal(median, [3.0, np.nan, 1e308])
    np.testing.assert_array_equal(deviation, [0.0, np.nan, 0.0])
