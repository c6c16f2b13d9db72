#!/usr/bin/env python3
"""Freezes what the published scorers of eight benchmarks say of random and adversarial responses.

    python tests/oracles/benchmarks.py CLONES [--seed N] [--scale X] [--print]

CLONES is a folder with git clones of the repositories in SOURCES, named OWNER+NAME (bare ones will
do, also in a subfolder `repo`). Two scorers need packages that exclude each other, so the script runs
twice and each run replaces its own lines of tests/oracles/benchmarks.jsonl:

- with numpy, pandas, sympy 1.14.0 and latex2sympy2 1.9.1: the scorer of MATH-Vision;
- with numpy, pandas, sympy 1.14.0 and latex2sympy2_extended 1.11.0: all others.

The functions are loaded by their names from the sources at the commits below, and run unchanged.
Judges play back replies of the case. `--print` writes the cases to standard output instead.
"""
import argparse
import ast
import json
import logging
import math
import pathlib
import random
import re
import string
import subprocess
import sys

SOURCES = {
    "vlmevalkit": ("open-compass+VLMEvalKit", "e8e78f05f3080fe28154f2130321f17951c3be94"),
    "lmms-eval": ("EvolvingLMMs-Lab+lmms-eval", "75571cfe0fa36ca5ec2e6aa2bb268f9d38295af3"),
    "mmmu": ("MMMU-Benchmark+MMMU", "bb0b95a945998d91dfef37e969e07d49d1139438"),
    "mmstar": ("MMStar-Benchmark+MMStar", "88f243ab4a39cb339530085c33aecb22819881a1"),
    "mathv": ("mathllm+MATH-V", "a1f5cc3add200c0cd080fad463e500f44ef1fb41"),
    "visplay": ("bruno686+VisPlay", "3aa895bf6a1df53d61f8e30dd32c39c1b5d5a03f"),
}
OUTPUT = pathlib.Path(__file__).with_name("benchmarks.jsonl")


def source(clones, name, path):
    """Returns the text of a file at the pinned commit."""
    folder, commit = SOURCES[name]
    for git in [clones / folder / "repo", clones / folder / ".git", clones / folder]:
        if (git / "objects").is_dir():
            command = ["git", f"--git-dir={git}", "show", f"{commit}:{path}"]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    sys.exit(f"no clone of {folder} in {clones}")


def load(text, names, extra=None):
    """Returns a namespace with the named functions and constants of a Python source."""
    tree = ast.parse(text)

    def is_wanted(node):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            return node.name in names
        targets = node.targets if isinstance(node, ast.Assign) else []
        return any(isinstance(target, ast.Name) and target.id in names for target in targets)

    body = [node for node in tree.body if is_wanted(node)]
    for node in body:
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []
    namespace = {"re": re, "string": string, "logger": logging.getLogger("oracle"), **(extra or {})}
    exec(compile(ast.Module(body, []), "scorer", "exec"), namespace)
    missing = [name for name in names if name not in namespace]
    assert not missing, missing
    return namespace


# ---- responses ----

