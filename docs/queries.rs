//! The three queries of the README in Rust.
//!
//!     cargo run --release --example queries -- data/store/views/nano/round=1
//!
//! In a program of your own, Polars' feature `parquet` gives `LazyFrame::scan_parquet`. Here tables
//! are read by `polars-io`, because that feature brings a streaming engine and cloud clients: 75
//! crates.
#![allow(clippy::print_stdout)]

use std::fs::{File, read_dir};
use std::path::PathBuf;

use polars::prelude::*;
use polars_io::SerReader;
use polars_io::parquet::read::ParquetReader;

/// Reads the table in a folder of Parquet files.
fn read_table(folder: &str) -> PolarsResult<LazyFrame> {
    let mut files = read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
    files.sort();
    let read = |file: &PathBuf| Ok(ParquetReader::new(File::open(file)?).finish()?.lazy());
    concat(files.iter().map(read).collect::<PolarsResult<Vec<_>>>()?, UnionArgs::default())
}

fn main() -> PolarsResult<()> {
    let round = std::env::args().nth(1).unwrap_or_else(|| "data/store/views/nano/round=1".to_owned());
    let rows = |table: &str| read_table(&format!("{round}/{table}"));

    let kept = rows("curriculum")?.sort(["confidence", "problem"], SortMultipleOptions::default()).select([
        col("problem"),
        col("pseudo_label"),
        col("confidence"),
    ]);
    println!("{}", kept.limit(3).collect()?);

    let left_out = rows("rejects")?
        .group_by([col("stage"), col("reason")])
        .agg([len().alias("rows")])
        .sort(["rows", "reason"], SortMultipleOptions::default().with_order_descending_multi([true, false]));
    println!("{}", left_out.limit(4).collect()?);

    let steps = rows("metrics")?
        .filter(col("role").eq(lit("reasoner")))
        .sort(["step"], SortMultipleOptions::default())
        .select([col("step"), col("reward_mean"), col("entropy"), col("response_length_mean")]);
    println!("{}", steps.limit(3).collect()?);
    Ok(())
}
