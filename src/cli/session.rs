//! The surroundings of a command that runs stages: a store, progress, and the signals that stop it.

use std::time::Duration;
use std::{fs, mem, process, thread};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::cli::job::{Job, is_before_time_limit, say_draining};
use crate::cli::output::progress::TerminalProgress;
use crate::cli::{Ui, exit};
use crate::messages::write_message;
use crate::stages::{DrainCause, Interrupt, Runner, Worker, WorkerSpec};
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
        let interrupt = Interrupt::default();
        listen_for_interrupt(&Ending { interrupt: interrupt.clone(), store: store.clone(), job: None });
        Self { store, progress: TerminalProgress::new(ui), interrupt }
    }

    /// Starts a session of a worker, which keeps a log in the store and may run in a job.
    pub fn of_worker(store: Store, ui: &Ui, job: &Job) -> Self {
        let interrupt = job.interrupt.clone();
        let ending = Ending { interrupt: interrupt.clone(), store: store.clone(), job: Some(job.clone()) };
        listen_for_interrupt(&ending);
        let watch = ending.clone();
        // A request may also come from `visplay drain --now` or a second SIGUSR1.
        thread::spawn(move || {
            while !watch.interrupt.is_requested() {
                thread::sleep(Duration::from_secs(1));
            }
            watch.end_after_grace();
        });
        job.watch_time(move || {
            ending.interrupt.request();
            ending.end_after_grace();
        });
        let mut progress = TerminalProgress::new(ui);
        progress.keep_log(&store);
        Self { store, progress, interrupt }
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
fn listen_for_interrupt(ending: &Ending) {
    let (requested, ending) = (ending.interrupt.clone(), ending.clone());
    let ignored = ignored_signals();
    let stopping = [SIGINT, SIGTERM, SIGHUP, SIGUSR1].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    // Without a handler the signal ends the process, which is safe too.
    if let Ok(mut signals) = Signals::new(stopping) {
        thread::spawn(move || {
            let (mut has_hung_up, mut has_been_warned, mut has_been_stopped) = (false, false, false);
            for signal in signals.forever() {
                // A shell and the kernel may both report the end of a terminal.
                if signal == SIGHUP && mem::replace(&mut has_hung_up, true) {
                    continue;
                }
                if signal == SIGUSR1 {
                    // The first one may come at the same moment as `--until`.
                    if mem::replace(&mut has_been_warned, true) {
                        requested.request();
                    } else {
                        requested.request_drain(DrainCause::TimeLimit);
                        say_draining();
                    }
                    continue;
                }
                if mem::replace(&mut has_been_stopped, true) {
                    process::exit(i32::from(exit::INTERRUPTED));
                }
                // A cancelled job must not come back, even if it was about to.
                match is_before_time_limit() {
                    true => requested.cancel(),
                    false => requested.request(),
                }
                write_message("visplay: stopping; finished work is kept (press Ctrl-C again to quit immediately)");
                let ending = ending.clone();
                thread::spawn(move || ending.end_after_grace());
            }
        });
    }
}

/// Time in which the stages have to end after a request to stop. Batch systems kill a process about
/// half a minute after they asked it to end.
const GRACE: Duration = Duration::from_secs(8);

/// The end of a process whose stages were asked to stop.
#[derive(Clone)]
struct Ending {
    interrupt: Interrupt,
    store: Store,
    job: Option<Job>,
}

impl Ending {
    /// Ends the process if its stages do not end by themselves in time, as during an update of a
    /// large model. Its leases are given back first, so that others need not wait until they
    /// expire; then the end of its job is recorded.
    fn end_after_grace(&self) {
        thread::sleep(GRACE);
        self.store.give_back_leases();
        let _ = self.store.remove_worker_note();
        write_message("visplay: the shard in hand was dropped");
        let code = match &self.job {
            Some(job) => job.end_dropped(&self.store),
            None if self.interrupt.is_draining() => exit::TO_BE_CONTINUED,
            None => exit::INTERRUPTED,
        };
        // The note's own thread may have written it again meanwhile.
        let _ = self.store.remove_worker_note();
        process::exit(i32::from(code));
    }
}

/// Returns the signals that this process ignores; bit n - 1 stands for signal n (proc(5)).
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
