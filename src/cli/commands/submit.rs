//! `visplay submit`: submits a round to a cluster's batch system.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::evolve_round::{RoundChoice, round_choice};
use crate::cli::args::{PipelineArgs, StoreArgs};
use crate::cli::{CommandError, Result, Ui, format};
use crate::cluster::{
    ClusterProfile, JobKind, SubmissionPlan, SubmitOutcome, SubmitRequest, SubmittedJob, WorkerArray, next_number,
    plan_submission, submit, unusable_nodes,
};
use crate::evolution::next_round;
use crate::evolution::pipeline::Pipeline;
use crate::stages::ingest::IMAGES;
use crate::store::{Store, StoreError};

/// Submit round N to Slurm: a job that runs it, and judge workers that help.
///
/// The jobs are requested as the cluster profile says (cluster.toml beside the pipeline file, or in
/// ~/.config/visplay). The pipeline file is copied into the store, so that editing it later changes
/// nothing that runs. A round that is under way is not submitted again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay submit 1 --pipeline pipelines/qwen2.5-vl-3b.toml --dry-run   show the scripts
  visplay submit 1 --pipeline pipelines/qwen2.5-vl-3b.toml --workers 15
  visplay submit next --time 2:00:00 -- --partition=short --mail-type=FAIL
  visplay status                                                       look at its progress
  visplay cancel                                                       end its jobs")]
pub struct SubmitArgs {
    /// Number of the round, from 1, or `next` for the first unfinished one.
    #[arg(value_name = "N|next", value_parser = round_choice)]
    round: RoundChoice,
    /// The cluster profile [default: cluster.toml beside the pipeline file, else
    /// ~/.config/visplay/cluster.toml].
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// Number of judge workers, overriding the profile.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    workers: Option<u32>,
    /// Time limit of the jobs, overriding the profile: 8:00:00, 90 (minutes), 1-12:00:00.
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Print the scripts and submit nothing.
    #[arg(long)]
    dry_run: bool,
    /// Further options of sbatch.
    #[arg(last = true, value_name = "SBATCH-FLAGS")]
    flags: Vec<String>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
}

/// Number of nodes with unusable devices at which nothing is submitted any more.
const TOO_MANY_NODES: usize = 3;

/// Runs `visplay submit`.
pub fn cmd_submit(args: &SubmitArgs, ui: &Ui) -> Result<()> {
    let pipeline = args.pipeline.load()?;
    let pipeline_file = args.pipeline.pipeline.clone().unwrap_or_else(|| PathBuf::from("pipelines/nano.toml"));
    let (profile_file, mut profile) = ClusterProfile::find(args.cluster.as_deref(), &pipeline_file)?;
    profile.judge.count = args.workers.unwrap_or(profile.judge.count);
    profile.time = args.time.clone().unwrap_or(profile.time);
    ui.say(format!("cluster profile: {}", profile_file.display()));
    if args.dry_run {
        return print_scripts(args, &pipeline, profile, ui);
    }
    let store = args.store.open_or_create()?;
    let left_out = leave_out_unusable_nodes(&store, &mut profile, ui)?;
    if left_out.len() >= TOO_MANY_NODES {
        let message = format!("workers could not use the devices of {} nodes within a day", left_out.len());
        return Err(CommandError::failed(message).with_hint(
            "that may not be the nodes' fault: look at the logs of these jobs; to submit nevertheless, list the nodes \
             in cluster.exclude",
        ));
    }
    let round = round_of(args.round, Some(&store), &pipeline)?;
    pipeline.check_files()?;
    if store.head(&pipeline.evolution, IMAGES)?.is_none() {
        pipeline.ingest_sources()?;
    }
    let request =
        SubmitRequest { root: store.root(), pipeline: &pipeline, round, profile: &profile, flags: &args.flags };
    match submit(&store, &request)? {
        SubmitOutcome::Finished => {
            let evolution = &pipeline.evolution;
            if ui.json {
                return ui.result_json(&json!({"evolution": evolution, "round": round, "finished": true, "jobs": []}));
            }
            ui.result(format!("round {round} of {evolution} is finished; nothing was submitted"))
        }
        SubmitOutcome::Submitted(plan, jobs) => report(&plan, &jobs, ui),
    }
}

