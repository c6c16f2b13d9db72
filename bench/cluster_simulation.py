#!/usr/bin/env python3
"""Estimates how long a round takes on N GPUs, as `visplay submit` spreads it. Nothing was run on a GPU: this is a roofline
with assumptions, all of which are below and in the table that --write puts into docs/results/cluster.md.

    bench/cluster_simulation.py [--write] [--gpu h100] [--answer 600] [--mfu 0.15 --launch-ms 8]

The design: one driver on one GPU, and N - 1 judge workers on one GPU each. Everything sampled from a model that stays the
same within a part of the round is spread over all N: the judge's answers for the Questioner's rewards, the questions asked
after its training, the votes, and the evaluation. Everything else runs on the driver's GPU: questions and answers of
models that are being trained, and all updates.
"""
import argparse
import math
import pathlib

GPUS = (1, 2, 4, 8, 16, 32, 64)
# Peak bf16 operations/s, bytes/s of memory, bytes of memory.
HARDWARE = {"h100": (990e12, 3.35e12, 80e9), "h200": (990e12, 4.8e12, 141e9)}
MODELS = {
    # Parameters (all; of the text tower), bytes of KV cache for a token in bf16, training steps of a role, what is trained.
    "3B": dict(all=3.75e9, text=3.09e9, kv=2 * 36 * 2 * 128 * 2, steps=20, train="all"),
    "7B": dict(all=8.29e9, text=7.62e9, kv=2 * 28 * 4 * 128 * 2, steps=10, train="all"),
    "32B": dict(all=33.5e9, text=32.8e9, kv=2 * 64 * 8 * 128 * 2, steps=10, train="lora"),
}
# Of pipelines/qwen2.5-vl-3b.toml and -7b.toml.
PROMPTS, GROUP, JUDGE_SAMPLES, UPDATES, IMAGES, VOTES, BATCH = 512, 8, 10, 4, 4096, 10, 256


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/results/cluster.md")
    parser.add_argument("--gpu", default="h200", choices=sorted(HARDWARE))
    parser.add_argument("--prompt", type=int, default=110, help="tokens of a prompt without its question")
    parser.add_argument("--question", type=int, default=64, help="tokens of a question")
    parser.add_argument("--answer", type=int, default=300, help="tokens of an answer")
    parser.add_argument("--items", type=int, default=2000, help="items of evaluation, answered greedily before and after")
    parser.add_argument("--mfu", type=float, default=0.40, help="share of peak operations that is reached")
    parser.add_argument("--bandwidth", type=float, default=0.35, help="share of peak memory bandwidth in decoding")
    parser.add_argument("--launch-ms", type=float, default=0.0, help="time of launches in a decoding step")
    parser.add_argument("--tail", type=float, default=0.25, help="extra waves of a batch whose lengths differ")
    parser.add_argument("--shards", type=int, default=64, help="shards of the judge's answers in a step")
    parser.add_argument("--poll", type=float, default=1.0, help="seconds until a worker sees that work began or ended")
    parser.add_argument("--read", type=float, default=5e9, help="bytes/s that a node reads from the store")
    parser.add_argument("--host", type=float, default=3.0, help="seconds a step for votes, rewards and tables")
    parser.add_argument("--start", type=float, default=60.0, help="seconds until a round samples")
    return parser.parse_args()