TEXTS = [
    ["a copper kettle", "two wooden spoons", "a blue ladder", "none of these"],
    ["3", "4", "5", "6", "8"],
    ["left lane", "right lane", "either lane"],
    ["(10, 20) degrees", "(20, 30) degrees", "(70, 80) degrees", "(80, 90) degrees"],
    ["Red", "RED and blue", "İstanbul", "Z", "ß"],
    ["yes", "no"],
    ["\\frac{2}{3}", "0.5", "\\sqrt{2}", "1", "-1"],
    ["", "x", "y"],
    list("pqrstuvw"),
]
DRESSES = [
    "{l}", "{l}.", "({l})", "{l})", "**{l}**", "\\boxed{{{l}}}", "The answer is {l}.", "answer is **{l}**", "ANSWER IS {l}",
    "the correct option is {l}", "Option {l}", "option {l}", "the answer is {l} because of {t}", "{t}", "It is {t}.",
    "I see {t}, so {l}", "{l} or {m}", "({l}) and ({m})", "{l} is wrong. {m} is right.", "First ({l}). Finally ({m}).",
    "Let me think. {t} is one thing. Hence {l}.", "{l}\n{t}", "So\n{l}", "{l}: {t}", "{l}. {t}", "\\boxed{{{t}}}",
    "answer  is\t{l}", "anſwer is {l}", "answer İs {l}", "answer ıs *{l}", "Answer: {l}", "answer: {l}", "答案是{l}", "选 {l} 或 {m}",
    "정답은 {l}", "I choose {m}. No, my answer is {l}", "A person sees {t}", "Cannot determine the answer {l}",
    "I'm sorry, but without the image provided {l}", "Failed to obtain answer via API. {t}", "Z {l}", "Z", "'{l}'", "\"{l}\"",
    "<think>{m}</think>{l}", "{l}\u00a0{m}", "{l}\u3000", "\ufeff{l}", "\u200b{l}", "Ｂ{l}", "  {l}  ", "{l} {l} {m}", "x {l} y z w v u",
    "one two three four {l} five six", "{l}one {m}", "!{l}?", "the best choice is {m}, or the choice is {l}", "",
]
PIECES = [
    "A", "B", "C", "D", "E", "Z", "a", "b", "(A)", "(B)", "(C)", "B.", "C:", "D)", "A,", "**B**", "answer", "is", "the", "The",
    "answer is", "correct option is", "I choose", "my choice is", "\n", " ", "  ", "\t", "not", "or", "and", ".", ",", "!", "?", ";", ":", "'",
    "\"", "(", ")", "[", "]", "{", "}", "*", "#", "-", "\\boxed{", "}", "4", "two", "spoons", "\u00a0", "\u3000", "\x1c", "\u200b", "é", "选", "답은",
    "Cannot determine the answer", "option ", "the answer is ", "b", "ſ", "İ",
]


def choice_response(rng, texts):
    letters = string.ascii_uppercase[:len(texts)]
    n = rng.randrange(len(texts))
    text = rng.choice(DRESSES).format(l=letters[n], m=rng.choice(letters), t=rng.choice([texts[n], texts[n].upper()]))
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(["", " ", "So "]).join(rng.choice(PIECES) for _ in range(rng.randrange(1, 12)))
    if kind < 0.5:
        return mutated(rng, text, PIECES)
    if kind < 0.6:
        return text + rng.choice(["", " ", ". ", "\n"]) + choice_response(rng, texts)
    return text


def mutated(rng, text, pieces):
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(text) + 1)
        if rng.random() < 0.5:
            text = text[:at] + rng.choice(pieces) + text[at:]
        else:
            text = text[:at] + text[at + rng.randrange(1, 4):]
    return text


NUMBERS = [
    "15", "-15", "1,500", "1,50", "15.004", "0.125", "0.375", "2.675", "1.005", "1e3", "1.5e-2", "3E4", ".5", "5.", "1,234,567.89", "1,2345,678",
    "12,345,6789", "１５", "٣", "1_000", "nan", "inf", "-inf", "infinity", "1.2.3", "3.14e5", "1/3", "10%", "$5", "5cm", "x5", "5x", "--5", "- 5", "0.345", "1.0e",
    "9" * 20, "1.e3", "1,000e2", "2.5,3", "007", "-0", "1e400", "२३", "²", "5²", "_5", "5_", "1__0", "e5", "3e", "12.345", "0.005", "0.015",
]
OPEN_PIECES = NUMBERS + [
    "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ", "could be ", "= ", "=", "\n", ". ", ".", " ", "volcanic", "Oslo", "C", "x", "not ", "the ", ",", ":",
    "!", "?", ";", "'", "This ", "CaO", "and ", "-", "é", "İ", "\u00a0", "Capital", "\r\n", "ß",
]


