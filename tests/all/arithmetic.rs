//! What computes in this program: the kernels. `tests/composed` runs the same tests without them.

/// Whether a result has the same bits whatever is computed beside it.
pub const EXACT: bool = true;

/// To be called before anything is computed.
pub fn choose() {}
