"""Freezes LoRA by peft on a tiny checkpoint: logits, gradients of A and B, merged weights, five
AdamW steps, and the adapter's folder.

    python tests/oracles/lora.py             # needs torch, transformers 5, peft, safetensors, pillow

Rank 4, alpha 8, on q, k, v, o, gate, up and down of the text tower; A and B are random with a seed,
and B is not zero. Writes

- `lora/`: the adapter as peft saves it (`adapter_config.json`, `adapter_model.safetensors`), with the
  names that an export must have;
- `lora.json`: examples, entries of the logits that predict each response's first token, the loss, the
  norm of each gradient, and the steps (rate, loss, norm before clipping) with the settings of
  `adamw.py`;
- `lora.safetensors`: by the adapter's names `gradient/NAME` and `after/NAME` (A and B after the five
  steps), and `after/places/NAME` where entries were left out as in `adamw.py`; by the checkpoint's
  names `merged/places/PARAMETER` and `merged/PARAMETER`, entries of W + alpha / rank * B A. Only the
  adapted weights change.
"""

import json
import shutil

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

import tiny_models as tiny
from adamw import MAX_NORM, SETTINGS, STEPS, TOTAL, WARM_UP, rate

CHECKPOINT = "untied-2"
RANK, ALPHA = 4, 8
TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def adapted_model(dtype):
    """Returns the checkpoint with a random adapter."""
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, bias="none", target_modules=TARGETS)
    model = get_peft_model(tiny.load(CHECKPOINT, torch.float32), config)
    rng = np.random.default_rng(23)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                scale = 1 / np.sqrt(parameter.shape[1])
                parameter.copy_(torch.tensor(scale * rng.standard_normal(parameter.shape)))
    return model.to(dtype).train()


def trainable_parameters(model):
    """Returns the trainable parameters by the adapter's names, sorted."""
    return {n.replace(".default", ""): p for n, p in sorted(model.named_parameters()) if p.requires_grad}


def train(model, examples):
    """Returns each step's metrics, the first step's gradients, and the parameters at the end."""
    parameters = trainable_parameters(model)
    optimizer = torch.optim.AdamW(parameters.values(), **SETTINGS)
    metrics, gradients = [], None
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        loss = tiny.supervised_loss(model, examples)
        loss.backward()
        gradients = gradients or {n: p.grad.clone() for n, p in parameters.items()}
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_NORM)
        optimizer.step()
        metrics.append(dict(rate=rate(step), loss=tiny.rounded(loss), norm=tiny.rounded(norm)))
    return metrics, gradients, {n: p.detach().double() for n, p in parameters.items()}


def main():
    examples = tiny.examples([0, 10, 11], 8, [8, 6, 9])
    tensors = {}
    folder = tiny.FOLDER / "lora"
    shutil.rmtree(folder, ignore_errors=True)
    single = adapted_model(torch.float32)
    single.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    (folder / "adapter_model.safetensors").chmod(0o644)
    config = json.loads((folder / "adapter_config.json").read_text())
    # peft writes a path of this machine.
    config["base_model_name_or_path"] = CHECKPOINT
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    wide = adapted_model(torch.float64)
    assert set(trainable_parameters(wide)) == set(get_peft_model_state_dict(wide))
    assert not any("visual" in n for n in trainable_parameters(wide))
    with torch.no_grad():
        logits = [tiny.response_logits(wide, e)[0] for e in examples]
        base = tiny.response_logits(tiny.load(CHECKPOINT), examples[0])[0]
    assert (logits[0] - base).abs().max() > 0.1, "the adapter does not change the logits"

    merged = {tiny.published_name(n): p for n, p in adapted_model(torch.float64).merge_and_unload().named_parameters()}
    before = tiny.parameters(tiny.load(CHECKPOINT))
    changed = sorted(n for n in merged if not torch.equal(merged[n], before[n]))
    assert len(changed) == len(trainable_parameters(wide)) // 2
    for n in changed:
        indices = tiny.entry_indices(n, merged[n], 3)
        tensors[f"merged/places/{n}"] = torch.tensor(indices.astype(np.uint32))
        tensors[f"merged/{n}"] = tiny.entries(merged[n], indices)

    metrics, gradients, after = train(wide, examples)
    _, _, after_single = train(single, examples)
    left_out = 0
    for n, gradient in gradients.items():
        tensors[f"gradient/{n}"] = gradient.float()
        stable = ((after[n] - after_single[n]).abs() <= 1e-6).flatten().nonzero()[:, 0].numpy()
        left_out += after[n].numel() - len(stable)
        if len(stable) < after[n].numel():
            tensors[f"after/places/{n}"] = torch.tensor(stable.astype(np.uint32))
        tensors[f"after/{n}"] = tiny.entries(after[n], stable)
    numbers = sum(g.numel() for g in gradients.values())
    assert left_out < numbers / 100
    print(f"{numbers} trainable parameters, {left_out} left out, losses {[m['loss'] for m in metrics]}")

    indices = np.arange(0, len(logits[0]), 7)
    result = dict(checkpoint=CHECKPOINT, rank=RANK, alpha=ALPHA, settings=SETTINGS | dict(max_norm=MAX_NORM, warm_up=WARM_UP, total=TOTAL),
                  examples=examples, logits=[dict(at=indices.tolist(), values=tiny.round_list(l[indices])) for l in logits],
                  loss=metrics[0]["loss"], gradient_norms={n: tiny.rounded(g.norm()) for n, g in gradients.items()},
                  steps=metrics, left_out=left_out)
    (tiny.FOLDER / "lora.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")
    tiny.save(tensors, "lora.safetensors")


if __name__ == "__main__":
    main()
