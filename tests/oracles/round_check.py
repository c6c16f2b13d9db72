"""Recomputes votes, confidences, rewards, advantages and the curriculum of a stored round from its Parquet alone.

    python tests/oracles/round_check.py FOLDER.. [--settings PIPELINE.toml] [--show 20]
    (needs polars, mathruler with sympy and pylatexenc, nltk, scikit-learn)

FOLDER holds the Parquet files of one round at any depth, such as `views/EVOLUTION/round=3`. Which table a file is, its columns
say (`schemas/*.json`). The settings are a pipeline file: its `preset` gives what the file does not say. Nothing of the
product is used: equality is mathruler's, in both directions; BLEU is NLTK's and the clusters are scikit-learn's.

Prints each row that differs, and for each check how many rows were looked at; fails if one differed. Each answer's box is read again
from its text. A vote has no group in it, so a question's votes are compared, all of them, with what its groups of answers
say. A curriculum whose labels were shuffled on purpose is compared without them; which rows a cap on types drops is ours to
choose, so there only the number of each type is compared. Rows that no settings can be known for are counted as "skipped".
"""

import argparse
import json
import re
import sys
import tomllib
import warnings
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from mathruler.grader import grade_answer
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from sklearn.cluster import AgglomerativeClustering

warnings.filterwarnings("ignore")
SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
# docs/rewards.md, where the two presets stand beside each other.
PRESETS = {
    "paper": dict(
        questioner=dict(formula="clamped", **{"lambda": 1.0}, scope="group", reward_denominator="sampled"),
        reasoner=dict(correct=1.0, form=0.0, tidy=False),
        curriculum=dict(low=0.25, high=0.75, label_samples=10, label_denominator="sampled")),
    "released-code": dict(
        questioner=dict(formula="penalised", **{"lambda": 1.0}, scope="step", reward_denominator="sampled"),
        reasoner=dict(correct=0.9, form=0.1, tidy=True),
        curriculum=dict(low=0.3, high=0.8, label_samples=9, label_denominator="answered",
                        drop_question_contains=["box", "证明"], drop_majority_contains=["text"])),
}
OFF = dict(min_margin=0.0, greedy_agrees=False, drop_question_contains=[], drop_majority_contains=[], deduplicate=False, max_type_share=1.0, labels="as-voted")


def settings_of(path):
    said = tomllib.loads(Path(path).read_text()) if path else {}
    preset = PRESETS[said.get("preset", "paper")]
    merged = {section: preset[section] | said.get(section, {}) for section in preset}
    merged["curriculum"] = OFF | merged["curriculum"]
    merged["update"] = said.get("update", {})
    return merged


def tables(folders):
    """Every table, its files in the order of their paths. A file that lies in two places is read once."""
    columns = {frozenset(c["name"] for c in s["columns"]): s["table"] for s in (json.loads(p.read_text()) for p in SCHEMAS.glob("*.json")) if "columns" in s}
    found, seen = defaultdict(list), set()
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.parquet")):
            at = path.stat()
            if (at.st_dev, at.st_ino) in seen:
                continue
            seen.add((at.st_dev, at.st_ino))
            table = columns.get(frozenset(pl.read_parquet_schema(path)))
            if table in ("questions", "answers", "votes", "curriculum", "rewards", "rejects"):
                found[table].append(pl.read_parquet(path))
    # One shard may be named by two refs: equal rows of the tables that have an id are one.
    unique = {"questions": ["question_id"], "answers": ["answer_id"], "curriculum": ["question_id"], "rewards": ["role", "step", "subject_id"]}
    return {t: (f := pl.concat(frames)).unique(unique[t], maintain_order=True) if t in unique else pl.concat(frames) for t, frames in found.items()}


@lru_cache(maxsize=None)
def equal(a, b):
    return a == b or bool(grade_answer(a, b)) or bool(grade_answer(b, a))


