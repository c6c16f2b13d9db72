//! Files among the sources of an ingest that are no images, but of a kind that tells what went
//! wrong.

use std::collections::BTreeMap;

use super::ui::Ui;
use crate::input_kind::{RecognizedFile, kind_in_rejection};
use crate::stages::ingest::IngestSummary;
use crate::stages::read_rows;
use crate::store::Store;
use crate::tables::SourceRow;

/// Reports how many of the rejected files are of such a kind, and what to do, if an ingest met new
/// ones.
pub fn say_mistaken_files(done: &IngestSummary, store: &Store, ui: &Ui) {
    if !done.new_rejects.keys().any(|reason| reason.as_str() == "not_an_image") {
        return;
    }
    // Only a hint: rejects that cannot be read are reported where they are needed.
    let sources: Vec<SourceRow> = read_rows(store, std::slice::from_ref(&done.table)).unwrap_or_default();
    let mut kinds = BTreeMap::<RecognizedFile, (u64, &str)>::new();
    for row in &sources {
        if let Some(kind) = row.detail.as_deref().and_then(kind_in_rejection) {
            kinds.entry(kind).or_insert((0, &row.source)).0 += 1;
        }
    }
    for (kind, (count, first)) in kinds {
        let advice = match kind {
            RecognizedFile::LfsPointer => "run `git lfs pull` in their repository",
            RecognizedFile::Arrow => "write their dataset as Parquet with `to_parquet` of `datasets`",
            RecognizedFile::Zip | RecognizedFile::Archive => "unpack them",
            RecognizedFile::WebPage => "download them again",
            _ => continue,
        };
        let first = super::format::plain(first);
        ui.say(format!(
            "note: {count} of the rejected files are of this kind: {}; {advice} (such as {first})",
            kind.name()
        ));
    }
}
