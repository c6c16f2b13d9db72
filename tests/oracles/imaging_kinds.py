"""Freezes Pillow's pixels of rare kinds of images in tests/oracles/imaging-kinds.parquet.

    python tests/oracles/imaging_kinds.py          (Pillow 13.0.0, numpy, pyarrow)

The kinds: TIFF with alpha that multiplies the colours, in every layout; TIFF compressions, bit depths and byte orders;
faxes; last strips with more rows than the image; bitmaps of 16 and 32 bits, of run lengths and of unusual palettes; GIF
without a colour table. Names begin with the kind. The columns are those of imaging-decode.parquet, without truncated files.
"""

import glob
import io
import os
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from imaging import HERE, decode, fnv, scene
from PIL import Image
from tiff_writer import DEFLATE, LZMA, LZW, NONE, OLD_DEFLATE, PACKBITS, ZSTD, tiff

FOLDER = os.path.join(HERE, "..", "data", "image_kinds")
COMPRESSIONS = {"none": NONE, "lzw": LZW, "deflate": DEFLATE, "old-deflate": OLD_DEFLATE, "packbits": PACKBITS, "lzma": LZMA, "zstd": ZSTD}
LAYOUTS = {"strip": {}, "strips": {"rows": 4}, "tiles": {"tile": (16, 16)}, "wide-tiles": {"tile": (32, 16)}}
WIDTH, HEIGHT = 19, 11


