//! Answer of a response: the content of the last `\boxed{..}`.

use super::characters::strip;

/// Returns the content of the last `\boxed{..}` with balanced braces, without white space around.
///
/// `None` if there is no box or the last one is never closed. (The reference returns the string
/// "None" instead, which then takes part in votes; here such a response does not vote.)
pub fn last_boxed(response: &str) -> Option<&str> {
    const OPEN: &str = r"\boxed{";
    let start = response.rfind(OPEN)? + OPEN.len();
    let content = &response[start..];
    let mut depth = 0usize;
    for (at, byte) in content.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(strip(&content[..at])),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::last_boxed;

    #[test]
    fn the_last_box_counts() {
        assert_eq!(last_boxed(r"so \boxed{1} no, \boxed{ \frac{1}{2} } ok"), Some(r"\frac{1}{2}"));
        assert_eq!(last_boxed(r"\boxed{}"), Some(""));
        assert_eq!(last_boxed(r"\boxed{a} and \boxed{b"), None);
        assert_eq!(last_boxed("no box, } {"), None);
        // In nested boxes the inner one is the last, as in the reference.
        assert_eq!(last_boxed(r"\boxed{\boxed{7}}"), Some("7"));
    }
}
