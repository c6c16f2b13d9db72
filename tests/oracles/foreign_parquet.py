"""Writes small Parquet files of images as other programs write them, and their expected contents.

    python tests/oracles/foreign_parquet.py OUT

Writes to OUT one .parquet file per way of writing, and expected.json: `contents` has the images in
hexadecimal, and each file has the name of its image column and its images as [row, index in the list
or null, path or null, index in `contents` or null]. Needs pyarrow, pandas, polars, duckdb, pillow
and Hugging Face datasets. The files are committed, since other versions of these programs may write
other bytes.
"""

import io
import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
import duckdb
import pandas
import PIL.Image
import polars
import pyarrow
import pyarrow.parquet


def encoded_image(number, side=8, format="PNG"):
    image = PIL.Image.new("RGB", (side, side))
    image.putdata([(x * 9 % 256, number * 31 % 256, x * x % 256) for x in range(side * side)])
    out = io.BytesIO()
    image.save(out, format)
    return out.getvalue()


IMAGES = [encoded_image(n, 4 + n, ["PNG", "JPEG", "BMP"][n % 3]) for n in range(7)]
NAMES = [f"{n}.{['png', 'jpg', 'bmp'][n % 3]}" for n in range(7)]

# The distinct images of all files.
CONTENTS = []


def content_index(content):
    """Returns an image's index in `contents`, or None."""
    if content is None:
        return None
    if content not in CONTENTS:
        CONTENTS.append(content)
    return CONTENTS.index(content)


def rows(contents, paths=None):
    """Returns the expected rows of a column of images."""
    paths = paths or [None] * len(contents)
    return [[row, None, paths[row] if content is not None or paths[row] else None, content_index(content)]
            for row, content in enumerate(contents)]


def list_rows(lists, paths):
    """Returns the expected rows of a column of lists of images."""
    out = []
    for row, items in enumerate(lists):
        if not items:
            out.append([row, None, None, None])
        for number, content in enumerate(items or []):
            path = paths[row][number] if paths else None
            out.append([row, number, path, content_index(content)])
    return out


class Writer:
    """Writes the files and collects their expected contents."""

    def __init__(self, out):
        self.out = out
        self.expected = {}

    def add(self, name, column, expected, write):
        path = self.out / f"{name}.parquet"
        write(path)
        self.expected[path.name] = {"column": column, "images": expected}

    def arrow(self, name, column, table, expected, **options):
        self.add(name, column, expected, lambda path: pyarrow.parquet.write_table(table, path, **options))


def image_structs(contents, paths):
    return [None if c is None and p is None else {"bytes": c, "path": p} for c, p in zip(contents, paths)]


def add_datasets(writer):
    features = datasets.Features({"id": datasets.Value("int64"), "photo": datasets.Image()})
    holes = [*IMAGES[:3], None, *IMAGES[4:]]
    paths = [*NAMES[:3], None, *NAMES[4:]]
    data = datasets.Dataset.from_dict({"id": list(range(7)), "photo": image_structs(holes, paths)}, features=features)
    writer.add("datasets-image", "photo", rows(holes, paths), lambda path: data.to_parquet(path))
    lists = [IMAGES[:2], [], IMAGES[2:5], IMAGES[5:6]]
    names = [NAMES[:2], [], NAMES[2:5], NAMES[5:6]]
    features = datasets.Features({"images": datasets.List(datasets.Image()), "problem": datasets.Value("string")})
    data = datasets.Dataset.from_dict(
        {"images": [image_structs(c, p) for c, p in zip(lists, names)], "problem": list("abcd")}, features=features
    )
    writer.add("datasets-images", "images", list_rows(lists, names), lambda path: data.to_parquet(path))


