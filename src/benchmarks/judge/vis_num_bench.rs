//! VisNumBench: a judge maps a response to an option's mark.

use crate::benchmarks::python::text::prefix;

/// Number of characters of an option's mark, such as `(b)`.
const MARK: usize = 3;

/// Whether a judge's reply is exactly the mark of the gold answer: `(b) ` and `b` are not.
pub fn is_right(reply: &str, gold: &str) -> bool {
    reply == prefix(gold, MARK)
}
