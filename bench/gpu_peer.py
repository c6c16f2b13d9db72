#!/usr/bin/env python3
"""Benchmark of transformers and PyTorch with the shapes of a report of `visplay doctor --full`, on
the same device.

    python bench/gpu_peer.py docs/results/device-NAME.json [--runs 3] [--micro-batch 8]

Reads the shapes from a report that `visplay doctor --full --out` wrote, measures each with
transformers (SDPA attention, the report's dtype, activation checkpointing in the update), and
writes `device-NAME-peer.json` and `.md` next to the report: seconds, units per second, peak memory,
and visplay's speed as a multiple of this one. Both sides count the same units. In an update,
transformers needs the prompt and image once per sample, but only visplay's tokens are counted,
where each prompt occurs once.

- vision: the vision tower on all images at once.
- prefill: one forward pass with a KV cache, and the logits of the last token.
- decode: `generate` with temperature 1 and top-k 40. The time of the first 4 tokens is measured
  separately and subtracted.
- update: forward pass, backward pass and a step of fused AdamW with f32 master weights under
  autocast, in micro-batches. If the report says that only adapters were trained: the same adapters
  by PEFT.

Needs torch and transformers 5 (and peft for adapters).
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

# Tokens whose time is subtracted from that of a longer generation.
FIRST = 4


def token_id(i):
    return i * 7 % 251


class Peer:
    """Models with random weights on a device."""

    def __init__(self, config, dtype, device):
        self.device = torch.device(device)
        self.dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[dtype]
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(Path(config).read_text())
            self.config = AutoConfig.from_pretrained(folder)
        self.vision = self.config.vision_config

    def model(self, dtype):
        with torch.device(self.device):
            model = Qwen2_5_VLForConditionalGeneration._from_config(self.config, dtype=dtype, attn_implementation="sdpa")
        return model.to(self.device)

    def seconds(self, runs, work):
        """Returns the median seconds of some runs after a warm-up run."""
        times = []
        for run in range(runs + 1):
            self.synchronize()
            clock = time.perf_counter()
            work()
            self.synchronize()
            if run > 0:
                times.append(time.perf_counter() - clock)
        return statistics.median(times)

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def image_tokens(self, side):
        return side * side // self.vision.spatial_merge_size**2

    def patches(self, images, side):
        length = self.vision.in_channels * self.vision.temporal_patch_size * self.vision.patch_size**2
        values = torch.full((images * side * side, length), 0.5, device=self.device)
        return values, torch.tensor([[1, side, side]] * images, device=self.device)

    def run_vision(self, model, n, runs):
        values, grid = self.patches(n["images"], n["image_side"])
        with torch.no_grad():
            return self.seconds(runs, lambda: model.model.visual(values.to(self.dtype), grid_thw=grid))

    def prompts(self, count, tokens):
        ids = torch.tensor([[token_id(p * tokens + i) for i in range(tokens)] for p in range(count)], device=self.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def run_prefill(self, model, n, runs):
        prompts = self.prompts(n["batch"], n["prompt_tokens"])
        with torch.no_grad():
            return self.seconds(runs, lambda: model(**prompts, use_cache=True, logits_to_keep=1))

    def run_decode(self, model, n, runs):
        prompts = self.prompts(1, n["prompt_tokens"])
        prompts = {key: value.expand(n["batch"], -1) for key, value in prompts.items()}

        def generate(tokens):
            return lambda: model.generate(**prompts, do_sample=True, temperature=1.0, top_k=40, max_new_tokens=tokens,
                                          min_new_tokens=tokens, pad_token_id=0)

        with torch.no_grad():
            first = self.seconds(runs, generate(FIRST))
            return self.seconds(runs, generate(FIRST + n["response_tokens"])) - first

    def run_update(self, n, runs, adapters, micro_batch):
        model = self.model(self.dtype if adapters else torch.float32)
        if adapters:
            from peft import LoraConfig, get_peft_model

            layers = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
            model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=rf".*language_model.*\.({layers})"))
        model.train()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if adapters:
            model.enable_input_require_grads()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-6, weight_decay=0.01, fused=self.device.type == "cuda")
        image = [self.config.image_token_id] * self.image_tokens(n["image_side"])
        samples = []
        for g in range(n["batch"]):
            prompt = image + [token_id(g + i) for i in range(n["prompt_tokens"])]
            for r in range(n["responses"]):
                samples.append(prompt + [token_id(g * 31 + r * 7 + i) for i in range(n["response_tokens"])])
        targets = len(samples) * n["response_tokens"]

        def step():
            for at in range(0, len(samples), micro_batch):
                ids = torch.tensor(samples[at : at + micro_batch], device=self.device)
                values, grid = self.patches(len(ids), n["image_side"])
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=values, image_grid_thw=grid,
                                   mm_token_type_ids=(ids == self.config.image_token_id).int(), use_cache=False,
                                   logits_to_keep=n["response_tokens"] + 1).logits[:, :-1]
                logps = logits.float().log_softmax(-1).gather(-1, ids[:, -n["response_tokens"] :, None])
                (-logps.sum() / targets).backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return self.seconds(runs, step)


def measure(rate, peer, model, arguments):
    """Returns the seconds of an operation of the report."""
    n = rate["numbers"]
    if rate["what"] == "update":
        adapters = "adapters" in (rate["note"] or "")
        return peer.run_update(n, arguments.runs, adapters, arguments.micro_batch)
    return getattr(peer, f"run_{rate['what']}")(model, n, arguments.runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="the JSON report of `visplay doctor --full`")
    parser.add_argument("--runs", type=int, default=3, help="number of timed runs, of which the median counts")
    parser.add_argument("--micro-batch", type=int, default=8, help="number of sequences in one forward pass of an update")
    arguments = parser.parse_args()
    report = json.loads(arguments.report.read_text())
    device = "cpu" if report["device"]["class"] == "cpu" else f"cuda:{report['device']['index']}"
    rows, models = [], (None, None)
    for rate in report["rates"]:
        # Speeds without visplay's own kernels are only compared with those with them.
        if not rate.get("own_kernels", True):
            continue
        print(f"{rate['model']}: {rate['what']}, {rate['shape']}", file=sys.stderr)
        peer = Peer(rate["config"], rate["dtype"], device)
        # An update creates its own model; the other operations of one config share a model.
        config = None if rate["what"] == "update" else rate["config"]
        if config != models[0]:
            models = (None, None)
            if device != "cpu":
                torch.cuda.empty_cache()
            models = (config, peer.model(peer.dtype).eval() if config else None)
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats(device)
        row = {key: rate[key] for key in ("model", "what", "shape", "dtype", "unit")}
        try:
            seconds = measure(rate, peer, models[1], arguments)
            ours, count = rate["per_second"], (rate["per_second"] or 0) * (rate["seconds"] or 0)
            row |= {"seconds": seconds, "per_second": count / seconds, "visplay_over_this": ours and ours * seconds / count}
        except (torch.cuda.OutOfMemoryError, ImportError) as error:
            row |= {"seconds": None, "per_second": None, "visplay_over_this": None, "note": str(error).splitlines()[0]}
        row["peak_memory"] = torch.cuda.max_memory_allocated(device) if device != "cpu" else None
        row["visplay_peak_memory"] = rate["peak_memory"]
        rows.append(row)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "cuda": torch.version.cuda}
    out = arguments.report.with_name(arguments.report.stem + "-peer.json")
    out.write_text(json.dumps({"versions": versions, "report": arguments.report.name, "rows": rows}, indent=2) + "\n")
    lines = ["| model | operation | at once | transformers per second | unit | visplay / transformers | peak memory | visplay's peak memory |", "|---" * 8 + "|"]
    gib = lambda n: "-" if n is None else f"{n / 2**30:.1f} GiB"
    number = lambda n, form: "-" if n is None else format(n, form)
    for row in rows:
        lines.append(f"| {row['model']} | {row['what']} | {row['shape']} | {number(row['per_second'], ',.0f')} | {row['unit']} | "
                     f"{number(row['visplay_over_this'], '.2f')} | {gib(row['peak_memory'])} | {gib(row['visplay_peak_memory'])} |")
    table = "\n".join(lines)
    out.with_suffix(".md").write_text(f"# Transformers {transformers.__version__} on PyTorch {torch.__version__}, in the same shapes\n\n{table}\n")
    print(table)


if __name__ == "__main__":
    main()
