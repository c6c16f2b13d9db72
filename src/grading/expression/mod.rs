//! Symbolic equality of two expressions, parsed as sympy parses them and decided exactly or
//! numerically.
//!
//! [`tokens`] splits the text like Python's tokenizer, [`rewrite`] inserts the multiplications and
//! calls that sympy infers, [`syntax`] builds a tree, and [`zero`] decides whether the difference
//! is zero: exactly with rationals and square roots ([`exact`]), or else at fixed pseudo-random
//! points with about a hundred digits ([`numeric`]).

mod bigfloat;
mod budget;
mod exact;
mod implicit;
mod names;
mod numeric;
mod rational;
mod rewrite;
mod same;
mod syntax;
mod tokens;
mod zero;

pub(super) use budget::Budget;
pub(super) use zero::Difference;
pub(super) use zero::difference;
