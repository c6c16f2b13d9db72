//! `rejects`: what was left out, at any stage, and why. Rows in = rows out + rejects.

use super::row::table;
use crate::ids::Digest;

table! {
    /// A file or row that was left out.
    #[table("rejects")]
    pub struct RejectRow {
        /// The stage that left it out, such as ingest or curriculum.
        pub stage: String,
        /// What was left out: a path as its source names it, or the id of a row.
        pub subject: String,
        /// The row in a source that is a table, from 0; null otherwise.
        pub subject_row: Option<u64>,
        /// The id of what was left out, where it has one: of a file that could be read, the blake3 digest of its bytes.
        pub subject_id: Option<Digest>,
        /// Why, as a stable word to group by, such as truncated or near_duplicate.
        pub reason: String,
        /// Why, in words for a person; may be empty.
        pub detail: String,
        /// For a duplicate of any kind, the id of the one that was kept.
        pub twin_id: Option<Digest>,
    }
}
