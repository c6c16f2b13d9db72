"""Code that `gradients.py`, `adamw.py` and `lora.py` share: the tiny checkpoints of
`tests/data/model`, batches of examples for them, and the selection of stored tensor entries.

An example is a prompt of `parity.json` (its images and token ids) and a response of token ids.
Everything is computed from the files as written, converted to a wider dtype. Parameters are named as
in the published files (`visual.*`, `model.layers.*`, `lm_head.weight`), whichever naming the file of
a checkpoint uses.
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
# Tensors of at most FULL entries are stored whole, and of larger ones SAMPLED entries.
FULL, SAMPLED = 200, 64

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(2)
PARITY = json.loads((ROOT / "parity.json").read_text())


def load(name, dtype=torch.float64):
    """Loads a checkpoint with eager attention. transformers computes norms and softmax in f32 even
    in an f64 model."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(ROOT / name, dtype=torch.float32, attn_implementation="eager")
    return model.to(dtype).train()


def published_name(name):
    """Returns a parameter's name in the published files."""
    return name.replace("model.language_model.", "model.", 1).replace("model.visual.", "visual.", 1)


def parameters(model):
    """Returns every parameter by its published name; tied weights once."""
    return {published_name(name): p for name, p in model.named_parameters()}


def responses(seed, lengths):
    """Returns random responses of tokens that a model may sample, each ended by `<|im_end|>`."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, FIRST_SPECIAL, n - 1).tolist() + [IM_END] for n in lengths]


def examples(numbers, seed, lengths):
    """Returns the prompts of `parity.json` with these numbers (repeats allowed), each with a response."""
    result = [dict(prompt=n, images=PARITY["prompts"][n]["images"], prompt_ids=PARITY["prompts"][n]["prompt_ids"], response_ids=r)
              for n, r in zip(numbers, responses(seed, lengths), strict=True)]
    assert all(t < VOCAB and t not in (IMAGE_PAD, ENDOFTEXT) for e in result for t in e["response_ids"])
    return result


_processed = {}


def response_logits(model, example):
    """Returns the logits `[response tokens, vocabulary]` that predict the response's tokens."""
    ids = torch.tensor([example["prompt_ids"] + example["response_ids"]])
    dtype, more = next(model.parameters()).dtype, {}
    if example["images"]:
        _processed.update(process([i for i in example["images"] if i not in _processed]))
        images = [_processed[i] for i in example["images"]]
        more = dict(pixel_values=torch.cat([image[0] for image in images]).to(dtype), image_grid_thw=torch.cat([image[1] for image in images]))
    kinds = (ids == IMAGE_PAD).int()
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=kinds, use_cache=False, **more).logits[0]
    start = len(example["prompt_ids"]) - 1
    return logits[start : start + len(example["response_ids"])]


def logps_and_entropies(model, example, temperature):
    """Returns the log-probabilities of the response's tokens and the entropies of their
    distributions, with temperature."""
    logprobs = (response_logits(model, example) / temperature).log_softmax(-1)
    logps = logprobs.gather(1, torch.tensor(example["response_ids"])[:, None])[:, 0]
    return logps, -(logprobs.exp() * logprobs).sum(-1)


def supervised_loss(model, batch):
    """Returns the mean cross-entropy over the response tokens of the batch."""
    logps = torch.cat([logps_and_entropies(model, e, 1.0)[0] for e in batch])
    return -logps.sum() / len(logps)


def rounded(value):
    """Rounds a number to nine digits."""
    return float(f"{float(value.detach() if isinstance(value, torch.Tensor) else value):.9g}")


def round_list(values):
    return [rounded(v) for v in values]


def entry_indices(name, tensor, seed):
    """Returns the indices of the entries to store: all of a small tensor; of a large one some that
    are not zero, and some of the rest."""
    count = tensor.numel()
    if count <= FULL:
        return np.arange(count)
    rng = np.random.default_rng([seed, *name.encode()])
    nonzero = np.flatnonzero(tensor.detach().flatten().numpy())
    chosen = rng.choice(nonzero, min(SAMPLED * 3 // 4, len(nonzero)), replace=False).tolist() if len(nonzero) else []
    rest = np.setdiff1d(np.arange(count), chosen)
    return np.sort(np.concatenate([chosen, rng.choice(rest, SAMPLED - len(chosen), replace=False)]).astype(np.int64))


def entries(tensor, indices):
    """Returns these entries of the flattened tensor in f32."""
    return tensor.detach().flatten()[torch.as_tensor(indices)].float().contiguous()


def save(tensors, name):
    path = FOLDER / name
    path.write_bytes(serialize(dict(sorted(tensors.items()))))
