"""Checks with peft and transformers that an exported adapter and its merged export are the same
model.

    python tests/oracles/lora_load.py BASE ADAPTER MERGED        (needs torch, transformers, peft)
    python tests/oracles/lora_load.py BASE ADAPTER               compares with peft's own merge

Prints "equal" with the largest difference of the logits of a prompt with an image, and how much the
adapter changes them. Fails if a tensor of the adapter was not loaded, or if the logits differ by more
than 1e-3. Nothing is frozen: run it by hand, or in CI, after a change of the exporter.
`tests/oracles/lora` is an adapter of `tests/data/model/untied-2`.
"""

import sys
import warnings
from pathlib import Path

import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import Qwen2_5_VLForConditionalGeneration


def load_base(folder: str) -> Qwen2_5_VLForConditionalGeneration:
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    """Returns the logits of a prompt of random text with a random image."""
    config = model.config
    generator = torch.Generator().manual_seed(3)
    text = torch.randint(0, 256, (12,), generator=generator)
    image = torch.tensor([config.vision_start_token_id] + [config.image_token_id] * 6 + [config.vision_end_token_id])
    ids = torch.cat([text[:5], image, text[5:]])[None]
    vision = config.vision_config
    pixels = torch.randn(24, vision.in_channels * vision.temporal_patch_size * vision.patch_size**2, generator=generator)
    with torch.no_grad():
        return model(input_ids=ids, pixel_values=pixels, image_grid_thw=torch.tensor([[1, 4, 6]]),
                     mm_token_type_ids=(ids == config.image_token_id).long()).logits


def main() -> None:
    warnings.simplefilter("ignore", FutureWarning)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    adapted = PeftModel.from_pretrained(load_base(sys.argv[1]), sys.argv[2]).eval()
    # peft only warns of keys without a module and of modules without a key; here both are errors.
    stored = load_file(Path(sys.argv[2]) / "adapter_model.safetensors")
    loaded = get_peft_model_state_dict(adapted)
    if stored.keys() != loaded.keys():
        sys.exit(f"only the file or only the model has these tensors: {sorted(stored.keys() ^ loaded.keys())[:8]}")
    for name, tensor in stored.items():
        if not torch.equal(tensor.float(), loaded[name].float()):
            sys.exit(f"the tensor {name} was not loaded")
    with_adapter, without = logits(adapted), logits(load_base(sys.argv[1]))
    if torch.equal(with_adapter, without):
        sys.exit("the adapter does not change the logits")
    merged = logits(load_base(sys.argv[3]) if len(sys.argv) == 4 else adapted.merge_and_unload())
    difference = (with_adapter - merged).abs().max().item()
    if not difference <= 1e-3:
        sys.exit(f"the logits differ by {difference}")
    print(f"equal: {len(stored)} tensors, logits within {difference:.1e}; the adapter changes them by {(with_adapter - without).abs().max():.3f}")


main()
