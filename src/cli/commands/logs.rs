//! `visplay logs`: the logs of workers, merged.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::args::StoreArgs;
use crate::cli::output::store_log::log_files;
use crate::cli::session::Session;
use crate::cli::{Result, Ui, format};
use crate::evolution::rounds_under_way;
use crate::stages::StageError;

/// Print the logs of all workers, merged by time.
///
/// Without --all, the lines about the rounds that are under way. Each line has the time (UTC), the
/// host or node, the process or the job's task, the round, and the message.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay logs
  visplay logs --follow
  visplay logs --all --evolution mine")]
pub struct LogsArgs {
    /// Print new lines as they are written, until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// Print the lines about all rounds.
    #[arg(long)]
    all: bool,
    /// Print only the lines about this evolution.
    #[arg(long, value_name = "NAME")]
    evolution: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
}

/// Interval between two looks for new lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs `visplay logs`.
pub fn cmd_logs(args: &LogsArgs, ui: &Ui) -> Result<()> {
    let session = Session::new(args.store.open()?, ui);
    let mut reader = LogReader::default();
    loop {
        let wanted = wanted_rounds(args, &session)?;
        let mut lines = reader.new_lines(log_files(&session.store));
        lines.retain(|line| is_wanted(line, args, wanted.as_deref()));
        // Lines begin with their time, of which this is the length; those of one second stay in
        // order.
        lines.sort_by(|a, b| a.get(..19).cmp(&b.get(..19)));
        for line in lines {
            if !ui.result_if_read(format::plain(&line))? {
                return Ok(());
            }
        }
        if !args.follow {
            return Ok(());
        }
        std::thread::sleep(INTERVAL);
        if matches!(session.interrupt.check_new_shard(), Err(StageError::Interrupted | StageError::Drained)) {
            return Ok(());
        }
    }
}

/// Returns the rounds whose lines are printed, as logs name them; `None` for all.
fn wanted_rounds(args: &LogsArgs, session: &Session) -> Result<Option<Vec<String>>> {
    if args.all {
        return Ok(None);
    }
    let rounds = rounds_under_way(&session.store, args.evolution.as_deref())?;
    Ok(Some(rounds.into_iter().map(|round| format!("{}/{}", round.evolution, round.round)).collect()))
}

/// Whether a line is about a wanted round. A line that a worker did not write, such as one of a
/// batch system, is always wanted.
fn is_wanted(line: &str, args: &LogsArgs, wanted: Option<&[String]>) -> bool {
    // Date, time, host, task, round, message.
    let Some(round) = line.split(' ').nth(4).filter(|round| *round == "-" || round.contains('/')) else { return true };
    let evolution = round.split('/').next().unwrap_or_default();
    args.evolution.as_deref().is_none_or(|wanted| wanted == evolution)
        && wanted.is_none_or(|wanted| wanted.iter().any(|name| name == round))
}

/// Reads what was added to files since the last time.
#[derive(Default)]
struct LogReader {
    offsets: BTreeMap<PathBuf, u64>,
}

impl LogReader {
    /// Returns the new whole lines of files. A file that cannot be read has none.
    fn new_lines(&mut self, files: Vec<PathBuf>) -> Vec<String> {
        let mut lines = Vec::new();
        for path in files {
            let offset = self.offsets.entry(path.clone()).or_default();
            let mut bytes = Vec::new();
            let read = File::open(&path).and_then(|mut file| {
                file.seek(SeekFrom::Start(*offset))?;
                file.read_to_end(&mut bytes)
            });
            let Some(end) = read.ok().and_then(|_| bytes.iter().rposition(|byte| *byte == b'\n')) else { continue };
            *offset += end as u64 + 1;
            lines.extend(String::from_utf8_lossy(&bytes[..end]).lines().map(str::to_owned));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_new_lines_are_returned() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.log");
        let mut reader = LogReader::default();
        let mut lines = |text: &str| {
            std::fs::write(&path, text).expect("written");
            reader.new_lines(vec![path.clone(), folder.path().join("absent.log")])
        };
        assert_eq!(lines("one\ntw"), ["one"]);
        assert!(lines("one\ntwo").is_empty());
        assert_eq!(lines("one\ntwo\nthree\n"), ["two", "three"]);
    }
}
