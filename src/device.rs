//! Where models compute: the CPU, or an NVIDIA card in a build with the feature `cuda`.
//!
//! A card is opened once in a process and cloned: two openings of one would be two streams that know nothing of each other. Which of
//! several cards it was changes no result, so it is no part of an action's key; its class is ([`DeviceClass`]).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};
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
    /// The driver or one of CUDA's libraries is not on this machine.
    #[error("CUDA cannot be used here, {library} is missing ({problem}): {remedy}, or say --device cpu")]
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

impl DeviceChoice {
    /// Opens the device; opened again it is the same one.
    ///
    /// # Errors
    /// A card was asked for, and this build or this machine has none, or none of that number.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => cards::open(index),
            Self::Auto if cards::any() => cards::open(None),
            Self::Auto => Ok(Device::Cpu),
        }
    }
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

    use super::{DeviceError, own_card};
    use crate::cuda;

    pub(super) fn any() -> bool {
        cuda::count().is_ok_and(|cards| cards > 0)
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

    pub(super) fn any() -> bool {
        false
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

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_for_the_cpu_says_what_to_do() {
        assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
        let refused = DeviceChoice::Cuda(None).open().unwrap_err().to_string();
        assert!(refused.contains("just build-cuda") && refused.contains("--device cpu"), "{refused}");
    }
}
