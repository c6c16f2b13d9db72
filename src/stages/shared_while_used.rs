//! Values that are made when they are first asked for, and shared as long as somebody holds them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Values by key, each in a slot of its own: who requests for one while another thread makes it waits for that one, and nobody else waits.
#[derive(Debug)]
pub(super) struct SharedWhileUsed<K, V>(Mutex<BTreeMap<K, Arc<Mutex<Weak<V>>>>>);

impl<K, V> Default for SharedWhileUsed<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord, V> SharedWhileUsed<K, V> {
    /// The value of a key; made anew when nobody holds it.
    ///
    /// # Errors
    /// Those of `make`; the next who requests has it made again.
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
    fn threads_that_ask_at_once_share_what_one_of_them_makes() {
        let (values, made, together) = (SharedWhileUsed::default(), AtomicU32::new(0), Barrier::new(4));
        // Who makes one value is not in the way of another.
        assert_eq!(*values.get(1, || values.get(2, || Ok::<u32, ()>(5)).map(|two| *two + 1)).unwrap(), 6);
        let ask = || {
            together.wait();
            let value = values.get(7, || {
                thread::sleep(Duration::from_millis(20));
                Ok::<_, ()>(made.fetch_add(1, Ordering::SeqCst))
            });
            together.wait();
            value.unwrap()
        };
        let held: Vec<Arc<u32>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
        assert!(held.iter().all(|value| Arc::ptr_eq(value, &held[0])));
        // Nobody holds it any more: it is made again. What failed is not kept either.
        drop(held);
        assert_eq!(values.get(7, || Err("gone")).unwrap_err(), "gone");
        assert_eq!(*values.get(7, || Ok::<_, ()>(9)).unwrap(), 9);
    }
}
