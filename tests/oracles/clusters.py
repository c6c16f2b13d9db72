"""Freezes the sizes of clusters of questions by NLTK and scikit-learn.

    python tests/oracles/clusters.py     (writes tests/oracles/clusters.jsonl)

1,000 groups of 1 to 256 questions: near duplicates, duplicates, empty strings, single words, Unicode,
many equal distances. The first line of the file lists the words (the parts between single spaces),
the second the questions with one character per word (U+0030 is word 0), and each other line is a
group: the numbers of its questions and the sizes of their clusters.
"""

import argparse
import json
import random
import warnings
from collections import Counter

import numpy as np
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from sklearn.cluster import AgglomerativeClustering

warnings.filterwarnings("ignore")
SMOOTH = SmoothingFunction().method1
NOUNS = "dots balls cars people trees windows triangles red squares books cups chairs birds 苹果 café ñandú Straße".split()
PLACES = "on the table|in the image|on the left|behind the house|in the top right corner|under the bridge|next to it".split("|")
TEMPLATES = [
    "How many {n} are there {p}?", "How many {n} are {p}?", "What is the color of the {n} {p}?", "Are there more {n} than {m} {p}?",
    "What is the total number of {n} and {m} {p}?", "Which is larger: {n} or {m}?", "If two {n} are removed, how many {n} are left {p}?",
    "{n}", "{n} {m}", "", "the the the the", "a b c d e f", "a b c d e g", "a b c d f e", "What is x?", "What is y?", "\u00a0{n}\u2003{m}\t?", "図の中の {n} はいくつ ありますか ?",
    "Estimate the ratio of the height of the {n} to the height of the {m} {p}, to two decimals.",
]


def question(r, templates):
    """Generates a question, sometimes with shuffled or replaced words."""
    text = r.choice(templates).format(n=r.choice(NOUNS), m=r.choice(NOUNS), p=r.choice(PLACES))
    if r.random() < 0.15:
        words = text.split()
        r.shuffle(words)
        text = " ".join(words)
    if r.random() < 0.2:
        words = text.split()
        if words:
            words[r.randrange(len(words))] = r.choice(NOUNS + ["the", "of", "?"])
        text = " ".join(words)
    return text


def group(r, size):
    """Generates the questions of a group in one of several styles."""
    style = r.random()
    if style < 0.1:
        return [r.choice(["", "", "dots", "red", "a b"]) for _ in range(size)]
    if style < 0.25:
        # Few words in few positions: very many equal distances.
        return [" ".join(r.choice("ab") for _ in range(r.choice([4, 5, 5, 6]))) for _ in range(size)]
    if style < 0.35:
        return [" ".join(r.choice("abc") for _ in range(r.randint(1, 9))) for _ in range(size)]
    if style < 0.45:
        return [" ".join(r.choice("abcde") for _ in range(r.randint(4, 7))) for _ in range(size)]
    templates = r.sample(TEMPLATES, r.randint(1, len(TEMPLATES)))
    questions = [question(r, templates) for _ in range(size)]
    if r.random() < 0.3:
        questions = [r.choice(questions) for _ in range(size)]
    return questions


def sizes(questions):
    """Returns for each question the size of its cluster."""
    n = len(questions)
    if n == 1:
        return [1]
    words = [q.split() for q in questions]
    distance = np.zeros((n, n))
    known = {}
    for i in range(n):
        for j in range(i + 1, n):
            key = (questions[i], questions[j])
            if key not in known:
                known[key] = 1 - sentence_bleu([words[j]], words[i], smoothing_function=SMOOTH)
            distance[i, j] = distance[j, i] = known[key]
    model = AgglomerativeClustering(n_clusters=None, distance_threshold=0.5, metric="precomputed", linkage="average")
    labels = model.fit_predict(distance)
    count = Counter(labels)
    return [count[label] for label in labels]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--count", type=int, default=1000)
    options.add_argument("--out", default="tests/oracles/clusters.jsonl")
    options = options.parse_args()
    r = random.Random(options.seed)
    counts = [1, 2, 3, 8, 8, 256] + [r.choice([1, 2, 3, 4, 8, 8, 8, 8, 16, 16, 32, 64, r.randint(1, 256)]) for _ in range(options.count)]
    numbers, groups = {}, []
    for n in counts[:options.count]:
        questions = group(r, n)
        groups.append([[numbers.setdefault(q, len(numbers)) for q in questions], [int(s) for s in sizes(questions)]])
    write(options.out, list(numbers), groups)


def write(path, questions, groups):
    """Writes the questions, with words as characters, and the groups."""
    words = {}
    packed = ["".join(chr(0x30 + words.setdefault(w, len(words))) for w in q.split(" ")) for q in questions]
    with open(path, "w", encoding="utf-8") as out:
        for row in [list(words), packed, *groups]:
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
