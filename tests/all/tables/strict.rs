//! Errors of the strict reader and the writer.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, LargeStringArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use visplay::ids::Digest;
use visplay::tables::{
    CurriculumRow, ImageFacts, ImageRow, QuestionRow, RejectRow, ScoreRow, TableRow, TableWriter, read, to_bytes,
};

use super::samples::rows;

/// Writes a file as another program might do: the columns of `rows` after `change`.
fn changed<R: TableRow>(rows: &[R], change: impl FnOnce(&mut Vec<(Field, ArrayRef)>)) -> Bytes {
    let batch = R::to_batch(rows).unwrap();
    let fields = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>();
    let mut columns: Vec<(Field, ArrayRef)> = fields.into_iter().zip(batch.columns().iter().cloned()).collect();
    change(&mut columns);
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    file.into()
}

fn error_of<R: TableRow + std::fmt::Debug>(file: Bytes) -> String {
    read::<R>("some.parquet", file).unwrap_err().to_string()
}

fn index_of<R: TableRow>(name: &str) -> usize {
    R::columns().iter().position(|column| column.name == name).unwrap()
}

#[test]
fn reordered_and_nullable_columns_are_read() {
    let written = rows::<ScoreRow>(1, 20);
    let file = changed(&written, |columns| {
        columns.reverse();
        for (field, _) in columns.iter_mut() {
            *field = field.clone().with_nullable(true);
        }
    });
    assert_eq!(read::<ScoreRow>("x", file).unwrap(), written);
}

#[test]
fn large_strings_of_other_writers_are_read() {
    let written = rows::<ScoreRow>(2, 20);
    let file = changed(&written, |columns| {
        let large = LargeStringArray::from_iter_values(written.iter().map(|row| row.benchmark.clone()));
        columns[0] = (Field::new("benchmark", DataType::LargeUtf8, false), Arc::new(large));
    });
    assert_eq!(read::<ScoreRow>("x", file).unwrap(), written);
}

#[test]
fn a_missing_column_is_named() {
    let file = changed(&rows::<ScoreRow>(1, 3), |columns| drop(columns.remove(index_of::<ScoreRow>("value"))));
    assert_eq!(
        error_of::<ScoreRow>(file),
        "some.parquet: table scores needs a column `value` (float64), but the file has none"
    );
}

#[test]
fn an_extra_column_is_named() {
    let file = changed(&rows::<ScoreRow>(1, 3), |columns| {
        columns.push((Field::new("mood", DataType::Int64, false), Arc::new(Int64Array::from(vec![1, 2, 3]))));
    });
    assert_eq!(error_of::<ScoreRow>(file), "some.parquet: column `mood` is not a column of table scores");
}

#[test]
fn a_column_of_the_wrong_type_is_named() {
    let index = index_of::<ScoreRow>("value");
    let file = changed(&rows::<ScoreRow>(1, 2), |columns| {
        columns[index] = (Field::new("value", DataType::Utf8, false), Arc::new(StringArray::from(vec!["1", "2"])));
    });
    assert_eq!(
        error_of::<ScoreRow>(file),
        "some.parquet: column `value` of table scores must be float64, but is string"
    );
    let index = index_of::<QuestionRow>("token_ids");
    let file = changed(&rows::<QuestionRow>(1, 2), |columns| {
        columns[index] = (Field::new("token_ids", DataType::Int64, false), Arc::new(Int64Array::from(vec![1, 2])));
    });
    assert!(error_of::<QuestionRow>(file).ends_with("must be list<uint32>, but is int64"));
}

#[test]
fn a_null_is_named_with_its_row() {
    let index = index_of::<CurriculumRow>("confidence");
    let mut values: Vec<Option<f64>> = vec![Some(0.5); 2000];
    values[1500] = None;
    let file = changed(&rows::<CurriculumRow>(1, 2000), |columns| {
        columns[index] = (Field::new("confidence", DataType::Float64, true), Arc::new(Float64Array::from(values)));
    });
    assert_eq!(
        error_of::<CurriculumRow>(file),
        "some.parquet: row 1500, column `confidence`: it is null, but a value is required"
    );
}

#[test]
fn invalid_values_are_named() {
    let with_text = |name: &'static str, text: &str| {
        let texts = StringArray::from(vec![text]);
        changed(&rows::<QuestionRow>(1, 1), |columns| {
            columns[index_of::<QuestionRow>(name)] = (Field::new(name, DataType::Utf8, true), Arc::new(texts));
        })
    };
    let finish = error_of::<QuestionRow>(with_text("finish", "tired"));
    assert!(finish.contains("row 0, column `finish`: \"tired\" is not how a sample ends"), "{finish}");
    let id = error_of::<QuestionRow>(with_text("model_id", &Digest::of(b"").to_string().to_uppercase()));
    assert!(id.contains("column `model_id`") && id.contains("0-9 and a-f"), "{id}");
    let index = index_of::<ScoreRow>("value");
    let nan =
        changed(&rows::<ScoreRow>(1, 1), |columns| columns[index].1 = Arc::new(Float64Array::from(vec![f64::NAN])));
    assert!(error_of::<ScoreRow>(nan).contains("column `value`: it is NaN"));
}

#[test]
fn a_number_that_is_not_finite_is_an_error() {
    let mut row = rows::<QuestionRow>(1, 1).remove(0);
    row.logprobs = vec![-0.5, f32::NEG_INFINITY];
    let mut writer = TableWriter::new(Vec::new()).unwrap();
    writer.push(rows::<QuestionRow>(2, 1).remove(0)).unwrap();
    let error = writer.push(row).unwrap_err().to_string();
    assert_eq!(
        error,
        "table questions, row 1, column `logprobs`: item 1: it is -inf; write a number that is not finite as null"
    );
}

#[test]
fn a_view_can_be_read_but_not_written() {
    let images = rows::<ImageRow>(5, 40);
    let facts: Vec<ImageFacts> = read("images", Bytes::from(to_bytes(images.clone()).unwrap())).unwrap();
    assert_eq!(facts.len(), 40);
    for (fact, image) in facts.iter().zip(&images) {
        assert_eq!((fact.image_id, fact.perceptual_hash), (image.image_id, image.perceptual_hash));
        assert_eq!(fact.image_id.0, image.image_id.0);
    }
    assert!(to_bytes(facts).unwrap_err().to_string().contains("can only be read"));
}

#[test]
fn a_damaged_file_is_an_error() {
    let whole = to_bytes(rows::<RejectRow>(1, 500)).unwrap();
    for length in [0, 1, 4, 11, 12, whole.len() / 2, whole.len() - 1] {
        let error = error_of::<RejectRow>(Bytes::copy_from_slice(&whole[..length]));
        assert!(error.starts_with("some.parquet: damaged or not a Parquet file"), "{error}");
    }
    let mut flipped = whole.clone();
    flipped[60] ^= 255;
    let result = read::<RejectRow>("some.parquet", Bytes::from(flipped));
    assert!(result.is_err() || result.unwrap() != read::<RejectRow>("x", Bytes::from(whole)).unwrap());
}
