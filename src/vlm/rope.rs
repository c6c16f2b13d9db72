//! Rotary position embedding: the positions of tokens, and the angles of positions.
//!
//! A text token has one position. An image token has three (time, row, column), each of which
//! determines the angles of some of a head's frequencies (mrope, Qwen2-VL, arXiv 2409.12191,
//! section 2.1).

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Tensor};

use super::grid::Grid;
use super::ops::at_least_f32;
use crate::device::upload;

/// The positions of a sequence's tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Positions {
    /// `[time, row, column]` of each token.
    pub tokens: Vec<[u32; 3]>,
    /// The position of the next text token.
    pub next: u32,
}

impl Positions {
    /// Appends `count` text tokens.
    pub fn push_text(&mut self, count: usize) {
        for _ in 0..count {
            self.tokens.push([self.next; 3]);
            self.next += 1;
        }
    }
}

/// A mismatch between the image tokens of a prompt and its images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the prompt has {placeholders} image tokens, but its {images} images need {expected}")]
pub struct PlaceholderError {
    /// Image tokens in the prompt.
    pub placeholders: usize,
    /// Images of the prompt.
    pub images: usize,
    /// Image tokens that these images need.
    pub expected: usize,
}

/// Returns the positions of a prompt whose `image_token`s stand for `images`, in order.
///
/// The three positions of a text token are equal: one more than those of the text token before it.
/// The positions of an image token are its (time, row, column) in the image plus the next text
/// position. The text after an image continues at the largest position used + 1 (transformers'
/// `get_rope_index`; the time of a still image is 0).
pub fn mrope_positions(
    ids: &[u32],
    image_token: u32,
    images: &[Grid],
    merge: usize,
) -> std::result::Result<Positions, PlaceholderError> {
    let placeholders = ids.iter().filter(|id| **id == image_token).count();
    let expected = images.iter().map(|grid| grid.tokens(merge)).sum();
    let mut positions = Positions { tokens: Vec::with_capacity(ids.len()), next: 0 };
    let mut grids = images.iter();
    let mut at = 0;
    while at < ids.len() {
        if ids[at] != image_token {
            positions.push_text(1);
            at += 1;
            continue;
        }
        let run = ids[at..].iter().take_while(|id| **id == image_token).count();
        let mut placed = 0;
        while placed < run {
            let Some(grid) = grids.next().filter(|grid| placed + grid.tokens(merge) <= run) else {
                return Err(PlaceholderError { placeholders, images: images.len(), expected });
            };
            push_image(&mut positions, *grid, merge);
            placed += grid.tokens(merge);
        }
        at += run;
    }
    match grids.next() {
        None => Ok(positions),
        Some(_) => Err(PlaceholderError { placeholders, images: images.len(), expected }),
    }
}

fn push_image(positions: &mut Positions, grid: Grid, merge: usize) {
    let (rows, columns) = (grid.rows / merge, grid.columns / merge);
    let start = positions.next;
    for frame in 0..grid.frames {
        for row in 0..rows {
            for column in 0..columns {
                positions.tokens.push([start + frame as u32, start + row as u32, start + column as u32]);
            }
        }
    }
    positions.next = start + rows.max(columns) as u32;
}

/// Returns `1 / base^(2i / dim)` for i below `dim / 2`, rounded where transformers rounds.
pub fn inverse_frequencies(base: f64, dim: usize) -> Vec<f32> {
    (0..dim)
        .step_by(2)
        .map(|i| {
            let exponent = i as f32 / dim as f32;
            1.0 / base.powf(f64::from(exponent)) as f32
        })
        .collect()
}

/// Cosines and sines of `position * frequency`, computed once per position.
#[derive(Debug)]
pub struct Angles {
    frequencies: Vec<f32>,
    table: Mutex<Arc<Table>>,
}

