"""Ingest as a Python user would write it, for comparison with `visplay ingest`: one process, the
usual packages.

    python bench/ingest_peer.py SOURCE OUT.parquet [--threshold 4] [--hash blake2b]

Walks a folder, reads each file, hashes its bytes, decodes it with Pillow, applies its EXIF
orientation, computes imagehash's dhash, drops exact duplicates, and writes bytes and columns with
pyarrow. Prints one JSON object. With --threshold it also drops near duplicates, by comparing with
every kept hash. Needs Pillow, imagehash and pyarrow.
"""

import argparse
import hashlib
import io
import json
import os
import resource
import time

import imagehash
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

ROWS_PER_GROUP = 1000
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("dhash", pa.string()),
    ]
)


def files(source: str):
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            yield os.path.join(folder, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="folder of images")
    parser.add_argument("out", help="the Parquet file to write")
    parser.add_argument("--threshold", type=int, default=-1, help="maximum Hamming distance of near duplicates; -1 keeps them")
    parser.add_argument("--hash", default="blake2b", help="name of a hash in hashlib, such as blake2b or sha256")
    parser.add_argument("--limit", type=int, default=None, help="stop after this many files")
    arguments = parser.parse_args()

    started = time.perf_counter()
    seen, kept, rows, counts = set(), [], [], {"files": 0, "accepted": 0, "rejected": 0}
    writer = pq.ParquetWriter(arguments.out, SCHEMA, compression="zstd")

    def flush() -> None:
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            rows.clear()

    for path in files(arguments.source):
        if counts["files"] == arguments.limit:
            break
        counts["files"] += 1
        try:
            with open(path, "rb") as file:
                data = file.read()
            digest = hashlib.new(arguments.hash, data).hexdigest()
            if digest in seen:
                raise ValueError("duplicate")
            image = Image.open(io.BytesIO(data))
            image.load()
            upright = ImageOps.exif_transpose(image)
            dhash = imagehash.dhash(upright)
            if arguments.threshold >= 0 and any(dhash - other <= arguments.threshold for other in kept):
                raise ValueError("near duplicate")
        except Exception:
            counts["rejected"] += 1
            continue
        seen.add(digest)
        kept.append(dhash)
        counts["accepted"] += 1
        rows.append(
            {
                "id": digest,
                "image": {"bytes": data, "path": path},
                "width": upright.width,
                "height": upright.height,
                "format": image.format,
                "dhash": str(dhash),
            }
        )
        if len(rows) == ROWS_PER_GROUP:
            flush()
    flush()
    writer.close()
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            counts
            | {
                "seconds": round(seconds, 3),
                "images_per_second": round(counts["files"] / seconds, 1),
                "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