/// Returns the number of the round; without a store, none is finished.
fn round_of(round: RoundChoice, store: Option<&Store>, pipeline: &Pipeline) -> Result<u32> {
    Ok(match (round, store) {
        (RoundChoice::Number(number), _) => number,
        (RoundChoice::Next, Some(store)) => next_round(store, &pipeline.evolution)?,
        (RoundChoice::Next, None) => 1,
    })
}

/// Leaves out the nodes whose devices could not be used lately, and returns those that the profile
/// did not leave out.
fn leave_out_unusable_nodes(store: &Store, profile: &mut ClusterProfile, ui: &Ui) -> Result<Vec<String>> {
    let mut nodes = unusable_nodes(store)?;
    nodes.retain(|node| !profile.exclude.contains(node));
    if !nodes.is_empty() {
        ui.say(format!("left out for a day, because a worker could not use the device there: {}", nodes.join(", ")));
        profile.exclude.extend(nodes.iter().cloned());
    }
    Ok(nodes)
}

/// Prints the scripts; nothing is written, and the store may not exist yet.
fn print_scripts(args: &SubmitArgs, pipeline: &Pipeline, mut profile: ClusterProfile, ui: &Ui) -> Result<()> {
    let store = match Store::open(&args.store.store) {
        Ok(store) => Some(store),
        Err(StoreError::NotAStore { .. }) => None,
        Err(e) => return Err(e.into()),
    };
    if let Some(store) = &store {
        leave_out_unusable_nodes(store, &mut profile, ui)?;
    }
    let round = round_of(args.round, store.as_ref(), pipeline)?;
    let number = store.map_or(Ok(1), |store| next_number(&store, &pipeline.evolution, round))?;
    let request = SubmitRequest { root: &args.store.store, pipeline, round, profile: &profile, flags: &args.flags };
    let plan = plan_submission(&request, number)?;
    if ui.json {
        return ui.result_json(&json!({"folder": plan.folder, "logs": plan.logs, "scripts": plan.jobs}));
    }
    for job in &plan.jobs {
        ui.result(format!("# {}", plan.folder.join(&job.file).display()))?;
        ui.result(&job.script)?;
    }
    Ok(())
}

/// Prints the jobs and what to look at next.
fn report(plan: &SubmissionPlan, jobs: &[SubmittedJob], ui: &Ui) -> Result<()> {
    let (evolution, round) = (&plan.name.evolution, plan.name.round);
    let log = |job: &SubmittedJob| {
        let task = if job.is_driver() { "" } else { "_*" };
        plan.logs.join(format!("visplay-{evolution}-r{round}-{}-{}{task}.log", job.kind.name(), job.id))
    };
    if ui.json {
        let jobs: Vec<_> =
            jobs.iter().map(|job| json!({"id": job.id, "kind": job.kind.name(), "log": log(job)})).collect();
        let folder = &plan.folder;
        return ui.result_json(
            &json!({"evolution": evolution, "round": round, "finished": false, "folder": folder, "jobs": jobs}),
        );
    }
    ui.result(format!("round {round} of {evolution} was submitted"))?;
    let rows = jobs.iter().map(|job| {
        let work = match &job.kind {
            JobKind::Driver => "runs the round".to_owned(),
            JobKind::Judge(WorkerArray { count, at_most_at_once: 0 }) => format!("{count} judge workers"),
            JobKind::Judge(WorkerArray { count, at_most_at_once }) => {
                format!("{count} judge workers, at most {at_most_at_once} at once")
            }
        };
        vec![job.id.clone(), work, log(job).display().to_string()]
    });
    ui.indented_table(&format::with_heading(["job", "work", "log"], rows))?;
    ui.result(format!("pipeline file and scripts: {}", plan.folder.display()))?;
    ui.result("next: `visplay status` shows the progress, `visplay cancel` ends the jobs")
}
