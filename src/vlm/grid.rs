//! The grid of an image's patches: their positions, and their order in attention windows.

/// Numbers of an image's patches along each axis; rows and columns are multiples of the merge size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(into = "[usize; 3]")]
pub struct Grid {
    /// Patches along time; 1 for an image.
    pub frames: usize,
    /// Rows of patches.
    pub rows: usize,
    /// Columns of patches.
    pub columns: usize,
}

impl From<Grid> for [usize; 3] {
    fn from(grid: Grid) -> Self {
        [grid.frames, grid.rows, grid.columns]
    }
}

impl Grid {
    /// Returns the grid of a still image.
    pub fn image(rows: usize, columns: usize) -> Self {
        Self { frames: 1, rows, columns }
    }

    /// Returns the number of patches.
    pub fn patches(self) -> usize {
        self.frames * self.rows * self.columns
    }

    /// Returns the number of image tokens, each of `merge * merge` patches.
    pub fn tokens(self, merge: usize) -> usize {
        self.patches() / (merge * merge)
    }

    /// Returns row and column of each patch, in the order of the patches: by frame, then by blocks
    /// of `merge * merge`.
    pub fn patch_positions(self, merge: usize) -> Vec<(u32, u32)> {
        let mut positions = Vec::with_capacity(self.patches());
        for _ in 0..self.frames {
            for (row, column) in raster_order(self.rows / merge, self.columns / merge) {
                for (i, j) in raster_order(merge, merge) {
                    positions.push(((row * merge + i) as u32, (column * merge + j) as u32));
                }
            }
        }
        positions
    }

    /// Returns the image's tokens in the order of windows of `side * side` tokens, and the number
    /// of tokens of each window.
    ///
    /// Windows follow one another row by row; those at the right and lower edge are smaller.
    /// transformers pads an axis that the window divides by one extra window without tokens:
    /// leaving it out gives the same order.
    pub fn windows(self, merge: usize, side: usize) -> (Vec<u32>, Vec<usize>) {
        let (rows, columns) = (self.rows / merge, self.columns / merge);
        let mut order = Vec::with_capacity(self.frames * rows * columns);
        let mut lengths = Vec::new();
        for frame in 0..self.frames {
            for (top, left) in raster_order(rows.div_ceil(side), columns.div_ceil(side)) {
                let before = order.len();
                for row in top * side..rows.min((top + 1) * side) {
                    for column in left * side..columns.min((left + 1) * side) {
                        order.push(((frame * rows + row) * columns + column) as u32);
                    }
                }
                lengths.push(order.len() - before);
            }
        }
        (order, lengths)
    }
}

fn raster_order(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
}

#[cfg(test)]
mod tests {
    use super::Grid;

    #[test]
    fn a_window_at_the_edge_is_smaller() {
        let (order, lengths) = Grid::image(4, 10).windows(2, 2);
        assert_eq!(lengths, [4, 4, 2]);
        assert_eq!(order, [0, 1, 5, 6, 2, 3, 7, 8, 4, 9]);
    }

    #[test]
    fn an_axis_that_the_window_divides_has_no_empty_window() {
        let (order, lengths) = Grid::image(8, 8).windows(2, 4);
        assert_eq!(lengths, [16]);
        assert_eq!(order, (0..16).collect::<Vec<_>>());
    }

    #[test]
    fn patches_come_in_blocks() {
        let positions = Grid::image(2, 4).patch_positions(2);
        assert_eq!(positions, [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)]);
    }
}
