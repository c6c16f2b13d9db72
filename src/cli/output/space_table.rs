//! The table of the space that a store takes (`visplay status --space`).

use serde_json::json;

use crate::cli::{Result, Ui, format};
use crate::evolution::{SpaceUse, space_account};
use crate::store::Store;

/// Prints what the space of a store is used for, largest first.
pub fn print(store: &Store, ui: &Ui) -> Result<()> {
    let account = space_account(store)?;
    let total = account.uses.values().fold(SpaceUse::default(), |sum, part| SpaceUse {
        files: sum.files + part.files,
        bytes: sum.bytes + part.bytes,
    });
    if ui.json {
        return ui.result_json(&json!({
            "store": store.root(), "uses": account.uses, "total": total, "droppable": account.droppable,
            "dropped": account.dropped,
        }));
    }
    let row = |name: &str, part: &SpaceUse| vec![name.to_owned(), format::count(part.files), format::bytes(part.bytes)];
    let mut uses: Vec<_> = account.uses.iter().collect();
    uses.sort_by_key(|(_, part)| std::cmp::Reverse(part.bytes));
    let rows = uses.into_iter().map(|(name, part)| row(name, part)).chain([row("total", &total)]);
    ui.table(&format::with_heading(["use", "files", "size"], rows))?;
    let sentence = |part: &SpaceUse| format!("{} objects ({})", format::count(part.files), format::bytes(part.bytes));
    if account.droppable.files > 0 {
        let droppable = sentence(&account.droppable);
        ui.result(format!("{droppable} of finished rounds can be recomputed; `visplay gc --delete` drops them"))?;
    }
    if account.dropped.files > 0 {
        ui.result(format!("{} were dropped and can be recomputed", sentence(&account.dropped)))?;
    }
    Ok(())
}
