//! The signals that stop a command: Ctrl-C and SIGTERM.

use super::exit;
use crate::stages::Interrupt;

/// Turns Ctrl-C and SIGTERM into a request to stop; a second signal ends the process immediately.
pub fn listen_for_interrupt() -> Interrupt {
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