def add_arrow_types(writer):
    holes = [IMAGES[0], None, *IMAGES[2:]]
    for name, kind in [
        ("binary", pyarrow.binary()),
        ("large-binary", pyarrow.large_binary()),
        ("binary-view", pyarrow.binary_view()),
    ]:
        table = pyarrow.table({"n": list(range(7)), "image": pyarrow.array(holes, kind)})
        writer.arrow(f"pyarrow-{name}", "image", table, rows(holes))
    repeated = [IMAGES[n % 2] for n in range(50)] + [None]
    table = pyarrow.table({"jpg": pyarrow.array(repeated, pyarrow.binary()).dictionary_encode()})
    writer.arrow("pyarrow-dictionary", "jpg", table, rows(repeated))
    fixed = [bytes([n]) * 20 for n in range(5)] + [None]
    table = pyarrow.table({"img": pyarrow.array(fixed, pyarrow.binary(20))})
    writer.arrow("pyarrow-fixed-size", "img", table, rows(fixed))
    large = pyarrow.large_list(pyarrow.struct({"bytes": pyarrow.large_binary(), "path": pyarrow.large_string()}))
    lists = [IMAGES[:3], None, [IMAGES[3], None]]
    names = [NAMES[:3], None, [NAMES[3], "elsewhere.png"]]
    values = [None if c is None else image_structs(c, p) for c, p in zip(lists, names)]
    table = pyarrow.table({"text": ["a", "b", "c"], "pictures": pyarrow.array(values, large)})
    writer.arrow("pyarrow-large-list", "pictures", table, list_rows(lists, names))
    binary_lists = [IMAGES[:2], [], [None]]
    table = pyarrow.table({"images": pyarrow.array(binary_lists, pyarrow.list_(pyarrow.binary()))})
    writer.arrow("pyarrow-list-of-binary", "images", table, list_rows(binary_lists, None))
    wide = pyarrow.array(
        [{"width": 8, "bytes": c, "path": None, "extra": {"bytes": b"no"}} for c in IMAGES],
        pyarrow.struct({
            "width": pyarrow.int32(), "bytes": pyarrow.binary(), "path": pyarrow.string(),
            "extra": pyarrow.struct({"bytes": pyarrow.binary()}),
        }),
    )
    writer.arrow("pyarrow-wide-struct", "picture", pyarrow.table({"picture": wide}), rows(IMAGES))


def add_encodings(writer):
    structs = pyarrow.array(image_structs(IMAGES * 4, NAMES * 4))
    table = pyarrow.table({"image": structs, "label": list(range(28))})
    expected = rows(IMAGES * 4, NAMES * 4)
    for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]:
        for version in ["1.0", "2.0"]:
            writer.arrow(f"codec-{codec}-v{version[0]}", "image", table, expected,
                         compression=codec, data_page_version=version, row_group_size=11)
    writer.arrow("small-pages", "image", table, expected, data_page_size=64, write_batch_size=1, row_group_size=9)
    for encoding in ["DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"]:
        writer.arrow(encoding.lower().replace("_", "-"), "image", table, expected,
                     use_dictionary=False, column_encoding={"image.bytes": encoding, "image.path": encoding,
                                                            "label": "PLAIN"})
    writer.arrow("no-rows", "image", table.slice(0, 0), [])


def add_other_writers(writer):
    frame = pandas.DataFrame({"label": range(7), "image_bytes": IMAGES})
    writer.add("pandas", "image_bytes", rows(IMAGES), lambda path: frame.to_parquet(path))
    structs = polars.DataFrame({"k": list(range(7)), "picture": image_structs(IMAGES, NAMES)})
    writer.add("polars-struct", "picture", rows(IMAGES, NAMES), lambda path: structs.write_parquet(path))
    lists = polars.DataFrame({"images": [image_structs(IMAGES[:3], NAMES[:3]), image_structs(IMAGES[3:], NAMES[3:])]})
    writer.add("polars-list", "images", list_rows([IMAGES[:3], IMAGES[3:]], [NAMES[:3], NAMES[3:]]),
               lambda path: lists.write_parquet(path))
    connection = duckdb.connect()
    connection.register("pictures", pyarrow.table({"png": pyarrow.array(IMAGES), "n": list(range(7))}))
    writer.add("duckdb", "png", rows(IMAGES),
               lambda path: connection.execute(f"copy pictures to '{path}' (format parquet)"))


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    writer = Writer(out)
    add_datasets(writer)
    add_arrow_types(writer)
    add_encodings(writer)
    add_other_writers(writer)
    expected = {"contents": [content.hex() for content in CONTENTS], "files": writer.expected}
    (out / "expected.json").write_text(json.dumps(expected) + "\n")
    print(f"{len(writer.expected)} files")


if __name__ == "__main__":
    main()
