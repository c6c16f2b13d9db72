//! Protocols: who measures a benchmark how.

use serde::{Deserialize, Serialize};

use super::item::{BenchmarkItem, QuestionKind};
use super::name::Benchmark;

/// Area of an image patch of Qwen2.5-VL after merging, in pixels.
const PATCH: u64 = 28 * 28;

/// A way of measuring a benchmark. Figures of different protocols cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The benchmark's own code.
    Official,
    /// VLMEvalKit's, which leaderboards and model cards quote.
    VlmEvalKit,
    /// VisPlay's, of the paper's table 1.
    Visplay,
    /// Our own, for any file: the grader decides.
    Generic,
}

/// Bounds of an image's area in pixels, to which it is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PixelBudget {
    /// Minimum; smaller images are enlarged.
    pub min: u64,
    /// Maximum.
    pub max: u64,
}

/// Step before a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PreStep {
    /// The rule reads the whole response, as the published code does.
    Raw,
    /// The rule reads the answer's part: behind the thinking, in the tag, in the box.
    #[default]
    Answer,
}

/// Rule that reads an answer out of a response and decides whether it is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// MMMU's letters, with a random one where none is found.
    MmmuOfficialChoice,
    /// MMMU's open questions.
    MmmuOfficialOpen,
    /// VLMEvalKit's letters.
    #[serde(rename = "vlmevalkit-choice")]
    VlmEvalKitChoice,
    /// VLMEvalKit's yes and no.
    #[serde(rename = "vlmevalkit-yesno")]
    VlmEvalKitYesNo,
    /// VLMEvalKit's MATH-Vision.
    #[serde(rename = "vlmevalkit-mathv")]
    VlmEvalKitMathVision,
    /// lmms-eval's RealWorldQA.
    #[serde(rename = "lmmseval-realworldqa")]
    LmmsEvalRealWorldQa,
    /// MMStar's letters.
    #[serde(rename = "mmstar-official")]
    MmStarOfficial,
    /// MATH-Vision's own.
    #[serde(rename = "mathv-official")]
    MathVisionOfficial,
    /// Our own letters.
    VisplayChoice,
    /// Our grader on the answer's part.
    Grader,
    /// No rule: only a judge decides.
    Judge,
}

impl Rule {
    /// Returns the name in predictions and scores.
    pub fn name(self) -> &'static str {
        match self {
            Self::MmmuOfficialChoice => "mmmu-official-choice",
            Self::MmmuOfficialOpen => "mmmu-official-open",
            Self::VlmEvalKitChoice => "vlmevalkit-choice",
            Self::VlmEvalKitYesNo => "vlmevalkit-yesno",
            Self::VlmEvalKitMathVision => "vlmevalkit-mathv",
            Self::LmmsEvalRealWorldQa => "lmmseval-realworldqa",
            Self::MmStarOfficial => "mmstar-official",
            Self::MathVisionOfficial => "mathv-official",
            Self::VisplayChoice => "visplay-choice",
            Self::Grader => "grader",
            Self::Judge => "judge",
        }
    }
}