def last_box(text):
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    start, depth = start + len("\\boxed{"), 0
    for at in range(start, len(text)):
        if text[at] == "}" and depth == 0:
            return text[start:at].strip() or None
        depth += {"{": 1, "}": -1}.get(text[at], 0)
    return None


def vote(boxes):
    """Class of each answer, the classes by their first members, their counts."""
    classes, counts, of = [], [], []
    for box in boxes:
        if box is None:
            of.append(None)
            continue
        at = next((i for i, c in enumerate(classes) if equal(box, c)), None)
        if at is None:
            at = len(classes)
            classes.append(box)
            counts.append(0)
        counts[at] += 1
        of.append(at)
    return of, classes, counts


def clusters(questions):
    """The cluster of each question: 1 - BLEU-4, average linkage, below 0.5."""
    if len(questions) == 1:
        return [0]
    words, known = [q.split() for q in questions], {}
    distance = np.zeros((len(words), len(words)))
    for i in range(len(words)):
        for j in range(i + 1, len(words)):
            key = (questions[i], questions[j])
            if key not in known:
                known[key] = 1 - sentence_bleu([words[j]], words[i], smoothing_function=SmoothingFunction().method1)
            distance[i, j] = distance[j, i] = known[key]
    model = AgglomerativeClustering(n_clusters=None, distance_threshold=0.5, metric="precomputed", linkage="average")
    return model.fit_predict(distance).tolist()


class Report:
    def __init__(self, show):
        self.show, self.checked, self.wrong = show, Counter(), Counter()

    def same(self, check, row, ours, stored):
        """Numbers within 1e-9 of each other, anything else equal."""
        self.checked[check] += 1
        number = lambda x: isinstance(x, (int, float)) and not isinstance(x, bool)
        if ours == stored or number(ours) and number(stored) and abs(ours - stored) <= 1e-9 * max(1, abs(ours)):
            return
        self.wrong[check] += 1
        if self.wrong[check] <= self.show:
            print(f"{check}: {row}: {ours!r} recomputed, {stored!r} stored")


def share_of(counts, sampled, denominator):
    below = sampled if denominator == "sampled" else sum(counts)
    ordered = sorted(counts, reverse=True) + [0, 0]
    return (ordered[0] / below, (ordered[0] - ordered[1]) / below) if below else (None, None)


def check_answers(answers, report):
    """Boxes and vote classes; returns each group's question and vote."""
    groups = {}
    for (group,), rows in answers.sort("group_id", "sample").group_by("group_id", maintain_order=True):
        boxes = [last_box(t) for t in rows["raw_text"]]
        of, classes, counts = vote(boxes)
        for row, box, cls in zip(rows.iter_rows(named=True), boxes, of):
            report.same("boxed answer", row["answer_id"], box, row["boxed_answer"])
            report.same("vote class", row["answer_id"], cls, row["vote_class"])
        report.same("samples of a group", group, list(range(len(rows))), rows["sample"].to_list())
        groups[group] = (rows["question_id"][0], len(rows), classes, counts)
    return groups


