"""Freezes the results of transformers' Qwen2-VL image processor on patterns:
tests/oracles/image-processor.jsonl.

    python tests/oracles/image_processor.py          (transformers 5.23.0, torch, Pillow 13.0.0, numpy)

The reference is the PIL version of the processor. Values are stored as the FNV-1a hash of their f32
bytes, and a few of them as numbers.
"""

import json
import os

import numpy as np
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from imaging import fnv, pattern

HERE = os.path.dirname(os.path.abspath(__file__))

CONFIGS = [
    {"min_pixels": 3136, "max_pixels": 1003520},
    {"min_pixels": 3136, "max_pixels": 12544},
    {"size": {"shortest_edge": 12544, "longest_edge": 50176}},
    {"size": {"shortest_edge": 784, "longest_edge": 784}},
    {"min_pixels": 784, "max_pixels": 20000, "patch_size": 8, "merge_size": 1, "temporal_patch_size": 1},
    {"size": {"shortest_edge": 3136, "longest_edge": 30000}, "patch_size": 16, "merge_size": 2},
    {"min_pixels": 3136, "max_pixels": 30000, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.25, 0.125]},
]
SIZES = [(28, 28), (56, 56), (112, 112), (224, 112), (1, 1), (1, 200), (200, 1), (13, 27), (70, 42), (98, 154), (300, 20),
         (61, 240), (640, 480), (97, 101), (14, 700)]  # fmt: skip


def main() -> None:
    with open(os.path.join(HERE, "image-processor.jsonl"), "w") as out:
        for number, config in enumerate(CONFIGS):
            processor = Qwen2VLImageProcessorPil(**config)
            for place, (width, height) in enumerate(SIZES):
                kind, seed = ["smooth", "noise", "binary"][(number + place) % 3], number * 100 + place
                image = Image.fromarray(pattern(kind, seed, width, height, 3))
                result = processor(images=[image], return_tensors="np")
                values, grid = result["pixel_values"], result["image_grid_thw"][0]
                assert values.dtype == np.float32
                row = {"config": config, "kind": kind, "seed": seed, "from": [width, height], "grid": grid.tolist()}
                row |= {"shape": list(values.shape), "values": fnv(values.astype("<f4").tobytes())}
                row |= {"first": [float(value) for value in values[0, :4]], "mean": float(values.mean(dtype=np.float64))}
                print(json.dumps(row), file=out)
        random = np.random.default_rng(5)
        for _ in range(60):
            bound = sorted(int(2**power) for power in random.uniform(9, 24, 2))
            factor = int(random.choice([28, 28, 28, 14, 32]))
            cases = []
            for _ in range(40):
                # Multiples of half a factor are ties in rounding.
                width, height = (int(2**power) for power in random.uniform(0, 13, 2))
                if random.random() < 0.4:
                    width, height = ((side // (factor // 2) + 1) * (factor // 2) for side in (width, height))
                try:
                    tall, wide = smart_resize(height, width, factor, *bound)
                except ValueError:
                    tall, wide = 0, 0
                cases.append([width, height, wide, tall])
            row = {"factor": factor, "min_pixels": bound[0], "max_pixels": bound[1], "smart_resize": cases}
            print(json.dumps(row), file=out)


if __name__ == "__main__":
    main()
