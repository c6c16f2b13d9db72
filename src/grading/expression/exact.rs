//! Exact values: rationals and sums of square roots.
//!
//! A value is a sum of c·√r with rational c and distinct square-free integers r (negative r is
//! imaginary, r = 1 is the rational part). Such roots are linearly independent over the rationals,
//! so a value is zero exactly if it has no terms.

use dashu_int::ops::{Abs, BitTest, Gcd, SquareRoot, UnsignedAbs};
use dashu_int::{IBig, Sign, UBig};

use super::budget::{Budget, Failure};
use super::rational::{Rational, bits};
use super::syntax::{ExprNode, Function, Tree};

/// Most terms of a value; products of sums of roots grow fast.
const MAX_TERMS: usize = 32;
/// Largest size of a coefficient, in bits.
const MAX_BITS: u64 = 16_384;
/// Largest argument of a factorial.
const MAX_FACTORIAL: u32 = 1000;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Surd {
    /// Radicands and coefficients, sorted by radicand; no coefficient is zero.
    terms: Vec<(i64, Rational)>,
}

/// Evaluates a tree with its symbols at rational points.
///
/// `dependent[i]` says whether node i depends on a symbol. A root or logarithm of such a node has
/// no exact value here, because an equality that holds for one sign of a number need not hold for
/// the other.
pub(super) fn evaluate(
    tree: &Tree,
    dependent: &[bool],
    point: &[Rational],
    budget: &mut Budget,
) -> Result<Surd, Failure> {
    let mut values: Vec<Surd> = Vec::with_capacity(tree.nodes.len());
    for node in &tree.nodes {
        let value = match *node {
            ExprNode::Number(ref number) | ExprNode::Decimal(ref number, _) => Surd::rational(number.clone()),
            ExprNode::Symbol(symbol) => Surd::rational(point[symbol].clone()),
            ExprNode::Pi => return Err(Failure::NotExact),
            ExprNode::Imaginary => Surd { terms: vec![(-1, Rational::ONE)] },
            ExprNode::Negative(a) => values[a].scaled(&Rational::from(-1), budget)?,
            ExprNode::Sum(a, b) => values[a].plus(&values[b], budget)?,
            ExprNode::Difference(a, b) => {
                let negative = values[b].scaled(&Rational::from(-1), budget)?;
                values[a].plus(&negative, budget)?
            }
            ExprNode::Product(a, b) => values[a].times(&values[b], budget)?,
            ExprNode::Quotient(a, b) => {
                let inverse = values[b].inverse(budget)?;
                values[a].times(&inverse, budget)?
            }
            ExprNode::Power(_, b) if dependent[b] => return Err(Failure::NotExact),
            ExprNode::Power(a, b) => values[a].power(&values[b], dependent[a], budget)?,
            ExprNode::Call(function, a) => values[a].apply(function, dependent[a], budget)?,
        };
        values.push(value);
    }
    values.pop().ok_or(Failure::NotExact)
}

impl Surd {
    fn rational(value: Rational) -> Self {
        Self { terms: if value.is_zero() { Vec::new() } else { vec![(1, value)] } }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.terms.is_empty()
    }

    pub(super) fn as_rational(&self) -> Option<Rational> {
        match &self.terms[..] {
            [] => Some(Rational::ZERO),
            [(1, value)] => Some(value.clone()),
            _ => None,
        }
    }

    fn plus(&self, other: &Self, budget: &mut Budget) -> Result<Self, Failure> {
        let mut terms = self.terms.clone();
        for (radicand, coefficient) in &other.terms {
            match terms.binary_search_by_key(radicand, |term| term.0) {
                Err(at) => terms.insert(at, (*radicand, coefficient.clone())),
                Ok(at) => {
                    budget.charge_for(&terms[at].1, coefficient)?;
                    let sum = &terms[at].1 + coefficient;
                    if sum.is_zero() {
                        terms.remove(at);
                    } else {
                        terms[at].1 = sum;
                    }
                }
            }
        }
        Self { terms }.checked()
    }

    fn scaled(&self, factor: &Rational, budget: &mut Budget) -> Result<Self, Failure> {
        let mut terms = Vec::with_capacity(self.terms.len());
        for (radicand, coefficient) in &self.terms {
            budget.charge_for(coefficient, factor)?;
            terms.push((*radicand, coefficient * factor));
        }
        Self { terms }.checked()
    }

