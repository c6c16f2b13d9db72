"""Computes GRPO as in docs/training.md with NumPy (f64), compares it with PyTorch's autograd, verl
and TRL where they agree, and freezes the results.

    python tests/oracles/grpo.py             # needs numpy; for the comparison torch, verl and trl

Writes `grpo.jsonl`, one object per line, by `kind`:

- `advantages`: `groups` of rewards -> `advantages`, `means`, `stds` (n - 1; 0 for a group of one),
  `frac_zero_std`; without `scale` the standard deviation does not divide (dr-grpo). `kept` has the
  groups that stay when groups with zero standard deviation are dropped.
- `loss`: settings and `responses` (advantage, whether it is truncated, and per token `logp`, `old`,
  `reference`, `sampler`) -> `loss`, `policy_loss`, `kl_loss` (beta * aggregate(k3)), per token
  `losses` (with the importance weight), `k3` and `gradient` (of the loss by logp), and the columns of
  the `metrics` table. All means are over the tokens that count.
- `overlong`: DAPO's soft penalty, which is subtracted from a reward.
- `distribution`: logits, temperature, tokens -> log-probabilities and entropies.

Choices that the published method leaves open: a truncated response that is masked counts neither
among the tokens nor among the responses (as in verl), but its reward is in its group's mean; if
nothing counts, the loss is 0 and the metrics are null; the importance weight exp(old - sampler),
limited by its cap, multiplies only the policy part, after both clips, and has no gradient; a group
of one has equal rewards, hence advantage 0. Rewards are equal if the numbers are.

Differences of the others (such cases are left out of the comparison and counted):
- verl clamps logp - old to +-20 before exp; in a group of one the reward is the advantage; its means
  divide by n + 1e-8.
- TRL divides advantages by std + 1e-4 (they cannot be compared at all, since that code is inside its
  sampling loop); does not clamp k3; counts masked responses among the responses of `grpo` (our
  `sequence`) and `dr_grpo`.
- TRL's delta limits the ratio and not the loss: equal to a dual clip as long as dual > 1 + eps_high.
"""

import ast
import importlib.util
import json
import math
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np

OUT = Path(__file__).resolve().parent / "grpo.jsonl"
AGGREGATIONS = ["token", "sequence", "dr-grpo"]


def advantages(groups, scale):
    """Returns the advantages of groups of rewards, with the groups' statistics."""
    out, means, stds, equal = [], [], [], []
    for group in groups:
        r = np.array(group, dtype=np.float64)
        equal.append(bool((r == r[0]).all()))
        mean, std = r.mean(), r.std(ddof=1) if len(r) > 1 else 0.0
        if equal[-1]:
            mean, std, a = r[0], 0.0, np.zeros_like(r)
        else:
            a = (r - mean) / (std + 1e-6) if scale else r - mean
        out.append(a.tolist())
        means.append(float(mean))
        stds.append(float(std))
    return dict(advantages=out, means=means, stds=stds, frac_zero_std=sum(equal) / len(equal), kept=[not e for e in equal])


