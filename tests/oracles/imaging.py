"""Freezes the results of Pillow and imagehash for many images in tests/oracles/imaging-*.

    python tests/oracles/imaging.py          (Pillow 13.0.0, imagehash 4.3.2, numpy, pyarrow)

imaging-decode.parquet   encoded files of all formats and kinds, with the size, orientation, pixels and dhash of
                         `ImageOps.exif_transpose(image).convert("RGB")`, and for some of them the lengths at which
                         a truncated file is accepted or rejected
imaging-resize.jsonl     resized patterns, and the dhash of patterns

Pixels are stored as FNV-1a hashes (64 bits) of their bytes. Patterns are functions of a few numbers, implemented here
and in tests/all/oracle_files.rs, so that their pixels need not be stored.
"""

import io
import json
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))


def fnv(data: bytes) -> str:
    """Returns the FNV-1a hash of bytes in hexadecimal."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def pattern(kind: str, seed: int, width: int, height: int, channels: int) -> np.ndarray:
    """Returns bytes [height, width, channels]: `noise`, `binary` (0 or 255), or `smooth` (waves and
    a little noise)."""
    index = np.arange(width * height * channels, dtype=np.uint64)
    with np.errstate(over="ignore"):
        state = index + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        random = (state ^ (state >> np.uint64(31))).reshape(height, width, channels)
    if kind == "noise":
        return (random >> np.uint64(56)).astype(np.uint8)
    if kind == "binary":
        return ((random >> np.uint64(63)) * np.uint64(255)).astype(np.uint8)
    y, x, c = np.ogrid[0:height, 0:width, 0:channels]
    # Integer triangle waves whose period depends on channel and seed.
    period = 60 + (seed * 7 + c * 31) % 90
    wave = (x * (2 + seed % 3) + y * (1 + seed % 4)) % (2 * period)
    wave = np.minimum(wave, 2 * period - wave) * 255 // period
    return np.clip(wave + (random >> np.uint64(60)).astype(np.int64) - 8, 0, 255).astype(np.uint8)


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Draws a noisy gradient with a few shapes."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = [x * 255 / max(width - 1, 1), y * 255 / max(height - 1, 1), (x + y) * 127 / max(width + height - 2, 1)]
    image = np.stack(base, -1) + random.normal(0, 5, (height, width, 1))
    image = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        color = tuple(int(value) for value in random.integers(0, 256, 3))
        left, top = int(random.integers(0, width)), int(random.integers(0, height))
        size = int(random.integers(3, max(4, width // 3)))
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)([left, top, left + size, top + size], fill=color)
    return image


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encode_png(width: int, height: int, color: int, depth: int, rows: bytes, extra: bytes = b"", interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def adam7(pixels: np.ndarray) -> bytes:
    """Returns the rows of an interlaced PNG."""
    rows = b""
    for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
        part = pixels[y0::dy, x0::dx]
        if part.size:
            rows += b"".join(b"\0" + row.tobytes() for row in part)
    return rows


class Files:
    """Encoded files by name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def add(self, name: str, image: Image.Image, kind: str, **options) -> None:
        file = io.BytesIO()
        image.save(file, kind, **options)
        self.files[name] = file.getvalue()


def exif(orientation: int, kind: int = 3, big: bool = False) -> bytes:
    """Returns EXIF data with an orientation, as a SHORT (3) or LONG (4)."""
    order = ">" if big else "<"
    value = struct.pack(order + "HH", orientation, 0) if kind == 3 else struct.pack(order + "I", orientation)
    return (b"MM\0*" if big else b"II*\0") + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1) + value + b"\0\0\0\0"


