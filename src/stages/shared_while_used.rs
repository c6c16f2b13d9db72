//! A cache of values that are computed on first use and shared as long as any caller holds them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Values by key, each with a lock of its own: threads that ask for a value while another thread
/// computes it wait for that one, and threads that ask for other values do not wait.
#[derive(Debug)]
pub(super) struct SharedWhileUsed<K, V>(Mutex<BTreeMap<K, Arc<Mutex<Weak<V>>>>>);

impl<K, V> Default for SharedWhileUsed<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord, V> SharedWhileUsed<K, V> {
    /// Returns the value of a key, computed by `make` if no caller holds it.
    ///
    /// # Errors
    /// The errors of `make`; the next call tries again.
    pub(super) fn get<E>(&self, key: K, make: impl FnOnce() -> Result<V, E>) -> Result<Arc<V>, E> {
        let slot = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = slot.upgrade() {
            return Ok(value);
        }
        let value = Arc::new(make()?);
        *slot = Arc::downgrade(&value);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn concurrent_requests_share_one_computation() {
        let (values, computed, together) = (SharedWhileUsed::default(), AtomicU32::new(0), Barrier::new(4));
        // Computing one value does not block another.
        assert_eq!(*values.get(1, || values.get(2, || Ok::<u32, ()>(5)).map(|two| *two + 1)).unwrap(), 6);
        let request = || {
            together.wait();
            let value = values.get(7, || {
                thread::sleep(Duration::from_millis(20));
                Ok::<_, ()>(computed.fetch_add(1, Ordering::SeqCst))
            });
            together.wait();
            value.unwrap()
        };
        let held: Vec<Arc<u32>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(request)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(computed.load(Ordering::SeqCst), 1);
        assert!(held.iter().all(|value| Arc::ptr_eq(value, &held[0])));
        // A value that no caller holds is computed again, and a failure is not cached.
        drop(held);
        assert_eq!(values.get(7, || Err("gone")).unwrap_err(), "gone");
        assert_eq!(*values.get(7, || Ok::<_, ()>(9)).unwrap(), 9);
    }
}
