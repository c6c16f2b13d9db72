//! The image processor: from an upright RGB image to the patches that the vision tower reads.
//!
//! It computes what `Qwen2VLImageProcessorPil` of transformers computes, in the same order, so that
//! patches are equal to the last bit. The image is resized to multiples of `patch_size *
//! merge_size` ([`smart_resize`]), bicubically on 8-bit values; then `value = (f32(byte *
//! rescale_factor) - mean) / std` for each channel, with the product in f64.
//!
//! A patch is `[3, temporal, patch, patch]` flattened, with the image's one frame repeated. Patches
//! are ordered by merge blocks of `merge_size x merge_size`, so that each block that the tower
//! merges is contiguous.
//!
//! `description.rs` reads the settings of a checkpoint's processor.

mod description;

pub use self::description::{ImageProcessorError, PROCESSOR_FILE, PROCESSORS_FILE, ProcessorText};

use crate::imaging::{Filter, PixelBudget, RgbImage, SmartResizeError, resize, smart_resize};

const CHANNELS: usize = 3;

/// The patches of an image, as the vision tower reads them.
#[derive(Debug, Clone, PartialEq)]
pub struct Patches {
    /// `[grid t * h * w, 3 * temporal * patch * patch]`, row by row.
    pub values: Vec<f32>,
    /// Numbers of patches along time, height and width.
    pub grid: [usize; 3],
}

impl Patches {
    /// Returns the number of patches.
    pub fn count(&self) -> usize {
        self.grid.iter().product()
    }
}

/// The image processor of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageProcessor {
    /// Number of pixels along a side of a patch.
    pub(super) patch_size: usize,
    /// Number of frames of a patch.
    pub(super) temporal_patch_size: usize,
    /// Number of patches along a side of a block that the vision tower merges into one token.
    pub(super) merge_size: usize,
    /// Smallest and largest number of pixels of a resized image.
    pub budget: PixelBudget,
    /// The normalised value of `[channel][byte]`.
    table: [[f32; 256]; CHANNELS],
}

impl ImageProcessor {
    /// Returns the processor with other pixel limits, such as those of a command's flags.
    #[must_use]
    pub fn with_budget(mut self, budget: PixelBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Returns the number of values in a patch: `3 * temporal * patch * patch`.
    pub fn patch_dim(&self) -> usize {
        CHANNELS * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Returns the numbers of patches (time, height, width) of an image of this size.
    ///
    /// # Errors
    /// The aspect ratio is above 200, or a side is zero.
    pub fn grid(&self, width: u32, height: u32) -> Result<[usize; 3], SmartResizeError> {
        let factor = (self.patch_size * self.merge_size) as u32;
        let (width, height) = smart_resize(width, height, factor, self.budget)?;
        Ok([1, height as usize / self.patch_size, width as usize / self.patch_size])
    }

    /// Resizes and normalises an image and cuts it into patches.
    ///
    /// # Errors
    /// As [`Self::grid`].
    pub fn process(&self, image: &RgbImage) -> Result<Patches, SmartResizeError> {
        let grid = self.grid(image.width(), image.height())?;
        let [_, rows, columns] = grid;
        let (width, height) = (columns * self.patch_size, rows * self.patch_size);
        let resized = resize(image, width as u32, height as u32, Filter::Bicubic);
        let merge = self.merge_size;
        let mut values = vec![0.0; rows * columns * self.patch_dim()];
        let mut patches = values.chunks_exact_mut(self.patch_dim());
        for block_row in (0..rows).step_by(merge) {
            for block_column in (0..columns).step_by(merge) {
                for place in 0..merge * merge {
                    let (row, column) = (block_row + place / merge, block_column + place % merge);
                    if let Some(patch) = patches.next() {
                        self.cut(&resized, row, column, patch);
                    }
                }
            }
        }
        Ok(Patches { values, grid })
    }

    /// Writes the patch at (row, column) as `[3, temporal, patch, patch]`.
    fn cut(&self, image: &RgbImage, row: usize, column: usize, patch: &mut [f32]) {
        let (side, line) = (self.patch_size, image.width() as usize * CHANNELS);
        let frame = side * side;
        let channels = patch.chunks_exact_mut(frame * self.temporal_patch_size).zip(&self.table);
        for (channel, (frames, table)) in channels.enumerate() {
            let (first, others) = frames.split_at_mut(frame);
            for (y, values) in first.chunks_exact_mut(side).enumerate() {
                let start = (row * side + y) * line + column * side * CHANNELS + channel;
                let bytes = image.data()[start..].iter().step_by(CHANNELS);
                for (value, byte) in values.iter_mut().zip(bytes) {
                    *value = table[usize::from(*byte)];
                }
            }
            for other in others.chunks_exact_mut(frame) {
                other.copy_from_slice(first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn blocks_of_four_patches_are_contiguous() {
        // The value of a pixel is the index of its patch, row by row.
        let patch = |x: usize, y: usize| (y / 14 * 8 + x / 14) as u8;
        let data = (0..56).flat_map(|y| (0..112).flat_map(move |x| [patch(x, y); 3])).collect();
        let image = RgbImage::new(112, 56, data).unwrap();
        let config = r#"{"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "rescale_factor": 1}"#;
        let patches =
            ImageProcessor::from_json(config, Path::new("preprocessor_config.json")).unwrap().process(&image).unwrap();
        assert_eq!(patches.grid, [1, 4, 8]);
        assert_eq!(patches.count(), 32);
        let order: Vec<f32> = patches.values.chunks(1176).map(|values| values[0]).collect();
        assert_eq!(order[..8], [0.0, 1.0, 8.0, 9.0, 2.0, 3.0, 10.0, 11.0]);
        assert!(patches.values.chunks(1176).all(|values| values.iter().all(|value| *value == values[0])));
    }
}
