//! The conversion of the library's errors into a message, a hint and an exit code.

use std::error::Error;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use crate::cli::exit;
use crate::cluster::ClusterError;
use crate::device::DeviceError;
use crate::evolution::EvolutionError;
use crate::evolution::pipeline::PipelineError;
use crate::messages::write_message;
use crate::sampling::SamplingError;
use crate::scenes::SceneFileError;
use crate::stages::StageError;
use crate::store::StoreError;
use crate::tables::TableError;
use crate::training::TrainingError;
use crate::training::adapter::AdapterError;
use crate::vlm::export::ExportError;

/// The result of a command or of a part of it.
pub type Result<T, E = CommandError> = std::result::Result<T, E>;

/// The failure of a command.
#[derive(Debug)]
pub struct CommandError {
    /// Exit code, one of [`exit`].
    pub code: u8,
    /// The problem, with the file, line, key or row that it is about.
    pub message: String,
    /// Advice on how to fix it.
    pub hint: Option<String>,
}

impl CommandError {
    /// Creates a failure of the command's work (exit code 1).
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: exit::FAILED, message: message.into(), hint: None }
    }

    /// Creates an error about an invalid command line, file or other input (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: exit::USAGE, message: message.into(), hint: None }
    }

    /// Creates an error about a damaged store (exit code 4).
    pub fn damaged(message: impl Into<String>) -> Self {
        Self { code: exit::DAMAGED, message: message.into(), hint: None }
    }

    /// Adds a hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Creates an error from an error of the library; the message names its causes too.
    ///
    /// A GPU that is out of memory gets exit code 1 and a hint, whatever failed because of it.
    pub fn from_chain(code: u8, error: &(dyn Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors already print their cause.
            if !message.contains(&text) {
                let _ = write!(message, ": {text}");
            }
            source = cause.source();
        }
        match is_gpu_out_of_memory(error) {
            true => Self::failed(message).with_hint(GPU_MEMORY),
            false => Self { code, message, hint: None },
        }
    }

    /// Creates an error about an unusable input (exit code 2) from an error of the library.
    pub fn from_input(error: impl Error + 'static) -> Self {
        Self::from_chain(exit::USAGE, &error)
    }

    /// Creates a failure of the command's work (exit code 1) from an error of the library.
    pub fn from_failure(error: impl Error + 'static) -> Self {
        Self::from_chain(exit::FAILED, &error)
    }

    /// Creates the error of a worker. A device that cannot be used is a fault of its node, and
    /// another node may do (exit code 6), unless the command or this build is the reason.
    pub fn of_worker(error: EvolutionError) -> Self {
        let is_fault_of_node = matches!(&error, EvolutionError::Stage(StageError::Device(e)) if !is_invalid_choice(e));
        let error = Self::from(error);
        if is_fault_of_node { Self { code: exit::UNUSABLE_NODE, ..error } } else { error }
    }

    /// Adds the hint about an error of the operating system, if there is one.
    fn with_io_hint(self, kind: Option<ErrorKind>) -> Self {
        match kind {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                self.with_hint("free space on that disk, then rerun the command; finished work is kept")
            }
            Some(ErrorKind::ReadOnlyFilesystem) => self.with_hint("the file system is read-only; choose another path"),
            Some(ErrorKind::PermissionDenied) => {
                self.with_hint("permission denied; fix the permissions or choose another path")
            }
            _ => self,
        }
    }

    /// Prints the message and the hint to standard error.
    pub fn print(&self) {
        // A message may hold a file's name, and a name may hold anything.
        let lines: Vec<String> = self.message.lines().map(super::output::format::plain).collect();
        let mut text = format!("visplay: {}", lines.join("\n"));
        if let Some(hint) = &self.hint {
            let _ = write!(text, "\n  hint: {hint}");
        }
        write_message(&text);
    }
}

impl From<StoreError> for CommandError {
    fn from(e: StoreError) -> Self {
        let (code, hint) = match &e {
            StoreError::Damaged { .. } | StoreError::Missing { .. } => {
                (exit::DAMAGED, "run `visplay verify --full`, then rerun the command")
            }
            StoreError::NewerFormat { .. } => {
                (exit::USAGE, "use the visplay version that wrote it, or another --store")
            }
            StoreError::NoCreateOnlyRename { .. } => {
                (exit::FAILED, "put the store on another file system, with --store or VISPLAY_STORE")
            }
            StoreError::ClocksDiffer { .. } => (exit::FAILED, "set the clock, then rerun the command"),
            StoreError::NotAStore { .. } => {
                (exit::USAGE, "pass --store or set VISPLAY_STORE; `visplay ingest` creates a store in an empty folder")
            }
            StoreError::ReplayDiverged { .. } => {
                (exit::FAILED, "the settings or files differ from those of the stored results")
            }
            StoreError::Lookup(_) => (exit::USAGE, "`visplay status` lists refs, `visplay log` lists results"),
            _ => return Self::from_chain(exit::FAILED, &e).with_io_hint(e.io_kind()),
        };
        Self::from_chain(code, &e).with_hint(hint)
    }
}

