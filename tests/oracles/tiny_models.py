"""What `gradients.py`, `adamw.py` and `lora.py` share: the tiny checkpoints of `tests/data/model`, a batch of examples over
them, and how a tensor is frozen.

An example is a prompt of `parity.json` (its images and token ids) and a response of token ids. Everything is computed from
the files as written, widened from their type. Parameters go by the naming of the published files (`visual.*`,
`model.layers.*`, `lm_head.weight`), whatever naming the checkpoint's file has.
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save as serialize
from transformers import Qwen2_5_VLForConditionalGeneration

from model import ENDOFTEXT, FIRST_SPECIAL, IM_END, IMAGE_PAD, ROOT, VOCAB, process

FOLDER = Path(__file__).resolve().parent
FULL, SAMPLED = 200, 64

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(2)
PARITY = json.loads((ROOT / "parity.json").read_text())


def load(name, dtype=torch.float64):
    """A checkpoint with eager attention. transformers computes norms and softmax in f32 even in an f64 model."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(ROOT / name, dtype=torch.float32, attn_implementation="eager")
    return model.to(dtype).train()


def first_naming(name):
    return name.replace("model.language_model.", "model.", 1).replace("model.visual.", "visual.", 1)


def parameters(model):
    """Every parameter by its checkpoint name; tied weights once."""
    return {first_naming(name): p for name, p in model.named_parameters()}


def responses(seed, lengths):
    """Random responses of tokens that a model may sample, each ended by `<|im_end|>`."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, FIRST_SPECIAL, n - 1).tolist() + [IM_END] for n in lengths]


def examples(numbers, seed, lengths):
    """The prompts of `parity.json` with these numbers (one may come twice), each with a response."""
    made = [dict(prompt=n, images=PARITY["prompts"][n]["images"], prompt_ids=PARITY["prompts"][n]["prompt_ids"], response_ids=r)
            for n, r in zip(numbers, responses(seed, lengths), strict=True)]
    assert all(t < VOCAB and t not in (IMAGE_PAD, ENDOFTEXT) for e in made for t in e["response_ids"])
    return made


_processed = {}


def response_logits(model, example):
    """Logits `[response tokens, vocabulary]` that predict each token of the response."""
    ids = torch.tensor([example["prompt_ids"] + example["response_ids"]])
    dtype, more = next(model.parameters()).dtype, {}
    if example["images"]:
        _processed.update(process([i for i in example["images"] if i not in _processed]))
        done = [_processed[i] for i in example["images"]]
        more = dict(pixel_values=torch.cat([d[0] for d in done]).to(dtype), image_grid_thw=torch.cat([d[1] for d in done]))
    kinds = (ids == IMAGE_PAD).int()
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=kinds, use_cache=False, **more).logits[0]
    start = len(example["prompt_ids"]) - 1
    return logits[start : start + len(example["response_ids"])]


def logps_and_entropies(model, example, temperature):
    """Log-probabilities of the response's tokens and entropies of their distributions, temperature-scaled."""
    every = (response_logits(model, example) / temperature).log_softmax(-1)
    logps = every.gather(1, torch.tensor(example["response_ids"])[:, None])[:, 0]
    return logps, -(every.exp() * every).sum(-1)


def supervised_loss(model, batch):
    """Mean cross-entropy over the response tokens of the batch."""
    logps = torch.cat([logps_and_entropies(model, e, 1.0)[0] for e in batch])
    return -logps.sum() / len(logps)


def figure(value):
    return float(f"{float(value.detach() if isinstance(value, torch.Tensor) else value):.9g}")


def round_list(values):
    return [figure(v) for v in values]


def places_of(name, tensor, seed):
    """Which entries of a tensor are kept: all of a small one; of a large one some that are not zero and some anywhere."""
    count = tensor.numel()
    if count <= FULL:
        return np.arange(count)
    rng = np.random.default_rng([seed, *name.encode()])
    alive = np.flatnonzero(tensor.detach().flatten().numpy())
    chosen = rng.choice(alive, min(SAMPLED * 3 // 4, len(alive)), replace=False).tolist() if len(alive) else []
    rest = np.setdiff1d(np.arange(count), chosen)
    return np.sort(np.concatenate([chosen, rng.choice(rest, SAMPLED - len(chosen), replace=False)]).astype(np.int64))


def kept(tensor, places):
    return tensor.detach().flatten()[torch.as_tensor(places)].float().contiguous()


def save(tensors, name):
    path = FOLDER / name
    path.write_bytes(serialize(dict(sorted(tensors.items()))))