def open_response(rng, gold=None):
    if gold is not None and rng.random() < 0.5:
        gold = rng.choice(gold) if isinstance(gold, list) else gold
        gold = rng.choice([gold, gold, gold.upper(), gold + "0", gold.replace(",", "")])
        return open_response(rng) * rng.randrange(2) + rng.choice(["", "It is ", "so ", "answer = ", "\n", "not "]) + gold + rng.choice(["", ".", " cm", "\nso", "!"])
    kind = rng.random()
    if kind < 0.25:
        return rng.choice(["", "It is ", "The answer is ", "So x = "]) + rng.choice(NUMBERS) + rng.choice(["", ".", " cm", "\n", "!"])
    return "".join(rng.choice(OPEN_PIECES) + rng.choice(["", " "]) for _ in range(rng.randrange(1, 9)))


OPEN_GOLDS = ["15", "-15", "1,500", "0.12", "0.345", "1.005", "volcanic", "Oslo", "C", "x", ["22/7", "3.143"], "nan", "1000", "1/3", "", "5 cm", "İ", ["a", "b"], "0.01"]

YES_NO_PIECES = [
    "yes", "no", "Yes", "No", "YES", "nO", "not", "know", "eyes", "y", ".", "..", "...", ",", "!", "?", ";", ":", "/", "[", "]", "\"", "'", "{", "}", "(", ")", "=", "+", "\\", "_",
    "-", ">", "<", "@", "`", "*", " ", "  ", "\n", "\t", "1,500", "1", "5", "1,", ",5", "it is", "\u00a0", "yeſ", "ｎｏ", "3.5", "٣,٤", "is. ", "A. " * 33, ". " * 31, "\x1f",
]

MATH_ATOMS = [
    "15", "15.0", "1.50", ".5", "3", "-3", "+3", "−3", "0.504", "1,000", "1,00", "12.125", "\\frac{1}{2}", "\\frac12", "\\dfrac{3}{4}", "\\frac{-1}{2}", "1/2", "30/2", "7\\sqrt{3}", "\\sqrt3",
    "\\sqrt[3]{8}", "6\\pi", "\\pi", "6π", "2\\frac{2}{3}", "-2\\frac{1}{3}", "10^3", "2^{10}", "2^10", "2^-1", "10^{-2}", "e^2", "15!", "50\\%", "50%", "90^\\circ", "90^{\\circ}", "90°", "(1,2)", "[0,1]", "(1.0, 2)",
    "(1/2,0.5)", "(a,1)", "(\\infty,1)", "-\\infty", "12km", "12 km", "12\\text{ cm}", "12{units}", "12m^3", "x=12", "x = 5", "\\{12\\}", "\\left(3\\right)", "2\\cdot3", "2\\times 3", "6\\div 2", "12:30", "3(4)", "(3)(4)",
    "2 3", "--3", "3-", "*3", "3+", "a", "b", "b.", "(b)", "{b}", "ab", "\\text{b}", "\\mathrm{c}", "1{,}000", "$5$", "\\$5", "5\\,", "1\\!5", "0.5", "\\sin 30", "\\cos(0)", "\\log_2 8", "\\log 100", "\\ln 2", "|3|", "1e3", "1.5e1",
    "0015", "15.", "30//2", "2**3", "10^2", "~3", "1<<3", "5 % 3", "(15)", "((2))", "[15]", "{15}", "nan", "inf", "\\frac{\\sqrt{3}}{2}", "\\frac{25}{14}", "1.79", "1.786", "8/3", "2.67", "12.12", "12.124356", "18.85", "0.333333", "0.3333333",
    "1/3", "\\frac{1}{3}", "15 percent", "'15'", "\\\\frac{1}{2}", "15 \\text{ }", "3 and 4", "1\\frac{1}{2}\\frac{1}{2}", "3.0(2)", "4/2 3", "1/2/3", "2^3^2", "-2^2", "(-2)^2", "\\frac{1}{0}", "0^0", "5*-3", "3!!", "\\frac{15}{1}",
]


def math_atom(rng):
    if rng.random() < 0.75:
        return rng.choice(MATH_ATOMS)
    joint = rng.choice(["+", "-", "*", "/", "^", " ", "", "=", "\\cdot ", ","])
    return rng.choice(MATH_ATOMS) + joint + rng.choice(MATH_ATOMS)


