//! Device checks behind `visplay doctor --full`: correctness against the CPU and transformers, a
//! round from end to end, and speed compared with the limits of the hardware.
//!
//! On a CPU the reference ops ([`Ops::Reference`]) stand in for the device, so that the checks can
//! be tested on machines without a GPU.

mod bf16;
mod embedded;
#[cfg(feature = "cuda")]
mod gpu_kernels;
mod limits;
mod parity;
mod random_weights;
mod round;
mod shapes;
mod throughput;

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::limits::Limits;
pub use self::shapes::Shapes;
pub use self::throughput::Rate;
use crate::device::DeviceChoice;
use crate::vlm::ops::Ops;

type Result<T, E = CheckupError> = std::result::Result<T, E>;

/// Outcome of all checks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checkup {
    /// Correctness checks.
    pub checks: Vec<Check>,
    /// Measured limits of the device.
    pub limits: Limits,
    /// Measured speed of the program.
    pub rates: Vec<Rate>,
    /// Checks that were left out, with the reason.
    pub skipped: Vec<String>,
}

/// A measured deviation and its bound.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Name of the check.
    #[serde(rename = "what")]
    pub name: &'static str,
    /// The deviation.
    #[serde(rename = "found")]
    pub deviation: f64,
    /// Largest deviation that passes.
    pub allowed: f64,
    /// Unit of the deviation.
    pub unit: &'static str,
    /// Whether the deviation is within the bound.
    pub passed: bool,
}

impl Check {
    fn new(name: &'static str, deviation: f64, allowed: f64, unit: &'static str) -> Self {
        Self { name, deviation, allowed, unit, passed: deviation <= allowed }
    }
}

/// Error that keeps a check from running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckupError {
    /// A file is missing or unusable.
    #[error("{}: {problem}", file.display())]
    Data {
        /// The file.
        file: PathBuf,
        /// The problem, in words.
        problem: String,
    },
    /// A tensor operation failed.
    #[error("the device failed: {0}")]
    Model(#[from] candle_core::Error),
    /// Sampling failed.
    #[error(transparent)]
    Sampling(#[from] crate::sampling::SamplingError),
    /// A training step failed.
    #[error(transparent)]
    Training(#[from] crate::training::TrainingError),
    /// The round of the nano pipeline failed.
    #[error("the round on the device failed: {0}")]
    Round(#[from] crate::evolution::EvolutionError),
    /// A stage of the round failed.
    #[error("the round on the device failed: {0}")]
    Stage(#[from] crate::stages::StageError),
}

impl CheckupError {
    fn data(file: &Path, problem: impl ToString) -> Self {
        Self::Data { file: file.to_owned(), problem: problem.to_string() }
    }

    /// Returns a conversion of errors about a file.
    fn at<E: ToString>(file: &Path) -> impl Fn(E) -> Self {
        move |error| Self::data(file, error)
    }
}

/// A request to check a device.
#[derive(Debug, Clone)]
pub struct CheckupRequest {
    /// Device to check.
    pub choice: DeviceChoice,
    /// Folder of tiny checkpoints with the outputs of transformers; `None` for the built-in ones.
    pub checkpoints: Option<PathBuf>,
    /// Size of the measured workloads.
    pub shapes: Shapes,
}

/// Runs all checks. `progress` is called with the name of each one before it starts.
///
/// # Errors
/// A file is missing or the device fails. A deviation beyond its bound is not an error but a check
/// that did not pass.
pub fn run(request: &CheckupRequest, progress: impl Fn(&str)) -> Result<Checkup> {
    let device = request.choice.open().map_err(crate::stages::StageError::from)?;
    let unpacked = embedded::unpack()?;
    let checkpoints = request.checkpoints.as_deref().unwrap_or(unpacked.path());
    let mut skipped = Vec::new();
    let (mut checks, ops) = check_gpu_kernels(&device, &progress);
    // On a CPU the reference ops play the part of the GPU.
    let checked_ops = if device.is_cpu() { Ops::Reference } else { ops };
    progress("the arithmetic of both towers, with gradients, on tiny checkpoints");
    checks.extend(parity::check(checkpoints, &device, checked_ops)?);
    match missing_nano_files() {
        None => {
            progress("the nano model in bf16");
            checks.extend(bf16::check(checkpoints, &device, checked_ops)?);
            progress("a round of the nano pipeline, twice");
            checks.extend(round::check(request.choice, checked_ops)?);
        }
        Some(missing) => skipped.push(format!(
            "the nano model in bf16 and a round of the nano pipeline: {missing} is not in this folder; run in a checkout of visplay"
        )),
    }
    progress("limits of the device");
    let limits = limits::measure(&device, request.shapes)?;
    let rates = throughput::measure(checkpoints, &device, ops, request.shapes, &limits, &progress)?;
    Ok(Checkup { checks, limits, rates, skipped })
}

/// Returns the first of the nano model's files, too large to be built in, that the folder lacks.
fn missing_nano_files() -> Option<&'static str> {
    [bf16::NANO, bf16::ITEMS].into_iter().find(|path| !Path::new(path).exists())
}

/// Checks our GPU kernels, and returns the implementation of the ops for the other checks: candle's
/// if our kernels fail.
#[cfg(feature = "cuda")]
fn check_gpu_kernels(device: &Device, progress: impl Fn(&str)) -> (Vec<Check>, Ops) {
    if device.is_cpu() {
        return (Vec::new(), Ops::Kernels);
    }
    progress("our GPU kernels");
    match gpu_kernels::check(device) {
        Ok(checks) => (checks, Ops::Kernels),
        Err(error) => {
            progress(&format!("everything else without our GPU kernels, since they failed: {error}"));
            (vec![Check::new("our GPU kernels", f64::INFINITY, 0.0, "that failed")], Ops::Reference)
        }
    }
}

/// Returns no checks, since a build for the CPU has no GPU kernels.
#[cfg(not(feature = "cuda"))]
fn check_gpu_kernels(_: &Device, _: impl Fn(&str)) -> (Vec<Check>, Ops) {
    (Vec::new(), Ops::Kernels)
}

/// Reads a JSON file.
fn read_json<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let bytes = std::fs::read(file).map_err(CheckupError::at(file))?;
    serde_json::from_slice(&bytes).map_err(CheckupError::at(file))
}

/// Returns the median time of a function in seconds, including the work it queues on the device. A
/// first run is not counted.
fn median_seconds<E: From<candle_core::Error>>(
    device: &Device,
    runs: usize,
    mut f: impl FnMut() -> Result<(), E>,
) -> Result<f64, E> {
    let mut times = Vec::with_capacity(runs);
    for run in 0..=runs {
        device.synchronize()?;
        let clock = Instant::now();
        f()?;
        device.synchronize()?;
        if run > 0 {
            times.push(clock.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
