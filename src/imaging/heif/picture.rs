//! Planes of samples, and their assembly from tiles.

use super::container::{ColorDescription, PrimaryItem};
use crate::imaging::error::ImageError;

/// Decoded samples of a picture.
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Bits of a sample.
    pub(super) depth: u32,
    /// Chroma samples per luma sample, across and down, as powers of 1/2; `None` for grey.
    pub(super) chroma: Option<(u32, u32)>,
    /// Planes of luma and chroma, without padding; those of chroma are empty for grey.
    pub(super) planes: [Vec<u16>; 3],
    /// Colours as the coded picture describes them.
    pub(super) color: ColorDescription,
}

impl Picture {
    /// Returns the size of a plane.
    pub(super) fn plane_size(&self, plane: usize) -> (usize, usize) {
        match (plane, self.chroma) {
            (0, _) => (self.width, self.height),
            (_, None) => (0, 0),
            (_, Some((across, down))) => (self.width.div_ceil(1 << across), self.height.div_ceil(1 << down)),
        }
    }

    /// Returns a row of a plane.
    pub(super) fn row(&self, plane: usize, y: usize) -> &[u16] {
        let (width, _) = self.plane_size(plane);
        &self.planes[plane][y * width..][..width]
    }

    /// Returns a picture of another size without samples.
    fn empty_like(&self, width: usize, height: usize) -> Self {
        let mut picture = Self { width, height, planes: Default::default(), ..*self };
        for plane in 0..3 {
            let (across, down) = picture.plane_size(plane);
            picture.planes[plane] = vec![0; across * down];
        }
        picture
    }

    /// Copies a tile to the given place, without what is beyond the right or bottom edge.
    fn paste(&mut self, tile: &Self, left: usize, top: usize) {
        for plane in 0..3 {
            let (across, down) = if plane == 0 { (0, 0) } else { self.chroma.unwrap_or_default() };
            let ((width, height), (tile_width, tile_height)) = (self.plane_size(plane), tile.plane_size(plane));
            let (left, top) = (left >> across, top >> down);
            let columns = tile_width.min(width.saturating_sub(left));
            for y in 0..tile_height.min(height.saturating_sub(top)) {
                let start = (top + y) * width + left;
                self.planes[plane][start..start + columns].copy_from_slice(&tile.row(plane, y)[..columns]);
            }
        }
    }
}

/// Decodes the tiles of an image with `decode`, and puts them together.
pub(super) fn decode_tiles(
    item: &PrimaryItem<'_>,
    decode: impl Fn(&[u8], usize) -> Result<Picture, ImageError>,
) -> Result<Picture, ImageError> {
    let (width, height) = (item.width as usize, item.height as usize);
    let tile_size = (item.tile_width as usize, item.tile_height as usize);
    let mut canvas: Option<Picture> = None;
    for (index, data) in item.tile_data().enumerate() {
        let tile = decode(&data?, index)?;
        if (tile.width, tile.height) != tile_size {
            return Err(ImageError::corrupt("a coded picture of another size than declared"));
        }
        if tile_size == (width, height) {
            return Ok(tile);
        }
        let (left, top) = (index % item.columns * tile_size.0, index / item.columns * tile_size.1);
        let canvas = canvas.get_or_insert_with(|| tile.empty_like(width, height));
        if (canvas.depth, canvas.chroma) != (tile.depth, tile.chroma) {
            return Err(ImageError::corrupt("tiles of different kinds"));
        }
        let (across, down) = tile.chroma.unwrap_or_default();
        if !left.is_multiple_of(1 << across) || !top.is_multiple_of(1 << down) {
            return Err(ImageError::corrupt("tiles that begin within a chroma sample"));
        }
        canvas.paste(&tile, left, top);
    }
    canvas.ok_or_else(|| ImageError::corrupt("an image without tiles"))
}
