//! Files on network file systems, which other hosts replace while they are used.

use std::io;

/// Number of attempts at an operation on a file.
pub const ATTEMPTS: usize = 5;

/// Whether a file was removed or replaced between looking its name up and using it (ESTALE, on
/// NFS): the name may belong to another file now, or to none.
pub fn is_stale(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::StaleNetworkFileHandle
}

/// Tries an operation again while its file is stale.
///
/// # Errors
/// The operation failed, or the file was stale every time.
pub fn unless_stale<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut attempt = 1;
    loop {
        match operation() {
            Err(e) if is_stale(&e) && attempt < ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_file_is_looked_up_again_and_other_errors_are_not_retried() {
        let mut calls = 0;
        let mut count = |fails: usize, e: fn() -> io::Error| {
            calls = 0;
            let outcome = unless_stale(|| {
                calls += 1;
                if calls > fails { Ok(()) } else { Err(e()) }
            });
            (outcome.is_ok(), calls)
        };
        let stale_error: fn() -> io::Error = || io::Error::from(io::ErrorKind::StaleNetworkFileHandle);
        assert_eq!(count(2, stale_error), (true, 3));
        assert_eq!(count(100, stale_error), (false, ATTEMPTS));
        assert_eq!(count(1, || io::Error::from(io::ErrorKind::NotFound)), (false, 1));
        assert!(is_stale(&stale_error()));
    }
}
