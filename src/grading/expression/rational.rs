//! Exact rational numbers, always in lowest terms.

use dashu_int::UBig;
use dashu_int::ops::BitTest;
pub(super) use dashu_ratio::RBig as Rational;

/// Returns the size of numerator and denominator together, in bits.
pub(super) fn bits(value: &Rational) -> u64 {
    (value.numerator().bit_len() + value.denominator().bit_len()) as u64
}

/// Rounds half to even to `bits` significant bits.
pub(super) fn rounded(value: &Rational, bits: usize) -> Rational {
    // The value of the last bit, or half of it: the sizes alone leave the exponent off by one.
    let exponent = value.numerator().bit_len().cast_signed() - (value.denominator().bit_len() + bits).cast_signed();
    let power = UBig::ONE << exponent.unsigned_abs();
    let mut unit = if exponent < 0 { Rational::from_parts(1.into(), power) } else { power.into() };
    if (value / &unit).trunc().bit_len() > bits {
        unit *= Rational::from(2);
    }
    let units = value / &unit;
    let floor = units.floor();
    let twice_rest = (units - &floor) * UBig::from(2u8);
    let is_up = if twice_rest.is_one() { floor.bit(0) } else { twice_rest > Rational::ONE };
    unit * (floor + u8::from(is_up))
}

#[cfg(test)]
mod tests {
    use super::{Rational, rounded};

    #[test]
    fn rounding_agrees_with_f64() {
        for n in -40i64..40 {
            for d in 1i64..60 {
                let value = Rational::from_parts_signed(n.into(), d.into());
                assert_eq!(rounded(&value, 53), Rational::try_from(n as f64 / d as f64).unwrap(), "{n}/{d}");
            }
        }
    }

    #[test]
    fn ties_round_to_even() {
        let halves = |n: i64| Rational::from_parts_signed(n.into(), 2.into());
        for (given, expected) in [(9, 8), (11, 12), (13, 12), (15, 16), (-9, -8), (-11, -12), (-15, -16), (7, 7)] {
            assert_eq!(rounded(&halves(given), 3), halves(expected), "{given}/2");
        }
    }
}
