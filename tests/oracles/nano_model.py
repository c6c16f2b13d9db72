"""Freezes the nano model's results in transformers: greedy token ids and log-probabilities on the
first 50 held-out questions.

    python tests/oracles/nano_model.py        # needs torch, transformers 5, pyarrow, pillow

Writes `nano_model.json`: for each item the prompt ids, the greedy response ids, and their
log-probabilities in f64. Run it again when `data/nano` or `data/benchmarks/scenes.parquet` changes.
"""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import torch
import transformers
from PIL import Image
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

ROOT = Path(__file__).resolve().parents[2]
ITEMS, TOKENS = 50, 96


@torch.no_grad()
def main():
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    nano = ROOT / "data/nano"
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(nano, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(nano)
    processor = Qwen2VLImageProcessorPil.from_pretrained(nano)
    image_pad, end = tokenizer.convert_tokens_to_ids("<|image_pad|>"), tokenizer.convert_tokens_to_ids("<|im_end|>")
    items = pq.read_table(ROOT / "data/benchmarks/scenes.parquet", columns=["image", "question", "answer"]).slice(0, ITEMS).to_pylist()
    frozen = []
    for item in items:
        image = Image.open(io.BytesIO(item["image"]["bytes"])).convert("RGB")
        processed = processor(images=[image], return_tensors="pt")
        grid = processed["image_grid_thw"]
        text = ("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
                + "<|image_pad|>" * (int(grid.prod()) // 4) + f"<|vision_end|>{item['question']}<|im_end|>\n<|im_start|>assistant\n")
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]

        def forward(ids):
            t = torch.tensor([ids])
            return model(input_ids=t, attention_mask=torch.ones_like(t), mm_token_type_ids=(t == image_pad).int(), use_cache=False,
                         pixel_values=processed["pixel_values"].float(), image_grid_thw=grid).logits[0]

        response, logprobs, margin = [], [], 1e9
        while len(response) < TOKENS and (not response or response[-1] != end):
            row = forward(ids + response)[-1].clone()
            full = row.double().log_softmax(-1)
            row[image_pad] = -torch.inf
            best = row.topk(2).values
            margin = min(margin, (best[0] - best[1]).item())
            response.append(int(row.argmax()))
            logprobs.append(float(f"{full[response[-1]].item():.8g}"))
        frozen.append(dict(question=item["question"], prompt_ids=ids, response_ids=response, logprobs=logprobs, margin=round(margin, 6)))
    (Path(__file__).resolve().parent / "nano_model.json").write_text(json.dumps(frozen, separators=(",", ":")) + "\n")
    print(f"{len(frozen)} items, smallest margin of greedy decoding {min(f['margin'] for f in frozen)}")


if __name__ == "__main__":
    main()
