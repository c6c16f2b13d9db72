#!/usr/bin/env python3
"""Benchmark of a training step of transformers and PyTorch, for comparison with
`bench/training.rs`: the same weights and batch, f32, AdamW.

    python bench/training_peer.py SPEC MODEL [--checkpointing] [--micro-batch N]
        [--attention sdpa|eager] [--threads 2] [--loss L]

SPEC is a file of `bench/configs/training-*.json`, MODEL a checkpoint folder (of
`visplay model random --config` with the spec's `config`). Prints one JSON object: tokens per second
(prompt and response tokens of all samples, without padding), seconds of the fastest step and of each
step, peak memory of the process (VmHWM), the same before the first step, and the loss of each step.
Needs torch, transformers 5.

The spec defines the batch by integers, so that any program can compute the same one. There are
`groups` prompts, each with one image of `image` [height, width] pixels and `responses` responses.
With h(k, i) the (i+1)-th output of SplitMix64 from the state `seed` * 2^32 + k (mod 2^64):

- a prompt is `before` text ids, <|vision_start|>, an <|image_pad|> for each 28x28 pixels,
  <|vision_end|>, `after` text ids; text id j of group g is lo + h(g, j) mod (hi - lo), where
  [lo, hi) is `text_ids` and j counts through both parts;
- response r of group g has n = a + h(2^20 + g, r) mod (b - a + 1) tokens, where [a, b] is
  `response_tokens`; its token t is lo + h(2^21 + g * responses + r, t) mod (hi - lo);
- the image of group g is given as processed patches: value i (row-major, patches in the order of the
  processor) is (h(2^22 + g, i) >> 40) / 2^22 - 2, an f32 in [-2, 2);
- `loss`: `supervised` is the mean cross-entropy over response tokens. `grpo` is the loss of
  docs/training.md with `token` aggregation, eps 0.2 and 0.3, dual 3, beta 0.01 and temperature 1;
  response r of a group has the advantage +s if r is even and -s if it is odd,
  s = sqrt((responses - 1) / responses); old and reference log-probabilities are those of the weights
  before the first step, computed before the clock starts.

A step is: forward pass, backward pass, clipping the gradient at norm 1, AdamW (betas 0.9 and 0.999,
weight decay 0.01) over all parameters including the vision tower. Each sample is a prompt followed
by a padded response, and only the response's logits are computed, as in TRL. Each sample runs its
image through the vision tower, as transformers requires.
"""

import argparse
import json
import math
import sys
import time

import numpy as np
import torch
import transformers
from transformers import Qwen2_5_VLForConditionalGeneration

EPS_LOW, EPS_HIGH, DUAL, BETA = 0.2, 0.3, 3.0, 0.01


def stream(spec, key, count):
    """Returns h(key, 0), ..., h(key, count - 1)."""
    start = np.uint64((spec["seed"] << 32) + key)
    with np.errstate(over="ignore"):
        z = start + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return z ^ z >> np.uint64(31)


def to_range(values, low, high):
    """Maps integers into [low, high)."""
    return (values % np.uint64(high - low) + np.uint64(low)).astype(np.int64).tolist()


