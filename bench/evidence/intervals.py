"""95 % intervals of means."""

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


def of_share(right, n):
    """A share and its interval by Wilson."""
    if n == 0:
        return 0.0, None, None
    z, p = 1.96, right / n
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def text(figure, digits=3, sign=False):
    """`0.921 (0.907 to 0.933)`."""
    value, low, high = figure
    form = f"{'+' if sign else ''}.{digits}f"
    said = format(value, form)
    return said if low is None else f"{said} ({low:{form}} to {high:{form}})"
