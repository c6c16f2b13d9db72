#!/usr/bin/env python3
"""Benchmark of `visplay ingest` against a plain Python pipeline, at growing numbers of images.

    bench/ingest.py [--counts 1000,10000,100000] [--program target/release/visplay]
        [--peer-count 10000] [--folder DIR]

Prints one JSON object per number of images: images per second and peak memory of the first ingest,
seconds of a repetition that has nothing to do, and the speed as a multiple of
bench/ingest_peer.py's on the same files. Needs numpy, Pillow, imagehash, pyarrow.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def timed(command: list[str]) -> tuple[float, float, str]:
    """Returns the seconds, peak memory in MiB and standard output of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status != 0:
        sys.exit(f"this command failed: {' '.join(command)}")
    return seconds, usage.ru_maxrss / 1024, output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="1000,10000", help="numbers of images")
    parser.add_argument("--program", default="target/release/visplay", help="the program")
    parser.add_argument("--peer-count", type=int, default=10000, help="largest number of images for the Python pipeline")
    parser.add_argument("--folder", help="folder in which the images are kept and reused; a temporary one by default")
    arguments = parser.parse_args()
    folder = arguments.folder or tempfile.mkdtemp()
    for count in sorted(int(n) for n in arguments.counts.split(",")):
        images = os.path.join(folder, f"images-{count}")
        if not os.path.isdir(images):
            subprocess.run([sys.executable, f"{HERE}/make_images.py", images, "--count", str(count)], check=True, stdout=subprocess.DEVNULL)
        store = os.path.join(folder, "store")
        shutil.rmtree(store, ignore_errors=True)
        ingest = [arguments.program, "ingest", images, "--store", store, "--json"]
        first, memory, output = timed(ingest)
        accepted = json.loads(output)["images"]
        # The second ingest stores the digests, once the files' times are long enough ago.
        timed(ingest)
        repeat, repeat_memory, _ = timed(ingest)
        row = {"images": count, "accepted": accepted, "seconds": round(first, 2), "images_per_s": round(count / first), "peak_mib": round(memory), "repeat_s": round(repeat, 3), "repeat_peak_mib": round(repeat_memory)}
        if count <= arguments.peer_count:
            out = os.path.join(folder, "peer.parquet")
            seconds, memory, _ = timed([sys.executable, f"{HERE}/ingest_peer.py", images, out])
            row |= {"peer_images_per_s": round(count / seconds), "peer_peak_mib": round(memory), "ratio": round(seconds / first, 2)}
        print(json.dumps(row), flush=True)
    if not arguments.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
