//! The commands: one file or folder each, with the arguments `XArgs` (whose doc comment is the
//! help) and `cmd_x`.

mod audit;
mod branch;
mod clusters;
mod completions;
mod doctor;
mod evaluate;
mod evolve_round;
mod gc;
mod grade;
mod ingest;
mod lineage;
mod log;
mod model;
mod replay;
mod rescore;
mod rewards;
mod scenes;
mod schema;
mod show;
mod status;
mod verify;
mod warm_start;
mod why;

use clap::Subcommand;

use super::error::CommandError;
use super::output::ui::Ui;

/// The command to run.
#[derive(Debug, Subcommand)]
pub enum Command {
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

/// Runs a command.
pub fn run(command: &Command, ui: &Ui) -> Result<(), CommandError> {
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
