//! Equality of answers compared with mathruler, and properties that hold for any input.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use visplay::grading::{Answer, compare, last_boxed};

/// A frozen pair: kind, given, gold, `grade_answer(given, gold)`, `grade_answer(gold, given)`.
type Pair = (String, String, String, Option<bool>, Option<bool>);

fn frozen() -> Vec<Pair> {
    include_str!("../oracles/grading.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Pairs on which this grader differs from mathruler on purpose; docs/grading.md gives the reasons.
/// No other pair differs.
const DIFFERENCES: [(&str, &str); 4] =
    [("0.1+0.2", "0.3"), (r"\sqrt{0.5}", r"\frac{\sqrt{2}}{2}"), ("x^2.0", "x^2"), ("x^0.5", r"\sqrt{x}")];

#[test]
fn verdicts_equal_those_of_mathruler() {
    let pairs = frozen();
    assert!(pairs.len() >= 5000);
    let mut differing = Vec::new();
    for (_, given, gold, forward, backward) in &pairs {
        let (a, b) = (Answer::new(given), Answer::new(gold));
        if (Some(a.grade(&b).equal), Some(b.grade(&a).equal)) != (*forward, *backward) {
            differing.push((given.as_str(), gold.as_str()));
        }
    }
    assert_eq!(differing, DIFFERENCES);
}

#[test]
fn compare_grades_in_both_directions() {
    for (_, given, gold, ..) in frozen() {
        let (a, b) = (Answer::new(&given), Answer::new(&gold));
        let either = a.grade(&b).equal || b.grade(&a).equal;
        assert_eq!(a.compare(&b).equal, either, "{given:?} {gold:?}");
        assert_eq!(b.compare(&a).equal, either, "{given:?} {gold:?}");
    }
}

/// Pieces of answers and of adversarial inputs.
const PIECES: &[&str] = &[
    "\\frac{",
    "\\sqrt[",
    "\\sqrt{",
    "\\begin{a}",
    "\\hat{",
    "(1,",
    "x^",
    "sqrt(x+",
    "2*",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\\",
    "^",
    "_",
    "+",
    "-",
    "*",
    "/",
    "=",
    ".",
    ",",
    "!",
    "$",
    "%",
    "&",
    "~",
    "'",
    "\"",
    " ",
    "\n",
    "0",
    "1",
    "9",
    "12",
    "999",
    "x",
    "y",
    "e",
    "j",
    "pi",
    "√",
    "π",
    "²",
    "é",
    "北",
    "^9",
    "^(",
    "**",
    "sqrt(",
    "ln(",
    "frac",
    "\\frac",
    "\\sqrt",
    "\\text{",
    "\\left(",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "\\\\",
    "\\boxed{",
    "million",
    "meters",
    "9^9^9",
    "!!!",
    "\\(",
    "1e999",
];

/// The SplitMix64 generator, so that a failing input can be reproduced from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    /// Returns random pieces, a real answer with some characters changed, or one piece repeated.
    fn text(&mut self, pairs: &[Pair]) -> String {
        match self.below(8) {
            0..3 => (0..self.below(24)).map(|_| PIECES[self.below(PIECES.len())]).collect(),
            3 => {
                let most = [40, 700][self.below(2)];
                let (open, close, times) =
                    (PIECES[self.below(PIECES.len())], PIECES[self.below(PIECES.len())], self.below(most));
                open.repeat(times) + PIECES[self.below(PIECES.len())] + &close.repeat(times)
            }
            _ => {
                let mut chars: Vec<char> = pairs[self.below(pairs.len())].1.chars().collect();
                for _ in 0..=self.below(4) {
                    let at = self.below(chars.len() + 1);
                    match self.below(3) {
                        0 => drop(chars.splice(at..at, PIECES[self.below(PIECES.len())].chars())),
                        1 if at < chars.len() => drop(chars.remove(at)),
                        _ => chars.truncate(at.max(1)),
                    }
                }
                chars.into_iter().collect()
            }
        }
    }
}

/// Returns a long tuple of one element repeated, and one with the element written differently.
fn long_tuples(random: &mut Random) -> (String, String) {
    const SAME: &[(&str, &str)] = &[
        ("x**y+1", "1+x**y"),
        ("e^x", "e*e^x/e"),
        ("1.0/3", "2/6.0"),
        ("+x**y+x**y+x**y+x**y+x**y+x**y+x**y+1", "1+7x**y"),
        ("sqrt(x)+sqrt(y)", "sqrt(y)+sqrt(x)"),
        ("999!/998!+x", "x+999"),
        ("ln(x)ln(y)", "ln(y)ln(x)"),
        ("1/(sqrt(2)+sqrt(3)+sqrt(5))", "1/(sqrt(5)+sqrt(3)+sqrt(2))"),
        ("(x+1)**99", "(1+x)**99"),
        ("x/3+1/7y", "1/7y+x/3"),
    ];
    let (a, b) = SAME[random.below(SAME.len())];
    let most = [12, 300, 3000][random.below(3)];
    let times = 1 + random.below(most);
    (format!("({})", vec![a; times].join(",")), format!("({})", vec![b; times].join(",")))
}

/// No input makes grading panic or work for long. `VISPLAY_FUZZ=1000000` sets the number of inputs
/// and limits the slowest verdict to 50 ms, best of three tries.
#[test]
fn any_input_is_graded_in_bounded_work() {
    let asked = std::env::var("VISPLAY_FUZZ").ok().and_then(|count| count.parse().ok());
    let (count, limit) = asked.map_or((20_000, None), |count: u64| (count, Some(Duration::from_millis(50))));
    let pairs = frozen();
    let mut slowest = (Duration::ZERO, String::new());
    for seed in 0..count {
        let mut random = Random(seed);
        let (given, gold) = match random.below(64) {
            0 => long_tuples(&mut random),
            _ => (random.text(&pairs), random.text(&pairs)),
        };
        let timed = || {
            let start = Instant::now();
            let _ = last_boxed(&given);
            let verdict = compare(&given, &gold);
            (start.elapsed(), verdict)
        };
        let (mut elapsed, verdict) = timed();
        assert_eq!(verdict.equal, compare(&gold, &given).equal, "seed {seed}: {given:?} {gold:?}");
        for _ in 0..2 {
            elapsed = elapsed.min(timed().0);
        }
        if elapsed > slowest.0 {
            slowest = (elapsed, format!("seed {seed}: {given:?} {gold:?}"));
        }
    }
    println!("{count} pairs, slowest {:?}: {}", slowest.0, slowest.1);
    assert!(limit.is_none_or(|limit| slowest.0 < limit), "{slowest:?}");
}

#[test]
fn adversarial_texts_are_graded_in_bounded_work() {
    let long = [
        "9".repeat(100_000),
        "(".repeat(100_000),
        "\\frac{".repeat(20_000),
        "1,234".repeat(20_000),
        "\\text{ ".repeat(20_000),
        "{".repeat(100_000) + &"}".repeat(100_000),
        "9^9*".repeat(100) + "9",
        "(".repeat(60) + "9" + &"^9)".repeat(60),
        "-".repeat(100_000) + "1",
        "x^".repeat(200) + "x",
        "sqrt(".repeat(80) + "2" + &")".repeat(80),
        "((x+1)^9)".repeat(50),
        "1/(".repeat(100) + "x" + &")".repeat(100),
        "ln(".repeat(100) + "x" + &")".repeat(100),
        "x!".to_owned() + &"!".repeat(1000),
        "1 ".repeat(50_000),
        "\\begin{a}".repeat(10_000),
        "\\hat{x".repeat(60) + "y" + &"}".repeat(60),
        "\\begin{pmatrix} 1 & x \\\\ 2 & ".repeat(60),
        "\\frac{".repeat(40),
        "\\sqrt[\\frac{".repeat(30),
        "\\text{\\frac{1".repeat(50) + "}",
    ];
    for (at, text) in long.iter().enumerate() {
        for other in [&long[(at + 1) % long.len()], &format!("({text})"), &"1/3".to_owned()] {
            let start = Instant::now();
            let _ = compare(text, other);
            println!("{at}: {:?}", start.elapsed());
        }
        assert!(compare(text, text).equal);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equality_is_reflexive(text in "\\PC{0,40}") {
        prop_assert!(compare(&text, &text).equal);
    }

    #[test]
    fn equality_is_symmetric(a in "[-0-9a-cx.,/()^ {}\\\\]{0,12}", b in "[-0-9a-cx.,/()^ {}\\\\]{0,12}") {
        prop_assert_eq!(compare(&a, &b).equal, compare(&b, &a).equal);
    }
}
