//! Test, without evaluation, whether both sides of a difference are the same expression and
//! certainly have a value.

use super::syntax::{ExprId, ExprNode, Function, Tree};

/// Whether a tree is `a-b` with identical `a` and `b` that contain nothing that may be undefined.
///
/// `1293!` equals `(1293!)` although it has too many digits to evaluate. If a denominator,
/// logarithm or factorial might be undefined, evaluation decides instead: 1/0 does not equal 1/0.
pub(super) fn has_identical_sides(tree: &Tree) -> bool {
    let Some(&ExprNode::Difference(first, second)) = tree.nodes.last() else { return false };
    // Operands are pushed before their users, so each side is a contiguous range of nodes.
    let start = first + 1;
    let shift_operands = |node: &ExprNode| shift_operands(node, start);
    second - first == start
        && tree.nodes[..start].iter().map(shift_operands).eq(tree.nodes[start..=second].iter().cloned())
        && (0..start).all(|at| has_value(tree, at))
}

fn shift_operands(node: &ExprNode, by: usize) -> ExprNode {
    match *node {
        ExprNode::Negative(a) => ExprNode::Negative(a + by),
        ExprNode::Call(function, a) => ExprNode::Call(function, a + by),
        ExprNode::Sum(a, b) => ExprNode::Sum(a + by, b + by),
        ExprNode::Difference(a, b) => ExprNode::Difference(a + by, b + by),
        ExprNode::Product(a, b) => ExprNode::Product(a + by, b + by),
        ExprNode::Quotient(a, b) => ExprNode::Quotient(a + by, b + by),
        ExprNode::Power(a, b) => ExprNode::Power(a + by, b + by),
        ref leaf => leaf.clone(),
    }
}

/// Whether a node has a value if its operands have.
fn has_value(tree: &Tree, at: ExprId) -> bool {
    match tree.nodes[at] {
        ExprNode::Quotient(_, below) => is_never_zero(tree, below),
        ExprNode::Power(base, exponent) => is_never_zero(tree, base) || is_natural(tree, exponent),
        ExprNode::Call(Function::SquareRoot, _) => true,
        ExprNode::Call(Function::Logarithm, a) => is_never_zero(tree, a),
        ExprNode::Call(Function::Factorial | Function::DoubleFactorial, a) => {
            is_natural(tree, a) || is_monomial(tree, a)
        }
        ExprNode::Call(Function::Fraction | Function::Cosecant, _) => false,
        _ => true,
    }
}

/// Whether a node is a non-zero literal or a symbol, or a product, quotient, power or root of such
/// nodes.
fn is_never_zero(tree: &Tree, at: ExprId) -> bool {
    match tree.nodes[at] {
        ExprNode::Number(ref value) | ExprNode::Decimal(ref value, _) => !value.is_zero(),
        ExprNode::Symbol(_) | ExprNode::Pi | ExprNode::Imaginary => true,
        ExprNode::Negative(a) | ExprNode::Power(a, _) | ExprNode::Call(Function::SquareRoot, a) => {
            is_never_zero(tree, a)
        }
        ExprNode::Product(a, b) | ExprNode::Quotient(a, b) => is_never_zero(tree, a) && is_never_zero(tree, b),
        ExprNode::Call(Function::Factorial | Function::DoubleFactorial, _) => has_value(tree, at),
        _ => false,
    }
}

/// Whether a node is an integer literal (literals have no sign) or a factorial of one.
fn is_natural(tree: &Tree, at: ExprId) -> bool {
    match tree.nodes[at] {
        ExprNode::Number(_) => true,
        ExprNode::Call(Function::Factorial | Function::DoubleFactorial, a) => is_natural(tree, a),
        _ => false,
    }
}

fn is_monomial(tree: &Tree, at: ExprId) -> bool {
    match tree.nodes[at] {
        ExprNode::Symbol(_) => true,
        ExprNode::Product(a, b) => is_monomial(tree, a) && is_monomial(tree, b),
        _ => false,
    }
}
