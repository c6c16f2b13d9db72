"""The page and its figures, from the reports of the evolutions and their tables."""

from figures import Chart
from intervals import mean, of_mean, of_share, of_shares, text
from measure import PROTOCOLS, SET_ITEMS, pooled_share, questions_worth
from variants import ABLATIONS, FEW, FEW_FROZEN, FROZEN, LABELLED, METHOD, ROUNDS, SHUFFLED

MAIN = [METHOD, LABELLED, FROZEN, SHUFFLED]
NUMBERS = range(1, ROUNDS + 1)


def written(of, stopped, commit):
    """The files of docs/results: name and text."""
    steps = {role: of.bench.steps(METHOD, range(of.seeds), role) for role in ("questioner", "reasoner")}
    parts = [opening(commit, of), in_short(of, stopped), by_round(of)]
    pairs = [both for both in ((METHOD, FROZEN), (FEW, FEW_FROZEN)) if all(map(of.has, both))]
    parts += [trained_and_frozen(of), *(pair(of, *both) for both in pairs)] if pairs else []
    parts += [by_step(steps)] + ([] if of.only else [table_two(of), ablations(of), collapse(stopped)]) + [rounds(of), seed_by_seed(of)]
    return {"nano.md": "\n".join(line for part in parts for line in [*part, ""]).rstrip() + "\n", "nano-rounds.svg": rounds_chart(of),
            "nano-steps.svg": steps_chart(steps)}


class Figures:
    """What the page is made of."""

    def __init__(self, bench, reports, seeds, pairs, ablated, only=None):
        self.bench, self.reports, self.seeds, self.pairs, self.ablated, self.only = bench, reports, seeds, pairs, ablated, only
        self.curves, self.questions = ({key: bench.curve(of)[at] for key, of in reports.items()} for at in (0, 1))
        self.main = [variant for variant in MAIN if self.has(variant)]

    def has(self, variant):
        """Whether a variant was run."""
        return (variant.name, 0) in self.reports

    def values(self, variant, protocol, number, seeds=None):
        """A figure of a variant after a round (0: before the first), seed by seed."""
        return [self.curves[variant.name, s][protocol][number][0] for s in range(seeds or self.seeds)]

    def mean(self, variant, protocol, number, seeds=None):
        """The mean of these over the seeds, with its interval."""
        questions = [self.questions[variant.name, s][protocol][number] for s in range(seeds or self.seeds)]
        return of_shares(self.values(variant, protocol, number, seeds), mean(questions))

    def gains(self, variant, protocol="sampled", seeds=None):
        first, last = (self.values(variant, protocol, n, seeds) for n in (0, ROUNDS))
        return [100 * (b - a) for a, b in zip(first, last)]

    def difference(self, a, b, protocol, number, seeds=None):
        """Points by which a variant is better than another, seed by seed the same: mean and interval."""
        pairs = zip(self.values(a, protocol, number, seeds), self.values(b, protocol, number, seeds))
        return of_mean([100 * (x - y) for x, y in pairs])


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(map(str, row)) + " |" for row in rows)]


def opening(commit, of):
    left_out = [] if not of.only else ["Only these evolutions were run: without Table 2, the ablations and the pipeline that is meant to collapse.", ""]
    only = f" --only {' '.join(of.only)}" if of.only else ""
    return ["# The nano evolution, measured", "", *left_out,
            f"Made by `just evidence --seeds {of.seeds} --pairs {of.pairs} --ablated {of.ablated}{only}` at commit {commit}, on a CPU; not run on a GPU. 600 held-out scene questions",
            "(`data/benchmarks/scenes.parquet`), 4 answers each at T = 1, 10 for the majority.", "",
            "In brackets 95 % intervals. Of one evolution's T = 1: by bootstrap over the questions. Of a share: Wilson's; rows about one image are",
            "counted there as if they were independent, so where several are, it is somewhat too narrow. Of a mean of accuracies over seeds: Wilson's",
            "for as many questions as would have the spread between seeds that Student's t finds, at most what one seed's are worth, since all seeds",
            "answer the same ones. Of a difference: by Student's t over the seeds, so it is about these questions. Of a training step: by Student's t over its groups.", "",
            "What is learnt is mostly to look before answering, and to agree with oneself: elicitation and denoising, as in the paper, not new",
            "ability. The base model was made with the generator's truth (docs/scenes.md); evolution sees no label but in the labelled baseline."]


