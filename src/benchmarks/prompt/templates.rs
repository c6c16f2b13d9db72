//! The templates of the protocols.

use super::template::{OptionStyle, Placement, Template};
use crate::benchmarks::item::{BenchmarkItem, QuestionKind};
use crate::benchmarks::name::Benchmark;
use crate::benchmarks::protocol::Protocol;

/// The question alone.
const BARE: &str = "{{image}}{{question}}";

/// MMMU, options.
const MMMU_CHOICE: &str =
    "{{image}}{{question}}\n\n{{options}}\n\nReply with nothing but the letter of the right option.";
/// MMMU, open questions.
const MMMU_OPEN: &str = "{{image}}{{question}}\n\nReply with one word or a short phrase only.";
/// VisNumBench: three lines, indented by eight blanks.
const VIS_NUM_BENCH: &str = "{{image}}        Question: {{question}}\n        Options: {{options}}\n        Choose the option that answers the question.";
/// MATH-Vision, options.
const MATH_VISION_CHOICE: &str = "{{image}}Work through the problem step by step, and put the final answer into a single \\boxed{}.\n{{question}}\n{{options}}\nThe final answer is the letter of one option.";
/// MATH-Vision, free answers.
const MATH_VISION_OPEN: &str =
    "{{image}}Work through the problem step by step, and put the final answer into a single \\boxed{}.\n{{question}}";
/// MMStar, options in the question or below it.
const MM_STAR: &str = "{{image}}{{question}}\n{{options}}\nReply with the letter of the right option.";
/// RealWorldQA; the published text has options and instruction.
const REAL_WORLD_QA: &str = "{{image}}{{question}}\n{{options}}\n";

/// VLMEvalKit's common form.
const VLMEVALKIT_CHOICE: &str = "{{image}}Hint: {{hint}}\nQuestion: {{question}}\nOptions:\n{{options}}\nChoose the right option from those above.\n";
/// VLMEvalKit's common form, options in the question.
const VLMEVALKIT_INSIDE: &str =
    "{{image}}Hint: {{hint}}\nQuestion: {{question}}\nChoose the right option from those above.\n";
/// VLMEvalKit's common form without options: no instruction.
const VLMEVALKIT_OPEN: &str = "{{image}}Hint: {{hint}}\nQuestion: {{question}}\n";

/// VisPlay: reasoning, then a box.
const VISPLAY: &str = "{{image}}{{question}}\n{{options}}\nThink about it inside <think> and </think> first. Then write the final answer inside \\boxed{}.";
/// Ours.
const GENERIC: &str =
    "{{image}}{{question}}\n{{options}}\nReason step by step, then write the final answer inside \\boxed{}.";

/// Returns the template for an item; `None` if the protocol is not defined for its benchmark.
pub(super) fn template(item: &BenchmarkItem, protocol: Protocol) -> Option<Template> {
    use Benchmark::{HallusionBench, MathVerse, MathVision, MmStar, MmVet, Mmmu, RealWorldQa, VisNumBench};
    if !protocol.is_defined_for(item.benchmark) {
        return None;
    }
    let is_choice = item.kind == QuestionKind::MultipleChoice && !item.options.is_empty();
    let text = match (protocol, item.benchmark) {
        (Protocol::Visplay, _) => VISPLAY,
        (Protocol::Generic, _) => GENERIC,
        // MathVerse prescribes the whole text, as `query`.
        (_, MmVet | HallusionBench | MathVerse) => BARE,
        (Protocol::Official, Mmmu) if is_choice => MMMU_CHOICE,
        (Protocol::Official, Mmmu) => MMMU_OPEN,
        (Protocol::Official, VisNumBench) => VIS_NUM_BENCH,
        (Protocol::Official, MathVision) if is_choice => MATH_VISION_CHOICE,
        (Protocol::Official, MathVision) => MATH_VISION_OPEN,
        (Protocol::Official, MmStar) => MM_STAR,
        (Protocol::Official, RealWorldQa) => REAL_WORLD_QA,
        (Protocol::VlmEvalKit, MathVision) => BARE,
        _ if is_choice && item.has_options_in_question => VLMEVALKIT_INSIDE,
        _ if is_choice => VLMEVALKIT_CHOICE,
        _ => VLMEVALKIT_OPEN,
    };
    let style = match (protocol, item.benchmark) {
        (Protocol::Official, VisNumBench) => OptionStyle::OneLine,
        (Protocol::Official, Mmmu) => OptionStyle::Bracketed,
        _ => OptionStyle::Dotted,
    };
    let placement = match (protocol, item.benchmark) {
        (Protocol::VlmEvalKit, Mmmu) => Placement::AtMarks,
        _ => Placement::AtVariable,
    };
    Some(Template::unchecked(text, style, placement))
}
