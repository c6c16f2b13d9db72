//! Rows are read back as they were written.

use bytes::Bytes;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use visplay::tables::{TableRow, TableWriter, WriterProfile, read, to_bytes};

use super::for_each_table;
use super::samples::rows;

fn assert_round_trip<R: TableRow + DeserializeOwned + PartialEq + Clone + std::fmt::Debug>(seed: u64, count: usize) {
    let written = rows::<R>(seed, count);
    let bytes = to_bytes(written.clone()).unwrap();
    assert_eq!(read::<R>(R::TABLE, Bytes::from(bytes)).unwrap(), written);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_are_read_back_unchanged(seed: u64, count in 0usize..200) {
        for_each_table!(assert_round_trip, seed, count);
    }
}

/// A profile with tiny row groups.
const SMALL: WriterProfile = WriterProfile {
    number: 999,
    row_group_rows: 7,
    row_group_bytes: 3000,
    data_page_bytes: 200,
    data_page_rows: 3,
    dictionary_page_bytes: 300,
    write_batch_rows: 2,
    ..visplay::tables::PROFILE_V1
};

fn assert_small_row_groups_round_trip<R: TableRow + DeserializeOwned + PartialEq + Clone + std::fmt::Debug>() {
    let written = rows::<R>(3, 50);
    let mut writer = TableWriter::with_profile(Vec::new(), SMALL).unwrap();
    for row in written.clone() {
        writer.push(row).unwrap();
    }
    assert_eq!(writer.rows(), 50);
    let bytes = writer.finish().unwrap();
    assert_eq!(read::<R>("small", Bytes::from(bytes)).unwrap(), written);
}

#[test]
fn many_small_row_groups_hold_the_same_rows() {
    for_each_table!(assert_small_row_groups_round_trip);
}
