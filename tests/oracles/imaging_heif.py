"""Freezes the pixels of HEIC files as pillow-heif reads them, and of AVIF files as Pillow does, in tests/oracles/imaging-heic.parquet
and imaging-avif.parquet.

    python tests/oracles/imaging_heif.py    (Pillow 13.0.0, pillow-heif 1.8.1, imagecodecs 2026.3.6, numpy, pyarrow)

The kinds: every chroma subsampling, bit depth, range and matrix; odd and tiny sizes; alpha; crops (pillow-heif pads small
images); all orientations, in EXIF, XMP and transforms; grids of tiles. The columns are those of imaging-kinds.parquet.

Not among them, because the pixels differ: HEIC of an odd size or in 4:2:2 that is rotated or mirrored, for which libheif
interpolates chroma, and HEIC of grey of more than 8 bits, which Pillow saturates.
"""

import io
import os

import imagecodecs
import numpy as np
import pillow_heif
import pyarrow as pa
import pyarrow.parquet as pq
from heif_writer import Coded, grid, mirror, rotation
from imaging import HERE, decode, exif, fnv
from PIL import Image

SIZES = [(64, 48), (61, 43), (17, 130), (200, 3), (1, 1), (2, 2), (3, 5), (8, 8)]
SUBSAMPLINGS = ["4:2:0", "4:2:2", "4:4:4"]


