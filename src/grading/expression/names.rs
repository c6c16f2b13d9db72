//! The names that sympy and Python give a meaning, among those of at most two letters.

use super::tokens::Token;

/// Functions of sympy and Python that can appear in an answer.
pub(super) const CALLABLE: [&str; 20] = [
    "all", "csc", "eye", "ff", "fft", "frac", "fu", "gff", "hn1", "hn2", "id", "im", "jn", "li", "ln", "ntt", "re",
    "rf", "sqrt", "yn",
];
/// Constants of sympy that can appear in an answer.
pub(super) const VALUES: [&str; 4] = ["nan", "oo", "pi", "zoo"];
/// Names that rewriting itself inserts; all of them are callable.
const INSERTED: [&str; 7] = ["Symbol", "Function", "Integer", "Float", "Number", "factorial", "factorial2"];
/// Python's reserved words.
pub(super) const RESERVED: [&str; 5] = ["as", "if", "in", "is", "or"];
/// Greek letters, which are not split into a product of Latin ones.
pub(super) const GREEK: [&str; 4] = ["mu", "nu", "pi", "xi"];

/// Whether a token names a function.
pub(super) fn is_callable(token: &Token<'_>) -> bool {
    CALLABLE.contains(&token.text) || INSERTED.contains(&token.text)
}
