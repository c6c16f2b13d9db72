//! Python's rules for text and numbers, on which the published scorers depend.
//!
//! The scorers are Python programs, and what they say of an answer depends on `str.split`,
//! `float()`, `round()` and the arithmetic of ints and floats. No text of a model is ever run: the
//! few expressions that scorers evaluate are read by [`arithmetic`] and by the reader of LaTeX.

pub mod arithmetic;
pub mod literal;
pub mod number;
pub mod round;
pub mod text;