def check_votes(votes, groups, denominators, report):
    of_question = defaultdict(list)
    for group, (question, sampled, classes, counts) in groups.items():
        most = max(counts, default=0)
        majority = classes[counts.index(most)] if counts else None
        runner_up = (sorted(counts, reverse=True) + [0, 0])[1]
        of_question[question].append((group, dict(sampled=sampled, boxed=sum(counts), class_answers=classes, class_counts=counts,
                                                  majority_answer=majority, majority_count=most, runner_up_count=runner_up)))
    stored = defaultdict(list)
    for row in votes.iter_rows(named=True):
        stored[row["question_id"]].append(row)
    for question in of_question | stored:
        rows = stored[question]
        made = of_question.get(question, [])
        left = list(made)
        says = lambda m, row: all(m[k] == row[k] for k in m)
        # Equal bytes are stored once: two shards of votes that are alike in every row are one file.
        alone = [m[1] for i, m in enumerate(made) if not any(m[1] == other[1] for other in made[:i])]
        report.same("votes of a question", question, True, len(alone) <= len(rows) <= len(made) or (len(made), len(rows)))
        report.same("each group has its vote", question, [], [m for m in alone if not any(says(m, row) for row in rows)])
        for row in rows:
            plain = lambda m: says(m, row)
            match = next((m for m in left if plain(m[1])), None)
            if match is None:
                report.same("vote", question, [m[1] for m in left], {k: row[k] for k in ("sampled", "boxed", "class_answers", "class_counts", "majority_answer")})
                continue
            left.remove(match)
            report.same("vote", question, True, True)
            expected = [share_of(row["class_counts"], row["sampled"], d) for d in denominators(question, match[0])]
            report.same("confidence", question, True, any(same_share(e, row) for e in expected) or (expected, row["confidence"], row["margin"]))
            agrees = row["greedy_answer"] is not None and row["majority_answer"] is not None and equal(row["greedy_answer"], row["majority_answer"])
            if row["greedy_agrees"] is not None:
                report.same("greedy agrees", question, agrees, row["greedy_agrees"])


def same_share(expected, row):
    pairs = zip(expected, (row["confidence"], row["margin"]))
    return all(a is None and b is None or a is not None and b is not None and abs(a - b) < 1e-12 for a, b in pairs)


def check_questioner(rewards, questions, votes, settings, report):
    rewards = rewards.filter(pl.col("role") == "questioner")
    by_id = {q["question_id"]: q for q in questions.iter_rows(named=True)}
    confidences = {v["question_id"]: share_of(v["class_counts"], v["sampled"], settings["reward_denominator"])[0] for v in votes.iter_rows(named=True)}
    for (step,), of_step in rewards.group_by("step", maintain_order=True):
        scopes = [rows for _, rows in of_step.group_by("group_id", maintain_order=True)] if settings["scope"] == "group" else [of_step]
        for scope in scopes:
            rows = list(scope.iter_rows(named=True))
            valid = [by_id[r["subject_id"]]["valid"] and r["subject_id"] in confidences for r in rows]
            labels = clusters([by_id[r["subject_id"]]["question"] if v else "" for r, v in zip(rows, valid)])
            sizes, stored = Counter(labels), [r["cluster"] for r in rows]
            report.same("partition into clusters", f"step {step}", [labels.index(l) for l in labels], [stored.index(c) for c in stored])
            for row, v, label in zip(rows, valid, labels):
                at, c = row["subject_id"], confidences.get(row["subject_id"]) or 0.0
                penalty = settings["lambda"] * sizes[label] / len(rows)
                if settings["formula"] == "clamped":
                    uncertainty = 1 - abs(2 * c - 1) if v else 0.0
                    reward = max(0.0, uncertainty - penalty) if v else 0.0
                else:
                    uncertainty = min(c, 1 - c) if v else 0.0
                    reward = uncertainty - penalty if v else -1 - penalty
                for name, ours in dict(valid=v, uncertainty=uncertainty, diversity_penalty=penalty, cluster_size=sizes[label], scope_size=len(rows), reward=reward).items():
                    report.same(f"questioner's {name.replace('_', ' ')}", at, ours, row[name])


FORM = re.compile(r"<think>.*?</think>\s*\\boxed\{.*?\}\s*", re.DOTALL)


def check_reasoner(rewards, answers, curriculum, settings, report):
    rewards = rewards.filter(pl.col("role") == "reasoner")
    by_id = {a["answer_id"]: a for a in answers.iter_rows(named=True)}
    labels = dict(curriculum.select("question_id", "pseudo_label").iter_rows())
    for row in rewards.iter_rows(named=True):
        answer = by_id[row["subject_id"]]
        text = re.sub(r"\s*([<>/])\s*", r"\1", answer["raw_text"]) if settings["tidy"] else answer["raw_text"]
        box = last_box(text)
        label = labels.get(answer["question_id"])
        report.same("question has a label", answer["question_id"], True, label is not None)
        correct = None not in (box, label) and equal(box, label)
        form = bool(FORM.fullmatch(text))
        parts = dict(correct=correct, correctness=settings["correct"] * correct, form=settings["form"] * form)
        for name, ours in parts.items():
            report.same(f"reasoner's {name}", row["subject_id"], ours, row[name])
        report.same("reasoner's reward", row["subject_id"], parts["correctness"] + parts["form"] - (row["overlong_penalty"] or 0.0), row["reward"])


