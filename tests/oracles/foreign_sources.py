"""Writes small sources of images as other programs write them, and their expected contents.

    python tests/oracles/foreign_sources.py OUT

Writes three folders to OUT, each with an expected.json:

paths       Parquet files with the paths of images: [label, row, name of the image or reason] of each entry
archives    tar and zip archives: [label, name of the image or reason] of each entry
benchmarks  Parquet files of benchmarks: [question, answer, category] of each row or its reason

The images are in the folders `rel` of paths and benchmarks. Needs pyarrow, pandas, polars, pillow and
Hugging Face datasets. The files are committed, since other versions of these programs may write other
bytes.
"""

import decimal
import gzip
import io
import json
import os
import pathlib
import struct
import sys
import tarfile
import zipfile
import zlib

os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
import PIL.Image
import polars
import pyarrow
import pyarrow.parquet


def encoded_image(number):
    image = PIL.Image.new("RGB", (32 + number, 32))
    image.putdata([(x * 7 % 256, number * 29 % 256, x * x % 256) for x in range((32 + number) * 32)])
    out = io.BytesIO()
    image.save(out, ["PNG", "JPEG", "BMP"][number % 2])
    return out.getvalue()


IMAGES = [encoded_image(n) for n in range(6)]
NAMES = [f"{n}.{['png', 'jpg'][n % 2]}" for n in range(6)]
PATHS = [f"rel/{name}" for name in NAMES]
TEXT = pyarrow.string()
IMAGE = pyarrow.struct({"bytes": pyarrow.binary(), "path": TEXT})


def write_images(folder):
    (folder / "rel").mkdir(parents=True)
    for name, image in zip(NAMES, IMAGES):
        (folder / "rel" / name).write_bytes(image)


def links(paths):
    return [{"bytes": None, "path": path} for path in paths]


