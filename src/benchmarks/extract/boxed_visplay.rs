//! VisPlay's rule without its judge: the last box, or the beginning of the response.

use crate::benchmarks::python::text::{prefix, strip};
use crate::grading::characters::is_space;

/// Number of characters that are taken of a response without a box.
const BEGINNING: usize = 100;
/// Beginning of a box.
const BOX: &str = "\\boxed{";

/// Returns the content of the last box up to its first closing brace, so that
/// `\boxed{\frac{1}{2}}` gives `\frac{1`; without a box, the first 100 characters.
pub fn extract(response: &str) -> &str {
    let mut last = None;
    let mut rest = response;
    // The search continues behind a match, and behind the opening of a box that is none.
    while let Some(at) = rest.find(BOX) {
        let content = &rest[at + BOX.len()..];
        match content.find('}') {
            Some(end) if end > 0 => {
                last = Some(&content[..end]);
                rest = &content[end + 1..];
            }
            _ => rest = content,
        }
    }
    last.map_or_else(|| prefix(strip(response), BEGINNING), strip)
}

/// Whether two answers are the same in upper case, without commas, dots and white space.
pub fn is_equal(first: &str, second: &str) -> bool {
    normalize(first) == normalize(second)
}

fn normalize(text: &str) -> String {
    strip(text).to_uppercase().replace(|c| is_space(c) || c == ',' || c == '.', "")
}
