//! Where models compute: the CPU, or an NVIDIA card in a build with the feature `cuda`.
//!
//! A card is opened once in a process and cloned: two openings of one would be two streams that know nothing of each other. Which of
//! several cards it was changes no result, so it is no part of an action's key; its class is ([`DeviceClass`]).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device, Tensor};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What was asked for: `auto`, `cpu`, `cuda` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A card where this build and this machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A card: the one of this number, else the one that is this process's by `SLURM_LOCALID`, else the first.
    Cuda(Option<usize>),
}

/// What results depend on: sums are formed in another order on a card than on a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceClass {
    /// The CPU, by our kernels.
    Cpu,
    /// An NVIDIA card.
    Cuda,
}

/// Why there is no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A build for the CPU was asked for a card.
    #[error(
        "this visplay is built for the CPU and cannot use a card: build it with `just build-cuda`, or say --device cpu"
    )]
    NotBuilt,
    /// There is no driver on this machine.
    #[error(
        "CUDA cannot be used here, libcuda.so.1 is missing ({0}): run it on a machine with an NVIDIA driver, or say --device cpu"
    )]
    NoDriver(String),
    /// One of CUDA's libraries is not on this machine, or cannot be brought in.
    #[error("CUDA cannot be used here, {library} is missing or unusable ({problem}): {remedy}, or say --device cpu")]
    Library {
        /// The file that was looked for.
        library: String,
        /// What the system says.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// There is a driver, and no card.
    #[error(
        "there is no NVIDIA card to be seen here: look at `nvidia-smi` and CUDA_VISIBLE_DEVICES, or say --device cpu"
    )]
    NoCard,
    /// A card of that number does not exist.
    #[error("there is no card {index}, {cards} can be seen: say --device cuda:0 to cuda:{}", cards - 1)]
    NoSuchCard {
        /// The number asked for.
        index: usize,
        /// Cards that can be seen.
        cards: usize,
    },
    /// More tasks on the node than cards.
    #[error(
        "SLURM_LOCALID is {local_id}, but this task sees {cards} cards: ask Slurm for a card a task, or name one with --device cuda:N"
    )]
    MoreTasksThanCards {
        /// The task's number on its node.
        local_id: String,
        /// Cards that can be seen.
        cards: usize,
    },
    /// The card cannot be opened.
    #[error("the card cannot be opened: {0}; look at `nvidia-smi`, or say --device cpu")]
    Open(String),
}

/// The file of the driver.
#[cfg_attr(not(feature = "cuda"), cfg(test))]
pub(crate) const DRIVER: &str = "libcuda.so.1";

#[cfg_attr(not(feature = "cuda"), cfg(test))]
impl DeviceError {
    /// Why the driver cannot be brought in, by what the loader says: the file is not there, or something else is wrong with it.
    pub(crate) fn driver(problem: String) -> Self {
        if problem.is_empty() || (problem.contains(DRIVER) && problem.contains("No such file")) {
            return Self::NoDriver(problem);
        }
        Self::Library { library: DRIVER.to_owned(), problem, remedy: "mend the NVIDIA driver (look at `nvidia-smi`)" }
    }
}

impl DeviceChoice {
    /// Opens the device; opened again it is the same one.
    ///
    /// # Errors
    /// A card was asked for, and this build or this machine has none, or none of that number; or there is one that cannot be used.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => cards::open(index),
            Self::Auto if cards::any()? => cards::open(None),
            Self::Auto => Ok(Device::Cpu),
        }
    }
}

