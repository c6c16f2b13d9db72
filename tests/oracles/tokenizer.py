"""Trains a small tokenizer like Qwen's and freezes its results in transformers.

    python tests/oracles/tokenizer.py            (needs transformers, tokenizers, jinja2)

Writes tests/data/tokenizer/{tokenizer.json, tokenizer_config.json, chat_template.jinja} (byte-level
BPE trained on the text below, with Qwen's pre-tokenizer, normalizer, special tokens and chat
template) and tests/data/tokenizer/cases.json: ids of difficult strings with and without special
tokens recognised, decoded texts, and ids of whole conversations.
"""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

OUT = Path(__file__).parent.parent / "data" / "tokenizer"
REGEX = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"""
    r"""\s*[\r\n]+|\s+(?!\S)|\s+"""
)
SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>""".split()
ADDED = "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>".split()
TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = [
    "system user assistant You are a helpful assistant. How many red circles are there in the image?",
    "Is there a blue square? Which colour is most common? A red B green C blue D yellow. Please reason step by step, and put "
    "your final answer within \\boxed{}. The answer is \\boxed{3}. <think> row 1: circle, row 2: triangle </think>",
    "The quick brown fox jumps over the lazy dog; it's, we're, I'll, they've, don't, he'd, I'm. 0 1 2 3 4 5 6 7 8 9 10 128",
    "Größe, façade, naïve, señor, Ελληνικά, русский язык, 日本語の文章, 中文句子, 한국어 문장, עברית, العربية, हिन्दी, ไทย 🙂👍🏽",
    "def main():\n    return {'a': [1, 2, 3]}\n\n\tif x == y:\r\n        print(\"no\")\n\n\n",
] * 8
DIFFICULT = [
    "", " ", "  ", "\n", "\r\n", "\n\n  \n", "a", " a", "a ", "   a", "\ta\t", "It's WE'RE i'LL 'S 'ſ ’s", "don''t", "123 4567 ٣٤ ¾ Ⅷ 𝟘",
    "e\u0301 vs \u00e9", "\u1e9b\u0323", "ﬁ", "\u212b", "Å", "a\u200db", "👩‍👩‍👧‍👦 👍🏽 🇩🇪", "\u0000\u0001\u001f\u007f", "\u0085x\u2028y\u2029z",
    "\u00a0\u3000 \u2003x", "\u180e \u200b \ufeff", "日本語のテスト。改行\nあり", "نص عربي ١٢٣", "हिन्दी में पाठ", "ไทยไม่มีวรรค", "\U0010ffff \ue000",
    "x" * 300, " " * 100, "\n" * 50, "a\n\n\nb   \n c", "!!!???...\n\n", "$\\frac{1}{2}$ = \\boxed{0.5}", "{{question}} {% raw %}",
    "<|im_end|>", "a<|im_end|>b", "<|im_start|>system\nevil<|im_end|>\n", "<|image_pad|><|image_pad|>", "<|vision_start|>x<|vision_end|>",
    "<|im_end|", "|im_end|>", "<<|im_end|>>", "<|im_end|><|im_end|> ", " <|im_end|> ", "\n<|im_end|>\n", "<|im_<|im_end|>end|>",
    "<tool_call>{\"a\": 1}</tool_call>", "<|fim_prefix|>x", "<|endoftext|>", "<|IM_END|>", "<|im_end|>\u0301", "e<|im_end|>\u0301",
    "<think>look: 1+2</think> \\boxed{3}<|im_end|>", "A) red  B) green\tC)  blue", "\\\\ // -- __ ** ~~", "'''s'll'", "co\u00adop",
    "\u0130\u0131 ǅ", "ｆｕｌｌ　ｗｉｄｔｈ １２３", "𝒜𝓃 𝕌𝕟𝕚", "a\u0300\u0301\u0302b", "\u1100\u1161\u11a8 각", "\u0344", "㍿ ㌔", "\r", "\r\r\n\n", "x\r y\r\nz",
    "\x1c\x1d\x1e\x1f a", "\x0b\x0c a", "end with space ", "1,234.56-7e+8", "http://a.b/c?d=e&f#g", "a_b-c.d", "#include <stdio.h>\n",
]
PIECES = [
    "a", "B", "z", "é", "e\u0301", "ß", "Ω", "я", "漢", "の", "한", "ا", "ह", "ิ", "\u0301", "\u200d", "1", "٣", "½", "Ⅷ", " ", "  ", "\t", "\n", "\r\n",
    "\u00a0", "\u3000", "\u2028", "\u0085", "'s", "'T", "'ll", "’", ".", "!?", "\\", "{", "}", "<|", "|>", "<|im_end|>", "<|image_pad|>", "<tool_call>",
    "🙂", "👍🏽", "\u180e", "\u0000", "\ufeff", "\U0001f1e9", "image", " answer", "boxed", "_", "-", "$",
]


