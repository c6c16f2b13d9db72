"""The page docs/results/nano.md and its figures, from the evolutions' reports and tables."""

import re
import textwrap

from figures import Chart
from intervals import mean, mean_interval, seed_mean_interval, share_interval, text
from measure import PROTOCOLS, SET_ITEMS, number_of_questions, pooled_share
from variants import ABLATIONS, FEW, FEW_FROZEN, FROZEN, LABELLED, METHOD, ROUNDS, SHUFFLED

MAIN = [METHOD, LABELLED, FROZEN, SHUFFLED]
NUMBERS = range(1, ROUNDS + 1)


def build_files(results, gate_message, commit):
    """Returns the text of each file of docs/results by name."""
    steps = {role: results.runner.step_metrics(METHOD, range(results.seeds), role) for role in ("questioner", "reasoner")}
    parts = [introduction(results, commit), summary(results, gate_message), by_round(results)]
    pairs = [both for both in ((METHOD, FROZEN), (FEW, FEW_FROZEN)) if all(map(results.has, both))]
    parts += [comparison_introduction(results), *(compare_questioners(results, *both) for both in pairs)] if pairs else []
    parts += [by_step(steps)] + ([] if results.only else [question_sets(results), ablations(results), collapse(gate_message)])
    parts += [rounds(results), seed_by_seed(results)]
    return {"nano.md": "\n".join(line for part in parts for line in [*part, ""]).rstrip() + "\n", "nano-rounds.svg": rounds_chart(results),
            "nano-steps.svg": steps_chart(steps)}


class Results:
    """The results of all evolutions, from which the page is built."""

    def __init__(self, runner, reports, seeds, pairs, ablated, only=None):
        self.runner, self.reports, self.seeds, self.pairs, self.ablated, self.only = runner, reports, seeds, pairs, ablated, only
        curves = {key: runner.accuracy_curve(rounds) for key, rounds in reports.items()}
        self.curves, self.questions = ({key: curve[i] for key, curve in curves.items()} for i in (0, 1))
        self.main = [variant for variant in MAIN if self.has(variant)]

    def has(self, variant):
        """Returns whether a variant was run."""
        return (variant.name, 0) in self.reports

    def values(self, variant, protocol, number, seeds=None):
        """Returns a variant's accuracy after a round (0: before the first) by seed."""
        return [self.curves[variant.name, s][protocol][number][0] for s in range(seeds or self.seeds)]

    def mean(self, variant, protocol, number, seeds=None):
        """Returns the mean of these accuracies over the seeds, with its interval."""
        questions = [self.questions[variant.name, s][protocol][number] for s in range(seeds or self.seeds)]
        return seed_mean_interval(self.values(variant, protocol, number, seeds), mean(questions))

    def gains(self, variant, protocol="sampled", seeds=None):
        """Returns the gain of all rounds in points, by seed."""
        first, last = (self.values(variant, protocol, n, seeds) for n in (0, ROUNDS))
        return [100 * (b - a) for a, b in zip(first, last)]

    def difference(self, a, b, protocol, number, seeds=None):
        """Returns by how many points variant `a` is better than `b`: the mean of the differences of
        equal seeds, with its interval."""
        pairs = zip(self.values(a, protocol, number, seeds), self.values(b, protocol, number, seeds))
        return mean_interval([100 * (x - y) for x, y in pairs])


def wrap(text, indent=""):
    """Wraps a paragraph at 100 columns; "T = 1", percentages and code are not broken."""
    unbroken = re.sub(r"T = 1|\d %|`[^`]*`", lambda match: match.group().replace(" ", "\0"), text)
    lines = textwrap.wrap(unbroken, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]


def item(text):
    """Wraps an item of a list."""
    return wrap(f"- {text}", "  ")


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(map(str, row)) + " |" for row in rows)]


