//! `visplay show`: a ref, result, action or object of the store.

use clap::Args;
use serde_json::{Value, json};

use crate::analysis::preview;
use crate::cli::args::StoreArgs;
use crate::cli::{CommandError, Result, Ui, format};
use crate::evolution::ROUND_TABLES;
use crate::stages::model::full_name;
use crate::store::{ActionKey, ObjectId, ObjectKind, Ref, StageResult, Store, StoreFile};

/// Show a ref, a result, an action or an object.
///
/// A ref is written EVOLUTION/NAME for its latest version, or EVOLUTION/NAME@N for version N.
/// Everything else is found by the first digits (at least 4) of its digest or key.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay show nano/images
  visplay show nano/images@1
  visplay show 3fa9c0 --rows 20")]
pub struct ShowArgs {
    /// A ref, or the first digits of a digest or key.
    #[arg(value_name = "REF|DIGEST")]
    what: String,
    /// Maximum number of rows of a table to show.
    #[arg(long, value_name = "N", default_value_t = 8)]
    rows: usize,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs `visplay show`.
pub fn cmd_show(args: &ShowArgs, ui: &Ui) -> Result<()> {
    let store = args.store.open()?;
    if args.what.contains('/') {
        let r = find_ref(&store, &args.what)?;
        return show_result(&store, r.result, Some(&r), ui);
    }
    match store.find(&args.what)? {
        StoreFile::Object(object) => show_object(&store, object, args.rows, ui),
        StoreFile::Action(key) | StoreFile::Result(key) => show_result(&store, key, None, ui),
        other => Err(CommandError::failed(format!(
            "cannot show {other:?}; pass a ref, or the digest of an object, an action or a result"
        ))),
    }
}

fn find_ref(store: &Store, text: &str) -> Result<Ref> {
    let (path, sequence) = match text.split_once('@') {
        Some((path, n)) => {
            let n: u32 = n
                .parse()
                .map_err(|_| CommandError::usage(format!("`{n}` is not a version number; write EVOLUTION/NAME@N")))?;
            (path, Some(n))
        }
        None => (text, None),
    };
    let all = store.refs()?;
    let is_named = |r: &&Ref| {
        path.split_once('/').is_some_and(|(evolution, name)| r.evolution == evolution && r.name == full_name(name))
    };
    let found = all.iter().rfind(|r| is_named(r) && sequence.is_none_or(|n| r.sequence == n));
    found.cloned().ok_or_else(|| {
        if let Some(hint) = hint_about_table(store, &all, path) {
            return CommandError::usage(format!("there is no ref `{text}`: {}", hint.0)).with_hint(hint.1);
        }
        let names: Vec<String> = all.iter().map(|r| format!("{}/{}", r.evolution, r.name)).collect();
        let nearest = names.iter().min_by_key(|name| strsim::damerau_levenshtein(name, path));
        let hint = nearest.map_or("the store has no refs yet".into(), |n| format!("did you mean `{n}`?"));
        CommandError::usage(format!("there is no ref `{text}`")).with_hint(hint)
    })
}

/// Returns what a path such as `nano/curriculum` is, and where that table is: refs name rounds and
/// models, not tables. `None` if the path names no table of a known evolution.
fn hint_about_table(store: &Store, all: &[Ref], path: &str) -> Option<(String, String)> {
    let (evolution, rest) = path.split_once('/')?;
    let table = rest.rsplit('/').next()?.trim_end_matches(".parquet");
    if !all.iter().any(|r| r.evolution == evolution) {
        return None;
    }
    let views = store.root().join("views").join(evolution);
    let number = |text: &str| {
        let digits = text.strip_prefix("round-").or_else(|| text.strip_prefix("round="))?;
        digits.parse::<u32>().ok()
    };
    if matches!(table, "sources" | "rejects") && !rest.contains('/') {
        let view = views.join(table).display().to_string();
        let hint = format!("it is in {view}; `visplay show {evolution}/images` lists its digests");
        return Some((format!("{table} is a table of the images"), hint));
    }
    if !ROUND_TABLES.contains(&table) {
        return None;
    }
    let last = all.iter().filter(|r| r.evolution == evolution && r.name.ends_with("/round"));
    let last = last.filter_map(|r| number(r.name.split('/').next()?)).max();
    let round = rest.split('/').find_map(number).or(last);
    let what = format!("{table} is a table of a round, not a ref");
    Some(match round.filter(|round| views.join(format!("round={round}")).is_dir()) {
        Some(round) => {
            let view = views.join(format!("round={round}")).join(table);
            let show = format!("`visplay show {evolution}/round-{round:04}/round` lists its digests");
            (what, format!("that of round {round} is in {}; {show}", view.display()))
        }
        None => (what, format!("it will be in {}/round=N/{table} once round N is finished", views.display())),
    })
}

fn show_result(store: &Store, key: ActionKey, r: Option<&Ref>, ui: &Ui) -> Result<()> {
    let action = store.action(key)?;
    let result = store.result(key)?;
    if ui.json {
        let digest = result.as_ref().map(StageResult::digest).transpose()?;
        return ui.result_json(&json!({"ref": r, "key": key, "action": action, "result": result, "digest": digest}));
    }
    if let Some(r) = r {
        ui.result(format!("ref      {r}, written {} UTC", format::time(r.made_ms)))?;
    }
    ui.result(format!("action   {key}"))?;
    ui.result(format!("stage    {} version {}, seed {}", action.stage, action.stage_version, action.seed))?;
    let options = action.parameters.iter().chain(&action.shard);
    for (name, value) in options {
        ui.result(format!("         {name} = {value}"))?;
    }
    for input in action.inputs.iter().take(8) {
        ui.result(format!("reads    {} {}", input.role, input.object))?;
    }
    if action.inputs.len() > 8 {
        ui.result(format!("         and {} more", action.inputs.len() - 8))?;
    }
    let Some(result) = result else { return ui.result("result   none") };
    ui.result(format!("result   {}", result.digest()?))?;
    let c = result.counts;
    let [rows_in, rows_out, rejects] = [c.rows_in, c.rows_out, c.rejects].map(format::count);
    ui.result(format!("rows     {rows_in} in = {rows_out} out + {rejects} rejects"))?;
    for (figure, n) in &result.statistics {
        ui.result(format!("         {figure} = {}", format::count(*n)))?;
    }
    for output in &result.outputs {
        let (rows, bytes) = (format::count(output.rows), format::bytes(output.bytes));
        ui.result(format!("wrote    {} {} ({rows} rows, {bytes})", output.role, output.object))?;
    }
    let run = &result.run;
    let (began, took) = (format::time(run.began_ms), format::duration(run.took_ms));
    ui.result(format!("ran      {began} UTC on {} for {took}, visplay {}", run.process.host, run.program))
}

fn show_object(store: &Store, object: ObjectId, rows: usize, ui: &Ui) -> Result<()> {
    if let Some(note) = store.drop_note(object)? {
        if ui.json {
            return ui.result_json(&json!({"object": object, "bytes": note.bytes, "dropped": note}));
        }
        let (bytes, when, host) = (format::bytes(note.bytes), format::time(note.dropped_ms), note.process.host);
        return ui.result(format!("{object}: {bytes}, dropped {when} UTC on {host}; `visplay replay` recomputes it"));
    }
    let bytes = store.read_object(object)?;
    let size = bytes.len() as u64;
    match object.kind {
        ObjectKind::Parquet => {
            let table = preview::preview_parquet(bytes, rows)
                .map_err(|e| CommandError::failed(format!("{}: {e}", object.name())))?;
            if ui.json {
                return ui.result_json(&json!({
                    "object": object, "bytes": size, "rows": table.rows, "columns": table.columns,
                }));
            }
            ui.result(format!("{object}: {} rows, {}", format::count(table.rows), format::bytes(size)))?;
            ui.result(table.text)
        }
        ObjectKind::Json => {
            // The files of a base model are stored as they were, well-formed or not.
            let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            let value: Result<Value, _> = serde_json::from_slice(text);
            if ui.json {
                return ui.result_json(&value.unwrap_or_else(|_| String::from_utf8_lossy(text).into()));
            }
            ui.result(format!("{object}: {}", format::bytes(size)))?;
            match value {
                Ok(value) => ui.result(serde_json::to_string_pretty(&value).unwrap_or_default()),
                Err(_) => ui.result(String::from_utf8_lossy(text)),
            }
        }
        ObjectKind::Safetensors if ui.json => ui.result_json(&json!({"object": object, "bytes": size})),
        ObjectKind::Safetensors => ui.result(format!("{object}: tensors, {}", format::bytes(size))),
    }
}
