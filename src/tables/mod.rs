//! Parquet tables: one documented row type per table, written deterministically and read strictly.
//!
//! Stages exchange data only through tables. Each table has a file here with its row: a plain
//! struct whose fields are the columns, made a [`TableRow`] by the `table!` macro. [`TableWriter`]
//! writes the same bytes for the same rows; [`TableReader`] rejects files whose columns or values
//! differ from the schema.
//!
//! | table | contents of a row |
//! |---|---|
//! | images | an accepted image ([`ImageRow`]) |
//! | sources | a file, or a row of a Parquet file, that ingest found ([`SourceRow`]) |
//! | measurements | the properties of a file's bytes ([`Measurement`]) |
//! | rejects | a file or row that a stage left out ([`RejectRow`]) |
//! | questions | one sample of the Questioner ([`QuestionRow`]) |
//! | answers | one sample of the Reasoner ([`AnswerRow`]) |
//! | votes | the vote on a question ([`VoteRow`]) |
//! | curriculum | a training row of the Reasoner ([`CurriculumRow`]) |
//! | rewards | a scored sample ([`RewardRow`]) |
//! | metrics | the metrics of a training step ([`MetricRow`]) |
//! | timings | the cost of a training step ([`TimingRow`]) |
//! | predictions | an answer to a benchmark item ([`PredictionRow`]) |
//! | scores | a benchmark score ([`ScoreRow`]) |
//! | benchmarks | a held-out question with its right answer ([`BenchmarkRow`]) |
//! | demonstrations | a response that the warm start trains on ([`DemonstrationRow`]) |
//! | scene_objects | an object of a drawn scene ([`SceneObjectRow`]) |
//! | scene_questions | a question about a drawn scene with its answer ([`SceneQuestionRow`]) |
//! | scene_truths | a generated question about a drawn scene with its answer ([`SceneTruthRow`]) |

mod answers;
mod benchmarks;
mod cell;
mod curriculum;
mod demonstrations;
mod enums;
mod error;
mod footer;
mod hugging_face;
mod image_link;
mod images;
pub mod import;
mod measurements;
mod metrics;
mod predictions;
mod questions;
mod reader;
mod rejects;
mod rewards;
mod row;
mod scene_objects;
mod scene_questions;
mod scene_truths;
pub mod schema_file;
mod scores;
mod source;
mod sources;
mod thrift;
mod timings;
mod votes;
mod writer;

pub use self::answers::{AnswerKey, AnswerRow};
pub use self::benchmarks::{BenchmarkItem, BenchmarkRow};
pub use self::cell::{Cell, CellError};
pub(crate) use self::cell::{string_enum, text_cell};
pub use self::curriculum::CurriculumRow;
pub use self::demonstrations::{Demonstration, DemonstrationRow, DemonstrationSystem};
pub use self::enums::{Finish, QuestionType, QuestionVerdict, Role};
pub use self::error::TableError;
pub use self::image_link::ImageLink;
pub use self::images::{ImageFacts, ImageFile, ImageOrigin, ImageRow};
pub use self::measurements::Measurement;
pub use self::metrics::MetricRow;
pub use self::predictions::{PredictionBox, PredictionKey, PredictionRow};
pub use self::questions::{QuestionKey, QuestionRow};
pub use self::reader::{TableReader, check_path, read, read_file};
pub use self::rejects::RejectRow;
pub use self::rewards::RewardRow;
pub use self::row::{Column, TableRow, type_text};
pub use self::scene_objects::SceneObjectRow;
pub use self::scene_questions::SceneQuestionRow;
pub use self::scene_truths::SceneTruthRow;
pub use self::scores::ScoreRow;
pub use self::sources::{SourceRow, source_display_name};
pub use self::timings::TimingRow;
pub use self::votes::VoteRow;
pub use self::writer::{PROFILE, PROFILE_V1, TableWriter, WriterProfile, to_bytes};
