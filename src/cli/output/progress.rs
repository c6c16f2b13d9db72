//! Progress: a bar on a terminal, a line every few seconds in a log.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Ui;
use crate::messages::write_message;
use crate::stages::Progress;

/// Age of a phase at which its bar appears.
const BAR_DELAY: Duration = Duration::from_millis(400);
/// Time between two lines about a phase in a log.
const LOG_EVERY: Duration = Duration::from_secs(15);

/// Shows progress on standard error.
pub struct TerminalProgress {
    has_bar: bool,
    quiet: bool,
    phase: Mutex<Option<Phase>>,
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
        Self { has_bar: ui.shows_progress_bar(), quiet: ui.quiet, phase: Mutex::new(None) }
    }

    fn phase(&self) -> MutexGuard<'_, Option<Phase>> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for TerminalProgress {
    fn begin(&self, phase: &str, total: u64) {
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
            phase.log();
        }
    }

    fn end(&self) {
        if let Some(bar) = self.phase().take().and_then(|phase| phase.bar) {
            bar.finish_and_clear();
        }
    }

    fn say(&self, message: &str) {
        if self.quiet {
            return;
        }
        match self.phase().as_ref().and_then(|phase| phase.bar.as_ref()) {
            Some(bar) => bar.println(message),
            None => write_message(message),
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

    fn log(&mut self) {
        self.logged = Instant::now();
        let rate = self.done as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
        let left = self.total.saturating_sub(self.done) as f64 / rate.max(1e-9);
        write_message(&format!("{}: {} of {}, {rate:.0}/s, {left:.0} s left", self.name, self.done, self.total));
    }
}
