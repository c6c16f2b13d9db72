//! The surroundings of a command that runs stages: a store, progress, and the signals that stop it.

use std::{fs, mem, process, thread};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::output::progress::TerminalProgress;
use crate::cli::{Ui, exit};
use crate::messages::write_message;
use crate::stages::{Interrupt, Runner};
use crate::store::Store;

/// The store, the progress and the interrupt of a command that runs stages.
pub struct Session {
    pub store: Store,
    pub progress: TerminalProgress,
    pub interrupt: Interrupt,
}

impl Session {
    /// Starts a session: from now on, signals ask the stages to stop.
    pub fn new(store: Store, ui: &Ui) -> Self {
        Self { store, progress: TerminalProgress::new(ui), interrupt: listen_for_interrupt() }
    }

    /// Returns a runner of stages.
    pub fn runner(&self) -> Runner<'_> {
        Runner { store: &self.store, progress: &self.progress, interrupt: &self.interrupt, dry_run: false }
    }
}

/// Turns the first SIGINT (Ctrl-C), SIGTERM or SIGHUP (a closed terminal) into a request to stop; a
/// second one ends the process immediately. SIGHUP counts once.
///
/// A signal that the parent process ignores, such as SIGHUP under nohup, stays ignored.
fn listen_for_interrupt() -> Interrupt {
    let interrupt = Interrupt::default();
    let requested = interrupt.clone();
    let ignored = ignored_signals();
    let stopping = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    // Without a handler the signal ends the process, which is safe too.
    if let Ok(mut signals) = Signals::new(stopping) {
        thread::spawn(move || {
            let mut has_hung_up = false;
            for signal in signals.forever() {
                // A shell and the kernel may both report the end of a terminal.
                if signal == SIGHUP && mem::replace(&mut has_hung_up, true) {
                    continue;
                }
                if requested.is_requested() {
                    process::exit(i32::from(exit::INTERRUPTED));
                }
                requested.request();
                write_message("visplay: stopping; finished work is kept (press Ctrl-C again to quit immediately)");
            }
        });
    }
    interrupt
}

/// Returns the signals that this process ignores; bit n - 1 stands for signal n (proc(5)).
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
