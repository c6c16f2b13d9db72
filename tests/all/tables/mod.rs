//! Tables: every table through the writer and back, golden bytes, strictness, damage.

mod round_trip;
mod samples;