def in_short(of, stopped):
    own = of.gains(METHOD)
    falls = [100 * (of.curves[METHOD.name, s]["greedy"][n][0] - of.curves[METHOD.name, s]["greedy"][n - 1][0]) for s in range(of.pairs) for n in NUMBERS]
    points = lambda values: ", ".join(f"{v:+.1f}" for v in values)
    lines = [f"- T = 1, gain of three rounds: {points(own)} points" + (baseline(own, of.gains(LABELLED), points) if of.has(LABELLED) else "."),
             f"- Greedy, gain: {points(of.gains(METHOD, 'greedy'))} points; the worst change from one round to the next: {min(falls):+.1f}."]
    before, *after = (100 * mean(shares) for shares in zip(*(of.bench.straight(METHOD, s) for s in range(of.seeds))))
    lines.append(f"- Answers at T = 1 that begin with the box, without looking first: {before:.0f} % before; {', '.join(f'{x:.0f} %' for x in after)} after the rounds.")
    if of.has(SHUFFLED):
        lines.append(f"- Shuffled pseudo-labels: {points(of.gains(SHUFFLED))} points at T = 1.")
    for trained, frozen, words in ((METHOD, FROZEN, "The trained Questioner over the frozen one"), (FEW, FEW_FROZEN, "The same with a quarter of the images")):
        if of.has(trained) and of.has(frozen):
            lines.append(f"- {words}, {of.pairs} seeds, points of T = 1 by round: "
                         + "; ".join(text(of.difference(trained, frozen, "sampled", n, of.pairs), 1, True) for n in NUMBERS) + ". "
                         + whether_shown(of, trained, frozen))
    if not of.only:
        lines.append(f"- The pipeline that is meant to collapse {'is stopped by a gate' if stopped else 'was not stopped'}.")
    return ["## In short", "", *lines]


def baseline(own, best, points):
    return f"; the labelled baseline: {points(best)}; share of it {100 * sum(own) / sum(best):.0f} %."


def whether_shown(of, trained, frozen):
    """In words, what the intervals at T = 1 say of a trained Questioner beside a frozen one."""
    differences = {n: of.difference(trained, frozen, "sampled", n, of.pairs) for n in NUMBERS}
    if of.pairs < 2:
        return "One seed has no interval: **that training the Questioner helps is not shown.**"
    rounds = lambda held: ", ".join(str(n) for n, d in differences.items() if held(d))
    better, worse = rounds(lambda d: d[1] > 0), rounds(lambda d: d[2] < 0)
    if not (better or worse):
        return "Every one of these intervals includes 0: **that training the Questioner helps is not shown.**"
    said = [f"{what} in round {of_rounds}" for what, of_rounds in (("better", better), ("worse", worse)) if of_rounds]
    rest = rounds(lambda d: d[1] <= 0 <= d[2])
    return f"Trained is {' and '.join(said)}" + (f"; in round {rest} the interval includes 0, and nothing is shown." if rest else ".")


def by_round(of):
    rows = [[variant.name, words, *(text(of.mean(variant, protocol, n)) for n in range(ROUNDS + 1))]
            for variant in of.main for protocol, words in PROTOCOLS.items()]
    what = [f"- {variant.name}: {variant.what}" for variant in of.main]
    return ["## Accuracy by round (the paper's Fig. 1 and Table 3)", "", "![accuracy by round](nano-rounds.svg)", "", *what, "",
            f"Mean of {of.seeds} seeds.", "", *table(["", "protocol", "base", *(f"round {n}" for n in NUMBERS)], rows)]


def rounds_chart(of):
    marks = [(n, "base" if n == 0 else f"round {n}") for n in range(ROUNDS + 1)]
    line = lambda variant, protocol: (variant.name, [(n, *of.mean(variant, protocol, n)) for n in range(ROUNDS + 1)])
    panels = [(words, marks, [line(variant, protocol) for variant in of.main]) for protocol, words in PROTOCOLS.items()]
    return Chart("accuracy by round, mean of the seeds with its 95 % interval", panels, 0.4, 1.0).text()


def trained_and_frozen(of):
    return ["## The trained Questioner beside a frozen one", "",
            f"The same Reasoner steps, rows and answers. {of.pairs} seeds, seed by seed the same images, prompts and evaluation; the difference is in points."]


