"""Recomputes votes, confidences, rewards, advantages and the curriculum of a stored round from its
Parquet files alone.

    python tests/oracles/round_check.py FOLDER.. [--settings PIPELINE.toml] [--show 20]
    (needs polars, mathruler with sympy and pylatexenc, nltk, scikit-learn)

FOLDER has the Parquet files of one round at any depth, such as `views/EVOLUTION/round=3`. A file's
columns tell which table it is (`schemas/*.json`). The settings are a pipeline file, whose `preset`
gives the values that the file leaves out. None of visplay's code is used: mathruler compares answers,
in both directions; BLEU is NLTK's, and the clusters are scikit-learn's.

Prints each row that differs, and for each check the number of compared rows; fails if one differs.
The box of each answer is extracted from its text again. A vote does not name its group, so all votes
on a question are compared with all its groups of answers. If a curriculum's labels were shuffled on
purpose, they are only compared as a set. The choice of rows that a cap on types drops is up to
visplay, so only the number of rows of each type is compared. Rows whose settings are unknown are
counted as "skipped".
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
# docs/rewards.md compares the two presets.
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


def read_settings(path):
    """Returns the settings of a pipeline file, or of the preset `paper`."""
    pipeline = tomllib.loads(Path(path).read_text()) if path else {}
    preset = PRESETS[pipeline.get("preset", "paper")]
    merged = {section: preset[section] | pipeline.get(section, {}) for section in preset}
    merged["curriculum"] = OFF | merged["curriculum"]
    merged["update"] = pipeline.get("update", {})
    return merged


def tables(folders):
    """Reads every table, its files sorted by path. A file with two paths is read once."""
    columns = {frozenset(c["name"] for c in s["columns"]): s["table"] for s in (json.loads(p.read_text()) for p in SCHEMAS.glob("*.json")) if "columns" in s}
    found, seen = defaultdict(list), set()
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.parquet")):
            stat = path.stat()
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            table = columns.get(frozenset(pl.read_parquet_schema(path)))
            if table in ("questions", "answers", "votes", "curriculum", "rewards", "rejects"):
                found[table].append(pl.read_parquet(path))
    # Two refs may name one shard, so rows with equal ids are read once.
    unique = {"questions": ["question_id"], "answers": ["answer_id"], "curriculum": ["question_id"], "rewards": ["role", "step", "subject_id"]}
    return {t: pl.concat(frames).unique(unique[t], maintain_order=True) if t in unique else pl.concat(frames) for t, frames in found.items()}


@lru_cache(maxsize=None)
def are_equal(a, b):
    """Returns whether two answers are equal by mathruler, in either direction."""
    return a == b or bool(grade_answer(a, b)) or bool(grade_answer(b, a))


def last_box(text):
    """Returns the content of the last \\boxed{}, or None."""
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
    """Returns the class of each answer, and the first member and the size of each class."""
    classes, counts, assigned = [], [], []
    for box in boxes:
        if box is None:
            assigned.append(None)
            continue
        at = next((i for i, c in enumerate(classes) if are_equal(box, c)), None)
        if at is None:
            at = len(classes)
            classes.append(box)
            counts.append(0)
        counts[at] += 1
        assigned.append(at)
    return assigned, classes, counts


def clusters(questions):
    """Returns the cluster of each question: distance 1 - BLEU-4, average linkage, threshold 0.5."""
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
    """Compares values, and counts the comparisons and differences of each check."""

    def __init__(self, show):
        self.show, self.checked, self.wrong = show, Counter(), Counter()

    def compare(self, check, row, ours, stored):
        """Compares numbers within 1e-9 of each other, and other values for equality."""
        self.checked[check] += 1
        number = lambda x: isinstance(x, (int, float)) and not isinstance(x, bool)
        if ours == stored or number(ours) and number(stored) and abs(ours - stored) <= 1e-9 * max(1, abs(ours)):
            return
        self.wrong[check] += 1
        if self.wrong[check] <= self.show:
            print(f"{check}: {row}: {ours!r} recomputed, {stored!r} stored")


def confidence_and_margin(counts, sampled, denominator):
    """Returns the confidence of a vote and its margin, or (None, None)."""
    divisor = sampled if denominator == "sampled" else sum(counts)
    ordered = sorted(counts, reverse=True) + [0, 0]
    return (ordered[0] / divisor, (ordered[0] - ordered[1]) / divisor) if divisor else (None, None)


def check_answers(answers, report):
    """Compares boxes and vote classes; returns each group's question and vote."""
    groups = {}
    for (group,), rows in answers.sort("group_id", "sample").group_by("group_id", maintain_order=True):
        boxes = [last_box(t) for t in rows["raw_text"]]
        assigned, classes, counts = vote(boxes)
        for row, box, cls in zip(rows.iter_rows(named=True), boxes, assigned):
            report.compare("boxed answer", row["answer_id"], box, row["boxed_answer"])
            report.compare("vote class", row["answer_id"], cls, row["vote_class"])
        report.compare("samples of a group", group, list(range(len(rows))), rows["sample"].to_list())
        groups[group] = (rows["question_id"][0], len(rows), classes, counts)
    return groups


