//! Tests of the tables: round trips, golden bytes, strict reading, damaged files.

mod golden;
mod polars;
mod readers;
mod round_trip;
pub(crate) mod samples;
mod strict;

/// Calls a generic function for each table.
macro_rules! for_each_table {
    ($function:ident $(, $argument:expr)*) => {{
        $function::<visplay::tables::ImageRow>($($argument),*);
        $function::<visplay::tables::SourceRow>($($argument),*);
        $function::<visplay::tables::Measurement>($($argument),*);
        $function::<visplay::tables::RejectRow>($($argument),*);
        $function::<visplay::tables::QuestionRow>($($argument),*);
        $function::<visplay::tables::AnswerRow>($($argument),*);
        $function::<visplay::tables::VoteRow>($($argument),*);
        $function::<visplay::tables::CurriculumRow>($($argument),*);
        $function::<visplay::tables::RewardRow>($($argument),*);
        $function::<visplay::tables::MetricRow>($($argument),*);
        $function::<visplay::tables::TimingRow>($($argument),*);
        $function::<visplay::tables::PredictionRow>($($argument),*);
        $function::<visplay::tables::ScoreRow>($($argument),*);
        $function::<visplay::tables::BenchmarkRow>($($argument),*);
        $function::<visplay::tables::DemonstrationRow>($($argument),*);
        $function::<visplay::tables::SceneObjectRow>($($argument),*);
        $function::<visplay::tables::SceneQuestionRow>($($argument),*);
        $function::<visplay::tables::SceneTruthRow>($($argument),*);
    }};
}

use for_each_table;
