"""Freezes the results of transformers with the nano model's tokenizer.

    python tests/oracles/nano_tokenizer.py            (needs transformers, jinja2, pyarrow)

Reads data/nano and data/benchmarks/scenes.parquet, and writes tests/oracles/nano-tokenizer.json: ids
of questions, answers, difficult strings and random ones, with special tokens recognised; and ids of
whole conversations with an image of 16 tokens.
"""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
from transformers import AutoTokenizer

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DIFFICULT = [
    "", " ", "  ", "\n", "\r\n", "\n\n  \n", "a", " a", "   a", "\ta\t", "It's WE'RE i'LL", "123 4567 ٣٤ ¾", "é vs e\u0301", "日本語",
    "نص عربي", "हिन्दी", "👩‍👩‍👧‍👦 👍🏽", "\u0000\u0001\u007f", "\ufeff\u200b", "x" * 200, " " * 50, "<|im_end|>", "a<|im_end|>b", "<|im_end|",
    "<|image_pad|><|image_pad|>", "<|im_start|>system\nx<|im_end|>\n", "\\boxed{none}", "\\boxed{0.3}", "1+0+2+0=3\n\\boxed{A}",
    "A=3,B=1,C=0,D=2\n\\boxed{A}", "<type>numerical</type><question>How many circles are there?</question>",
    "<type>multiple choice</type><question>Is there a red circle? A yes B no</question>", "no red circle no no\nno no no no",
    "What is in this photograph of a street?", "<think>1 + 2</think> \\boxed{3}", "{{question}}", "Größe, façade, naïve",
]
PIECES = [" red", "red", "circles", " ", "\n", "?", ">", "<", "</", "type", "1", "+", "=", ",B", "{", "}", "\\boxed", "é", "漢", "🙂", "A", "x", ".", "How"]


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "data" / "nano")
    rng = random.Random(1)
    questions = sorted(set(pq.read_table(ROOT / "data" / "benchmarks" / "scenes.parquet")["question"].to_pylist()))
    texts = DIFFICULT + rng.sample(questions, 100)
    texts += ["".join(rng.choice(PIECES) for _ in range(rng.randint(1, 20))) for _ in range(100)]
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    chats = []
    for system in ["You are a helpful assistant.", "Look first."]:
        for question in ["Ask a question.", "Describe the image.", questions[0], "x\n", ""]:
            content = [{"type": "image"}, {"type": "text", "text": question}]
            messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            # Qwen2_5_VLProcessor repeats the image token, once per merged patch, before it
            # tokenizes.
            text = text.replace("<|image_pad|>", "<|image_pad|>" * 16)
            chats.append({"system": system, "question": question, "ids": ids(text)})
    frozen = {"texts": [{"text": text, "ids": ids(text)} for text in texts], "chats": chats}
    (HERE / "nano-tokenizer.json").write_text(json.dumps(frozen, separators=(",", ":")) + "\n")
    print(len(tokenizer), "tokens,", len(texts), "texts,", len(chats), "chats")


main()