class RoundEstimate:
    """Times of a round of one model, in seconds."""

    def __init__(self, options, model):
        self.options, self.model = options, model
        self.flops, self.memory_rate, self.memory = HARDWARE[options.gpu]

    def decode(self, sequences, length, context):
        """Sampling of sequences on one GPU: a step of a batch reads all weights and the batch's caches."""
        if sequences <= 0:
            return 0.0
        batch = min(BATCH, sequences, self.largest_batch(context + length))
        read = 2 * self.model["text"] + batch * self.model["kv"] * (context + length / 2)
        step = max(
            read / (self.memory_rate * self.options.bandwidth),
            2 * self.model["text"] * batch / (self.flops * self.options.mfu),
        )
        waves = max(1.0, sequences / batch) + self.options.tail
        return length * waves * (step + self.options.launch_ms / 1e3)

    def largest_batch(self, tokens):
        """Sequences whose caches fit beside the weights; a tenth of the memory is left free."""
        free = 0.9 * self.memory - 2 * self.model["all"]
        return max(1, int(free / (self.model["kv"] * tokens)))

    def prefill(self, tokens):
        return 2 * self.model["all"] * tokens / (self.flops * self.options.mfu)

    def spread(self, sequences, length, context, prompts, gpus, shards):
        """Sampling from a fixed model on all GPUs, in shards: the slowest GPU has ceil(shards / N) of them."""
        each = math.ceil(shards / gpus)
        of_gpu = each / shards
        seconds = self.prefill(prompts * context * of_gpu) + self.decode(sequences * of_gpu, length, context)
        return seconds + (self.options.poll if gpus > 1 else 0.0)

    def update(self, tokens):
        """Updates of a step on one GPU. Forward for the reference and for the old log-probabilities; then forward,
        recomputation, and backward for activations and, unless only adapters are trained, weights."""
        lora = self.model["train"] == "lora"
        passes = 2 + 1 + 1 + (1 if lora else 2)
        compute = 2 * self.model["all"] * tokens * passes / (self.flops * self.options.mfu)
        trained = self.model["all"] * (0.005 if lora else 1)
        # Weights, gradient and two moments in f32, read and written.
        return compute + UPDATES * trained * 4 * 7 / (self.memory_rate * 0.7)

    def questioner_step(self, gpus):
        o, questions = self.options, PROMPTS * GROUP
        own = self.prefill(PROMPTS * o.prompt) + self.decode(questions, o.question, o.prompt)
        judged = self.spread(questions * JUDGE_SAMPLES, o.answer, o.prompt + o.question, questions, gpus, o.shards)
        return own + judged + o.host + self.update(PROMPTS * o.prompt + questions * o.question), judged

    def reasoner_step(self):
        o, context = self.options, self.options.prompt + self.options.question
        own = self.prefill(PROMPTS * context) + self.decode(PROMPTS * GROUP, o.answer, context)
        return own + o.host + self.update(PROMPTS * context + PROMPTS * GROUP * o.answer)

    def shared_parts(self, gpus):
        """Asking, voting, and evaluation before and after; each begins with reading the weights it needs."""
        o, context = self.options, self.options.prompt + self.options.question
        load = 2 * self.model["all"] / o.read
        ask = self.spread(IMAGES, o.question, o.prompt, IMAGES, gpus, o.shards)
        vote = self.spread(IMAGES * VOTES, o.answer, context, IMAGES, gpus, o.shards)
        evaluate = 2 * self.spread(o.items, o.answer, context, o.items, gpus, max(8, o.items // 32))
        return ask + vote + evaluate + 3 * load

    def round(self, gpus):
        """Hours of a round; seconds of both roles' steps; share of the judges' time in which they have work."""
        steps = self.model["steps"]
        questioner, judged = self.questioner_step(gpus)
        reasoner, shared = self.reasoner_step(), self.shared_parts(gpus)
        total = self.options.start + steps * (questioner + reasoner) + shared
        busy = (steps * judged + shared) / total
        return total / 3600, questioner, reasoner, busy

    def fits(self):
        """Whether training fits on the driver's GPU: bf16 weights of policy and reference, f32 gradients and moments."""
        if self.model["train"] == "lora":
            return 2 * self.model["all"] * 1.15 < 0.9 * self.memory
        moments = 8 if self.model is MODELS["3B"] else 4
        return (2 + 2 + 4 + moments) * self.model["all"] < 0.98 * self.memory


def table(options, name):
    estimate = RoundEstimate(options, MODELS[name])
    yield "| GPUs | hours a round | speed-up | Questioner's step, s | Reasoner's step, s | judges have work | GPU-hours |"
    yield "|---|---|---|---|---|---|---|"
    first = estimate.round(1)[0]
    for gpus in GPUS:
        hours, questioner, reasoner, busy = estimate.round(gpus)
        work = "" if gpus == 1 else f"{100 * busy:.0f} %"
        yield f"| {gpus} | {hours:.2f} | {first / hours:.1f} | {questioner:.0f} | {reasoner:.0f} | {work} | {hours * gpus:.1f} |"


def shares(options, name):
    """Tokens that a round samples, in millions, and the share of them from models that stay the same."""
    steps, o = MODELS[name]["steps"], options
    judge = steps * PROMPTS * GROUP * JUDGE_SAMPLES * o.answer
    votes, asked = IMAGES * VOTES * o.answer, IMAGES * o.question
    evaluated = 2 * o.items * o.answer
    moving = steps * PROMPTS * GROUP * (o.question + o.answer)
    fixed = judge + votes + asked + evaluated
    return (fixed + moving) / 1e6, 100 * fixed / (fixed + moving)


ASSUMPTIONS = """\
| assumption | value | from |
|---|---|---|
| GPU | {gpu}: {flops:.0f} TFLOP/s in bf16, {rate:.2f} TB/s, {memory:.0f} GB | data sheet |
| operations reached in prefill and training | {mfu:.0%} of the peak | a good engine; `--mfu` |
| memory bandwidth reached in decoding | {bandwidth:.0%} of the peak | engines of vLLM's class; `--bandwidth` |
| launches in a decoding step | {launch:.0f} ms | hidden, as with CUDA graphs; `--launch-ms` |
| sequences decoded at once | at most {batch}, fewer if their caches do not fit | `sampling.max_sequences` |
| lengths that differ | {tail:.0%} of a wave more | `--tail` |
| prompt; question; answer | {prompt}; {question}; {answer} tokens | an image of 224 x 224 is 64 tokens; lengths are guesses |
| a step | {prompts} prompts x {group}; {judge} answers of the judge to each question; {updates} updates | pipeline files |
| steps of each role | 3B: 20, 7B: 10; 32B: 10 | pipeline files; 32B has none |
| asking and voting | {images:,} images, {votes} answers | pipeline files |
| evaluation | {items:,} items, greedily, before and after | the pipeline files have no benchmark |
| training | 3B and 7B: all weights, one GPU; 32B: LoRA, because all weights do not fit | `update.*.train` |
| update | 6 forward passes' worth of operations (5 with LoRA), AdamW in f32 | recomputation of every layer |
| shards of the judge's answers in a step | {shards} | the design's target |
| delay until workers see new work | {poll:.0f} s | waiting grows to 2 s |
| weights from the store | {read:.0f} GB/s, read once for each part | `--read`; depends on the site |
| votes, rewards and tables | {host:.0f} s a step | measured on nano, scaled |
| start of a round | {start:.0f} s | a guess |
| failures, queue and requeues | none | |
"""


def document(options):
    flops, rate, memory = HARDWARE[options.gpu]
    yield "# A round on a cluster, estimated"
    yield ""
    yield "**Nothing here was run on a GPU.** `bench/cluster_simulation.py --write` estimates these numbers from the counts of the"
    yield "pipeline files and the assumptions at the end. They say how many GPUs are worth requesting, and they are hopeful:"
    yield "public figures of other programs are 10 to 45 % slower than such a roofline."
    yield ""
    yield "One GPU runs the round and makes all updates; the others are judge workers ([cluster.md](../cluster.md)). *Judges have"
    yield "work* is the share of the round's time in which they do: in the Reasoner's training they have none, and end after"
    yield "`judge.idle`. *GPU-hours* are for judges that stay."
    for name in MODELS:
        tokens, share = shares(options, name)
        what = "all weights" if MODELS[name]["train"] == "all" else "LoRA"
        yield ""
        yield f"## {name}, {MODELS[name]['steps']} + {MODELS[name]['steps']} steps, {what}"
        yield ""
        yield f"A round samples {tokens:.0f} million tokens, {share:.0f} % of them from models that stay the same."
        if not RoundEstimate(options, MODELS[name]).fits():
            yield f"Training does not fit on one {options.gpu.upper()}."
        yield ""
        yield from table(options, name)
    yield ""
    yield "## A slower engine"
    yield ""
    slow = argparse.Namespace(**vars(options) | {"mfu": 0.15, "launch_ms": 8.0})
    yield "The same with 15 % of the peak operations and 8 ms of launches in a decoding step (`--mfu 0.15 --launch-ms 8`), in"
    yield "hours a round:"
    yield ""
    yield "| GPUs | " + " | ".join(MODELS) + " |"
    yield "|---|" + "---|" * len(MODELS)
    for gpus in GPUS:
        hours = [f"{RoundEstimate(slow, model).round(gpus)[0]:.1f}" for model in MODELS.values()]
        yield f"| {gpus} | " + " | ".join(hours) + " |"
    yield ""
    yield "## What limits it"
    yield ""
    for name, model in MODELS.items():
        estimate = RoundEstimate(options, model)
        steps, hours = model["steps"], estimate.round(64)[0]
        questioner = PROMPTS * options.prompt + PROMPTS * GROUP * options.question
        reasoner = PROMPTS * (options.prompt + options.question) + PROMPTS * GROUP * options.answer
        updates = steps * (estimate.update(questioner) + estimate.update(reasoner)) / 3600
        yield f"- {name} on 64 GPUs: {updates:.2f} of {hours:.2f} hours are updates on one GPU."
    yield ""
    yield "Judge workers cannot shorten the updates; more than 8 GPUs gain little. Updates on several GPUs are future work."
    yield ""
    yield "## Assumptions"
    yield ""
    yield ASSUMPTIONS.format(
        gpu=options.gpu.upper(), flops=flops / 1e12, rate=rate / 1e12, memory=memory / 1e9, mfu=options.mfu,
        bandwidth=options.bandwidth, launch=options.launch_ms, batch=BATCH, tail=options.tail, prompt=options.prompt,
        question=options.question, answer=options.answer, prompts=PROMPTS, group=GROUP, judge=JUDGE_SAMPLES, updates=UPDATES,
        images=IMAGES, votes=VOTES, items=options.items, shards=options.shards, poll=options.poll, read=options.read / 1e9,
        host=options.host, start=options.start,
    ).rstrip()  # fmt: skip


def main():
    options = arguments()
    text = "\n".join(document(options)) + "\n"
    if options.write:
        (pathlib.Path(__file__).resolve().parents[1] / "docs/results/cluster.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
