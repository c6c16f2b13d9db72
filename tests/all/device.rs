//! The choice of a device by commands and pipeline files, and the message of a CPU build about a
//! GPU.

use std::process::Command;

use crate::support::{VISPLAY, Workspace, stderr_of};

/// Runs every command that computes with a model, with arguments that are valid on the CPU.
#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_for_the_cpu_says_in_one_line_that_it_has_no_gpu_support() {
    let place = Workspace::new();
    place.fill(2);
    let root = env!("CARGO_MANIFEST_DIR");
    let nano = format!("{root}/data/nano");
    let benchmark = format!("{root}/data/benchmarks/scenes.parquet");
    let commands: [&[&str]; 6] = [
        &["doctor"],
        &["model", "generate", "--model", &nano, "--prompt", "How many?"],
        &["model", "score", "--model", &nano, "--prompt", "How many?", "--response", "2"],
        &["evaluate", "--model", &nano, "--benchmark", &benchmark, "--items", "1"],
        &["warm-start", "--model", &nano, "--data", "none.parquet", "--out", "out"],
        &["evolve-round", "1", "--images", "source"],
    ];
    for arguments in commands {
        for device in ["cuda", "cuda:0"] {
            let output = place.command(&[arguments, &["--device", device]].concat()).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr_of(&output));
            let lines = stderr_of(&output);
            assert_eq!(lines.lines().count(), 1, "{lines}");
            assert!(lines.contains("built for the CPU") && lines.contains("just build-cuda"), "{lines}");
        }
    }
    assert!(!place.store().join("refs").join("nano").exists(), "nothing was ingested");
}

#[test]
fn an_invalid_device_is_refused_with_its_location() {
    let place = Workspace::new();
    let output = place.command(&["doctor", "--device", "gpu"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr_of(&output).contains("auto, cpu, cuda, or cuda:N"), "{}", stderr_of(&output));
    let file = place.path().join("p.toml");
    std::fs::write(&file, "evolution = \"t\"\n[model]\ndevice = \"cuda:x\"\n").unwrap();
    let output = Command::new(VISPLAY)
        .args(["evolve-round", "1", "--pipeline"])
        .arg(&file)
        .current_dir(place.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let lines = stderr_of(&output);
    assert!(lines.contains("p.toml:3") && lines.contains("auto, cpu, cuda"), "{lines}");
}
