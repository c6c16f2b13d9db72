"""Checks with transformers that a folder written by `visplay model export REF OUT` is complete: its
auto classes load it, and its model gives the log-probabilities and the greedy answer that visplay
computes from the store.

    visplay model export nano/round-0001/reasoner OUT --store STORE
    python tests/oracles/exported_model.py OUT IMAGE --model nano/round-0001/reasoner --store STORE

needs torch, torchvision, transformers and Pillow. Nothing is frozen: run it by hand after a change
of the exporter. The program is taken from $VISPLAY, by default `visplay`.
"""

import argparse
import json
import os
import subprocess
import sys

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

TOLERANCE = 1e-4
QUESTION = "How many red circles are there?"


def visplay(*arguments: str) -> dict:
    """Runs `visplay model` and returns its results."""
    command = [os.environ.get("VISPLAY", "visplay"), "model", *arguments, "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("image")
    parser.add_argument("--model", help="the model that visplay reads; by default the folder")
    parser.add_argument("--store")
    parser.add_argument("--tokens", type=int, default=24)
    options = parser.parse_args()
    given = ["--model", options.model or options.folder, "--image", options.image, "--prompt", QUESTION]
    given += ["--store", options.store] if options.store else []

    processor = AutoProcessor.from_pretrained(options.folder)
    model, info = AutoModelForImageTextToText.from_pretrained(
        options.folder, dtype=torch.float32, output_loading_info=True)
    problems = {name: value for name, value in info.items() if value}
    if problems:
        sys.exit(f"{options.folder}: {problems}")
    model.eval()

    message = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template([{"role": "user", "content": message}], add_generation_prompt=True,
                                         tokenize=False)
    inputs = processor(text=[text], images=[Image.open(options.image).convert("RGB")], return_tensors="pt")
    length = inputs["input_ids"].shape[1]
    with torch.no_grad():
        greedy = model.generate(**inputs, max_new_tokens=options.tokens, do_sample=False)[0, length:].tolist()
    generated = visplay("generate", *given, "--temperature", "0", "--max-tokens", str(options.tokens))
    if generated["prompt_tokens"] != length:
        sys.exit(f"the prompt has {length} tokens, and {generated['prompt_tokens']} in visplay")
    ours = generated["samples"][0]
    if ours["token_ids"] != greedy:
        sys.exit(f"greedy answers differ: {greedy} and {ours['token_ids']}")

    ids = torch.cat([inputs["input_ids"], torch.tensor([greedy])], dim=1)
    more = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    if "mm_token_type_ids" in more:
        zeros = torch.zeros((1, len(greedy)), dtype=more["mm_token_type_ids"].dtype)
        more["mm_token_type_ids"] = torch.cat([more["mm_token_type_ids"], zeros], dim=1)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits[0, length - 1:-1]
    theirs = torch.log_softmax(logits.double(), -1)[torch.arange(len(greedy)), torch.tensor(greedy)]
    distance = (theirs - torch.tensor(ours["logprobs"], dtype=torch.float64)).abs().max().item()
    if distance > TOLERANCE:
        sys.exit(f"log-probabilities differ by up to {distance}")
    answer = processor.decode(greedy)
    print(f"equal: {len(greedy)} greedy tokens {answer!r}, log-probabilities within {distance:.1e}")


main()
