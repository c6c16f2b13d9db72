//! The grader: boxed answers, equality of two answers, and votes over sampled answers.
//!
//! Equality decides votes, pseudo-labels, rewards and scores. It follows `grade_answer` of
//! mathruler 0.1.0, which VisPlay calls, step by step: two normal forms of the text, tuples, and
//! symbolic equality. Everything here is a pure function of strings. The work on any input is
//! bounded by a count of operations, never by a clock, so a pair has the same verdict on every
//! machine.
//!
//! | step | file |
//! |---|---|
//! | the content of the last `\boxed{..}` of a response | `boxed.rs` |
//! | the rules of equality, in their order | `answer.rs` |
//! | first normal form, that of the MATH data set | `mathd_form.rs` |
//! | second normal form, as text for sympy | `sympy_form.rs`, `latex/` |
//! | elements of tuples and intervals | `tuples.rs` |
//! | whether two expressions are equal as mathematics | `expression/` |
//! | classes of equal answers and the majority | `votes.rs` |

mod answer;
mod boxed;
pub(crate) mod characters;
mod expression;
mod latex;
mod mathd_form;
mod sympy_form;
mod tuples;
mod votes;

pub use answer::{Answer, Comparison, MatchRule, compare};
pub use boxed::last_boxed;
pub use votes::{Vote, vote};
