"""Generates varied small images: gradients, noise and shapes, 64 to 256 pixels per side, half PNG
and half JPEG.

    python bench/make_images.py OUT --count 100000 [--seed 1] [--processes 2]

Image i depends only on the seed and i, so a larger set contains a smaller one. Needs numpy and
Pillow.
"""

import argparse
import multiprocessing
import os
import time

import numpy as np
from PIL import Image, ImageDraw

IMAGES_PER_FOLDER = 1000


def picture(random: np.random.Generator) -> Image.Image:
    """Draws a coarse random gradient with shapes on it, and adds noise."""
    width, height = (int(side) for side in random.integers(64, 257, 2))
    coarse = random.integers(0, 256, (int(random.integers(2, 6)), int(random.integers(2, 6)), 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(2, 9))):
        left, top = int(random.integers(0, width)), int(random.integers(0, height))
        size = int(random.integers(6, 90))
        box = [left, top, left + size, top + int(size * random.uniform(0.4, 1.6))]
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape(box, fill=tuple(int(value) for value in random.integers(0, 256, 3)))
    noise = random.integers(-9, 10, (height, width, 1), dtype=np.int16)
    return Image.fromarray((np.asarray(image, dtype=np.int16) + noise).clip(0, 255).astype(np.uint8))


def write_image(job: tuple[str, int, int]) -> None:
    """Writes an image, given the folder, the seed and the index."""
    out, seed, index = job
    random = np.random.default_rng([seed, index])
    image = picture(random)
    stem = os.path.join(out, f"{index // IMAGES_PER_FOLDER:04d}", f"{index:07d}")
    if index % 2:
        image.save(stem + ".jpg", quality=int(random.integers(70, 96)))
    else:
        image.save(stem + ".png", compress_level=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="folder to write to")
    parser.add_argument("--count", type=int, required=True, help="number of images")
    parser.add_argument("--seed", type=int, default=1, help="seed of all images")
    parser.add_argument("--processes", type=int, default=2, help="number of processes")
    arguments = parser.parse_args()
    for folder in range(-(-arguments.count // IMAGES_PER_FOLDER)):
        os.makedirs(os.path.join(arguments.out, f"{folder:04d}"), exist_ok=True)
    started = time.perf_counter()
    jobs = ((arguments.out, arguments.seed, index) for index in range(arguments.count))
    with multiprocessing.Pool(arguments.processes) as pool:
        for _ in pool.imap_unordered(write_image, jobs, chunksize=200):
            pass
    print(f"{arguments.count} images in {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