def batch_of(spec, config):
    """Returns the samples (prompt ids, response ids, group, advantage), the patches of each group's
    image, and an image's grid."""
    height, width = spec["image"]
    vision = config.vision_config
    patch, merge = vision.patch_size, vision.spatial_merge_size
    grid = [1, height // patch, width // patch]
    patches, length = grid[1] * grid[2], vision.in_channels * vision.temporal_patch_size * patch * patch
    low, high = spec["text_ids"]
    shortest, longest = spec["response_tokens"]
    scale = math.sqrt((spec["responses"] - 1) / spec["responses"])
    samples, images = [], []
    for g in range(spec["groups"]):
        text = to_range(stream(spec, g, spec["before"] + spec["after"]), low, high)
        image = [config.vision_start_token_id] + [config.image_token_id] * (patches // merge**2) + [config.vision_end_token_id]
        prompt = text[: spec["before"]] + image + text[spec["before"] :]
        lengths = to_range(stream(spec, 2**20 + g, spec["responses"]), shortest, longest + 1)
        for r, n in enumerate(lengths):
            response = to_range(stream(spec, 2**21 + g * spec["responses"] + r, n), low, high)
            samples.append(dict(prompt=prompt, response=response, group=g, advantage=-scale if r % 2 else scale))
        values = (stream(spec, 2**22 + g, patches * length) >> np.uint64(40)).astype(np.float64) / 2**22 - 2
        images.append(torch.tensor(values.astype(np.float32)).reshape(patches, length))
    return samples, images, grid


def memory(field):
    """Returns a field of this process's memory statistics in MiB."""
    with open("/proc/self/status") as lines:
        return round(int(next(l for l in lines if l.startswith(field)).split()[1]) / 1024)


def response_logps(model, part, images, grid, pad):
    """Returns the log-probabilities `[samples, longest response]` and their mask."""
    longest = max(len(s["response"]) for s in part)
    ids = torch.tensor([s["prompt"] + s["response"] + [pad] * (longest - len(s["response"])) for s in part])
    mask = torch.tensor([[1] * (len(s["prompt"]) + len(s["response"])) + [0] * (longest - len(s["response"])) for s in part])
    logits = model(input_ids=ids, attention_mask=mask, mm_token_type_ids=(ids == model.config.image_token_id).int(), use_cache=False,
                   pixel_values=torch.cat([images[s["group"]] for s in part]), image_grid_thw=torch.tensor([grid] * len(part)),
                   logits_to_keep=longest + 1).logits[:, :-1]
    chosen = ids[:, -longest:]
    # Row by row, as in TRL, so that only one row of log-probabilities over the vocabulary is in
    # memory.
    logps = torch.stack([row.log_softmax(-1).gather(-1, ids[:, None])[:, 0] for row, ids in zip(logits, chosen)])
    return logps, mask[:, -longest:].float()


def loss_of(logps, mask, part, kind, tokens):
    """Returns these samples' summand of the batch's loss."""
    if kind == "supervised":
        return -(logps * mask).sum() / tokens
    width = logps.shape[1]
    stacked = lambda key: torch.stack([torch.nn.functional.pad(s[key], (0, width - len(s[key]))) for s in part])
    old, reference, a = stacked("old"), stacked("reference"), torch.tensor([[s["advantage"]] for s in part])
    ratio = (logps - old).exp()
    l = torch.maximum(-a * ratio, -a * ratio.clamp(1 - EPS_LOW, 1 + EPS_HIGH))
    l = torch.where(a < 0, torch.minimum(l, -a * DUAL), l)
    d = (reference - logps).clamp(-20, 20)
    return ((l + BETA * (d.exp() - d - 1).clamp(-10, 10)) * mask).sum() / tokens


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("spec", help="a file of bench/configs/training-*.json")
    options.add_argument("model", help="a checkpoint folder")
    options.add_argument("--checkpointing", action="store_true", help="recompute each layer in the backward pass (activation checkpointing)")
    options.add_argument("--micro-batch", type=int, help="number of samples in one forward pass; all by default")
    options.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"], help="implementation of attention")
    options.add_argument("--threads", type=int, default=2, help="number of threads")
    options.add_argument("--loss", choices=["supervised", "grpo"], help="the loss, instead of the spec's")
    options = options.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with open(options.spec) as file:
        spec = json.load(file)
    kind = options.loss or spec["loss"]

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32, attn_implementation=options.attention).train()
    if options.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=dict(use_reentrant=False))
    samples, images, grid = batch_of(spec, model.config)
    size = options.micro_batch or len(samples)
    pad = spec["text_ids"][0]
    tokens = sum(len(s["response"]) for s in samples)
    all_tokens = sum(len(s["prompt"]) for s in samples) + tokens
    # Sorted by length, so that there is little padding.
    ordered = sorted(samples, key=lambda s: len(s["response"])) if size < len(samples) else samples
    parts = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    if kind == "grpo":
        with torch.no_grad():
            for i in range(0, len(ordered), 16):
                part = ordered[i : i + 16]
                logps, _ = response_logps(model, part, images, grid, pad)
                for s, row in zip(part, logps):
                    s["old"] = s["reference"] = row[: len(s["response"])].clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec["learning_rate"], betas=(0.9, 0.999), weight_decay=0.01)
    before, seconds, losses, norms = memory("VmHWM"), [], [], []
    for _ in range(spec["warm_up_steps"] + spec["timed_steps"]):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in parts:
            logps, mask = response_logps(model, part, images, grid, pad)
            loss = loss_of(logps, mask, part, kind, tokens)
            loss.backward()
            total += loss.item()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        losses.append(total)
    timed = seconds[spec["warm_up_steps"] :]
    print(json.dumps(dict(
        program="transformers", spec=spec["name"], loss=kind, attention=options.attention, checkpointing=options.checkpointing, micro_batch=size,
        threads=options.threads, samples=len(samples), tokens=all_tokens, response_tokens=tokens, parameters=sum(p.numel() for p in model.parameters()),
        tokens_per_second=round(all_tokens / min(timed), 1), step_seconds=round(min(timed), 4), steps_seconds=[round(s, 4) for s in seconds],
        peak_mib=memory("VmHWM"), peak_before_mib=before, losses=losses, gradient_norms=norms)))


if __name__ == "__main__":
    sys.exit(main())