def pair(of, trained, frozen):
    """A trained Questioner beside a frozen one."""
    seeds = range(of.pairs)
    rows = [[words, n, *(text(of.mean(v, protocol, n, of.pairs)) for v in (trained, frozen)),
             text(of.difference(trained, frozen, protocol, n, of.pairs), 1, True)] for protocol, words in PROTOCOLS.items() for n in NUMBERS]
    by_family = {v.name: {n: of.bench.families(v, seeds, n) for n in NUMBERS} for v in (trained, frozen)}
    for name in ("easy", "hard"):
        for n in NUMBERS:
            a, b = (by_family[v.name][n][name] for v in (trained, frozen))
            rows.append([f"T = 1, {name} families", n, f"{mean(a):.3f}", f"{mean(b):.3f}", text(of_mean([100 * (x - y) for x, y in zip(a, b)]), 1, True)])
    asked = []
    for n in NUMBERS:
        row = [n]
        for v in (trained, frozen):
            labels = [of.bench.label_accuracy(v, s, n) for s in range(of.seeds)]
            kept = [of.reports[v.name, s][n - 1]["votes"] for s in range(of.seeds)]
            row += [f"{mean([k['mean_confidence'] for k in kept]):.3f}", f"{mean([k['kept'] for k in kept]):.0f}",
                    f"{sum(l['hard'] for l in labels) / sum(l['known'] for l in labels):.2f}",
                    f"{1 - sum(l['known'] for l in labels) / sum(l['rows'] for l in labels):.2f}", text(pooled_share(labels))]
        asked.append(row)
    head = ["round", *(f"{what}, {v}" for v in ("trained", "frozen") for what in ("mean confidence", "kept", "hard of kept", "of no meaning", "pseudo-labels right"))]
    return [f"### {trained.name}: {trained.what}", "", whether_shown(of, trained, frozen), "", *table(["", "round", "trained", "frozen", "difference"], rows), "",
            f"What they ask, {of.seeds} seeds: of the kept questions, the share of hard families, and the share that is ambiguous or of no family:", "", *table(head, asked)]


