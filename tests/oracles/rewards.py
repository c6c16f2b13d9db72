"""Freezes the Questioner's rewards of 1,000 steps under both presets, written independently from
the method's description.

    python tests/oracles/rewards.py     (writes tests/oracles/rewards.jsonl)

None of visplay's code is used: BLEU is NLTK's, the clusters are scikit-learn's, and the rewards are
the formulas below. A line is [groups, rewards under paper, rewards under released-code]; a question
is [number, valid, confidence in tenths], and a reward is in units of 1e-7. The first two lines hold
the questions as in clusters.jsonl.
"""

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import clusters as oracle  # noqa: E402

LAMBDA = 1.0


def shares(questions):
    """Returns for each question the share of the questions that are in its cluster."""
    return [size / len(questions) for size in oracle.sizes(questions)] if questions else []


def paper(groups):
    """Returns the rewards by the paper's formula."""
    out = []
    for group in groups:
        questions = [question if valid else "" for question, valid, _ in group]
        row = []
        for (_, valid, c), share in zip(group, shares(questions)):
            uncertainty = 1 - abs(2 * c - 1)
            row.append(max(0.0, uncertainty - LAMBDA * share) if valid else 0.0)
        out.append(row)
    return out


def released_code(groups):
    """Returns the rewards by the released code's formula."""
    entries = [entry for group in groups for entry in group]
    shared = iter(shares([question if valid else "" for question, valid, _ in entries]))
    return [[(min(c, 1 - c) if valid else -1) - LAMBDA * next(shared) for _, valid, c in group] for group in groups]


def step(r):
    """Generates the groups of a step: questions with validity and confidence."""
    size = r.choice([1, 2, 4, 8])
    count = r.choice([1, 1, 2, 4])
    groups = []
    for _ in range(count):
        questions = oracle.group(r, size)
        groups.append([(q, r.random() < 0.85, r.randint(0, 10) / 10) for q in questions])
    return groups


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--count", type=int, default=1000)
    options.add_argument("--out", default="tests/oracles/rewards.jsonl")
    options = options.parse_args()
    r = random.Random(options.seed)
    numbers, rows = {}, []
    for _ in range(options.count):
        groups = step(r)
        encoded = [[[numbers.setdefault(q, len(numbers)), int(v), round(10 * c)] for q, v, c in group] for group in groups]
        rounded = [[[round(x * 1e7) for x in row] for row in f(groups)] for f in (paper, released_code)]
        rows.append([encoded, *rounded])
    oracle.write(options.out, list(numbers), rows)


main()
