"""95 % intervals of means and shares, as tuples (value, low, high)."""

from math import sqrt

# Student's t at 0.975 for 1 to 11 degrees of freedom. Beyond them the normal distribution is close
# enough.
T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201]


def mean(values):
    return sum(values) / len(values)


def mean_interval(values):
    """Returns the mean and its interval by Student's t; a single value has no interval."""
    n, m = len(values), mean(values)
    if n < 2:
        return m, None, None
    half = (T[n - 2] if n - 2 < len(T) else 1.96) * sqrt(sum((v - m) ** 2 for v in values) / (n - 1) / n)
    return m, m - half, m + half


def wilson(p, n):
    """Returns Wilson's interval of a share `p` of `n`, which need not be an integer. The interval
    stays within 0 and 1."""
    z = 1.96
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def share_interval(count, n):
    """Returns the share `count / n` and its interval by Wilson."""
    return wilson(count / n, n) if n else (0.0, None, None)


def effective_questions(interval):
    """Returns the number of questions, answered once each, whose share would have an interval of
    this width."""
    p, low, high = interval
    return p * (1 - p) * (2 * 1.96 / (high - low)) ** 2


def seed_mean_interval(shares, questions):
    """Returns the mean of the seeds' shares and its interval: Wilson's, for the number of questions
    that would vary as much as the seeds do by Student's t. That number is at most `questions`, the
    effective number of one seed: all seeds answer the same questions, so more seeds say no more
    about the choice of questions. Where all seeds agree (the base model, greedy), the questions
    alone give the interval."""
    p, low, high = mean_interval(shares)
    half = 0.0 if low is None else (high - low) / 2
    return wilson(p, min(questions, p * (1 - p) * (1.96 / half) ** 2) if half and 0 < p < 1 else questions)


def text(interval, digits=3, sign=False):
    """Formats a value with its interval: `0.921 (0.907 to 0.933)`."""
    value, low, high = interval
    form = f"{'+' if sign else ''}.{digits}f"
    formatted = format(value, form)
    return formatted if low is None else f"{formatted} ({low:{form}} to {high:{form}})"
