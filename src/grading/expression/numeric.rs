//! High-precision value of an expression at a complex point.

use dashu_int::IBig;

use super::bigfloat::{BigFloat, PRECISION, pi};
use super::budget::{Budget, Failure};
use super::syntax::{ExprNode, Function, Tree};

/// Cost of a logarithm or a general power, as the size in bits of one product that takes as long.
const TRANSCENDENTAL: u64 = 16_000;

/// A complex number.
#[derive(Debug, Clone)]
pub(super) struct Complex {
    re: BigFloat,
    im: BigFloat,
}

/// Value of a tree, and the exponent of the leading bit of the largest intermediate value.
pub(super) struct NumericValue {
    pub(super) value: Complex,
    pub(super) scale: i64,
}

/// Evaluates a tree with its symbols at complex points.
pub(super) fn evaluate(tree: &Tree, point: &[Complex], budget: &mut Budget) -> Result<NumericValue, Failure> {
    let mut values: Vec<Complex> = Vec::with_capacity(tree.nodes.len());
    let mut scale = i64::MIN;
    for node in &tree.nodes {
        budget.charge(2 * PRECISION)?;
        let step = match *node {
            ExprNode::Number(ref number) | ExprNode::Decimal(ref number, _) => {
                BigFloat::rational(number).map(Complex::real)
            }
            ExprNode::Symbol(symbol) => Some(point[symbol].clone()),
            ExprNode::Pi => Some(Complex::real(pi().clone())),
            ExprNode::Imaginary => Some(Complex { re: BigFloat::zero(), im: BigFloat::integer(1) }),
            ExprNode::Negative(a) => Some(values[a].negated()),
            ExprNode::Sum(a, b) => values[a].plus(&values[b]),
            ExprNode::Difference(a, b) => values[a].plus(&values[b].negated()),
            ExprNode::Product(a, b) => values[a].times(&values[b]),
            ExprNode::Quotient(_, b) if values[b].is_zero() => return Err(Failure::Undefined),
            ExprNode::Quotient(a, b) => values[a].over(&values[b]),
            ExprNode::Power(a, b) => values[a].power(&values[b], budget)?,
            ExprNode::Call(function, a) => values[a].apply(function, budget)?,
        };
        let step = step.ok_or(Failure::TooLarge)?;
        scale = scale.max(step.magnitude());
        values.push(step);
    }
    let value = values.pop().ok_or(Failure::NotExact)?;
    Ok(NumericValue { value, scale })
}

impl Complex {
    pub(super) fn new(re: BigFloat, im: BigFloat) -> Self {
        Self { re, im }
    }

    fn real(re: BigFloat) -> Self {
        Self { re, im: BigFloat::zero() }
    }

    /// Returns the exponent of the leading bit of the larger part.
    pub(super) fn magnitude(&self) -> i64 {
        self.re.magnitude().max(self.im.magnitude())
    }

    fn is_zero(&self) -> bool {
        self.re.is_zero() && self.im.is_zero()
    }

    fn negated(&self) -> Self {
        Self { re: self.re.negated(), im: self.im.negated() }
    }

    fn plus(&self, other: &Self) -> Option<Self> {
        Some(Self { re: self.re.plus(&other.re)?, im: self.im.plus(&other.im)? })
    }

    fn times(&self, other: &Self) -> Option<Self> {
        let re = self.re.times(&other.re)?.minus(&self.im.times(&other.im)?)?;
        let im = self.re.times(&other.im)?.plus(&self.im.times(&other.re)?)?;
        Some(Self { re, im })
    }

    fn over(&self, other: &Self) -> Option<Self> {
        let size = other.re.times(&other.re)?.plus(&other.im.times(&other.im)?)?;
        let above = self.times(&Self { re: other.re.clone(), im: other.im.negated() })?;
        Some(Self { re: above.re.over(&size)?, im: above.im.over(&size)? })
    }

    fn length(&self) -> Option<BigFloat> {
        self.re.times(&self.re)?.plus(&self.im.times(&self.im)?)?.square_root()
    }

    /// Returns the principal logarithm of a number other than zero.
    fn logarithm(&self) -> Option<Self> {
        Some(Self { re: self.length()?.logarithm()?, im: BigFloat::angle(&self.im, &self.re)? })
    }

