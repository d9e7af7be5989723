"""Distributions over numbers, against integrals by brute force on a fine mesh."""

import numpy as np
import pytest
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
    density = np.array([
        np.exp(distribution.log_density(np.full(len(distribution), number)))
        for number in edges[:-1] + np.diff(edges) / 2
    ]).T.repeat(60, axis=1)  # fmt: skip
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
    np.testing.assert_array_equal(distribution.median, distribution.quantile(0.5))


def test_quantiles_are_the_inverse_of_the_distribution_function(distribution):
    shares = np.linspace(0.001, 0.999, 50)
    numbers = distribution.quantile(shares)

    inner = (numbers > distribution.low) & (numbers < distribution.high)
    back = np.column_stack([distribution.cdf(column) for column in numbers.T])

    assert numbers.shape == (6, 50)
    assert np.all(np.diff(numbers, axis=1) >= 0)
    expected = np.broadcast_to(shares, back.shape)
    np.testing.assert_allclose(back[inner], expected[inner], atol=1e-9)
    np.testing.assert_allclose(
        distribution.interval(0.8), distribution.quantile([0.1, 0.9]), rtol=1e-9
    )


def test_the_crps_is_the_integral_of_the_squared_distance_of_two_functions(
    distribution,
):
    range_ = distribution.edges[-1] - distribution.edges[0]
    middle, width, _ = mesh(distribution)
    cdf = np.column_stack([
        distribution.cdf(np.full(6, number)) for number in middle
    ])  # fmt: skip
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

    np.testing.assert_array_equal(distribution.log_density(outside), -np.inf)
    np.testing.assert_allclose(distribution.cdf(outside), [0] * 3 + [1] * 3, atol=1e-12)


def test_a_constant_is_certain():
    decoder = NumberDecoder(grid="scaled").fit([3.0, 3.0])

    one = decoder.predict_distribution(ScoresByPrompt([[0.0]]), ["0"])

    assert one.mean == one.median == one.quantile(0.9) == 3.0
    assert one.std == 0.0
    np.testing.assert_array_equal(one.crps([5.0]), [2.0])
    np.testing.assert_array_equal(one.sample(2), [[3.0, 3.0]])
    np.testing.assert_array_equal(one.log_density([3.0]), [np.inf])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.quantile([0.5, 1.5]), r"share is in \[0, 1\], got \[0.5, 1.5\]"),
        (lambda d: d.quantile(np.nan), "NaN"),
        (lambda d: d.crps([1.0]), r"each of the 6 rows, got an array of shape \(1,\)"),
        (lambda d: d.cdf(1.0), "each of the 6 rows"),
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
