//! Polars reads the rows that were written.

use std::io::Cursor;

use polars::prelude::*;
use polars_io::SerReader;
use polars_io::parquet::read::ParquetReader;
use visplay::tables::{AnswerRow, ImageRow, TableRow, to_bytes};

use super::samples::rows;

fn scan<R: TableRow>(rows: Vec<R>) -> LazyFrame {
    ParquetReader::new(Cursor::new(to_bytes(rows).unwrap())).finish().unwrap().lazy()
}

#[test]
fn a_lazy_query_sees_the_rows() {
    let answers = rows::<AnswerRow>(11, 5000);
    let frame = scan(answers.clone())
        .filter(col("finish").eq(lit("length")).and(col("boxed_answer").is_not_null()))
        .select([col("answer_id"), col("sample"), col("boxed_answer"), col("token_ids"), col("logprobs")])
        .collect()
        .unwrap();
    let wanted: Vec<&AnswerRow> =
        answers.iter().filter(|row| row.finish.as_str() == "length" && row.boxed_answer.is_some()).collect();
    assert!(wanted.len() > 100);
    assert_eq!(frame.height(), wanted.len());
    let ids: Vec<&str> = frame.column("answer_id").unwrap().str().unwrap().iter().flatten().collect();
    let samples: Vec<u32> = frame.column("sample").unwrap().u32().unwrap().iter().flatten().collect();
    let boxed: Vec<&str> = frame.column("boxed_answer").unwrap().str().unwrap().iter().flatten().collect();
    let tokens = frame.column("token_ids").unwrap().list().unwrap();
    let logprobs = frame.column("logprobs").unwrap().list().unwrap();
    for (i, row) in wanted.iter().enumerate() {
        assert_eq!((ids[i], samples[i]), (row.answer_id.to_string().as_str(), row.sample));
        assert_eq!(Some(boxed[i]), row.boxed_answer.as_deref());
        let row_tokens: Vec<u32> = tokens.get_as_series(i).unwrap().u32().unwrap().iter().flatten().collect();
        let row_logprobs: Vec<f32> = logprobs.get_as_series(i).unwrap().f32().unwrap().iter().flatten().collect();
        assert_eq!((row_tokens, row_logprobs), (row.token_ids.clone(), row.logprobs.clone()));
    }
}

#[test]
fn the_image_struct_is_a_struct() {
    let images = rows::<ImageRow>(12, 50);
    let frame = scan(images.clone()).collect().unwrap();
    let image = frame.column("image").unwrap().struct_().unwrap();
    let bytes = image.field_by_name("bytes").unwrap();
    let hashes: Vec<u64> = frame.column("perceptual_hash").unwrap().u64().unwrap().iter().flatten().collect();
    for (i, row) in images.iter().enumerate() {
        assert_eq!(bytes.binary().unwrap().get(i), Some(row.image.bytes.as_slice()));
        assert_eq!(hashes[i], row.perceptual_hash);
    }
}
