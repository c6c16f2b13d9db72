//! `visplay scenes truth`: what generated questions about drawn scenes ask, and their right answers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::error::CommandError;
use crate::cli::exit;
use crate::cli::output::format;
use crate::cli::output::table_files::read_all;
use crate::cli::output::ui::Ui;
use crate::scenes::{known_scenes, truth_row, write_truths};
use crate::tables::{QuestionRow, SceneTruthRow};

/// Decide the right answers of generated questions about drawn scenes.
///
/// Reads `questions` tables, such as those below the store's `views`, and writes a row for each valid question: its family, a verdict,
/// and the right answer where it has one. An image is told by its bytes, so the images must lie beside the scenes' table as
/// `visplay scenes` wrote them. For evaluation; evolution never sees it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay scenes truth data/store/views/nano/round=1/questions --out truth.parquet
  visplay scenes truth questions.parquet --scenes drawn/scenes.parquet --out truth.parquet --json")]
pub struct ScenesTruthArgs {
    /// `questions` tables: Parquet files, or folders of them.
    #[arg(value_name = "PATH", required = true)]
    questions: Vec<PathBuf>,
    /// The objects of the scenes, with the images beside it.
    #[arg(long, value_name = "FILE", default_value = "data/scenes.parquet")]
    scenes: PathBuf,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs `visplay scenes truth`.
pub fn cmd_scenes_truth(args: &ScenesTruthArgs, ui: &Ui) -> Result<(), CommandError> {
    let scenes = known_scenes(&args.scenes).map_err(|e| CommandError::from_chain(exit::USAGE, &e))?;
    let questions: Vec<QuestionRow> = read_all(&args.questions)?;
    let rows: Vec<SceneTruthRow> = questions.iter().filter_map(|row| truth_row(row, &scenes)).collect();
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
    let said: Vec<String> = verdicts.iter().map(|(verdict, n)| format!("{} {verdict}", format::count(*n))).collect();
    ui.result(format!("{}: {} questions ({})", written.path.display(), format::count(written.rows), said.join(", ")))?;
    if invalid > 0 {
        ui.say(format!("{} samples that are no valid questions are left out", format::count(invalid)));
    }
    Ok(())
}
