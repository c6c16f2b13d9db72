//! The commands: one file or folder each, with the arguments `XArgs` (whose doc comment is the
//! help) and `cmd_x`.

/// Declares commands, in the order in which the help lists them: name, arguments, function.
macro_rules! commands {
    ($($name:ident($args:path) => $run:path,)+) => {
        /// The command to run.
        #[derive(Debug, Subcommand)]
        pub enum Command {
            $($name($args),)+
        }

        /// Runs a command.
        pub fn run(command: &Command, ui: &Ui) -> Result<()> {
            match command {
                $(Command::$name(args) => $run(args, ui),)+
            }
        }
    };
}

mod audit;
mod branch;
mod cancel;
mod clusters;
mod completions;
mod doctor;
mod drain;
mod evaluate;
mod evolve_round;
mod gc;
mod grade;
mod ingest;
mod lineage;
mod log;
mod logs;
mod model;
mod replay;
mod rescore;
mod rewards;
mod scenes;
mod schema;
mod show;
mod status;
mod submit;
mod verify;
mod warm_start;
mod why;
mod work;

use clap::Subcommand;

use crate::cli::{Result, Ui};

commands! {
    Ingest(ingest::IngestArgs) => ingest::cmd_ingest,
    EvolveRound(evolve_round::EvolveRoundArgs) => evolve_round::cmd_evolve_round,
    Work(work::WorkArgs) => work::cmd_work,
    Drain(drain::DrainArgs) => drain::cmd_drain,
    Logs(logs::LogsArgs) => logs::cmd_logs,
    Submit(submit::SubmitArgs) => submit::cmd_submit,
    Cancel(cancel::CancelArgs) => cancel::cmd_cancel,
    Branch(branch::BranchArgs) => branch::cmd_branch,
    Status(status::StatusArgs) => status::cmd_status,
    Show(show::ShowArgs) => show::cmd_show,
    Log(log::LogArgs) => log::cmd_log,
    Why(why::WhyArgs) => why::cmd_why,
    Lineage(lineage::LineageArgs) => lineage::cmd_lineage,
    Replay(replay::ReplayArgs) => replay::cmd_replay,
    Audit(audit::AuditArgs) => audit::cmd_audit,
    Model(model::ModelArgs) => model::cmd_model,
    Verify(verify::VerifyArgs) => verify::cmd_verify,
    Gc(gc::GcArgs) => gc::cmd_gc,
    Grade(grade::GradeArgs) => grade::cmd_grade,
    Clusters(clusters::ClustersArgs) => clusters::cmd_clusters,
    Rewards(rewards::RewardsArgs) => rewards::cmd_rewards,
    Rescore(rescore::RescoreArgs) => rescore::cmd_rescore,
    Scenes(scenes::ScenesArgs) => scenes::cmd_scenes,
    WarmStart(warm_start::WarmStartArgs) => warm_start::cmd_warm_start,
    Evaluate(evaluate::EvaluateArgs) => evaluate::cmd_evaluate,
    Doctor(doctor::DoctorArgs) => doctor::cmd_doctor,
    Completions(completions::CompletionsArgs) => completions::cmd_completions,
    Schema(schema::SchemaArgs) => schema::cmd_schema,
}
