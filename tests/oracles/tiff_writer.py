"""A writer of TIFF files in every layout: strips and tiles, planes, predictors, byte orders, bit depths, compressions."""

import lzma
import struct
import zlib

import numpy as np
import pyarrow as pa

NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 8, 32946, 32773, 34925, 50000


def pack_bits(data: bytes) -> bytes:
    """Encodes PackBits with literal runs and, where a byte repeats, repeat runs."""
    out, at = bytearray(), 0
    while at < len(data):
        run = 1
        while at + run < len(data) and run < 128 and data[at + run] == data[at]:
            run += 1
        if run > 2:
            out += bytes([257 - run, data[at]])
            at += run
            continue
        literal = data[at : at + 1 + at % 100]
        out += bytes([len(literal) - 1]) + literal
        at += len(literal)
    return bytes(out)


def lzw(data: bytes) -> bytes:
    """Encodes TIFF's LZW: most significant bit first, codes widened one code early."""
    bits, count = 0, 0

    def emit(code: int, width: int) -> None:
        nonlocal bits, count
        bits, count = bits << width | code, count + width

    table: dict[bytes, int] = {}
    emit(256, 9)
    width, following, prefix = 9, 258, b""
    for byte in data:
        longer = prefix + bytes([byte])
        if len(longer) == 1 or longer in table:
            prefix = longer
            continue
        emit(prefix[0] if len(prefix) == 1 else table[prefix], width)
        table[longer] = following
        following += 1
        if following == 4094:
            emit(256, width)
            table, width, following = {}, 9, 258
        elif following + 1 > 1 << width:
            width += 1
        prefix = bytes([byte])
    if prefix:
        emit(prefix[0] if len(prefix) == 1 else table[prefix], width)
        if following + 2 > 1 << width:
            width += 1
    emit(257, width)
    padding = -count % 8
    return (bits << padding).to_bytes((count + padding) // 8, "big")


def compress(data: bytes, compression: int, sample_bytes: int) -> bytes:
    if compression in (DEFLATE, OLD_DEFLATE):
        return zlib.compress(data)
    if compression == PACKBITS:
        return pack_bits(data)
    if compression == LZW:
        return lzw(data)
    if compression == ZSTD:
        return pa.compress(data, codec="zstd", asbytes=True)
    if compression == LZMA:
        filters = [{"id": lzma.FILTER_DELTA, "dist": max(1, sample_bytes)}, {"id": lzma.FILTER_LZMA2, "preset": 1}]
        return lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=filters)
    return data


def pack_samples(rows: np.ndarray, bits: int, order: str) -> bytes:
    """Returns rows [height, samples] as bytes; each row begins at a whole byte."""
    if bits in (8, 16, 32, 64):
        return rows.astype(rows.dtype.newbyteorder(order)).tobytes()
    digits = (rows[..., None].astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def predict(block: np.ndarray) -> np.ndarray:
    """Returns the differences of horizontal neighbours of a block [height, width, samples]."""
    differences = block.copy()
    differences[:, 1:] -= block[:, :-1]
    return differences


def predict_floats(block: np.ndarray, order: str) -> bytes:
    """Returns the floating-point predictor's bytes: planes of significance, then byte differences."""
    height, _, samples = block.shape
    big = np.frombuffer(block.astype(block.dtype.newbyteorder(">")).tobytes(), np.uint8).reshape(height, -1, block.itemsize)
    planes = big.transpose(0, 2, 1).reshape(height, -1)
    differences = planes.copy()
    differences[:, samples:] -= planes[:, :-samples]
    return differences.tobytes()


def tiff(pixels: np.ndarray, photometric: int, *, bits: int | None = None, extra: tuple[int, ...] = (), compression: int = NONE,
         predictor: int = 1, planar: int = 1, tile: tuple[int, int] | None = None, rows: int | None = None, order: str = "<",
         big: bool = False, fill_order: int = 1, tags: dict[int, tuple[int, list[int]]] | None = None, raw: list[bytes] | None = None,
         lengths: bool = True) -> bytes:  # fmt: skip
    """Encodes pixels [height, width, samples]; `tile`: width and height; `rows`: rows of a strip; `tags`: type and
    values of further tags; `raw`: chunks that are compressed already."""
    height, width, samples = pixels.shape
    bits = bits or pixels.itemsize * 8
    across, down = tile or (width, rows or height)
    planes = [pixels] if planar == 1 else [pixels[..., band : band + 1] for band in range(samples)]
    chunks = []
    for plane in planes:
        for top in range(0, height, down):
            for left in range(0, width, across):
                block = plane[top : top + down, left : left + across]
                if tile:
                    padding = [(0, down - block.shape[0]), (0, across - block.shape[1]), (0, 0)]
                    block = np.pad(block, padding, mode="edge")
                if predictor == 3:
                    data = predict_floats(block, order)
                else:
                    block = predict(block) if predictor == 2 else block
                    data = pack_samples(block.reshape(block.shape[0], -1), bits, order)
                data = compress(data, compression, bits // 8 * plane.shape[2])
                chunks.append(bytes(int(f"{byte:08b}"[::-1], 2) for byte in data) if fill_order == 2 else data)
    chunks = raw or chunks
    entries = {256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * samples), 259: (3, [compression]), 262: (3, [photometric]),
               277: (3, [samples]), 284: (3, [planar])}  # fmt: skip
    if extra:
        entries[338] = (3, list(extra))
    if predictor != 1:
        entries[317] = (3, [predictor])
    if fill_order != 1:
        entries[266] = (3, [fill_order])
    if pixels.dtype.kind in "if":
        entries[339] = (3, [2 if pixels.dtype.kind == "i" else 3] * samples)
    offset_tag, length_tag = (324, 325) if tile else (273, 279)
    if tile:
        entries |= {322: (4, [across]), 323: (4, [down])}
    else:
        entries[278] = (4, [down])
    entries |= tags or {}
    wide = "Q" if big else "I"
    entries[offset_tag] = (16 if big else 4, [0] * len(chunks))
    if lengths:
        entries[length_tag] = (4, [len(chunk) for chunk in chunks])
    sizes = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}

    def encode(offsets: list[int]) -> bytes:
        entries[offset_tag] = (entries[offset_tag][0], offsets)
        start = 16 if big else 8
        count, room = ("Q", 8) if big else ("H", 4)
        directory = struct.pack(order + count, len(entries))
        values_at = start + len(directory) + len(entries) * (20 if big else 12) + (8 if big else 4)
        values = b""
        for tag, (kind, numbers) in sorted(entries.items()):
            data = struct.pack(f"{order}{len(numbers)}{sizes[kind]}", *numbers)
            if len(data) > room:
                data, values = struct.pack(order + wide, values_at + len(values)), values + data + b"\0" * (len(data) % 2)
            directory += struct.pack(order + "HH" + wide, tag, kind, len(numbers)) + data.ljust(room, b"\0")
        mark = b"II" if order == "<" else b"MM"
        head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8))
        return head + directory + struct.pack(order + wide, 0) + values

    length = len(encode([0] * len(chunks)))
    offsets = [length + sum(map(len, chunks[:index])) for index in range(len(chunks))]
    return encode(offsets) + b"".join(chunks)
