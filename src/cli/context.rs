//! What the commands share: the store, the pipeline file, threads, progress and the wish to stop.

use std::path::PathBuf;

use candle_core::{DType, Device};
use clap::Args;

use super::error::CommandError;
use super::model_inspect::ComputeType;
use super::progress::TerminalProgress;
use super::ui::Ui;
use crate::device::{DeviceChoice, DeviceClass};
use crate::evolution::pipeline::Pipeline;
use crate::stages::Interrupt;
use crate::store::{Store, is_name};

/// Where the store is.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The store's folder.
    #[arg(long, env = "VISPLAY_STORE", default_value = "data/store", value_name = "DIR")]
    pub store: PathBuf,
}

impl StoreArgs {
    /// Opens the store, which must exist.
    pub fn open(&self) -> Result<Store, CommandError> {
        Ok(Store::open(&self.store)?)
    }
}

/// Which evolution, and how it goes.
#[derive(Debug, Args)]
pub struct PipelineArgs {
    /// The pipeline file [default: pipelines/nano.toml].
    #[arg(long, value_name = "FILE")]
    pub pipeline: Option<PathBuf>,
    /// The evolution, instead of the pipeline file's.
    #[arg(long, value_name = "NAME")]
    pub evolution: Option<String>,
}

impl PipelineArgs {
    /// Reads the pipeline file, with the evolution that is meant in it.
    pub fn load(&self) -> Result<Pipeline, CommandError> {
        let mut pipeline = Pipeline::load(self.pipeline.as_deref())?;
        if let Some(name) = &self.evolution {
            if !is_name(name) {
                let message = format!("--evolution: `{name}` cannot name an evolution");
                return Err(CommandError::usage(message).with_hint("use letters, digits, `.`, `_` and `-`"));
            }
            pipeline.evolution.clone_from(name);
        }
        Ok(pipeline)
    }
}

/// Where models compute.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Where to compute: auto, cpu, cuda or cuda:N [default: the pipeline file's, or a card where this build and machine have one].
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
}

impl DeviceArgs {
    /// Opens the device.
    pub fn open(&self) -> Result<Device, CommandError> {
        Ok(self.device.unwrap_or_default().open()?)
    }
}

/// The number format to compute in.
#[derive(Debug, Args)]
pub struct TypeArgs {
    /// The number format to compute in [default: f32 on the CPU, bf16 on a card].
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    compute: Option<ComputeType>,
}

impl TypeArgs {
    /// The number format on a device.
    pub fn on(&self, device: &Device) -> DType {
        self.compute.map_or(DeviceClass::of(device).usual_type(), ComputeType::dtype)
    }
}

/// How much of the machine to use.
#[derive(Debug, Args)]
pub struct ThreadArgs {
    /// Worker threads [default: one a core]. Results do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

impl ThreadArgs {
    /// Starts the workers. To be called once.
    pub fn start(&self) -> Result<(), CommandError> {
        let threads = self.threads.map_or(0, usize::from);
        let started = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        started.map_err(|e| CommandError::failed(format!("cannot start the worker threads: {e}")))
    }
}

/// Turns Ctrl-C and SIGTERM into the wish to stop; a second one ends the program at once.
pub fn listen_for_interrupt() -> Interrupt {
    let interrupt = Interrupt::default();
    let heard = interrupt.clone();
    // Without a handler the signal ends the program, which is safe too.
    let _ = ctrlc::set_handler(move || {
        if heard.is_requested() {
            std::process::exit(i32::from(super::exit::INTERRUPTED));
        }
        heard.request();
        eprintln!("visplay: stopping; what is done is kept (once more stops at once)");
    });
    interrupt
}

/// Progress as this terminal or log wants it.
pub fn progress(ui: &Ui) -> TerminalProgress {
    TerminalProgress::new(ui)
}