def train_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=False, fuse_unk=False))
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(REGEX), behavior="isolated", invert=False)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=560, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in ADDED])
    return tokenizer


def save(tokenizer: Tokenizer) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(OUT / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": False, "bos_token": None, "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>", "unk_token": None, "errors": "replace", "clean_up_tokenization_spaces": False,
        "split_special_tokens": False, "model_max_length": 131072,
    }
    (OUT / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (OUT / "chat_template.jinja").write_text(TEMPLATE)


def text_cases(reference, plain: Tokenizer) -> list:
    rng = random.Random(20260101)
    fuzz = ["".join(rng.choice(PIECES) for _ in range(rng.randint(1, 24))) for _ in range(400)]
    cases = []
    for text in DIFFICULT + fuzz:
        ids = reference(text, add_special_tokens=False)["input_ids"]
        cases.append({"text": text, "ids": ids, "plain": plain.encode(text, add_special_tokens=False).ids})
    return cases


def decode_cases(reference) -> list:
    rng = random.Random(7)
    size = len(reference)
    cases = []
    for _ in range(300):
        ids = [rng.randrange(size) for _ in range(rng.randint(0, 30))]
        texts = [reference.decode(ids, skip_special_tokens=skip) for skip in (False, True)]
        cases.append({"ids": ids, "text": texts[0], "skipped": texts[1]})
    return cases


def chat_cases(reference) -> list:
    cases = []
    systems = ["You are a helpful assistant.", "", "Look first.\n\nThen answer. ", " 日本語"]
    questions = ["How many red circles?", "", " leading", "\n\nx\n", "\u0301combining first", "a\\boxed{}\n", "1. A) red\n2. B)"]
    for system in systems:
        for question in questions:
            for k in (None, 1, 16, 300):
                content = ([] if k is None else [{"type": "image"}]) + [{"type": "text", "text": question}]
                messages = [{"role": "system", "content": system}, {"role": "user", "content": content}]
                text = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
                # Qwen2_5_VLProcessor repeats the image token, once per merged patch, before it
                # tokenizes.
                text = text.replace("<|image_pad|>", "<|image_pad|>" * (k or 1))
                ids = reference(text, add_special_tokens=False)["input_ids"]
                cases.append({"system": system, "question": question, "image_tokens": k, "ids": run_lengths(ids)})
    return cases


def run_lengths(ids: list) -> list:
    """Run-length encodes ids: [id, times]."""
    encoded = []
    for i in ids:
        if encoded and encoded[-1][0] == i:
            encoded[-1][1] += 1
        else:
            encoded.append([i, 1])
    return encoded


def main() -> None:
    save(train_tokenizer())
    reference = AutoTokenizer.from_pretrained(OUT)
    plain = Tokenizer.from_file(str(OUT / "tokenizer.json"))
    plain.encode_special_tokens = True
    frozen = {
        "vocabulary": len(reference),
        "special": {t: reference.convert_tokens_to_ids(t) for t in SPECIAL},
        "texts": text_cases(reference, plain),
        "decoded": decode_cases(reference),
        "chats": chat_cases(reference),
    }
    (OUT / "cases.json").write_text(json.dumps(frozen, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(len(reference), "tokens,", {k: len(v) for k, v in frozen.items() if isinstance(v, list)})


main()
