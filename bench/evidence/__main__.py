#!/usr/bin/env python3
"""Runs evolutions of the nano pipeline and writes docs/results/nano.md with its figures: evidence
of what the method learns.

    python3 bench/evidence [--visplay target/release/visplay] [--work target/evidence]
        [--seeds 3] [--pairs 6] [--ablated 3] [--out docs/results]

Each evolution has three rounds. For each seed: the method, the labelled baseline (GRPO on correct
answers, with as many steps) and the control with shuffled pseudo-labels. For more seeds: the method
with a trained and with a frozen Questioner, with all images and with a quarter of them. And one
ablation of each setting that this project added. All evolutions are in one store, so an interrupted
run resumes, and a second run only reads the results. Needs polars (`pip install polars`).
"""

import argparse
import subprocess
from pathlib import Path

import page
from measure import ROOT, Runner, StoppedByGate
from variants import ABLATIONS, COLLAPSE, FEW, FEW_FROZEN, FROZEN, LABELLED, METHOD, SHUFFLED


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visplay", type=Path, default=ROOT / "target/release/visplay", help="the program")
    parser.add_argument("--work", type=Path, default=ROOT / "target/evidence", help="folder of the store and of other files that are kept between runs")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of the method, the baseline and the control")
    parser.add_argument("--ablated", type=int, default=3, help="number of seeds of each ablation, at most --seeds")
    parser.add_argument("--pairs", type=int, default=6, help="number of seeds for comparing a trained with a frozen Questioner, at least --seeds")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these evolutions, which must include `nano`, and leave out the sections that need the others")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results", help="folder of the page and its figures")
    args = parser.parse_args()
    runner = Runner(args.visplay.resolve(), args.work.resolve())

    pairs, ablated = max(args.seeds, args.pairs), min(args.seeds, args.ablated)
    reports, gate_message = {}, None
    variants = [METHOD, LABELLED, FROZEN, SHUFFLED, FEW, FEW_FROZEN, *ABLATIONS]
    if args.only and (METHOD.name not in args.only or set(args.only) - {v.name for v in variants}):
        parser.error(f"--only takes {METHOD.name} and any of: {' '.join(v.name for v in variants[1:])}")
    for variant in (v for v in variants if not args.only or v.name in args.only):
        for seed in range(pairs if variant.paired else ablated if variant in ABLATIONS else args.seeds):
            reports[variant.name, seed] = runner.evolve(variant, seed)
            after = [next(s["after"][0] for s in r["scores"] if s["protocol"] == "sampled") for r in reports[variant.name, seed]]
            print(variant.name, seed, " ".join(f"{value:.3f}" for value in after), flush=True)
    if not args.only:
        try:
            runner.evolve(COLLAPSE, 0)
        except StoppedByGate as stop:
            # Only the message: the hint on the next line contains a path of this machine.
            gate_message = str(stop).splitlines()[0]
        print("collapse:", gate_message, flush=True)

    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    args.out.mkdir(parents=True, exist_ok=True)
    results = page.Results(runner, reports, args.seeds, pairs, ablated, args.only)
    for name, text in page.build_files(results, gate_message, commit).items():
        (args.out / name).write_text(text)


if __name__ == "__main__":
    main()
