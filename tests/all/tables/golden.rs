//! The bytes of each table, pinned: they change only with the number of the writer's profile, or with the schema.

use serde::de::DeserializeOwned;
use visplay::ids::Digest;
use visplay::tables::{PROFILE, TableRow, to_bytes};

use super::for_each_table;
use super::samples::rows;

/// Table, digest of 100 sample rows, digest of no rows.
const GOLDEN: [(&str, &str, &str); 0] = [];

fn digests<R: TableRow + DeserializeOwned>(found: &mut Vec<(&'static str, String, String)>) {
    let digest = |count| Digest::of(&to_bytes(rows::<R>(1, count)).unwrap()).to_string();
    found.push((R::TABLE, digest(100), digest(0)));
}

fn all_digests() -> Vec<(&'static str, String, String)> {
    let mut found = Vec::new();
    for_each_table!(digests, &mut found);
    found
}

#[test]
fn bytes_are_pinned() {
    assert_eq!(PROFILE.number, 1, "another profile has golden digests of its own");
    let found = all_digests();
    let golden: Vec<_> = GOLDEN.iter().map(|(t, some, none)| (*t, (*some).to_owned(), (*none).to_owned())).collect();
    assert_eq!(found, golden, "{found:#?}");
}

#[test]
fn bytes_are_the_same_on_many_threads() {
    let alone = all_digests();
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(all_digests)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(together.iter().all(|digests| *digests == alone));
}
