//! Test whether the difference of two expressions is zero.

use dashu_int::UBig;

use super::bigfloat::{BigFloat, PRECISION};
use super::budget::{Budget, Failure};
use super::exact;
use super::numeric::{self, Complex};
use super::rational::{Rational, rounded};
use super::rewrite::rewrite;
use super::same::has_identical_sides;
use super::syntax::{ExprNode, Function, Tree, parse};
use super::tokens::tokens;

/// Maximum total length of the two expressions in bytes; answers are far shorter.
const MAX_LENGTH: usize = 512;
/// Integer points at which two expressions with symbols must agree.
const INTEGER_POINTS: u64 = 3;
/// Complex points at which they must agree: enough for two symbols to visit equal, opposite and
/// adjacent quadrants.
const COMPLEX_POINTS: u64 = 8;
/// Number of poles after which the expression counts as undefined.
const MAX_POLES: u64 = 5;
/// Bits that rounding errors may have affected.
const GUARD: i64 = 128;

/// Binary magnitude below which a number can count as zero.
const SMALL: i64 = -40;

/// Outcome of comparing two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::grading) enum Difference {
    /// They are the same number, or the same function of their symbols.
    Zero,
    /// They differ.
    NotZero,
    /// One of them is not an expression, is undefined everywhere, or is too large to evaluate.
    Unknown,
}

/// Compares two expressions by parsing `(first)-(second)` as one text, as the reference does.
///
/// Without symbols the value is exact if it is a sum of square roots, else it has about a hundred
/// digits. With symbols the expressions are compared at fixed pseudo-random points: integers for a
/// rational function, complex numbers where a root, logarithm or power has branches (√(x²) is not
/// x). The points are fixed, so a pair has the same result on every machine.
pub(in crate::grading) fn difference(first: &str, second: &str, budget: &mut Budget) -> Difference {
    let length = first.len() + second.len();
    if length > MAX_LENGTH || budget.charge_for_text(length).is_err() {
        return Difference::Unknown;
    }
    let text = format!("({first})-({second})").replace('^', "**");
    let Some(tree) = tokens(&text).and_then(rewrite).and_then(|tokens| parse(&tokens)) else {
        return Difference::Unknown;
    };
    match is_zero(&tree, budget) {
        Ok(true) => Difference::Zero,
        Ok(false) => Difference::NotZero,
        Err(_) => Difference::Unknown,
    }
}

/// Whether the expression is zero, decided as [`difference`] documents.
fn is_zero(tree: &Tree, budget: &mut Budget) -> Result<bool, Failure> {
    if has_identical_sides(tree) {
        return Ok(true);
    }
    let dependent = symbol_dependence(tree);
    if tree.symbols.is_empty() {
        return match exact::evaluate(tree, &dependent, &[], budget) {
            Ok(value) => {
                Ok(value.is_zero() || value.as_rational().is_some_and(|gap| is_decimal_of_fraction(tree, &gap)))
            }
            Err(Failure::NotExact) => is_zero_numerically(tree, &[], budget),
            Err(failure) => Err(failure),
        };
    }
    let exact = |seed, budget: &mut Budget| is_zero_exactly(tree, &dependent, seed, budget);
    match at_points(INTEGER_POINTS, exact, budget) {
        Err(Failure::NotExact) => {
            let numeric = |seed, budget: &mut Budget| is_zero_numerically(tree, &complex_point(tree, seed), budget);
            at_points(COMPLEX_POINTS, numeric, budget)
        }
        verdict => verdict,
    }
}

/// Whether one side is a decimal and the other an exact number that rounds to it at the decimal's
/// precision, at least 15 digits: 0.6923076923076923 is 9/13 as printed by a machine. `gap` is the
/// first minus the second.
fn is_decimal_of_fraction(tree: &Tree, gap: &Rational) -> bool {
    let Some(&ExprNode::Difference(first, second)) = tree.nodes.last() else { return false };
    if tree.nodes.iter().filter(|node| matches!(node, ExprNode::Decimal(..))).count() != 1 {
        return false;
    }
    let literal = |at: usize| match tree.nodes[at] {
        ExprNode::Decimal(ref value, digits) => Some((value.clone(), digits)),
        ExprNode::Negative(inner) => match tree.nodes[inner] {
            ExprNode::Decimal(ref value, digits) => Some((-value, digits)),
            _ => None,
        },
        _ => None,
    };
    let (decimal, exact, digits) = match (literal(first), literal(second)) {
        (Some((decimal, digits)), None) => (decimal.clone(), decimal - gap, digits),
        (None, Some((decimal, digits))) => (decimal.clone(), decimal + gap, digits),
        _ => return false,
    };
    // Number of bits that sympy uses for that many digits.
    let bits = (f64::from(digits.max(15) + 1) * std::f64::consts::LOG2_10).round() as usize;
    rounded(&decimal, bits) == rounded(&exact, bits)
}

