#!/usr/bin/env python3
"""What transformers and PyTorch do with the shapes that `visplay doctor --full` measured, on the same device.

    python bench/gpu_peer.py docs/results/device-NAME.json

Reads the shapes from the report of `visplay doctor --full --out`, measures each with transformers (SDPA attention, the report's
number format, gradient checkpointing in the update) and writes `device-NAME-peer.json` and `.md` beside it: seconds, counts a second,
peak memory, and visplay's figure over this one. A count is the same on both sides; in an update each sample carries its own prompt
and image here, as transformers wants it, and only visplay's tokens are counted, which holds every prompt once.

- vision: the vision tower on all images at once.
- prefill: one forward pass with a cache, logits of the last token.
- decode: `generate` with temperature 1 and top-k 40; the time of the first 4 tokens is measured by itself and left out.
- update: forward, backward and a step of fused AdamW with f32 master weights under autocast, by micro-batches; where the report says
  that only adapters were trained, the same adapters by PEFT.

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

FIRST = 4


def word(i):
    return i * 7 % 251


class Peer:
    """A model of random weights on a device."""

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

    def seconds(self, runs, f):
        times = []
        for run in range(runs + 1):
            self.wait()
            clock = time.perf_counter()
            f()
            self.wait()
            if run > 0:
                times.append(time.perf_counter() - clock)
        return statistics.median(times)

    def wait(self):
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
        ids = torch.tensor([[word(p * tokens + i) for i in range(tokens)] for p in range(count)], device=self.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def run_prefill(self, model, n, runs):
        prompts = self.prompts(n["batch"], n["prompt_tokens"])
        with torch.no_grad():
            return self.seconds(runs, lambda: model(**prompts, use_cache=True, logits_to_keep=1))

    def run_decode(self, model, n, runs):
        prompts = self.prompts(1, n["prompt_tokens"])
        prompts = {key: value.expand(n["batch"], -1) for key, value in prompts.items()}

        def draw(tokens):
            return lambda: model.generate(**prompts, do_sample=True, temperature=1.0, top_k=40, max_new_tokens=tokens,
                                          min_new_tokens=tokens, pad_token_id=0)

        with torch.no_grad():
            first = self.seconds(runs, draw(FIRST))
            return self.seconds(runs, draw(FIRST + n["response_tokens"])) - first

    def run_update(self, n, runs, adapters, micro_batch):
        model = self.model(self.dtype if adapters else torch.float32)
        if adapters:
            from peft import LoraConfig, get_peft_model

            maps = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
            model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=rf".*language_model.*\.({maps})"))
        model.train()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if adapters:
            model.enable_input_require_grads()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-6, weight_decay=0.01, fused=self.device.type == "cuda")
        image = [self.config.image_token_id] * self.image_tokens(n["image_side"])
        samples = []
        for g in range(n["batch"]):
            prompt = image + [word(g + i) for i in range(n["prompt_tokens"])]
            for r in range(n["responses"]):
                samples.append(prompt + [word(g * 31 + r * 7 + i) for i in range(n["response_tokens"])])
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
    n = rate["numbers"]
    if rate["what"] == "update":
        adapters = "adapters" in (rate["note"] or "")
        return peer.run_update(n, arguments.runs, adapters, arguments.micro_batch)
    return getattr(peer, f"run_{rate['what']}")(model, n, arguments.runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--micro-batch", type=int, default=8, help="sequences of an update that go through the model together")
    arguments = parser.parse_args()
    report = json.loads(arguments.report.read_text())
    device = "cpu" if report["device"]["class"] == "cpu" else f"cuda:{report['device']['index']}"
    rows, models = [], (None, None)
    for rate in report["rates"]:
        # What visplay did without its own kernels is there to be compared with itself.
        if not rate.get("own_kernels", True):
            continue
        print(f"{rate['model']}: {rate['what']}, {rate['shape']}", file=sys.stderr)
        peer = Peer(rate["config"], rate["dtype"], device)
        needs = None if rate["what"] == "update" else rate["config"]
        if needs != models[0]:
            models = (None, None)
            if device != "cpu":
                torch.cuda.empty_cache()
            models = (needs, peer.model(peer.dtype).eval() if needs else None)
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats(device)
        row = {key: rate[key] for key in ("model", "what", "shape", "dtype", "unit")}
        try:
            seconds = measure(rate, peer, models[1], arguments)
            ours, count = rate["per_second"], (rate["per_second"] or 0) * (rate["seconds"] or 0)
            row |= {"seconds": seconds, "per_second": count / seconds, "visplay_over_this": ours and ours * seconds / count}
        except (torch.cuda.OutOfMemoryError, ImportError) as problem:
            row |= {"seconds": None, "per_second": None, "visplay_over_this": None, "note": str(problem).splitlines()[0]}
        row["peak_memory"] = torch.cuda.max_memory_allocated(device) if device != "cpu" else None
        row["visplay_peak_memory"] = rate["peak_memory"]
        rows.append(row)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "cuda": torch.version.cuda}
    out = arguments.report.with_name(arguments.report.stem + "-peer.json")
    out.write_text(json.dumps({"versions": versions, "report": arguments.report.name, "rows": rows}, indent=2) + "\n")
    lines = ["| model | what | at once | transformers a second | | visplay over it | peak memory | visplay's |", "|---" * 8 + "|"]
    gib = lambda n: "-" if n is None else f"{n / 2**30:.1f} GiB"
    number = lambda n, form: "-" if n is None else format(n, form)
    for row in rows:
        lines.append(f"| {row['model']} | {row['what']} | {row['shape']} | {number(row['per_second'], ',.0f')} | {row['unit']} | "
                     f"{number(row['visplay_over_this'], '.2f')} | {gib(row['peak_memory'])} | {gib(row['visplay_peak_memory'])} |")
    table = "\n".join(lines)
    out.with_suffix(".md").write_text(f"# The same by transformers {transformers.__version__} on PyTorch {torch.__version__}\n\n{table}\n")
    print(table)


if __name__ == "__main__":
    main()