MATH_DRESSES = [
    "{a}", "{a}", "{a}", "\\boxed{{{a}}}", "The answer is {a}.", "${a}$", "So it is {a}.", "the final answer is {a}\nDone", "The correct answer is {a}. Really", "\\boxed{{{a}}} or \\boxed{{{b}}}", "$\\boxed{{{a}}}$",
    "x = {a}", "I get {b} ({l}).", "{l}\nbecause", "({l})\nx", "({l}) {l}\nx", " {l} ", "it is {l}", "The value is: {a}", "\\boxed{{{a}", "{{{a}}}", "\\fbox{{{a}}}", "First \\boxed{{{b}}}. So the answer is {a}", "{a} \\approx {b}",
    "The answer should be {a}. the answer is {b}", "{l}", "({l})", "answer: {l}.", "It is ({l}).", "**{a}**", "\\boxed {{{a}}}", "\\boxed{{\\boxed{{{a}}}}}",
]


# Spellings of nearly the same value.
ALIKE = [
    ["15", "15.0", "15.", "+15", "{15}", "(15)", "30/2", "\\frac{30}{2}", "15.000001", "15.004", "15.006", "0015", "3\\cdot5", "3\\times 5", "3*5", "10+5", "15^\\circ", "$15$", "\\{15\\}"],
    ["0.5", ".5", "1/2", "\\frac{1}{2}", "\\dfrac{1}{2}", "50\\%", "50%", "0.504", "0.505", "0.495", "\\frac12", "2^{-1}", "\\frac{2}{4}", "0.50"],
    ["7\\sqrt{3}", "7\\sqrt3", "12.12", "12.124", "12.124356", "7 \\sqrt{3}", "7√3", "\\sqrt{147}", "\\frac{21}{\\sqrt{3}}"],
    ["6\\pi", "6 \\pi", "18.85", "18.850", "18.849555922", "6π", "12\\pi/2", "\\frac{12\\pi}{2}", "\\pi\\cdot6"],
    ["2\\frac{2}{3}", "8/3", "\\frac{8}{3}", "2.67", "2.667", "2.6666667", "2 \\frac{2}{3}", "\\frac{16}{6}"],
    ["1000", "1,000", "10^3", "1{,}000", "1000.0", "10^{3}", "1000.001", "2000/2"],
    ["(1,2)", "(1.0,2.0)", "(1, 2)", "[1,2]", "(2/2,2)", "(1.001,2)", "\\left(1,2\\right)", "(1,4/2)"],
    ["1/3", "\\frac{1}{3}", "0.333", "0.33", "0.3333333", "0.334", "33\\%", "2/6"],
    ["-3", "−3", "-3.0", "--3", "3-6", "-\\frac{6}{2}", "-6/2", "(-3)"],
    ["12:30", "0.4", "2/5", "\\frac{2}{5}", "40\\%", "0.40"],
    ["0.125", "0.12", "0.13", "1/8", "\\frac{1}{8}", "12.5\\%", "2^{-3}", "0.124", "0.135", "0.115"],
    ["b", "B", "(b)", "{b}", "b."],
    ["8", "2^3", "2^{3}", "\\sqrt{64}", "\\sqrt[3]{512}", "8.00", "16/2", "2\\cdot2\\cdot2", "4!/3", "\\log_2 256"],
]


def alike(rng, text):
    """Returns the text, or another spelling of its value."""
    groups = [group for group in ALIKE if text in group]
    return rng.choice(rng.choice(groups)) if groups and rng.random() < 0.8 else text


def math_response(rng, item=None):
    atom = math_atom(rng)
    if item and rng.random() < 0.6:
        gold = item["answer"]
        atom = alike(rng, rng.choice([gold, item["options"][string.ascii_uppercase.index(gold)]]) if item["options"] else gold)
    text = rng.choice(MATH_DRESSES).format(a=atom, b=math_atom(rng), l=rng.choice("ABCDEF"))
    return mutated(rng, text, MATH_ATOMS + [" ", "{", "}", "$", "\n", "."]) if rng.random() < 0.15 else text


