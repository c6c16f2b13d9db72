//! `visplay scenes truth`: right answers of generated questions about drawn scenes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::output::table_files::read_all;
use crate::cli::{CommandError, Result, Ui, format};
use crate::scenes::{KnownScenes, write_truths};
use crate::tables::{QuestionRow, SceneTruthRow};

/// Find the right answers of generated questions about drawn scenes.
///
/// Reads `questions` tables, such as those under the store's `views`, and writes a row for each
/// valid question: its family, a verdict, and the right answer if there is one. Images are
/// recognized by their bytes, so they must be next to the scenes' table, as `visplay scenes` wrote
/// them. For evaluation only; evolution never sees the answers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay scenes truth data/store/views/nano/round=1/questions --out truth.parquet
  visplay scenes truth questions.parquet --scenes drawn/scenes.parquet --out truth.parquet --json")]
pub struct ScenesTruthArgs {
    /// Parquet files, or folders of Parquet files, of questions tables.
    #[arg(value_name = "PATH", required = true)]
    questions: Vec<PathBuf>,
    /// The scenes' table, with the images next to it.
    #[arg(long, value_name = "FILE", default_value = "data/scenes.parquet")]
    scenes: PathBuf,
    /// File to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs `visplay scenes truth`.
pub fn cmd_scenes_truth(args: &ScenesTruthArgs, ui: &Ui) -> Result<()> {
    let scenes =
        KnownScenes::read(&args.scenes).and_then(KnownScenes::require_all_images).map_err(CommandError::from_input)?;
    let questions: Vec<QuestionRow> = read_all(&args.questions)?;
    let rows: Vec<SceneTruthRow> = questions.iter().filter_map(|row| scenes.truth_row(row)).collect();
    let mut verdicts: BTreeMap<&str, u64> = BTreeMap::new();
    for row in &rows {
        *verdicts.entry(row.verdict.as_str()).or_default() += 1;
    }
    let written = write_truths(&args.out, rows)?;
    let invalid = questions.len() as u64 - written.rows;
    if ui.json {
        return ui.result_json(
            &json!({"path": written.path, "rows": written.rows, "not_valid": invalid, "verdicts": verdicts}),
        );
    }
    let counts: Vec<String> = verdicts.iter().map(|(verdict, n)| format!("{} {verdict}", format::count(*n))).collect();
    let (path, rows) = (written.path.display(), format::count(written.rows));
    ui.result(format!("{path}: {rows} questions ({})", counts.join(", ")))?;
    if invalid > 0 {
        ui.say(format!("{} samples without a valid question were skipped", format::count(invalid)));
    }
    Ok(())
}
