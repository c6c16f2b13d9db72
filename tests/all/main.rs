//! The integration tests, by capability, as one program (linking is what takes long).
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use visplay::vlm::ops::Ops;

mod allocation;
mod audit;
mod benchmark_figures;
mod benchmark_files;
mod benchmark_scorers;
mod benchmark_shapes;
mod box_share;
mod branch;
mod closed_outputs;
mod cluster;
mod collapse;
mod commands;
mod config;
mod crash;
mod damage;
mod device;
mod file_systems;
mod floors;
mod foreign_sources;
mod grading;
mod greedy;
mod image_mutator;
mod image_processor;
mod imaging;
mod imaging_heif;
mod imaging_mutations;
mod imported_parquet;
mod ingest;
mod invisible_text;
mod jsonl;
mod lineage;
mod lost_inputs;
mod many_workers;
mod mistaken_inputs;
mod model_commands;
mod model_gradients;
mod model_parity;
mod nano_model;
mod next_round;
mod op_gradients;
mod oracle_files;
mod parquet_mutations;
mod processor_keys;
mod random;
mod reference_ops;
mod replay;
mod rescore;
mod retention;
mod rewards;
mod round_crash;
mod round_input;
mod rounds;
mod sampling;
mod scenes;
mod scenes_command;
mod scenes_truth;
mod schema_command;
mod snapshots;
mod support;
mod tables;
mod tokenizer;
mod trained_model;
mod training_adamw;
mod training_gradients;
mod training_grpo;
mod training_lora;
mod unfit_models;
mod warm_start;
mod weight_damage;
mod weights;

/// The implementation of the ops that the tests of the model's arithmetic use; `reference_ops` runs
/// the same tests with the other one.
const OPS: Ops = Ops::Kernels;

/// Checks that every test file is a module of this program; any other would never run.
#[test]
fn every_test_file_is_part_of_this_program() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all");
    let this = std::fs::read_to_string(format!("{folder}/main.rs")).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(module == "main" || this.contains(&format!("mod {module};")), "{module} is not declared");
    }
}
