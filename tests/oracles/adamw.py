"""Freezes steps of torch.optim.AdamW: five on tiny checkpoints with the supervised loss, and six on
plain tensors with given gradients.

    python tests/oracles/adamw.py            # needs torch, transformers 5, safetensors, pillow

Writes `adamw.json` (settings, examples, and for each step its learning rate, loss, and gradient norm
before clipping) and `adamw.safetensors`. For a model: `CHECKPOINT/places/PARAMETER` (u32 indices of
the stored entries, if the parameter has more than 200 entries or some were left out) and
`CHECKPOINT/STEP/PARAMETER` (f32, these entries after the step, counted from 0). For plain tensors:
`plain/gradient/STEP/NAME`, `plain/STEP/NAME` and `plain/start/NAME`.

All parameters decay, as in verl. The schedule warms up linearly over W steps and then follows a
cosine, and no step has rate 0: rate(s) = lr * (s + 1) / W for s < W, then
lr * (1 + cos(pi * (s - W) / (N - W))) / 2. The gradient is clipped as by
`torch.nn.utils.clip_grad_norm_`: multiplied by min(1, max / (norm + 1e-6)).

A step of Adam is nearly the sign of the gradient. So an entry whose gradient is only rounding noise
moves by the full learning rate in an arbitrary direction. The model runs in f64 and in f32, and
entries in which the two differ by more than 1e-6 are left out; the JSON has their number
(`left_out`).
"""

import copy
import json
import math

import numpy as np
import torch

import tiny_models as tiny

CHECKPOINTS = ["tied-1", "untied-2"]
STEPS, WARM_UP, TOTAL = 5, 2, 8
SETTINGS = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
MAX_NORM = 1.0
PLAIN_SHAPES = {"matrix": (5, 7), "row": (11,), "one": (1,), "still": (4,)}


def rate(step):
    if step < WARM_UP:
        return SETTINGS["lr"] * (step + 1) / WARM_UP
    return SETTINGS["lr"] * (1 + math.cos(math.pi * (step - WARM_UP) / (TOTAL - WARM_UP))) / 2


def train(model, examples):
    """Returns each step's metrics and the parameters after it."""
    parameters = tiny.parameters(model)
    optimizer = torch.optim.AdamW(parameters.values(), **SETTINGS)
    metrics, after = [], []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        loss = tiny.supervised_loss(model, examples)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_NORM)
        optimizer.step()
        metrics.append(dict(rate=rate(step), loss=tiny.rounded(loss), norm=tiny.rounded(norm)))
        after.append({n: p.detach().double().clone() for n, p in parameters.items()})
    return metrics, after


def model_case(name, examples, tensors):
    """Adds a checkpoint's tensors to `tensors` and returns its part of the JSON."""
    (metrics, wide), (_, narrow) = train(tiny.load(name), examples), train(tiny.load(name, torch.float32), examples)
    left_out = total = 0
    for parameter in wide[0]:
        difference = torch.stack([(w[parameter] - n[parameter]).abs() for w, n in zip(wide, narrow)]).amax(0).flatten().numpy()
        stable = np.flatnonzero(difference <= 1e-6)
        left_out, total = left_out + difference.size - len(stable), total + difference.size
        if difference.size > tiny.FULL:
            rng = np.random.default_rng([9, *parameter.encode()])
            stable = np.sort(rng.choice(stable, tiny.SAMPLED, replace=False))
        assert len(stable) >= min(difference.size, tiny.SAMPLED) * 0.9, parameter
        if len(stable) < difference.size:
            tensors[f"{name}/places/{parameter}"] = torch.tensor(stable.astype(np.uint32))
        for step, state in enumerate(wide):
            tensors[f"{name}/{step}/{parameter}"] = tiny.entries(state[parameter], stable)
    print(f"{name}: losses {[m['loss'] for m in metrics]}, norms {[m['norm'] for m in metrics]}, left out {left_out} of {total}", flush=True)
    return dict(left_out=left_out, numbers=total, steps=metrics)


def plain_case(tensors):
    """Steps with clipped, unclipped, tiny and zero gradients, and one that is not finite: that step
    is skipped. It still counts for the learning rate, but not for the moments and their bias
    correction."""
    rng = np.random.default_rng(17)
    start = {n: torch.tensor(rng.standard_normal(s), dtype=torch.float32) for n, s in PLAIN_SHAPES.items()}
    tensors |= {f"plain/start/{n}": t for n, t in start.items()}
    parameters = {n: torch.nn.Parameter(t.double()) for n, t in copy.deepcopy(start).items()}
    optimizer = torch.optim.AdamW(parameters.values(), **SETTINGS)
    steps = []
    for step, scale in enumerate([3.0, 0.05, 1e-6, math.nan, 0.0, 40.0]):
        for n, p in parameters.items():
            gradient = torch.zeros(PLAIN_SHAPES[n]) if n == "still" or scale == 0 else torch.tensor(rng.standard_normal(PLAIN_SHAPES[n]), dtype=torch.float32)
            if math.isnan(scale):
                gradient = torch.where(torch.arange(gradient.numel()).reshape(gradient.shape) == 2, math.inf if n == "row" else 0.5, gradient)
            elif scale:
                gradient = gradient * scale
            tensors[f"plain/gradient/{step}/{n}"] = gradient.contiguous()
            p.grad = gradient.double()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_NORM)
        skipped = not math.isfinite(norm)
        if not skipped:
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            optimizer.step()
        steps.append(dict(rate=rate(step), norm=None if skipped else tiny.rounded(norm), skipped=skipped))
        tensors |= {f"plain/{step}/{n}": p.detach().float().clone() for n, p in parameters.items()}
    assert [s["skipped"] for s in steps] == [False, False, False, True, False, False]
    return dict(steps=steps)


def main():
    examples = tiny.examples([0, 10, 11], 6, [8, 6, 9])
    tensors = {}
    result = dict(settings=SETTINGS | dict(max_norm=MAX_NORM, warm_up=WARM_UP, total=TOTAL), examples=examples, plain=plain_case(tensors),
                  checkpoints={name: model_case(name, examples, tensors) for name in CHECKPOINTS})
    (tiny.FOLDER / "adamw.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")
    tiny.save(tensors, "adamw.safetensors")


if __name__ == "__main__":
    main()
