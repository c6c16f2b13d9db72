//! Tiny checkpoints that are built into the program, so that it can check a device from any folder.
//!
//! They are the smaller half of `tests/data/model`: tied and untied heads, grouped-query attention,
//! full and windowed vision attention, one and several sections of rotary positions, in BF16 and
//! F16. `visplay doctor --full --checkpoints tests/data/model` checks all of them.

use tempfile::TempDir;

use super::{CheckupError, Result};

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../../tests/data/model/", $name)))),*]
    };
}

const FILES: &[(&str, &[u8])] = files! {
    "parity.json"
    "bf16.json"
    "tokenizer.json"
    "images/grey.png"
    "images/large.jpg"
    "images/palette.png"
    "images/photo.png"
    "images/rgba.png"
    "images/rotated.jpg"
    "images/tall.png"
    "images/tiny.png"
    "images/wide.png"
    "images/window.png"
    "tied-1/config.json"
    "tied-1/preprocessor_config.json"
    "tied-1/model.safetensors"
    "untied-2/config.json"
    "untied-2/preprocessor_config.json"
    "untied-2/model.safetensors"
    "one-section/config.json"
    "one-section/preprocessor_config.json"
    "one-section/model.safetensors"
    "gqa-7/config.json"
    "gqa-7/preprocessor_config.json"
    "gqa-7/model.safetensors"
    "all-full/config.json"
    "all-full/preprocessor_config.json"
    "all-full/model.safetensors"
    "all-windowed/config.json"
    "all-windowed/preprocessor_config.json"
    "all-windowed/model.safetensors"
};

/// Writes the files to a temporary folder, which is removed when the handle is dropped.
pub(super) fn unpack() -> Result<TempDir> {
    let parent = std::env::temp_dir();
    let folder = tempfile::tempdir().map_err(CheckupError::at(&parent))?;
    for (name, bytes) in FILES {
        let file = folder.path().join(name);
        let parent = file.parent().unwrap_or(folder.path());
        let write = std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&file, bytes));
        write.map_err(CheckupError::at(&file))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::checkup::parity;
    use crate::vlm::ops::Ops;

    #[test]
    fn the_cpu_passes_on_the_built_in_checkpoints() {
        assert!(FILES.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 2_000_000);
        let folder = unpack().unwrap();
        for check in parity::check(folder.path(), &Device::Cpu, Ops::Reference).unwrap() {
            assert!(check.passed, "{}: {}, allowed {}", check.name, check.deviation, check.allowed);
        }
    }
}
