#!/usr/bin/env python3
"""One round of the method in PyTorch with transformers, as the peer of `visplay evolve-round 1`: same model, prompts, counts.

    python bench/round_peer.py MODEL IMAGES [--pipeline FILE.toml] [--questioner-steps 10] [--reasoner-steps 20] .. [--threads 2]

MODEL is a Hugging Face folder, IMAGES a folder of pictures. With --pipeline the counts, samplings, rewards and prompts come from
that file where it has them; options on the command line win. What a round is stands in docs/rounds.md: the
Questioner trains, then writes questions, the Reasoner answers and votes, the band keeps, the Reasoner trains. Generation is
transformers' `generate`, questions are clustered by NLTK and scikit-learn, answers compared by mathruler, updates are TRL's
(one update a step, whatever the file says, so that the old log-probabilities are the model's own, and a forward pass of the reference). Evaluation is not
part of it. f32, SDPA. Prints one JSON object: seconds of each part, of all, tokens sampled, rows, peak memory.

With --untrained every output of the Questioner counts as a question and every question is kept, so that random weights can be
measured. Needs torch, transformers 5, pillow, nltk, scikit-learn, mathruler with sympy and pylatexenc.
"""

import argparse
import copy
import json
import random
import re
import sys
import time
import tomllib
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import torch
import transformers
from PIL import Image, ImageOps
from tokenizers import Tokenizer
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "oracles"))
import clusters  # noqa: E402
from mathruler.grader import grade_answer  # noqa: E402

CHAT = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{{image}}%s<|im_end|>\n<|im_start|>assistant\n"
BLOCK = r"\s*<{0}>\s*(?P<{0}>(?:(?!</?{0}>).)*\S)\s*</{0}>\s*"
FORMS = {form: re.compile("".join(BLOCK.format(b) for b in form.split("-")), re.DOTALL) for form in ("question", "type-question", "type-question-answer")}
EPS_LOW, EPS_HIGH, DUAL, BETA = 0.2, 0.3, 3.0, 0.01

# option: (default, the pipeline file's key)
COUNTS = {
    "questioner-steps": (10, "update.questioner.steps"), "questioner-prompts": (16, "update.questioner.prompts_per_step"),
    "group": (8, "questioner.group_size"), "reward-samples": (8, "questioner.reward_samples"),
    "slice": (400, "round.images"), "questions-per-image": (2, "round.questions_per_image"), "label-samples": (10, "curriculum.label_samples"),
    "reasoner-steps": (20, "update.reasoner.steps"), "reasoner-prompts": (32, "update.reasoner.prompts_per_step"), "answers": (8, "reasoner.group_size"),
    "question-tokens": (48, "sampling.questioner.max_tokens"), "answer-tokens": (48, "sampling.reasoner.max_tokens"),
}
NUMBERS = {"learning-rate": (6e-5, "update.reasoner.learning_rate"), "questioner-learning-rate": (6e-5, "update.questioner.learning_rate"),
           "low": (0.25, "curriculum.low"), "high": (0.75, "curriculum.high"), "lambda": (1.0, "questioner.lambda"),
           "question-top-p": (0.99, "sampling.questioner.top_p"), "answer-top-k": (40, "sampling.reasoner.top_k")}


def options_of():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--pipeline")
    for table, kind in ((COUNTS, int), (NUMBERS, float)):
        for name, (default, key) in table.items():
            parser.add_argument(f"--{name}", type=kind, help=f"{key}; {default} where the file has none")
    parser.add_argument("--form", choices=list(FORMS), help="questioner.form")
    parser.add_argument("--greedy", action="store_true", help="ask for each candidate's greedy answer too")
    parser.add_argument("--sequences", type=int, default=256, help="sequences sampled at once")
    parser.add_argument("--micro-batch", type=int, default=64, help="samples in one forward pass of training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--untrained", action="store_true")
    options = vars(parser.parse_args())
    said = tomllib.loads(Path(options["pipeline"]).read_text()) if options["pipeline"] else {}

    def of_file(key):
        at = said
        for part in key.split("."):
            at = at.get(part) if isinstance(at, dict) else None
        return at

    for name, (default, key) in (COUNTS | NUMBERS | {"form": ("question", "questioner.form")}).items():
        name = name.replace("-", "_")
        if options[name] is None:
            options[name] = default if of_file(key) is None else of_file(key)
    options["prompts"] = {}
    for role, text in (("questioner", "Ask a question."), ("reasoner", "{{question}}")):
        file = of_file(f"prompts.{role}")
        options["prompts"][role] = (Path(options["pipeline"]).parent / file).read_text() if file else CHAT % text
    return argparse.Namespace(**options)


