//! Evolution of a vision-language model from unlabelled images (VisPlay, arXiv 2511.15661).
//!
//! visplay is a batch processor: stages read and write content-addressed Parquet shards, so that an
//! evolution can be resumed, replayed, audited and run on many machines. The modules form floors,
//! and a module imports only from lower floors (`tests/all/floors.rs` checks it):
//!
//! | floor | modules |
//! |---|---|
//! | commands | [`cli`] |
//! | device checks; clusters | [`checkup`], [`cluster`] |
//! | rounds of an evolution | [`evolution`] |
//! | stages of a round | [`stages`] |
//! | questions about stored tables | [`analysis`] |
//! | sampling and training | [`sampling`], [`training`] |
//! | models, synthetic scenes | [`vlm`], [`scenes`] |
//! | storage, rewards, images, devices | [`store`], [`tables`], [`reward`], [`imaging`], [`device`] |
//! | basics | [`canonical`], [`ids`], [`random`], [`grading`], [`kernels`], [`text_file`], [`input_kind`] |
//! | the process | [`batch_job`], [`candle_threads`], [`network_files`], [`huge_pages`], [`messages`], [`panics`] |

pub mod analysis;
pub mod batch_job;
pub mod candle_threads;
pub mod canonical;
pub mod checkup;
pub mod cli;
pub mod cluster;
pub mod device;
pub mod evolution;
pub mod grading;
pub mod huge_pages;
pub mod ids;
pub mod imaging;
pub mod input_kind;
pub mod kernels;
pub mod messages;
pub mod network_files;
pub mod panics;
pub mod random;
pub mod reward;
pub mod sampling;
pub mod scenes;
pub mod stages;
pub mod store;
pub mod tables;
pub mod text_file;
pub mod training;
pub mod vlm;