/// The cosines and sines computed so far, `[positions, frequencies]`.
#[derive(Debug, Default)]
struct Table {
    positions: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    /// Angles at these frequencies.
    pub fn new(frequencies: Vec<f32>) -> Self {
        Self { frequencies, table: Mutex::default() }
    }

    /// Returns a table of at least this many positions.
    fn table(&self, positions: usize) -> Arc<Table> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.positions < positions {
            let positions = positions.next_power_of_two();
            let angles = (0..positions).flat_map(|p| self.frequencies.iter().map(move |f| p as f32 * f));
            let (cos, sin) = angles.map(|a| (a.cos(), a.sin())).unzip();
            *table = Arc::new(Table { positions, cos, sin });
        }
        table.clone()
    }
}

/// The angles of the text tower.
#[derive(Debug)]
pub struct TextAngles {
    angles: Angles,
    /// Index of the position (time, row or column) that each frequency of a head follows.
    stream: Vec<usize>,
}

impl TextAngles {
    /// Creates the angles of heads of width `head_dim`; `sections[i]` of their frequencies follow
    /// position i.
    pub fn new(base: f64, head_dim: usize, sections: [usize; 3]) -> Self {
        let stream = (0..3).flat_map(|i| std::iter::repeat_n(i, sections[i])).collect();
        Self { angles: Angles::new(inverse_frequencies(base, head_dim)), stream }
    }

    /// Returns cosines and sines, `[tokens, head_dim / 2]` each, for heads of `dtype`. They have 32
    /// bits for heads of 16 bits too: in 16 bits the cosines of far positions would be equal.
    pub fn at(&self, positions: &[[u32; 3]], dtype: DType, device: &Device) -> Result<(Tensor, Tensor)> {
        let largest = positions.iter().flatten().max().map_or(0, |p| *p as usize);
        let table = self.angles.table(largest + 1);
        let half = self.stream.len();
        let pick = |from: &[f32]| {
            let mut picked = Vec::with_capacity(positions.len() * half);
            for position in positions {
                if position[0] == position[1] && position[1] == position[2] {
                    picked.extend_from_slice(&from[position[0] as usize * half..][..half]);
                } else {
                    picked.extend((0..half).map(|j| from[position[self.stream[j]] as usize * half + j]));
                }
            }
            upload(&Tensor::from_vec(picked, (positions.len(), half), &Device::Cpu)?, device)?
                .to_dtype(at_least_f32(dtype))
        };
        Ok((pick(&table.cos)?, pick(&table.sin)?))
    }
}

/// The angles of the vision tower: half of a head's frequencies follow the row, half the column.
#[derive(Debug)]
pub struct VisionAngles {
    angles: Angles,
}

impl VisionAngles {
    /// Creates the angles of heads of width `head_dim`.
    pub fn new(base: f64, head_dim: usize) -> Self {
        Self { angles: Angles::new(inverse_frequencies(base, head_dim / 2)) }
    }

    /// Returns cosines and sines, `[patches, head_dim / 2]` each, for heads of `dtype`.
    pub fn at(&self, positions: &[(u32, u32)], dtype: DType, device: &Device) -> Result<(Tensor, Tensor)> {
        let largest = positions.iter().map(|(row, column)| *row.max(column) as usize).max().unwrap_or(0);
        let table = self.angles.table(largest + 1);
        let quarter = self.angles.frequencies.len();
        let pick = |from: &[f32]| {
            let mut picked = Vec::with_capacity(positions.len() * 2 * quarter);
            for (row, column) in positions {
                picked.extend_from_slice(&from[*row as usize * quarter..][..quarter]);
                picked.extend_from_slice(&from[*column as usize * quarter..][..quarter]);
            }
            upload(&Tensor::from_vec(picked, (positions.len(), 2 * quarter), &Device::Cpu)?, device)?
                .to_dtype(at_least_f32(dtype))
        };
        Ok((pick(&table.cos)?, pick(&table.sin)?))
    }
}