def check_votes(votes, groups, denominators, report):
    """Compares the votes on each question with its groups of answers."""
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
        recomputed = of_question.get(question, [])
        unmatched = list(recomputed)
        agrees_with = lambda vote, row: all(vote[k] == row[k] for k in vote)
        # Equal bytes are stored once: two shards of votes with equal rows are one file.
        distinct = [m[1] for i, m in enumerate(recomputed) if not any(m[1] == other[1] for other in recomputed[:i])]
        report.compare("votes of a question", question, True, len(distinct) <= len(rows) <= len(recomputed) or (len(recomputed), len(rows)))
        report.compare("each group has its vote", question, [], [m for m in distinct if not any(agrees_with(m, row) for row in rows)])
        for row in rows:
            match = next((m for m in unmatched if agrees_with(m[1], row)), None)
            if match is None:
                report.compare("vote", question, [m[1] for m in unmatched], {k: row[k] for k in ("sampled", "boxed", "class_answers", "class_counts", "majority_answer")})
                continue
            unmatched.remove(match)
            report.compare("vote", question, True, True)
            expected = [confidence_and_margin(row["class_counts"], row["sampled"], d) for d in denominators(question, match[0])]
            report.compare("confidence", question, True, any(shares_match(e, row) for e in expected) or (expected, row["confidence"], row["margin"]))
            agrees = row["greedy_answer"] is not None and row["majority_answer"] is not None and are_equal(row["greedy_answer"], row["majority_answer"])
            if row["greedy_agrees"] is not None:
                report.compare("greedy agrees", question, agrees, row["greedy_agrees"])


def shares_match(expected, row):
    """Returns whether a row has this confidence and margin."""
    pairs = zip(expected, (row["confidence"], row["margin"]))
    return all(a is None and b is None or a is not None and b is not None and abs(a - b) < 1e-12 for a, b in pairs)


