//! A value that is computed from its owner when it is first needed.

use std::sync::OnceLock;

use candle_core::Result;

/// A value that is computed from its owner when it is first needed. It holds no information of
/// its own, so comparisons ignore it and clones start without it.
#[derive(Debug)]
pub(crate) struct LazyDerived<T>(OnceLock<T>);

impl<T> LazyDerived<T> {
    /// Returns the value; the first call computes it.
    pub(crate) fn get(&self, compute: impl FnOnce() -> Result<T>) -> Result<&T> {
        match self.0.get() {
            Some(value) => Ok(value),
            None => {
                let computed = compute()?;
                Ok(self.0.get_or_init(|| computed))
            }
        }
    }
}

impl<T> Default for LazyDerived<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> Clone for LazyDerived<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> PartialEq for LazyDerived<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for LazyDerived<T> {}
