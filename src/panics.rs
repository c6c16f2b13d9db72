//! A guard that turns panics into errors, for third-party decoders that panic on damaged input.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};

thread_local! {
    /// Number of guards that this thread is inside.
    static GUARDS: Cell<u32> = const { Cell::new(0) };
}

/// Runs `step` and returns the message of a panic as the error.
///
/// Data that `step` was changing when it panicked must not be used afterwards.
pub fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, String> {
    GUARDS.set(GUARDS.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(step));
    GUARDS.set(GUARDS.get() - 1);
    result.map_err(|panic| message_of(panic.as_ref()).to_owned())
}

/// Silences the panic hook inside [`guarded`], whose caller reports the error; other panics print
/// as before.
///
/// Call it once, when the program starts.
pub fn silence_guarded() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if GUARDS.get() == 0 {
            print(info);
        }
    }));
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(guarded(|| 5), Ok(5));
        assert_eq!(guarded(|| panic!("page {} is gone", 3)), Err::<(), _>("page 3 is gone".to_owned()));
        assert_eq!(guarded(|| guarded(|| panic!("inner"))), Ok(Err::<(), _>("inner".to_owned())));
        assert_eq!(GUARDS.get(), 0);
    }
}