def check_questioner(rewards, questions, votes, settings, report):
    """Compares the Questioner's rewards and the clusters of its questions."""
    rewards = rewards.filter(pl.col("role") == "questioner")
    by_id = {q["question_id"]: q for q in questions.iter_rows(named=True)}
    confidences = {v["question_id"]: confidence_and_margin(v["class_counts"], v["sampled"], settings["reward_denominator"])[0] for v in votes.iter_rows(named=True)}
    for (step,), of_step in rewards.group_by("step", maintain_order=True):
        scopes = [rows for _, rows in of_step.group_by("group_id", maintain_order=True)] if settings["scope"] == "group" else [of_step]
        for scope in scopes:
            rows = list(scope.iter_rows(named=True))
            valid = [by_id[r["subject_id"]]["valid"] and r["subject_id"] in confidences for r in rows]
            labels = clusters([by_id[r["subject_id"]]["question"] if v else "" for r, v in zip(rows, valid)])
            sizes, stored = Counter(labels), [r["cluster"] for r in rows]
            report.compare("partition into clusters", f"step {step}", [labels.index(l) for l in labels], [stored.index(c) for c in stored])
            for row, v, label in zip(rows, valid, labels):
                question, c = row["subject_id"], confidences.get(row["subject_id"]) or 0.0
                penalty = settings["lambda"] * sizes[label] / len(rows)
                if settings["formula"] == "clamped":
                    uncertainty = 1 - abs(2 * c - 1) if v else 0.0
                    reward = max(0.0, uncertainty - penalty) if v else 0.0
                else:
                    uncertainty = min(c, 1 - c) if v else 0.0
                    reward = uncertainty - penalty if v else -1 - penalty
                for name, ours in dict(valid=v, uncertainty=uncertainty, diversity_penalty=penalty, cluster_size=sizes[label], scope_size=len(rows), reward=reward).items():
                    report.compare(f"questioner's {name.replace('_', ' ')}", question, ours, row[name])


FORM = re.compile(r"<think>.*?</think>\s*\\boxed\{.*?\}\s*", re.DOTALL)


def check_reasoner(rewards, answers, curriculum, settings, report):
    """Compares the Reasoner's rewards."""
    rewards = rewards.filter(pl.col("role") == "reasoner")
    by_id = {a["answer_id"]: a for a in answers.iter_rows(named=True)}
    labels = dict(curriculum.select("question_id", "pseudo_label").iter_rows())
    for row in rewards.iter_rows(named=True):
        answer = by_id[row["subject_id"]]
        text = re.sub(r"\s*([<>/])\s*", r"\1", answer["raw_text"]) if settings["tidy"] else answer["raw_text"]
        box = last_box(text)
        label = labels.get(answer["question_id"])
        report.compare("question has a label", answer["question_id"], True, label is not None)
        correct = None not in (box, label) and are_equal(box, label)
        form = bool(FORM.fullmatch(text))
        parts = dict(correct=correct, correctness=settings["correct"] * correct, form=settings["form"] * form)
        for name, ours in parts.items():
            report.compare(f"reasoner's {name}", row["subject_id"], ours, row[name])
        report.compare("reasoner's reward", row["subject_id"], parts["correctness"] + parts["form"] - (row["overlong_penalty"] or 0.0), row["reward"])


def check_advantages(rewards, updates, report):
    """Compares the advantages and the statistics of each group."""
    for (role, step, group), rows in rewards.group_by("role", "step", "group_id", maintain_order=True):
        update = updates.get(role, {})
        r = rows["reward"].to_numpy()
        all_equal = bool((r == r[0]).all())
        std = 0.0 if all_equal else float(r.std(ddof=1))
        divide = update.get("aggregation") != "dr-grpo"
        advantages = np.zeros(len(r)) if all_equal else (r - r.mean()) / (std + 1e-6 if divide else 1.0)
        dropped = all_equal and update.get("drop_zero_std", False)
        for row, a in zip(rows.iter_rows(named=True), advantages.tolist()):
            report.compare("group's mean", row["subject_id"], float(r.mean()), row["group_mean"])
            report.compare("group's deviation", row["subject_id"], std, row["group_std"])
            report.compare("advantage", row["subject_id"], a, row["advantage"])
            if dropped:
                report.compare("in the update", row["subject_id"], False, row["in_update"])