def check_advantages(rewards, updates, report):
    for (role, step, group), rows in rewards.group_by("role", "step", "group_id", maintain_order=True):
        update = updates.get(role, {})
        r = rows["reward"].to_numpy()
        alike = bool((r == r[0]).all())
        std = 0.0 if alike else float(r.std(ddof=1))
        divide = update.get("aggregation") != "dr-grpo"
        advantages = np.zeros(len(r)) if alike else (r - r.mean()) / (std + 1e-6 if divide else 1.0)
        dropped = alike and update.get("drop_zero_std", False)
        for row, a in zip(rows.iter_rows(named=True), advantages.tolist()):
            report.same("group's mean", row["subject_id"], float(r.mean()), row["group_mean"])
            report.same("group's deviation", row["subject_id"], std, row["group_std"])
            report.same("advantage", row["subject_id"], a, row["advantage"])
            if dropped:
                report.same("in the update", row["subject_id"], False, row["in_update"])


def fate(question, row, s):
    """Why a question is left out, or its confidence."""
    contains = lambda text, words: any(w.lower() in text.lower() for w in words)
    confidence, margin = share_of(row["class_counts"], row["sampled"], s["label_denominator"])
    if question is None or question["question"] is None:
        return "invalid_question"
    if row["majority_answer"] is None or confidence is None:
        return "no_answer"
    if contains(question["question"], s["drop_question_contains"]):
        return "question_contains"
    if contains(row["majority_answer"], s["drop_majority_contains"]):
        return "majority_contains"
    if confidence < s["low"]:
        return "below_band"
    if confidence > s["high"]:
        return "above_band"
    if margin < s["min_margin"]:
        return "small_margin"
    if s["greedy_agrees"] and row["greedy_agrees"] is not True:
        return "greedy_differs"
    return confidence