def math_item(rng):
    options = rng.choice(TEXTS[:2] + TEXTS[6:7] + [[]] * 5)
    if options:
        return {"options": options, "answer": rng.choice(string.ascii_uppercase[:len(options)])}
    gold = rng.choice(rng.choice(ALIKE)) if rng.random() < 0.5 else math_atom(rng)
    return {"options": [], "answer": gold}


# ---- scorers ----


def options_of(texts):
    return dict(zip(string.ascii_uppercase, texts))


def vlmevalkit_choice(clones, rng, n):
    extra = {"cp": __import__("copy"), "os": __import__("os"), "Counter": None}
    names = ["_VERBOSE_ANSWER_RE", "can_infer_option", "can_infer_text", "can_infer"]
    can_infer = load(source(clones, "vlmevalkit", "vlmeval/utils/matching_util.py"), names, extra)["can_infer"]
    for _ in range(n):
        texts = rng.choice(TEXTS)
        gold = rng.choice(string.ascii_uppercase[:len(texts)])
        response = choice_response(rng, texts)
        letter = can_infer(response, options_of(texts)) or None
        yield {"benchmark": "mmmu", "scorer": "vlmevalkit-choice", "item": {"options": options_of(texts), "answer": gold}, "response": response,
               "extracted": letter, "correct": letter == gold}


def mmmu_choice(clones, rng, n):
    class Random:
        @staticmethod
        def choice(_):
            return None

    extra = {"np": __import__("numpy"), "random": Random}
    parse = load(source(clones, "mmmu", "mmmu/utils/eval_utils.py"), ["parse_multi_choice_response"], extra)["parse_multi_choice_response"]
    for _ in range(n):
        texts = rng.choice(TEXTS)
        gold = rng.choice(string.ascii_uppercase[:len(texts)])
        response = choice_response(rng, texts)
        options = options_of(texts)
        letter = parse(response, list(options), options)
        case = {"benchmark": "mmmu", "scorer": "mmmu-official-choice", "item": {"options": options, "answer": gold}, "response": response,
                "extracted": letter, "correct": None if letter is None else letter == gold}
        yield case if letter else {**case, "fallback": "random"}


def mmmu_open(clones, rng, n):
    names = ["check_is_number", "normalize_str", "extract_numbers", "parse_open_response", "eval_open"]
    mmmu = load(source(clones, "mmmu", "mmmu/utils/eval_utils.py"), names)
    for _ in range(n):
        gold = rng.choice(OPEN_GOLDS + NUMBERS)
        response = open_response(rng, gold)
        parsed = mmmu["parse_open_response"](response)
        correct = mmmu["eval_open"](gold, parsed)
        as_json = lambda x: {"float": "nan" if math.isnan(x) else "inf"} if isinstance(x, float) and not math.isfinite(x) else x
        if any(isinstance(x, float) and x == -math.inf for x in parsed):
            continue
        yield {"benchmark": "mmmu", "scorer": "mmmu-official-open", "item": {"answer": gold}, "response": response,
               "extracted": sorted(map(as_json, parsed), key=str), "correct": correct}


