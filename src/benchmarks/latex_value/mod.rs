//! Values of LaTeX expressions, as the published maths scorers compute them.
//!
//! Both scorers for MATH-Vision turn an answer into a sympy expression and evaluate its text as
//! Python. MATH-Vision's own has `sqrt`, `pi` and the other names of Python's `math`; VLMEvalKit's
//! has none, so that only rational arithmetic has a value. This reader gives the same values
//! without sympy; where they compute nothing (words, sets, intervals, unknown letters), it gives
//! none. The grader of this program (`grading`) is another thing: it decides equality as
//! mathematics.

mod normalize;
mod reader;
mod token;

use normalize::normalized;
use reader::read;
use token::tokens;

use super::python::number::Number;

/// Maximum length of an expression in bytes. Longer ones have no value.
const MAX_LENGTH: usize = 4096;

/// Way of reading an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// MATH-Vision's: `latex2sympy2` with the names of Python's `math`. `2\frac{2}{3}` is a
    /// product.
    MathVision,
    /// VLMEvalKit's: `latex2sympy2_extended` without any names. `2\frac{2}{3}` is a mixed number.
    VlmEvalKit,
}

/// A letter that has a value.
pub type Binding = (char, Number);

/// Returns the value of a lower-case expression; `None` if it has none. A bound letter has its
/// value, any other has none.
pub fn value(text: &str, dialect: Dialect, binding: Option<Binding>) -> Option<Number> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    match dialect {
        Dialect::MathVision => read(&tokens(text, dialect)?, dialect, binding),
        Dialect::VlmEvalKit => read(&tokens(&normalized(text), dialect)?, dialect, binding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Number::{Float, Int};

    /// Values of latex2sympy2 1.9.1 and Python's `eval` with the names of `math`.
    #[test]
    fn math_vision_reads_as_latex2sympy2() {
        let cases = [
            ("1.0", Some(Int(1))),
            ("1,000", Some(Int(1000))),
            ("10^3", Some(Int(1000))),
            (r"\{12\}", Some(Int(12))),
            (r"7\sqrt{3}", Some(Float(12.124_355_652_982_14))),
            (r"6 \pi", Some(Float(18.849_555_921_538_76))),
            ("15!", Some(Int(1_307_674_368_000))),
            (r"50\%", Some(Float(0.5))),
            ("2^3^2", Some(Int(64))),
            ("12:30", Some(Float(0.4))),
            (r"\sqrt[3]{8}", Some(Float(2.0))),
            ("--3", Some(Int(3))),
            ("15.", Some(Int(15))),
            ("x=3", Some(Int(3))),
            ("2 3", Some(Int(6))),
            ("$5$", Some(Int(5))),
            (r"2\frac{2}{3}", Some(Float(4.0 / 3.0))),
        ];
        for (text, value) in cases {
            assert_eq!(super::value(text, Dialect::MathVision, None), value, "{text}");
        }
        for text in [
            "",
            "pi",
            "e",
            "1e3",
            "12{cm}",
            r"\frac23",
            "50%",
            "15°",
            "√3",
            "−3",
            "3-",
            "1,2",
            "(1,2)",
            "1{,}000",
            r"\sqrt8",
            r"90^\circ",
            "1/0",
            "x",
        ] {
            assert_eq!(super::value(text, Dialect::MathVision, None), None, "{text}");
        }
    }

    /// Values of latex2sympy2_extended 1.11.0 and Python's `eval` without names.
    #[test]
    fn vlmevalkit_reads_as_the_extended_latex2sympy2() {
        let cases = [
            ("1.0", Some(Float(1.0))),
            (r"2\frac{2}{3}", Some(Float(8.0 / 3.0))),
            ("5(3)", Some(Int(8))),
            ("−3", Some(Int(-3))),
            ("12/4", Some(Int(3))),
            ("12:30", Some(Float(0.4))),
            ("15^\\circ", Some(Int(15))),
            ("[15]", Some(Int(15))),
            (r"so \boxed{15}.", Some(Int(15))),
            (r"\boxed{\boxed{1\!5}}", Some(Int(15))),
            ("'15'", Some(Int(15))),
            ("15 percent", Some(Float(0.15))),
        ];
        for (text, value) in cases {
            assert_eq!(super::value(text, Dialect::VlmEvalKit, None), value, "{text}");
        }
        for text in [r"7\sqrt{3}", r"6\pi", "15!", "{15}", r"\{12\}", "15.", "x=3", "1,2", "1/0"] {
            assert_eq!(super::value(text, Dialect::VlmEvalKit, None), None, "{text}");
        }
    }

    #[test]
    fn any_input_is_answered() {
        for text in ["(".repeat(4000), "-".repeat(4000), "2^".repeat(2000), "9^9^9^9^9^9^9".into(), "\\".into()] {
            value(&text, Dialect::MathVision, None);
            value(&text, Dialect::VlmEvalKit, None);
        }
    }
}
