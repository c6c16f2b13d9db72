//! `visplay work`: takes shards of rounds that are under way.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::args::{DeviceArgs, NodeCacheArgs, StoreArgs, ThreadArgs};
use crate::cli::duration::parse_duration;
use crate::cli::job::{Job, JobArgs};
use crate::cli::session::Session;
use crate::cli::{CommandError, Result, Ui};
use crate::evolution::{EvolutionError, RoundUnderWay, evolve_round, rounds_under_way};
use crate::stages::{IdleClock, Progress, Runner, StageError, Worker, WorkerSpec};
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
    let job = args.job.begin();
    job.end(&args.store, work(args, &job, ui))
}

fn work(args: &WorkArgs, job: &Job, ui: &Ui) -> Result<()> {
    let store = args.node_cache.apply(args.store.open()?)?;
    args.threads.start()?;
    let session = Session::of_worker(store, ui, job);
    let role = match args.role {
        Role::Any => WorkerRole::Any,
        Role::Judge => WorkerRole::Judge,
    };
    if let Some(device) = args.device.device {
        device.open().map_err(|e| CommandError::of_worker(StageError::from(e).into()))?;
    }
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
        match work_on(&round, args, &runner, &worker) {
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
            Err(e) => return Err(CommandError::of_worker(e)),
        }
    }
}

/// Works on a round until it ends.
fn work_on(
    round: &RoundUnderWay,
    args: &WorkArgs,
    runner: &Runner<'_>,
    worker: &Worker<'_>,
) -> Result<(), EvolutionError> {
    let Some(mut pipeline) = round.pipeline(runner.store)? else { return Ok(()) };
    pipeline.model.device = args.device.device.unwrap_or(pipeline.model.device);
    // Of another class, this process would compute shards that nobody else looks for.
    pipeline.model.device.open().map_err(StageError::from)?;
    worker.computes_on(pipeline.model.device.to_string());
    runner.progress.works_on(&round.evolution, round.round);
    runner.progress.say(&format!("working on round {} of {}", round.round, round.evolution));
    evolve_round(&pipeline, runner, round.round, |_| {}).map(drop)
}
