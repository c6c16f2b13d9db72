"""Benchmark of transformers for comparison with `bench/sampling.rs`: the same weights, prompts,
lengths and threads.

    python bench/sampling_peer.py MODEL IMAGE [PROMPTS] [SAMPLES] [TOKENS] [THREADS]

Prints one JSON object. `generate` runs all samples as one batch, and every sample is exactly TOKENS
tokens long.
"""

import json
import sys
import time

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
folder, image = sys.argv[1:3]
prompts, samples, tokens, threads = [int(a) for a in sys.argv[3:7]] + [32, 8, 24, 2][len(sys.argv) - 3 :]
torch.set_num_threads(threads)
model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
processed = Qwen2VLImageProcessorPil.from_pretrained(folder)(images=[Image.open(image).convert("RGB")], return_tensors="pt")
pixels, grid = processed["pixel_values"], processed["image_grid_thw"]
pads = "<|image_pad|>" * int(grid[0].prod() // 4)
text = ("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>{}<|vision_end|>"
        "Question {}: what is it?<|im_end|>\n<|im_start|>assistant\n")
rows = [tokenizer.encode(text.format(pads, i), add_special_tokens=False).ids for i in range(prompts)]
width = max(map(len, rows))
pad = tokenizer.token_to_id("<|endoftext|>")


def batch(rows):
    """Returns the inputs of a left-padded batch of prompts."""
    ids = torch.tensor([[pad] * (width - len(r)) + r for r in rows])
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
    return dict(input_ids=ids, attention_mask=mask, mm_token_type_ids=(ids == model.config.image_token_id).int(),
                pixel_values=pixels.repeat(len(rows), 1), image_grid_thw=grid.repeat(len(rows), 1))


def best_of(times, work):
    """Returns the seconds of the fastest of some runs."""
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


with torch.inference_mode():
    vision = best_of(5, lambda: model.model.get_image_features(pixels, grid))
    part = batch(rows[:8])
    features = model.model.get_image_features(part["pixel_values"], part["image_grid_thw"]).pooler_output
    embeds = model.get_input_embeddings()(part["input_ids"])
    is_image = (part["input_ids"] == model.config.image_token_id).unsqueeze(-1).expand_as(embeds)
    embeds = embeds.masked_scatter(is_image, torch.cat(features))
    positions, _ = model.model.get_rope_index(part["input_ids"], mm_token_type_ids=part["mm_token_type_ids"],
                                              image_grid_thw=part["image_grid_thw"], attention_mask=part["attention_mask"])
    prefill = best_of(5, lambda: model.model.language_model(inputs_embeds=embeds, position_ids=positions,
                                                            attention_mask=part["attention_mask"], use_cache=True))
    all_rows = batch(rows)
    generate = lambda: model.generate(**all_rows, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, min_new_tokens=tokens,
                                      max_new_tokens=tokens, num_return_sequences=samples, eos_token_id=None, pad_token_id=pad)
    assert generate().shape == (prompts * samples, width + tokens)
    seconds = best_of(3, generate)
count = prompts * samples * tokens
print(json.dumps(dict(threads=threads, prompts=prompts, samples=samples, tokens=tokens, prompt_tokens=len(rows[0]),
                      vision_ms=vision * 1e3, prefill_tokens_per_second=sum(map(len, rows[:8])) / prefill,
                      generated=count, seconds=seconds, tokens_per_second=count / seconds)))