const GPU_MEMORY: &str = "the GPU is out of memory; `nvidia-smi` shows what else uses it, `visplay model inspect` shows \
                          what a model needs. In the pipeline file, lower sampling.cache_bytes (sampling) or \
                          update.*.micro_batch_tokens (training), or set update.*.moments = \"bf16\" or \
                          update.*.train = \"lora\"";

impl From<ExportError> for CommandError {
    fn from(e: ExportError) -> Self {
        let kind = match &e {
            ExportError::SideFile { .. } => return Self::from_input(e),
            ExportError::Io(source) | ExportError::File { source, .. } => Some(source.kind()),
            _ => None,
        };
        Self::from_failure(e).with_io_hint(kind)
    }
}

impl From<SceneFileError> for CommandError {
    fn from(e: SceneFileError) -> Self {
        let kind = match e {
            SceneFileError::Table(e) => return e.into(),
            SceneFileError::Write { ref source, .. } => Some(source.kind()),
            SceneFileError::Tokenizer(_) => None,
        };
        Self::from_failure(e).with_io_hint(kind)
    }
}

impl From<AdapterError> for CommandError {
    fn from(e: AdapterError) -> Self {
        match e {
            AdapterError::Write(e) => e.into(),
            e => Self::from_failure(e),
        }
    }
}

impl From<TableError> for CommandError {
    fn from(e: TableError) -> Self {
        match e {
            TableError::Write { io_kind, .. } => Self::from_failure(e).with_io_hint(io_kind),
            TableError::Row { .. } | TableError::View { .. } => Self::from_failure(e),
            // The store's own tables are checked before they are read, so this is a user's file.
            _ => Self::from_input(e),
        }
    }
}

impl From<DeviceError> for CommandError {
    fn from(e: DeviceError) -> Self {
        match is_invalid_choice(&e) {
            true => Self::from_input(e),
            false => Self::from_failure(e),
        }
    }
}

/// Whether a device cannot be used because it was not to be named, on any node.
fn is_invalid_choice(e: &DeviceError) -> bool {
    matches!(e, DeviceError::NotBuilt | DeviceError::NoSuchGpu { .. })
}

impl From<PipelineError> for CommandError {
    fn from(e: PipelineError) -> Self {
        Self::usage(e.to_string())
    }
}

const THRESHOLDS: &str = "the thresholds are in the pipeline file, under [gates]";

fn tables_at(folder: &Path) -> String {
    format!("tables of the round: {}", folder.display())
}

impl From<EvolutionError> for CommandError {
    fn from(e: EvolutionError) -> Self {
        match e {
            EvolutionError::Stage(e) => e.into(),
            EvolutionError::Pipeline(e) => e.into(),
            EvolutionError::Gate { ref tables, .. } => {
                let hints = tables.as_deref().map(tables_at).into_iter().chain([THRESHOLDS.to_owned()]);
                Self::from_chain(exit::GATE, &e).with_hint(hints.collect::<Vec<_>>().join("; "))
            }
            EvolutionError::GateUnreachable { .. } => Self::from_chain(exit::GATE, &e).with_hint(THRESHOLDS),
            EvolutionError::MissingData { ref tables, .. } => {
                let hint = tables.as_deref().map(tables_at);
                Self { hint, ..Self::from_failure(e) }
            }
            EvolutionError::Changed { .. } => Self::from_failure(e),
        }
    }
}

impl From<ClusterError> for CommandError {
    fn from(e: ClusterError) -> Self {
        match e {
            ClusterError::Store(e) => e.into(),
            ClusterError::Evolution(e) => e.into(),
            ClusterError::Pipeline(e) => e.into(),
            ClusterError::Setting { .. } | ClusterError::Refused { .. } => Self::from_input(e),
            ClusterError::UnderWay { .. } => Self::from_chain(exit::UNDER_WAY, &e).with_hint(
                "`visplay status` shows how far it is, `visplay work` helps with it, `visplay cancel` ends its jobs",
            ),
            ClusterError::NoCommand { .. } => {
                Self::from_failure(e).with_hint("run the command on a node of the cluster where Slurm is installed")
            }
            ClusterError::Failed { .. } | ClusterError::NoAnswer { .. } => Self::from_failure(e),
        }
    }
}

