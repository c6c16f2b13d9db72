//! A worker: this process as others see it, by its note in the store.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::progress::{DrainCause, Interrupt, Progress, ShardCounts, ShardEvent};
use crate::batch_job::BatchJob;
use crate::store::{Process, ShardNote, Store, WorkerNote, WorkerRole, WorkerState, now_ms};

/// Longest interval between two versions of the note.
const INTERVAL: Duration = Duration::from_secs(10);
/// Interval between looks for a request to drain, and shortest one between two versions of the
/// note.
const TICK: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// Delay of the first note: a command that ends at once leaves none.
const FIRST: Duration = Duration::from_millis(200);

/// A description of a worker.
#[derive(Debug, Clone)]
pub struct WorkerSpec {
    /// Its command, such as `evolve-round`.
    pub command: &'static str,
    /// The work that it takes.
    pub role: WorkerRole,
    /// The device that it computes on.
    pub device: String,
}

/// Keeps the note of this process up to date until it is dropped, and passes requests to drain on.
///
/// It is a [`Progress`], so that it sees what the stages do; it passes every event to another one.
pub struct Worker<'p> {
    inner: &'p dyn Progress,
    shared: Arc<SharedState>,
    stop: Option<Sender<()>>,
    writer: Option<JoinHandle<()>>,
}

/// The state that the thread which writes the note reads.
struct SharedState {
    note: Mutex<WorkerNote>,
    units: AtomicU64,
    tokens: AtomicU64,
}

impl SharedState {
    fn note(&self) -> MutexGuard<'_, WorkerNote> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'p> Worker<'p> {
    /// Starts a worker. Requests to drain it are passed to `interrupt`.
    pub fn start(store: &Store, spec: WorkerSpec, inner: &'p dyn Progress, interrupt: &Interrupt) -> Self {
        let WorkerSpec { command, role, device } = spec;
        let mut note = WorkerNote::new(Process::current(), role, command);
        note.job = BatchJob::current();
        note.device = device;
        note.began_ms = now_ms();
        let shared =
            Arc::new(SharedState { note: Mutex::new(note), units: AtomicU64::new(0), tokens: AtomicU64::new(0) });
        let (stop, stopped) = channel();
        let (store, interrupt, of_thread) = (store.clone(), interrupt.clone(), Arc::clone(&shared));
        let write = move || {
            let mut rates = [Rate::default(), Rate::default()];
            let mut pause = FIRST;
            let mut written: Option<(Instant, WorkerState)> = None;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
                pause = TICK;
                if let Ok(Some(now)) = store.drain_requested() {
                    interrupt.request_drain(DrainCause::Request);
                    if now {
                        interrupt.request();
                    }
                }
                let state = of_thread.state(&interrupt);
                if written.is_some_and(|(at, of)| of == state && at.elapsed() < INTERVAL) {
                    continue;
                }
                written = Some((Instant::now(), state));
                // A note that cannot be written costs the view of this process, not its work.
                let _ = store.write_worker_note(&of_thread.current(&mut rates, state));
            }
            let _ = store.remove_worker_note();
        };
        let writer = std::thread::Builder::new().name("worker note".into()).spawn(write).ok();
        Self { inner, shared, stop: Some(stop), writer }
    }

    /// Names the device that the process computes on, once it is known.
    pub fn computes_on(&self, device: String) {
        self.shared.note().device = device;
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl SharedState {
    /// Returns what the process is doing.
    fn state(&self, interrupt: &Interrupt) -> WorkerState {
        if interrupt.is_draining() { WorkerState::Draining } else { self.note().state }
    }

    /// Returns the note as of now.
    fn current(&self, [tokens, units]: &mut [Rate; 2], state: WorkerState) -> WorkerNote {
        let mut note = self.note().clone();
        note.units = self.units.load(Ordering::Relaxed);
        note.tokens = self.tokens.load(Ordering::Relaxed);
        note.tokens_per_second = tokens.update(note.tokens);
        note.units_per_second = units.update(note.units);
        note.written_ms = now_ms();
        note.state = state;
        note
    }
}

/// The growth of a number in a second, over the last minute.
#[derive(Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    /// Notes the number as of now and returns its rate.
    fn update(&mut self, number: u64) -> f64 {
        let now = Instant::now();
        self.0.push_back((now, number));
        while self.0.len() > 2 && self.0.get(1).is_some_and(|(then, _)| now.duration_since(*then) > MINUTE) {
            self.0.pop_front();
        }
        let Some((then, before)) = self.0.front() else { return 0.0 };
        let seconds = now.duration_since(*then).as_secs_f64();
        if seconds > 0.0 { (number - before) as f64 / seconds } else { 0.0 }
    }
}

