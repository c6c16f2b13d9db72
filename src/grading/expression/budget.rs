//! Budget for the work on one pair of answers, and the reasons for having no value.

use super::rational::{Rational, bits};

/// A reason why an expression has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Not a sum of square roots, or dependent on the branch that a root of a symbol takes:
    /// evaluate numerically.
    NotExact,
    /// It divides by zero.
    Undefined,
    /// Larger than any answer, for example `9^9^9`.
    TooLarge,
}

/// Remaining work for one pair of answers, in products of machine words. It bounds the work without
/// a clock, so a result is the same on every machine.
#[derive(Debug)]
pub(in crate::grading) struct Budget(u64);

impl Budget {
    pub(in crate::grading) fn new() -> Self {
        Self(8_000_000)
    }

    /// Whether the budget ran out. After that nothing can be charged.
    #[cfg(test)]
    pub(in crate::grading) fn is_spent(&self) -> bool {
        self.0 == 0
    }

    /// Charges for reading a text, whatever it contains.
    pub(super) fn charge_for_text(&mut self, bytes: usize) -> Result<(), Failure> {
        self.take(1000 + 100 * bytes as u64)
    }

    fn take(&mut self, cost: u64) -> Result<(), Failure> {
        match self.0.checked_sub(cost) {
            Some(left) if left > 0 => {
                self.0 = left;
                Ok(())
            }
            _ => {
                self.0 = 0;
                Err(Failure::TooLarge)
            }
        }
    }

    /// Charges for one operation on numbers of `bits` bits.
    pub(super) fn charge(&mut self, bits: u64) -> Result<(), Failure> {
        let words = bits / 64 + 2;
        self.take(words * words)
    }

    /// Charges for a sum or product of two fractions; reducing one to lowest terms costs far more
    /// than the product.
    pub(super) fn charge_for(&mut self, a: &Rational, b: &Rational) -> Result<(), Failure> {
        let words = (bits(a) + bits(b)) / 64 + 2;
        let factor = if a.is_int() && b.is_int() { 1 } else { 32 };
        self.take(factor * words * words)
    }
}