def introduction(results, commit):
    only = f" --only {' '.join(results.only)}" if results.only else ""
    missing = "Only these evolutions were run, so Table 2, the ablations and the pipeline that is meant to collapse are missing."
    return ["# The nano evolution, measured", "", *([*wrap(missing), ""] if results.only else []),
            *wrap(f"Created by `just evidence --seeds {results.seeds} --pairs {results.pairs} --ablated {results.ablated}{only}` at commit {commit}, on a CPU; "
                  "it was not run on a GPU. The benchmark has 600 held-out scene questions (`data/benchmarks/scenes.parquet`). Each is answered greedily, "
                  "4 times at T = 1, and 10 times for the majority."), "",
            *wrap("The 95 % intervals are in brackets. For one evolution at T = 1 they come from a bootstrap over the questions. For shares they are Wilson's, "
                  "which treat rows about one image as independent and are therefore somewhat too narrow where an image has several rows. For mean accuracies "
                  "over seeds they are Wilson's for the number of questions that would vary as much as the seeds do by Student's t; this number is at most the "
                  "effective number of questions of one seed, since all seeds answer the same questions. For differences they come from Student's t over the "
                  "seeds, and hold for these questions only. For training steps they come from Student's t over the groups of a step."), "",
            *wrap("The model mainly learns to look before it answers and to agree with itself: elicitation and denoising, as in the paper, not new abilities. "
                  "The base model was trained on the generator's correct answers (docs/scenes.md). Evolution sees no labels, except in the labelled baseline.")]


def summary(results, gate_message):
    own = results.gains(METHOD)
    greedy = [[results.curves[METHOD.name, s]["greedy"][n][0] for n in range(ROUNDS + 1)] for s in range(results.pairs)]
    changes = [100 * (curve[n] - curve[n - 1]) for curve in greedy for n in NUMBERS]
    points = lambda values: ", ".join(f"{v:+.1f}" for v in values)
    lines = [*item(f"Gain at T = 1 over three rounds: {points(own)} points" + (baseline(own, results.gains(LABELLED), points) if results.has(LABELLED) else ".")),
             *item(f"Gain of greedy decoding: {points(results.gains(METHOD, 'greedy'))} points; the worst change from one round to the next is {min(changes):+.1f}.")]
    before, *after = (100 * mean(shares) for shares in zip(*(results.runner.direct_answer_shares(METHOD, s) for s in range(results.seeds))))
    lines += item(f"Answers at T = 1 that begin with the box, without looking first: {before:.0f} % before the rounds; {', '.join(f'{x:.0f} %' for x in after)} after them.")
    if results.has(SHUFFLED):
        lines += item(f"Change with shuffled pseudo-labels: {points(results.gains(SHUFFLED))} points at T = 1.")
    for trained, frozen, words in ((METHOD, FROZEN, "Trained minus frozen Questioner"), (FEW, FEW_FROZEN, "The same difference with a quarter of the images")):
        if results.has(trained) and results.has(frozen):
            differences = "; ".join(text(results.difference(trained, frozen, "sampled", n, results.pairs), 1, True) for n in NUMBERS)
            lines += item(f"{words}, {results.pairs} seeds, in points at T = 1 by round: {differences}. {shown_difference(results, trained, frozen)}")
    if not results.only:
        lines += item(f"The pipeline that is meant to collapse {'is stopped by a gate' if gate_message else 'was not stopped'}.")
    return ["## Summary", "", *lines]


def baseline(own, labelled, points):
    return f"; of the labelled baseline: {points(labelled)} points. The method's gain is {100 * sum(own) / sum(labelled):.0f} % of the baseline's."


