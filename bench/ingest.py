#!/usr/bin/env python3
"""Images per second of `visplay ingest` beside a plain Python pipeline, at growing numbers of images.

    bench/ingest.py [--counts 1000,10000,100000] [--program target/release/visplay] [--peer-count 10000] [--folder DIR]

Prints a table: images/s and peak memory of the first ingest, the time of a repeat with nothing to do, and the ratio to
bench/ingest_peer.py over the same files. Needs numpy, Pillow, imagehash, pyarrow.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def timed(command: list[str]) -> tuple[float, float, str]:
    """Seconds, peak MiB and standard output of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status != 0:
        sys.exit(f"{command[0]} failed")
    return seconds, usage.ru_maxrss / 1024, output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="1000,10000")
    parser.add_argument("--program", default="target/release/visplay")
    parser.add_argument("--peer-count", type=int, default=10000)
    parser.add_argument("--folder", help="keep and reuse the images here")
    arguments = parser.parse_args()
    folder = arguments.folder or tempfile.mkdtemp()
    figures = []
    for count in sorted(int(n) for n in arguments.counts.split(",")):
        images = os.path.join(folder, f"images-{count}")
        if not os.path.isdir(images):
            subprocess.run([sys.executable, f"{HERE}/make_images.py", images, "--count", str(count)], check=True, stdout=subprocess.DEVNULL)
        store = os.path.join(folder, "store")
        shutil.rmtree(store, ignore_errors=True)
        ingest = [arguments.program, "ingest", images, "--store", store, "--json"]
        first, memory, output = timed(ingest)
        accepted = json.loads(output)["images"]
        # Digests are noted once the files' times lie far enough back.
        again, _, _ = timed(ingest)
        repeat, repeat_memory, _ = timed(ingest)
        row = {"images": count, "accepted": accepted, "seconds": round(first, 2), "images_per_s": round(count / first), "peak_mib": round(memory), "repeat_s": round(repeat, 3), "repeat_peak_mib": round(repeat_memory)}
        if count <= arguments.peer_count:
            out = os.path.join(folder, "peer.parquet")
            seconds, memory, _ = timed([sys.executable, f"{HERE}/ingest_peer.py", images, out])
            row |= {"peer_images_per_s": round(count / seconds), "peer_peak_mib": round(memory), "ratio": round(seconds / first, 2)}
        figures.append(row)
        print(json.dumps(row), flush=True)
    if not arguments.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