impl Progress for Worker<'_> {
    fn begin(&self, phase: &str, total: u64) {
        let mut note = self.shared.note();
        phase.clone_into(&mut note.phase);
        (note.phase_done, note.phase_total) = (0, total);
        drop(note);
        self.inner.begin(phase, total);
    }

    fn advance(&self, units: u64) {
        self.shared.units.fetch_add(units, Ordering::Relaxed);
        self.shared.note().phase_done += units;
        self.inner.advance(units);
    }

    fn end(&self) {
        let mut note = self.shared.note();
        (note.state, note.shard) = (WorkerState::Starting, None);
        drop(note);
        self.inner.end();
    }

    fn say(&self, message: &str) {
        self.inner.say(message);
    }

    fn works_on(&self, evolution: &str, round: u32) {
        let mut note = self.shared.note();
        evolution.clone_into(&mut note.evolution);
        note.round = round;
        drop(note);
        self.inner.works_on(evolution, round);
    }

    fn part(&self, name: &str) {
        name.clone_into(&mut self.shared.note().part);
        self.inner.part(name);
    }

    fn shard(&self, event: &ShardEvent) {
        let mut note = self.shared.note();
        let since_ms = now_ms();
        match event {
            ShardEvent::Began(action) => {
                note.state = WorkerState::Running;
                note.shard = Some(ShardNote { action: *action, since_ms, held_by: None });
            }
            ShardEvent::Ended { is_done } => {
                (note.state, note.shard) = (WorkerState::Starting, None);
                note.shards_done += u64::from(*is_done);
            }
            ShardEvent::Awaited(action, holder) => {
                note.state = WorkerState::Waiting;
                note.shard = Some(ShardNote { action: *action, since_ms, held_by: Some(holder.clone()) });
            }
        }
        drop(note);
        self.inner.shard(event);
    }

    fn shards(&self, shards: ShardCounts) {
        let ShardCounts { done, total, typical } = shards;
        let mut note = self.shared.note();
        (note.phase_shards_done, note.phase_shards) = (done, total);
        note.typical_ms = typical.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        drop(note);
        self.inner.shards(shards);
    }

    fn tokens(&self, tokens: u64) {
        self.shared.tokens.fetch_add(tokens, Ordering::Relaxed);
        self.inner.tokens(tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::NoProgress;

    #[test]
    fn a_note_follows_the_work_and_goes_with_the_worker() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_or_create(folder.path()).expect("a store");
        let interrupt = Interrupt::default();
        let spec = WorkerSpec { command: "work", role: WorkerRole::Judge, device: "cpu".into() };
        let worker = Worker::start(&store, spec, &NoProgress, &interrupt);
        worker.works_on("e", 3);
        worker.part("Questioner, step 1 of 2");
        worker.begin("answering questions", 10);
        worker.advance(4);
        worker.tokens(100);
        store.request_drain(&Process::current(), false).expect("a request");
        let begun = Instant::now();
        let note = loop {
            if let Some(note) = store.worker_note(&Process::current()).expect("no error") {
                break note;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no note was written");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!((note.evolution.as_str(), note.round, note.role), ("e", 3, WorkerRole::Judge));
        assert_eq!((note.phase_done, note.phase_total, note.units, note.tokens), (4, 10, 4, 100));
        assert_eq!(note.state, WorkerState::Draining);
        assert!(matches!(interrupt.check_new_shard(), Err(crate::stages::StageError::Drained)));
        interrupt.check().expect("the shard in hand is finished");
        assert!(!interrupt.is_to_be_continued(), "a worker that was asked to end does not come back");
        drop(worker);
        assert!(store.workers().expect("no error").is_empty());
    }
}
