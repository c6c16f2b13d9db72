//! Output of the commands: results on standard output, messages and progress on standard error.

pub mod format;
pub mod jsonl;
pub mod mistaken_files;
pub mod progress;
pub mod readers;
pub mod round_table;
pub mod store_log;
pub mod table_files;
pub mod ui;
pub mod under_way;
