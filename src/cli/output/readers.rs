//! Whether anybody can read standard output.
#![allow(unsafe_code)]

/// Returns whether standard output still has a reader, without writing to it: `false` if it is a
/// pipe, a socket or a terminal that is closed at the other end.
pub fn has_reader() -> bool {
    let mut stdout = libc::pollfd { fd: libc::STDOUT_FILENO, events: 0, revents: 0 };
    // SAFETY: the pointer is to one `pollfd`, as the count says, which nothing else uses.
    let count = unsafe { libc::poll(&raw mut stdout, 1, 0) };
    count <= 0 || stdout.revents & (libc::POLLERR | libc::POLLHUP) == 0
}