def shown_difference(results, trained, frozen):
    """Returns a sentence on what the intervals at T = 1 show about training the Questioner."""
    differences = {n: results.difference(trained, frozen, "sampled", n, results.pairs) for n in NUMBERS}
    not_shown = "**these results do not show that training the Questioner helps.**"
    if results.pairs < 2:
        return f"With one seed there are no intervals: {not_shown}"
    rounds_with = lambda condition: ", ".join(str(n) for n, d in differences.items() if condition(d))
    better, worse = rounds_with(lambda d: d[1] > 0), rounds_with(lambda d: d[2] < 0)
    if not (better or worse):
        return f"All of these intervals include 0: {not_shown}"
    parts = [f"{word} in round {numbers}" for word, numbers in (("better", better), ("worse", worse)) if numbers]
    rest = rounds_with(lambda d: d[1] <= 0 <= d[2])
    return f"The trained Questioner is {' and '.join(parts)}" + (f"; in round {rest} the interval includes 0, so no difference is shown." if rest else ".")


def by_round(results):
    rows = [[variant.name, words, *(text(results.mean(variant, protocol, n)) for n in range(ROUNDS + 1))]
            for variant in results.main for protocol, words in PROTOCOLS.items()]
    items = [line for variant in results.main for line in item(f"{variant.name}: {variant.what}")]
    return ["## Accuracy by round (the paper's Fig. 1 and Table 3)", "", "![accuracy by round](nano-rounds.svg)", "", *items, "",
            f"Means of {results.seeds} seeds.", "", *table(["", "protocol", "base", *(f"round {n}" for n in NUMBERS)], rows)]


def rounds_chart(results):
    marks = [(n, "base" if n == 0 else f"round {n}") for n in range(ROUNDS + 1)]
    line = lambda variant, protocol: (variant.name, [(n, *results.mean(variant, protocol, n)) for n in range(ROUNDS + 1)])
    panels = [(words, marks, [line(variant, protocol) for variant in results.main]) for protocol, words in PROTOCOLS.items()]
    return Chart("accuracy by round, mean of the seeds with its 95 % interval", panels, 0.4, 1.0).text()


def comparison_introduction(results):
    return ["## Trained and frozen Questioner compared", "",
            *wrap(f"{results.pairs} seeds, in points. The Reasoner trains for as many steps, on as many rows and answers, with either Questioner, and each seed has the "
                  "same images, prompts and evaluation.")]


def compare_questioners(results, trained, frozen):
    """Compares an evolution with a trained Questioner and one with a frozen Questioner."""
    seeds = range(results.pairs)
    rows = [[words, n, *(text(results.mean(v, protocol, n, results.pairs)) for v in (trained, frozen)),
             text(results.difference(trained, frozen, protocol, n, results.pairs), 1, True)] for protocol, words in PROTOCOLS.items() for n in NUMBERS]
    by_family = {v.name: {n: results.runner.family_accuracy(v, seeds, n) for n in NUMBERS} for v in (trained, frozen)}
    for name in ("easy", "hard"):
        for n in NUMBERS:
            a, b = (by_family[v.name][n][name] for v in (trained, frozen))
            rows.append([f"T = 1, {name} families", n, f"{mean(a):.3f}", f"{mean(b):.3f}", text(mean_interval([100 * (x - y) for x, y in zip(a, b)]), 1, True)])
    question_rows = []
    for n in NUMBERS:
        row = [n]
        for v in (trained, frozen):
            labels = [results.runner.label_accuracy(v, s, n) for s in range(results.seeds)]
            kept = [results.reports[v.name, s][n - 1]["votes"] for s in range(results.seeds)]
            row += [f"{mean([k['mean_confidence'] for k in kept]):.3f}", f"{mean([k['kept'] for k in kept]):.0f}",
                    f"{sum(l['hard'] for l in labels) / sum(l['known'] for l in labels):.2f}",
                    f"{1 - sum(l['known'] for l in labels) / sum(l['rows'] for l in labels):.2f}", text(pooled_share(labels))]
        question_rows.append(row)
    head = ["round", *(f"{what}, {v}" for v in ("trained", "frozen") for what in ("mean confidence", "kept", "hard of kept", "of no meaning", "pseudo-labels right"))]
    return [f"### {trained.name}: {trained.what}", "", *wrap(shown_difference(results, trained, frozen)), "", *table(["", "round", "trained", "frozen", "difference"], rows), "",
            *wrap(f"Questions, {results.seeds} seeds: \"hard of kept\" is the share of hard families among the kept questions, \"of no meaning\" the share that is ambiguous or "
                  "of no known family."), "", *table(head, question_rows)]


