//! The rounds under way and the work of each process, for `status` and `why`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{Result, Ui, format};
use crate::cluster::{JobState, JobStates, jobs};
use crate::evolution::{RoundUnderWay, ref_name, rounds_under_way};
use crate::store::{Process, Store, WorkerNote, WorkerRole, WorkerSign, WorkerState, now_ms};

/// A shard that takes this many times as long as is typical is marked as slow.
const SLOW: u64 = 3;

/// The rounds under way and the workers of a store.
pub struct UnderWay {
    /// The rounds.
    pub rounds: Vec<RoundUnderWay>,
    /// The workers, living and lost.
    pub workers: Vec<WorkerSign>,
    /// The jobs of a batch system.
    pub jobs: JobStates,
}

impl UnderWay {
    /// Reads the notes of a store, and asks the batch system about submitted jobs.
    pub fn read(store: &Store) -> Result<Self> {
        let rounds = rounds_under_way(store, None)?;
        let mut jobs = jobs(store, None)?;
        // Ended jobs of rounds that are finished are history. Those of a round that failed, or that
        // a gate stopped, say why.
        let mut shown = Vec::new();
        for job in jobs.jobs {
            if !job.is_over || store.head(&job.evolution, &ref_name(job.round, "round"))?.is_none() {
                shown.push(job);
            }
        }
        jobs.jobs = shown;
        Ok(Self { rounds, workers: store.workers()?, jobs })
    }

    /// Returns the workers of a round.
    pub fn workers_of<'s>(&'s self, round: &'s RoundUnderWay) -> impl Iterator<Item = &'s WorkerSign> {
        let is_of_round = |sign: &&WorkerSign| sign.note.evolution == round.evolution && sign.note.round == round.round;
        self.workers.iter().filter(is_of_round)
    }

    /// Returns the rounds that no worker is running for, and none will without a new command: no
    /// job of theirs is queued.
    pub fn abandoned(&self) -> impl Iterator<Item = &RoundUnderWay> {
        let has_worker = |round: &RoundUnderWay| self.workers_of(round).any(|sign| !sign.is_lost);
        self.rounds.iter().filter(move |round| !self.has_job(round) && !has_worker(round))
    }

    /// Whether a job of a round is running, or will run without anybody's help.
    fn has_job(&self, round: &RoundUnderWay) -> bool {
        let is_of_round = |job: &&JobState| job.evolution == round.evolution && job.round == round.round;
        self.jobs.jobs.iter().filter(is_of_round).any(will_work)
    }

    /// Describes a round that no worker is running for.
    pub fn without_workers(&self, round: &RoundUnderWay) -> String {
        let number = round.round;
        match self.has_job(round) {
            true => "no worker is running yet; its submitted jobs will continue it".to_owned(),
            false => format!("no worker is running; run `visplay evolve-round {number}` or `visplay submit {number}`"),
        }
    }

    /// Whether nothing is under way, and no job will begin something.
    pub fn is_over(&self) -> bool {
        self.rounds.is_empty() && !self.jobs.jobs.iter().any(will_work)
    }

    /// Returns the rounds in JSON.
    pub fn json(&self) -> Value {
        let rounds = self.rounds.iter().map(|round| {
            let workers: Vec<Value> = self.workers_of(round).map(|sign| {
                json!({"note": sign.note, "name": sign.note.name(), "age_s": sign.age.as_secs_f64(), "lost": sign.is_lost})
            }).collect();
            let eta = self.time_left(round).map(|range| range.map(|time| time.as_secs()));
            json!({"evolution": round.evolution, "round": round.round, "workers": workers, "stage_seconds_left": eta})
        });
        rounds.collect()
    }

    /// Prints the rounds, their stage and their workers.
    pub fn print(&self, ui: &Ui) -> Result<()> {
        for round in &self.rounds {
            let name = format!("{}: round {}", round.evolution, round.round);
            let Some(foremost) = self.foremost(round) else {
                ui.result(format!("{name} is under way; {}", self.without_workers(round)))?;
                self.print_workers(round, ui)?;
                continue;
            };
            let mut line = format!("{name} is under way: {}", stage_of(foremost));
            if foremost.phase_shards > 0 {
                let running = self.living(round).filter(|note| note.state == WorkerState::Running).count() as u64;
                let left = foremost.phase_shards.saturating_sub(foremost.phase_shards_done + running);
                line = format!("{line}; shards: {} done, {running} running, {left} left", foremost.phase_shards_done);
            }
            if let Some([least, most]) = self.time_left(round) {
                line = format!("{line}; stage done in {}", time_range(least, most));
            }
            ui.result(line)?;
            self.print_workers(round, ui)?;
        }
        self.print_jobs(ui)
    }

