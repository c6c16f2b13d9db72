#!/usr/bin/env python3
"""Benchmark of one round of the method in PyTorch and transformers, for comparison with
`visplay evolve-round 1`: the same model, prompts and counts.

    python bench/round_peer.py MODEL IMAGES [--pipeline FILE.toml] [--questioner-steps 10]
        [--reasoner-steps 20] .. [--threads 2]

MODEL is a Hugging Face folder, IMAGES a folder of images. With --pipeline, counts, sampling, rewards
and prompts are read from that file where it has them; options on the command line take precedence.
docs/rounds.md describes a round: the Questioner trains and then asks questions, the Reasoner answers
and votes, the confidence band selects the curriculum, and the Reasoner trains. Generation is
transformers' `generate`, NLTK and scikit-learn cluster the questions, mathruler compares the
answers, and updates are as in TRL: one update per step whatever the file says, so that the old
log-probabilities are the model's own, and a forward pass of the reference model. Evaluation is left
out. f32, SDPA. Prints one JSON object: seconds of each part and in total, sampled tokens, rows, peak
memory.

With --untrained every output of the Questioner counts as a question and every question is kept, so
that random weights can be measured. Needs torch, transformers 5, pillow, nltk, scikit-learn,
mathruler with sympy and pylatexenc.
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

# Option: (default, key of the pipeline file)
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


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint folder")
    parser.add_argument("images", help="a folder of images")
    parser.add_argument("--pipeline", help="a pipeline file")
    for table, kind in ((COUNTS, int), (NUMBERS, float)):
        for name, (default, key) in table.items():
            parser.add_argument(f"--{name}", type=kind, help=f"{key}; {default} if the file does not have it")
    parser.add_argument("--form", choices=list(FORMS), help="questioner.form")
    parser.add_argument("--greedy", action="store_true", help="also compute the greedy answer to each candidate question")
    parser.add_argument("--sequences", type=int, default=256, help="number of sequences sampled at once")
    parser.add_argument("--micro-batch", type=int, default=64, help="number of samples in one forward pass of training")
    parser.add_argument("--threads", type=int, default=2, help="number of threads")
    parser.add_argument("--seed", type=int, default=1, help="seed of all sampling")
    parser.add_argument("--untrained", action="store_true", help="keep every output of the Questioner, for random weights")
    options = vars(parser.parse_args())
    pipeline = tomllib.loads(Path(options["pipeline"]).read_text()) if options["pipeline"] else {}

    def from_file(key):
        value = pipeline
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    for name, (default, key) in (COUNTS | NUMBERS | {"form": ("question", "questioner.form")}).items():
        name = name.replace("-", "_")
        if options[name] is None:
            options[name] = default if from_file(key) is None else from_file(key)
    options["prompts"] = {}
    for role, text in (("questioner", "Ask a question."), ("reasoner", "{{question}}")):
        file = from_file(f"prompts.{role}")
        options["prompts"][role] = (Path(options["pipeline"]).parent / file).read_text() if file else CHAT % text
    return argparse.Namespace(**options)


class Round:
    """A round: the models, the images, and the seconds of each part."""

    def __init__(self, options):
        self.options, self.random = options, random.Random(options.seed)
        load = lambda: Qwen2_5_VLForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32, attn_implementation="sdpa").eval()
        self.questioner, self.reasoner = load(), load()
        self.config = self.questioner.config
        self.tokenizer = Tokenizer.from_file(f"{options.model}/tokenizer.json")
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(options.model)
        self.files = sorted(p for p in Path(options.images).rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
        if not self.files:
            sys.exit(f"there are no images under {options.images}")
        self.pixels, self.seconds, self.sampled = {}, defaultdict(float), 0
        self.pad, self.end = (self.tokenizer.token_to_id(t) for t in ("<|endoftext|>", "<|im_end|>"))

    def timed(self, part, work, *arguments):
        """Calls `work` and adds its seconds to those of a part."""
        start = time.perf_counter()
        result = work(*arguments)
        self.seconds[part] += time.perf_counter() - start
        return result

    def image(self, i):
        """Returns the patches and the grid of an image."""
        if i not in self.pixels:
            picture = ImageOps.exif_transpose(Image.open(self.files[i])).convert("RGB")
            processed = self.processor(images=[picture], return_tensors="pt")
            self.pixels[i] = (processed["pixel_values"], processed["image_grid_thw"])
        return self.pixels[i]

    def prompt(self, role, image, question=""):
        tokens = int(self.image(image)[1].prod()) // self.config.vision_config.spatial_merge_size**2
        text = self.options.prompts[role].replace("{{question}}", question).replace("{{image}}", "<|vision_start|>" + "<|image_pad|>" * tokens + "<|vision_end|>")
        return dict(image=image, ids=self.tokenizer.encode(text, add_special_tokens=False).ids)

    def inputs(self, rows, responses=None):
        """Returns the model's inputs: left-padded prompts, followed by right-padded responses."""
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
        """Samples responses to each prompt: token ids up to and including the end token."""
        out, size = [], max(1, self.options.sequences // samples)
        model.eval()
        for i in range(0, len(rows), size):
            inputs, left = self.inputs(rows[i : i + size])
            generated = model.generate(**inputs, max_new_tokens=tokens, num_return_sequences=samples, eos_token_id=self.end, pad_token_id=self.pad,
                                       suppress_tokens=[self.config.image_token_id, self.config.video_token_id], **sampling)[:, left:].tolist()
            responses = [d[: d.index(self.end) + 1] if self.end in d else d for d in generated]
            self.sampled += sum(map(len, responses))
            out += [responses[j : j + samples] for j in range(0, len(responses), samples)]
        return out

    def text(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def parse(self, ids):
        """Returns the question in an output of the Questioner, or None."""
        if self.options.untrained:
            return "How many?"
        match = FORMS[self.options.form].fullmatch(self.text(ids))
        return match and match["question"]

    def answers(self, rows, samples):
        return self.sample(self.reasoner, rows, samples, self.options.answer_tokens, do_sample=True, temperature=1.0, top_k=int(self.options.answer_top_k), top_p=1.0)

    def vote(self, responses):
        """Returns the majority answer and its share of the samples."""
        boxes = [last_box(self.text(r)) for r in responses]
        classes = []
        for box in filter(None, boxes):
            equal = next((c for c in classes if are_equal(box, c[0])), None)
            if equal is None:
                classes.append([box, 1])
            else:
                equal[1] += 1
        best = max(classes, key=lambda c: c[1], default=[None, 0])
        return best[0], best[1] / len(boxes)

    def logps(self, model, rows, responses):
        """Returns the log-probabilities `[rows, longest response]` and their mask."""
        inputs, _ = self.inputs(rows, responses)
        longest = max(map(len, responses))
        logits = model(**inputs, use_cache=False, logits_to_keep=longest + 1).logits[:, :-1]
        chosen = inputs["input_ids"][:, -longest:]
        logps = torch.stack([row.log_softmax(-1).gather(-1, ids[:, None])[:, 0] for row, ids in zip(logits, chosen)])
        return logps, inputs["attention_mask"][:, -longest:].float()

    def update(self, model, reference, optimizer, rows, responses, rewards):
        """Does a GRPO step on groups of responses, one group per prompt."""
        flat = [(row, response, a) for row, group, scores in zip(rows, responses, rewards) for response, a in zip(group, advantages(scores))]
        flat.sort(key=lambda f: len(f[1]))
        tokens = sum(len(f[1]) for f in flat)
        model.train()
        optimizer.zero_grad(set_to_none=True)
        for i in range(0, len(flat), self.options.micro_batch):
            part_rows, part, scores = zip(*flat[i : i + self.options.micro_batch])
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
        """Samples the Questioner's outputs for each image."""
        rows = [self.prompt("questioner", i) for i in images]
        sampling = dict(do_sample=True, temperature=1.0, top_k=0, top_p=self.options.question_top_p)
        return rows, self.sample(self.questioner, rows, samples, self.options.question_tokens, **sampling)

    def question_rewards(self, groups, confidence):
        rewards = []
        for g, group in enumerate(groups):
            sizes = clusters.sizes([q or "" for q in group])
            rewards.append([max(0.0, 1 - abs(2 * confidence[g, i] - 1) - getattr(self.options, "lambda") * n / len(group)) if q else 0.0 for i, (q, n) in enumerate(zip(group, sizes))])
        return rewards

    def train_questioner(self):
        reference = copy.deepcopy(self.questioner).requires_grad_(False)
        optimizer = create_optimizer(self.questioner, self.options.questioner_learning_rate)
        for _ in range(self.options.questioner_steps):
            images = self.random.choices(range(len(self.files)), k=self.options.questioner_prompts)
            rows, outputs = self.timed("questions", self.ask, images, self.options.group)
            groups = [[self.parse(output) for output in group] for group in outputs]
            positions = [(g, i) for g, group in enumerate(groups) for i, q in enumerate(group) if q]
            prompts = [self.prompt("reasoner", images[g], groups[g][i]) for g, i in positions]
            answers = self.timed("answers for the reward", self.answers, prompts, self.options.reward_samples) if prompts else []
            votes = self.timed("votes", lambda: [self.vote(a) for a in answers])
            confidence = {position: vote[1] for position, vote in zip(positions, votes)}
            rewards = self.timed("question rewards", self.question_rewards, groups, confidence)
            self.timed("questioner's updates", self.update, self.questioner, reference, optimizer, rows, outputs, rewards)

    def curriculum(self):
        """Returns the number of questions and the kept ones with their labels."""
        images = [i % len(self.files) for i in range(self.options.slice or len(self.files))]
        self.random.shuffle(images)
        _, outputs = self.timed("candidates", self.ask, images, self.options.questions_per_image)
        questions = [(image, q) for image, group in zip(images, outputs) for q in map(self.parse, group) if q]
        rows = [self.prompt("reasoner", image, q) for image, q in questions]
        answers = self.timed("answers for labels", self.answers, rows, self.options.label_samples) if rows else []
        if self.options.greedy and rows:
            self.timed("greedy answers", self.sample, self.reasoner, rows, 1, self.options.answer_tokens)
        votes = self.timed("votes", lambda: [self.vote(a) for a in answers])
        kept = [(row, label or "0") for row, (label, c) in zip(rows, votes) if self.options.untrained or label and self.options.low <= c <= self.options.high]
        return len(questions), kept

    def train_reasoner(self, kept):
        reference = copy.deepcopy(self.reasoner).requires_grad_(False)
        optimizer = create_optimizer(self.reasoner, self.options.learning_rate)
        for step in range(self.options.reasoner_steps):
            batch = [kept[(step * self.options.reasoner_prompts + i) % len(kept)] for i in range(self.options.reasoner_prompts)]
            rows = [row for row, _ in batch]
            answers = self.timed("answers to train on", self.answers, rows, self.options.answers)
            score = lambda response, label: float(bool((box := last_box(self.text(response))) and are_equal(box, label)))
            rewards = self.timed("answer rewards", lambda: [[score(r, label) for r in group] for group, (_, label) in zip(answers, batch)])
            self.timed("reasoner's updates", self.update, self.reasoner, reference, optimizer, rows, answers, rewards)


@lru_cache(maxsize=None)
def are_equal(a, b):
    """Returns whether two answers are equal by mathruler, in either direction."""
    return a == b or bool(grade_answer(a, b)) or bool(grade_answer(b, a))


def last_box(text):
    """Returns the content of the last \\boxed{}, or None."""
    start, depth = text.rfind("\\boxed{"), 0
    for at in range(start + 7, len(text)) if start >= 0 else ():
        if text[at] == "}" and depth == 0:
            return text[start + 7 : at].strip() or None
        depth += {"{": 1, "}": -1}.get(text[at], 0)
    return None


def advantages(rewards):
    r = torch.tensor(rewards)
    return (torch.zeros_like(r) if (r == r[0]).all() else (r - r.mean()) / (r.std() + 1e-6)).tolist()


def create_optimizer(model, rate):
    return torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01)


def peak_memory():
    """Returns the peak memory of this process in MiB."""
    with open("/proc/self/status") as lines:
        return round(int(next(l for l in lines if l.startswith("VmHWM")).split()[1]) / 1024)


def main():
    options = parse_options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    work = Round(options)
    start = time.perf_counter()
    work.train_questioner()
    questions, kept = work.curriculum()
    if options.reasoner_steps:
        if not kept:
            sys.exit(f"none of {questions} questions was kept, so the Reasoner has nothing to train on; for random weights pass --untrained")
        work.train_reasoner(kept)
    total = time.perf_counter() - start
    counts = {name: getattr(options, name.replace("-", "_")) for name in COUNTS}
    print(json.dumps(dict(program="transformers", seconds=round(total, 2), parts={k: round(v, 2) for k, v in work.seconds.items()},
                          sampled_tokens=work.sampled, questions=questions, kept=len(kept), threads=options.threads, peak_mib=peak_memory(), counts=counts)))


if __name__ == "__main__":
    main()
