//! Figures as the published code prints them.

use super::figure::{Figure, Metric};
use crate::benchmarks::name::Benchmark;
use crate::benchmarks::protocol::Protocol;
use crate::benchmarks::python::round::{round, round_scaled};

/// Returns a figure as the benchmark's own code or VLMEvalKit prints it, digit by digit.
pub fn printed(figure: &Figure, benchmark: Benchmark, protocol: Protocol) -> String {
    let percent = figure.value * 100.0;
    match (protocol, benchmark) {
        (Protocol::Official, Benchmark::Mmmu) => float(round(figure.value, 3)),
        (Protocol::Official, Benchmark::MmVet) => float(round_scaled(percent, 1)),
        (Protocol::Official, Benchmark::VisNumBench) => format!("{percent:.2}"),
        (Protocol::Official, Benchmark::MathVerse) => format!("{:.3}", figure.value),
        (Protocol::Official, Benchmark::MathVision) => {
            format!("{}/{}={}%", figure.hits, figure.count, float(round(percent, 2)))
        }
        (Protocol::Official, Benchmark::HallusionBench) if figure.metric != Metric::MeanOfThree => {
            float(round(100.0 * figure.hits / figure.count.max(1) as f64, 4))
        }
        (Protocol::Official, Benchmark::MmStar) => float(figure.value),
        (Protocol::VlmEvalKit, Benchmark::Mmmu | Benchmark::MmStar | Benchmark::RealWorldQa) => float(figure.value),
        (Protocol::VlmEvalKit, _) => float(percent),
        _ => format!("{percent:.2}"),
    }
}

/// Formats a float as Python does.
fn float(x: f64) -> String {
    format!("{x:?}")
}
