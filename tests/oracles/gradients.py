"""Freezes the gradients of every parameter by PyTorch autograd through transformers, for the
supervised and the GRPO loss.

    python tests/oracles/gradients.py        # needs torch, transformers 5, safetensors, pillow

Writes `gradients.json` and `gradients.safetensors`. The tiny checkpoints of `tests/data/model` run in
f64 with eager attention. The JSON has `examples` (prompt, images, response) and for each checkpoint
its cases: the inputs (loss, aggregation, temperature, advantages, and for each example the `old` and
`reference` log-probabilities), the losses, `logps` and `entropies` by response token, and for each
parameter `[norm, sum, number of entries]` of its gradient. The safetensors file has
`CHECKPOINT/places/PARAMETER` (u32, indices into the flattened tensor) and
`CHECKPOINT/CASE/PARAMETER` (f32, the gradient there). A parameter of at most 200 entries is stored
whole and has no places. Parameters are named as in the published files.

The GRPO cases reach every branch of the loss, well away from the boundaries between branches; the
script asserts it and prints how many tokens are in each.
"""

import json
from collections import Counter

import numpy as np
import torch

import tiny_models as tiny

CHECKPOINTS = ["tied-1", "untied-2", "gqa-3", "mimo-like", "nano-like"]
# Prompts of parity.json, each twice: one image that windows do not divide evenly, text only, two
# images.
PROMPTS = [0, 0, 10, 10, 11, 11]
LENGTHS = [7, 5, 9, 6, 8, 11]
ADVANTAGES = [1.1, -0.9, -1.3, 0.0, 0.7, -0.4]
EPS_LOW, EPS_HIGH, DUAL, BETA, MAX_TOKENS = 0.2, 0.3, 3.0, 0.1, 16
# logp - logp_old, none near a boundary between branches of the loss: log(0.8) = -0.22,
# log(1.3) = 0.26, log(3) = 1.10.
STEPS = [0.02, -0.05, 0.5, -0.4, 1.4, -1.5, 0.15, -0.12]
# reference - logp: the last two reach the clamp of k3 (at 10) and of the difference (at 20).
REFERENCES = [0.3, -0.5, 0.05, -1.2, 1.1, -0.02, 3.0, 25.0]
CASES = {
    "supervised": dict(loss="supervised"),
    "token": dict(loss="grpo", aggregation="token", temperature=1.0),
    "sequence": dict(loss="grpo", aggregation="sequence", temperature=0.7),
    "dr-grpo": dict(loss="grpo", aggregation="dr-grpo", temperature=1.0),
}


def inputs(model, examples, temperature):
    """Returns old and reference log-probabilities at chosen distances from the model's."""
    old, reference = [], []
    with torch.no_grad():
        for i, example in enumerate(examples):
            logps = tiny.logps_and_entropies(model, example, temperature)[0].tolist()
            old.append([round(p - STEPS[(3 * i + t) % 8], 5) for t, p in enumerate(logps)])
            reference.append([round(p + REFERENCES[(5 * i + 3 * t) % 8], 5) for t, p in enumerate(logps)])
    return old, reference


def grpo(model, examples, case, old, reference, seen):
    """Returns the GRPO loss of docs/training.md: total, policy part, k3 part, log-probabilities and
    entropies. Counts the tokens of each branch in `seen`."""
    policy, divergence, logps, entropies = [], [], [], []
    for i, example in enumerate(examples):
        logp, entropy = tiny.logps_and_entropies(model, example, case["temperature"])
        exact = lambda values: torch.tensor(values, dtype=torch.float64).to(logp)
        a, o, r = ADVANTAGES[i], exact(old[i]), exact(reference[i])
        ratio = (logp - o).exp()
        l1, l2 = -a * ratio, -a * ratio.clamp(1 - EPS_LOW, 1 + EPS_HIGH)
        l = torch.maximum(l1, l2)
        if a < 0:
            clipped = l > -a * DUAL
            seen["dual"] += int(clipped.sum())
            l = l.clamp(max=-a * DUAL)
        low, high = (ratio < 1 - EPS_LOW).sum().item(), (ratio > 1 + EPS_HIGH).sum().item()
        seen["clip low"] += low * (a < 0)
        seen["clip high"] += high * (a > 0)
        seen["far but not clipped"] += low * (a > 0) + (high - (ratio > DUAL).sum().item()) * (a < 0)
        seen["within"] += len(l) - low - high
        seen["negative advantage" if a < 0 else "positive advantage" if a > 0 else "zero advantage"] += len(l)
        for edge in (1 - EPS_LOW, 1 + EPS_HIGH, DUAL):
            assert ((ratio - edge).abs() > 0.02).all()
        difference = (r - logp).clamp(-20, 20)
        k3 = difference.exp() - difference - 1
        seen["k3 clamped"] += int((k3 > 10).sum())
        seen["difference clamped"] += int(((r - logp).abs() > 20).sum())
        policy.append(l)
        divergence.append(k3.clamp(-10, 10))
        logps.append(logp)
        entropies.append(entropy)
    tokens = sum(len(l) for l in policy)
    aggregate = {
        "token": lambda parts: sum(p.sum() for p in parts) / tokens,
        "sequence": lambda parts: sum(p.mean() for p in parts) / len(parts),
        "dr-grpo": lambda parts: sum(p.sum() for p in parts) / (len(parts) * MAX_TOKENS),
    }[case["aggregation"]]
    a, b = aggregate(policy), aggregate(divergence)
    return a + BETA * b, a, b, logps, entropies


