//! MM-Vet: grades from 0 to 1, which only a judge can give.

use super::{Calls, Reply};
use crate::grading::characters::{parse_float, strip};

/// Temperature is raised by this with every call that gave no grade.
const WARMER: f64 = 0.5;
/// Calls of VLMEvalKit for one item.
const VLMEVALKIT_CALLS: u32 = 5;
/// Calls of MM-Vet's own code for one item.
const OFFICIAL_CALLS: u32 = 6;

/// Grades an item as MM-Vet's own code does, and returns the grade with the calls.
///
/// The grade is what stands before the first blank. A bad one is asked for again with a nudge, at
/// most five times at 0, 0.5, .. 2.0; the last reply is not read. A call that the rate limit
/// refuses is made once more without end, and the count of bad grades then begins anew. A grade
/// `nan` passes the check of its range, as upstream; users should refuse it.
pub fn grade_official(mut ask: impl FnMut(f64) -> Reply) -> (f64, Calls) {
    let mut calls = Calls::default();
    let mut temperature = 0.0;
    'anew: loop {
        let mut tries = 1;
        let Reply::Text(mut text) = calls.ask(temperature, &mut ask) else { continue };
        loop {
            if let Some(grade) = grade(text.split(' ').next().unwrap_or_default()) {
                return (grade, calls);
            }
            let Reply::Text(next) = calls.ask(temperature, &mut ask) else { continue 'anew };
            text = next;
            tries += 1;
            temperature += WARMER;
            if tries >= OFFICIAL_CALLS {
                return (0.0, calls);
            }
        }
    }
}

/// Grades an item as VLMEvalKit does, and returns the grade with the calls: the whole reply is the
/// grade, in five calls at 0, 0.5, .. 2.0; else it is 0.
pub fn grade_vlmevalkit(mut ask: impl FnMut(f64) -> Reply) -> (f64, Calls) {
    let mut calls = Calls::default();
    for call in 0..VLMEVALKIT_CALLS {
        if let Reply::Text(text) = calls.ask(WARMER * f64::from(call), &mut ask)
            && let Some(grade) = grade(&text)
        {
            return (grade, calls);
        }
    }
    (0.0, calls)
}

/// Reads a grade in 0 to 1, or `nan`.
fn grade(text: &str) -> Option<f64> {
    parse_float(strip(text)).filter(|grade| !(*grade < 0.0 || *grade > 1.0))
}