class Round:
    def __init__(self, o):
        self.o, self.random = o, random.Random(o.seed)
        load = lambda: Qwen2_5_VLForConditionalGeneration.from_pretrained(o.model, dtype=torch.float32, attn_implementation="sdpa").eval()
        self.questioner, self.reasoner = load(), load()
        self.config = self.questioner.config
        self.tokenizer = Tokenizer.from_file(f"{o.model}/tokenizer.json")
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(o.model)
        self.files = sorted(p for p in Path(o.images).rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
        if not self.files:
            sys.exit(f"no pictures under {o.images}")
        self.pixels, self.seconds, self.sampled = {}, defaultdict(float), 0
        self.pad, self.end = (self.tokenizer.token_to_id(t) for t in ("<|endoftext|>", "<|im_end|>"))

    def timed(self, part, work, *arguments):
        start = time.perf_counter()
        result = work(*arguments)
        self.seconds[part] += time.perf_counter() - start
        return result

    def image(self, i):
        if i not in self.pixels:
            picture = ImageOps.exif_transpose(Image.open(self.files[i])).convert("RGB")
            done = self.processor(images=[picture], return_tensors="pt")
            self.pixels[i] = (done["pixel_values"], done["image_grid_thw"])
        return self.pixels[i]

    def prompt(self, role, image, question=""):
        tokens = int(self.image(image)[1].prod()) // self.config.vision_config.spatial_merge_size**2
        text = self.o.prompts[role].replace("{{question}}", question).replace("{{image}}", "<|vision_start|>" + "<|image_pad|>" * tokens + "<|vision_end|>")
        return dict(image=image, ids=self.tokenizer.encode(text, add_special_tokens=False).ids)

    def inputs(self, rows, responses=None):
        """Left-padded prompts, and behind them right-padded responses."""
        left, right = max(len(r["ids"]) for r in rows), max(map(len, responses)) if responses else 0
        ids, mask = [], []
        for i, row in enumerate(rows):
            response = responses[i] if responses else []
            ids.append([self.pad] * (left - len(row["ids"])) + row["ids"] + response + [self.pad] * (right - len(response)))
            mask.append([0] * (left - len(row["ids"])) + [1] * (len(row["ids"]) + len(response)) + [0] * (right - len(response)))
        ids = torch.tensor(ids)
        pixels, grids = zip(*(self.image(r["image"]) for r in rows))
        return dict(input_ids=ids, attention_mask=torch.tensor(mask), mm_token_type_ids=(ids == self.config.image_token_id).int(),
                    pixel_values=torch.cat(pixels), image_grid_thw=torch.cat(grids)), left

    @torch.no_grad()
    def sample(self, model, rows, samples, tokens, **sampling):
        """For each prompt, its samples: token ids up to and with the end."""
        out, size = [], max(1, self.o.sequences // samples)
        model.eval()
        for i in range(0, len(rows), size):
            inputs, left = self.inputs(rows[i : i + size])
            drawn = model.generate(**inputs, max_new_tokens=tokens, num_return_sequences=samples, eos_token_id=self.end, pad_token_id=self.pad,
                                   suppress_tokens=[self.config.image_token_id, self.config.video_token_id], **sampling)[:, left:].tolist()
            cut = [d[: d.index(self.end) + 1] if self.end in d else d for d in drawn]
            self.sampled += sum(map(len, cut))
            out += [cut[j : j + samples] for j in range(0, len(cut), samples)]
        return out

    def text(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def parse(self, ids):
        if self.o.untrained:
            return "How many?"
        found = FORMS[self.o.form].fullmatch(self.text(ids))
        return found and found["question"]

    def answers(self, rows, samples):
        return self.sample(self.reasoner, rows, samples, self.o.answer_tokens, do_sample=True, temperature=1.0, top_k=int(self.o.answer_top_k), top_p=1.0)

    def vote(self, responses):
        """The majority answer, its share of the samples, and all boxes."""
        boxes = [last_box(self.text(r)) for r in responses]
        classes = []
        for box in filter(None, boxes):
            found = next((c for c in classes if same(box, c[0])), None)
            if found is None:
                classes.append([box, 1])
            else:
                found[1] += 1
        best = max(classes, key=lambda c: c[1], default=[None, 0])
        return best[0], best[1] / len(boxes)

    def logps(self, model, rows, responses):
        inputs, _ = self.inputs(rows, responses)
        longest = max(map(len, responses))
        logits = model(**inputs, use_cache=False, logits_to_keep=longest + 1).logits[:, :-1]
        chosen = inputs["input_ids"][:, -longest:]
        logps = torch.stack([row.log_softmax(-1).gather(-1, of[:, None])[:, 0] for row, of in zip(logits, chosen)])
        return logps, inputs["attention_mask"][:, -longest:].float()

    def update(self, model, reference, optimizer, rows, responses, rewards):
        """A GRPO step on groups of responses, one a prompt."""
        flat = [(row, response, a) for row, group, scores in zip(rows, responses, rewards) for response, a in zip(group, advantages(scores))]
        flat.sort(key=lambda f: len(f[1]))
        tokens = sum(len(f[1]) for f in flat)
        model.train()
        optimizer.zero_grad(set_to_none=True)
        for i in range(0, len(flat), self.o.micro_batch):
            part_rows, part, scores = zip(*flat[i : i + self.o.micro_batch])
            with torch.no_grad():
                ref, _ = self.logps(reference, part_rows, part)
            logps, mask = self.logps(model, part_rows, part)
            a, ratio = torch.tensor(scores)[:, None], (logps - logps.detach()).exp()
            l = torch.maximum(-a * ratio, -a * ratio.clamp(1 - EPS_LOW, 1 + EPS_HIGH))
            l = torch.where(a < 0, torch.minimum(l, -a * DUAL), l)
            d = (ref - logps).clamp(-20, 20)
            (((l + BETA * (d.exp() - d - 1).clamp(-10, 10)) * mask).sum() / tokens).backward()
        if torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).isfinite():
            optimizer.step()
        model.eval()

    def ask(self, images, samples):
        rows = [self.prompt("questioner", i) for i in images]
        sampling = dict(do_sample=True, temperature=1.0, top_k=0, top_p=self.o.question_top_p)
        return rows, self.sample(self.questioner, rows, samples, self.o.question_tokens, **sampling)

    def question_rewards(self, groups, confidence):
        rewards = []
        for g, group in enumerate(groups):
            sizes = clusters.sizes([q or "" for q in group])
            rewards.append([max(0.0, 1 - abs(2 * confidence[g, i] - 1) - getattr(self.o, "lambda") * n / len(group)) if q else 0.0 for i, (q, n) in enumerate(zip(group, sizes))])
        return rewards

    def train_questioner(self):
        reference = copy.deepcopy(self.questioner).requires_grad_(False)
        optimizer = optimizer_of(self.questioner, self.o.questioner_learning_rate)
        for _ in range(self.o.questioner_steps):
            images = self.random.choices(range(len(self.files)), k=self.o.questioner_prompts)
            rows, drawn = self.timed("questions", self.ask, images, self.o.group)
            groups = [[self.parse(d) for d in group] for group in drawn]
            places = [(g, i) for g, group in enumerate(groups) for i, q in enumerate(group) if q]
            asked = [self.prompt("reasoner", images[g], groups[g][i]) for g, i in places]
            answered = self.timed("answers for the reward", self.answers, asked, self.o.reward_samples) if asked else []
            votes = self.timed("votes", lambda: [self.vote(a) for a in answered])
            confidence = {place: vote[1] for place, vote in zip(places, votes)}
            rewards = self.timed("question rewards", self.question_rewards, groups, confidence)
            self.timed("questioner's updates", self.update, self.questioner, reference, optimizer, rows, drawn, rewards)

    def curriculum(self):
        images = [i % len(self.files) for i in range(self.o.slice or len(self.files))]
        self.random.shuffle(images)
        _, drawn = self.timed("candidates", self.ask, images, self.o.questions_per_image)
        asked = [(image, q) for image, group in zip(images, drawn) for q in map(self.parse, group) if q]
        rows = [self.prompt("reasoner", image, q) for image, q in asked]
        answered = self.timed("answers for labels", self.answers, rows, self.o.label_samples) if rows else []
        if self.o.greedy and rows:
            self.timed("greedy answers", self.sample, self.reasoner, rows, 1, self.o.answer_tokens)
        votes = self.timed("votes", lambda: [self.vote(a) for a in answered])
        kept = [(row, label or "0") for row, (label, c) in zip(rows, votes) if self.o.untrained or label and self.o.low <= c <= self.o.high]
        return len(asked), kept

    def train_reasoner(self, kept):
        reference = copy.deepcopy(self.reasoner).requires_grad_(False)
        optimizer = optimizer_of(self.reasoner, self.o.learning_rate)
        for step in range(self.o.reasoner_steps):
            batch = [kept[(step * self.o.reasoner_prompts + i) % len(kept)] for i in range(self.o.reasoner_prompts)]
            rows = [row for row, _ in batch]
            drawn = self.timed("answers to train on", self.answers, rows, self.o.answers)
            right = lambda response, label: float(bool((box := last_box(self.text(response))) and same(box, label)))
            rewards = self.timed("answer rewards", lambda: [[right(r, label) for r in group] for group, (_, label) in zip(drawn, batch)])
            self.timed("reasoner's updates", self.update, self.reasoner, reference, optimizer, rows, drawn, rewards)


@lru_cache(maxsize=None)
def same(a, b):
    return a == b or bool(grade_answer(a, b)) or bool(grade_answer(b, a))


def last_box(text):
    start, depth = text.rfind("\\boxed{"), 0
    for at in range(start + 7, len(text)) if start >= 0 else ():
        if text[at] == "}" and depth == 0:
            return text[start + 7 : at].strip() or None
        depth += {"{": 1, "}": -1}.get(text[at], 0)
    return None


def advantages(rewards):
    r = torch.tensor(rewards)
    return (torch.zeros_like(r) if (r == r[0]).all() else (r - r.mean()) / (r.std() + 1e-6)).tolist()


def optimizer_of(model, rate):
    return torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01)


def peak():
    with open("/proc/self/status") as lines:
        return round(int(next(l for l in lines if l.startswith("VmHWM")).split()[1]) / 1024)


def main():
    o = options_of()
    torch.set_num_threads(o.threads)
    torch.manual_seed(o.seed)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    work = Round(o)
    start = time.perf_counter()
    work.train_questioner()
    asked, kept = work.curriculum()
    if o.reasoner_steps:
        if not kept:
            sys.exit(f"none of {asked} questions was kept: nothing to train on (with random weights use --untrained)")
        work.train_reasoner(kept)
    total = time.perf_counter() - start
    counts = {name: getattr(o, name.replace("-", "_")) for name in COUNTS}
    print(json.dumps(dict(program="transformers", seconds=round(total, 2), parts={k: round(v, 2) for k, v in work.seconds.items()},
                          sampled_tokens=work.sampled, questions=asked, kept=len(kept), threads=o.threads, peak_mib=peak(), counts=counts)))


if __name__ == "__main__":
    main()
