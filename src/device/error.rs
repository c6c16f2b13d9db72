//! Reasons why a device cannot be opened.

/// A reason why the requested device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A GPU was requested from a build without CUDA.
    #[error(
        "this visplay is built for the CPU and cannot use a GPU; build it with `just build-cuda`, or pass --device cpu"
    )]
    NotBuilt,
    /// This machine has no NVIDIA driver.
    #[error(
        "CUDA cannot be used: libcuda.so.1 is missing ({0}); run on a machine with an NVIDIA driver, or pass --device cpu"
    )]
    NoDriver(String),
    /// A CUDA library is missing or cannot be loaded.
    #[error("CUDA cannot be used: {library} is missing or unusable ({problem}); {remedy}, or pass --device cpu")]
    Library {
        /// File name of the library.
        library: String,
        /// The loader's message.
        problem: String,
        /// Advice for the user.
        remedy: &'static str,
    },
    /// The driver works, but no GPU is visible.
    #[error("no NVIDIA GPU is visible; check `nvidia-smi` and CUDA_VISIBLE_DEVICES, or pass --device cpu")]
    NoGpu,
    /// There is no GPU with the requested index.
    #[error("there is no GPU {index}: this process sees {gpus}; pass --device cuda:0 to cuda:{}", gpus - 1)]
    NoSuchGpu {
        /// The requested index.
        index: usize,
        /// Number of visible GPUs.
        gpus: usize,
    },
    /// The node runs more Slurm tasks than this task sees GPUs.
    #[error(
        "SLURM_LOCALID is {local_id}, but this task sees {gpus} GPUs; request one GPU per task, or pass --device cuda:N"
    )]
    MoreTasksThanGpus {
        /// The task's rank on its node.
        local_id: String,
        /// Number of visible GPUs.
        gpus: usize,
    },
    /// The driver refused to open the GPU.
    #[error("cannot open the GPU: {0}; check `nvidia-smi`, or pass --device cpu")]
    Open(String),
}

/// File name of the driver's library.
#[cfg_attr(not(feature = "cuda"), cfg(test))]
pub(super) const DRIVER: &str = "libcuda.so.1";

#[cfg_attr(not(feature = "cuda"), cfg(test))]
impl DeviceError {
    /// Classifies the loader's message about the driver: either the file does not exist, or the
    /// installation is broken.
    pub(super) fn driver(problem: String) -> Self {
        if problem.is_empty() || (problem.contains(DRIVER) && problem.contains("No such file")) {
            return Self::NoDriver(problem);
        }
        Self::Library { library: DRIVER.to_owned(), problem, remedy: "repair the NVIDIA driver (check `nvidia-smi`)" }
    }
}
