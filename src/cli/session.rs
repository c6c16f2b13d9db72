//! The surroundings of a command that runs stages: a store, progress, and the signals that stop it.

use crate::cli::output::progress::TerminalProgress;
use crate::cli::{Ui, exit};
use crate::stages::{Interrupt, Runner};
use crate::store::Store;

/// The store, the progress and the interrupt of a command that runs stages.
pub struct Session {
    pub store: Store,
    pub progress: TerminalProgress,
    pub interrupt: Interrupt,
}

impl Session {
    /// Starts a session: from now on, Ctrl-C and SIGTERM ask the stages to stop.
    pub fn new(store: Store, ui: &Ui) -> Self {
        Self { store, progress: TerminalProgress::new(ui), interrupt: listen_for_interrupt() }
    }

    /// Returns a runner of stages.
    pub fn runner(&self) -> Runner<'_> {
        Runner { store: &self.store, progress: &self.progress, interrupt: &self.interrupt, dry_run: false }
    }
}

/// Turns Ctrl-C and SIGTERM into a request to stop; a second signal ends the process immediately.
fn listen_for_interrupt() -> Interrupt {
    let interrupt = Interrupt::default();
    let requested = interrupt.clone();
    // Without a handler the signal ends the process, which is safe too.
    let _ = ctrlc::set_handler(move || {
        if requested.is_requested() {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
        requested.request();
        eprintln!("visplay: stopping; finished work is kept (press Ctrl-C again to quit immediately)");
    });
    interrupt
}
