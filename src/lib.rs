//! visplay evolves a vision-language model from a folder of unlabelled images (the VisPlay method, arXiv 2511.15661).
//!
//! It is a batch processor: stages read and write content-addressed Parquet shards, so that an evolution can be
//! resumed, replayed, audited and run on many machines. The modules are floors of one house; a module imports
//! only from lower floors:
//!
//! | floor | modules |
//! |---|---|
//! | commands | [`cli`] |
//! | checks of a device | [`checkup`] |
//! | evolution | [`evolution`] |
//! | stages | [`stages`] |
//! | questions about tables | [`analysis`] |
//! | generation, training | [`sampling`], [`training`] |
//! | rewards, a model's weights and layers | [`reward`], [`vlm`] |
//! | drawn scenes, their questions and truth | [`scenes`] |
//! | rows and bytes | [`store`], [`tables`] |
//! | ground | [`grading`], [`imaging`], [`kernels`], [`device`], [`random`], [`ids`], [`canonical`], [`panics`], [`candle_threads`], [`huge_pages`] |

pub mod analysis;
pub mod candle_threads;
pub mod canonical;
pub mod checkup;
pub mod cli;
pub mod device;
pub mod evolution;
pub mod grading;
pub mod huge_pages;
pub mod ids;
pub mod imaging;
pub mod kernels;
pub mod panics;
pub mod random;
pub mod reward;
pub mod sampling;
pub mod scenes;
pub mod stages;
pub mod store;
pub mod tables;
pub mod training;
pub mod vlm;