/// Tests points one after another until `points` of them agree or one differs; poles are skipped.
fn at_points(
    points: u64,
    mut agrees: impl FnMut(u64, &mut Budget) -> Result<bool, Failure>,
    budget: &mut Budget,
) -> Result<bool, Failure> {
    let (mut agreed, mut poles) = (0, 0);
    for seed in 0.. {
        match agrees(seed, budget) {
            Ok(false) => return Ok(false),
            Ok(true) => agreed += 1,
            Err(Failure::Undefined) => poles += 1,
            Err(failure) => return Err(failure),
        }
        if agreed == points {
            break;
        }
        if poles == MAX_POLES {
            return Err(Failure::Undefined);
        }
    }
    Ok(true)
}

/// Returns for each node whether it depends on a symbol.
fn symbol_dependence(tree: &Tree) -> Vec<bool> {
    let mut dependent: Vec<bool> = Vec::with_capacity(tree.nodes.len());
    for node in &tree.nodes {
        let depends = match *node {
            ExprNode::Symbol(_) => true,
            ExprNode::Number(_) | ExprNode::Decimal(..) | ExprNode::Pi | ExprNode::Imaginary => false,
            ExprNode::Negative(a) | ExprNode::Call(_, a) => dependent[a],
            ExprNode::Sum(a, b)
            | ExprNode::Difference(a, b)
            | ExprNode::Product(a, b)
            | ExprNode::Quotient(a, b)
            | ExprNode::Power(a, b) => dependent[a] || dependent[b],
        };
        dependent.push(depends);
    }
    dependent
}

/// Whether the exact value is zero at the integer point that `seed` selects.
fn is_zero_exactly(tree: &Tree, dependent: &[bool], seed: u64, budget: &mut Budget) -> Result<bool, Failure> {
    let factorial =
        |node: &ExprNode| matches!(node, ExprNode::Call(Function::Factorial | Function::DoubleFactorial, _));
    // A factorial has an exact value only at small positive integers.
    let small = tree.nodes.iter().any(factorial);
    let mut random = SplitMix(seed ^ 0x5eed_0f7e_57ed_90e5);
    let mut coordinate = || {
        if small {
            return Rational::from(20 + i64::try_from(random.next() % 100).unwrap_or(0));
        }
        // Odd and between -2^22 and 2^22: far from the small numbers in answers.
        let half = i64::try_from(random.next() >> 42).unwrap_or(0) - (1 << 21);
        Rational::from(2 * half + 1)
    };
    let point: Vec<Rational> = tree.symbols.iter().map(|_| coordinate()).collect();
    exact::evaluate(tree, dependent, &point, budget).map(|value| value.is_zero())
}

/// Coordinates with real and imaginary parts between -2 and 2, in a quadrant chosen by the seed. A
/// root takes another branch in another quadrant, so every quadrant must be visited.
fn complex_point(tree: &Tree, seed: u64) -> Vec<Complex> {
    let mut random = SplitMix(seed ^ 0xc0_ffee_5eed);
    let mut part = |negative: bool| {
        let value = Rational::from_parts((random.next() >> 1).into(), UBig::ONE << 62);
        let value = BigFloat::rational(&value).unwrap_or_else(BigFloat::zero);
        if negative { value.negated() } else { value }
    };
    let quadrant = |symbol: u64| seed + symbol * (seed / 4) * 2;
    let symbols = (0..).take(tree.symbols.len());
    symbols.map(|symbol| Complex::new(part(quadrant(symbol) & 1 == 1), part(quadrant(symbol) & 2 == 2))).collect()
}

/// Whether the high-precision value is zero at a complex point, up to rounding.
fn is_zero_numerically(tree: &Tree, point: &[Complex], budget: &mut Budget) -> Result<bool, Failure> {
    let result = numeric::evaluate(tree, point, budget)?;
    let magnitude = result.value.magnitude();
    if magnitude >= result.scale - PRECISION.cast_signed() + GUARD {
        return Ok(false);
    }
    // Next to numbers so large that they use all digits, a sizeable difference is lost and nothing
    // is known.
    if magnitude > SMALL { Err(Failure::TooLarge) } else { Ok(true) }
}

