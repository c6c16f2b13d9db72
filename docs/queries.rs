//! The three queries of the README in Rust.
//!
//!     cargo run --release --example queries -- data/store/views/nano/round=1
#![allow(clippy::print_stdout)]

use polars::prelude::*;

fn main() -> PolarsResult<()> {
    let round = std::env::args().nth(1).unwrap_or_else(|| "data/store/views/nano/round=1".to_owned());
    let rows = |table: &str| -> PolarsResult<LazyFrame> {
        let files = format!("{round}/{table}/*.parquet");
        LazyFrame::scan_parquet(files.as_str().into(), ScanArgsParquet::default())
    };

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
