//! The `rejects` table: everything that a stage left out, with the reason. Rows in = rows out +
//! rejects.

use super::row::table;
use crate::ids::Digest;

table! {
    /// A file or row that was left out.
    #[table("rejects")]
    pub struct RejectRow {
        /// Stage that left it out, such as ingest or curriculum.
        pub stage: String,
        /// Path within the source, or id of the row.
        pub subject: String,
        /// Row of the source if it is a table, from 0; null otherwise.
        pub subject_row: Option<u64>,
        /// Id of the file or row, if it has one; the BLAKE3 digest of its bytes for a file that
        /// could be read.
        pub subject_id: Option<Digest>,
        /// Reason as a stable code, such as truncated or near_duplicate.
        pub reason: String,
        /// Explanation of the reason for a person; may be empty.
        pub detail: String,
        /// For a duplicate of any kind, the id of the one that was kept.
        pub twin_id: Option<Digest>,
    }
}
