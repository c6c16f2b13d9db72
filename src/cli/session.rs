//! The surroundings of a command that runs stages: a store, progress, and the signals that stop it.

use std::{fs, mem, process, thread};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::cli::output::progress::TerminalProgress;
use crate::cli::{Ui, exit};
use crate::messages::write_message;
use crate::stages::{Interrupt, Runner, Worker, WorkerSpec};
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

    /// Starts a session of a worker, which keeps a log in the store.
    pub fn of_worker(store: Store, ui: &Ui) -> Self {
        let mut session = Self::new(store, ui);
        session.progress.keep_log(&session.store);
        session
    }

    /// Shows this process to others until the value is dropped. Use the runner of the worker, so
    /// that it sees what the stages do.
    pub fn worker(&self, spec: WorkerSpec) -> Worker<'_> {
        Worker::start(&self.store, spec, &self.progress, &self.interrupt)
    }

    /// Returns a runner of stages.
    pub fn runner(&self) -> Runner<'_> {
        Runner::new(&self.store, &self.progress, &self.interrupt)
    }
}

/// Turns the first SIGINT (Ctrl-C), SIGTERM or SIGHUP (a closed terminal) into a request to stop; a
/// second one ends the process immediately. SIGHUP counts once. SIGUSR1, which batch systems send
/// before the time limit, drains; the second one stops.
///
/// A signal that the parent process ignores, such as SIGHUP under nohup, stays ignored.
fn listen_for_interrupt() -> Interrupt {
    let interrupt = Interrupt::default();
    let requested = interrupt.clone();
    let ignored = ignored_signals();
    let stopping = [SIGINT, SIGTERM, SIGHUP, SIGUSR1].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    // Without a handler the signal ends the process, which is safe too.
    if let Ok(mut signals) = Signals::new(stopping) {
        thread::spawn(move || {
            let mut has_hung_up = false;
            for signal in signals.forever() {
                // A shell and the kernel may both report the end of a terminal.
                if signal == SIGHUP && mem::replace(&mut has_hung_up, true) {
                    continue;
                }
                if signal == SIGUSR1 {
                    if requested.is_draining() {
                        requested.request();
                    } else {
                        requested.request_drain();
                        write_message("visplay: draining: the shard in hand is finished, and no other one is taken");
                    }
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