def add_jpegs(out: Files, tag: str, image: Image.Image) -> None:
    for quality in (30, 75, 95, 100):
        for subsampling in (0, 1, 2):
            out.add(f"q{quality}-s{subsampling}-{tag}.jpg", image, "JPEG", quality=quality, subsampling=subsampling)
    for subsampling in (0, 1, 2):
        out.add(f"progressive-s{subsampling}-{tag}.jpg", image, "JPEG", progressive=True, subsampling=subsampling)
    out.add(f"grey-{tag}.jpg", image.convert("L"), "JPEG")
    out.add(f"grey-progressive-{tag}.jpg", image.convert("L"), "JPEG", progressive=True)
    out.add(f"cmyk-{tag}.jpg", image.convert("CMYK"), "JPEG")
    out.add(f"cmyk-progressive-{tag}.jpg", image.convert("CMYK"), "JPEG", progressive=True)
    out.add(f"keep-rgb-{tag}.jpg", image, "JPEG", keep_rgb=True)
    out.add(f"restarts-{tag}.jpg", image, "JPEG", restart_marker_blocks=3)
    out.add(f"restarts-progressive-{tag}.jpg", image, "JPEG", restart_marker_blocks=2, progressive=True)
    out.add(f"optimised-{tag}.jpg", image, "JPEG", optimize=True)
    # 4:4:0 and 4:1:1: rewrites the sampling factors of the luma in an encoded file.
    for name, factors, subsampling in (("440", 0x12, 1), ("411", 0x41, 1), ("221", 0x22, 2)):
        data = bytearray(out.files[f"q75-s{subsampling}-{tag}.jpg"])
        at = data.index(b"\xff\xc0") + 4
        if name == "440":
            data[at + 1 : at + 5] = struct.pack(">HH", image.width, image.height)
        if name != "221":
            data[at + 7] = factors
        else:
            data[at + 10] = 0x21  # different chroma sampling: Cb 2x1, Cr 1x1
        out.files[f"{name}-{tag}.jpg"] = bytes(data)
    # Damaged pixel data: libjpeg warns and continues, and so does the decoder under test, with the
    # same pixels.
    for number in range(6):
        data = bytearray(out.files[f"{['q75-s2', 'progressive-s2', 'restarts'][number % 3]}-{tag}.jpg"])
        start = data.index(b"\xff\xda") + 14
        random = np.random.default_rng(number)
        for place in random.integers(start, max(start + 1, len(data) - 2), 3):
            data[place] = (data[place] ^ (1 << int(random.integers(0, 8)))) if data[place] != 0xFF and data[place - 1] != 0xFF else data[place]
        out.files[f"damaged{number}-{tag}.jpg"] = bytes(data)


def add_lossless(out: Files, tag: str, image: Image.Image) -> None:
    random = np.random.default_rng(3)
    pixels = np.dstack([np.asarray(image), random.integers(0, 256, (image.height, image.width), dtype=np.uint8)])
    rgba = Image.fromarray(pixels)
    modes = {mode: image.convert(mode) for mode in ("1", "L", "P", "RGB")} | {"RGBA": rgba, "LA": rgba.convert("LA")}
    for mode, converted in modes.items():
        out.add(f"{mode}-{tag}.png", converted, "PNG")
        out.add(f"{mode}-{tag}.tif", converted, "TIFF")
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
            out.add(f"{mode}-{compression}-{tag}.tif", converted, "TIFF", compression=compression)
        if mode != "LA":
            out.add(f"{mode}-{tag}.bmp", converted, "BMP")
        if mode in ("L", "P"):
            out.add(f"{mode}-{tag}.gif", converted, "GIF")
        if mode in ("RGB", "RGBA"):
            out.add(f"{mode}-{tag}.webp", converted, "WEBP", lossless=True)
            out.add(f"{mode}-lossy-{tag}.webp", converted, "WEBP", quality=60)
            out.add(f"{mode}-fine-{tag}.webp", converted, "WEBP", quality=98)
    for bits in (1, 2, 4):
        few = image.quantize(2**bits)
        out.add(f"palette{bits}-{tag}.png", few, "PNG", bits=bits)
        out.add(f"palette{bits}-{tag}.gif", few, "GIF")
    few = image.quantize(64)
    out.add(f"palette-transparent-{tag}.png", few, "PNG", transparency=3)
    out.add(f"palette-transparent-{tag}.gif", few, "GIF", transparency=5)
    out.add(f"interlaced-{tag}.gif", few, "GIF", interlace=1)
    out.add(f"rgb-transparent-{tag}.png", image, "PNG", transparency=(1, 2, 3))
    out.add(f"grey-transparent-{tag}.png", image.convert("L"), "PNG", transparency=3)
    out.files[f"interlaced-{tag}.png"] = encode_png(image.width, image.height, 2, 8, adam7(np.asarray(image)), interlaced=1)
    out.add(f"cmyk-{tag}.tif", image.convert("CMYK"), "TIFF")
    out.add(f"group4-{tag}.tif", image.convert("1"), "TIFF", compression="group4")
    out.add(f"big-{tag}.tif", image, "TIFF", big_tiff=True)
    out.add(f"animated-{tag}.gif", few, "GIF", save_all=True, append_images=[scene(*image.size, 9).quantize(32)])
    out.add(f"animated-{tag}.webp", image, "WEBP", save_all=True, append_images=[scene(*image.size, 9)], lossless=True)
    out.add(f"animated-{tag}.png", image, "PNG", save_all=True, append_images=[scene(*image.size, 9)])
    # Deep samples whose values fit into 8 bits keep them; for deeper grey visplay differs from
    # Pillow on purpose, and has separate tests.
    grey = np.asarray(image.convert("L"))
    for name, deep in (("u16", grey.astype(np.uint16)), ("i32", grey.astype(np.int32)), ("f32", grey.astype(np.float32) + 0.75)):
        out.add(f"{name}-{tag}.tif", Image.fromarray(deep), "TIFF")
    out.add(f"u16-{tag}.png", Image.fromarray(grey.astype(np.uint16)), "PNG")
    for color, count in ((2, 3), (6, 4), (4, 2)):
        deep = random.integers(0, 65536, (image.height, image.width * count)).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in deep)
        out.files[f"sixteen{color}-{tag}.png"] = encode_png(image.width, image.height, color, 16, rows)


