//! Exact rational numbers.

use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use num_traits::{One, Signed, Zero};

/// A fraction in lowest terms; the denominator is positive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rational {
    numerator: BigInt,
    denominator: BigInt,
}

impl Rational {
    /// Returns `numerator / denominator` in lowest terms; the denominator must not be zero.
    pub(super) fn new(numerator: BigInt, denominator: BigInt) -> Self {
        let divisor = numerator.gcd(&denominator);
        let (mut numerator, mut denominator) = (numerator / &divisor, denominator / &divisor);
        if denominator.sign() == Sign::Minus {
            (numerator, denominator) = (-numerator, -denominator);
        }
        Self { numerator, denominator }
    }

    pub(super) fn integer(value: impl Into<BigInt>) -> Self {
        Self { numerator: value.into(), denominator: BigInt::one() }
    }

    pub(super) fn numerator(&self) -> &BigInt {
        &self.numerator
    }

    pub(super) fn denominator(&self) -> &BigInt {
        &self.denominator
    }

    pub(super) fn is_zero(&self) -> bool {
        self.numerator.is_zero()
    }

    /// Returns the value if it is an integer.
    pub(super) fn as_integer(&self) -> Option<&BigInt> {
        self.denominator.is_one().then_some(&self.numerator)
    }

    /// Size of numerator and denominator together, in bits.
    pub(super) fn bits(&self) -> u64 {
        self.numerator.bits() + self.denominator.bits()
    }

    pub(super) fn negated(&self) -> Self {
        Self { numerator: -&self.numerator, denominator: self.denominator.clone() }
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        if self.denominator.is_one() && other.denominator.is_one() {
            return Self::integer(&self.numerator + &other.numerator);
        }
        let numerator = &self.numerator * &other.denominator + &other.numerator * &self.denominator;
        Self::new(numerator, &self.denominator * &other.denominator)
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        if self.denominator.is_one() && other.denominator.is_one() {
            return Self::integer(&self.numerator * &other.numerator);
        }
        Self::new(&self.numerator * &other.numerator, &self.denominator * &other.denominator)
    }

    /// `1 / self`; `self` must not be zero.
    pub(super) fn inverse(&self) -> Self {
        let sign = self.numerator.signum();
        Self { numerator: &self.denominator * &sign, denominator: self.numerator.abs() }
    }

    /// Rounds half to even to `bits` significant bits; returns mantissa and exponent of two.
    pub(super) fn rounded(&self, bits: u64) -> (BigInt, i64) {
        if self.is_zero() {
            return (BigInt::zero(), 0);
        }
        // Two more bits than requested, and one that says whether anything was cut off.
        let wanted = (bits + 2).cast_signed();
        let shift = wanted - self.numerator.bits().cast_signed() + self.denominator.bits().cast_signed();
        let (above, below) = if shift >= 0 {
            (self.numerator.abs() << shift.unsigned_abs(), self.denominator.clone())
        } else {
            (self.numerator.abs(), &self.denominator << shift.unsigned_abs())
        };
        let (quotient, rest) = above.div_rem(&below);
        let mut mantissa: BigInt = (quotient << 1u32) + u32::from(!rest.is_zero());
        let mut exponent = -shift - 1;
        let extra = mantissa.bits() - bits;
        let half = BigInt::one() << (extra - 1);
        let cut = &mantissa & &((BigInt::one() << extra) - 1);
        mantissa >>= extra;
        exponent += extra.cast_signed();
        if cut > half || (cut == half && mantissa.is_odd()) {
            mantissa += 1;
        }
        if mantissa.bits() > bits {
            mantissa >>= 1u32;
            exponent += 1;
        }
        (if self.numerator.is_negative() { -mantissa } else { mantissa }, exponent)
    }

    /// Fractional part, `x - floor(x)`.
    pub(super) fn fraction(&self) -> Self {
        Self { numerator: self.numerator.mod_floor(&self.denominator), denominator: self.denominator.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::Rational;
    use num_bigint::BigInt;

    #[test]
    fn rounding_agrees_with_f64() {
        for n in -40i64..40 {
            for d in 1i64..60 {
                let value = n as f64 / d as f64;
                let (mantissa, exponent) = Rational::new(BigInt::from(n), BigInt::from(d)).rounded(53);
                let mantissa: i64 = mantissa.try_into().unwrap();
                assert_eq!(mantissa as f64 * 2f64.powi(i32::try_from(exponent).unwrap()), value, "{n}/{d}");
            }
        }
    }
}
