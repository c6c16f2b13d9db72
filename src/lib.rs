//! visplay evolves a vision-language model from a folder of unlabelled images (the VisPlay method, arXiv 2511.15661).
//!
//! It is a batch processor: stages read and write content-addressed Parquet shards, so that an evolution can be
//! resumed, replayed, audited and run on many machines. The modules are floors of one house; a module imports
//! only from lower floors:
//!
//! | floor | modules |
//! |---|---|
//! | commands | [`cli`] |
//! | model | [`vlm`] |
//! | pixels | [`imaging`] |

pub mod cli;
pub mod imaging;
pub mod vlm;