def add_orientations(out: Files, image: Image.Image) -> None:
    for value in range(10):
        for kind, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif")):
            tags = Image.Exif()
            tags[0x0112] = value
            options = {"lossless": True} if kind == "WEBP" else {}
            out.add(f"exif{value}.{suffix}", image, kind, exif=tags, **options)
    for big in (False, True):
        for kind in (3, 4):
            out.add(f"exif-kind{kind}-{big}.jpg", image, "JPEG", exif=b"Exif\0\0" + exif(6, kind, big))
            out.add(f"exif-kind{kind}-{big}.png", image, "PNG", exif=exif(8, kind, big))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="%d"/></x:xmpmeta>'
    out.add("xmp.jpg", image, "JPEG", xmp=xmp % 6)
    out.add("xmp.webp", image, "WEBP", xmp=xmp % 3, lossless=True)
    out.add("xmp-and-exif.jpg", image, "JPEG", xmp=xmp % 6, exif=exif_block(3))
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(image))
    text = b"XML:com.adobe.xmp\0"
    plain = png_chunk(b"iTXt", text + b"\0\0\0\0" + xmp % 5)
    packed = png_chunk(b"iTXt", text + b"\1\0\0\0" + zlib.compress(xmp % 7))
    raw = b"\nexif\n%8d\n" % (len(exif(8)) + 6) + (b"Exif\0\0" + exif(8)).hex().encode() + b"\n"
    for name, chunk in (
        ("itxt", plain),
        ("itxt-packed", packed),
        ("raw-profile", png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw))),
        ("raw-profile-plain", png_chunk(b"tEXt", b"Raw profile type exif\0" + raw)),
        ("exif-chunk", png_chunk(b"eXIf", exif(4))),
    ):
        out.files[f"{name}.png"] = encode_png(image.width, image.height, 2, 8, rows, chunk)


def exif_block(value: int) -> bytes:
    return b"Exif\0\0" + exif(value)


def placed_gif(canvas: tuple[int, int], place: tuple[int, int], size: tuple[int, int], transparent: int | None) -> bytes:
    """Returns a GIF whose frame differs from its canvas."""
    file = io.BytesIO()
    scene(*size, 4).quantize(16).save(file, "GIF")
    data = bytearray(file.getvalue())
    data[6:10] = struct.pack("<HH", *canvas)
    at = data.index(b"\x2c\0\0\0\0", 13 + 48)
    data[at + 1 : at + 5] = struct.pack("<HH", *place)
    if transparent is not None:
        data[at:at] = bytes([0x21, 0xF9, 4, 1, 0, 0, transparent, 0])
    return bytes(data)


def make_files() -> dict[str, bytes]:
    out = Files()
    for seed, (width, height) in enumerate([(37, 29), (16, 16), (1, 1), (2, 9), (3, 50), (5, 3), (61, 18)]):
        image = scene(width, height, seed)
        add_jpegs(out, f"{width}x{height}", image)
        if (width, height) in ((37, 29), (1, 1), (3, 50)):
            add_lossless(out, f"{width}x{height}", image)
    add_orientations(out, scene(21, 13, 5))
    out.files["inner.gif"] = placed_gif((60, 50), (5, 7), (30, 20), None)
    out.files["inner-transparent.gif"] = placed_gif((60, 50), (5, 7), (30, 20), 6)
    out.files["over.gif"] = placed_gif((20, 10), (5, 7), (30, 20), None)
    out.files["no-canvas.gif"] = placed_gif((0, 0), (0, 0), (30, 20), None)
    out.files["tail.jpg"] = out.files["q75-s2-37x29.jpg"] + b"something behind the end"
    out.files["tail.png"] = out.files["RGB-37x29.png"] + b"something behind the end"
    return out.files


