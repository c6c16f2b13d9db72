//! LaTeX to plain text, as pylatexenc's `latex2text` converts typical answers.
//!
//! [`parse`](parse::parse) builds nodes like pylatexenc's tolerant walker, including its quirks,
//! and [`render`](render::render) writes them as text. `macros.tsv` holds the arguments and
//! expansions of macros.

mod macros;
mod parse;
mod render;

/// Converts LaTeX to text; `None` where the reference raises (and its caller keeps the LaTeX).
pub(super) fn to_text(latex: &str) -> Option<String> {
    render::render(&parse::parse(latex)?, latex.len())
}

#[cfg(test)]
mod tests {
    use super::to_text;

    #[test]
    fn texts_equal_those_of_latex2text() {
        let cases = [
            (r"3\sqrt{2}", "3√(2)"),
            (r" \frac{1}{2}", " 1/2"),
            (r"\frac12x", "1/2x"),
            (r"\sqrt[3]{8}", "√(8)"),
            (r"\text{Yes}\textbf{ or} no", "Yes or no"),
            (r"\textsf{B}\mbox{ cm}", ""),
            (r"\frac{1}", "%s/%s1"),
            (r"a } b \end{x}", "a  b "),
            (r"\begin{pmatrix} 1 & 20 \\ 3 & 4 \end{pmatrix}", "[  1 20;  3  4 ]"),
            (r"\mathbf{B}\mathbb{R}", "𝐁ℝ"),
            (r"\hat{x} \'e", "x̂ é"),
            (r"\alpha x", "αx"),
            (r"\(\alpha x\)", "α x"),
            (r"a\\[2mm]b", "a\nb"),
            (r"x--y", "x–y"),
            (r"\unknown{z}\,\circ", "z ∘"),
            (r"5\", "5"),
        ];
        for (latex, text) in cases {
            assert_eq!(to_text(latex).as_deref(), Some(text), "{latex}");
        }
        assert_eq!(to_text(r"\sqrt"), None);
        assert_eq!(to_text(&"{".repeat(5000)), None);
        assert_eq!(to_text(&r"\frac{".repeat(60)), None);
        assert_eq!(to_text(&r"\hat{x".repeat(60)), None);
        assert_eq!(to_text(&r"\frac{".repeat(3)).as_deref(), Some("%s/%s%s/%s%s/%s"));
    }
}