/// Whether `auto` is a card, by the count of the cards. A machine without a driver or without a card has none; where the count failed
/// for another reason there may be one, and nobody would know why an evolution takes a hundred times as long.
#[cfg_attr(not(feature = "cuda"), cfg(test))]
fn any_card(count: Result<usize, DeviceError>) -> Result<bool, DeviceError> {
    match count {
        Ok(cards) => Ok(cards > 0),
        Err(DeviceError::NoDriver(_)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Memory that tensors can still have: what the driver calls free, and what the pool of freed tensors keeps.
#[cfg_attr(not(feature = "cuda"), cfg(test))]
pub(crate) fn free_memory(driver_free: usize, pool_reserved: u64, pool_used: u64) -> usize {
    driver_free.saturating_add(usize::try_from(pool_reserved.saturating_sub(pool_used)).unwrap_or(0))
}

impl DeviceClass {
    /// The class of a device.
    pub fn of(device: &Device) -> Self {
        if device.is_cpu() { Self::Cpu } else { Self::Cuda }
    }

    /// The number format to compute in where nobody has said: f32 on a CPU, whose kernels are for it, and bf16 on a card.
    pub fn usual_type(self) -> DType {
        match self {
            Self::Cpu => DType::F32,
            Self::Cuda => DType::BF16,
        }
    }
}

/// Brings what was prepared on the CPU to where a model computes; numbers in f32 go to a card through pinned memory.
///
/// # Errors
/// The device has no memory left, or fails.
pub fn bring(x: &Tensor, device: &Device) -> candle_core::Result<Tensor> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() && x.device().is_cpu() && x.dtype() == DType::F32 && x.elem_count() > 0 {
        let x = x.contiguous()?;
        let (storage, layout) = x.storage_and_layout();
        if let (candle_core::Storage::Cpu(storage), Some((first, end))) = (&*storage, layout.contiguous_offsets()) {
            return crate::cuda::staging::upload(&storage.as_slice::<f32>()?[first..end], x.shape(), device);
        }
    }
    x.to_device(device)
}

/// The card for a process that named none: by its place among the tasks of its node where it sees several.
#[cfg_attr(not(feature = "cuda"), cfg(test))]
fn own_card(local_id: Option<&str>, cards: usize) -> Result<usize, DeviceError> {
    let Some(local_id) = local_id.filter(|_| cards > 1) else { return Ok(0) };
    match local_id.parse() {
        Ok(index) if index < cards => Ok(index),
        _ => Err(DeviceError::MoreTasksThanCards { local_id: local_id.to_owned(), cards }),
    }
}

#[cfg(feature = "cuda")]
mod cards {
    use candle_core::Device;

    use super::{DeviceError, any_card, own_card};
    use crate::cuda;

    pub(super) fn any() -> Result<bool, DeviceError> {
        any_card(cuda::count())
    }

    pub(super) fn open(index: Option<usize>) -> Result<Device, DeviceError> {
        let cards = cuda::count()?;
        let index = match index {
            _ if cards == 0 => return Err(DeviceError::NoCard),
            Some(index) if index >= cards => return Err(DeviceError::NoSuchCard { index, cards }),
            Some(index) => index,
            None => own_card(std::env::var("SLURM_LOCALID").ok().as_deref(), cards)?,
        };
        cuda::open(index)
    }
}

#[cfg(not(feature = "cuda"))]
mod cards {
    use candle_core::Device;

    use super::DeviceError;

    pub(super) fn any() -> Result<bool, DeviceError> {
        Ok(false)
    }

    pub(super) fn open(_: Option<usize>) -> Result<Device, DeviceError> {
        Err(DeviceError::NotBuilt)
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        match (text, text.strip_prefix("cuda:").map(number)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(None)),
            (_, Some(Some(index))) => Ok(Self::Cuda(Some(index))),
            _ => Err("a device is auto, cpu, cuda, or cuda:N with the number of a card".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(index)) => write!(f, "cuda:{index}"),
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for DeviceChoice {
    fn schema_name() -> Cow<'static, str> {
        "DeviceChoice".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A device: auto, cpu, cuda, or cuda:N with the number of a card.",
            "type": "string",
            "pattern": "^(auto|cpu|cuda(:[0-9]+)?)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(None)),
            ("cuda:0", DeviceChoice::Cuda(Some(0))),
            ("cuda:13", DeviceChoice::Cuda(Some(13))),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        for text in ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cpu:0", "cuda:99999999999999999999"] {
            assert!(text.parse::<DeviceChoice>().unwrap_err().contains("auto, cpu, cuda"), "{text}");
        }
    }

    #[test]
    fn a_task_takes_the_card_of_its_place_on_the_node() {
        assert_eq!(own_card(None, 4), Ok(0));
        assert_eq!(own_card(Some("3"), 4), Ok(3));
        // Slurm has left the task one card: that is the one.
        assert_eq!(own_card(Some("3"), 1), Ok(0));
        let crowded = own_card(Some("4"), 4).unwrap_err().to_string();
        assert!(crowded.contains("SLURM_LOCALID is 4") && crowded.contains("4 cards"), "{crowded}");
        assert!(own_card(Some("x"), 2).is_err());
    }

    #[test]
    fn auto_is_the_cpu_only_where_there_is_no_card() {
        let no_file = "libcuda.so.1: cannot open shared object file: No such file or directory";
        assert_eq!(any_card(Ok(2)), Ok(true));
        assert_eq!(any_card(Ok(0)), Ok(false));
        assert_eq!(any_card(Err(DeviceError::driver(no_file.to_owned()))), Ok(false));
        let broken = "libnvidia-x.so.1: cannot open shared object file: No such file or directory";
        for problem in [
            DeviceError::driver(broken.to_owned()),
            DeviceError::Library {
                library: "libcublas.so.13".to_owned(),
                problem: "libcublas.so.13: cannot open shared object file: No such file or directory".to_owned(),
                remedy: "put it there",
            },
            DeviceError::Open("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH".to_owned()),
        ] {
            let said = problem.to_string();
            assert!(said.contains("--device cpu"), "{said}");
            assert_eq!(any_card(Err(problem.clone())), Err(problem));
        }
    }

    #[test]
    fn what_the_pool_keeps_is_free() {
        assert_eq!(free_memory(1000, 900, 300), 1600);
        assert_eq!(free_memory(1000, 0, 0), 1000);
        // Read one after the other, the two may contradict each other.
        assert_eq!(free_memory(1000, 300, 301), 1000);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_for_the_cpu_says_what_to_do() {
        assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
        let refused = DeviceChoice::Cuda(None).open().unwrap_err().to_string();
        assert!(refused.contains("just build-cuda") && refused.contains("--device cpu"), "{refused}");
    }
}