def check_curriculum(curriculum, rejects, questions, votes, s, report):
    by_id = {q["question_id"]: q for q in questions.iter_rows(named=True)}
    kept, reasons, first = {}, {}, {}
    for row in votes.iter_rows(named=True):
        question, outcome = by_id.get(row["question_id"]), None
        outcome = fate(question, row, s)
        if not isinstance(outcome, str) and s["deduplicate"]:
            key = (row["image_id"], " ".join(question["question"].lower().split()))
            if first.setdefault(key, row["question_id"]) != row["question_id"]:
                outcome = "duplicate"
        (reasons if isinstance(outcome, str) else kept)[row["question_id"]] = outcome
    types = Counter(by_id[q]["question_type"] for q in kept)
    limit = max(types.values(), default=0)
    while len(types) > 1 and limit > 0 and limit > s["max_type_share"] * sum(min(n, limit) for n in types.values()):
        limit -= 1
    limit = limit or max(types.values(), default=0)
    stored = {c["question_id"]: c for c in curriculum.iter_rows(named=True)}
    why = {} if rejects is None else {r["subject_id"]: r["reason"] for r in rejects.filter(pl.col("stage") == "curriculum").iter_rows(named=True)}
    report.same("rows of each type", "curriculum", {t: min(n, limit) for t, n in types.items()}, dict(Counter(c["question_type"] for c in stored.values())))
    votes_by_id = {v["question_id"]: v for v in votes.iter_rows(named=True)}
    for question in {**kept, **reasons}:
        capped = question in kept and types[by_id[question]["question_type"]] > limit and why.get(question) == "type_cap"
        report.same("in the curriculum", question, question in kept and not capped, question in stored)
        if question in reasons or capped:
            report.same("reason", question, "type_cap" if capped else reasons[question], why.get(question))
    for question, row in stored.items():
        if question not in kept:
            report.same("in the curriculum", question, False, True)
            continue
        v = votes_by_id[question]
        confidence, margin = share_of(v["class_counts"], v["sampled"], s["label_denominator"])
        report.same("curriculum's confidence", question, confidence, row["confidence"])
        report.same("curriculum's margin", question, margin, row["margin"])
        report.same("problem", question, by_id[question]["question"], row["problem"])
        if s["labels"] == "as-voted":
            report.same("pseudo-label", question, v["majority_answer"], row["pseudo_label"])
    if s["labels"] == "shuffled":
        report.same("shuffled labels", "curriculum", sorted(votes_by_id[q]["majority_answer"] for q in stored if q in votes_by_id), sorted(c["pseudo_label"] for c in stored.values()))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folders", nargs="+")
    options.add_argument("--settings", help="the pipeline file; without it the preset `paper`")
    options.add_argument("--show", type=int, default=20, help="rows of each check that are printed")
    options = options.parse_args()
    settings, found, report = settings_of(options.settings), tables(options.folders), Report(options.show)
    for needed in ("questions", "answers", "votes"):
        if needed not in found:
            sys.exit(f"no {needed} under {', '.join(options.folders)}")
    questions, answers, votes = found["questions"], found["answers"], found["votes"]
    rewards, curriculum = found.get("rewards"), found.get("curriculum")
    by_role = lambda role: set() if rewards is None else set(rewards.filter(pl.col("role") == role)["subject_id"])
    training_questions = by_role("questioner")
    training_groups = set(answers.filter(pl.col("answer_id").is_in(list(by_role("reasoner"))))["group_id"])
    both = [settings["questioner"]["reward_denominator"], settings["curriculum"]["label_denominator"]]

    def denominators(question, group):
        # The Reasoner's own training votes too, and nothing reads that confidence.
        return both if group in training_groups else both[:1] if question in training_questions else both[1:]

    groups = check_answers(answers, report)
    check_votes(votes, groups, denominators, report)
    if rewards is not None:
        for role in ("questioner", "reasoner"):
            print(f"{role}: {rewards.filter(pl.col('role') == role).height} rewards")
        check_questioner(rewards, questions, votes.filter(pl.col("question_id").is_in(list(training_questions))), settings["questioner"], report)
        if curriculum is not None:
            check_reasoner(rewards, answers, curriculum, settings["reasoner"], report)
        check_advantages(rewards, settings["update"], report)
    if curriculum is not None:
        # Questions of one seed were asked together; those of the seed that the curriculum's come from are the candidates. The
        # others trained the Questioner, or are the base model's own, which only judge whether a round is kept.
        chosen = set(curriculum["question_id"])
        if "rejects" in found:
            chosen |= set(found["rejects"].filter(pl.col("stage") == "curriculum")["subject_id"])
        seeds = questions.filter(pl.col("question_id").is_in(list(chosen)))["seed"].unique().to_list()
        asked = questions.filter(pl.col("seed").is_in(seeds))["question_id"].to_list()
        # A candidate is answered first for its label and again, if kept, in training: the first vote by its number of samples.
        candidates = votes.filter(pl.col("question_id").is_in(asked))
        labelled = candidates.filter(pl.col("sampled") == settings["curriculum"]["label_samples"])
        check_curriculum(curriculum, found.get("rejects"), questions, labelled.unique("question_id", keep="first", maintain_order=True), settings["curriculum"], report)
        report.checked["skipped: votes not of labels"] += candidates.height - labelled.height
    for check, count in sorted(report.checked.items()):
        print(f"{check}: {count} looked at, {report.wrong[check]} differ")
    if report.wrong:
        sys.exit(1)
    print("every row agrees")


if __name__ == "__main__":
    main()
