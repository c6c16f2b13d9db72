//! Checks of a device: that it computes what the CPU's kernels compute, that a round runs on it, and how fast it is beside what it
//! could be. `visplay doctor --full` runs them.
//!
//! On a CPU the reference ops ([`Ops::Reference`]) stand in for the device, so that the checks themselves, and the arithmetic
//! that a GPU computes by, are checked on machines without one.

mod bf16;
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

pub use self::limits::Limits;
pub use self::shapes::Shapes;
pub use self::throughput::Rate;
use crate::device::DeviceChoice;
use crate::vlm::ops::Ops;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checkup {
    /// Whether the device computes what it should.
    pub checks: Vec<Check>,
    /// What the device can do at most.
    pub limits: Limits,
    /// How fast the program is.
    pub rates: Vec<Rate>,
}

/// A figure and what it may be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: &'static str,
    /// The figure.
    pub found: f64,
    /// The most that it may be.
    pub allowed: f64,
    /// What the figure is.
    pub unit: &'static str,
    /// Whether it is within what is allowed.
    pub passed: bool,
}

impl Check {
    fn new(what: &'static str, found: f64, allowed: f64, unit: &'static str) -> Self {
        Self { what, found, allowed, unit, passed: found <= allowed }
    }
}

/// Why a check could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckupError {
    /// A file that it needs.
    #[error("{}: {problem}; the checks need a checkout of visplay, run them in one", file.display())]
    Data {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
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
    /// The round failed.
    #[error("the round on the device failed: {0}")]
    Round(#[from] crate::evolution::EvolutionError),
    /// Its stages failed.
    #[error("the round on the device failed: {0}")]
    Stage(#[from] crate::stages::StageError),
}

impl CheckupError {
    fn data(file: &Path, problem: impl ToString) -> Self {
        Self::Data { file: file.to_owned(), problem: problem.to_string() }
    }
}

/// What is checked, and how much of it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The device.
    pub choice: DeviceChoice,
    /// The folder with the tiny checkpoints and what transformers computes on them.
    pub data: PathBuf,
    /// How much is measured.
    pub shapes: Shapes,
}

/// Runs all checks. `said` hears what is under way.
///
/// # Errors
/// A file is missing or the device fails; a figure that is not as it should be is a check that did not pass.
pub fn run(request: &Request, said: impl Fn(&str)) -> Result<Checkup, CheckupError> {
    let device = request.choice.open().map_err(crate::stages::StageError::from)?;
    let (mut checks, ops) = own_kernels(&device, &said);
    // On a CPU the reference ops stand in for the GPU.
    let checked_ops = if device.is_cpu() { Ops::Reference } else { ops };
    said("the arithmetic of both towers, with gradients, on tiny checkpoints");
    checks.extend(parity::check(&request.data, &device, checked_ops)?);
    said("the nano model in bf16");
    checks.extend(bf16::check(&request.data, &device, checked_ops)?);
    said("a round of the nano pipeline, twice");
    checks.extend(round::check(request.choice, checked_ops)?);
    said("what the device can do at most");
    let limits = limits::measure(&device, request.shapes)?;
    let rates = throughput::measure(&request.data, &device, ops, request.shapes, &limits, &said)?;
    Ok(Checkup { checks, limits, rates })
}

/// Checks our GPU kernels, and returns the implementation of the ops for the other checks: candle's where our kernels fail.
#[cfg(feature = "cuda")]
fn own_kernels(device: &Device, said: impl Fn(&str)) -> (Vec<Check>, Ops) {
    if device.is_cpu() {
        return (Vec::new(), Ops::Kernels);
    }
    said("our kernels for a GPU");
    match gpu_kernels::check(device) {
        Ok(checks) => (checks, Ops::Kernels),
        Err(error) => {
            said(&format!("everything else without them, since they failed: {error}"));
            (vec![Check::new("our kernels for a GPU", f64::INFINITY, 0.0, "that failed")], Ops::Reference)
        }
    }
}

/// A build for the CPU has no GPU kernels.
#[cfg(not(feature = "cuda"))]
fn own_kernels(_: &Device, _: impl Fn(&str)) -> (Vec<Check>, Ops) {
    (Vec::new(), Ops::Kernels)
}

/// The seconds that a function takes, until the device is done with it: the median of some runs after a first that does not count.
fn seconds<E: From<candle_core::Error>>(
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
