"""95 % intervals of means and shares."""

from math import sqrt

# Student's t at 0.975 for 1 to 11 degrees of freedom; beyond them the normal distribution is near enough for a page of figures.
T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201]


def mean(values):
    return sum(values) / len(values)


def of_mean(values):
    """The mean and its interval by Student's t; a single value has no interval."""
    n, m = len(values), mean(values)
    if n < 2:
        return m, None, None
    half = (T[n - 2] if n - 2 < len(T) else 1.96) * sqrt(sum((v - m) ** 2 for v in values) / (n - 1) / n)
    return m, m - half, m + half


def wilson(p, n):
    """Wilson's interval of a share of `n`, which need not be a whole number. It stays within 0 and 1."""
    z = 1.96
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def of_share(right, n):
    """A share and its interval by Wilson."""
    return wilson(right / n, n) if n else (0.0, None, None)


def worth(figure):
    """Of how many questions, answered once, an interval (by bootstrap) would be of that width."""
    p, low, high = figure
    return p * (1 - p) * (2 * 1.96 / (high - low)) ** 2


def of_shares(shares, questions):
    """The mean of seeds' shares and its interval: Wilson's, for as many questions as would have the spread between seeds that
    Student's t finds. They are at most `questions`, what one seed's are worth: all seeds answer the same ones, so more seeds say no
    more about which were asked, and where all seeds agree (the base, greedy) the questions alone make the interval."""
    p, low, high = of_mean(shares)
    half = 0.0 if low is None else (high - low) / 2
    return wilson(p, min(questions, p * (1 - p) * (1.96 / half) ** 2) if half and 0 < p < 1 else questions)


def text(figure, digits=3, sign=False):
    """`0.921 (0.907 to 0.933)`."""
    value, low, high = figure
    form = f"{'+' if sign else ''}.{digits}f"
    said = format(value, form)
    return said if low is None else f"{said} ({low:{form}} to {high:{form}})"
