"""A writer of HEIF files that are a grid of tiles, as phones write them, and of other transforms than Pillow's encoders write."""

import struct


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full_box(kind: bytes, content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags) + content)


def boxes(data: bytes):
    """Yields the kinds and contents of consecutive boxes."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        length = length or len(data) - at
        yield kind, data[at + 8 : at + length]
        at += length


class Coded:
    """The coded picture of a file with one image, whose first item is the primary one."""

    def __init__(self, data: bytes, config: bytes, is_described: bool = True) -> None:
        meta = dict(boxes(dict(boxes(data))[b"meta"][4:]))
        properties = list(boxes(dict(boxes(meta[b"iprp"]))[b"ipco"]))
        self.properties = [(kind, content) for kind, content in properties if kind in (config, b"ispe", b"pixi")][:3]
        colors = [content for kind, content in properties if kind == b"colr" and content[:4] == b"nclx"]
        # Without a description of colours in the boxes, that in the coded picture counts.
        self.color = colors[0] if colors and is_described else None
        places = meta[b"iloc"]
        # Offsets and lengths of 4 bytes; version 0 has no construction method, and no base offset or one of 0 or 4 bytes.
        assert places[4] == 0x44, places[:8].hex()
        at = 8 + 2 + (2 if places[0] else 0) + 2
        base_width = places[5] >> 4
        base = int.from_bytes(places[at : at + base_width], "big")
        offset, length = struct.unpack(">II", places[at + base_width + 2 : at + base_width + 10])
        self.payload = data[base + offset : base + offset + length]


def grid(pictures: list[Coded], columns: int, width: int, height: int, brand: bytes, transforms: tuple = (), color_of_grid: bool = True) -> bytes:
    """Returns a file whose primary item is a grid of pictures."""
    kind = {b"heic": b"hvc1", b"avif": b"av01"}[brand]
    count, rows = len(pictures), len(pictures) // columns
    properties: list[bytes] = []

    def associate(content: bytes, essential: bool) -> int:
        if content not in properties:
            properties.append(content)
        return properties.index(content) + 1 | essential << 7

    links = []
    for picture in pictures:
        own = [associate(box(name, content), name not in (b"ispe", b"pixi")) for name, content in picture.properties]
        links.append(own + ([associate(box(b"colr", picture.color), False)] if picture.color else []))
    whole = [associate(full_box(b"ispe", struct.pack(">II", width, height)), False)]
    whole += [associate(box(name, content), False) for name, content in pictures[0].properties if name == b"pixi"]
    if color_of_grid and pictures[0].color:
        whole.append(associate(box(b"colr", pictures[0].color), False))
    links.append(whole + [associate(content, True) for content in transforms])
    layout = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    handler = full_box(b"hdlr", struct.pack(">I4s12s", 0, b"pict", b"") + b"\0")
    infos = [full_box(b"infe", struct.pack(">HH4s", number, 0, kind) + b"\0", 2, 1) for number in range(1, count + 1)]
    infos.append(full_box(b"infe", struct.pack(">HH4s", count + 1, 0, b"grid") + b"\0", 2))
    items = full_box(b"iinf", struct.pack(">H", count + 1) + b"".join(infos))
    references = full_box(b"iref", box(b"dimg", struct.pack(f">HH{count}H", count + 1, count, *range(1, count + 1))))
    linked = b"".join(struct.pack(">HB", number, len(own)) + bytes(own) for number, own in enumerate(links, 1))
    associations = full_box(b"ipma", struct.pack(">I", count + 1) + linked)
    described = box(b"iprp", box(b"ipco", b"".join(properties)) + associations)

    def head(start: int) -> bytes:
        places = b""
        for number, picture in enumerate(pictures, 1):
            places += struct.pack(">HHHHII", number, 0, 0, 1, start, len(picture.payload))
            start += len(picture.payload)
        places += struct.pack(">HHHHII", count + 1, 1, 0, 1, 0, len(layout))
        located = full_box(b"iloc", bytes([0x44, 0]) + struct.pack(">H", count + 1) + places, 1)
        primary = full_box(b"pitm", struct.pack(">H", count + 1))
        meta = full_box(b"meta", handler + primary + items + references + described + box(b"idat", layout) + located)
        return box(b"ftyp", brand + struct.pack(">I", 0) + b"mif1" + brand + b"miaf") + meta

    start = len(head(0)) + 8
    return head(start) + box(b"mdat", b"".join(picture.payload for picture in pictures))


def rotation(quarters: int) -> bytes:
    """Returns an anti-clockwise rotation."""
    return box(b"irot", bytes([quarters]))


def mirror(is_left_right: bool) -> bytes:
    return box(b"imir", bytes([is_left_right]))
