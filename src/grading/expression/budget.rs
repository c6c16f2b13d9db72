//! What working out one pair of answers may cost, and why there may be no value.

use super::rational::Rational;

/// Why there is no exact value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It is no sum of square roots, or it hangs on which branch of a root a symbol takes: evaluate numerically.
    NotExact,
    /// It divides by zero.
    Undefined,
    /// It is larger than any answer: `9^9^9` and its kin.
    TooLarge,
}

/// What the work on one pair of answers may cost, in products of machine words. It makes the work bounded without a clock,
/// so a verdict is the same on every machine.
#[derive(Debug)]
pub(in crate::grading) struct Budget(u64);

impl Budget {
    pub(in crate::grading) fn new() -> Self {
        Self(8_000_000)
    }

    /// Whether something could not be paid for. From then on nothing can.
    #[cfg(test)]
    pub(in crate::grading) fn is_spent(&self) -> bool {
        self.0 == 0
    }

    /// Pays for reading a text of so many bytes, whatever is in it.
    pub(super) fn pay_for_text(&mut self, bytes: usize) -> Result<(), Failure> {
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

    /// Pays for one operation on numbers of so many bits.
    pub(super) fn pay(&mut self, bits: u64) -> Result<(), Failure> {
        let words = bits / 64 + 2;
        self.take(words * words)
    }

    /// Pays for a sum or a product of two fractions; bringing one to lowest terms costs far more than the product.
    pub(super) fn pay_for(&mut self, a: &Rational, b: &Rational) -> Result<(), Failure> {
        let bits = a.bits() + b.bits();
        let whole = a.as_integer().is_some() && b.as_integer().is_some();
        let words = bits / 64 + 2;
        let cost = if whole { words * words } else { 32 * words * words };
        self.take(cost)
    }
}
