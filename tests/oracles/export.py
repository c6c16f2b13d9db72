"""Checks with transformers that a checkpoint and its copy by `visplay model export` are the same
model.

    visplay model export CHECKPOINT EXPORTED
    python tests/oracles/export.py CHECKPOINT EXPORTED            (needs torch, transformers)

Prints "equal" and exits with 0 if every tensor and the logits of a prompt with an image are equal
bit for bit, and fails otherwise. Nothing is frozen: run it by hand after a change of the exporter.
"""

import sys

import torch
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration


def load(folder: str) -> Qwen2_5_VLForConditionalGeneration:
    """Loads a checkpoint; any missing or unexpected tensor is an error."""
    model, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype="auto", output_loading_info=True)
    problems = {k: v for k, v in info.items() if v}
    if problems:
        sys.exit(f"{folder}: {problems}")
    return model.eval()


def logits(model: Qwen2_5_VLForConditionalGeneration) -> torch.Tensor:
    """Returns the logits of a prompt of random text with a random image."""
    config = model.config
    generator = torch.Generator().manual_seed(3)
    text = torch.randint(0, config.image_token_id, (12,), generator=generator)
    image = torch.tensor([config.vision_start_token_id] + [config.image_token_id] * 6 + [config.vision_end_token_id])
    ids = torch.cat([text[:5], image, text[5:]])[None]
    vision = config.vision_config
    length = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    pixels = torch.randn(24, length, generator=generator).to(model.dtype)
    kinds = (ids == config.image_token_id).long()
    with torch.no_grad():
        return model(input_ids=ids, pixel_values=pixels, image_grid_thw=torch.tensor([[1, 4, 6]]),
                     mm_token_type_ids=kinds).logits


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    first, second = load(sys.argv[1]), load(sys.argv[2])
    a, b = first.state_dict(), second.state_dict()
    if a.keys() != b.keys():
        sys.exit(f"only one checkpoint has these tensors: {sorted(a.keys() ^ b.keys())}")
    for name in a:
        if a[name].dtype != b[name].dtype or not torch.equal(a[name], b[name]):
            sys.exit(f"the tensor {name} differs")
    if not torch.equal(logits(first), logits(second)):
        sys.exit("the logits differ")
    tokens = [AutoTokenizer.from_pretrained(folder)("How many <|im_end|>é?")["input_ids"] for folder in sys.argv[1:3]]
    if tokens[0] != tokens[1]:
        sys.exit("the tokenizers differ")
    print("equal:", len(a), "tensors, logits", tuple(logits(first).shape), "tied" if first.config.tie_word_embeddings else "untied")


main()
