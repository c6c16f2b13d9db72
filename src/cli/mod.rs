//! The commands, one file each: parsing, printing and exit codes, and nothing else.

mod audit;
mod branch;
mod clusters;
mod completions;
mod context;
mod doctor;
mod doctor_full;
pub mod error;
mod evaluate;
mod evolve_round;
pub mod exit;
mod gc;
mod grade;
mod ingest;
mod lineage;
mod lines;
mod log;
mod machine;
mod model;
mod model_export;
mod model_generate;
mod model_inspect;
mod model_prompt;
mod model_random;
mod model_score;
mod progress;
mod replay;
mod rescore;
mod rewards;
mod round_table;
mod scenes;
mod scenes_truth;
pub mod schema;
mod show;
mod status;
mod table_files;
mod text;
pub mod ui;
mod verify;
mod warm_start;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::error::CommandError;
use self::ui::Ui;
use crate::{candle_threads, panics};

/// Evolves a vision-language model from a folder of unlabelled images.
#[derive(Debug, Parser)]
#[command(
    name = "visplay",
    version,
    max_term_width = 110,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage or input, \
3 a gate stopped the round, 4 the store is damaged, 5 busy, 130 stopped by Ctrl-C.

Examples:
  visplay ingest ~/photos
  visplay status
  visplay verify --full"
)]
struct Cli {
    /// Print results as JSON, for scripts.
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing but results and errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ingest(ingest::IngestArgs),
    EvolveRound(evolve_round::EvolveRoundArgs),
    Branch(branch::BranchArgs),
    Status(status::StatusArgs),
    Show(show::ShowArgs),
    Log(log::LogArgs),
    Why(why::WhyArgs),
    Lineage(lineage::LineageArgs),
    Replay(replay::ReplayArgs),
    Audit(audit::AuditArgs),
    Model(model::ModelArgs),
    Verify(verify::VerifyArgs),
    Gc(gc::GcArgs),
    Grade(grade::GradeArgs),
    Clusters(clusters::ClustersArgs),
    Rewards(rewards::RewardsArgs),
    Rescore(rescore::RescoreArgs),
    Scenes(scenes::ScenesArgs),
    WarmStart(warm_start::WarmStartArgs),
    Evaluate(evaluate::EvaluateArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
    Schema(schema::SchemaArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    candle_threads::limit();
    panics::silence_guarded();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() => {
            let e = error::of_command_line(&e);
            e.print();
            return ExitCode::from(e.code);
        }
        // Help and the version are results.
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(exit::DONE);
        }
    };
    let ui = Ui { json: cli.json, quiet: cli.quiet };
    match run(&cli.command, &ui) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(e) => {
            let e = e.of_full_card();
            e.print();
            ExitCode::from(e.code)
        }
    }
}

fn run(command: &Command, ui: &Ui) -> Result<(), CommandError> {
    match command {
        Command::Ingest(args) => ingest::cmd_ingest(args, ui),
        Command::EvolveRound(args) => evolve_round::cmd_evolve_round(args, ui),
        Command::Branch(args) => branch::cmd_branch(args, ui),
        Command::Status(args) => status::cmd_status(args, ui),
        Command::Show(args) => show::cmd_show(args, ui),
        Command::Log(args) => log::cmd_log(args, ui),
        Command::Why(args) => why::cmd_why(args, ui),
        Command::Lineage(args) => lineage::cmd_lineage(args, ui),
        Command::Replay(args) => replay::cmd_replay(args, ui),
        Command::Audit(args) => audit::cmd_audit(args, ui),
        Command::Model(args) => model::cmd_model(args, ui),
        Command::Verify(args) => verify::cmd_verify(args, ui),
        Command::Gc(args) => gc::cmd_gc(args, ui),
        Command::Grade(args) => grade::cmd_grade(args, ui),
        Command::Clusters(args) => clusters::cmd_clusters(args, ui),
        Command::Rewards(args) => rewards::cmd_rewards(args, ui),
        Command::Rescore(args) => rescore::cmd_rescore(args, ui),
        Command::Scenes(args) => scenes::cmd_scenes(args, ui),
        Command::Evaluate(args) => evaluate::cmd_evaluate(args, ui),
        Command::WarmStart(args) => warm_start::cmd_warm_start(args, ui),
        Command::Doctor(args) => doctor::cmd_doctor(args, ui),
        Command::Completions(args) => completions::cmd_completions(args, ui),
        Command::Schema(args) => schema::cmd_schema(args, ui),
    }
}
