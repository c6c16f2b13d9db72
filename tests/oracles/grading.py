"""Freezes mathruler's verdicts on pairs of answers, in both directions.

    python tests/oracles/grading.py [--seed 1] [--count 6150] [--out tests/oracles/grading.jsonl]

A line is [kind, given, gold, grade_answer(given, gold), grade_answer(gold, given)]; a verdict is null
if mathruler did not finish within ten seconds. Needs mathruler 0.1.0 with sympy and pylatexenc.
"""

import argparse
import json
import logging
import multiprocessing
import random
import signal
import sys
import warnings

from mathruler.grader import extract_boxed_content, grade_answer

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

HAND_MADE = [
    ("B", "B."), ("(B)", "B"), ("B)", "B"), ("\\text{B}", "B"), ("\\textbf{B}", "B"), ("\\mathrm{B}", "(B)"), ("b", "B"),
    ("\\mathbf{B}", "B"), ("B: 5", "B"), ("Option B", "B"), ("Yes", "yes"), ("Yes.", "Yes"), ("\\text{Yes}", "yes"), ("yes", "no"),
    ("no", "on"), ("No", "NO"), ("\\text{no}", "n o"), ("1/2", "0.5"), ("2/4", "1/2"), ("\\frac12", "1/2"), ("\\dfrac{1}{2}", ".5"),
    ("\\frac{1}{2}", "\\frac{2}{4}"), ("3/4", "0.75"), ("7 3/4", "31/4"), ("7\\frac{3}{4}", "7.75"), ("-7\\frac{3}{4}", "-31/4"),
    ("7 3/4", "7\\tfrac34"), ("$5$", "5"), ("\\$5", "5"), ("$5.00", "5"), ("5.00", "5"), ("5.", "5"), ("5\\%", "5"), ("5%", "0.05"),
    ("1,000", "1000"), ("1,000,000", "1000000"), ("1,234,567,890", "1234567890"), ("1, 2", "1,2"), ("(1,2)", "(1, 2)"), ("(1,2)", "[1,2]"),
    ("[0,1)", "[0, 1)"), ("(1,2)", "(2,1)"), ("(1/2,3)", "(0.5,3)"), ("(2/4,3)", "(1/2,3)"), ("(1,234)", "(1,234)"), ("(1,234)", "1234"),
    ("90^\\circ", "90"), ("90^{\\circ}", "90 degrees"), ("90\\degree", "90"), ("90°", "90"), ("5 cm", "5"), ("5 cm^2", "5"), ("5\\text{ cm}", "5"),
    ("5\\,\\text{cm}", "5"), ("5 \\mathrm{cm}", "5 cm"), ("5 meters", "5"), ("5 inches", "5 in"), ("x=5", "5"), ("x = 5", "5"), ("abc=5", "5"),
    ("y=2x+1", "2x+1"), ("2x+1", "1+2x"), ("x(x+1)", "x^2+x"), ("(x+1)^2", "x^2+2x+1"), ("x^{2}", "x^2"), ("x^{10}", "x^10"),
    ("x^10", "x^5*x^5"), ("2^{10}", "1024"), ("9^9^9", "1"), ("9^{9^9}", "9^{9^9}"), ("(9^9)^9", "9^81"), ("2**10", "1024"), ("2**10*1/1", "2048/2"),
    ("\\sqrt2", "\\sqrt{2}"), ("\\sqrt{8}", "2\\sqrt{2}"), ("\\frac{1}{\\sqrt{2}}", "\\frac{\\sqrt{2}}{2}"), ("\\sqrt[3]{8}", "\\sqrt{8}"), ("sqrt(4)", "2"),
    ("\\sqrt{4}", "4/2"), ("sqrt2", "\\sqrt{2}"), ("\\sqrt{-4}", "2i"), ("\\sqrt{-4}", "2j"), ("\\pi", "pi"), ("2\\pi", "6.28"), ("\\frac{\\pi}{2}", "\\pi/2"),
    ("0.5\\pi", "\\frac{\\pi}{2}"), ("\\infty", "inf"), ("(-\\infty, 3]", "(-\\infty,3]"), ("\\emptyset", "{}"), ("\\{1,2\\}", "1,2"), ("A and B", "A,B"),
    ("1 or 2", "1, 2"), ("5 million", "5000000"), ("5 million", "5*10^6"), ("2.5 billion", "25*10^8"), ("5!", "120"), ("5!/1", "240/2"),
    ("\\frac{a+b}{2}", "a+\\frac{b}{2}"), ("\\frac{1+\\sqrt{5}}{2}", "(1+\\sqrt{5})/2"), ("1e3", "1000"), ("1.5e3", "1500"), ("1e400", "1e400 "), ("nan", "NaN"),
    ("inf", "Infinity"), ("", ""), ("", "0"), (" ", ""), ("None", "none"), ("0", "-0"), ("-0.0", "0"), ("+5", "5"), ("--5", "5"), ("- 5", "-5"),
    ("5-", "5"), ("3:4", "3/4"), ("12:30", "12:30 "), ("12:30", "1230"), ("3-5", "-2"), ("3 - 5", "3-5"), ("3--5", "8"), ("1/0", "2/0"), ("0/0", "0/1"), ("x/x", "1/1"),
    ("sin(x)", "sin x"), ("ln(2)", "ln 2"), ("ln(4)/1", "2ln(2)"), ("\\ln 4", "2\\ln 2"), ("\\log 2", "log(2)"), ("a^2-b^2", "(a-b)(a+b)"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"), ("\\begin{pmatrix}\\end{pmatrix}", "()"), ("\\frac", "frac"), ("\\sqrt", "sqrt"),
    ("\\frac{1}", "1"), ("\\text{}", ""), ("\\text{ cm}", ""), ("5\\text{ cm} or 6\\text{ cm}", "5 or 6"), ("{5}", "5"), ("{{5}}", "5"), ("}5{", "5"), ("(2", "2)"), ("2)", "(2"),
    ("Monday", "Mon"), ("yesterday", "yester"), ("feet", "foot"), ("5 feet 3 inches", "53"), ("３", "3"), ("²", "2"), ("x²", "x^2"), ("½", "1/2"), ("é", "\\'e"), ("\\hat{x}", "x̂"),
    ("北京", "北京市"), ("是", "否"), ("\\alpha", "α"), ("\\alpha+1", "1+α"), ("2\\cdot 3", "6"), ("2\\cdot 3/1", "12/2"), ("2\\times10^3", "2000"), ("2\\times 10^{3}", "2*10^3"),
    ("007", "7"), ("007/1", "7/1"), ("0.10", "0.1"), (".10", "0.1"), ("1.10", "1.1"), ("0.1+0.2", "0.3"), ("\\sqrt{0.25}", "1/2"), ("\\sqrt{0.5}", "\\frac{\\sqrt{2}}{2}"),
    ("x^2.0", "x^2"), ("x^0.5", "\\sqrt{x}"), ("1.0x", "x"), ("2.0\\sqrt{3}", "\\sqrt{12}"), ("4^x", "2^{2x}"), ("n!", "n*(n-1)!"), ("a_1", "a1"), ("x_1+x_2", "x_2+x_1"), ("|x|", "|-x|"),
    ("x>5", "5<x"), ("x\\geq 5", "x>=5"), ("5 \\text{ and } 6", "5,6"), ("50\\%", "50"), ("50 percent", "50%"), ("(A)", "(B)"), ("A", "a)"), ("[A]", "A"), ("{A}", "A"), ("A,B", "AB"), ("AB", "BA"),
    ("1 2", "1+2"), ("1 2 3", "1+23"), ("1\\quad 2", "3/1"), ("3\\,000", "3000"), ("3,\\!000", "3000"), ("3 000", "3000"), ("1_000", "1000"), ("1e", "e"), ("0x10", "16"), ("0x10/1", "32/2"),
    ("1.999999999", "2"), ("0.99999999", "1"), ("1,002.99999999", "1003"), ("1,002.99999999", "1002"), ("1e22", "10000000000000000000000"), ("1" * 400, "1" * 400 + " "),
]

LETTERS = "ABCDE"
WORDS = ("red blue green left right north up down cat dog two ten none both circle square triangle car bus tree "
         "yes no true false maybe all some a an is in or if oo pi mu nu xi ln re im id csc eye ab ba aab aba nn "
         "Paris Monday month meter second dayday unknown N/A white 北京 是 否 Ärger café").split()
UNITS = ["cm", "m", "meters", "degrees", "hours", "hour", "miles", "feet", "inches", "years", "kg", "km", "cm^2", "square feet", "dollars",
         "\\text{ cm}", "\\text{cm}", "\\,\\text{m}", "\\mathrm{cm}", "^\\circ", "^{\\circ}", "°", "%", "\\%", "days", "people", "\\text{ m}^2"]


class PairGenerator:
    """Generates pairs of answers of several kinds."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def letter(self):
        c = self.r.choice(LETTERS)
        return c, self.r.choice(["{}", "({})", "{}.", "\\text{{{}}}", "\\textbf{{{}}}", "\\mathrm{{{}}}", "{})", "{}:", "\\text{{({})}}", "{{{}}}", "[{}]", " {} ", "${}$",
                                 "\\mathbf{{{}}}", "\\boxed{{{}}}", "Option {}", "{}. red", "({}) 5", "\\text{{ {} }}", "\\text{{Option {}}}", "\\({}\\)"]).format(self.r.choice([c, c, c.lower()]))

    def dressed_word(self, word):
        form = self.r.choice(["{}", "{}", "{}.", "\\text{{{}}}", " {}", "\\textit{{{}}}", "\\text{{{}.}}", "\"{}\"", "'{}'", "\\mathrm{{{}}}", "**{}**", "{}!", "\\mbox{{{}}}", "\\textsf{{{}}}"])
        return form.format(self.r.choice([word, word.lower(), word.upper(), word.capitalize()]))

    def number(self, value):
        r = self.r
        forms = [str(value), f"{value}.0", f"{value}.00", f"{value:,}", f"${value}$", f"\\${value}", f"{value}\\%", f"{value}%", f" {value} ", f"{value}.", f"+{value}", f"0{value}",
                 f"x={value}", f"x = {value}", f"\\text{{{value}}}", f"{{{value}}}", f"{value} {r.choice(UNITS)}", f"{value}{r.choice(UNITS)}", f"\\frac{{{value}}}{{1}}", f"{value}/1", f"{2 * value}/2",
                 f"{value:,}".replace(",", "{,}"), f"{value:,}".replace(",", ",\\!"), f"{value}^\\circ", f"\\approx {value}", f"({value})", f"[{value}]", f"{float(value):.1e}", f"\\mathbf{{{value}}}", f"- {value}", f"-{value}",
                 f"\\sqrt{{{value * value}}}", f"{value}!", f"{value - 1}+1", f"{value}\\times 1", f"{value} \\cdot 1", f"\\left({value}\\right)", f"{value}\\text{{ or }}{value + 1}", f"{value}^1", f"{value}^2", f"{value / 10} ten"]
        return r.choice(forms)

    def decimal(self, value):
        r = self.r
        text = f"{value:.{r.choice([1, 2, 3, 4])}f}"
        return r.choice([text, text.rstrip("0"), text + "0", text.lstrip("0"), f"${text}$", f"\\${text}", text + "\\%", text + " " + r.choice(UNITS), f"\\text{{{text}}}", f"{value:,.2f}", f"x={text}", "-" + text,
                         f"{int(round(value * 100))}/100", f"\\frac{{{int(round(value * 100))}}}{{100}}", f"\\frac{{{int(round(value * 10))}}}{{10}}", f"{value:.2e}", f"({text})", text + "0000", text + "\\pi", text + "x"])

    def fraction(self, a, b):
        r = self.r
        k = r.choice([1, 1, 1, 2, 3])
        w, f = divmod(abs(a), b)
        return r.choice([f"{a}/{b}", f"{a * k}/{b * k}", f"\\frac{{{a}}}{{{b}}}", f"\\dfrac{{{a * k}}}{{{b * k}}}", f"\\tfrac{{{a}}}{{{b}}}", f"{a / b}", f"{a / b:.3f}", f"{a} / {b}", f"\\frac{a}{b}", f"\\frac{a}{{{b}}}",
                         f"{w} {f}/{b}", f"{w}\\frac{{{f}}}{{{b}}}", f"{w}+{f}/{b}", f"-\\frac{{{a}}}{{{b}}}", f"\\frac{{-{a}}}{{{b}}}", f"-{a}/{b}", f"{a}/{b} {r.choice(UNITS)}", f"({a})/({b})", f"({a}/{b})", f"\\left(\\frac{{{a}}}{{{b}}}\\right)",
                         f"\\text{{{a}/{b}}}", f"{a}:{b}", f"{a}\\div{b}", f"{a}/{-b}", f"x=\\frac{{{a}}}{{{b}}}", f"\\frac{{{a}x}}{{{b}}}", f"{a}x/{b}", f"\\frac{{{a}}}{{{b}}}\\pi", f"\\frac{{{a}\\pi}}{{{b}}}", f"{a}\\pi/{b}", f"{a}*1/{b}"])

    def surd(self):
        r = self.r
        n, k, q = r.choice([2, 3, 5, 6, 7]), r.randint(1, 6), r.choice([1, 2, 3, 4])
        forms = [f"{k}\\sqrt{{{n}}}/{q}", f"\\frac{{{k}\\sqrt{{{n}}}}}{{{q}}}", f"\\sqrt{{{k * k * n}}}/{q}", f"\\frac{{\\sqrt{{{k * k * n}}}}}{{{q}}}", f"{k}sqrt({n})/{q}", f"\\frac{{{k * n}}}{{{q}\\sqrt{{{n}}}}}", f"{k}*{n}/({q}*sqrt({n}))", f"\\frac{{{k}}}{{{q}}}\\sqrt{{{n}}}", f"{k / q}\\sqrt{{{n}}}",
                 f"\\frac{k}{q}\\sqrt{n}", f"{k}\\sqrt{n}/{q}", f"\\sqrt{n}\\cdot{k}/{q}", f"\\sqrt{{{n}}}\\cdot\\sqrt{{{k * k}}}/{q}", f"\\sqrt{{\\frac{{{k * k * n}}}{{{q * q}}}}}", f"{k * n ** 0.5 / q:.4f}", f"{k}√{n}/{q}", f"{k}√({n})/{q}"]
        return r.sample(forms, 2)

    def two_surds(self):
        r = self.r
        a, b, n = r.randint(-4, 5), r.choice([-2, -1, 1, 2, 3]), r.choice([2, 3, 5, 7])
        d = a * a - b * b * n
        forms = [f"{a}+{b}\\sqrt{{{n}}}", f"{b}\\sqrt{{{n}}}+{a}", f"{a}-{-b}\\sqrt{{{n}}}", f"\\frac{{{d}}}{{{a}-{b}\\sqrt{{{n}}}}}", f"({d})/({a}-({b})*sqrt({n}))", f"{a}+{b}sqrt({n})", f"\\frac{{{2 * a}+{2 * b}\\sqrt{{{n}}}}}{{2}}", f"({2 * a}+{2 * b}sqrt({n}))/2",
                 f"{a}+\\sqrt{{{b * b * n}}}", f"{a} \\pm {b}\\sqrt{{{n}}}", f"{a}+{b}\\sqrt{n}"]
        return r.sample(forms, 2)

    def algebra(self):
        r = self.r
        x = r.choice("xyatn")
        y = r.choice([v for v in "xyzbm" if v != x])
        a, b, c = (r.randint(1, 6) for _ in range(3))
        families = [
            [f"{a}{x}+{b}", f"{b}+{a}{x}", f"{a}*{x}+{b}", f"{x}*{a}+{b}", f"{a} {x} + {b}", f"{y}={a}{x}+{b}", f"({2 * a}{x}+{2 * b})/2", f"{a}({x}+{b}/{a})", f"{a}{x}-{b}", f"{a}{x}+{b}{y}", f"{a}.0{x}+{b}", f"{x}{a}+{b}"],
            [f"({x}+{a})({x}+{b})", f"{x}^2+{a + b}{x}+{a * b}", f"({x}+{b})({x}+{a})", f"{x}^2+{a * b}+{a + b}{x}", f"{x}({x}+{a + b})+{a * b}", f"({x}+{a})({x}-{b})", f"{x}^{{2}}+{a + b}{x}+{a * b}", f"{x}*{x}+{a + b}{x}+{a * b}"],
            [f"\\frac{{{x}}}{{{a}}}", f"{x}/{a}", f"\\frac{{1}}{{{a}}}{x}", f"\\frac{x}{a}", f"{1 / a:.3f}{x}", f"{x}\\cdot\\frac{{1}}{{{a}}}", f"{2}{x}/{2 * a}"],
            [f"{x}{y}", f"{y}{x}", f"{x}*{y}", f"{x} {y}", f"{x}\\cdot {y}", f"{x}\\times {y}", f"{x}({y})", f"({x})({y})", f"\\text{{{x}{y}}}", f"{x}^2{y}/{x}"],
            [f"\\sqrt{{{a * a}{x}}}", f"{a}\\sqrt{{{x}}}", f"\\sqrt{{{x}}}*{a}", f"\\sqrt{{{x}^2}}", f"{x}", f"\\sqrt{{{x}}}\\sqrt{{{x}}}", f"({a * a}*{x})**(1/2)", f"\\sqrt{x}\\cdot{a}"],
            [f"\\frac{{1}}{{{x}}}", f"1/{x}", f"{x}^-1", f"{x}^{{-1}}", f"{a}/({a}{x})", f"\\frac{{{a}}}{{{a}{x}}}", f"{x}/{x}^2"],
            [f"{x}^{a}", f"{x}^{{{a}}}", f"{x}**{a}", "*".join([x] * a), x * a, f"{x}^{a + 1}/{x}", f"{x}^{a}{x}^0"],
            [f"{a}^{x}", f"{a}**{x}", f"{a}^{{{x}}}", f"{a * a}^{x}", f"{a}^{x}*{a}^{x}", f"exp({x})", f"e^{x}", f"e^{{{x}}}"],
            [f"{x}\\pi", f"\\pi {x}", f"{a}\\pi", f"\\pi\\cdot{a}", f"\\frac{{{a}\\pi}}{{{b}}}", f"{a}/{b}\\pi", f"{a}pi/{b}", f"{a * c}\\pi/{b * c}", f"\\pi*{a / b}", f"\\pi^2", f"\\pi\\pi"],
            [f"({x}+{y})^2", f"{x}^2+2{x}{y}+{y}^2", f"({y}+{x})^2", f"({x}+{y})({x}+{y})", f"{x}^2+{y}^2", f"({x}-{y})^2+4{x}{y}"],
            [f"{x}^2-{a * a}", f"({x}-{a})({x}+{a})", f"({x}+{a})*({x}-{a})", f"-({a * a}-{x}^2)", f"-{a * a}+{x}^2"],
            [f"\\frac{{{x}^2-{a * a}}}{{{x}-{a}}}", f"({x}^2-{a * a})/({x}-{a})", f"{x}+{a}", f"{a}+{x}"],
        ]
        return r.sample(r.choice(families), 2)

    def tuple(self):
        r = self.r
        values = [r.randint(-9, 12) for _ in range(r.choice([1, 2, 2, 2, 3, 4]))]
        def show(v):
            return r.choice([str(v), str(v), f"{v}.0", f"{2 * v}/2", f"\\frac{{{v}}}{{1}}", f"{v}.5", f"{2 * v + 1}/2", f" {v}", f"{v * 1000:,}", f"\\sqrt{{{v * v}}}", f"{v}x", "\\infty", "-\\infty", "A", "\\pi"] if r.random() < 0.3 else [str(v), str(v), f" {v}"])
        def one(vs):
            o, c = r.choice(["()", "()", "()", "[]", "(]", "[)", ("\\left(", "\\right)"), ("\\{", "\\}"), ("", ""), ("{", "}"), ("\\langle ", "\\rangle")])
            return o + r.choice([",", ", ", ",", ";"] if r.random() < 0.3 else [",", ", "]).join(show(v) for v in vs) + c
        other = list(values)
        if r.random() < 0.2:
            r.shuffle(other)
        if r.random() < 0.1:
            other.append(1)
        return one(values), one(other)

    def mutated(self, text):
        """Returns a text with a few characters inserted, deleted or replaced."""
        r = self.r
        chars = list(text)
        for _ in range(r.choice([1, 1, 2, 3])):
            at = r.randint(0, len(chars))
            extra = r.choice(list(" ()[]{}\\^_+-*/=.,!$%&~'\"0123456789abxyzπ√°²é\n") + ["\\frac", "\\sqrt", "\\text{", "^2", "sqrt", "\\left", "  ", "\\!", "\\,"])
            edit = r.random()
            if edit < 0.5:
                chars.insert(at, extra)
            elif edit < 0.8 and chars:
                del chars[min(at, len(chars) - 1)]
            elif chars:
                chars[min(at, len(chars) - 1)] = extra
        return "".join(chars)

    def pair(self):
        """Returns a random kind and a pair of answers of that kind."""
        r = self.r
        kind = r.choices(["letter", "word", "integer", "decimal", "fraction", "surd", "two-surds", "algebra", "tuple", "mutated", "large", "small-words", "cross"],
                         [10, 10, 14, 10, 14, 7, 5, 14, 8, 12, 4, 4, 4])[0]
        if kind == "letter":
            a, b = self.letter(), self.letter()
            if r.random() < 0.6:
                b = (a[0], self.letter()[1].replace(self.letter()[0], a[0]))
            return kind, a[1], b[1]
        if kind == "word":
            w = r.choice(WORDS)
            v = w if r.random() < 0.6 else r.choice(WORDS)
            return kind, self.dressed_word(w), self.dressed_word(v)
        if kind == "integer":
            v = r.choice([r.randint(0, 20), r.randint(0, 20), r.randint(20, 2000), r.randint(1000, 5000000)])
            w = v if r.random() < 0.75 else v + r.choice([-1, 1, 10])
            return kind, self.number(v), self.number(w)
        if kind == "large":
            v = r.randint(10 ** 6, 10 ** 14)
            return kind, r.choice([str(v), f"{v:,}", f"{v}.0", f"{v:.6e}", f"{v / 10 ** 6} million", f"{v // 10 ** 6} million", f"{v} billion"]), r.choice([str(v), f"{v:,}", f"{v // 10 ** 6}*10^6", f"{v / 10 ** 6}*10^6", f"{v / 10 ** 9} billion"])
        if kind == "decimal":
            v = r.choice([r.random(), r.random() * 10, r.random() * 1000, round(r.random() * 10, 1), round(r.random(), 2), r.choice([0.5, 0.25, 0.125, 2.5, 3.14, 0.1])])
            w = v if r.random() < 0.8 else v + 0.01
            return kind, self.decimal(v), self.decimal(w)
        if kind == "fraction":
            a, b = r.randint(1, 30), r.randint(2, 16)
            c, d = (a, b) if r.random() < 0.8 else (a + 1, b)
            return kind, self.fraction(a, b), self.fraction(c, d)
        if kind == "surd":
            return (kind, *self.surd())
        if kind == "two-surds":
            return (kind, *self.two_surds())
        if kind == "algebra":
            return (kind, *self.algebra())
        if kind == "tuple":
            return (kind, *self.tuple())
        if kind == "small-words":
            alphabet = r.sample("abinoprstxyz", 2)
            word = "".join(r.choice(alphabet) for _ in range(r.randint(1, 4)))
            other = list(word)
            r.shuffle(other)
            return kind, word, r.choice(["".join(other), word + "2", word.upper(), f"({word})", word[::-1], f"2{word}", f"{word}(2)", f"{word}!"])
        if kind == "cross":
            a, b = self.pair(), self.pair()
            return kind, a[1], b[2]
        _, a, b = self.pair()
        return kind, self.mutated(a), r.choice([a, b, self.mutated(b)])


class TimeLimit(Exception):
    """mathruler did not finish in time."""


def on_alarm(*_):
    raise TimeLimit


def grade_pair(pair):
    """Returns a line of the file."""
    kind, given, gold = pair
    signal.signal(signal.SIGALRM, on_alarm)
    verdicts = []
    for a, b in ((given, gold), (gold, given)):
        signal.alarm(10)
        try:
            verdicts.append(bool(grade_answer(a, b)))
        except TimeLimit:
            verdicts.append(None)
        except Exception:
            verdicts.append(False)
        finally:
            signal.alarm(0)
    return [kind, given, gold, *verdicts]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--count", type=int, default=6150)
    options.add_argument("--out", default="tests/oracles/grading.jsonl")
    options = options.parse_args()
    generator = PairGenerator(options.seed)
    pairs = [("hand-made", a, b) for a, b in HAND_MADE]
    seen = set()
    while len(pairs) < options.count:
        pair = generator.pair()
        if pair[1:] not in seen:
            seen.add(pair[1:])
            pairs.append(pair)
    assert extract_boxed_content("\\boxed{1}") == "1"
    with multiprocessing.Pool(2) as pool, open(options.out, "w", encoding="utf-8") as out:
        for row in pool.imap(grade_pair, pairs, chunksize=32):
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{len(pairs)} pairs in {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
