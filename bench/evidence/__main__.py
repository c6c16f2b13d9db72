#!/usr/bin/env python3
"""Evidence that the learning is real: runs evolutions of the nano pipeline and writes docs/results/nano.md and its figures.

    python3 bench/evidence [--visplay target/release/visplay] [--work target/evidence] [--seeds 3] [--pairs 6] [--ablated 3] [--out docs/results]

Three rounds of each: for each seed the method, the labelled baseline (GRPO on right answers, equal steps) and the control with shuffled
pseudo-labels; for more seeds the method beside itself with the Questioner left untrained,
with all images and with a quarter of them; and an ablation of each knob of ours. All lie in one store, so that a stopped run goes on and a second one only reads. Needs polars (`pip install polars`).
"""

import argparse
import subprocess
from pathlib import Path

import page
from measure import ROOT, Bench, Stopped
from variants import ABLATIONS, COLLAPSE, FEW, FEW_FROZEN, FROZEN, LABELLED, METHOD, SHUFFLED


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visplay", type=Path, default=ROOT / "target/release/visplay")
    parser.add_argument("--work", type=Path, default=ROOT / "target/evidence")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the method, the baseline and the control")
    parser.add_argument("--ablated", type=int, default=3, help="seeds of each ablation, at most as many as --seeds")
    parser.add_argument("--pairs", type=int, default=6, help="seeds of the trained Questioner beside the frozen one")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these evolutions, `nano` among them, and leave out what the page makes of the others")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results")
    args = parser.parse_args()
    bench = Bench(args.visplay.resolve(), args.work.resolve())

    pairs, ablated = max(args.seeds, args.pairs), min(args.seeds, args.ablated)
    reports, stopped = {}, None
    variants = [METHOD, LABELLED, FROZEN, SHUFFLED, FEW, FEW_FROZEN, *ABLATIONS]
    if args.only and (METHOD.name not in args.only or set(args.only) - {v.name for v in variants}):
        parser.error(f"--only takes {METHOD.name} and any of: {' '.join(v.name for v in variants[1:])}")
    for variant in (v for v in variants if not args.only or v.name in args.only):
        for seed in range(pairs if variant.paired else ablated if variant in ABLATIONS else args.seeds):
            reports[variant.name, seed] = bench.evolve(variant, seed)
            after = [next(s["after"][0] for s in r["scores"] if s["protocol"] == "sampled") for r in reports[variant.name, seed]]
            print(variant.name, seed, " ".join(f"{value:.3f}" for value in after), flush=True)
    if not args.only:
        try:
            bench.evolve(COLLAPSE, 0)
        except Stopped as gate:
            # Where the store lies is this machine's own.
            stopped = str(gate).replace(f"{bench.work}/", "")
        print("collapse:", stopped, flush=True)

    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, text in page.written(page.Figures(bench, reports, args.seeds, pairs, ablated, args.only), stopped, commit).items():
        (args.out / name).write_text(text)


if __name__ == "__main__":
    main()