/// SplitMix64 generator: the points must never change.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Difference};

    fn difference(first: &str, second: &str) -> Difference {
        super::difference(first, second, &mut Budget::new())
    }

    #[test]
    fn a_large_number_does_not_hide_a_difference() {
        let nines = "9".repeat(106);
        for (first, second) in [(format!("{nines}!"), "4^x"), (format!("4^x+{nines}"), &*format!("x+{nines}"))] {
            assert_eq!(difference(&first, second), Difference::Unknown);
            assert_eq!(difference(second, &first), Difference::Unknown);
        }
        assert_eq!(difference("10^60*pi", "pi*10^60"), Difference::Zero);
    }

    #[test]
    fn equal_expressions_are_equal() {
        let pairs = [
            ("7+3/4", "31/4"),
            ("2sqrt(3)", "sqrt(12)"),
            ("1/sqrt(2)", "sqrt(2)/2"),
            ("1/(sqrt(2)+sqrt(3))", "sqrt(3)-sqrt(2)"),
            ("sqrt(2)+sqrt(3)", "sqrt(5+2sqrt(6))"),
            ("x(x+1)", "x^2+x"),
            ("(x^2-1)/(x-1)", "x+1"),
            ("0.5x", "x/2"),
            ("4^x", "2^x*2^x"),
            ("sqrt(4x)", "2sqrt(x)"),
            ("ln(4)", "2ln(2)"),
            ("3pi/6", "0.5pi"),
            ("sqrt(-4)", "2j"),
            ("no", "on"),
            ("n!/(n-1)!", "n"),
            ("(x+1)!", "(1+x)!"),
            ("(9^9)^9", "(3^9)^9*(3^9)^9"),
            ("8**(1/3)", "2"),
            ("x^-1", "1/x"),
            ("5!", "120"),
            ("5!!", "15"),
            ("sqrt(7,)", "sqrt(7)"),
            ("0.6923076923076923", "27/39"),
            ("-27/39", "-0.6923076923076923"),
            ("(xy)!", "((xy)!)"),
            ("x**834", "(x**834)"),
            ("1293!", "(1293!)"),
            ("10**5469", "(10**5469)"),
            ("pi\n!", "pi!"),
            ("x(\nx\r)", "x*x"),
            ("5\tx", "5x"),
            ("1+\r\nx", "x+1"),
        ];
        for (a, b) in pairs {
            assert_eq!(difference(a, b), Difference::Zero, "{a} {b}");
        }
    }

    #[test]
    fn different_expressions_differ() {
        let pairs = [
            ("sqrt(x^2)", "x"),
            ("sqrt(x^4)", "x^2"),
            ("ln(x^2)", "2ln(x)"),
            ("sqrt(x)*sqrt(y)", "sqrt(x*y)"),
            ("pi", "3.14159265358979323846264338327950288"),
            ("x", "y"),
            ("2^x", "x^2"),
            ("(9^9)^9+1", "(9^9)^9"),
            ("(x+1)!", "(x+2)!"),
            ("csc(1)", "csc(2)"),
            ("0.3333333333333333", "1/3"),
            ("0.692307692307692", "9/13"),
        ];
        for (a, b) in pairs {
            assert_eq!(difference(a, b), Difference::NotZero, "{a} {b}");
        }
    }

    #[test]
    fn undecidable_pairs_are_unknown() {
        let long = "1+".repeat(600) + "1";
        let tower = "(".repeat(40) + "9" + &"^9)".repeat(40);
        let pairs = [
            ("1/0", "2/0"),
            ("oo", "2oo"),
            ("a.", "a"),
            ("1/(x-x)", "1"),
            (&long, "601"),
            (&tower, "1"),
            ("99999999!", "1"),
            ("1/0", "(1/0)"),
            ("ln(0)", "(ln(0))"),
            ("1/(x-x)", "(1/(x-x))"),
            // A line end keeps sympy from inserting a product, and white space is the operand of a
            // factorial.
            ("5\r\nx", "5x"),
            ("5\rx", "5x"),
            ("x\n(x)", "x*x"),
            ("0.5\t!", "0.5!"),
            ("1)\n+(1", "2"),
        ];
        for (a, b) in pairs {
            assert_eq!(difference(a, b), Difference::Unknown, "{a} {b}");
        }
    }
}