def loss(case):
    """Returns the loss of a batch, its gradient and its metrics, computed token by token."""
    low, high, dual = 1 - case["eps_low"], 1 + case["eps_high"], case["dual"]
    counted = [r for r in case["responses"] if not (case["mask_truncated"] and r["truncated"])]
    tokens, responses = sum(len(r["logp"]) for r in counted), len(counted)
    share = lambda n: {"token": 1 / tokens, "sequence": 1 / (n * responses), "dr-grpo": 1 / (responses * case["max_tokens"])}[case["aggregation"]]
    policy = divergence = 0.0
    losses, k3s, gradients, metrics = [], [], [], defaultdict(list)
    for r in case["responses"]:
        row_l, row_k, row_g, a = [], [], [], r["advantage"]
        for t in range(len(r["logp"])):
            logp, old, reference, sampler = r["logp"][t], r["old"][t], r["reference"][t], r["sampler"][t]
            ratio = math.exp(logp - old)
            l1, l2 = -a * ratio, -a * min(max(ratio, low), high)
            value, slope = (l2, 0.0) if l2 > l1 else (l1, l1)
            dual_clipped = a < 0 and dual is not None and value > -a * dual
            if dual_clipped:
                value, slope = -a * dual, 0.0
            weight = 1.0 if case["importance_cap"] is None else min(math.exp(old - sampler), case["importance_cap"])
            value, slope = value * weight, slope * weight
            difference = min(max(reference - logp, -20.0), 20.0)
            raw = math.exp(difference) - difference - 1
            k3 = min(max(raw, -10.0), 10.0)
            k3_slope = 1 - math.exp(difference) if abs(reference - logp) <= 20 and raw <= 10 else 0.0
            row_l.append(value)
            row_k.append(k3)
            if r not in counted:
                row_g.append(0.0)
                continue
            s = share(len(r["logp"]))
            policy, divergence = policy + s * value, divergence + s * k3
            row_g.append(s * (slope + case["beta"] * k3_slope))
            for name, metric in dict(clip_low=l2 > l1 and a < 0, clip_high=l2 > l1 and a > 0, dual=dual_clipped, k3=k3, old=old - logp, ratio=ratio, gap=abs(old - sampler),
                                     cut=case["importance_cap"] is not None and math.exp(old - sampler) > case["importance_cap"]).items():
                metrics[name].append(metric)
        losses.append(row_l)
        k3s.append(row_k)
        gradients.append(row_g)
    mean = lambda name: float(np.mean(metrics[name])) if tokens else None
    largest = lambda name: max(metrics[name]) if tokens else None
    return dict(
        loss=policy + case["beta"] * divergence, policy_loss=policy, kl_loss=case["beta"] * divergence, losses=losses, k3=k3s, gradient=gradients,
        response_tokens=tokens, responses_counted=responses, clip_low_fraction=mean("clip_low"), clip_high_fraction=mean("clip_high"),
        dual_clip_fraction=mean("dual"), kl_reference=mean("k3"), kl_old=mean("old"), ratio_mean=mean("ratio"), ratio_max=largest("ratio"),
        sampler_gap_mean=mean("gap"), sampler_gap_max=largest("gap"), importance_truncated_share=mean("cut") if case["importance_cap"] is not None else None)


def overlong(length, limit, cache, factor):
    """Returns the penalty of a length: 0 up to limit - cache, then linear to `factor` at limit."""
    return factor * min(max((length - (limit - cache)) / cache, 0.0), 1.0)


def distribution(logits, tokens, temperature):
    """Returns the log-probabilities of tokens and the entropies of their distributions."""
    x = np.array(logits, dtype=np.float64) / temperature
    x -= x.max(1, keepdims=True)
    logp = x - np.log(np.exp(x).sum(1, keepdims=True))
    return dict(logps=logp[np.arange(len(tokens)), tokens].tolist(), entropies=(-(np.exp(logp) * logp).sum(1) + 0.0).tolist())


def advantage_cases():
    rng = np.random.default_rng(41)
    fixed = [
        [[0, 0, 0, 0]], [[1, 1, 1]], [[0.1] * 3], [[0.1] * 7, [1 / 3] * 6], [[0.7] * 8, [0, 1, 0, 1, 0, 0, 0, 1]], [[5.0]], [[0.5], [0.5, 0.25]], [[0, -0.0]],
        [[0.3, 0.1 + 0.2]], [[0, 1e-9]], [[0, 1e-6]], [[0, 1e-3, -1e-3]], [[1000.001, 1000.002, 1000.003]], [[-1 - 8 / 4096, 0.5 - 1 / 4096, 0.2, -1.0]], [[0.9, 1.0, 0.0, 0.1]],
        [[0, 0, 0, 0, 0, 0, 0, 1]], [[1, 1, 1, 1, 1, 1, 1, 0]], [[0, 1]], [[1e6, -1e6]], [[0.5] * 2, [0.25] * 3, [1.0]],
    ]
    rows = [[[float(r) for r in g] for g in groups] for groups in fixed]
    for i in range(100):
        groups = []
        for _ in range(rng.integers(1, 5)):
            n = int(rng.integers(1, 10))
            kind = rng.integers(0, 4)
            values = [rng.integers(0, 2, n), rng.integers(0, 5, n) / 8 - 0.25, rng.normal(0, 1, n).round(4), np.full(n, round(rng.normal(), 3))][kind]
            groups.append(values.astype(float).tolist())
        rows.append(groups)
    for i, groups in enumerate(rows):
        yield dict(kind="advantages", groups=groups, scale=i % 3 != 2) | advantages(groups, i % 3 != 2)
    for groups in rows[:20]:
        yield dict(kind="advantages", groups=groups, scale=False) | advantages(groups, False)


