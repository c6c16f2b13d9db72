//! Ints and floats with Python's arithmetic.

/// A Python number. Results that Python would give in another type (complex numbers) or that do not
/// fit into 128 bits have no value here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// An int.
    Int(i128),
    /// A float.
    Float(f64),
}

use Number::{Float, Int};

impl Number {
    /// Returns the value as a float.
    pub fn to_f64(self) -> f64 {
        match self {
            Int(n) => n as f64,
            Float(x) => x,
        }
    }

    /// Returns the sum.
    pub fn plus(self, other: Self) -> Option<Self> {
        self.combine(other, i128::checked_add, |a, b| a + b)
    }

    /// Returns the difference.
    pub fn minus(self, other: Self) -> Option<Self> {
        self.combine(other, i128::checked_sub, |a, b| a - b)
    }

    /// Returns the product.
    pub fn times(self, other: Self) -> Option<Self> {
        self.combine(other, i128::checked_mul, |a, b| a * b)
    }

    /// Returns the quotient, always a float; `None` if the divisor is zero.
    pub fn divide(self, other: Self) -> Option<Self> {
        if other.to_f64() == 0.0 {
            return None;
        }
        Some(Float(self.to_f64() / other.to_f64()))
    }

    /// Returns the quotient rounded down; `None` if the divisor is zero.
    pub fn floor_divide(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Int(_), Int(0)) => None,
            (Int(a), Int(b)) => {
                let quotient = a.checked_div(b)?;
                let is_inexact_below_zero = a % b != 0 && (a < 0) != (b < 0);
                Some(Int(quotient - i128::from(is_inexact_below_zero)))
            }
            _ => self.divide(other).map(|quotient| Float(quotient.to_f64().floor())),
        }
    }

    /// Returns the remainder, with the sign of the divisor; `None` if the divisor is zero.
    pub fn remainder(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Int(_), Int(0)) => None,
            (Int(a), Int(b)) => {
                let rest = a.checked_rem(b)?;
                Some(Int(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }))
            }
            _ if other.to_f64() == 0.0 => None,
            _ => {
                let (a, b) = (self.to_f64(), other.to_f64());
                let rest = a % b;
                Some(Float(if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }))
            }
        }
    }

    /// Returns the power; `None` if it is complex, undefined or too large.
    pub fn power(self, exponent: Self) -> Option<Self> {
        if let (Int(base), Int(exponent @ 0..)) = (self, exponent) {
            return base.checked_pow(u32::try_from(exponent).ok()?).map(Int);
        }
        let (base, exponent) = (self.to_f64(), exponent.to_f64());
        let is_undefined = base == 0.0 && exponent < 0.0;
        let is_complex = base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0;
        if is_undefined || is_complex {
            return None;
        }
        let power = base.powf(exponent);
        // Python raises OverflowError where a finite power does not fit.
        (power.is_finite() || !base.is_finite() || !exponent.is_finite()).then_some(Float(power))
    }

    /// Returns the negative.
    pub fn negate(self) -> Option<Self> {
        match self {
            Int(n) => n.checked_neg().map(Int),
            Float(x) => Some(Float(-x)),
        }
    }

    fn combine(self, other: Self, ints: fn(i128, i128) -> Option<i128>, floats: fn(f64, f64) -> f64) -> Option<Self> {
        match (self, other) {
            (Int(a), Int(b)) => ints(a, b).map(Int),
            _ => Some(Float(floats(self.to_f64(), other.to_f64()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_follows_python() {
        assert_eq!(Int(7).divide(Int(2)), Some(Float(3.5)));
        assert_eq!((Int(-7).floor_divide(Int(2)), Int(-7).remainder(Int(2))), (Some(Int(-4)), Some(Int(1))));
        assert_eq!(Float(-7.5).remainder(Int(2)), Some(Float(0.5)));
        assert_eq!((Int(2).power(Int(10)), Int(2).power(Int(-1))), (Some(Int(1024)), Some(Float(0.5))));
        assert_eq!((Int(-8).power(Float(0.5)), Int(0).power(Int(-1)), Int(9).power(Int(999))), (None, None, None));
        assert_eq!((Int(1).divide(Int(0)), Int(1).remainder(Int(0))), (None, None));
        assert_eq!(Int(i128::MAX).plus(Int(1)), None);
    }
}