def noise(samples: int, dtype: type, seed: int, smooth: bool = False) -> np.ndarray:
    random = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    pixels = random.integers(0, top, (HEIGHT, WIDTH, samples), dtype=dtype, endpoint=True)
    if smooth:
        ramp = np.linspace(0, top, WIDTH)[None, :, None] + np.arange(samples) * (top // 9)
        pixels = np.broadcast_to(ramp % top, pixels.shape).astype(dtype)
    # Fully transparent and fully opaque columns.
    pixels[:, 3], pixels[:, 5] = 0, top
    pixels[:, 7, -1], pixels[:, 9, -1] = 0, top
    return pixels


def add_alpha(files: dict[str, bytes]) -> None:
    """TIFF with alpha: multiplied (1), not multiplied (2), unspecified (0 and none) and Corel's 999."""
    number = 0
    for dtype, depth in ((np.uint8, 8), (np.uint16, 16)):
        for samples, extra in ((4, (1,)), (4, (2,)), (4, (0,)), (4, ()), (4, (999,)), (5, (1, 0)), (6, (1, 0, 0)), (5, (2, 0)), (5, (0, 0))):
            for planar in (1, 2):
                for layout, options in LAYOUTS.items():
                    for compression in ("none", "deflate", "lzw", "zstd") if extra == (1,) else ("none", "deflate"):
                        if planar == 2 and compression == "none" and (depth == 16 or layout != "strips"):
                            continue  # Pillow reads such planes of 16 bits as bytes.
                        number += 1
                        order = "<>"[number % 2]
                        big = number % 3 == 0 and order == "<"
                        predictor = 2 if compression in ("deflate", "lzw") and number % 4 < 2 else 1
                        data = tiff(noise(samples, dtype, number, number % 5 == 0), 2, extra=extra, planar=planar, order=order, big=big,
                                    compression=COMPRESSIONS[compression], predictor=predictor, **options)  # fmt: skip
                        kind = "-".join(map(str, extra)) or "none"
                        files[f"tiff-alpha/rgb{depth}-{kind}-planar{planar}-{layout}-{compression}-{predictor}-{number}.tif"] = data
        for extra in ((0,), (1,), (2,)):
            for planar in (1, 2):
                for compression in ("none", "lzw"):
                    data = tiff(noise(2, dtype, 7) & 255, 1, extra=extra, planar=planar, compression=COMPRESSIONS[compression], rows=6)
                    files[f"tiff-alpha/grey{depth}-{extra[0]}-planar{planar}-{compression}.tif"] = data
    for orientation in range(2, 9):
        data = tiff(noise(4, np.uint8, orientation), 2, extra=(1,), tags={274: (3, [orientation])})
        files[f"tiff-alpha/orientation-{orientation}.tif"] = data


def add_tiff_kinds(files: dict[str, bytes]) -> None:
    """TIFF: every compression with every kind of samples."""
    number = 0
    for compression, code in COMPRESSIONS.items():
        for name, pixels, photometric, options in tiff_samples():
            for layout, place in LAYOUTS.items():
                number += 1
                if number % 2 and layout in ("strip", "wide-tiles"):
                    continue
                chosen = dict(options)
                if chosen.pop("predictable", True) and code in (LZW, DEFLATE, OLD_DEFLATE, ZSTD, LZMA) and number % 3:
                    chosen["predictor"] = 3 if pixels.dtype == np.float32 and number % 3 == 1 else 2
                order = "<>"[number % 2] if chosen.pop("orders", True) else "<"
                if code != NONE and (pixels.dtype.itemsize == 4 or pixels.dtype.kind == "i"):
                    order = "<"  # Pillow swaps the bytes of others.
                big = number % 5 == 0 and order == "<"  # Pillow rejects big-endian BigTIFF.
                if name == "lab" and code != LZW:
                    continue
                data = tiff(pixels, photometric, compression=code, order=order, big=big, **chosen, **place)
                files[f"tiff-kinds/{name}-{compression}-{layout}-{number}.tif"] = data
    for name, options in (("no-lengths", {"lengths": False}), ("no-lengths-tiled", {"lengths": False, "tile": (16, 16)})):
        files[f"tiff-kinds/{name}.tif"] = tiff(noise(3, np.uint8, 1), 2, **options)
    for h, v in ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2)):
        across, down = -(-WIDTH // h), -(-HEIGHT // v)
        units = np.random.default_rng(h * 8 + v).integers(0, 256, (down, across, h * v + 2), dtype=np.uint8).tobytes()
        tags = {530: (3, [h, v])}
        data = tiff(noise(3, np.uint8, 1), 6, compression=DEFLATE, raw=[zlib.compress(units)], tags=tags)
        files[f"tiff-kinds/ycbcr-{h}-{v}.tif"] = data
    files["tiff-kinds/one-row-strips.tif"] = tiff(noise(3, np.uint8, 2), 2, compression=LZW, predictor=2, rows=1)
    long = np.tile(noise(3, np.uint8, 2, True), (12, 12, 1))
    for predictor in (1, 2):
        files[f"tiff-kinds/long-lzw-{predictor}.tif"] = tiff(long, 2, compression=LZW, predictor=predictor)
        files[f"tiff-kinds/long-lzma-{predictor}.tif"] = tiff(long, 2, compression=LZMA, predictor=predictor)


def tiff_samples() -> list[tuple[str, np.ndarray, int, dict]]:
    palette = {320: (3, np.random.default_rng(1).integers(0, 65536, 768).tolist())}
    samples = [
        ("rgb8", noise(3, np.uint8, 1), 2, {}),
        ("rgb16", noise(3, np.uint16, 2), 2, {}),
        ("grey8", noise(1, np.uint8, 3, True), 1, {}),
        ("white0", noise(1, np.uint8, 4), 0, {}),
        ("signed8", noise(1, np.int8, 4), 1, {}),
        ("cmyk8", noise(4, np.uint8, 5), 5, {}),
        ("cmyk16", noise(4, np.uint16, 5), 5, {}),
        ("cmyk8-extra", noise(5, np.uint8, 5), 5, {"extra": (0,)}),
        ("palette8", noise(1, np.uint8, 6), 3, {"tags": palette, "predictable": False}),
        ("palette8-alpha", noise(2, np.uint8, 6), 3, {"tags": palette, "extra": (2,)}),
        ("ycbcr8", noise(3, np.uint8, 7), 6, {"tags": {530: (3, [1, 1])}}),
        ("small16", noise(1, np.uint16, 8) % 256, 1, {}),
        ("small12", noise(1, np.uint16, 8) % 256, 1, {"bits": 12, "predictable": False, "orders": False}),
        ("small-signed16", noise(1, np.int16, 9) % 256, 1, {"predictable": False}),
        ("negative16", -(noise(1, np.int16, 9) % 256), 1, {"predictable": False}),
        ("small-signed32", noise(1, np.int32, 10) % 256, 1, {"predictable": False}),
        ("float", (noise(1, np.uint16, 11) / 200).astype(np.float32), 1, {}),
        ("lab", noise(3, np.uint8, 1), 8, {"predictable": False}),
        ("five", noise(5, np.uint8, 1), 2, {}),
        ("double", (noise(1, np.uint16, 11) / 200).astype(np.float64), 1, {"predictable": False}),
    ]
    for bits in (1, 2, 4):
        few = (noise(1, np.uint8, bits) >> (8 - bits)).astype(np.uint8)
        colors = {320: (3, palette[320][1][: 3 << bits])}
        samples += [
            (f"grey{bits}", few, 1, {"bits": bits, "predictable": False}),
            (f"white0-{bits}", few, 0, {"bits": bits, "predictable": False}),
            (f"low-first{bits}", few, 1, {"bits": bits, "predictable": False, "fill_order": 2}),
            (f"palette{bits}", few, 3, {"bits": bits, "predictable": False, "tags": colors}),
        ]
    samples.append(("low-first8", noise(3, np.uint8, 3), 2, {"fill_order": 2, "predictable": False}))
    return samples


def add_faxes(files: dict[str, bytes]) -> None:
    """Faxes: every scheme, with and without fill bits, two dimensions, low bits first, many strips."""
    random = np.random.default_rng(5)
    text = Image.new("1", (333, 90), 1)
    text.paste(scene(200, 60, 3).convert("1"), (20, 10))
    pictures = {
        "scene": scene(61, 43, 1).convert("1"),
        "noise": Image.fromarray(random.integers(0, 2, (17, 130), dtype=np.uint8) * 255).convert("1"),
        "text": text,
        "white": Image.new("1", (64, 9), 1),
        "black": Image.new("1", (65, 9), 0),
        "wide": Image.new("1", (5003, 26), 1),
        "thin": scene(1, 30, 2).convert("1"),
    }
    pictures["wide"].paste(0, (2600, 0, 5003, 20))
    schemes = {"g4": ("group4", {}), "g3": ("group3", {}), "g3-2d": ("group3", {292: 1}), "g3-fill": ("group3", {292: 4}),
               "g3-2d-fill": ("group3", {292: 5}), "mh": ("tiff_ccitt", {})}  # fmt: skip
    for name, picture in pictures.items():
        for scheme, (compression, tags) in schemes.items():
            for rows in (None, 7):
                for fill_order in (1, 2):
                    more = ({278: rows} if rows else {}) | ({266: 2} if fill_order == 2 else {})
                    file = io.BytesIO()
                    picture.save(file, "TIFF", compression=compression, tiffinfo=tags | more)
                    files[f"fax/{name}-{scheme}-{rows}-{fill_order}.tif"] = file.getvalue()
    # Black is 0: the interpretation is changed in the file.
    for scheme in ("g4", "g3", "mh"):
        data = bytearray(files[f"fax/scene-{scheme}-None-1.tif"])
        at = data.index(struct.pack("<HHI", 262, 3, 1)) + 8
        data[at] ^= 1
        files[f"fax/inverted-{scheme}.tif"] = bytes(data)


def add_padded_strips(files: dict[str, bytes]) -> None:
    """TIFF of every compression whose last strip has all rows of a strip, more than the image has."""
    for compression, code in COMPRESSIONS.items():
        kinds = (("rgb8", noise(3, np.uint8, 1), 2), ("grey8", noise(1, np.uint8, 3, True), 1), ("small16", noise(1, np.uint16, 8) % 256, 1))
        for name, pixels, photometric in kinds:
            for predictor in (1, 2) if code in (LZW, DEFLATE, OLD_DEFLATE, ZSTD, LZMA) else (1,):
                for fill_order in (1, 2) if name == "rgb8" else (1,):
                    padded = np.concatenate([pixels, pixels[:5]])
                    data = tiff(padded, photometric, compression=code, predictor=predictor, rows=8, fill_order=fill_order, tags={257: (4, [HEIGHT])})
                    files[f"tiff-kinds/padded-{name}-{compression}-{predictor}-{fill_order}.tif"] = data
    for name, picture in (("grey", scene(33, 32, 5).convert("L")), ("color", scene(33, 32, 5))):
        files[f"tiff-kinds/padded-{name}-jpeg.tif"] = padded_tiff(picture, 21, "jpeg", {278: 16})
    for scheme, (compression, tags) in (("g4", ("group4", {})), ("g3", ("group3", {})), ("mh", ("tiff_ccitt", {}))):
        for fill_order in (1, 2):
            more = {278: 8} | ({266: 2} if fill_order == 2 else {})
            files[f"fax/padded-{scheme}-{fill_order}.tif"] = padded_tiff(scene(33, 24, 5).convert("1"), 19, compression, tags | more)


def padded_tiff(picture: Image.Image, height: int, compression: str, tags: dict[int, int]) -> bytes:
    """Returns a TIFF of a picture whose height is then reduced to `height`."""
    file = io.BytesIO()
    picture.save(file, "TIFF", compression=compression, tiffinfo=tags)
    data = bytearray(file.getvalue())
    (at,) = struct.unpack_from("<I", data, 4)
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", data, at)[0], 12):
        tag, kind = struct.unpack_from("<HH", data, entry)
        if tag == 257:
            struct.pack_into("<H" if kind == 3 else "<I", data, entry + 8, height)
    return bytes(data)


def bitmap(width: int, height: int, bits: int, pixels: bytes, *, compression: int = 0, header: int = 40, masks: tuple[int, ...] = (),
           palette: bytes = b"", colors: int = 0, top_down: bool = False, offset: int | None = None, gap: bytes = b"") -> bytes:  # fmt: skip
    """Returns a bitmap; `masks` follow a header of 40 bytes and are part of a longer one."""
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression, len(pixels), 2835, 2835, colors, 0)
        info += struct.pack(f"<{len(masks)}I", *masks) if header > 40 else b""
        info = info.ljust(header, b"\0")[:header]
        info += struct.pack(f"<{len(masks)}I", *masks) if header == 40 else b""
    start = 14 + len(info) + len(palette) + len(gap)
    head = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start if offset is None else offset)
    return head + info + palette + gap + pixels


