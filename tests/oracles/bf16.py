"""Freezes how much transformers' log-probabilities in bf16 differ from f32, for the checkpoints of
`model.py` and the nano model.

    python tests/oracles/bf16.py        # after model.py and nano_model.py; needs what they need

Writes `tests/data/model/bf16.json`: by checkpoint the mean absolute difference, in nats, between the
log-probabilities of the frozen responses with bf16 weights and activations (CPU, SDPA) and those in
f32; for the nano model also the number of tokens of which another token is the most likely one.
`visplay doctor --full` compares a device's bf16 with these: the tiny random models have such sharp
distributions (log-probabilities down to -14) that no bf16 implementation, transformers included,
meets the limit of 2e-2 that holds for the nano model.
"""

import io
import json

import pyarrow.parquet as pq
import torch
import transformers
from PIL import Image
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import model as tiny
import nano_model

ROOT = nano_model.ROOT


def load_bf16(folder):
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa").eval()


def response_logits(model, image_pad, ids, response, more):
    """Returns the logits that predict each token of the response."""
    t = torch.tensor([ids + response])
    kinds = (t == image_pad).int()
    logits = model(input_ids=t, attention_mask=torch.ones_like(t), mm_token_type_ids=kinds, use_cache=False, **more).logits[0]
    return logits[len(ids) - 1 : -1].double()


def differences(logits, response, frozen):
    """Returns the absolute differences from the frozen log-probabilities."""
    logprobs = logits.log_softmax(-1)
    return [abs(logprobs[i, t].item() - f) for i, (t, f) in enumerate(zip(response, frozen))]


def tiny_differences(parity, processed, name):
    model, result = load_bf16(tiny.ROOT / name), []
    for images, prompt, case in zip(tiny.CASES, parity["prompts"], parity["checkpoints"][name]):
        more = {}
        if images:
            more = dict(pixel_values=torch.cat([processed[i][0] for i in images]),
                        image_grid_thw=torch.stack([processed[i][1][0] for i in images]))
        logits = response_logits(model, tiny.IMAGE_PAD, prompt["prompt_ids"], parity["response_ids"], more)
        result += differences(logits, parity["response_ids"], case["logprobs"])
    return result


def nano_differences():
    """Returns the nano model's differences, and the number of other most likely tokens."""
    folder = ROOT / "data/nano"
    model, processor = load_bf16(folder), Qwen2VLImageProcessorPil.from_pretrained(folder)
    image_pad = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("<|image_pad|>")
    frozen = json.loads((ROOT / "tests/oracles/nano_model.json").read_text())
    items = pq.read_table(ROOT / "data/benchmarks/scenes.parquet", columns=["image"]).slice(0, len(frozen)).to_pylist()
    result, others = [], 0
    for item, case in zip(items, frozen):
        processed = processor(images=[Image.open(io.BytesIO(item["image"]["bytes"])).convert("RGB")], return_tensors="pt")
        more = dict(pixel_values=processed["pixel_values"].float(), image_grid_thw=processed["image_grid_thw"])
        logits = response_logits(model, image_pad, case["prompt_ids"], case["response_ids"], more)
        result += differences(logits, case["response_ids"], case["logprobs"])
        others += sum(int(row.argmax()) != t for row, t in zip(logits, case["response_ids"]))
    return result, others


@torch.no_grad()
def main():
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    parity = json.loads((tiny.ROOT / "parity.json").read_text())
    processed = tiny.process(sorted({i for case in tiny.CASES for i in case}))
    tiny_results = {name: tiny_differences(parity, processed, name) for name in tiny.CHECKPOINTS}
    nano, others = nano_differences()
    mean = lambda values: float(f"{sum(values) / len(values):.4g}")
    result = dict(checkpoints={name: mean(values) for name, values in tiny_results.items()},
                  nano=dict(gap=mean(nano), other_tokens=others, tokens=len(nano)))
    (tiny.ROOT / "bf16.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"tiny checkpoints {mean(sum(tiny_results.values(), []))}, nano {mean(nano)}, {others} of {len(nano)} most likely tokens differ")


if __name__ == "__main__":
    main()