    fn print_jobs(&self, ui: &Ui) -> Result<()> {
        if self.jobs.jobs.is_empty() {
            return Ok(());
        }
        ui.result("submitted jobs:")?;
        let rows: Vec<Vec<String>> = self.jobs.jobs.iter().map(job_row).collect();
        ui.indented_table(&format::with_heading(["job", "work", "state", "nodes", "requeues", "log"], rows))?;
        self.jobs.note.iter().try_for_each(|note| ui.result(format!("  {note}")))
    }

    fn print_workers(&self, round: &RoundUnderWay, ui: &Ui) -> Result<()> {
        let rows: Vec<Vec<String>> = self.workers_of(round).map(worker_row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        ui.indented_table(&format::with_heading(
            ["worker", "role", "device", "doing", "shards", "tokens/s", "sign"],
            rows,
        ))
    }

    fn living<'s>(&'s self, round: &'s RoundUnderWay) -> impl Iterator<Item = &'s WorkerNote> {
        self.workers_of(round).filter(|sign| !sign.is_lost).map(|sign| &sign.note)
    }

    /// Returns the note of the worker that knows most about the stage under way.
    pub fn foremost<'s>(&'s self, round: &'s RoundUnderWay) -> Option<&'s WorkerNote> {
        self.living(round)
            .max_by_key(|note| (!note.phase.is_empty(), note.role == WorkerRole::Any, note.phase_shards_done))
    }

    /// Returns the least and the longest time that the stage under way will probably take: at the
    /// rate of the last minute, and at that since the workers started.
    fn time_left(&self, round: &RoundUnderWay) -> Option<[Duration; 2]> {
        let foremost = self.foremost(round)?;
        let left = foremost.phase_total.checked_sub(foremost.phase_done).filter(|left| *left > 0)? as f64;
        let recent: f64 = self.living(round).map(|note| note.units_per_second).sum();
        let overall: f64 = self
            .living(round)
            .map(|note| note.units as f64 * 1000.0 / (note.written_ms.saturating_sub(note.began_ms)).max(1) as f64)
            .sum();
        let time = |rate: f64| (rate > 0.0).then(|| Duration::try_from_secs_f64(left / rate).ok()).flatten();
        let mut times = [time(recent)?, time(overall)?];
        times.sort();
        Some(times)
    }
}

/// Whether a job is running, or will run without anybody's help.
fn will_work(job: &JobState) -> bool {
    !job.is_over && !job.waits_for_ever
}

/// Describes the stage that a worker is at.
pub fn stage_of(note: &WorkerNote) -> String {
    match (note.part.as_str(), note.phase.as_str()) {
        ("", "") => "starting".to_owned(),
        ("", phase) => phase.to_owned(),
        (part, "") => part.to_owned(),
        (part, phase) => format!("{part}: {phase}"),
    }
}

/// Describes what a worker is doing.
pub fn activity(sign: &WorkerSign) -> String {
    let note = &sign.note;
    if sign.is_lost {
        return format!("lost: no sign for {}; its shard is handed out again", duration(sign.age));
    }
    let since = note.shard.as_ref().map(|shard| Duration::from_millis(now_ms().saturating_sub(shard.since_ms)));
    let shard = note.shard.as_ref().map_or_else(String::new, |shard| format!(" shard {:.8}", shard.action.to_string()));
    let held_by = note.shard.as_ref().and_then(|shard| shard.held_by.as_ref());
    let is_slow = match (since, note.typical_ms) {
        (Some(since), Some(typical)) => since.as_millis() > u128::from(SLOW * typical.max(1000)),
        _ => false,
    };
    let slow = if is_slow { ", slow" } else { "" };
    match (note.state, since, held_by) {
        (WorkerState::Waiting, Some(since), Some(Process { host, pid, .. })) => {
            format!("waits for{shard} of {host}-{pid} since {}", duration(since))
        }
        (WorkerState::Running, Some(since), _) => format!("{}:{shard} since {}{slow}", stage_of(note), duration(since)),
        (WorkerState::Draining, ..) => {
            format!("draining{}", if shard.is_empty() { String::new() } else { format!(":{shard}") })
        }
        _ => stage_of(note),
    }
}

/// Describes the state of a job, with the reason if there is one.
pub fn job_state(job: &JobState) -> String {
    match &job.reason {
        Some(reason) => format!("{}: {reason}", job.words),
        None => job.words.clone(),
    }
}

fn job_row(job: &JobState) -> Vec<String> {
    vec![
        job.id.clone(),
        format!("{} of {}/{}", job.kind, job.evolution, job.round),
        job_state(job),
        job.nodes.clone(),
        format!("{} of {}", job.requeues, job.requeue_limit),
        job.log.display().to_string(),
    ]
}

fn worker_row(sign: &WorkerSign) -> Vec<String> {
    let note = &sign.note;
    let job = note.job.as_ref().map_or_else(String::new, |job| {
        let restarts = if job.restarts > 0 { format!(", requeued {} times", job.restarts) } else { String::new() };
        format!(" ({job}{restarts})")
    });
    let role = if note.role == WorkerRole::Judge { "judge" } else { "any" };
    vec![
        format!("{}{job}", note.name()),
        role.to_owned(),
        note.device.clone(),
        activity(sign),
        note.shards_done.to_string(),
        format!("{:.0}", note.tokens_per_second),
        format!("{} ago", duration(sign.age)),
    ]
}

/// Formats a time in one or two units: `4 s`, `12 min`, `3 h 20 min`.
pub fn duration(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        s => format!("{} days {} h", s / 86_400, s % 86_400 / 3600),
    }
}

