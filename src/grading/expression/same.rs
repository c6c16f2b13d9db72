//! Equality that needs no evaluation: both sides are the same tree, and it surely has a value.

use super::syntax::{Function, Node, NodeId, Tree};

/// Whether a tree is `a-b` with `a` and `b` the same step by step and nothing in them that may be undefined.
///
/// `1293!` is `(1293!)` though its digits are too many to work out. Where a denominator, a logarithm or a factorial
/// might be undefined, the answer is no and evaluation decides: 1/0 is not 1/0.
pub(super) fn is_same_twice(tree: &Tree) -> bool {
    let Some(&Node::Difference(first, second)) = tree.nodes.last() else { return false };
    // Operands are pushed before their users, so each side is one run of nodes.
    let start = first + 1;
    let shifted = |node: &Node| shifted(node, start);
    second - first == start
        && tree.nodes[..start].iter().map(shifted).eq(tree.nodes[start..=second].iter().cloned())
        && (0..start).all(|at| has_value(tree, at))
}

fn shifted(node: &Node, by: usize) -> Node {
    match *node {
        Node::Negative(a) => Node::Negative(a + by),
        Node::Call(function, a) => Node::Call(function, a + by),
        Node::Sum(a, b) => Node::Sum(a + by, b + by),
        Node::Difference(a, b) => Node::Difference(a + by, b + by),
        Node::Product(a, b) => Node::Product(a + by, b + by),
        Node::Quotient(a, b) => Node::Quotient(a + by, b + by),
        Node::Power(a, b) => Node::Power(a + by, b + by),
        ref leaf => leaf.clone(),
    }
}

/// Whether one step has a value if its operands have.
fn has_value(tree: &Tree, at: NodeId) -> bool {
    match tree.nodes[at] {
        Node::Quotient(_, below) => is_never_zero(tree, below),
        Node::Power(base, exponent) => is_never_zero(tree, base) || is_natural(tree, exponent),
        Node::Call(Function::SquareRoot, _) => true,
        Node::Call(Function::Logarithm, a) => is_never_zero(tree, a),
        Node::Call(Function::Factorial | Function::DoubleFactorial, a) => is_natural(tree, a) || is_monomial(tree, a),
        Node::Call(Function::Fraction | Function::Cosecant, _) => false,
        _ => true,
    }
}

/// A literal, a symbol, and products, quotients, powers and roots of them.
fn is_never_zero(tree: &Tree, at: NodeId) -> bool {
    match tree.nodes[at] {
        Node::Number(ref value) | Node::Decimal(ref value, _) => !value.is_zero(),
        Node::Symbol(_) | Node::Pi | Node::Imaginary => true,
        Node::Negative(a) | Node::Power(a, _) | Node::Call(Function::SquareRoot, a) => is_never_zero(tree, a),
        Node::Product(a, b) | Node::Quotient(a, b) => is_never_zero(tree, a) && is_never_zero(tree, b),
        Node::Call(Function::Factorial | Function::DoubleFactorial, _) => has_value(tree, at),
        _ => false,
    }
}

/// An integer literal (none has a sign), or the factorial of one.
fn is_natural(tree: &Tree, at: NodeId) -> bool {
    match tree.nodes[at] {
        Node::Number(_) => true,
        Node::Call(Function::Factorial | Function::DoubleFactorial, a) => is_natural(tree, a),
        _ => false,
    }
}

fn is_monomial(tree: &Tree, at: NodeId) -> bool {
    match tree.nodes[at] {
        Node::Symbol(_) => true,
        Node::Product(a, b) => is_monomial(tree, a) && is_monomial(tree, b),
        _ => false,
    }
}