    fn times(&self, other: &Self, budget: &mut Budget) -> Result<Self, Failure> {
        let mut sum = Self { terms: Vec::new() };
        for (a, x) in &self.terms {
            for (b, y) in &other.terms {
                budget.charge_for(x, y)?;
                let (outside, radicand) = root_product(*a, *b).ok_or(Failure::NotExact)?;
                let coefficient = x * y * IBig::from(outside);
                sum = sum.plus(&Self { terms: vec![(radicand, coefficient)] }, budget)?;
            }
        }
        sum.checked()
    }

    fn checked(self) -> Result<Self, Failure> {
        if self.terms.len() > MAX_TERMS {
            return Err(Failure::NotExact);
        }
        if self.terms.iter().any(|term| bits(&term.1) > MAX_BITS) {
            return Err(Failure::TooLarge);
        }
        Ok(self)
    }

    /// `1 / self`: numerator and denominator are multiplied by conjugates until the denominator has
    /// no root.
    fn inverse(&self, budget: &mut Budget) -> Result<Self, Failure> {
        let mut above = Self::rational(Rational::ONE);
        let mut below = self.clone();
        for _ in 0..8 {
            if below.is_zero() {
                return Err(Failure::Undefined);
            }
            if let Some(value) = below.as_rational() {
                return above.scaled(&(Rational::ONE / value), budget);
            }
            if let [(radicand, coefficient)] = &below.terms[..] {
                let root = Self { terms: vec![(*radicand, Rational::ONE)] };
                let square = coefficient * IBig::from(*radicand);
                return above.times(&root, budget)?.scaled(&(Rational::ONE / square), budget);
            }
            let generator = below.generator().ok_or(Failure::NotExact)?;
            let conjugate = below.conjugate(generator);
            above = above.times(&conjugate, budget)?;
            below = below.times(&conjugate, budget)?;
        }
        Err(Failure::NotExact)
    }

    /// Finds a number g such that the sign of √g alone can be changed: every radicand is divisible
    /// by g or coprime to it.
    fn generator(&self) -> Option<i64> {
        let radicand = self.terms.iter().map(|term| term.0).find(|&radicand| radicand != 1)?;
        if radicand < 0 {
            return Some(-1);
        }
        let smallest = (2..2000).find(|prime| radicand % prime == 0).unwrap_or(radicand);
        let fits = |r: i64| r.unsigned_abs().gcd(smallest.unsigned_abs());
        let mut shared = self.terms.iter().map(|term| fits(term.0));
        shared.all(|g| g == 1 || g == smallest.unsigned_abs()).then_some(smallest)
    }

    fn conjugate(&self, generator: i64) -> Self {
        let flips = |radicand: i64| if generator < 0 { radicand < 0 } else { radicand % generator == 0 };
        let terms = self.terms.iter();
        Self { terms: terms.map(|(r, c)| (*r, if flips(*r) { -c } else { c.clone() })).collect() }
    }

    fn power(&self, exponent: &Self, symbolic: bool, budget: &mut Budget) -> Result<Self, Failure> {
        let exponent = exponent.as_rational().ok_or(Failure::NotExact)?;
        let base = match u32::try_from(exponent.denominator()) {
            Ok(1) => self.clone(),
            Ok(2) => self.apply(Function::SquareRoot, symbolic, budget)?,
            _ => return Err(Failure::NotExact),
        };
        if base.is_zero() {
            return match exponent.sign() {
                Sign::Negative => Err(Failure::Undefined),
                Sign::Positive if exponent.is_zero() => Ok(Self::rational(Rational::ONE)),
                Sign::Positive => Ok(base),
            };
        }
        let count = u64::try_from(exponent.numerator().unsigned_abs()).map_err(|_| Failure::TooLarge)?;
        let base = if exponent.sign() == Sign::Negative { base.inverse(budget)? } else { base };
        base.integer_power(count, budget)
    }

    fn integer_power(&self, mut count: u64, budget: &mut Budget) -> Result<Self, Failure> {
        let one = Rational::ONE;
        if self.as_rational().is_some_and(|value| value.abs().is_one()) {
            return Ok(if count.is_multiple_of(2) { Self::rational(one) } else { self.clone() });
        }
        let (mut result, mut square) = (Self::rational(one), self.clone());
        while count > 0 {
            if count % 2 == 1 {
                result = result.times(&square, budget)?;
            }
            count /= 2;
            if count > 0 {
                square = square.times(&square, budget)?;
            }
        }
        Ok(result)
    }