def by_step(steps):
    thirds = lambda values: [values[0], *(values[len(values) * n // ROUNDS - 1] for n in NUMBERS)]
    names = [("questioner", "difficulty", "1 - c of the Questioner's questions"), ("reasoner", "reward", "Reasoner's reward (equals the pseudo-label)"),
             ("reasoner", "right", "Reasoner's answers that are really right")]
    rows = [[words, *(text(step[name]) for step in thirds(steps[role]))] for role, name, words in names]
    return ["## Difficulty and accuracy by step (the paper's Fig. 3)", "", "![by step](nano-steps.svg)", "",
            "Mean over the groups of a step, all seeds together. Difficulty is judged by the Reasoner of the round before, so it falls where a",
            "round begins and rises while the Questioner trains.", "", *table(["", "first step", *(f"end of round {n}" for n in NUMBERS)], rows)]


def steps_chart(steps):
    def panel(title, role, names):
        count = len(steps[role])
        marks = [(count * (n - 0.5) / ROUNDS, f"round {n}") for n in NUMBERS]
        return title, marks, [(name, [(at + 1, *step[name]) for at, step in enumerate(steps[role])]) for name in names]

    panels = [panel("difficulty 1 - c, Questioner's steps", "questioner", ["difficulty"]), panel("accuracy, Reasoner's steps", "reasoner", ["reward", "right"])]
    return Chart("difficulty and accuracy by step with 95 % intervals", panels, 0.0, 1.0, width=440).text()


def table_two(of):
    rows = []
    models = ["base", *(f"round {n}" for n in NUMBERS)]
    for protocol, words in PROTOCOLS.items():
        for at, name in enumerate(models):
            row = [words, name]
            for n in NUMBERS:
                parts = []
                for seed in range(of.seeds):
                    model = of.bench.base_model() if at == 0 else f"{METHOD.name}-{seed}/round-{at:04}/reasoner"
                    parts.append(of.bench.evaluate(model, of.bench.question_set(METHOD, seed, n))[protocol])
                questions = [questions_worth(protocol, [part[k] for k in ("value", "low", "high")], part["items"]) for part in parts]
                row.append(text(of_shares([part["value"] for part in parts], mean(questions))))
            rows.append(row)
    labels = []
    for n in NUMBERS:
        parts = [of.bench.label_accuracy(METHOD, s, n) for s in range(of.seeds)]
        count = sum(p["rows"] for p in parts)
        verdicts = {v: sum(p["verdicts"].get(v, 0) for p in parts) for v in ("answered", "tie", "false_premise", "ambiguous", "unknown", "no_scene")}
        labels.append([n, count, text(pooled_share(parts)), *(text(of_share(k, count)) for k in verdicts.values())])
    return ["## Reasoners and question sets, pseudo-labels (the paper's Table 2)", "",
            f"{SET_ITEMS} of each round's questions, kept or not, that have a right answer (`visplay scenes truth`), answered by every Reasoner.",
            f"Mean of {of.seeds} seeds, each with questions of its own, for which these intervals are on the wide side.", "", *table(["", "Reasoner", *(f"questions of round {n}" for n in NUMBERS)], rows), "",
            "The curriculum, all seeds together: pseudo-labels that are right, of those with a right answer (`none` where the question has a tie or a",
            "false premise), and what its questions are.", "",
            *table(["round", "rows", "pseudo-labels right", "one answer", "tie", "false premise", "ambiguous", "no known family", "no scene"], labels)]


def figure(of, variant, protocol, number):
    """An ablation's figure: of one seed that of its items, of several that of the seeds."""
    if of.ablated == 1:
        return text(of.curves[variant.name, 0][protocol][number])
    return text(of.mean(variant, protocol, number, of.ablated))


def ablations(of):
    rows = []
    for v in [METHOD, *ABLATIONS]:
        labels = [of.bench.label_accuracy(v, s, n) for s in range(of.ablated) for n in NUMBERS]
        row = [v.what if v is not METHOD else "the method", *(figure(of, v, "sampled", n) for n in NUMBERS)]
        row += [figure(of, v, protocol, ROUNDS) for protocol in ("greedy", "majority")]
        row += ["" if v is METHOD else text(of.difference(v, METHOD, "sampled", ROUNDS, of.ablated), 1, True), f"{sum(l['rows'] for l in labels) / len(labels):.0f}", text(pooled_share(labels))]
        rows.append(row)
    head = ["", *(f"T = 1, round {n}" for n in NUMBERS), "greedy, round 3", "majority, round 3", "T = 1 to the method, points", "rows kept a round", "pseudo-labels right"]
    return ["## Ablations", "", f"One knob changed, everything else the method's; {'seed 0' if of.ablated == 1 else f'{of.ablated} seeds'}. {warning(of)}", "", *table(head, rows)]


def warning(of):
    """In words, what the ablations' differences at T = 1 after the last round are worth."""
    differences = [of.difference(v, METHOD, "sampled", ROUNDS, of.ablated) for v in ABLATIONS]
    if of.ablated > 1:
        shown = sum(low > 0 or high < 0 for _, low, high in differences)
        return f"Of the {len(differences)} differences {shown} have an interval without 0; of so many one in twenty would have by chance."
    one = "**One seed of each: no difference in this table has an interval.**"
    if of.seeds == 1:
        return f"{one} How far seeds lie apart was not measured."
    spread, of_which = max((100 * (max(v) - min(v)), variant.name) for variant in of.main if variant is not SHUFFLED for v in [of.values(variant, "sampled", ROUNDS)])
    within = sum(abs(value) <= spread for value, _, _ in differences)
    return (f"{one} After round {ROUNDS} the seeds of one and the same evolution ({of_which}) lie up to "
            f"{spread:.1f} points apart at T = 1; {within} of the {len(differences)} differences are no larger, and show nothing.")


def collapse(stopped):
    said = ["```", stopped, "```"] if stopped else ["It was not stopped."]
    return ["## A pipeline that is meant to collapse", "",
            "`questioner.lambda = 0`, `questioner.scope = \"step\"`, `update.questioner.learning_rate = 1e-2`, `update.questioner.beta = 0`; exit code 3, and the round before stays current:", "", *said]


def rounds(of):
    rows = []
    for seed in range(of.seeds):
        for report in of.reports[METHOD.name, seed]:
            q, v, kept = report["questions"], report["votes"], report["kept"] or {}
            rows.append([seed, report["round"], q["asked"], q["valid"], q["distinct"], q["distinct_texts"], f"{v['mean_confidence']:.3f}", v["kept"],
                         f"{kept.get('score', 0):.3f}", "yes" if kept.get("current", True) else "no", f"{report['seconds']:.0f}"])
    head = ["seed", "round", "asked", "valid", "distinct", "distinct texts", "mean confidence", "kept", "label-free score", "current", "seconds"]
    return ["## Rounds of the method", "", "Seconds are the stages' own, added up, on two cores that other work shared; docs/speed.md has the time of a round.", "", *table(head, rows)]


def seed_by_seed(of):
    rows = [[v.name, s, words, *(text(figure) for figure in of.curves[v.name, s][protocol])]
            for v in of.main for s in range(of.pairs if v.paired else of.seeds) for protocol, words in PROTOCOLS.items()]
    return ["## Seed by seed", "", *table(["", "seed", "protocol", "base", *(f"round {n}" for n in NUMBERS)], rows)]