def by_step(steps):
    ends = lambda values: [values[0], *(values[len(values) * n // ROUNDS - 1] for n in NUMBERS)]
    names = [("questioner", "difficulty", "1 - c of the Questioner's questions"), ("reasoner", "reward", "Reasoner's reward (equals the pseudo-label)"),
             ("reasoner", "right", "Reasoner's answers that are really right")]
    rows = [[words, *(text(step[name]) for step in ends(steps[role]))] for role, name, words in names]
    return ["## Difficulty and accuracy by step (the paper's Fig. 3)", "", "![by step](nano-steps.svg)", "",
            *wrap("Means over the groups of a step, all seeds together. The Reasoner of the previous round judges the difficulty, so it falls at the start of a round "
                  "and rises while the Questioner trains."), "", *table(["", "first step", *(f"end of round {n}" for n in NUMBERS)], rows)]


def steps_chart(steps):
    def panel(title, role, names):
        count = len(steps[role])
        marks = [(count * (n - 0.5) / ROUNDS, f"round {n}") for n in NUMBERS]
        return title, marks, [(name, [(at + 1, *step[name]) for at, step in enumerate(steps[role])]) for name in names]

    panels = [panel("difficulty 1 - c, Questioner's steps", "questioner", ["difficulty"]), panel("accuracy, Reasoner's steps", "reasoner", ["reward", "right"])]
    return Chart("difficulty and accuracy by step with 95 % intervals", panels, 0.0, 1.0, width=440).text()


def question_sets(results):
    rows = []
    models = ["base", *(f"round {n}" for n in NUMBERS)]
    for protocol, words in PROTOCOLS.items():
        for at, name in enumerate(models):
            row = [words, name]
            for n in NUMBERS:
                parts = []
                for seed in range(results.seeds):
                    model = results.runner.base_model() if at == 0 else f"{METHOD.name}-{seed}/round-{at:04}/reasoner"
                    parts.append(results.runner.evaluate(model, results.runner.question_set(METHOD, seed, n))[protocol])
                questions = [number_of_questions(protocol, [part[k] for k in ("value", "low", "high")], part["items"]) for part in parts]
                row.append(text(seed_mean_interval([part["value"] for part in parts], mean(questions))))
            rows.append(row)
    labels = []
    for n in NUMBERS:
        parts = [results.runner.label_accuracy(METHOD, s, n) for s in range(results.seeds)]
        count = sum(p["rows"] for p in parts)
        verdicts = {v: sum(p["verdicts"].get(v, 0) for p in parts) for v in ("answered", "tie", "false_premise", "ambiguous", "unknown", "no_scene")}
        labels.append([n, count, text(pooled_share(parts)), *(text(share_interval(k, count)) for k in verdicts.values())])
    return ["## Each Reasoner on each round's questions, and pseudo-labels (the paper's Table 2)", "",
            *wrap(f"Every Reasoner answers {SET_ITEMS} questions of each round that have a correct answer (`visplay scenes truth`), kept or not. Means of {results.seeds} seeds; "
                  "each seed has its own questions, so these intervals are somewhat too wide."), "",
            *table(["", "Reasoner", *(f"questions of round {n}" for n in NUMBERS)], rows), "",
            *wrap("The curriculum, all seeds together: the share of correct pseudo-labels among the questions with a correct answer (`none` if the question has a tie or a "
                  "false premise), and the shares of the kinds of questions."), "",
            *table(["round", "rows", "pseudo-labels right", "one answer", "tie", "false premise", "ambiguous", "no known family", "no scene"], labels)]


def interval_text(results, variant, protocol, number):
    """Formats an ablation's accuracy: with the interval over the questions for one seed, over the
    seeds for several."""
    if results.ablated == 1:
        return text(results.curves[variant.name, 0][protocol][number])
    return text(results.mean(variant, protocol, number, results.ablated))


def ablations(results):
    rows = []
    for v in [METHOD, *ABLATIONS]:
        labels = [results.runner.label_accuracy(v, s, n) for s in range(results.ablated) for n in NUMBERS]
        row = [v.what if v is not METHOD else "the method", *(interval_text(results, v, "sampled", n) for n in NUMBERS)]
        row += [interval_text(results, v, protocol, ROUNDS) for protocol in ("greedy", "majority")]
        row += ["" if v is METHOD else text(results.difference(v, METHOD, "sampled", ROUNDS, results.ablated), 1, True), f"{sum(l['rows'] for l in labels) / len(labels):.0f}", text(pooled_share(labels))]
        rows.append(row)
    head = ["", *(f"T = 1, round {n}" for n in NUMBERS), "greedy, round 3", "majority, round 3", "T = 1 to the method, points", "rows kept a round", "pseudo-labels right"]
    seeds = "seed 0" if results.ablated == 1 else f"{results.ablated} seeds"
    return ["## Ablations", "", *wrap(f"Each row changes one setting of the method; {seeds}. {ablation_caveat(results)}"), "", *table(head, rows)]


def ablation_caveat(results):
    """Returns sentences on what the ablations' differences at T = 1 after the last round show."""
    differences = [results.difference(v, METHOD, "sampled", ROUNDS, results.ablated) for v in ABLATIONS]
    if results.ablated > 1:
        shown = sum(low > 0 or high < 0 for _, low, high in differences)
        return f"{shown} of the {len(differences)} differences have an interval without 0; by chance one in twenty would."
    one = "**With one seed of each, no difference in this table has an interval.**"
    if results.seeds == 1:
        return f"{one} How much seeds differ was not measured."
    values = {v.name: results.values(v, "sampled", ROUNDS) for v in results.main if v is not SHUFFLED}
    spread, widest = max((100 * (max(v) - min(v)), name) for name, v in values.items())
    within = sum(abs(value) <= spread for value, _, _ in differences)
    return (f"{one} After round {ROUNDS} the seeds of one evolution ({widest}) differ by up to {spread:.1f} points at T = 1; "
            f"{within} of the {len(differences)} differences are no larger, so they show nothing.")


def collapse(gate_message):
    outcome = ["A gate stops it; the exit code is 3, and the previous round stays current:", "", "```", gate_message, "```"] if gate_message else ["No gate stopped it."]
    return ["## A pipeline that is meant to collapse", "",
            *wrap("Its settings are `questioner.lambda = 0`, `questioner.scope = \"step\"`, `update.questioner.learning_rate = 1e-2` and `update.questioner.beta = 0`."), "",
            *outcome]


def rounds(results):
    rows = []
    for seed in range(results.seeds):
        for report in results.reports[METHOD.name, seed]:
            q, v, kept = report["questions"], report["votes"], report["kept"] or {}
            rows.append([seed, report["round"], q["asked"], q["valid"], q["distinct"], q["distinct_texts"], f"{v['mean_confidence']:.3f}", v["kept"],
                         f"{kept.get('score', 0):.3f}", "yes" if kept.get("current", True) else "no", f"{report['seconds']:.0f}"])
    head = ["seed", "round", "asked", "valid", "distinct", "distinct texts", "mean confidence", "kept", "label-free score", "current", "seconds"]
    return ["## Rounds of the method", "", *wrap("Seconds are the sum of the stages' own times, on two cores that were shared with other work; docs/results/speed.md has the time of a round."), "",
            *table(head, rows)]


def seed_by_seed(results):
    rows = [[v.name, s, words, *(text(interval) for interval in results.curves[v.name, s][protocol])]
            for v in results.main for s in range(results.pairs if v.paired else results.seeds) for protocol, words in PROTOCOLS.items()]
    return ["## Seed by seed", "", *table(["", "seed", "protocol", "base", *(f"round {n}" for n in NUMBERS)], rows)]
