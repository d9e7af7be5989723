"""Distributions over numbers, against integrals by brute force on a fine mesh."""

import pickle

import numpy as np
import pytest
from scipy.stats import norm, uniform
from tiny import ScoresByPrompt

from liftlearn import NumberDecoder, NumberDistribution

RANDOM = np.random.RandomState(0)
TARGETS = {
    "even": RANDOM.normal(50, 20, 80),
    "skewed": np.exp(1.5 * RANDOM.normal(size=80)),
    "counts": RANDOM.poisson(3, 80).astype(float),
    "huge": 1e60 * RANDOM.normal(size=80),
}


@pytest.fixture(params=TARGETS)
def target(request):
    return TARGETS[request.param]


@pytest.fixture(params=[("scaled", "uniform"), ("scaled", "mixed"), ("plain", "auto")])
def decoder(request, target):
    grid, spacing = request.param
    return NumberDecoder(grid=grid, spacing=spacing).fit(target)


@pytest.fixture
def distribution(decoder):
    n_answers = len(decoder.answers_.texts)
    scores = np.random.RandomState(1).normal(0, 3, (6, n_answers))
    scores[0] = -2000.0
    scores[0, n_answers // 3] = 0.0  # one number is certain
    return decoder.predict_distribution(ScoresByPrompt(scores), [*"012345"])


def mesh(distribution):
    """Return numbers that cut each piece into 60, their middles, and densities."""
    edges = distribution.edges
    step = np.linspace(0, 1, 60, endpoint=False)
    numbers = (edges[:-1, None] + np.diff(edges)[:, None] * step).ravel()
    middle = (numbers + np.append(numbers[1:], edges[-1])) / 2
    width = np.append(numbers[1:], edges[-1]) - numbers
    density = distribution.pdf((edges[:-1] + np.diff(edges) / 2)[:, None]).T
    density = density.repeat(60, axis=1)
    return middle, width, density


def test_densities_integrate_to_1(distribution):
    _, width, density = mesh(distribution)

    np.testing.assert_allclose(density @ width, 1.0, atol=1e-9)


def test_moments_are_those_of_the_density(distribution):
    middle, width, density = mesh(distribution)
    range_ = distribution.edges[-1] - distribution.edges[0]
    share = density * width
    mean = share @ (middle / range_)
    square = (middle / range_ - mean[:, None]) ** 2

    np.testing.assert_allclose(distribution.mean / range_, mean, atol=1e-5)
    deviation = np.sqrt((share * square).sum(axis=1))
    np.testing.assert_allclose(distribution.std / range_, deviation, atol=1e-4)
    np.testing.assert_array_equal(distribution.median, distribution.ppf(0.5))


def test_quantiles_are_the_inverse_of_the_distribution_function(distribution):
    shares = np.linspace(0.001, 0.999, 50)
    numbers = distribution.ppf(shares[:, None])

    inner = (numbers > distribution.low) & (numbers < distribution.high)
    back = distribution.cdf(numbers)

    assert numbers.shape == (50, 6)
    assert np.all(np.diff(numbers, axis=0) >= 0)
    expected = np.broadcast_to(shares[:, None], back.shape)
    np.testing.assert_allclose(back[inner], expected[inner], atol=1e-9)
    np.testing.assert_allclose(
        distribution.interval(0.8), distribution.ppf([[0.1], [0.9]]), rtol=1e-9
    )


def test_questions_broadcast_against_the_rows_as_scipys_frozen_distributions_do(
    distribution,
):
    frozen = norm(loc=np.zeros(6))
    shares = [0.3, np.full(6, 0.3), np.full((4, 1), 0.3), np.full((2, 4, 6), 0.3)]

    for method in ("cdf", "pdf", "logpdf", "ppf"):
        for share in shares:
            found = getattr(distribution, method)(share)
            assert found.shape == getattr(frozen, method)(share).shape
            np.testing.assert_array_equal(
                found,
                np.broadcast_to(getattr(distribution, method)(0.3), found.shape),
            )
    assert np.shape(distribution.interval(0.8)) == np.shape(frozen.interval(0.8))
    assert distribution[2].ppf([0.1, 0.5, 0.9]).shape == (3,)  # as one row alone does


@pytest.mark.parametrize("i", [0, 3, -1])
def test_a_row_as_scipys_distribution_is_the_same(distribution, i):
    row, unit = distribution[i], distribution.edges[-1] - distribution.edges[0]
    found = pickle.loads(pickle.dumps(distribution.to_scipy(i)))
    edges = distribution.edges
    numbers = np.concatenate([edges, edges[:-1] + 0.3 * np.diff(edges)])
    numbers = np.append(numbers, [edges[0] - unit, edges[-1] + unit])
    shares = np.linspace(0, 1, 101)

    for method, given in (("cdf", numbers), ("pdf", numbers), ("ppf", shares)):
        expected, own = getattr(row, method)(given), getattr(found, method)(given)
        np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(found.logpdf(numbers), row.logpdf(numbers), rtol=1e-9)
    np.testing.assert_allclose(found.interval(0.8), np.ravel(row.interval(0.8)))
    for moment in ("mean", "median", "std"):
        expected = getattr(row, moment)[0]
        assert getattr(found, moment)() == pytest.approx(expected, rel=1e-9)
    drawn = found.rvs(100, random_state=0)
    assert np.all((drawn >= row.low) & (drawn <= row.high))


def test_higher_moments_and_entropy_of_scipys_distribution_are_exact():
    even = NumberDistribution(np.array([1.0, 2.0, 5.0]), np.log([[0.25, 0.75]]), 1, 5)

    found = even.to_scipy(0)

    expected = uniform(1, 4)
    np.testing.assert_allclose(found.stats("mvsk"), expected.stats("mvsk"), atol=1e-12)
    assert found.moment(5) == pytest.approx(expected.moment(5), rel=1e-12)
    assert found.entropy() == pytest.approx(expected.entropy(), rel=1e-12)
    assert found.sf(2.0) == pytest.approx(0.75, rel=1e-12)


def test_the_crps_is_the_integral_of_the_squared_distance_of_two_functions(
    distribution,
):
    range_ = distribution.edges[-1] - distribution.edges[0]
    middle, width, _ = mesh(distribution)
    cdf = distribution.cdf(middle[:, None]).T
    inside = distribution.edges[0] + range_ * np.array([0.01, 0.2, 0.4, 0.5, 0.8, 1.0])

    score = distribution.crps(inside)

    squared = (cdf - (middle >= inside[:, None])) ** 2
    error = score / range_ - squared @ (width / range_)
    assert np.all(np.abs(error) <= width.max() / range_)  # the cell in which y lies
    # Beyond the range each unit of distance costs one.
    ends = distribution.crps(np.full(6, distribution.edges[-1]))
    beyond = distribution.crps(np.full(6, distribution.edges[-1] + range_))
    np.testing.assert_allclose((beyond - ends) / range_, 1.0, atol=1e-9)


def test_samples_have_the_distribution(distribution):
    samples = distribution.sample(4000, random_state=0)
    shares = np.column_stack([distribution.cdf(column) for column in samples.T])

    assert samples.shape == (6, 4000)
    assert np.all((samples >= distribution.low) & (samples <= distribution.high))
    # Kolmogorov and Smirnov's distance of 4,000 draws is greater in one of 10,000.
    inner = (samples > distribution.low) & (samples < distribution.high)
    for own, is_inner in zip(shares, inner, strict=True):
        distance = np.abs(np.sort(own) - np.arange(1, 4001) / 4000)
        assert np.all(distance[np.sort(own).searchsorted(own[is_inner])] < 0.036)
    again = distribution.sample(4000, random_state=0)
    np.testing.assert_array_equal(samples, again)


def test_temperature_sharpens_and_flattens_densities():
    distribution = NumberDistribution(
        np.array([0.0, 1.0, 3.0]), np.log([[0.5, 0.5]]), low=0.0, high=3.0
    )

    def share_below_1(temperature):
        drawn = distribution.sample(20000, temperature=temperature, random_state=1)
        return (drawn < 1).mean()

    # Densities are 0.5 and 0.25; their powers, times widths 1 and 2, are the shares.
    assert share_below_1(1.0) == pytest.approx(1 / 2, abs=0.02)
    assert share_below_1(0.5) == pytest.approx(4 / 6, abs=0.02)
    assert share_below_1(0.01) == pytest.approx(1.0, abs=0.001)
    assert share_below_1(1e9) == pytest.approx(1 / 3, abs=0.02)


def test_numbers_beyond_the_range_have_no_density(distribution):
    outside = np.full(6, distribution.edges[0] - 1e-3 * abs(distribution.edges[0]))
    outside[3:] = distribution.edges[-1] + 1e-3 * abs(distribution.edges[-1])

    np.testing.assert_array_equal(distribution.logpdf(outside), -np.inf)
    np.testing.assert_allclose(distribution.cdf(outside), [0] * 3 + [1] * 3, atol=1e-12)


def test_a_constant_is_certain():
    decoder = NumberDecoder(grid="scaled").fit([3.0, 3.0])

    one = decoder.predict_distribution(ScoresByPrompt([[0.0]]), ["0"])

    assert one.mean == one.median == one.ppf(0.9) == 3.0
    assert one.std == 0.0
    np.testing.assert_array_equal(one.crps([5.0]), [2.0])
    np.testing.assert_array_equal(one.sample(2), [[3.0, 3.0]])
    np.testing.assert_array_equal(one.logpdf([3.0]), [np.inf])
    assert one.to_scipy(0).ppf(0.2) == one.to_scipy(0).mean() == 3.0
    assert one.to_scipy(0).std() == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.ppf([0.5, 1.5]), r"as q shares in \[0, 1\], got \[0.5, 1.5\]"),
        (lambda d: d.ppf(np.nan), "NaN"),
        (lambda d: d.ppf([0.1, 0.5]), r"one for each of the 6 rows.*reshape\(q"),
        (lambda d: d.crps([1.0]), r"each of the 6 rows, got an array of shape \(1,\)"),
        (lambda d: d.cdf([1.0, 2.0]), "each of the 6 rows"),
        (lambda d: d.to_scipy(6), "there are 6 rows, got 6. Give one from 0 to 5"),
        (lambda d: d.to_scipy(1.5), "whole number.* got 1.5"),
        (lambda d: d.sample(temperature=0), "positive number, got 0"),
    ],
)
def test_a_wrong_question_is_told_so(call, message):
    decoder = NumberDecoder(grid="plain").fit([1.0, 2.0, 3.0])
    scores = np.zeros((6, len(decoder.answers_.texts)))
    distribution = decoder.predict_distribution(ScoresByPrompt(scores), [*"012345"])

    with pytest.raises(ValueError, match=message):
        call(distribution)


def test_some_rows_are_distributions_of_these_rows():
    rng = np.random.default_rng(0)
    mass = rng.dirichlet(np.ones(5), size=4)
    whole = NumberDistribution(np.arange(6.0), np.log(mass), 0.0, 5.0)

    for rows in (slice(1, 3), [2, 0], np.array([True, False, False, True])):
        np.testing.assert_array_equal(whole[rows].mean, whole.mean[rows])
    assert len(whole[-1]) == 1
    assert whole[-1].median == whole.median[-1]
    assert repr(whole[:2]) == "NumberDistribution(2 rows, from 0 to 5)"