    fn exponential(&self) -> Option<Self> {
        let size = self.re.exponential()?;
        let (sine, cosine) = self.im.sine_cosine()?;
        Some(Self { re: size.times(&cosine)?, im: size.times(&sine)? })
    }

    /// Returns the principal square root: with r = |z|, √z = √((r+a)/2) ± i √((r-a)/2), computing
    /// the larger part first.
    fn square_root(&self) -> Option<Self> {
        if self.is_zero() {
            return Some(self.clone());
        }
        let half = |x: BigFloat| x.over(&BigFloat::integer(2));
        let length = self.length()?;
        if self.re.is_negative() {
            let part = half(length.minus(&self.re)?)?.square_root()?;
            let im = if self.im.is_negative() { part.negated() } else { part };
            let re = half(self.im.over(&im)?)?;
            return Some(Self { re, im });
        }
        let re = half(length.plus(&self.re)?)?.square_root()?;
        let im = half(self.im.over(&re)?)?;
        Some(Self { re, im })
    }

    /// z^w = e^(w ln z), by repeated products if w is a small integer.
    fn power(&self, exponent: &Self, budget: &mut Budget) -> Result<Option<Self>, Failure> {
        if let Some(count) = exponent.small_integer() {
            return match (self.is_zero(), count) {
                (true, i64::MIN..0) => Err(Failure::Undefined),
                (_, i64::MIN..0) => {
                    Ok(Self::real(BigFloat::integer(1)).over(self).and_then(|base| base.integer_power(-count)))
                }
                (_, _) => Ok(self.integer_power(count)),
            };
        }
        if exponent.is_half() {
            return Ok(self.square_root());
        }
        if self.is_zero() {
            return Err(Failure::Undefined);
        }
        budget.charge(TRANSCENDENTAL)?;
        Ok(self.logarithm().and_then(|log| exponent.times(&log)).and_then(|product| product.exponential()))
    }

    fn small_integer(&self) -> Option<i64> {
        let count = self.re.nearest().filter(|count| count.abs() <= 1024)?;
        (self.im.is_zero() && self.re.minus(&BigFloat::integer(count))?.is_zero()).then_some(count)
    }

    fn is_half(&self) -> bool {
        let twice = self.re.plus(&self.re).and_then(|twice| twice.minus(&BigFloat::integer(1)));
        self.im.is_zero() && twice.is_some_and(|rest| rest.is_zero())
    }

    fn integer_power(&self, mut count: i64) -> Option<Self> {
        let (mut result, mut square) = (Self::real(BigFloat::integer(1)), self.clone());
        while count > 0 {
            if count % 2 == 1 {
                result = result.times(&square)?;
            }
            count /= 2;
            if count > 0 {
                square = square.times(&square)?;
            }
        }
        Some(result)
    }

    fn apply(&self, function: Function, budget: &mut Budget) -> Result<Option<Self>, Failure> {
        match function {
            Function::SquareRoot => Ok(self.square_root()),
            Function::Logarithm if self.is_zero() => Err(Failure::Undefined),
            Function::Logarithm => {
                budget.charge(TRANSCENDENTAL)?;
                Ok(self.logarithm())
            }
            Function::Factorial => Ok(self.opaque(3)),
            Function::DoubleFactorial => Ok(self.opaque(5)),
            Function::Fraction => Ok(self.opaque(7)),
            Function::Cosecant => Ok(self.opaque(11)),
        }
    }

    /// Returns the value of a function of which only one property is used: equal arguments have
    /// equal values. The value is a hash of the leading bits of the argument, so two expressions
    /// with such a function agree only if its arguments do.
    fn opaque(&self, salt: u64) -> Option<Self> {
        let (re, im) = (self.re.leading(200), self.im.leading(200));
        let prime = (IBig::ONE << 127) - 1;
        let mixed =
            (re.0 * 1_000_003 + im.0 * 998_244_353 + re.1 * 65_537 + im.1 * 92_821 + salt) * (salt + 1_000_000_007);
        let part = (&mixed * &mixed * &mixed + mixed) % &prime;
        let below = BigFloat::integer(1 << 62);
        let (high, low) = (&part >> 64usize, part & IBig::from(u64::MAX));
        let number = |x: IBig| BigFloat::rational(&x.into())?.over(&below);
        Some(Self { re: number(high)?, im: number(low)? })
    }
}
