//! Files of benchmarks: rows with named cells, and the items that they are.
//!
//! Readers are pure functions of bytes; whoever calls them opens files and decodes Parquet. A row
//! that is no item is an error that names row and column.
//!
//! | step | file |
//! |---|---|
//! | tab-separated rows | `tsv.rs` |
//! | lines of JSON, and whole JSON files | `json.rs` |
//! | images of VLMEvalKit's rows | `tsv_images.rs` |
//! | the benchmark of a set of columns | `columns.rs` |
//! | items of rows | `items.rs` |
//! | answers for other programs | `export.rs` |

mod cell;
mod columns;
mod export;
mod items;
mod json;
mod tsv;
mod tsv_images;

pub use cell::{Row, RowError};
pub use columns::{Layout, UnknownColumns, recognize};
pub use export::{mmmu_submission, vlmevalkit_predictions};
pub use items::{ParsedItem, SkippedRow, parse_item};
pub use json::read_json;
pub use tsv::read_tsv;
pub use tsv_images::{EncodedImages, tsv_images};
