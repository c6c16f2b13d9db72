"""Runs evolutions through the command, and reads the figures that they left: reports, metrics, questions, votes, predictions."""

import json
import subprocess
from pathlib import Path

import polars as pl
from intervals import of_mean, of_share, worth
from variants import ROUNDS, pipeline_text

ROOT = Path(__file__).resolve().parents[2]
# Questions of a round, in the order of their ids, that every Reasoner answers.
SET_ITEMS = 300
PROTOCOLS = {"sampled": "T = 1", "greedy": "greedy", "majority": "majority of 10"}


class Stopped(Exception):
    """A gate stopped a round."""


class Bench:
    """A store, and what is run in it. What was run before is found."""

    def __init__(self, visplay, work):
        self.visplay, self.work, self.store = str(visplay), work, work / "store"
        work.mkdir(parents=True, exist_ok=True)
        self.labelled = work / "scenes-labelled.parquet"
        if not self.labelled.exists():
            self.run("scenes", "--count", 600, "--seed", 101, "--benchmark", self.labelled)

    def run(self, *words):
        done = subprocess.run([self.visplay, *map(str, words)], cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 3:
            raise Stopped(done.stderr.strip())
        if done.returncode:
            raise SystemExit(f"visplay {' '.join(map(str, words))}\n{done.stderr}")
        return done.stdout

    def evolve(self, variant, seed, rounds=ROUNDS):
        """The reports of a variant's rounds."""
        file = self.work / f"{variant.name}-{seed}.toml"
        file.write_text(pipeline_text(variant, seed, ROOT / "pipelines", self.labelled))
        said = [json.loads(self.run("evolve-round", n, "--pipeline", file, "--store", self.store, "--quiet", "--json")) for n in range(1, rounds + 1)]
        return [dict(s["report"], seconds=sum(t["ms"] for t in s["times"]) / 1000) for s in said]

    def table(self, variant, seed, number, name):
        """A table of a round."""
        files = sorted((self.store / f"views/{variant.name}-{seed}/round={number}/{name}").glob("*.parquet"))
        return pl.concat([pl.read_parquet(file) for file in files])

    def curve(self, reports):
        """For each protocol its figures before the first round and after each: value, low, high; and of how many questions they are."""
        curve, questions = {}, {}
        for protocol in PROTOCOLS:
            scores = [next(s for s in r["scores"] if s["protocol"] == protocol) for r in reports]
            curve[protocol] = [scores[0]["before"]] + [s["after"] for s in scores]
            questions[protocol] = [questions_worth(protocol, figure, scores[0]["items"]) for figure in curve[protocol]]
        return curve, questions

    def truths(self, variant, seed, number):
        """The right answers of a round's questions."""
        folder = self.work / "truth"
        out = folder / f"{variant.name}-{seed}-{number}.parquet"
        questions = self.store / f"views/{variant.name}-{seed}/round={number}/questions"
        if not out.exists():
            self.run("scenes", "truth", questions, "--out", out)
        return pl.read_parquet(out).unique("question_id")

    def candidates(self, variant, seed, number):
        """The ids of the questions that were asked for the curriculum, and not to train the Questioner or to judge the round."""
        curriculum = self.table(variant, seed, number, "curriculum").select("question_id")
        left_out = self.table(variant, seed, number, "rejects").filter(pl.col("stage") == "curriculum").select(question_id="subject_id")
        return pl.concat([curriculum, left_out]).unique()

    def equal(self, pairs):
        """Whether the grader takes each pair of answers for equal."""
        different = [[a, b] for a, b in sorted(set(pairs)) if a != b]
        file = self.work / "pairs.jsonl"
        file.write_text("".join(json.dumps(dict(zip(("given", "gold"), pair))) + "\n" for pair in different))
        said = self.run("grade", file, "--json") if different else ""
        same = {tuple(pair): json.loads(line)["equal"] for pair, line in zip(different, said.splitlines())}
        return [a == b or same[a, b] for a, b in pairs]

    def label_accuracy(self, variant, seed, number):
        """Of the kept questions that have a right answer: how many, and how many pseudo-labels are right; and the verdicts of all."""
        kept = self.table(variant, seed, number, "curriculum").select("question_id", "pseudo_label")
        kept = kept.join(self.truths(variant, seed, number), on="question_id", how="left")
        known = kept.filter(pl.col("answer").is_not_null())
        right = sum(self.equal(list(known.select("pseudo_label", "answer").iter_rows())))
        verdicts = dict(kept.group_by("verdict").len().iter_rows())
        return dict(rows=kept.height, known=known.height, right=right, verdicts=verdicts, hard=known["hard"].sum())

    def question_set(self, variant, seed, number):
        """A benchmark of a round's questions that have a right answer, each once."""
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
        """Figures of a model on a benchmark, by protocol."""
        said = self.run("evaluate", "--model", model, "--benchmark", benchmark, "--items", SET_ITEMS, "--sampled", 4, "--majority", 10, "--max-tokens", 96,
                        "--store", self.store, "--json", "--quiet")
        whole = [s for s in json.loads(said)["scores"] if s["category"] is None]
        return {s["protocol"]: s for s in whole}

    def steps(self, variant, seeds, role):
        """For each step of a role's training, all rounds one after the other: mean and interval of its figures over the groups of
        all seeds. Questioner: difficulty of its valid questions. Reasoner: reward, and the share of answers that are really right."""
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
                    right = [None if not b else bool(a) and same for (a, b), same in zip(pairs, self.equal(pairs))]
                    rewards = rewards.with_columns(right=pl.Series(right, dtype=pl.Boolean))
                parts.append(rewards)
            rows = pl.concat(parts)
            for step in range(rows["step"].max() + 1):
                of_step = rows.filter(pl.col("step") == step).group_by("seed", "group_id")
                if role == "questioner":
                    figures = {"difficulty": of_step.agg(x=(1 - pl.col("confidence").filter(pl.col("valid"))).mean())}
                else:
                    figures = {"reward": of_step.agg(x=pl.col("reward").mean()), "right": of_step.agg(x=pl.col("right").cast(float).mean())}
                steps.append({name: of_mean(groups["x"].drop_nulls().to_list()) for name, groups in figures.items()})
        return steps

    def families(self, variant, seeds, number):
        """Accuracy at T = 1 after a round, on the easy and on the hard families, seed by seed."""
        easy = ["count-kind", "count-colour", "count-shape", "exists"]
        found = {"easy": [], "hard": []}
        for seed in seeds:
            scores = self.table(variant, seed, number, "predictions").filter(pl.col("protocol") == "sampled")
            scores = scores.filter(pl.col("model_id") == self.reasoner(variant, seed, number))
            for name, of in (("easy", pl.col("category").is_in(easy)), ("hard", ~pl.col("category").is_in(easy))):
                found[name].append(scores.filter(of)["mark"].mean())
        return found

    def straight(self, variant, seed):
        """The shares of T = 1 answers that begin with the box, before the first round and after each."""
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
        file = self.work / f"{variant.name}-{seed}.toml"
        said = json.loads(self.run("evolve-round", number, "--pipeline", file, "--store", self.store, "--quiet", "--json"))
        return said["report"]["reasoner_model"]


def questions_worth(protocol, figure, items):
    """What a figure's questions are worth: several answers to a question at T = 1 are worth more than one and less than as many questions."""
    return max(items, worth(figure)) if protocol == "sampled" and figure[1] < figure[2] else items


def pooled_share(parts):
    """A share over several seeds."""
    return of_share(sum(p["right"] for p in parts), sum(p["known"] for p in parts))
