//! `visplay work`: takes shards of rounds that are under way.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::cli::args::{DeviceArgs, JobArgs, NodeCacheArgs, StoreArgs, ThreadArgs};
use crate::cli::session::Session;
use crate::cli::{CommandError, Result, Ui, exit};
use crate::evolution::{EvolutionError, RoundUnderWay, evolve_round, rounds_under_way};
use crate::stages::{IdleClock, Progress, Runner, StageError, WorkerSpec};
use crate::store::WorkerRole;

/// Take shards of the round that is under way, as one of several workers.
///
/// A worker finds the round by itself: one that `visplay evolve-round` or `visplay submit` began,
/// from the same store. Workers may come and go at any time, on any number of machines; the results
/// are the same bytes. A judge takes only work with models that do not change within a round, which
/// is about nine tenths of all sampling, and never trains.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay work                              take any work, until none is left for 10 minutes
  visplay work --role judge --idle 1h
  srun -N 4 visplay work --store /shared/store --role judge")]
pub struct WorkArgs {
    /// Evolution to work on [default: all].
    #[arg(long, value_name = "NAME")]
    evolution: Option<String>,
    /// The work to take.
    #[arg(long, value_enum, default_value_t = Role::Any)]
    role: Role,
    /// End after this time without work, such as 90s, 10m or 2h.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    idle: Duration,
    /// Take no more work after this time, as hours, minutes and seconds (7:45:00) or like --idle.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    until: Option<Duration>,
    /// Try shards again that were set aside because workers were lost with them on two hosts.
    #[arg(long)]
    retry_set_aside: bool,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    node_cache: NodeCacheArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    job: JobArgs,
}

/// The work that a worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// All work, training included.
    Any,
    /// Work with models that do not change within a round.
    Judge,
}

/// Interval between looks for a round.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Runs `visplay work`.
pub fn cmd_work(args: &WorkArgs, ui: &Ui) -> Result<()> {
    args.job.end(&args.store, work(args, ui))
}

fn work(args: &WorkArgs, ui: &Ui) -> Result<()> {
    let store = args.node_cache.apply(args.store.open()?)?;
    args.threads.start()?;
    let session = Session::of_worker(store, ui);
    if let Some(until) = args.until {
        drain_after(until, &session);
    }
    let role = match args.role {
        Role::Any => WorkerRole::Any,
        Role::Judge => WorkerRole::Judge,
    };
    // A GPU that cannot be opened is a fault of this node; another one may do.
    args.device.open().map_err(|e| CommandError { code: exit::UNUSABLE_NODE, ..e })?;
    let device = args.device.device.unwrap_or_default().to_string();
    let worker = session.worker(WorkerSpec { command: "work", role, device });
    let idle = IdleClock::start(args.idle);
    let runner = Runner { progress: &worker, role, idle: Some(&idle), retry: args.retry_set_aside, ..session.runner() };
    // Rounds that this worker cannot help with any more: a gate stopped them, for instance.
    let mut given_up: Vec<(String, u32)> = Vec::new();
    loop {
        session.interrupt.check_new_shard()?;
        let rounds = rounds_under_way(&session.store, args.evolution.as_deref())?;
        let is_open = |round: &RoundUnderWay| !given_up.contains(&(round.evolution.clone(), round.round));
        let Some(round) = rounds.into_iter().find(is_open) else {
            if idle.is_over() {
                worker.say("no work is left");
                return Ok(());
            }
            std::thread::sleep(LOOK_INTERVAL.min(args.idle / 2));
            continue;
        };
        match work_on(&round, args, &runner) {
            Ok(()) => {}
            Err(EvolutionError::Stage(StageError::Idle)) => {
                worker.say("no work is left");
                return Ok(());
            }
            // The process that runs the round reports it.
            Err(
                e @ (EvolutionError::Gate { .. } | EvolutionError::MissingData { .. } | EvolutionError::Changed { .. }),
            ) => {
                worker.say(&format!("{}/{}: {e}", round.evolution, round.round));
                given_up.push((round.evolution, round.round));
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Works on a round until it ends.
fn work_on(round: &RoundUnderWay, args: &WorkArgs, runner: &Runner<'_>) -> Result<(), EvolutionError> {
    let Some(mut pipeline) = round.pipeline(runner.store)? else { return Ok(()) };
    pipeline.model.device = args.device.device.unwrap_or(pipeline.model.device);
    runner.progress.works_on(&round.evolution, round.round);
    runner.progress.say(&format!("working on round {} of {}", round.round, round.evolution));
    evolve_round(&pipeline, runner, round.round, |_| {}).map(drop)
}

/// Drains this process after some time.
fn drain_after(time: Duration, session: &Session) {
    let (interrupt, end) = (session.interrupt.clone(), Instant::now() + time);
    std::thread::spawn(move || {
        while Instant::now() < end {
            std::thread::sleep(Duration::from_secs(1));
        }
        interrupt.request_drain();
    });
}

/// Parses a time: `90s`, `10m`, `2h`, or hours, minutes and seconds as batch systems write them.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("`{text}` is not a time; write one such as 90s, 10m, 2h or 7:45:00");
    let seconds = match text.split_once(':') {
        Some(_) => {
            let parts: Vec<u64> = text.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| problem())?;
            match parts[..] {
                [minutes, seconds] if seconds < 60 => minutes.checked_mul(60).and_then(|m| m.checked_add(seconds)),
                [hours, minutes, seconds] if minutes < 60 && seconds < 60 => {
                    hours.checked_mul(3600).and_then(|h| h.checked_add(minutes * 60 + seconds))
                }
                _ => None,
            }
        }
        None => {
            let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
            let unit = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return Err(problem()),
            };
            number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit))
        }
    };
    seconds.filter(|seconds| *seconds <= 365 * 86_400).map(Duration::from_secs).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_and_batch_systems_write_them() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("7:45:00", 27_900), ("5:30", 330), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "10", "m", "-1s", "1.5h", "7:60:00", "1:2:3:4", "9999999999999h", "1\u{e9}", ":"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
