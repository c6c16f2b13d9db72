"""Gradients of every parameter by PyTorch autograd through transformers, for the supervised and the GRPO loss.

    python tests/oracles/gradients.py        # needs torch, transformers 5, safetensors, pillow

Writes `gradients.json` and `gradients.safetensors`. The tiny checkpoints of `tests/data/model` run in f64 with eager
attention. In the JSON: `examples` (prompt, images, response), then for each checkpoint its cases with what went in
(loss, aggregation, temperature, advantages, and for each example `old` and `reference` log-probabilities), the losses,
`logps` and `entropies` by response token, and for each parameter `[norm, sum, numbers]` of its gradient. In the safetensors:
`CHECKPOINT/places/PARAMETER` (u32, places in the flattened tensor) and `CHECKPOINT/CASE/PARAMETER` (f32, the gradient
there). A parameter of at most 200 numbers is kept whole and has no places. Names are the checkpoint's, in the first naming.

The GRPO cases are made so that every branch of the loss occurs, well away from where two branches meet; the script asserts
it and says how many tokens are in each.
"""

import json
from collections import Counter

import numpy as np
import torch

import tiny_models as tiny

CHECKPOINTS = ["tied-1", "untied-2", "gqa-3", "mimo-like", "nano-like"]
# Prompts of parity.json: one image whose sides the windows do not divide, text only, two images; twice each.
PROMPTS = [0, 0, 10, 10, 11, 11]
LENGTHS = [7, 5, 9, 6, 8, 11]
ADVANTAGES = [1.1, -0.9, -1.3, 0.0, 0.7, -0.4]
EPS_LOW, EPS_HIGH, DUAL, BETA, MAX_TOKENS = 0.2, 0.3, 3.0, 0.1, 16
# logp - logp_old, none near a place where two branches of the loss meet: log(0.8) -0.22, log(1.3) 0.26, log(3) 1.10.
STEPS = [0.02, -0.05, 0.5, -0.4, 1.4, -1.5, 0.15, -0.12]
# reference - logp: the last two are held by the clamp of k3 (at 10) and of the difference (at 20).
REFERENCES = [0.3, -0.5, 0.05, -1.2, 1.1, -0.02, 3.0, 25.0]
CASES = {
    "supervised": dict(loss="supervised"),
    "token": dict(loss="grpo", aggregation="token", temperature=1.0),
    "sequence": dict(loss="grpo", aggregation="sequence", temperature=0.7),
    "dr-grpo": dict(loss="grpo", aggregation="dr-grpo", temperature=1.0),
}


def inputs(model, examples, temperature):
    """Log-probabilities of the weights that sampled and of the reference, placed around those of the model."""
    old, reference = [], []
    with torch.no_grad():
        for i, example in enumerate(examples):
            logps = tiny.logps_and_entropies(model, example, temperature)[0].tolist()
            old.append([round(p - STEPS[(3 * i + t) % 8], 5) for t, p in enumerate(logps)])
            reference.append([round(p + REFERENCES[(5 * i + 3 * t) % 8], 5) for t, p in enumerate(logps)])
    return old, reference


def grpo(model, examples, case, old, reference, seen):
    """The loss of docs/training.md (GRPO): total, policy part, k3 part, log-probabilities and entropies."""
    policy, divergence, logps, entropies = [], [], [], []
    for i, example in enumerate(examples):
        logp, entropy = tiny.logps_and_entropies(model, example, case["temperature"])
        exact = lambda values: torch.tensor(values, dtype=torch.float64).to(logp)
        a, o, r = ADVANTAGES[i], exact(old[i]), exact(reference[i])
        ratio = (logp - o).exp()
        l1, l2 = -a * ratio, -a * ratio.clamp(1 - EPS_LOW, 1 + EPS_HIGH)
        l = torch.maximum(l1, l2)
        if a < 0:
            held = l > -a * DUAL
            seen["dual"] += int(held.sum())
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
    model.zero_grad(set_to_none=True)
    if case["loss"] == "supervised":
        pairs = [tiny.logps_and_entropies(model, e, 1.0) for e in examples]
        logps, entropies = zip(*pairs)
        loss = -torch.cat(logps).sum() / sum(map(len, logps))
        parts = {}
    else:
        loss, policy, divergence, logps, entropies = grpo(model, examples, case, old, reference, seen)
        parts = dict(policy_loss=tiny.figure(policy), kl=tiny.figure(divergence))
    loss.backward()
    figures = dict(loss=tiny.figure(loss), **parts, logps=[tiny.round_list(l) for l in logps],
                   entropies=[tiny.round_list(e) for e in entropies])
    return figures, {n: p.grad for n, p in tiny.parameters(model).items()}


def main():
    examples = tiny.examples(PROMPTS, 5, LENGTHS)
    tensors, result = {}, dict(
        examples=examples, advantages=ADVANTAGES, eps_low=EPS_LOW, eps_high=EPS_HIGH, dual=DUAL, beta=BETA,
        max_tokens=MAX_TOKENS, checkpoints={})
    for name in CHECKPOINTS:
        wide, narrow = tiny.load(name), tiny.load(name, torch.float32)
        cases, places = {}, None
        for key, case in CASES.items():
            old = reference = None
            more = {}
            if case["loss"] == "grpo":
                old, reference = inputs(wide, examples, case["temperature"])
                more = dict(old=old, reference=reference)
            seen = Counter()
            figures, gradients = run(wide, examples, case, old, reference, seen)
            _, single = run(narrow, examples, case, old, reference, Counter())
            assert all(g is not None and g.norm() > 0 for g in gradients.values())
            if places is None:
                places = {n: tiny.places_of(n, g, 7) for n, g in gradients.items()}
                tensors |= {f"{name}/places/{n}": torch.tensor(p.astype(np.uint32)) for n, p in places.items() if gradients[n].numel() > tiny.FULL}
            tensors |= {f"{name}/{key}/{n}": tiny.kept(g, places[n]) for n, g in gradients.items()}
            errors = {n: ((single[n].double() - g).norm() / g.norm()).item() for n, g in gradients.items()}
            worst = max(errors, key=errors.get)
            if case["loss"] == "grpo":
                branches = ["dual", "clip low", "clip high", "far but not clipped", "within", "negative advantage", "positive advantage", "zero advantage", "k3 clamped", "difference clamped"]
                assert all(seen[b] for b in branches), seen
                more["tokens_by_branch"] = {b: seen[b] for b in branches}
            cases[key] = case | figures | more | dict(gradients={n: [tiny.figure(g.norm()), tiny.figure(g.sum()), g.numel()] for n, g in sorted(gradients.items())})
            print(f"{name} {key}: loss {figures['loss']}, f32 against f64 at most {errors[worst]:.1e} ({worst}) {dict(seen)}", flush=True)
        result["checkpoints"][name] = cases
    (tiny.FOLDER / "gradients.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")
    tiny.save(tensors, "gradients.safetensors")


if __name__ == "__main__":
    main()