def lmms_choice(clones, rng, n):
    names = ["_DEFAULT_CHOICES", "_ANSWER_PHRASES", "_FORMAT_PRIORITY"]
    text = source(clones, "lmms-eval", "lmms_eval/tasks/_task_utils/mcq_extract.py")
    from typing import List, Optional
    extract = load(text, names + ["extract_mcq_answer"], {"List": List, "Optional": Optional})["extract_mcq_answer"]
    for _ in range(n):
        texts = rng.choice(TEXTS[:4])
        gold = rng.choice("ABCD")
        response = choice_response(rng, texts)
        letter = extract(response, choices=["A", "B", "C", "D"])
        yield {"benchmark": "mmstar", "scorer": "lmmseval-choice", "item": {"answer": gold}, "response": response, "extracted": letter or None, "correct": letter == gold}
    for _ in range(n // 3):
        gold = rng.choice(["2", "Yes", "Downhill", "Car, truck", "İ", " B ", "b", "35 mph."])
        response = rng.choice([gold.strip(), gold.lower() + ".", gold.upper() + "..", f"The {gold}", f" {gold}. ", f"{gold} ."])
        clean = response.lower().strip().rstrip(".")
        letter = extract(response, choices=["A", "B", "C", "D"]) if gold.strip().upper() in tuple("ABCD") else None
        correct = letter == gold.strip().upper() if letter is not None else clean == gold.strip().lower()
        yield {"benchmark": "realworldqa", "scorer": "lmmseval-realworldqa", "item": {"answer": gold}, "response": response, "extracted": letter or None, "correct": correct}


def mmstar(clones, rng, n):
    import pandas as pd
    result = {}
    extra = {
        "deepcopy": __import__("copy").deepcopy, "get_logger": lambda _: logging.getLogger("oracle"), "tqdm": lambda x: x,
        "load": lambda frame: frame, "dump": lambda score, _: result.update(score),
    }
    text = source(clones, "mmstar", "eval/vlmeval/evaluate/mmstar.py")
    evaluate = load(text, ["MMStar_eval"], extra)["MMStar_eval"]
    categories = ast.literal_eval(ast.unparse(next(
        node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assign) and node.targets[0].id == "MMStar_score_l2")))

    class Frame(list):
        iloc = property(lambda self: self)
        replace = staticmethod(lambda *_: "")

    fillers = [{"prediction": "", "answer": "A", "bench": "", "category": c, "l2_category": l} for c, ls in categories.items() for l in ls]
    for _ in range(n):
        gold, response = rng.choice(["A", "B", "C", "D", "b", "AB", " A"]), choice_response(rng, TEXTS[0])
        row = {"prediction": response, "answer": gold, "bench": "", "category": "math", "l2_category": "geometry"}
        evaluate(Frame(fillers + [row]))
        yield {"benchmark": "mmstar", "scorer": "mmstar-official", "item": {"answer": gold}, "response": response, "extracted": None, "correct": result["final score"] > 0}
    _ = pd


def yes_no(clones, rng, n):
    punctuation = load(source(clones, "vlmevalkit", "vlmeval/smp/misc.py"), ["process_punctuation"])["process_punctuation"]
    extract = load(source(clones, "vlmevalkit", "vlmeval/dataset/utils/yorn.py"), ["YOrN_Extraction"], {"process_punctuation": punctuation})["YOrN_Extraction"]
    for _ in range(n):
        response = rng.choice(["", " "]).join(rng.choice(YES_NO_PIECES) for _ in range(rng.randrange(1, 7)))
        gold, extracted = rng.choice(["Yes", "No"]), extract(response)
        yield {"benchmark": "hallusionbench", "scorer": "vlmevalkit-yesno", "item": {"answer": gold}, "response": response,
               "extracted": None if extracted == "Unknown" else extracted, "correct": extracted == gold}


def visplay_rule(clones, rng, n):
    names = ["extract_boxed_content", "normalize_answer"]
    visplay = load(source(clones, "visplay", "Evaluation/eval_boxed_accuracy.py"), names)
    for _ in range(n):
        response = rng.choice([math_response(rng), choice_response(rng, TEXTS[0]), open_response(rng) * rng.randrange(1, 6)])
        gold = rng.choice(["B", math_atom(rng), "a copper kettle", ""])
        if rng.random() < 0.4:
            response = rng.choice(["\\boxed{%s}", "%s", " %s. ", "so \\boxed{ %s }", "\\boxed{1} \\boxed{%s,}"]) % rng.choice([gold, gold.lower(), gold.upper()])
        extracted = visplay["extract_boxed_content"](response)
        correct = visplay["normalize_answer"](extracted) == visplay["normalize_answer"](gold)
        yield {"benchmark": "all", "scorer": "visplay-rule", "item": {"answer": gold}, "response": response, "extracted": extracted, "correct": correct}


