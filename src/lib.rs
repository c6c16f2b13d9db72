//! visplay evolves a vision-language model from a folder of unlabelled images (the VisPlay method, arXiv 2511.15661).
//!
//! It is a batch processor: stages read and write content-addressed Parquet shards, so that an evolution can be
//! resumed, replayed, audited and run on many machines. The modules are floors of one house; a module imports
//! only from lower floors:
//!
//! | floor | modules |
//! |---|---|
//! | commands | [`cli`] |
//! | evolution | [`evolution`] |
//! | stages | [`stages`] |
//! | questions about tables | [`analysis`] |
//! | rows and bytes | [`store`], [`tables`] |
//! | ground | [`imaging`], [`ids`], [`canonical`], [`panics`] |

pub mod analysis;
pub mod canonical;
pub mod cli;
pub mod evolution;
pub mod ids;
pub mod imaging;
pub mod panics;
pub mod stages;
pub mod store;
pub mod tables;
