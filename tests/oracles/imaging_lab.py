"""Prints the BLAKE3 hash of Pillow's RGB of all CIE Lab colours, for the test in src/imaging/tiff/lab.rs.

    python tests/oracles/imaging_lab.py          (Pillow 13.0.0, numpy, blake3)

L varies slowest and b fastest, each from 0 to 255; a and b are signed bytes, as in a TIFF.
"""

import blake3
import numpy as np
from PIL import Image

digest = blake3.blake3()
a, b = np.mgrid[0:256, 0:256].astype(np.uint8)
for lightness in range(256):
    pixels = np.stack([np.full_like(a, lightness), a, b], -1)
    digest.update(Image.frombytes("LAB", (256, 256), pixels.tobytes()).convert("RGB").tobytes())
print(digest.hexdigest())