def rows_of(pixels: np.ndarray) -> bytes:
    """Returns rows [height, bytes] padded to multiples of 4 bytes."""
    return np.pad(pixels, [(0, 0), (0, -pixels.shape[1] % 4)]).tobytes()


RGB555, RGB565 = (0x7C00, 0x3E0, 0x1F), (0xF800, 0x7E0, 0x1F)
MASKS_32 = [(0xFF0000, 0xFF00, 0xFF, 0), (0xFF000000, 0xFF0000, 0xFF00, 0), (0xFF000000, 0xFF00, 0xFF, 0), (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
            (0xFF, 0xFF00, 0xFF0000, 0xFF000000), (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF000000, 0xFF00, 0xFF, 0xFF0000), (0, 0, 0, 0),
            (0xFF, 0xFF00, 0xFF0000, 0), (0x3FF00000, 0xFFC00, 0x3FF, 0), (0xF0000, 0xF00, 0xF, 0), (0xFF0000, 0xFF00, 0xFF, 0xFF)]  # fmt: skip


def add_bitmaps(files: dict[str, bytes]) -> None:
    random = np.random.default_rng(9)
    every = np.arange(65536, dtype="<u2").view(np.uint8).reshape(256, 512)
    files["bmp/every-555.bmp"] = bitmap(256, 256, 16, every.tobytes())
    files["bmp/every-565.bmp"] = bitmap(256, 256, 16, every.tobytes(), compression=3, masks=RGB565)
    for width, height in ((1, 1), (7, 5), (30, 11), (33, 2)):
        data = random.integers(0, 256, (height, width * 2), dtype=np.uint8)
        for header in (12, 40, 52, 56, 64, 108, 124):
            for top_down in (False, True):
                tag = f"{width}x{height}-{header}-{top_down}"
                files[f"bmp/plain16-{tag}.bmp"] = bitmap(width, height, 16, rows_of(data), header=header, top_down=top_down)
                if header == 12:
                    continue
                for name, masks in (("555", RGB555), ("565", RGB565), ("1555", RGB555 + (0x8000,)), ("4444", (0xF00, 0xF0, 0xF, 0xF000)),
                                    ("bgr565", RGB565[::-1]), ("zero", (0, 0, 0)), ("664", (0xFC00, 0x3F0, 0xF))):  # fmt: skip
                    file = bitmap(width, height, 16, rows_of(data), compression=3, header=header, masks=masks, top_down=top_down)
                    files[f"bmp/{name}-{tag}.bmp"] = file
        deep = random.integers(0, 256, (height, width * 4), dtype=np.uint8)
        for number, masks in enumerate(MASKS_32):
            for header in (40, 52, 56, 108, 124):
                shown = masks[:3] if header in (40, 52) else masks
                file = bitmap(width, height, 32, rows_of(deep), compression=3, header=header, masks=shown, top_down=number % 2 == 1)
                files[f"bmp/masks{number}-{width}x{height}-{header}.bmp"] = file
        files[f"bmp/plain32-{width}x{height}.bmp"] = bitmap(width, height, 32, rows_of(deep))
        three = random.integers(0, 256, (height, width * 3), dtype=np.uint8)
        for header in (12, 40, 124):
            files[f"bmp/plain24-{width}x{height}-{header}.bmp"] = bitmap(width, height, 24, rows_of(three), header=header)
        files[f"bmp/masks24-{width}x{height}.bmp"] = bitmap(width, height, 24, rows_of(three), compression=3, masks=(0xFF0000, 0xFF00, 0xFF))
        files[f"bmp/masks24-bgr-{width}x{height}.bmp"] = bitmap(width, height, 24, rows_of(three), compression=3, masks=(0xFF, 0xFF00, 0xFF0000))
    add_palette_bitmaps(files, random)
    data = rows_of(random.integers(0, 256, (5, 14), dtype=np.uint8))
    files["bmp/gap.bmp"] = bitmap(7, 5, 16, data, gap=b"gap before pixels..")
    files["bmp/offset-zero.bmp"] = bitmap(7, 5, 16, data, offset=0)
    files["bmp/offset-zero-565.bmp"] = bitmap(7, 5, 16, data, offset=0, compression=3, masks=RGB565)
    files["bmp/cut.bmp"] = bitmap(7, 5, 16, data)[:-9]
    files["bmp/no-last-padding.bmp"] = bitmap(7, 5, 16, data)[:-2]
    files["bmp/two-bits.bmp"] = bitmap(7, 5, 2, data)
    files["bmp/png-inside.bmp"] = bitmap(7, 5, 24, data, compression=5)
    files["bmp/jpeg-inside.bmp"] = bitmap(7, 5, 24, data, compression=4)


def add_palette_bitmaps(files: dict[str, bytes], random: np.random.Generator) -> None:
    """Palettes of fewer colours than indices, of greys in order, and run lengths."""
    for bits in (1, 4, 8):
        for colors in (2, 5, 16, 0):
            if colors > 1 << bits:
                continue
            count = colors or 1 << bits
            palette = random.integers(0, 256, (count, 4), dtype=np.uint8).tobytes()
            data = random.integers(0, 256, (9, (21 * bits + 7) // 8), dtype=np.uint8)
            files[f"bmp/palette{bits}-{colors}.bmp"] = bitmap(21, 9, bits, rows_of(data), palette=palette, colors=colors)
            at = 14 + 40
            files[f"bmp/palette{bits}-{colors}-no-offset.bmp"] = bitmap(21, 9, bits, rows_of(data), palette=palette, colors=colors, offset=at)
            files[f"bmp/palette{bits}-{colors}-zero-offset.bmp"] = bitmap(21, 9, bits, rows_of(data), palette=palette, colors=colors, offset=0)
        palette = random.integers(0, 256, (1 << bits, 3), dtype=np.uint8).tobytes()
        files[f"bmp/palette{bits}-core.bmp"] = bitmap(21, 9, bits, rows_of(data), palette=palette, header=12)
    greys = b"".join(bytes([grey, grey, grey, 0]) for grey in range(256))
    data = rows_of(random.integers(0, 256, (9, 21), dtype=np.uint8))
    files["bmp/grey-ramp.bmp"] = bitmap(21, 9, 8, data, palette=greys)
    files["bmp/grey-ramp-short.bmp"] = bitmap(21, 9, 8, data, palette=greys[:400], colors=100)
    files["bmp/black-white.bmp"] = bitmap(21, 9, 1, rows_of(random.integers(0, 256, (9, 3), dtype=np.uint8)), palette=greys[:4] + greys[-4:])
    files["bmp/white-black.bmp"] = bitmap(21, 9, 1, rows_of(random.integers(0, 256, (9, 3), dtype=np.uint8)), palette=greys[-4:] + greys[:4])
    palette = random.integers(0, 256, (256, 4), dtype=np.uint8).tobytes()
    runs = {
        "runs": b"\x05\x01\x03\x02\0\0\x08\x03\0\0\0\3abc\0\5\4\0\0\0\4defg\4\5\0\1",
        "delta": b"\x08\x01\0\2\0\1\3\7\0\0\0\2\4\0\2\x22\0\2\2\1\x04\x09\0\1",
        "too-long": b"\x0a\1\0\0\x08\2\3\4\0\0\x08\3\0\0\x08\4\0\1",
        "early-end": b"\x08\1\0\0\x08\2\0\1",
        "cut": b"\x08\1\0\0\x08",
        "no-line-ends": b"\x08\1\x08\2\x08\3\x08\4",
        "absolute-odd": b"\0\5abcde\0\3\x21\0\0\0\0\7ABCDEFG\0\1\1\0\0\0\0\x08hijklmno\0\0\x08\7\0\1",
        "absolute-cut": b"\0\5ab",
        "all-absolute": b"\0\x20" + bytes(range(32)),
    }
    for name, data in runs.items():
        for top_down in (False, True):
            for gap in (b"", b"!"):
                tag = f"{name}-{top_down}-{len(gap)}"
                files[f"bmp/rle8-{tag}.bmp"] = bitmap(8, 4, 8, data, compression=1, palette=palette, top_down=top_down, gap=gap)
                files[f"bmp/rle4-{tag}.bmp"] = bitmap(8, 4, 4, data, compression=2, palette=palette[:64], top_down=top_down, gap=gap)
    for number in range(40):
        data = random.integers(0, 9, 120, dtype=np.uint8).tobytes() + b"\x20\1" * 60
        files[f"bmp/rle8-random-{number}.bmp"] = bitmap(11, 13, 8, data, compression=1, palette=palette)
        files[f"bmp/rle4-random-{number}.bmp"] = bitmap(11, 13, 4, data, compression=2, palette=palette[:64])
    files["bmp/rle8-grey.bmp"] = bitmap(8, 4, 8, runs["no-line-ends"], compression=1, palette=greys)


def add_gifs(files: dict[str, bytes]) -> None:
    """GIF without a colour table, with one of greys in order, and with fewer colours than indices."""

    def without_table(data: bytes, table: bytes = b"") -> bytes:
        length = 3 << ((data[10] & 7) + 1)
        flags = 0x80 | (len(table) // 3).bit_length() - 2 if table else 0
        return data[:10] + bytes([flags]) + data[11:13] + table + data[13 + length :]

    for name, picture in (("wide", scene(60, 20, 1)), ("small", scene(3, 2, 2)), ("one", scene(1, 1, 3))):
        for colors in (2, 7, 256):
            for interlace in (0, 1):
                file = io.BytesIO()
                picture.quantize(colors).save(file, "GIF", interlace=interlace)
                data, tag = file.getvalue(), f"{name}-{colors}-{interlace}"
                files[f"gif/no-table-{tag}.gif"] = without_table(data)
                files[f"gif/short-table-{tag}.gif"] = without_table(data, bytes([9, 8, 7, 200, 100, 50]))
                files[f"gif/ramp-{tag}.gif"] = without_table(data, bytes(value for grey in range(256) for value in [grey] * 3))
                files[f"gif/short-ramp-{tag}.gif"] = without_table(data, bytes([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]))
                at = without_table(data).index(b"\x2c", 13)
                placed = bytearray(without_table(data))
                placed[6:10] = struct.pack("<HH", 70, 40)
                placed[at + 1 : at + 5] = struct.pack("<HH", 5, 6)
                files[f"gif/no-table-placed-{tag}.gif"] = bytes(placed)
                control = bytes([0x21, 0xF9, 4, 1, 0, 0, 1, 0])
                files[f"gif/no-table-transparent-{tag}.gif"] = bytes(placed[:at]) + control + bytes(placed[at:])
                local = bytearray(without_table(data))
                local[at + 9] |= 0x80 | 1
                table = bytes([1, 2, 3, 90, 80, 70, 200, 0, 0, 0, 0, 255])
                files[f"gif/local-table-{tag}.gif"] = bytes(local[: at + 10]) + table + bytes(local[at + 10 :])
                files[f"gif/no-table-cut-{tag}.gif"] = without_table(data)[: at + 11]


def main() -> None:
    files: dict[str, bytes] = {}
    for path in sorted(glob.glob(os.path.join(FOLDER, "*"))):
        if not path.endswith(".md"):
            with open(path, "rb") as file:
                files[f"reported/{os.path.basename(path)}"] = file.read()
    for add in (add_alpha, add_tiff_kinds, add_faxes, add_bitmaps, add_gifs, add_padded_strips):
        add(files)
    for width in (7, 300):
        files[f"bmp/header-16-{width}.bmp"] = bitmap(width, 5, 24, bytes((3 * width + 3) // 4 * 4 * 5), header=16)
    rows = []
    for name, data in files.items():
        upright = decode(data)
        row = {"name": name, "bytes": data, "accepted": upright is not None}
        if upright is not None:
            row |= {"width": upright.width, "height": upright.height, "pixels": fnv(upright.tobytes())}
        rows.append(row)
    schema = pa.schema([("name", pa.string()), ("bytes", pa.binary()), ("accepted", pa.bool_()), ("width", pa.uint32()),
                        ("height", pa.uint32()), ("pixels", pa.string())])  # fmt: skip
    path = os.path.join(HERE, "imaging-kinds.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd", compression_level=19)
    print(len(rows), "files,", sum(not row["accepted"] for row in rows), "rejected by Pillow;", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    main()
