//! Analysis of stored tables: audits, comparisons, lineage, rescoring and statistics.

pub mod boxes;
pub mod compare;
pub mod consistency;
pub mod labels;
pub mod lineage;
pub mod preview;
pub mod rescore;
