#!/usr/bin/env python3
"""Benchmark of `visplay grade` and `visplay clusters` against the Python packages that they
replace.

    bench/grading.py [--program target/release/visplay] [--pairs 10000] [--questions 4096]
        [--peer-pairs 1000] [--peer-questions 256]

Prints one JSON object per measurement: seconds of the whole command (including start, reading and
printing), its peak memory, and the seconds of Python. Python gets only a part of the work, since
all of it takes many minutes; "peer_seconds_scaled" is its time extrapolated to all of it (linearly
in the number of pairs, quadratically in the number of questions). Needs mathruler, nltk,
scikit-learn.
"""

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "oracles"))
warnings.filterwarnings("ignore")


def timed(command, runs=5):
    """Returns the seconds of the fastest of some runs, and their largest peak memory in MiB."""
    fastest, peak = float("inf"), 0.0
    for _ in range(runs):
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"this command failed: {' '.join(command)}")
        fastest = min(fastest, time.perf_counter() - started)
        peak = max(peak, usage.ru_maxrss / 1024)
    return fastest, peak


def questions(count):
    """Generates questions like those of a training step: eight per image, by templates, of 6 to 20
    words."""
    import clusters

    r = random.Random(3)
    verbs = "is are shows has lies stands covers touches crosses divides".split()
    things = [a + b for a in "bar line dot tree car book red blue tall left".split() for b in ("", "s", "chart", "side", "row", "mark")]
    texts = []
    while len(texts) < count:
        base = clusters.question(r, clusters.TEMPLATES[:7] + clusters.TEMPLATES[-1:])
        for _ in range(8):
            words = base.split() + r.choices(things + verbs, k=r.randint(2, 9))
            texts.append(" ".join(words))
    return texts[:count]


def write_inputs(pair_file, pairs, question_file, count):
    """Writes the inputs of both commands."""
    import grading

    generator = grading.PairGenerator(11)
    with open(pair_file, "w", encoding="utf-8") as out:
        out.writelines(json.dumps({"given": a, "gold": b}) + "\n" for _, a, b in (generator.pair() for _ in range(pairs)))
    with open(question_file, "w", encoding="utf-8") as out:
        out.write(json.dumps({"questions": questions(count)}) + "\n")


def grade_peer(path, part):
    """Returns the seconds that mathruler takes for the first pairs, in both directions."""
    import grading

    with open(path, encoding="utf-8") as lines:
        pairs = [json.loads(line) for _, line in zip(range(part), lines)]
    started = time.perf_counter()
    for pair in pairs:
        grading.grade_pair(("", pair["given"], pair["gold"]))
    return time.perf_counter() - started


def cluster_peer(path, part):
    """Returns the seconds that NLTK and scikit-learn take for the first questions."""
    import clusters

    with open(path, encoding="utf-8") as lines:
        texts = json.loads(lines.readline())["questions"][:part]
    started = time.perf_counter()
    clusters.sizes(texts)
    return time.perf_counter() - started


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--program", default="target/release/visplay", help="the program")
    options.add_argument("--pairs", type=int, default=10000, help="number of pairs of answers")
    options.add_argument("--questions", type=int, default=4096, help="number of questions to cluster")
    options.add_argument("--peer-pairs", type=int, default=1000, help="number of pairs for Python; 0 skips it")
    options.add_argument("--peer-questions", type=int, default=256, help="number of questions for Python; 0 skips it")
    options = options.parse_args()

    # Python packages are loaded in another process: the peak memory of a child is never below that
    # of its parent at the fork.
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, spawn.Pool(1) as python:
        pair_file, question_file = os.path.join(folder, "pairs.jsonl"), os.path.join(folder, "questions.jsonl")
        python.apply(write_inputs, (pair_file, options.pairs, question_file, options.questions))
        work = [("grade", pair_file, f"grade {options.pairs} pairs in both directions", "mathruler", grade_peer, options.peer_pairs, options.pairs, 1),
                ("clusters", question_file, f"cluster {options.questions} questions", "nltk + scikit-learn", cluster_peer, options.peer_questions, options.questions, 2)]
        for command, path, name, peer, peer_run, part, total, power in work:
            ours, peak = timed([options.program, command, path])
            row = {"work": name, "seconds": round(ours, 3), "peak_mib": round(peak)}
            if part:
                seconds = python.apply(peer_run, (path, part))
                row |= {"peer": peer, "peer_part": part, "peer_seconds": round(seconds, 2), "peer_seconds_scaled": round(seconds * (total / part) ** power, 1)}
            print(json.dumps(row))


if __name__ == "__main__":
    main()