impl From<StageError> for CommandError {
    fn from(e: StageError) -> Self {
        match e {
            StageError::Store(e) => e.into(),
            StageError::Table(e) => e.into(),
            StageError::Device(e) => e.into(),
            StageError::Interrupted => Self::from_chain(exit::INTERRUPTED, &e),
            StageError::Drained => Self::from_chain(exit::TO_BE_CONTINUED, &e),
            StageError::SetAside { .. } => Self::from_chain(exit::FAILED, &e).with_hint(
                "such a shard usually needs more memory than its workers have; give them more, then rerun the command \
                 with --retry-set-aside",
            ),
            StageError::NoImage(_) => Self::from_chain(exit::NO_IMAGE, &e),
            StageError::Source { .. }
            | StageError::Read { .. }
            | StageError::Model(_)
            | StageError::NoModel { .. }
            | StageError::Parameter { .. }
            | StageError::Sampling(
                SamplingError::Options(_) | SamplingError::TooLong { .. } | SamplingError::CacheMemory { .. },
            )
            | StageError::Training(TrainingError::Setting { .. }) => Self::from_input(e),
            StageError::Lost(_)
            | StageError::MissingPart { .. }
            | StageError::Malformed { .. }
            | StageError::NotRestored { .. }
            | StageError::SourcesDiffer { .. } => Self::from_chain(exit::DAMAGED, &e),
            _ => Self::from_failure(e),
        }
    }
}

/// Returns whether the cause of an error is that the GPU has no memory left.
#[cfg(feature = "cuda")]
fn is_gpu_out_of_memory(error: &(dyn Error + 'static)) -> bool {
    use candle_core::cuda_backend::CudaError;
    use candle_core::cuda_backend::cudarc::driver::DriverError;
    use candle_core::cuda_backend::cudarc::driver::sys::CUresult;

    if let Some(error) = error.downcast_ref::<DriverError>() {
        return error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY;
    }
    if let Some(CudaError::Cuda(error) | CudaError::Load { cuda: error, .. }) = error.downcast_ref() {
        return is_gpu_out_of_memory(error);
    }
    // These variants of candle's error do not return their cause as the source.
    match error.downcast_ref() {
        Some(candle_core::Error::Cuda(cause)) => is_gpu_out_of_memory(cause.as_ref()),
        Some(candle_core::Error::WrappedContext { wrapped, .. }) => is_gpu_out_of_memory(wrapped.as_ref()),
        Some(
            candle_core::Error::Context { inner, .. }
            | candle_core::Error::WithPath { inner, .. }
            | candle_core::Error::WithBacktrace { inner, .. },
        ) => is_gpu_out_of_memory(inner.as_ref()),
        _ => error.source().is_some_and(is_gpu_out_of_memory),
    }
}

/// Returns `false`: this build has no GPU.
#[cfg(not(feature = "cuda"))]
fn is_gpu_out_of_memory(_: &(dyn Error + 'static)) -> bool {
    false
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use candle_core::cuda_backend::CudaError;
    use candle_core::cuda_backend::cudarc::driver::DriverError;
    use candle_core::cuda_backend::cudarc::driver::sys::CUresult;

    use super::*;

    #[test]
    fn a_gpu_out_of_memory_is_a_failure_with_a_hint() {
        let error = |result| {
            let error = candle_core::Error::from(CudaError::from(DriverError(result))).context("layer 3");
            CommandError::from(StageError::model(error))
        };
        let full = error(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        assert_eq!(full.code, exit::FAILED, "{}", full.message);
        assert!(full.hint.is_some_and(|hint| hint.contains("cache_bytes") && hint.contains("moments")));
        let other = error(CUresult::CUDA_ERROR_INVALID_VALUE);
        assert_eq!((other.code, other.hint), (exit::USAGE, None), "{}", other.message);
    }
}

#[cfg(test)]
mod worker_tests {
    use super::*;

    #[test]
    fn a_device_that_fails_is_a_fault_of_the_node_and_a_wrong_choice_is_not() {
        let of_worker = |e: DeviceError| CommandError::of_worker(StageError::from(e).into());
        for broken in [DeviceError::NoGpu, DeviceError::Open("no".into()), DeviceError::NoDriver("none".into())] {
            let e = of_worker(broken.clone());
            assert_eq!(e.code, exit::UNUSABLE_NODE, "{broken}");
            assert_eq!(e.message, broken.to_string());
        }
        for wrong in [DeviceError::NotBuilt, DeviceError::NoSuchGpu { index: 3, gpus: 1 }] {
            assert_eq!(of_worker(wrong).code, exit::USAGE);
        }
        assert_eq!(CommandError::of_worker(StageError::Drained.into()).code, exit::TO_BE_CONTINUED);
    }
}
