//! Prompts of the protocols: our words in the published structure.
//!
//! The order, how options are written and where images stand is each protocol's; the words
//! are ours. `docs/benchmarks.md` says where the published words are found. A template file
//! replaces them: `{{question}}`, `{{options}}`, `{{hint}}` and `{{image}}` stand for the item's
//! parts, and a line with an empty part is left out.

mod template;
mod templates;

use super::item::BenchmarkItem;
use super::protocol::Protocol;

pub use template::{OptionStyle, Placement, Template, TemplateError};

/// Part of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptPart {
    /// A text.
    Text(String),
    /// An image of the item, from 0.
    Image(usize),
}

/// Builds the prompt of an item. `None` if the protocol is not defined for its benchmark.
pub fn build(item: &BenchmarkItem, protocol: Protocol) -> Option<Vec<PromptPart>> {
    Some(templates::template(item, protocol)?.fill(item))
}

/// Returns the published template of a protocol for an item's benchmark and kind.
pub fn template(item: &BenchmarkItem, protocol: Protocol) -> Option<Template> {
    templates::template(item, protocol)
}