fn time_range(least: Duration, most: Duration) -> String {
    let [least, most] = [least, most].map(duration);
    if least == most { format!("about {least}") } else { format!("{least} to {most}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_or_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7199, "119 min"),
            (12_000, "3 h 20 min"),
            (180_000, "2 days 2 h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(time_range(Duration::from_secs(5), Duration::from_secs(5)), "about 5 s");
    }

    /// Rounds 1 and 2 of an evolution, and jobs of these rounds.
    fn under_way(jobs: &[(u32, bool, bool)]) -> UnderWay {
        let round = |round| RoundUnderWay { evolution: "e".into(), round };
        let job = |&(round, is_over, waits_for_ever): &(u32, bool, bool)| JobState {
            id: "7".into(),
            kind: "driver",
            evolution: "e".into(),
            round,
            state: String::new(),
            words: String::new(),
            reason: None,
            waits_for_ever,
            is_over,
            requeues: 0,
            requeue_limit: 20,
            nodes: String::new(),
            log: std::path::PathBuf::new(),
        };
        let jobs = JobStates { jobs: jobs.iter().map(job).collect(), note: None };
        UnderWay { rounds: vec![round(1), round(2)], workers: Vec::new(), jobs }
    }

    #[test]
    fn a_round_whose_job_is_queued_is_not_abandoned() {
        let abandoned =
            |jobs: &[(u32, bool, bool)]| under_way(jobs).abandoned().map(|round| round.round).collect::<Vec<_>>();
        assert_eq!(abandoned(&[]), [1, 2]);
        assert_eq!(abandoned(&[(1, false, false)]), [2]);
        assert_eq!(abandoned(&[(1, false, false), (2, false, false)]), [] as [u32; 0]);
        assert_eq!(abandoned(&[(1, true, false), (2, false, true)]), [1, 2], "they ended, or will never start");
    }

    #[test]
    fn a_submitted_job_is_awaited_before_its_round_begins() {
        let is_over = |jobs: &[(u32, bool, bool)]| UnderWay { rounds: Vec::new(), ..under_way(jobs) }.is_over();
        assert!(is_over(&[]) && is_over(&[(1, true, false)]) && is_over(&[(1, false, true)]));
        assert!(!is_over(&[(1, false, false)]));
    }
}
