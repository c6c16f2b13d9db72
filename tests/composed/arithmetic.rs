//! What computes in this program: the operations that a card computes by, on the CPU. In `tests/all` it is the kernels.

use std::sync::Once;

use visplay::vlm::ops::Composed;

/// Whether a result has the same bits whatever is computed beside it: matrix products choose the order of their sums by shape.
pub const EXACT: bool = false;

/// To be called before anything is computed.
pub fn choose() {
    static ONCE: Once = Once::new();
    // For as long as the program runs.
    ONCE.call_once(|| std::mem::forget(Composed::begin()));
}