def run(model, examples, case, old, reference, seen):
    """Returns the results of a case and the gradients by parameter."""
    model.zero_grad(set_to_none=True)
    if case["loss"] == "supervised":
        pairs = [tiny.logps_and_entropies(model, e, 1.0) for e in examples]
        logps, entropies = zip(*pairs)
        loss = -torch.cat(logps).sum() / sum(map(len, logps))
        parts = {}
    else:
        loss, policy, divergence, logps, entropies = grpo(model, examples, case, old, reference, seen)
        parts = dict(policy_loss=tiny.rounded(policy), kl=tiny.rounded(divergence))
    loss.backward()
    results = dict(loss=tiny.rounded(loss), **parts, logps=[tiny.round_list(l) for l in logps],
                   entropies=[tiny.round_list(e) for e in entropies])
    return results, {n: p.grad for n, p in tiny.parameters(model).items()}


def main():
    examples = tiny.examples(PROMPTS, 5, LENGTHS)
    tensors, document = {}, dict(
        examples=examples, advantages=ADVANTAGES, eps_low=EPS_LOW, eps_high=EPS_HIGH, dual=DUAL, beta=BETA,
        max_tokens=MAX_TOKENS, checkpoints={})
    for name in CHECKPOINTS:
        wide, narrow = tiny.load(name), tiny.load(name, torch.float32)
        cases, indices = {}, None
        for key, case in CASES.items():
            old = reference = None
            more = {}
            if case["loss"] == "grpo":
                old, reference = inputs(wide, examples, case["temperature"])
                more = dict(old=old, reference=reference)
            seen = Counter()
            results, gradients = run(wide, examples, case, old, reference, seen)
            _, single = run(narrow, examples, case, old, reference, Counter())
            assert all(g is not None and g.norm() > 0 for g in gradients.values())
            if indices is None:
                indices = {n: tiny.entry_indices(n, g, 7) for n, g in gradients.items()}
                tensors |= {f"{name}/places/{n}": torch.tensor(i.astype(np.uint32)) for n, i in indices.items() if gradients[n].numel() > tiny.FULL}
            tensors |= {f"{name}/{key}/{n}": tiny.entries(g, indices[n]) for n, g in gradients.items()}
            errors = {n: ((single[n].double() - g).norm() / g.norm()).item() for n, g in gradients.items()}
            worst = max(errors, key=errors.get)
            if case["loss"] == "grpo":
                branches = ["dual", "clip low", "clip high", "far but not clipped", "within", "negative advantage", "positive advantage", "zero advantage", "k3 clamped", "difference clamped"]
                assert all(seen[b] for b in branches), seen
                more["tokens_by_branch"] = {b: seen[b] for b in branches}
            cases[key] = case | results | more | dict(gradients={n: [tiny.rounded(g.norm()), tiny.rounded(g.sum()), g.numel()] for n, g in sorted(gradients.items())})
            print(f"{name} {key}: loss {results['loss']}, relative error of f32 at most {errors[worst]:.1e} ({worst}) {dict(seen)}", flush=True)
        document["checkpoints"][name] = cases
    (tiny.FOLDER / "gradients.json").write_text(json.dumps(document, separators=(",", ":")) + "\n")
    tiny.save(tensors, "gradients.safetensors")


if __name__ == "__main__":
    main()