def decide(question, row, s):
    """Returns the reason why a question is left out, or its confidence."""
    contains = lambda text, words: any(w.lower() in text.lower() for w in words)
    confidence, margin = confidence_and_margin(row["class_counts"], row["sampled"], s["label_denominator"])
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
    """Compares the kept and the rejected questions."""
    by_id = {q["question_id"]: q for q in questions.iter_rows(named=True)}
    kept, reasons, first = {}, {}, {}
    for row in votes.iter_rows(named=True):
        question = by_id.get(row["question_id"])
        outcome = decide(question, row, s)
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
    stored_reasons = {} if rejects is None else {r["subject_id"]: r["reason"] for r in rejects.filter(pl.col("stage") == "curriculum").iter_rows(named=True)}
    report.compare("rows of each type", "curriculum", {t: min(n, limit) for t, n in types.items()}, dict(Counter(c["question_type"] for c in stored.values())))
    votes_by_id = {v["question_id"]: v for v in votes.iter_rows(named=True)}
    for question in {**kept, **reasons}:
        capped = question in kept and types[by_id[question]["question_type"]] > limit and stored_reasons.get(question) == "type_cap"
        report.compare("in the curriculum", question, question in kept and not capped, question in stored)
        if question in reasons or capped:
            report.compare("reason", question, "type_cap" if capped else reasons[question], stored_reasons.get(question))
    for question, row in stored.items():
        if question not in kept:
            report.compare("in the curriculum", question, False, True)
            continue
        v = votes_by_id[question]
        confidence, margin = confidence_and_margin(v["class_counts"], v["sampled"], s["label_denominator"])
        report.compare("curriculum's confidence", question, confidence, row["confidence"])
        report.compare("curriculum's margin", question, margin, row["margin"])
        report.compare("problem", question, by_id[question]["question"], row["problem"])
        if s["labels"] == "as-voted":
            report.compare("pseudo-label", question, v["majority_answer"], row["pseudo_label"])
    if s["labels"] == "shuffled":
        report.compare("shuffled labels", "curriculum", sorted(votes_by_id[q]["majority_answer"] for q in stored if q in votes_by_id), sorted(c["pseudo_label"] for c in stored.values()))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folders", nargs="+", help="folders of a round's Parquet files")
    options.add_argument("--settings", help="a pipeline file; the preset `paper` by default")
    options.add_argument("--show", type=int, default=20, help="number of differing rows to print for each check")
    options = options.parse_args()
    settings, found, report = read_settings(options.settings), tables(options.folders), Report(options.show)
    for needed in ("questions", "answers", "votes"):
        if needed not in found:
            sys.exit(f"there is no table {needed} under {', '.join(options.folders)}")
    questions, answers, votes = found["questions"], found["answers"], found["votes"]
    rewards, curriculum = found.get("rewards"), found.get("curriculum")
    by_role = lambda role: set() if rewards is None else set(rewards.filter(pl.col("role") == role)["subject_id"])
    training_questions = by_role("questioner")
    training_groups = set(answers.filter(pl.col("answer_id").is_in(list(by_role("reasoner"))))["group_id"])
    both = [settings["questioner"]["reward_denominator"], settings["curriculum"]["label_denominator"]]

    def denominators(question, group):
        # The Reasoner's training answers are voted on too, but nothing reads that confidence.
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
        # Questions with one seed were asked together. The candidates have the seed of the
        # curriculum's questions; the others trained the Questioner, or are the base model's own,
        # which only score the round.
        candidate_ids = set(curriculum["question_id"])
        if "rejects" in found:
            candidate_ids |= set(found["rejects"].filter(pl.col("stage") == "curriculum")["subject_id"])
        seeds = questions.filter(pl.col("question_id").is_in(list(candidate_ids)))["seed"].unique().to_list()
        asked = questions.filter(pl.col("seed").is_in(seeds))["question_id"].to_list()
        # A candidate is answered for its label and, if kept, again in training. The vote for the
        # label is the first one with the label's number of samples.
        candidates = votes.filter(pl.col("question_id").is_in(asked))
        labelled = candidates.filter(pl.col("sampled") == settings["curriculum"]["label_samples"])
        check_curriculum(curriculum, found.get("rejects"), questions, labelled.unique("question_id", keep="first", maintain_order=True), settings["curriculum"], report)
        report.checked["skipped: votes that are not for labels"] += candidates.height - labelled.height
    for check, count in sorted(report.checked.items()):
        print(f"{check}: {count} compared, {report.wrong[check]} differ")
    if report.wrong:
        sys.exit(1)
    print("every row agrees")


if __name__ == "__main__":
    main()