def decode(data: bytes) -> Image.Image | None:
    """Returns the upright image as Pillow decodes it, or None if Pillow rejects the file."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        return ImageOps.exif_transpose(image).convert("RGB")
    except Exception:
        return None


# The files that are truncated.
TRUNCATED = ["RGB-37x29.png", "P-37x29.png", "animated-37x29.png", "q75-s2-37x29.jpg", "progressive-s2-37x29.jpg", "grey-37x29.jpg",
             "cmyk-37x29.jpg", "restarts-37x29.jpg", "palette4-37x29.gif", "animated-37x29.gif", "interlaced-37x29.gif", "inner.gif",
             "RGB-37x29.bmp", "P-37x29.bmp", "1-37x29.bmp", "RGB-37x29.tif", "RGBA-tiff_lzw-37x29.tif", "P-37x29.tif", "big-37x29.tif",
             "RGB-lossy-37x29.webp", "RGBA-37x29.webp", "animated-37x29.webp", "exif6.webp", "exif6.jpg"]  # fmt: skip


def truncation_lengths(data: bytes) -> list[int]:
    """Returns the lengths at which a file is truncated: near both ends and spread between them."""
    size = len(data)
    return sorted({*range(min(size, 40)), *range(0, size, max(1, size // 40)), *range(max(0, size - 40), size)})


def freeze_decode() -> None:
    import imagehash
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for name, data in make_files().items():
        upright = decode(data)
        row = {"name": name, "bytes": data, "accepted": upright is not None, "cut_accepted": None, "cut_refused": None}
        if upright is not None:
            row |= {"width": upright.width, "height": upright.height, "pixels": fnv(upright.tobytes())}
            row["dhash"] = str(imagehash.dhash(upright))
        if name in TRUNCATED:
            accepted_at = {length: decode(data[:length]) is not None for length in truncation_lengths(data)}
            row["cut_accepted"] = [length for length, accepted in accepted_at.items() if accepted]
            row["cut_refused"] = [length for length, accepted in accepted_at.items() if not accepted]
        rows.append(row)
    schema = pa.schema(
        [("name", pa.string()), ("bytes", pa.binary()), ("accepted", pa.bool_()), ("width", pa.uint32()), ("height", pa.uint32())]
        + [("pixels", pa.string()), ("dhash", pa.string())]
        + [("cut_accepted", pa.list_(pa.uint32())), ("cut_refused", pa.list_(pa.uint32()))]
    )
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, os.path.join(HERE, "imaging-decode.parquet"), compression="zstd", compression_level=19)
    print(len(rows), "files,", sum(not row["accepted"] for row in rows), "rejected by Pillow")


def random_side(random: np.random.Generator) -> int:
    """Returns a random side of an image."""
    return int(random.choice([random.integers(1, 6), random.integers(1, 40), random.integers(1, 300), random.integers(28, 700)]))


EXTREMES = [(3000, 3, 1, 1), (1, 1, 200, 150), (9, 8, 9, 8), (9, 300, 9, 8), (300, 8, 9, 8), (640, 480, 448, 336), (3, 2000, 9, 8),
            (1, 2500, 1, 2), (2500, 1, 28, 28), (28, 28, 2000, 1), (100, 400, 9, 8), (100, 190, 9, 8), (100, 191, 9, 8),
            (200, 300, 100, 100), (200, 301, 100, 100), (200, 100, 300, 50)]  # fmt: skip


def freeze_resize() -> None:
    import imagehash

    random = np.random.default_rng(11)
    with open(os.path.join(HERE, "imaging-resize.jsonl"), "w") as out:
        for number in range(300):
            size = EXTREMES[number] if number < len(EXTREMES) else tuple(random_side(random) for _ in range(4))
            width, height, to_width, to_height = size
            kind, channels = str(random.choice(["noise", "binary", "smooth"])), int(random.choice([1, 3]))
            filter = str(random.choice(["bicubic", "lanczos3"]))
            pixels = pattern(kind, number, width, height, channels)
            image = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
            resample = {"bicubic": Image.Resampling.BICUBIC, "lanczos3": Image.Resampling.LANCZOS}[filter]
            resized = image.resize((to_width, to_height), resample)
            row = {"kind": kind, "seed": number, "channels": channels, "filter": filter, "from": [width, height]}
            print(json.dumps(row | {"to": [to_width, to_height], "pixels": fnv(resized.tobytes())}), file=out)
        for number in range(300):
            width, height = random_side(random), random_side(random)
            kind = ["noise", "binary", "smooth", "smooth"][number % 4]
            image = Image.fromarray(pattern(kind, number, width, height, 3))
            row = {"kind": kind, "seed": number, "from": [width, height], "dhash": str(imagehash.dhash(image))}
            print(json.dumps(row), file=out)


if __name__ == "__main__":
    freeze_decode()
    freeze_resize()
