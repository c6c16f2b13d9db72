//! Names of the benchmarks.

use serde::{Deserialize, Serialize};

/// A published benchmark, or a file of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Benchmark {
    /// MMMU: college subjects, several images an item.
    Mmmu,
    /// MM-Vet: free answers that a judge grades.
    MmVet,
    /// RealWorldQA: traffic and everyday scenes.
    RealWorldQa,
    /// VisNumBench: angles, lengths, counts and other numbers.
    VisNumBench,
    /// MathVerse: one problem in six versions.
    MathVerse,
    /// MATH-Vision: competition problems.
    MathVision,
    /// HallusionBench: yes or no, in groups that belong together.
    HallusionBench,
    /// MMStar: items that need their image.
    MmStar,
    /// Any file with images, questions and answers.
    Generic,
}

impl Benchmark {
    /// Every benchmark, in the order of the paper's table.
    pub const ALL: [Self; 9] = [
        Self::Mmmu,
        Self::MmVet,
        Self::RealWorldQa,
        Self::VisNumBench,
        Self::MathVerse,
        Self::MathVision,
        Self::HallusionBench,
        Self::MmStar,
        Self::Generic,
    ];

    /// Returns the name in arguments and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mmmu => "mmmu",
            Self::MmVet => "mmvet",
            Self::RealWorldQa => "realworldqa",
            Self::VisNumBench => "visnumbench",
            Self::MathVerse => "mathverse",
            Self::MathVision => "mathvision",
            Self::HallusionBench => "hallusionbench",
            Self::MmStar => "mmstar",
            Self::Generic => "generic",
        }
    }

    /// Returns the benchmark of a name. Case, blanks, `-` and `_` do not matter.
    pub fn by_name(name: &str) -> Option<Self> {
        let name: String = name.to_lowercase().replace(['-', '_', ' '], "");
        let name = if name == "mathv" { "mathvision" } else { &name };
        Self::ALL.into_iter().find(|benchmark| benchmark.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_people_write_them() {
        for benchmark in Benchmark::ALL {
            assert_eq!(Benchmark::by_name(benchmark.name()), Some(benchmark));
            assert_eq!(serde_json::to_value(benchmark).unwrap(), benchmark.name());
        }
        assert_eq!(Benchmark::by_name("MM-Vet"), Some(Benchmark::MmVet));
        assert_eq!(Benchmark::by_name("MATH-V"), Some(Benchmark::MathVision));
        assert_eq!(Benchmark::by_name("mme"), None);
    }
}