def write_paths(out):
    write_images(out)
    expected = {}

    def add(name, entries, write):
        write(out / f"{name}.parquet")
        expected[f"{name}.parquet"] = entries

    def arrow(name, column, array, entries):
        table = pyarrow.table({"id": list(range(len(array))), column: array})
        add(name, entries, lambda path: pyarrow.parquet.write_table(table, path))

    rows = [["", row, path] for row, path in enumerate(PATHS)]
    data = datasets.Dataset.from_dict({"id": list(range(6)), "photo": links(PATHS)},
                                      features=datasets.Features({"id": datasets.Value("int64"), "photo": datasets.Image()}))
    add("datasets-image", rows, lambda path: pyarrow.parquet.write_table(data.data.table, path))
    lists = [PATHS[:2], [], PATHS[2:3]]
    data = datasets.Dataset.from_dict({"photos": [links(paths) for paths in lists]},
                                      features=datasets.Features({"photos": datasets.List(datasets.Image())}))
    list_rows = [["#0", 0, PATHS[0]], ["#1", 0, PATHS[1]], ["", 1, "empty"], ["#0", 2, PATHS[2]]]
    add("datasets-images", list_rows, lambda path: pyarrow.parquet.write_table(data.data.table, path))

    arrow("untyped-bytes", "image", pyarrow.array(links(PATHS)), rows)
    arrow("only-path", "image", pyarrow.array([{"path": path, "width": 3} for path in PATHS]), rows)
    arrow("strings", "image", pyarrow.array(PATHS), rows)
    arrow("large-strings", "image_path", pyarrow.array(PATHS, pyarrow.large_string()), rows)
    arrow("string-views", "file_name", pyarrow.array(PATHS, pyarrow.string_view()), rows)
    arrow("dictionary", "img_path", pyarrow.array(PATHS).dictionary_encode(), rows)
    arrow("lists-of-strings", "images", pyarrow.array([PATHS[:2], None, [PATHS[2]]], pyarrow.large_list(TEXT)), list_rows)
    arrow("file-urls", "image", pyarrow.array([f"file://{path}" for path in PATHS]), rows)
    holes = [links(PATHS[:1]) + [None] + links(PATHS[1:2]), None, [], [None]]
    arrow("lists-with-nulls", "images", pyarrow.array(holes, pyarrow.list_(IMAGE)),
          [["#0", 0, PATHS[0]], ["#1", 0, "empty"], ["#2", 0, PATHS[1]], ["", 1, "empty"], ["", 2, "empty"],
           ["#0", 3, "empty"]])
    mixed = [
        ({"bytes": IMAGES[0], "path": "nowhere.png"}, PATHS[0]),
        ({"bytes": None, "path": PATHS[1]}, PATHS[1]),
        (None, "empty"),
        ({"bytes": None, "path": None}, "empty"),
        ({"bytes": None, "path": ""}, "empty"),
        ({"bytes": None, "path": "rel/gone.png"}, "unreadable_path"),
        ({"bytes": None, "path": "rel"}, "unreadable_path"),
        ({"bytes": None, "path": "rel/0.png/inside.png"}, "unreadable_path"),
        ({"bytes": None, "path": "x" * 5000}, "unreadable_path"),
        ({"bytes": None, "path": "a\0b.png"}, "unreadable_path"),
        ({"bytes": None, "path": "https://example.org/0.png"}, "url"),
        ({"bytes": None, "path": "hf://datasets/a/b@main/0.png"}, "url"),
        ({"bytes": None, "path": "zip://0.png::https://example.org/x.zip"}, "url"),
        ({"bytes": None, "path": "data:image/png;base64,iVBORw0KGgo="}, "url"),
        ({"bytes": None, "path": "./rel/../rel/2.png"}, PATHS[2]),
        ({"bytes": None, "path": PATHS[2]}, "duplicate"),
        ({"bytes": None, "path": "expected.json"}, "not_an_image"),
    ]
    arrow("mixed", "image", pyarrow.array([cell for cell, _ in mixed], IMAGE),
          [["", row, result] for row, (_, result) in enumerate(mixed)])
    named = {"image_url": ["https://example.org"] * 6, "path": ["nowhere"] * 6, "image_path": PATHS, "caption": PATHS}
    add("several-names", rows, lambda path: pyarrow.parquet.write_table(pyarrow.table(named), path))
    arrow("plain-path", "path", pyarrow.array(PATHS), rows)
    table = pyarrow.table({"image": PATHS[:3], "decoded_image": pyarrow.array([{"bytes": c, "path": None} for c in IMAGES[:3]], IMAGE)})
    add("path-and-decoded", rows[:3], lambda path: pyarrow.parquet.write_table(table, path))
    frame = polars.DataFrame({"image": PATHS}, schema={"image": polars.Categorical})
    add("polars-categorical", rows, lambda path: frame.write_parquet(path))
    return expected


def tar_member(archive, name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))


