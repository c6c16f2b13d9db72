//! Compiles our GPU kernels (`src/device/cuda/kernels.cu`) to PTX in a build with the feature
//! `cuda`, with the nvcc that also compiles candle's kernels.

#![allow(clippy::print_stderr)]

use std::path::PathBuf;
use std::process::{Command, exit};

const SOURCE: &str = "src/device/cuda/kernels.cu";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    for name in ["NVCC", "CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let home = |name: &str| variable(name).map(|home| PathBuf::from(home).join("bin/nvcc"));
    let nvcc =
        variable("NVCC").map(PathBuf::from).or_else(|| home("CUDA_HOME")).unwrap_or_else(|| PathBuf::from("nvcc"));
    // PTX for one compute capability also runs on newer GPUs.
    let capability = variable("CUDA_COMPUTE_CAP").unwrap_or_else(|| "80".to_owned());
    let out = PathBuf::from(variable("OUT_DIR").unwrap_or_default()).join("kernels.ptx");
    let arch = format!("-arch=compute_{}", capability.replace('.', ""));
    let run = Command::new(&nvcc).args(["-ptx", "-O3", "-std=c++17", &arch, SOURCE, "-o"]).arg(&out).status();
    let problem = match run {
        Ok(status) if status.success() => return,
        Ok(status) => format!("{} failed to compile {SOURCE}: {status}", nvcc.display()),
        Err(error) => format!("cannot run {}: {error}", nvcc.display()),
    };
    eprintln!("{problem}; `just build-cuda` downloads a CUDA compiler if none is installed (docs/cuda.md)");
    exit(1);
}
