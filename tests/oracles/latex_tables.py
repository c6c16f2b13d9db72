"""Writes src/grading/latex/macros.tsv and src/grading/characters.tsv.

    python tests/oracles/latex_tables.py     (pylatexenc 2.10 or later in the environment)

The first file says how pylatexenc's latex2text renders each macro. The second lists the characters
that Python counts as letters or decimal digits, and those composed with an accent. Both describe the
reference implementation, so they are generated from it rather than written by hand.
"""

import string
import sys
import unicodedata
from pathlib import Path

from pylatexenc import latex2text, latexwalker

ROOT = Path(__file__).resolve().parents[2] / "src" / "grading"
STYLES = {"mathbf": "bold", "mathit": "italic", "mathsf": "sans", "mathbb": "doublestruck", "mathtt": "monospace",
          "mathcal": "script", "mathscr": "script", "mathfrak": "fraktur"}
ACCENTS = {"'": 0x301, "`": 0x300, '"': 0x308, "c": 0x327, "^": 0x302, "~": 0x303, "H": 0x30B, "k": 0x328, "=": 0x304,
           "b": 0x331, ".": 0x307, "d": 0x323, "r": 0x30A, "u": 0x306, "v": 0x30C, "vec": 0x20D7, "dot": 0x307,
           "hat": 0x302, "check": 0x30C, "breve": 0x306, "acute": 0x301, "grave": 0x300, "tilde": 0x303, "bar": 0x305,
           "ddot": 0x308, "not": 0x338}


def escape(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def macro_rows():
    """Returns a row for each macro: name, arguments, kind, replacement."""
    walker, text = latexwalker.get_default_latex_context_db(), latex2text.get_default_latex_context_db()
    names = {m.macroname for m in walker.iter_macro_specs()} | {m.macroname for m in text.iter_macro_specs()}
    for name in sorted(names):
        spec = walker.get_macro_spec(name)
        parser = spec.args_parser if spec is not None else None
        args = parser.argspec if parser is not None else ""
        render = text.get_macro_spec(name)
        repl = render.simplify_repl if render is not None else None
        if type(parser).__name__ == "VerbatimArgsParser" or name in ("today", "maketitle"):
            yield name, args, "fail", ""
        elif name in STYLES:
            yield name, args, "style", STYLES[name]
        elif name in ACCENTS:
            yield name, args, "accent", chr(ACCENTS[name])
        elif name == "%":
            yield name, args, "text", "%"
        elif name in ("input", "include", "title", "author", "date"):
            yield name, args, "drop", ""
        elif name == "texorpdfstring":
            yield name, args, "format", "%(2)s"
        elif callable(repl):
            yield name, args, "fail", ""
        elif repl:
            yield name, args, "format" if "%" in repl and len(repl) != 1 else "text", repl
        elif render is None or render.discard:
            if args:
                yield name, args, "drop", ""
        else:
            yield name, args, "args", ""


def environment_rows():
    """Returns a row for each environment: name, arguments, kind, mode, replacement."""
    walker, text = latexwalker.get_default_latex_context_db(), latex2text.get_default_latex_context_db()
    names = {e.environmentname for e in walker.iter_environment_specs()}
    names |= {e.environmentname for e in text.iter_environment_specs()}
    for name in sorted(names):
        spec = walker.get_environment_spec(name)
        render = text.get_environment_spec(name)
        repl = render.simplify_repl if render is not None else None
        args = spec.args_parser.argspec if spec is not None and spec.args_parser is not None else ""
        math = "math" if spec is not None and spec.is_math_mode else "text"
        if name == "verbatim":
            kind = "fail"
        elif repl is None:
            kind = "body"
        elif repl is latex2text.fmt_matrix_environment_node:
            kind = "matrix"
        elif repl is latex2text.fmt_equation_environment:
            kind = "equation"
        else:
            kind = "format"
        # An unknown environment has no arguments and gives its content.
        if args or kind != "body":
            yield name, args, kind, math, repl if isinstance(repl, str) else ""


def ranges(predicate):
    """Returns the ranges of code points above ASCII whose characters fulfil a predicate."""
    start = None
    for point in range(0x80, sys.maxunicode + 2):
        inside = point <= sys.maxunicode and predicate(chr(point))
        if inside and start is None:
            start = point
        elif not inside and start is not None:
            yield start, point - 1
            start = None


def main():
    with open(ROOT / "latex" / "macros.tsv", "w", encoding="utf-8") as out:
        out.write("# Written by tests/oracles/latex_tables.py: what latex2text makes of a macro or an environment.\n")
        for name, args, kind, value in macro_rows():
            out.write(f"m\t{escape(name)}\t{args}\t{kind}\t{escape(value)}\n")
        for name, args, kind, math, value in environment_rows():
            out.write(f"e\t{name}\t{args}\t{kind}\t{escape(value)}\t{math}\n")
    with open(ROOT / "characters.tsv", "w", encoding="utf-8") as out:
        out.write("# Written by tests/oracles/latex_tables.py: letters (str.isalpha) above ASCII, zeros of decimal digits, accents.\n")
        pairs = [f"{a:x}-{b:x}" if a != b else f"{a:x}" for a, b in ranges(str.isalpha)]
        out.write("letters\t" + " ".join(pairs) + "\n")
        zeros = [f"{p:x}" for p in range(0x80, sys.maxunicode + 1) if unicodedata.decimal(chr(p), None) == 0]
        out.write("zeros\t" + " ".join(zeros) + "\n")
        bases = [chr(p) for p in range(0x21, 0x2000) if chr(p).isalpha() or chr(p) in string.punctuation]
        bases += [chr(p) for p in range(0x2190, 0x2300)]
        for mark in sorted(set(ACCENTS.values())):
            composed = [(b, unicodedata.normalize("NFC", b + chr(mark))) for b in bases]
            composed = [(b, c) for b, c in composed if len(c) == 1]
            if composed:
                out.write(f"accent\t{mark:x}\t{''.join(b for b, _ in composed)}\t{''.join(c for _, c in composed)}\n")


main()
