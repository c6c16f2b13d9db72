//! Shares of items without an answer of the model.

use serde::{Deserialize, Serialize};

use super::figure::ScoredItem;
use crate::benchmarks::outcome::Reason;

/// Share of items with a reason.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReasonShare {
    /// The reason.
    pub reason: Reason,
    /// Number of items with it.
    pub items: u64,
    /// Share of all items.
    pub share: f64,
}

/// Returns the share of each reason, also of those that no item has.
pub fn reason_shares(items: &[ScoredItem<'_>]) -> Vec<ReasonShare> {
    let of = |reason| {
        let count = items.iter().filter(|item| item.reason == Some(reason)).count();
        ReasonShare { reason, items: count as u64, share: count as f64 / items.len().max(1) as f64 }
    };
    Reason::ALL.into_iter().map(of).collect()
}
