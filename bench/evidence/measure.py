"""Runs evolutions with the program and reads their results: reports, metrics, questions, votes,
predictions."""

import json
import subprocess
from pathlib import Path

import polars as pl
from intervals import effective_questions, mean_interval, share_interval
from variants import ROUNDS, pipeline_text

ROOT = Path(__file__).resolve().parents[2]
# Number of questions of a round that every Reasoner answers: the first in the order of their ids.
SET_ITEMS = 300
PROTOCOLS = {"sampled": "T = 1", "greedy": "greedy", "majority": "majority of 10"}


class StoppedByGate(Exception):
    """A gate stopped a round; the text is the program's message."""


class Runner:
    """Runs the program on one store, which keeps the results of earlier runs."""

    def __init__(self, visplay, work):
        self.visplay, self.work, self.store = str(visplay), work, work / "store"
        work.mkdir(parents=True, exist_ok=True)
        self.labelled = work / "scenes-labelled.parquet"
        if not self.labelled.exists():
            self.run("scenes", "--count", 600, "--seed", 101, "--benchmark", self.labelled)

    def run(self, *args):
        """Runs the program with these arguments and returns its standard output."""
        process = subprocess.run([self.visplay, *map(str, args)], cwd=ROOT, capture_output=True, text=True)
        if process.returncode == 3:
            raise StoppedByGate(process.stderr.strip())
        if process.returncode:
            raise SystemExit(f"this command failed: visplay {' '.join(map(str, args))}\n{process.stderr}")
        return process.stdout

    def evolve(self, variant, seed, rounds=ROUNDS):
        """Runs the rounds of a variant and returns their reports, with each round's seconds."""
        file = self.work / f"{variant.name}-{seed}.toml"
        file.write_text(pipeline_text(variant, seed, ROOT / "pipelines", self.labelled))
        outputs = [json.loads(self.run("evolve-round", n, "--pipeline", file, "--store", self.store, "--quiet", "--json")) for n in range(1, rounds + 1)]
        return [dict(output["report"], seconds=sum(t["ms"] for t in output["times"]) / 1000) for output in outputs]

    def table(self, variant, seed, number, name):
        """Reads a table of a round."""
        files = sorted((self.store / f"views/{variant.name}-{seed}/round={number}/{name}").glob("*.parquet"))
        return pl.concat([pl.read_parquet(file) for file in files])

    def accuracy_curve(self, reports):
        """Returns, by protocol, the accuracy before the first round and after each round, as
        intervals, and the effective number of questions of each."""
        curve, questions = {}, {}
        for protocol in PROTOCOLS:
            scores = [next(s for s in r["scores"] if s["protocol"] == protocol) for r in reports]
            curve[protocol] = [scores[0]["before"]] + [s["after"] for s in scores]
            questions[protocol] = [number_of_questions(protocol, interval, scores[0]["items"]) for interval in curve[protocol]]
        return curve, questions

    def truths(self, variant, seed, number):
        """Returns the correct answers to a round's questions."""
        folder = self.work / "truth"
        out = folder / f"{variant.name}-{seed}-{number}.parquet"
        questions = self.store / f"views/{variant.name}-{seed}/round={number}/questions"
        if not out.exists():
            self.run("scenes", "truth", questions, "--out", out)
        return pl.read_parquet(out).unique("question_id")

    def candidates(self, variant, seed, number):
        """Returns the ids of the questions that were candidates for the curriculum; the others
        trained the Questioner or scored the round."""
        curriculum = self.table(variant, seed, number, "curriculum").select("question_id")
        rejected = self.table(variant, seed, number, "rejects").filter(pl.col("stage") == "curriculum").select(question_id="subject_id")
        return pl.concat([curriculum, rejected]).unique()

    def are_equal(self, pairs):
        """Returns for each pair of answers whether the grader counts them as equal."""
        different = [[a, b] for a, b in sorted(set(pairs)) if a != b]
        file = self.work / "pairs.jsonl"
        file.write_text("".join(json.dumps(dict(zip(("given", "gold"), pair))) + "\n" for pair in different))
        output = self.run("grade", file, "--json") if different else ""
        same = {tuple(pair): json.loads(line)["equal"] for pair, line in zip(different, output.splitlines())}
        return [a == b or same[a, b] for a, b in pairs]

    def label_accuracy(self, variant, seed, number):
        """Counts the kept questions (`rows`), those that have a correct answer (`known`), the
        correct pseudo-labels among these (`right`), and the kept questions by verdict."""
        kept = self.table(variant, seed, number, "curriculum").select("question_id", "pseudo_label")
        kept = kept.join(self.truths(variant, seed, number), on="question_id", how="left")
        known = kept.filter(pl.col("answer").is_not_null())
        right = sum(self.are_equal(list(known.select("pseudo_label", "answer").iter_rows())))
        verdicts = dict(kept.group_by("verdict").len().iter_rows())
        return dict(rows=kept.height, known=known.height, right=right, verdicts=verdicts, hard=known["hard"].sum())

    def question_set(self, variant, seed, number):
        """Writes a benchmark of a round's distinct questions that have a correct answer."""
        folder = self.work / "sets"
        folder.mkdir(exist_ok=True)
        file = folder / f"{variant.name}-{seed}-{number}.parquet"
        if not file.exists():
            rows = self.truths(variant, seed, number).join(self.candidates(variant, seed, number), on="question_id", how="semi")
            rows = rows.filter(pl.col("answer").is_not_null()).unique(["image_id", "question"], maintain_order=True).sort("question_id")
            images = [{"bytes": (ROOT / "data" / image).read_bytes(), "path": image} for image in rows["image"]]
            rows.select(pl.Series("image", images), "question", "answer", category="family").write_parquet(file)
        return file

    def evaluate(self, model, benchmark):
        """Evaluates a model on a benchmark and returns the scores by protocol."""
        output = self.run("evaluate", "--model", model, "--benchmark", benchmark, "--items", SET_ITEMS, "--sampled", 4, "--majority", 10, "--max-tokens", 96,
                          "--store", self.store, "--json", "--quiet")
        return {s["protocol"]: s for s in json.loads(output)["scores"] if s["category"] is None}

    def step_metrics(self, variant, seeds, role):
        """Returns for each training step of a role, over all rounds, the metrics as means with
        intervals over the groups of all seeds. Questioner: difficulty of its valid questions.
        Reasoner: reward, and the share of correct answers."""
        steps = []
        for number in range(1, ROUNDS + 1):
            parts = []
            for seed in seeds:
                rewards = self.table(variant, seed, number, "rewards").filter(pl.col("role") == role).with_columns(seed=pl.lit(seed))
                if role == "reasoner":
                    answers = self.table(variant, seed, number, "answers").select("answer_id", "question_id", "boxed_answer").unique("answer_id")
                    rewards = rewards.join(answers, left_on="subject_id", right_on="answer_id", how="left")
                    rewards = rewards.join(self.truths(variant, seed, number).select("question_id", "answer"), on="question_id", how="left")
                    pairs = [(a or "", b or "") for a, b in rewards.select("boxed_answer", "answer").iter_rows()]
                    right = [None if not b else bool(a) and same for (a, b), same in zip(pairs, self.are_equal(pairs))]
                    rewards = rewards.with_columns(right=pl.Series(right, dtype=pl.Boolean))
                parts.append(rewards)
            rows = pl.concat(parts)
            for step in range(rows["step"].max() + 1):
                groups_of_step = rows.filter(pl.col("step") == step).group_by("seed", "group_id")
                if role == "questioner":
                    metrics = {"difficulty": groups_of_step.agg(x=(1 - pl.col("confidence").filter(pl.col("valid"))).mean())}
                else:
                    metrics = {"reward": groups_of_step.agg(x=pl.col("reward").mean()), "right": groups_of_step.agg(x=pl.col("right").cast(float).mean())}
                steps.append({name: mean_interval(groups["x"].drop_nulls().to_list()) for name, groups in metrics.items()})
        return steps

    def family_accuracy(self, variant, seeds, number):
        """Returns the accuracy at T = 1 after a round on the easy and on the hard families of
        questions, by seed."""
        easy = ["count-kind", "count-colour", "count-shape", "exists"]
        accuracy = {"easy": [], "hard": []}
        for seed in seeds:
            scores = self.table(variant, seed, number, "predictions").filter(pl.col("protocol") == "sampled")
            scores = scores.filter(pl.col("model_id") == self.reasoner(variant, seed, number))
            for name, is_in_family in (("easy", pl.col("category").is_in(easy)), ("hard", ~pl.col("category").is_in(easy))):
                accuracy[name].append(scores.filter(is_in_family)["mark"].mean())
        return accuracy

    def direct_answer_shares(self, variant, seed):
        """Returns the shares of answers at T = 1 that begin with the box, before the first round
        and after each round."""
        shares = []
        for number in range(ROUNDS + 1):
            answers = self.table(variant, seed, max(number, 1), "predictions").filter(pl.col("protocol") == "sampled")
            last = pl.col("model_id") == self.reasoner(variant, seed, max(number, 1))
            answers = answers.filter(last if number else ~last)["response"]
            shares.append(answers.str.strip_chars_start().str.starts_with("\\boxed{").mean())
        return shares

    def base_model(self):
        return ROOT / "data/nano"

    def reasoner(self, variant, seed, number):
        """Returns the id of a round's Reasoner."""
        file = self.work / f"{variant.name}-{seed}.toml"
        output = json.loads(self.run("evolve-round", number, "--pipeline", file, "--store", self.store, "--quiet", "--json"))
        return output["report"]["reasoner_model"]


def number_of_questions(protocol, interval, items):
    """Returns the effective number of questions of an accuracy. At T = 1, several answers to a
    question say more than one answer, and less than one answer each to as many questions."""
    return max(items, effective_questions(interval)) if protocol == "sampled" and interval[1] < interval[2] else items


def pooled_share(parts):
    """Returns the share of correct pseudo-labels over several seeds, with its interval."""
    return share_interval(sum(p["right"] for p in parts), sum(p["known"] for p in parts))