EDGES = [math.log(x) for x in (0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.28, 1.3, 1.5, 2.0, 3.0, 5.0)]


def tokens_of(rng, n, wild):
    """Returns log-probabilities of a response that avoid the boundaries between branches of the
    loss, where the gradient is not defined. `wild` includes extreme values."""
    logp = (-rng.exponential(1.5, n)).round(4)
    step = rng.choice([0.0, *rng.normal(0, [0.05, 0.3, 1.5], 3)], n)
    step = np.where([any(abs(s - e) < 1e-2 for e in EDGES) for s in step], 0.0, step)
    if wild:
        step = np.where(rng.random(n) < 0.3, rng.choice([-60.0, -21.0, -6.0, 6.0, 19.0, 30.0], n), step)
    reference = logp + rng.choice([0.0, 0.4, -0.7, 1.9, 2.0, *([2.9, -9.0, 19.0, 25.0, -25.0, -400.0] if wild else [])], n)
    old = logp - step
    sampler = old + rng.choice([0.0, 0.003, -0.02, 0.4, -0.8, *([-5.0, 9.0] if wild else [])], n)
    return {k: v.round(4).tolist() for k, v in dict(logp=logp, old=old, reference=reference, sampler=sampler).items()}


def loss_cases():
    rng = np.random.default_rng(42)
    for i in range(180):
        wild = i % 4 == 3
        responses = [dict(advantage=float(rng.choice([0.0, 1.0, -1.0, *rng.normal(0, 1, 2).round(4), -2.4749, 0.3536])), truncated=bool(rng.random() < 0.25),
                          **tokens_of(rng, int(rng.integers(1, 8)), wild)) for _ in range(int(rng.integers(1, 6)))]
        case = dict(kind="loss", aggregation=AGGREGATIONS[i % 3], eps_low=[0.2, 0.2, 0.1, 0.3][i // 3 % 4], eps_high=[0.3, 0.28, 0.2, 0.5][i // 5 % 4],
                    dual=[3.0, None, 2.0, 5.0][i // 7 % 4], beta=[0.01, 0.0, 0.1, 1.0][i // 2 % 4], max_tokens=[16, 8, 4096][i // 11 % 3],
                    importance_cap=[None, 2.0, None, 1.0][i // 9 % 4], mask_truncated=i // 13 % 2 == 1, responses=responses)
        if i == 17:
            case |= dict(mask_truncated=True, responses=[r | dict(truncated=True) for r in responses])
        yield case | loss(case)


def other_cases():
    for limit, cache, factor in ((20, 5, 1.0), (4096, 512, 1.0), (16, 16, 0.5), (8, 1, 2.0)):
        for length in sorted({1, limit - cache - 1, limit - cache, limit - cache + 1, limit - cache // 2, limit - 1, limit, limit + 3} - {0, -1}):
            yield dict(kind="overlong", length=length, max_tokens=limit, cache=cache, factor=factor, penalty=overlong(length, limit, cache, factor))
    rng = np.random.default_rng(43)
    fixed = [[[0.0] * 7], [[1000.0, -1000.0, 0.0]], [[1e4, 1e4, -1e4]], [[-300.0, -301.0, -299.5]], [[80.0, 0.0, 0.0, 0.0]], [[5.0]]]
    for i in range(40):
        logits = fixed[i] if i < len(fixed) else (rng.normal(0, [0.1, 1, 5, 30][i % 4], (int(rng.integers(1, 4)), int(rng.integers(2, 24))))).round(3).tolist()
        tokens = [int(rng.integers(0, len(row))) for row in logits]
        temperature = [1.0, 0.7, 0.1, 2.0, 1.3][i % 5]
        yield dict(kind="distribution", logits=logits, tokens=tokens, temperature=temperature) | distribution(logits, tokens, temperature)


def assert_close(name, ours, theirs, tolerance=1e-9):
    if not math.isclose(ours, float(theirs), rel_tol=tolerance, abs_tol=tolerance):
        raise SystemExit(f"{name} differs: {ours} here, {float(theirs)} there")


def padded(case, key, torch):
    width = max(len(r["logp"]) for r in case["responses"])
    fill = {"logp": -1.0, "old": -1.0, "reference": -1.0, "sampler": -1.0}[key]
    return torch.tensor([r[key] + [fill] * (width - len(r[key])) for r in case["responses"]], dtype=torch.float64)


def mask_of(case, torch):
    width = max(len(r["logp"]) for r in case["responses"])
    counted = [0 if case["mask_truncated"] and r["truncated"] else len(r["logp"]) for r in case["responses"]]
    return torch.tensor([[1.0] * n + [0.0] * (width - n) for n in counted], dtype=torch.float64)


def against_autograd(case, torch):
    """Compares the loss and its gradient with autograd of the formulas in docs/training.md."""
    logp, old, reference, sampler = (padded(case, k, torch) for k in ("logp", "old", "reference", "sampler"))
    logp.requires_grad_()
    mask, a = mask_of(case, torch), torch.tensor([[r["advantage"]] for r in case["responses"]], dtype=torch.float64)
    ratio = (logp - old).exp()
    l = torch.maximum(-a * ratio, -a * ratio.clamp(1 - case["eps_low"], 1 + case["eps_high"]))
    if case["dual"] is not None:
        l = torch.where(a < 0, torch.minimum(l, -a * case["dual"]), l)
    if case["importance_cap"] is not None:
        l = l * (old - sampler).exp().clamp(max=case["importance_cap"])
    d = (reference - logp).clamp(-20, 20)
    token_losses = l + case["beta"] * (d.exp() - d - 1).clamp(-10, 10)
    n = mask.sum(1)
    if case["aggregation"] == "token":
        total = (token_losses * mask).sum() / n.sum()
    elif case["aggregation"] == "sequence":
        total = ((token_losses * mask).sum(1) / n.clamp(min=1)).sum() / (n > 0).sum()
    else:
        total = (token_losses * mask).sum() / ((n > 0).sum() * case["max_tokens"])
    total.backward()
    assert_close("autograd's loss", case["loss"], total.detach())
    for row, grads in zip(case["gradient"], logp.grad.tolist()):
        for ours, theirs in zip(row, grads):
            assert_close("autograd's gradient", ours, theirs)


def verl_functions(torch):
    """Extracts functions from the files of verl, since importing verl needs ray and a dozen more
    packages. Returns None if verl is not installed."""
    spec = importlib.util.find_spec("verl")
    if spec is None:
        return None
    root = Path(spec.submodule_search_locations[0])

    def extract(path, names, scope):
        tree = ast.parse((root / path).read_text())
        functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in names]
        assert {n.name for n in functions} == set(names)
        for function in functions:
            function.decorator_list, function.returns = [], None
            for argument in function.args.args:
                argument.annotation = None
        exec(compile(ast.Module(functions, []), str(root / path), "exec"), scope)
        return SimpleNamespace(**{n: scope[n] for n in names})

    functional = extract("utils/torch_functional.py", ["masked_sum", "masked_mean"], dict(torch=torch))
    names = ["agg_loss", "compute_policy_loss_vanilla", "compute_grpo_outcome_advantage", "kl_penalty_forward"]
    return extract("trainer/ppo/core_algos.py", names, dict(torch=torch, np=np, defaultdict=defaultdict, verl_F=functional, AlgoConfig=type(None)))


VERL_MODES = {"token": "token-mean", "sequence": "seq-mean-token-mean", "dr-grpo": "seq-mean-token-sum-norm"}


def against_verl(case, verl, torch):
    """Compares a loss with verl's; returns False if the two define it differently."""
    logp, old, reference, sampler = (padded(case, k, torch) for k in ("logp", "old", "reference", "sampler"))
    if (logp - old).abs().max() > 20:
        return False
    mask, a = mask_of(case, torch), torch.tensor([[r["advantage"]] for r in case["responses"]], dtype=torch.float64)
    scale = dict(loss_scale_factor=case["max_tokens"]) if case["aggregation"] == "dr-grpo" else {}
    config = SimpleNamespace(clip_ratio=0.2, clip_ratio_low=case["eps_low"], clip_ratio_high=case["eps_high"], global_batch_info=scale,
                             get=lambda key, default: {"clip_ratio_c": case["dual"] or 1e30}.get(key, default))
    weights = None if case["importance_cap"] is None else (old - sampler).exp().clamp(max=case["importance_cap"])
    mode = VERL_MODES[case["aggregation"]]
    policy, metrics = verl.compute_policy_loss_vanilla(old, logp, a.expand_as(logp), mask, mode, config, weights)
    assert_close("verl's policy loss", case["policy_loss"], policy, 1e-7)
    assert_close("verl's clip fraction", case["clip_low_fraction"] + case["clip_high_fraction"], metrics["actor/pg_clipfrac"], 1e-6)
    assert_close("verl's dual clip fraction", case["dual_clip_fraction"], metrics["actor/pg_clipfrac_lower"], 1e-6)
    assert_close("verl's KL to old", case["kl_old"], metrics["actor/ppo_kl"], 1e-7)
    k3 = verl.kl_penalty_forward(logp, reference, "low_var_kl")
    assert_close("verl's k3", case["kl_loss"], case["beta"] * verl.agg_loss(k3, mask, mode, **scale), 1e-7)
    return True


def advantages_against_verl(case, verl, torch):
    """Compares advantages with verl's; returns False if there is nothing to compare."""
    flat = [(r, i) for i, g in enumerate(case["groups"]) for r in g if len(g) > 1]
    if not flat:
        return False
    rewards = torch.tensor([[r] for r, _ in flat], dtype=torch.float64)
    index = np.array([i for _, i in flat])
    theirs, _ = verl.compute_grpo_outcome_advantage(rewards, torch.ones_like(rewards), index, 1e-6, case["scale"])
    ours = [a for g in case["advantages"] if len(g) > 1 for a in g]
    for a, b in zip(ours, theirs[:, 0].tolist(), strict=True):
        # The mean of equal rewards such as 0.1 has a rounding error, which verl divides by 1e-6.
        assert_close("verl's advantage", a, b, 1e-8)
    return True


def against_trl(case, trainer, torch):
    """Compares a loss with TRL's; returns False if the two define it differently."""
    logp, old, reference, sampler = (padded(case, k, torch) for k in ("logp", "old", "reference", "sampler"))
    mask = mask_of(case, torch)
    masked = (mask.sum(1) == 0).any()
    if case["dual"] is not None and case["dual"] <= 1 + case["eps_high"] or masked and case["aggregation"] != "token":
        return False
    d = reference - logp
    if case["beta"] and (d.exp() - d - 1)[mask > 0].max() > 10:
        return False
    accelerator = SimpleNamespace(gather=lambda x: x, reduce=lambda x, reduction: x, num_processes=1)
    fake = SimpleNamespace(
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token", beta=case["beta"],
        args=SimpleNamespace(use_bias_correction_kl=False, delta=case["dual"]), loss_type={"token": "dapo", "sequence": "grpo", "dr-grpo": "dr_grpo"}[case["aggregation"]],
        epsilon_low=case["eps_low"], epsilon_high=case["eps_high"], use_vllm=case["importance_cap"] is not None, vllm_importance_sampling_correction=True,
        model=SimpleNamespace(training=False), max_completion_length=case["max_tokens"], accelerator=accelerator, _entropy_bonus_enabled=False,
        _metrics={"eval": defaultdict(list)}, _get_per_token_logps_and_entropies=lambda *_, **__: (logp, torch.zeros_like(logp), None))
    inputs = dict(prompt_ids=torch.zeros(len(logp), 1), prompt_mask=torch.ones(len(logp), 1), completion_ids=torch.zeros_like(logp), completion_mask=mask,
                  advantages=torch.tensor([r["advantage"] for r in case["responses"]], dtype=torch.float64), old_per_token_logps=old,
                  ref_per_token_logps=reference, num_items_in_batch=mask.sum())
    if case["importance_cap"] is not None:
        inputs["importance_sampling_ratio"] = (old - sampler).exp().clamp(max=case["importance_cap"])
    assert_close("TRL's loss", case["loss"], trainer._compute_loss(fake, None, inputs))
    metrics = fake._metrics["eval"]
    # TRL gathers these in f32.
    assert_close("TRL's low clip fraction", case["clip_low_fraction"], metrics["clip_ratio/low_mean"][0], 1e-6)
    assert_close("TRL's high clip fraction", case["clip_high_fraction"], metrics["clip_ratio/high_mean"][0], 1e-6)
    if case["beta"]:
        assert_close("TRL's k3", case["kl_reference"], metrics["kl"][0], 1e-6)
    return True


def compare(cases):
    try:
        import torch
    except ImportError:
        return print("torch is not installed, so nothing was compared")
    losses = [c for c in cases if c["kind"] == "loss" and c["response_tokens"]]
    for case in losses:
        against_autograd(case, torch)
    for case in (c for c in cases if c["kind"] == "distribution"):
        logprobs = (torch.tensor(case["logits"], dtype=torch.float64) / case["temperature"]).log_softmax(-1)
        entropies = torch.distributions.Categorical(logits=logprobs).entropy()
        for i, token in enumerate(case["tokens"]):
            assert_close("torch's log-probability", case["logps"][i], logprobs[i, token])
            assert_close("torch's entropy", case["entropies"][i], entropies[i])
    print(f"autograd agrees on {len(losses)} of {len(losses)} losses and their gradients")
    verl = verl_functions(torch)
    if verl:
        advantage_rows = [c for c in cases if c["kind"] == "advantages"]
        print(f"verl agrees on {sum(against_verl(c, verl, torch) for c in losses)} of {len(losses)} losses, "
              f"{sum(advantages_against_verl(c, verl, torch) for c in advantage_rows)} of {len(advantage_rows)} advantages; the others are defined differently")
    try:
        from trl import GRPOTrainer
    except ImportError:
        return print("TRL is not installed, so it was not compared")
    print(f"TRL agrees on {sum(against_trl(c, GRPOTrainer, torch) for c in losses)} of {len(losses)} losses; the others are defined differently")


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else value


RESULTS = {"advantages": ["advantages", "means", "stds"], "loss": ["loss", "policy_loss", "kl_loss", "losses", "k3", "gradient", "clip_low_fraction", "clip_high_fraction", "dual_clip_fraction", "kl_reference", "kl_old", "ratio_mean", "ratio_max", "sampler_gap_mean", "sampler_gap_max", "importance_truncated_share"], "overlong": ["penalty"], "distribution": ["logps", "entropies"]}


def main():
    cases = [*advantage_cases(), *loss_cases(), *other_cases()]
    seen = lambda key: sum(bool(c.get(key)) for c in cases)
    assert all(seen(k) > 20 for k in ("clip_low_fraction", "clip_high_fraction", "dual_clip_fraction", "importance_truncated_share", "frac_zero_std")), "too few cases of a kind"
    compare(cases)
    # Inputs are written as they are, results with ten digits.
    lines = [json.dumps({k: rounded(v) if k in RESULTS[c["kind"]] else v for k, v in c.items()}, separators=(",", ":")) for c in cases]
    OUT.write_text("\n".join(lines) + "\n")
    print(f"{len(cases)} cases, {OUT.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
