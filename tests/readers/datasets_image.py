"""Loads a table of images with Hugging Face `datasets` and checks that it recognises the images.

    python tests/readers/datasets_image.py FOLDER

FOLDER has photos.parquet and photos.json (see read_all.py). Needs datasets and pillow, and no network.
"""

import io
import json
import os
import pathlib
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

import datasets  # noqa: E402  (reads the environment when imported)
import PIL.Image  # noqa: E402


def main():
    folder = pathlib.Path(sys.argv[1])
    expected = json.loads((folder / "photos.json").read_text())
    with tempfile.TemporaryDirectory() as cache:
        loaded = datasets.load_dataset(
            "parquet", data_files=str(folder / "photos.parquet"), cache_dir=cache, split="train"
        )
        assert isinstance(loaded.features["image"], datasets.Image), loaded.features
        assert loaded.features["width"] == datasets.Value("uint32"), loaded.features
        assert len(loaded) == len(expected)
        for row, want in zip(loaded, expected):
            original = PIL.Image.open(io.BytesIO(bytes(want["image"]["bytes"])))
            assert row["image"].size == (want["width"], want["height"])
            assert row["image"].convert("RGB").tobytes() == original.convert("RGB").tobytes()
            for column in want:
                if column != "image":
                    assert row[column] == want[column], (column, row[column], want[column])
    print(f"datasets {datasets.__version__}: {len(expected)} images decoded; features: {loaded.features}")


if __name__ == "__main__":
    main()