def tar_of(members, format=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, content in members:
            tar_member(archive, name, content)
    return out.getvalue()


def zip_of(members, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def write_archives(out):
    out.mkdir(parents=True)
    expected = {}

    def add(name, content, entries):
        (out / name).write_bytes(content)
        expected[name] = [[f"/{label}" if label else "", result] for label, result in entries]

    members = list(zip(NAMES, IMAGES))
    whole = [(name, name) for name in NAMES]
    for name, format in [("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("ustar", tarfile.USTAR_FORMAT)]:
        add(f"{name}.tar", tar_of(members, format), whole)
    add("stored.zip", zip_of(members, zipfile.ZIP_STORED), whole)
    add("deflated.zip", zip_of(members), whole)
    # A compressed archive whose members are not in the order of their names.
    shuffled = [members[n] for n in [3, 0, 5, 1, 4, 2]]
    add("shuffled.tar.gz", gzip.compress(tar_of(shuffled), mtime=0), whole)
    add("small.tgz", gzip.compress(tar_of(members[:2]), mtime=0), whole[:2])
    packed = tar_of(members[:3])
    add("two-gzip-parts.tar.gz", gzip.compress(packed[:3000], mtime=0) + gzip.compress(packed[3000:], mtime=0), whole[:3])
    add("tar-without-ending", tar_of(members[:2]), whole[:2])
    samples = [(f"{n:06}.{ending}", content) for n in range(2)
               for ending, content in [("png", IMAGES[n]), ("json", b"{}"), ("cls", b"3")]]
    add("webdataset.tar", tar_of(samples),
        [(name, NAMES[int(name[5])] if name.endswith("png") else "not_an_image") for name, _ in samples])
    # Names that are only names.
    odd = ["../up.png", "/abs.png", "./dot.png", "a/b/c.png", "back\\slash.png"]
    labels = ["../up.png", "/abs.png", "dot.png", "a/b/c.png", "back\\slash.png"]
    add("odd-names.tar", tar_of(zip(odd, IMAGES)), list(zip(labels, NAMES)))
    add("odd-names.zip", zip_of(zip(odd, IMAGES)), list(zip(labels, NAMES)))
    long = "long/" * 60 + "name.png"
    for name, format in [("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT)]:
        add(f"long-{name}.tar", tar_of([(long, IMAGES[0]), ("1.jpg", IMAGES[1])], format), [(long, NAMES[0]), ("1.jpg", NAMES[1])])
    prefixed = "folder/" * 20 + "0.png"
    add("prefix-ustar.tar", tar_of([(prefixed, IMAGES[0])], tarfile.USTAR_FORMAT), [(prefixed, NAMES[0])])
    latin = io.BytesIO()
    with tarfile.open(fileobj=latin, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        tar_member(archive, "bild-\xfc.png", IMAGES[0])
    add("latin.tar", latin.getvalue(), [("bild-%FC.png", NAMES[0])])
    kinds = io.BytesIO()
    with tarfile.open(fileobj=kinds, mode="w") as archive:
        tar_member(archive, "folder", type=tarfile.DIRTYPE)
        tar_member(archive, "folder/0.png", IMAGES[0])
        tar_member(archive, "hard", type=tarfile.LNKTYPE, linkname="folder/0.png")
        tar_member(archive, "soft", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        tar_member(archive, "pipe", type=tarfile.FIFOTYPE)
        tar_member(archive, "empty.png")
    add("kinds.tar", kinds.getvalue(),
        [("folder/0.png", NAMES[0]), ("hard", "not_a_file"), ("soft", "not_a_file"), ("pipe", "not_a_file"), ("empty.png", "empty")])
    nested = [("in.zip", zip_of(members[:1])), ("in.tar", tar_of(members[:1])), ("in.tgz", gzip.compress(tar_of(members[:1]), mtime=0)),
              ("0.png", IMAGES[0])]
    results = [(name, "nested_archive") for name, _ in nested[:3]] + [("0.png", NAMES[0])]
    add("nested.zip", zip_of(nested), results)
    add("nested.tar", tar_of(nested), results)
    # Members over the test's limit of 100,000 bytes, at a ratio that only empty content has.
    zeros = bytes(3_000_000)
    add("large.zip", zip_of([("zeros.png", zeros), ("0.png", IMAGES[0])]), [("zeros.png", "too_large"), ("0.png", NAMES[0])])
    add("large.tar.gz", gzip.compress(tar_of([("0.png", IMAGES[0]), ("zeros.png", zeros), ("1.jpg", IMAGES[1])]), mtime=0),
        [("0.png", NAMES[0]), ("zeros.png", "too_large"), ("", "bomb")])
    # A member whose header declares less than it decompresses to.
    lying = bytearray(zip_of([("zeros.png", zeros)]))
    declared = struct.pack("<I", len(zeros))
    lying = lying.replace(declared, struct.pack("<I", 1000))
    add("lying.zip", bytes(lying), [("zeros.png", "corrupt")])
    wrong = bytearray(zip_of(members[:2], zipfile.ZIP_STORED))
    wrong[60] ^= 1
    add("wrong-checksum.zip", bytes(wrong), [("0.png", "corrupt"), ("1.jpg", NAMES[1])])
    add("overlapping.zip", overlapping_zip(), [("", "bomb")])
    secret = bytearray(zip_of(members[:1], zipfile.ZIP_STORED))
    secret[6] |= 1
    secret[secret.rindex(b"PK\1\2") + 8] |= 1
    add("encrypted.zip", bytes(secret), [("0.png", "unreadable")])
    add("bzip2.zip", zip_of(members[:1], zipfile.ZIP_BZIP2), [("0.png", "unsupported")])
    add("empty.zip", zip_of([]), [("", "empty")])
    tail = zip_of(members[:3])
    add("truncated.zip", tail[:len(tail) // 2], [("", "corrupt")])
    tail = tar_of(members[:2])
    end = 512 + len(IMAGES[0]) // 512 * 512 + 512
    add("truncated.tar", tail[:end + 512 + 100], [("0.png", NAMES[0]), ("1.jpg", "truncated")])
    squeezed = gzip.compress(tar_of(members[:3]), mtime=0)
    damaged = bytearray(tail)
    damaged[end + 3] ^= 1
    add("damaged.tar", bytes(damaged), [("0.png", NAMES[0]), ("", "corrupt")])
    huge_name = bytearray(tar_of([("x" * 200, IMAGES[0])], tarfile.GNU_FORMAT))
    huge_name[124:136] = b"77777777777\0"
    huge_name[148:156] = b" " * 8
    huge_name[148:156] = b"%06o\0 " % sum(huge_name[:512])
    add("huge-name.tar", bytes(huge_name), [("", "corrupt")])
    add("joined.tar", tar_of(members[:1]) + tar_of(members[1:2]), whole[:2])
    repeated = io.BytesIO()
    with tarfile.open(fileobj=repeated, mode="w") as archive:
        tar_member(archive, "0.png", IMAGES[0])
        tar_member(archive, "0.png", IMAGES[1])
    add("repeated.tar", repeated.getvalue(), [("0.png", NAMES[0]), ("0.png", NAMES[1])])
    # Written to a stream, so that sizes follow the contents.
    class Stream(io.RawIOBase):
        def __init__(self):
            self.parts = []

        def writable(self):
            return True

        def write(self, part):
            self.parts.append(bytes(part))
            return len(part)

    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members[:2]:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    add("streamed.zip", b"".join(stream.parts), whole[:2])
    return expected


def overlapping_zip():
    """Returns an archive with many members that share one content."""
    content = zlib.compress(bytes(50_000), 9)[2:-4]
    checksum, name = zlib.crc32(bytes(50_000)), b"0.png"
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 33, checksum, len(content), 50_000, len(name), 0) + name
    directory = b""
    for n in range(90):
        name = b"%05d" % n
        directory += struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 33, checksum, len(content), 50_000,
                                 len(name), 0, 0, 0, 0, 0, 0) + name
    start = len(local) + len(content)
    return local + content + directory + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 90, 90, len(directory), start, 0)


def write_benchmarks(out):
    write_images(out)
    expected = {}
    questions = [f"How many of {n}?" for n in range(4)]
    answers = ["0", "1", "2", "3"]
    structs = [{"bytes": content, "path": None} for content in IMAGES[:4]]
    plain = [[question, answer, None] for question, answer in zip(questions, answers)]

    def add(name, table, rows, **options):
        pyarrow.parquet.write_table(pyarrow.table(table), out / f"{name}.parquet")
        expected[f"{name}.parquet"] = {"rows": rows, **options}

    def shape(name, rows=plain, **changed):
        columns = {"image": pyarrow.array(structs, IMAGE), "question": questions, "answer": answers, **changed}
        add(name, {key: value for key, value in columns.items() if value is not None}, rows)

    shape("structs")
    shape("binary", image=pyarrow.array(IMAGES[:4]))
    shape("large-binary", image=pyarrow.array(IMAGES[:4], pyarrow.large_binary()))
    shape("lists", image=pyarrow.array([[image] for image in structs]))
    shape("lists-of-binary", image=None, images=pyarrow.array([[image] for image in IMAGES[:4]]))
    shape("lists-with-nulls", image=pyarrow.array([[None, image] for image in structs], pyarrow.list_(IMAGE)))
    shape("paths", image=pyarrow.array(links(PATHS[:4])))
    shape("strings", image=pyarrow.array(PATHS[:4]))
    shape("lists-of-strings", image=pyarrow.array([[path] for path in PATHS[:4]]))
    for kind in ["int8", "int64", "uint32", "float32", "float64"]:
        shape(f"answer-{kind}", answer=pyarrow.array(range(4), getattr(pyarrow, kind)()))
    shape("answer-bool", answer=[True, False, True, False],
          rows=[[question, ["True", "False"][n % 2], None] for n, question in enumerate(questions)])
    shape("answer-fractions", answer=pyarrow.array([0.1, -2.5, 1e300, 0.0], pyarrow.float64()),
          rows=[[question, answer, None] for question, answer in zip(questions, ["0.1", "-2.5", "1e300", "0"])])
    shape("answer-decimal", answer=[decimal.Decimal(text) for text in ["0.50", "1.00", "2.25", "-3.00"]],
          rows=[[question, answer, None] for question, answer in zip(questions, ["0.50", "1.00", "2.25", "-3.00"])])
    shape("answer-lists", answer=[[answer] for answer in answers])
    shape("large-strings", question=pyarrow.array(questions, pyarrow.large_string()), answer=pyarrow.array(answers, pyarrow.string_view()))
    shape("dictionaries", question=pyarrow.array(questions).dictionary_encode(), answer=pyarrow.array(answers).dictionary_encode())
    category = lambda values: [[*row[:2], value] for row, value in zip(plain, values)]
    shape("category-int", category=[1, 2, None, 1], rows=category(["1", "2", None, "1"]))
    shape("category-null", category=["a", None, "b", None], rows=category(["a", None, "b", None]))
    shape("category-untyped", category=pyarrow.nulls(4))
    shape("category-bool", category=[True, False, None, True], rows=category(["True", "False", None, "True"]))
    prefixed = [f"<image>{questions[0]}", f"<image>\n{questions[1]}", f"{questions[2]} <image>", questions[3]]
    shape("easyr1", image=None, images=pyarrow.array([[image] for image in structs]), question=None, problem=prefixed)
    rewards = [{"style": "rule", "ground_truth": answer} for answer in answers]
    shape("verl", image=None, images=pyarrow.array([[image] for image in structs]), question=None, answer=None, problem=prefixed,
          reward_model=pyarrow.array(rewards))
    shape("path-and-decoded", image=[f"elsewhere/{n}" for n in range(4)], decoded_image=pyarrow.array(structs, IMAGE))
    add("other-names", {"picture_a": IMAGES[:4], "picture_b": IMAGES[:4], "ask": questions, "meta": [{"gold": n} for n in range(4)]},
        plain, columns="image=picture_a,question=ask,answer=meta.gold")
    # Rows that cannot be used, before and after one that can.
    bad = [
        ([], questions[0], 0.0, "no_image"),
        (None, questions[0], 0.0, "no_image"),
        (structs[:2], questions[0], 0.0, "several_images"),
        (structs[:1], "<image> or <image>?", 0.0, "several_images"),
        (structs[:1], None, 0.0, "no_question"),
        (structs[:1], questions[0], None, "no_answer"),
        (structs[:1], questions[0], float("nan"), "bad_answer"),
        (links(["rel/gone.png"]), questions[0], 0.0, "unreadable_path"),
        (links(["http://example.org/0.png"]), questions[0], 0.0, "url"),
        (links(["rel"]), questions[0], 0.0, "unreadable_path"),
    ]
    bad.insert(4, (structs[:1], questions[0], 0.0, plain[0]))
    images, asked, gold, rows = zip(*bad)
    add("bad-rows", {"images": pyarrow.array(images, pyarrow.list_(IMAGE)), "question": list(asked), "answer": list(gold)}, list(rows))
    add("no-usable-row", {"image": pyarrow.nulls(2, IMAGE), "question": questions[:2], "answer": answers[:2]}, ["no_image"] * 2)
    add("answer-struct", {"image": pyarrow.array(structs, IMAGE), "question": questions, "answer": [{"a": 1}] * 4}, [],
        error=["answer-struct.parquet", "column `answer` is struct<a: int64?>", "strings, integers"])
    add("no-answer", {"image": pyarrow.array(structs, IMAGE), "question": questions}, [],
        error=["no-answer.parquet", "no column of the answer", "--columns answer=NAME", "question (string)"])
    add("no-image", {"question": questions, "answer": answers, "image": [1, 2, 3, 4]}, [],
        error=["no-image.parquet", "no column of images found", "image (int64)"])
    return expected


def main():
    out = pathlib.Path(sys.argv[1])
    for name, write in [("paths", write_paths), ("archives", write_archives), ("benchmarks", write_benchmarks)]:
        expected = write(out / name)
        (out / name / "expected.json").write_text(json.dumps(expected) + "\n")
        print(f"{name}: {len(expected)} files")


if __name__ == "__main__":
    main()
