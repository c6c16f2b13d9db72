//! VisPlay: a judge says whether an answer means the same as the gold.

use crate::benchmarks::python::text::strip;

/// Whether a reply counts as right: exactly one of four words in any case. `Correct.` does not.
pub fn is_right(reply: &str) -> bool {
    matches!(strip(reply).to_lowercase().as_str(), "1" | "correct" | "yes" | "true")
}