/// Settings that a protocol prescribes for a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProtocolSettings {
    /// Bounds of an image's area; `None` means those of the checkpoint.
    pub pixels: Option<PixelBudget>,
    /// Largest number of tokens of a response.
    pub max_new_tokens: u32,
    /// Default step before the rule.
    pub pre_step: PreStep,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 4] = [Self::Official, Self::VlmEvalKit, Self::Visplay, Self::Generic];

    /// Returns the name in arguments and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Official => "official",
            Self::VlmEvalKit => "vlmevalkit",
            Self::Visplay => "visplay",
            Self::Generic => "generic",
        }
    }

    /// Returns the protocol of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == name)
    }

    /// Whether the protocol is defined for a benchmark. VLMEvalKit has no VisNumBench, and files of
    /// one's own have only ours.
    pub fn is_defined_for(self, benchmark: Benchmark) -> bool {
        match (self, benchmark) {
            (Self::Generic, _) => true,
            (_, Benchmark::Generic) | (Self::VlmEvalKit, Benchmark::VisNumBench) => false,
            _ => true,
        }
    }

    /// Returns the settings for a benchmark; `None` if the protocol is not defined for it.
    pub fn settings(self, benchmark: Benchmark) -> Option<ProtocolSettings> {
        if !self.is_defined_for(benchmark) {
            return None;
        }
        let pixels = match self {
            Self::VlmEvalKit => Some(PixelBudget { min: 1280 * PATCH, max: 16384 * PATCH }),
            Self::Visplay => Some(PixelBudget { min: 262_144, max: 4_194_304 }),
            Self::Official | Self::Generic => None,
        };
        Some(ProtocolSettings { pixels, max_new_tokens: 2048, pre_step: PreStep::default() })
    }

    /// Returns the rule for an item; `None` if the protocol is not defined for its benchmark.
    pub fn rule(self, item: &BenchmarkItem) -> Option<Rule> {
        use Benchmark::{
            Generic, HallusionBench, MathVerse, MathVision, MmStar, MmVet, Mmmu, RealWorldQa, VisNumBench,
        };
        if !self.is_defined_for(item.benchmark) {
            return None;
        }
        let is_choice = item.kind == QuestionKind::MultipleChoice;
        let ours = match item.kind {
            QuestionKind::MultipleChoice => Rule::VisplayChoice,
            QuestionKind::YesNo => Rule::VlmEvalKitYesNo,
            QuestionKind::Open => Rule::Grader,
        };
        Some(match (self, item.benchmark) {
            (_, MmVet) => Rule::Judge,
            // Open questions are decided alike everywhere: VLMEvalKit takes any letter A for right.
            (_, Mmmu) if !is_choice => Rule::MmmuOfficialOpen,
            (Self::Official, Mmmu) => Rule::MmmuOfficialChoice,
            (Self::Official, RealWorldQa) => Rule::LmmsEvalRealWorldQa,
            (Self::Official, MmStar) => Rule::MmStarOfficial,
            (Self::Official, MathVision) => Rule::MathVisionOfficial,
            // HallusionBench's and VisNumBench's own code asks a judge about every response.
            (Self::Official, HallusionBench | VisNumBench) => Rule::Judge,
            (Self::VlmEvalKit, MathVision) => Rule::VlmEvalKitMathVision,
            (Self::VlmEvalKit, HallusionBench) => Rule::VlmEvalKitYesNo,
            (Self::VlmEvalKit, Mmmu | MmStar | RealWorldQa) if is_choice => Rule::VlmEvalKitChoice,
            (Self::VlmEvalKit, RealWorldQa) => Rule::LmmsEvalRealWorldQa,
            (_, RealWorldQa | VisNumBench | MathVerse | MathVision | HallusionBench | MmStar | Mmmu | Generic) => ours,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixel_budgets_are_the_published_ones() {
        let pixels = |protocol: Protocol| protocol.settings(Benchmark::Mmmu).and_then(|settings| settings.pixels);
        assert_eq!(pixels(Protocol::VlmEvalKit), Some(PixelBudget { min: 1_003_520, max: 12_845_056 }));
        assert_eq!(pixels(Protocol::Visplay), Some(PixelBudget { min: 262_144, max: 4_194_304 }));
        assert_eq!(pixels(Protocol::Official), None);
        assert_eq!(Protocol::VlmEvalKit.settings(Benchmark::VisNumBench), None);
        assert_eq!(Protocol::Official.settings(Benchmark::Generic), None);
    }

    #[test]
    fn names_are_those_of_the_stored_form() {
        for protocol in Protocol::ALL {
            assert_eq!(serde_json::to_value(protocol).unwrap(), protocol.name());
            assert_eq!(Protocol::by_name(protocol.name()), Some(protocol));
        }
        for rule in [Rule::VlmEvalKitChoice, Rule::MmmuOfficialOpen, Rule::VisplayChoice, Rule::MathVisionOfficial] {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.name());
        }
    }
}
