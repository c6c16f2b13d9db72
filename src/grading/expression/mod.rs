//! Whether two expressions are the same mathematics: read as sympy reads them, decided exactly or by evaluation.
//!
//! [`tokens`] cuts the text as Python's tokenizer does, [`rewrite`] adds the multiplications and calls that sympy leaves
//! to the reader, [`syntax`] makes a tree, and [`zero`] decides whether the difference is zero: exactly with rationals
//! and square roots ([`exact`]), or else at seeded points to some hundred digits ([`numeric`]).

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
