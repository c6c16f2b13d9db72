//! Rejections: reasons why a row was left out, as stages return them and as the `rejects` table
//! stores them.

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};

use crate::ids::Digest;
use crate::tables::RejectRow;

/// The reason why a row was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rejection {
    /// Stable word to group by, such as `too_long`.
    pub reason: Cow<'static, str>,
    /// Explanation for people; may be empty.
    pub detail: String,
    /// Id of the row that was kept in its place, for a duplicate.
    #[serde(skip)]
    pub twin: Option<Digest>,
}

impl Rejection {
    /// Returns the rejection of a row that is not a duplicate.
    pub fn new(reason: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: detail.into(), twin: None }
    }

    /// Converts to the row of the `rejects` table for a subject of `stage`.
    pub fn into_row(self, stage: &str, subject: String, subject_id: Option<Digest>) -> RejectRow {
        RejectRow {
            stage: stage.to_owned(),
            subject,
            subject_row: None,
            subject_id,
            reason: self.reason.into_owned(),
            detail: self.detail,
            twin_id: self.twin,
        }
    }
}

/// Returns an I/O error without its number, which differs between systems.
pub(super) fn error_text(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => e.to_string(),
    }
}