def vlmevalkit_math(clones, rng, n):
    from latex2sympy2_extended import latex2sympy
    extra = {"cp": __import__("copy"), "os": __import__("os"), "Counter": None}
    names = ["_VERBOSE_ANSWER_RE", "can_infer_option", "can_infer_text", "can_infer"]
    can_infer = load(source(clones, "vlmevalkit", "vlmeval/utils/matching_util.py"), names, extra)["can_infer"]
    names = ["is_equal", "list_to_dict", "post_check"]
    check = load(source(clones, "vlmevalkit", "vlmeval/dataset/utils/mathv.py"), names, {"can_infer": can_infer, "latex2sympy": latex2sympy})["post_check"]
    for _ in range(n):
        item = math_item(rng)
        response = math_response(rng, item)
        if is_slow(response) or is_slow(item["answer"]):
            continue
        line = {"answer": item["answer"], "choices": repr(item["options"]), "prediction": response}
        prefetched = check(dict(line), prefetch=True) or None
        case = {"benchmark": "mathvision", "scorer": "vlmevalkit-mathv", "item": item, "response": response, "extracted": prefetched}
        # Upstream's variables `a` and `b` make products of these letters equal in ways that are not followed.
        is_product = "a" in item["answer"] and "b" in item["answer"]
        if prefetched and not is_product:
            yield {**case, "correct": bool(check({**line, "res": prefetched}))}
        if prefetched:
            continue
        reply = rng.choice([math_atom(rng), math_response(rng, item), alike(rng, item["answer"])])
        if is_slow(reply) or is_product:
            continue
        yield {**case, "judge_reply": reply, "correct": bool(check({**line, "res": reply}))}


def math_vision(clones, rng, n):
    namespace = {"tqdm": lambda x, **_: x}
    text = source(clones, "mathv", "evaluation/utils.py").replace("from tqdm import tqdm", "")
    exec(compile(text, "utils", "exec"), namespace)
    items, lines, saved = {}, [], []
    extra = {**namespace, "load_jsonl": lambda _: lines, "save_jsonl": lambda _, lines, **__: saved.extend(lines), "id_raw": items}
    evaluate = load(source(clones, "mathv", "evaluation/evaluate.py"), ["evaluate"], extra)["evaluate"]
    for _ in range(n):
        items["x"] = math_item(rng)
        response = math_response(rng, items["x"])
        # latex2sympy2 remembers assignments for the rest of the process.
        if is_slow(response) or is_slow(items["x"]["answer"]) or "=" in items["x"]["answer"]:
            continue
        lines[:], saved[:] = [{"id": "x", "response": response}], []
        try:
            evaluate("x")
        except Exception:
            continue
        yield {"benchmark": "mathvision", "scorer": "mathv-official", "item": items["x"], "response": response,
               "extracted": saved[0]["model_answer"], "correct": saved[0]["correct"]}


def is_slow(text):
    """Whether a text may keep Python busy for hours."""
    return len(re.findall(r"\^|\*\*|!|<<", text)) > 1 or bool(re.search(r"\d{4,}\s*(\)|\})*!", text))


PARTS = {
    "latex2sympy2_extended": [
        (vlmevalkit_choice, 500), (mmmu_choice, 400), (mmmu_open, 400), (lmms_choice, 350), (mmstar, 150), (yes_no, 350), (visplay_rule, 200), (vlmevalkit_math, 400),
    ],
    "latex2sympy2": [(math_vision, 500)],
}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("clones", type=pathlib.Path)
    arguments.add_argument("--seed", type=int, default=22)
    arguments.add_argument("--scale", type=float, default=1.0)
    arguments.add_argument("--print", action="store_true")
    options = arguments.parse_args()
    logging.disable(logging.CRITICAL)
    for package, parts in PARTS.items():
        try:
            __import__(package)
            break
        except ImportError:
            continue
    cases = []
    for make, n in parts:
        rng = random.Random(f"{options.seed} {make.__name__}")
        cases += make(options.clones, rng, int(n * options.scale))
    lines = [json.dumps(case, ensure_ascii=False) for case in cases]
    if options.print:
        print("\n".join(lines))
        return
    scorers = {case["scorer"] for case in cases}
    kept = OUTPUT.read_text().splitlines() if OUTPUT.exists() else []
    lines += [line for line in kept if json.loads(line)["scorer"] not in scorers]
    lines.sort(key=lambda line: json.loads(line)["scorer"])
    OUTPUT.write_text("".join(line + "\n" for line in lines))


if __name__ == "__main__":
    main()
