//! A queue whose items several threads process in parallel and deliver in order.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Hands out items with numbered tickets and lets their holders pass in the order of the numbers.
#[derive(Debug)]
pub(super) struct TicketQueue<I> {
    items: Mutex<(u64, I)>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the ticket that may pass next.
    next: u64,
    /// Lowest ticket that was dropped without passing; no later one can pass.
    abandoned: Option<u64>,
}

/// An item's number in the order of delivery. Dropped after it has passed, it lets the next ticket
/// pass; dropped before, it ends all later ones.
#[derive(Debug)]
pub(super) struct Ticket<'a, I: Iterator> {
    order: &'a TicketQueue<I>,
    number: u64,
    passed: bool,
}

impl<I: Iterator> TicketQueue<I> {
    pub(super) fn new(items: I) -> Self {
        Self { items: Mutex::new((0, items)), state: Mutex::default(), changed: Condvar::new() }
    }

    /// Returns the next item with its ticket; `None` at the end.
    pub(super) fn take(&self) -> Option<(Ticket<'_, I>, I::Item)> {
        // An iterator that panicked is not called again.
        let mut items = self.items.lock().ok()?;
        let item = items.1.next()?;
        let number = items.0;
        items.0 += 1;
        Some((Ticket { order: self, number, passed: false }, item))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: Iterator> Ticket<'_, I> {
    /// Waits until all earlier tickets have passed; returns false if one was dropped before.
    pub(super) fn wait(&mut self) -> bool {
        let waiting = |state: &mut State| state.next != self.number && state.abandoned.is_none_or(|n| n > self.number);
        let state = self.order.changed.wait_while(self.order.state(), waiting).unwrap_or_else(PoisonError::into_inner);
        self.passed = state.next == self.number;
        self.passed
    }
}

impl<I: Iterator> Drop for Ticket<'_, I> {
    fn drop(&mut self) {
        let mut state = self.order.state();
        if self.passed {
            state.next = self.number + 1;
        } else {
            state.abandoned = Some(state.abandoned.map_or(self.number, |n| n.min(self.number)));
        }
        drop(state);
        self.order.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Returns the order in which four threads deliver numbers; `work` runs before a ticket waits.
    fn delivered(count: u64, work: impl Fn(u64) + Sync) -> Vec<u64> {
        let (order, seen) = (TicketQueue::new(0..count), Mutex::new(Vec::new()));
        let worker = || {
            while let Some((mut ticket, item)) = order.take() {
                work(item);
                if !ticket.wait() {
                    return;
                }
                seen.lock().unwrap().push(item);
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| catch_unwind(AssertUnwindSafe(worker)));
            }
        });
        seen.into_inner().unwrap()
    }

    #[test]
    fn slow_items_are_delivered_in_order() {
        let slow = |item: u64| thread::sleep(Duration::from_millis(if item.is_multiple_of(3) { 5 } else { 0 }));
        assert_eq!(delivered(60, slow), (0..60).collect::<Vec<_>>());
    }

    #[test]
    fn a_panic_ends_all_later_items() {
        let seen = delivered(60, |item| assert_ne!(item, 20, "intended panic"));
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
    }
}
