//! The integration tests, by capability, as one program (linking is what takes long).
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod grading;
mod rewards;
