//! Progress: a bar on a terminal, a line every few seconds in a log.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::store_log::StoreLog;
use crate::batch_job::BatchJob;
use crate::cli::Ui;
use crate::messages::write_message;
use crate::stages::{Progress, ShardEvent};
use crate::store::{ActionKey, Process, Store};

/// Age of a phase at which its bar appears.
const BAR_DELAY: Duration = Duration::from_millis(400);
/// Time between two lines about a phase in a log.
const LOG_EVERY: Duration = Duration::from_secs(15);

/// Shows progress on standard error.
pub struct TerminalProgress {
    has_bar: bool,
    quiet: bool,
    phase: Mutex<Option<Phase>>,
    /// The log of a worker.
    log: Option<StoreLog>,
    /// Whether lines on standard error have the form of the log: in batch jobs, whose output mixes
    /// with that of others.
    has_log_form: bool,
    /// The shard in hand, for its line in the log.
    shard: Mutex<Option<(ActionKey, Instant)>>,
}

struct Phase {
    name: String,
    total: u64,
    done: u64,
    began: Instant,
    logged: Instant,
    bar: Option<ProgressBar>,
}

impl TerminalProgress {
    /// Creates the progress of a command.
    pub fn new(ui: &Ui) -> Self {
        Self {
            has_bar: ui.shows_progress_bar(),
            quiet: ui.quiet,
            phase: Mutex::new(None),
            log: None,
            has_log_form: false,
            shard: Mutex::new(None),
        }
    }

    /// Keeps a log in a store from now on.
    pub fn keep_log(&mut self, store: &Store) {
        self.log = Some(StoreLog::open(store));
        self.has_log_form = !self.has_bar && BatchJob::current().is_some();
    }

    /// Writes a message to standard error, in the form of the log in a batch job.
    fn write(&self, message: &str) {
        match &self.log {
            Some(log) if self.has_log_form => write_message(&log.line(message)),
            _ => write_message(message),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Option<Phase>> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for TerminalProgress {
    fn begin(&self, phase: &str, total: u64) {
        if let Some(log) = &self.log {
            log.write(phase);
        }
        if self.quiet {
            return;
        }
        let now = Instant::now();
        let new = Phase { name: phase.to_owned(), total, done: 0, began: now, logged: now, bar: None };
        *self.phase() = Some(new);
    }

    fn advance(&self, units: u64) {
        let mut guard = self.phase();
        let Some(phase) = guard.as_mut() else { return };
        phase.done += units;
        if self.has_bar {
            phase.draw();
        } else if phase.logged.elapsed() > LOG_EVERY {
            let line = phase.next_line();
            self.write(&line);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.phase().take().and_then(|phase| phase.bar) {
            bar.finish_and_clear();
        }
    }

    fn say(&self, message: &str) {
        if let Some(log) = &self.log {
            log.write(message);
        }
        if self.quiet {
            return;
        }
        match self.phase().as_ref().and_then(|phase| phase.bar.as_ref()) {
            Some(bar) => bar.println(message),
            None => self.write(message),
        }
    }

    fn works_on(&self, evolution: &str, round: u32) {
        if let Some(log) = &self.log {
            log.works_on(evolution, round);
        }
    }

    fn part(&self, name: &str) {
        if let Some(log) = &self.log {
            log.write(name);
        }
    }

    fn shard(&self, event: &ShardEvent) {
        let Some(log) = &self.log else { return };
        let mut shard = self.shard.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            ShardEvent::Began(action) => *shard = Some((*action, Instant::now())),
            ShardEvent::Ended { is_done } => {
                let Some((action, began)) = shard.take() else { return };
                let outcome = if *is_done { "done" } else { "dropped" };
                log.write(&format!(
                    "shard {:.12} {outcome} in {:.1} s",
                    action.to_string(),
                    began.elapsed().as_secs_f64()
                ));
            }
            ShardEvent::Awaited(action, Process { host, pid, .. }) => {
                log.write(&format!("waiting for shard {:.12} of process {pid} on {host}", action.to_string()));
            }
        }
    }
}

impl Phase {
    fn draw(&mut self) {
        if self.bar.is_none() && self.began.elapsed() > BAR_DELAY {
            let template = "{msg} {wide_bar} {pos}/{len} {per_sec} {eta} left";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            self.bar = Some(ProgressBar::new(self.total).with_style(style).with_message(self.name.clone()));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }

    /// Returns the next line about the phase for a log.
    fn next_line(&mut self) -> String {
        self.logged = Instant::now();
        let rate = self.done as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
        let left = self.total.saturating_sub(self.done) as f64 / rate.max(1e-9);
        format!("{}: {} of {}, {rate:.0}/s, {left:.0} s left", self.name, self.done, self.total)
    }
}
