//! Figures: shares and means over the items of a benchmark, as its own code, VLMEvalKit and
//! lmms-eval report them.
//!
//! | benchmark | file |
//! |---|---|
//! | MMMU | `mmmu.rs` |
//! | MM-Vet | `mm_vet.rs` |
//! | VisNumBench | `vis_num_bench.rs` |
//! | MathVerse | `math_verse.rs` |
//! | MATH-Vision | `math_vision.rs` |
//! | HallusionBench | `hallusion.rs`, `hallusion_causes.rs` |
//! | MMStar | `mm_star.rs` |
//! | RealWorldQA and files of one's own | `plain.rs` |
//!
//! An interval is over the units that are independent: items, groups of questions or problems.

mod figure;
pub mod hallusion;
pub mod hallusion_causes;
mod math_verse;
mod math_vision;
mod mm_star;
pub mod mm_vet;
mod mmmu;
mod plain;
mod printed;
mod share;
mod vis_num_bench;

use super::name::Benchmark;
use super::protocol::Protocol;
use crate::random::Seed;

pub use figure::{Figure, Level, Metric, ScoredItem};
pub use printed::printed;
pub use share::{ReasonShare, reason_shares};

/// Returns every figure of a benchmark, the headline first. The seed decides the resamples of
/// bootstrap intervals. Empty without items.
pub fn figures(benchmark: Benchmark, protocol: Protocol, items: &[ScoredItem<'_>], seed: Seed) -> Vec<Figure> {
    if items.is_empty() {
        return Vec::new();
    }
    match benchmark {
        Benchmark::Mmmu => mmmu::figures(protocol, items, seed),
        Benchmark::MmVet => mm_vet::figures(protocol, items, seed),
        Benchmark::RealWorldQa | Benchmark::Generic => plain::figures(items),
        Benchmark::VisNumBench => vis_num_bench::figures(items),
        Benchmark::MathVerse => math_verse::figures(items, seed),
        Benchmark::MathVision => math_vision::figures(items),
        Benchmark::HallusionBench => hallusion::figures(items, seed),
        Benchmark::MmStar => mm_star::figures(items, seed),
    }
}
