//! Analysis: questions about tables, answered by Polars.

pub mod preview;
pub mod rescore;
