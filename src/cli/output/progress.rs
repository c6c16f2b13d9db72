//! Progress on a terminal (a bar) or in a log (a line now and then).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::ui::Ui;
use crate::stages::Progress;

/// Nothing is shown of a phase that is over sooner.
const PATIENCE: Duration = Duration::from_millis(400);
/// How often a log hears of a phase that goes on.
const LOG_EVERY: Duration = Duration::from_secs(15);

/// Shows progress on standard error.
pub struct TerminalProgress {
    live: bool,
    quiet: bool,
    phase: Mutex<Option<Phase>>,
}

struct Phase {
    name: String,
    total: u64,
    done: u64,
    began: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl TerminalProgress {
    /// Progress for this command.
    pub fn new(ui: &Ui) -> Self {
        Self { live: ui.progress_is_live(), quiet: ui.quiet, phase: Mutex::new(None) }
    }

    fn with_phase(&self, act: impl FnOnce(&mut Phase)) {
        if let Some(phase) = self.phase.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            act(phase);
        }
    }
}

impl Progress for TerminalProgress {
    fn begin(&self, phase: &str, total: u64) {
        if self.quiet {
            return;
        }
        let now = Instant::now();
        let new = Phase { name: phase.to_owned(), total, done: 0, began: now, told: now, bar: None };
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
    }

    fn advance(&self, units: u64) {
        let live = self.live;
        self.with_phase(|phase| {
            phase.done += units;
            if live {
                phase.draw();
            } else if phase.told.elapsed() > LOG_EVERY {
                phase.log();
            }
        });
    }

    fn end(&self) {
        if let Some(phase) = self.phase.lock().unwrap_or_else(PoisonError::into_inner).take()
            && let Some(bar) = phase.bar
        {
            bar.finish_and_clear();
        }
    }

    fn say(&self, message: &str) {
        if self.quiet {
            return;
        }
        let mut shown = false;
        self.with_phase(|phase| {
            if let Some(bar) = &phase.bar {
                bar.println(message);
                shown = true;
            }
        });
        if !shown {
            eprintln!("{message}");
        }
    }
}

impl Phase {
    fn draw(&mut self) {
        if self.bar.is_none() && self.began.elapsed() > PATIENCE {
            let template = "{msg} {wide_bar} {pos}/{len} {per_sec} left {eta}";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            self.bar = Some(ProgressBar::new(self.total).with_style(style).with_message(self.name.clone()));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }

    fn log(&mut self) {
        self.told = Instant::now();
        let rate = self.done as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
        let left = self.total.saturating_sub(self.done) as f64 / rate.max(1e-9);
        eprintln!("{}: {} of {}, {rate:.0}/s, {left:.0} s left", self.name, self.done, self.total);
    }
}