    fn apply(&self, function: Function, symbolic: bool, budget: &mut Budget) -> Result<Self, Failure> {
        let value = self.as_rational().ok_or(Failure::NotExact)?;
        match function {
            Function::SquareRoot if symbolic => Err(Failure::NotExact),
            Function::SquareRoot => square_root(&value, budget),
            Function::Logarithm if symbolic => Err(Failure::NotExact),
            Function::Logarithm if value.is_zero() => Err(Failure::Undefined),
            Function::Logarithm if value == Rational::ONE => Ok(Self { terms: Vec::new() }),
            Function::Factorial | Function::DoubleFactorial => {
                let step = if function == Function::Factorial { 1 } else { 2 };
                factorial(value.is_int().then_some(value.numerator()).ok_or(Failure::NotExact)?, step, budget)
            }
            Function::Fraction if !symbolic => Ok(Self::rational(&value - value.floor())),
            Function::Cosecant if value.is_zero() => Err(Failure::Undefined),
            Function::Logarithm | Function::Fraction | Function::Cosecant => Err(Failure::NotExact),
        }
    }
}

/// √a·√b = outside·√radicand, for square-free a and b.
fn root_product(a: i64, b: i64) -> Option<(i64, i64)> {
    let common = a.unsigned_abs().gcd(b.unsigned_abs());
    let rest = (a.unsigned_abs() / common).checked_mul(b.unsigned_abs() / common)?;
    let (common, rest) = (i64::try_from(common).ok()?, i64::try_from(rest).ok()?);
    Some(match (a < 0, b < 0) {
        (false, false) => (common, rest),
        (true, true) => (-common, rest),
        _ => (common, -rest),
    })
}

/// √(p/q) = √(pq)/q, with the squares factored out of pq.
fn square_root(value: &Rational, budget: &mut Budget) -> Result<Surd, Failure> {
    budget.charge(bits(value))?;
    let size = value.numerator().unsigned_abs() * value.denominator();
    let root = size.sqrt();
    let (outside, inside) = if &root * &root == size {
        (root, 1)
    } else {
        let (outside, inside) = u64::try_from(size).ok().and_then(square_free).ok_or(Failure::NotExact)?;
        (UBig::from(outside), i64::try_from(inside).map_err(|_| Failure::NotExact)?)
    };
    if outside.is_zero() {
        return Ok(Surd { terms: Vec::new() });
    }
    let radicand = if value.sign() == Sign::Negative { -inside } else { inside };
    Ok(Surd { terms: vec![(radicand, Rational::from_parts(outside.into(), value.denominator().clone()))] })
}

/// n = outside²·inside with square-free inside; `None` if small divisors do not decide it.
fn square_free(mut n: u64) -> Option<(u64, u64)> {
    let (mut outside, mut inside) = (1u64, 1u64);
    let mut divisor = 2u64;
    // The rest has no divisor below this one. If the divisor's cube exceeds the rest, the rest is a
    // prime, a product of two primes or a square.
    while divisor.pow(3) <= n {
        if divisor > 2000 {
            return None;
        }
        while n.is_multiple_of(divisor * divisor) {
            outside *= divisor;
            n /= divisor * divisor;
        }
        if n.is_multiple_of(divisor) {
            inside *= divisor;
            n /= divisor;
        }
        divisor += 1;
    }
    let root = n.isqrt();
    if root * root == n {
        outside *= root;
    } else {
        inside = inside.checked_mul(n)?;
    }
    Some((outside, inside))
}

fn factorial(n: &IBig, step: usize, budget: &mut Budget) -> Result<Surd, Failure> {
    if n.sign() == Sign::Negative {
        return Err(Failure::Undefined);
    }
    let n = u32::try_from(n).ok().filter(|&n| n <= MAX_FACTORIAL).ok_or(Failure::TooLarge)?;
    let mut product = UBig::ONE;
    for factor in (1..=n).rev().step_by(step) {
        product *= factor;
    }
    budget.charge(product.bit_len() as u64)?;
    Surd::rational(product.into()).checked()
}

#[cfg(test)]
mod tests {
    use super::square_free;

    #[test]
    fn squares_are_factored_out() {
        for n in 1u64..5000 {
            let (outside, inside) = square_free(n).unwrap();
            assert_eq!(outside * outside * inside, n);
            assert!((2..=70).all(|d| inside % (d * d) != 0), "{n}");
        }
        assert_eq!(square_free(1 << 40), Some((1 << 20, 1)));
        assert_eq!(square_free((1 << 61) - 1), None);
    }
}