def picture(width: int, height: int, seed: int, channels: int = 3) -> np.ndarray:
    """Returns waves, noise in squares, and a plain rectangle of saturated colour."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([127 + 120 * np.sin(x / (5 + 3 * band) + y / (9 - band) + seed) for band in range(channels)], -1)
    waves += random.normal(0, 25, (height, width, channels)) * ((x // 16 + y // 16) % 2)[..., None]
    waves[height // 3 : height // 2, width // 4 : width // 2] = [250, 10, 30, 200][:channels]
    return np.clip(waves, 0, 255).astype(np.uint8)


def heic(image: Image.Image | pillow_heif.HeifFile, **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, pillow_heif.HeifFile) else pillow_heif.from_pillow(image)).save(file, **options)
    return file.getvalue()


def deep(width: int, height: int, seed: int, mode: str) -> pillow_heif.HeifFile:
    samples = picture(width, height, seed, 4 if mode.startswith("RGBA") else 3).astype(np.uint16) * 257
    return pillow_heif.from_bytes(mode=mode, size=(width, height), data=samples.tobytes())


def avif(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "AVIF", **options)
    return file.getvalue()


def chroma(subsampling: str) -> int:
    return int(subsampling.replace(":", ""))


def heic_files() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    seed = 0
    for width, height in SIZES:
        for subsampling in SUBSAMPLINGS:
            seed += 1
            image = Image.fromarray(picture(width, height, seed))
            files[f"{chroma(subsampling)}-{width}x{height}.heic"] = heic(image, quality=70, chroma=chroma(subsampling))
    for quality in (0, 10, 50, 90, 100, -1):
        files[f"quality{quality}.heic"] = heic(Image.fromarray(picture(90, 57, 30 + quality)), quality=quality)
    for matrix in (0, 1, 2, 4, 5, 6, 7, 9):
        for full in (0, 1):
            for subsampling in SUBSAMPLINGS:
                seed += 1
                options = {"quality": 70, "chroma": chroma(subsampling), "matrix_coefficients": matrix, "full_range_flag": full}
                name = f"matrix{matrix}-{'full' if full else 'limited'}-{chroma(subsampling)}"
                files[f"{name}.heic"] = heic(Image.fromarray(picture(29, 23, seed)), **options)
                if matrix in (0, 1, 6, 9):
                    files[f"deep-{name}.heic"] = heic(deep(29, 23, seed, "RGB;16"), **options)
    for width, height in SIZES[:2]:
        seed += 1
        files[f"alpha-{width}.heic"] = heic(Image.fromarray(picture(width, height, seed, 4)), quality=70)
        files[f"grey-{width}.heic"] = heic(Image.fromarray(picture(width, height, seed)[..., 0]), quality=70)
        files[f"deep-alpha-{width}.heic"] = heic(deep(width, height, seed, "RGBA;16"), quality=70)
    pillow_heif.options.SAVE_HDR_TO_12_BIT = True
    for subsampling in SUBSAMPLINGS:
        files[f"deep12-{chroma(subsampling)}.heic"] = heic(deep(61, 43, 7, "RGB;16"), quality=70, chroma=chroma(subsampling))
    pillow_heif.options.SAVE_HDR_TO_12_BIT = False
    for orientation in range(1, 9):
        for subsampling, size in (("4:2:0", (40, 26)), ("4:4:4", (29, 23))):
            seed += 1
            image = Image.fromarray(picture(*size, seed))
            files[f"exif{orientation}-{chroma(subsampling)}.heic"] = heic(image, chroma=chroma(subsampling), exif=exif(orientation))
    grids = [("even", 2, 2, 128, 128, "4:2:0", 1, ()), ("cropped", 3, 2, 150, 100, "4:2:0", 1, ()), ("odd", 2, 2, 101, 99, "4:2:0", 1, ()),
             ("rotated", 3, 2, 150, 100, "4:2:0", 1, (rotation(3),)), ("mirrored", 2, 2, 120, 126, "4:2:0", 1, (rotation(1), mirror(True))),
             ("turned-over", 2, 2, 120, 126, "4:2:0", 1, (mirror(False), rotation(2))), ("full-chroma", 2, 2, 101, 99, "4:4:4", 1, ()),
             ("limited", 2, 2, 101, 99, "4:2:0", 0, ()), ("single", 1, 1, 60, 60, "4:2:0", 1, ()),
             ("undescribed-full", 2, 1, 100, 60, "4:2:0", 1, ()), ("undescribed-limited", 2, 1, 100, 60, "4:4:4", 0, ())]  # fmt: skip
    for name, columns, rows, width, height, subsampling, full, transforms in grids:
        pictures = []
        for _ in range(columns * rows):
            seed += 1
            options = {"quality": 60, "chroma": chroma(subsampling), "full_range_flag": full}
            pictures.append(Coded(heic(Image.fromarray(picture(64, 64, seed)), **options), b"hvcC", not name.startswith("undescribed")))
        files[f"grid-{name}.heic"] = grid(pictures, columns, width, height, b"heic", transforms, name != "limited")
    return files


def avif_files() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    seed = 1000
    for width, height in SIZES:
        for subsampling in [*SUBSAMPLINGS, "4:0:0"]:
            for scale in ("full", "limited"):
                seed += 1
                options = {"quality": 70, "subsampling": subsampling, "range": scale}
                files[f"{chroma(subsampling)}-{scale}-{width}x{height}.avif"] = avif(Image.fromarray(picture(width, height, seed)), **options)
    for quality in (0, 10, 50, 90, 100):
        files[f"quality{quality}.avif"] = avif(Image.fromarray(picture(90, 57, 2000 + quality)), quality=quality)
    for subsampling in [*SUBSAMPLINGS, "4:0:0"]:
        image = Image.fromarray(picture(61, 43, seed, 4))
        files[f"alpha-{chroma(subsampling)}.avif"] = avif(image, quality=70, subsampling=subsampling)
        files[f"multiplied-{chroma(subsampling)}.avif"] = avif(image, quality=70, subsampling=subsampling, alpha_premultiplied=True)
    for orientation in range(1, 9):
        seed += 1
        files[f"exif{orientation}.avif"] = avif(Image.fromarray(picture(29, 23, seed)), exif=exif(orientation))
    description = '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    image, xmp = Image.fromarray(picture(29, 23, seed)), description.encode()
    files["xmp6.avif"] = avif(image, xmp=xmp)
    for orientation in (1, 3):
        files[f"xmp6-exif{orientation}.avif"] = avif(image, xmp=xmp, exif=exif(orientation))
    files["animated.avif"] = avif(image, save_all=True, append_images=[Image.fromarray(picture(29, 23, seed + 1))])
    files["tiled.avif"] = avif(Image.fromarray(picture(300, 200, seed)), tile_rows=1, tile_cols=1, quality=40)
    for depth in (8, 10, 12):
        for subsampling in [*SUBSAMPLINGS, "4:0:0"]:
            for channels in (1, 2) if subsampling == "4:0:0" else (3, 4):
                for primaries, matrix in ((1, 1), (1, 6), (9, 9), (1, 12), (12, 12), (1, 0), (1, 4), (1, 8)):
                    if matrix in (0, 8) and subsampling != "4:4:4":
                        continue
                    seed += 1
                    samples = picture(29, 23, seed, channels)
                    if depth > 8:
                        samples = samples.astype(np.uint16) << (depth - 8) | samples >> (16 - depth)
                    samples = samples[..., 0] if channels == 1 else samples
                    options = {"level": 70, "speed": 8, "bitspersample": depth, "pixelformat": str(chroma(subsampling)).zfill(3)}
                    data = imagecodecs.avif_encode(samples, **options, codec="aom", primaries=primaries, transfer=13, matrix=matrix, numthreads=1)
                    files[f"depth{depth}-{chroma(subsampling)}-{channels}-primaries{primaries}-matrix{matrix}.avif"] = data
    for name, columns, rows, width, height, transforms in [
        ("even", 2, 2, 128, 128, ()),
        ("undescribed", 2, 1, 100, 60, ()),
        ("cropped", 3, 2, 150, 98, ()),
        ("rotated", 3, 2, 150, 100, (rotation(3),)),
        ("mirrored", 2, 2, 102, 98, (rotation(1), mirror(True))),
        ("turned-over", 2, 2, 102, 98, (rotation(2), mirror(False))),
    ]:
        pictures = []
        for _ in range(columns * rows):
            seed += 1
            pictures.append(Coded(avif(Image.fromarray(picture(64, 64, seed)), quality=60), b"av1C", name != "undescribed"))
        files[f"grid-{name}.avif"] = grid(pictures, columns, width, height, b"avif", transforms)
    return files


def write(name: str, files: dict[str, bytes]) -> None:
    rows = []
    for file, data in files.items():
        upright = decode(data)
        row = {"name": file, "bytes": data, "accepted": upright is not None}
        if upright is not None:
            row |= {"width": upright.width, "height": upright.height, "pixels": fnv(upright.tobytes())}
        rows.append(row)
    schema = pa.schema([("name", pa.string()), ("bytes", pa.binary()), ("accepted", pa.bool_()), ("width", pa.uint32()),
                        ("height", pa.uint32()), ("pixels", pa.string())])  # fmt: skip
    path = os.path.join(HERE, name)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd", compression_level=19)
    print(name, len(rows), "files,", [row["name"] for row in rows if not row["accepted"]], "rejected;", os.path.getsize(path), "bytes")


if __name__ == "__main__":
    pillow_heif.register_heif_opener()
    write("imaging-heic.parquet", heic_files())
    write("imaging-avif.parquet", avif_files())
