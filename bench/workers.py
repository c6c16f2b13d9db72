#!/usr/bin/env python3
"""Measures what more workers gain: a round of nano by one process on one core, and by two and four processes, each pinned to a
core of its own where there are as many. Prints a table in Markdown.

    bench/workers.py [--visplay FILE] [--repeat N] [--processes 1 2 4] [--set KEY=VALUE ...]

Every process has one thread. The pipeline is pipelines/nano.toml with smaller shards, so that a training step has
several. "Sampling" is the time during which any process computed shards of the stages answers and evaluation."""
import argparse, json, os, pathlib, shutil, statistics, subprocess, sys, tempfile, time

PROJECT = pathlib.Path(__file__).resolve().parents[1]
SHARDS = {"shard_tokens": "49152", "min_shards": "8"}


def pipeline(folder, settings):
    """Writes nano.toml with other settings and absolute paths."""
    text = (PROJECT / "pipelines/nano.toml").read_text().replace('"../data/', f'"{PROJECT}/data/')
    text = text.replace('"prompts/', f'"{PROJECT}/pipelines/prompts/')
    for key, value in settings.items():
        lines = [line for line in text.splitlines() if line.startswith(f"{key} = ")]
        if len(lines) != 1:
            sys.exit(f"pipelines/nano.toml has {len(lines)} lines `{key} = ..`")
        text = text.replace(lines[0] + "\n", f"{key} = {value}\n")
    path = folder / "p.toml"
    path.write_text(text)
    return path


def seconds(intervals):
    """The length of the union of intervals."""
    total, end = 0.0, -1.0
    for begin, until in sorted(intervals):
        total += max(0.0, until - max(begin, end))
        end = max(end, until)
    return total


def stages(store):
    """The intervals in which shards of each stage were computed."""
    found = {}
    for path in (store / "results").rglob("*.json"):
        result = json.loads(path.read_bytes())
        action = json.loads((store / "actions" / path.relative_to(store / "results")).read_bytes())
        begin = result["run"]["began_ms"] / 1000
        found.setdefault(action["stage"], []).append((begin, begin + result["run"]["took_ms"] / 1000, result["run"]["process"]["pid"]))
    return found


def measure(visplay, folder, pipeline_file, processes):
    store = folder / f"store-{processes}"
    shutil.rmtree(store, ignore_errors=True)
    base = [visplay, "--quiet"]
    common = ["--store", str(store), "--threads", "1", "--device", "cpu"]
    cores = sorted(os.sched_getaffinity(0))
    # Ingest and import are done before the clock starts.
    subprocess.run(base + ["ingest", str(PROJECT / "data/images"), "--store", str(store), "--pipeline", str(pipeline_file)], check=True, stdout=subprocess.DEVNULL)
    began = time.time()
    running = []
    for i in range(processes):
        command = base + ["evolve-round", "1", "--pipeline", str(pipeline_file), "--json"] + common
        pinned = ["taskset", "-c", str(cores[i % len(cores)])]
        running.append(subprocess.Popen(pinned + command, stdout=subprocess.PIPE))
    outputs = [process.communicate()[0] for process in running]
    wall = time.time() - began
    if any(process.returncode for process in running):
        sys.exit("a process failed")
    digests = {json.loads(output)["result"] for output in outputs}
    found = stages(store)
    sampling = seconds([(a, b) for stage in ("answers", "evaluation") for a, b, _ in found.get(stage, [])])
    update = seconds([(a, b) for a, b, _ in found.get("update", [])])
    updaters = len({pid for _, _, pid in found.get("update", [])})
    results = sum(map(len, found.values()))
    shutil.rmtree(store)
    return wall, sampling, update, updaters, results, digests


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.environ.get("CARGO_TARGET_DIR", PROJECT / "target")
    parser.add_argument("--visplay", default=str(pathlib.Path(target) / "release/visplay"))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    settings = SHARDS | dict(item.split("=", 1) for item in args.set)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        file = pipeline(folder, settings)
        rows, all_digests = {}, set()
        for _ in range(args.repeat):
            for n in args.processes:
                *figures, digests = measure(args.visplay, folder, file, n)
                rows.setdefault(n, []).append(figures)
                all_digests |= digests
        print("settings:", ", ".join(f"{key} = {value}" for key, value in settings.items()), f"; cores: {len(os.sched_getaffinity(0))}\n")
        print("| processes | round, s | answers and evaluation, s | updates, s | made by | results | round, times faster | answers and evaluation |")
        print("|---|---|---|---|---|---|---|---|")
        first = None
        for n, runs in rows.items():
            middle = [statistics.median(column) for column in zip(*runs)]
            first = first or middle
            print(f"| {n} | {middle[0]:.1f} | {middle[1]:.1f} | {middle[2]:.1f} | {middle[3]:.0f} | {middle[4]:.0f} | {first[0] / middle[0]:.2f} | {first[1] / middle[1]:.2f} |")
        print("\ndigest of the round:", ", ".join(sorted(all_digests)))
        if len(all_digests) != 1:
            sys.exit("the digests differ")


if __name__ == "__main__":
    main()
