//! Golden digests of the tables' bytes, which change only with the number of the writer profile or
//! the schema.

use serde::de::DeserializeOwned;
use visplay::ids::Digest;
use visplay::tables::{PROFILE, TableRow, to_bytes};

use super::for_each_table;
use super::samples::rows;

/// Name of the table, digest of 100 sample rows, digest of no rows.
const GOLDEN: [(&str, &str, &str); 18] = [
    (
        "images",
        "65bf6fb4f6a7bb9cb9d4f2018de42e4dec47f595de64f5709043eb6a7481c19c",
        "b2c5de0fcd3f18e78eca0fb13b2961c8887b9353e6655e9ae7905c1a61922ea2",
    ),
    (
        "sources",
        "d15457a78d875977ec69c7ee7a2f00d6071db43d7f09a4ee0bd2caddff8db12c",
        "ec32123049acfa5bd1ca5abe532333ce6c970f0761bf5ba755bbeac958d24210",
    ),
    (
        "measurements",
        "487a23919f40d4668e29a3bf23451681d21f5232b2dff5235f423b2b677a3abc",
        "0e189dd73b6a2c84275d07e42ea37ebf12681a9ae8e8919c23bcd9e4169f62f1",
    ),
    (
        "rejects",
        "29dc1d2186c4e65f6d1663451279bc6d059bc5163cae74f97632bd99dfb8c786",
        "3448444d92355c69a716ab0bf7b97d9240762c306e72f44768ba6ad772039e42",
    ),
    (
        "questions",
        "ed5d7932fd6188c63921a8ef799e8817f4aca38bbecb4cd296dfc791aced5cc8",
        "b5c64f849d3876be5f9dd0cf91143acf9e6485b6f4c24c1ed7260d045d3fd4b0",
    ),
    (
        "answers",
        "6d6fe62ba4a5e8c057e1c4a34123c5e136bb153eaff49cd8f4cdd16666aabfdb",
        "de4c2f8f9f42d2426179598542c6f67040140d6127abe64e4c6ed6f46f3ba4f7",
    ),
    (
        "votes",
        "70477d1e49580f2ef86ca7df45837883d96f492746e56a7b3475b1e49d1b7d80",
        "bdc5bf6aafdc0e2166d31071f16b8f5844d27b3204a740b64e28e9b398d17739",
    ),
    (
        "curriculum",
        "f485c363e5ffc20ad6c0e2f04d5d826c9e6dcd6554fe24e367ad9f7e6e4194b6",
        "19369035ca5275ba557fd680db51b4591eec37899fd4dc96d6c574c7b5ea81c9",
    ),
    (
        "rewards",
        "643495922face7824392389c5e93109ca69d8b82e7b260673de14bdea1db9485",
        "fe9f883f495ca9fa8d746a2c9fa4c537755e5c921d579c536b10b41bacaf01c1",
    ),
    (
        "metrics",
        "404b1353be8e356e7811d0a0644835914359d28395f11bf74446603f79ebcdf0",
        "ddfb134abf6c9dfc7a45a8cae4cf6e7694c5d705affc248034d10b3cd2529694",
    ),
    (
        "timings",
        "0fd256271d1e91ef874779309deed0dfb4c71d7582ca51cd4ab0d91386e8256b",
        "9d5c12d35f08d96ef5d657043fa42b4296455339d3f4859c1282ea6738e58e8a",
    ),
    (
        "predictions",
        "1c92cd3cd746128a47191641e64e60f8356d8f83df4a23fcc2a6fba38974eeee",
        "94d85e75a426e8116adaa6aa9c32d9c2eb6d84d751061545fec3876176c73c3c",
    ),
    (
        "scores",
        "5d6302bf1bc28ee7313ada7bea9f81f0bd204b06118538ac589a0e2fd0387705",
        "1600e5547831ee883427d0cbc3407bd4919d5559adba9c3147ee632c99211833",
    ),
    (
        "benchmarks",
        "3cf541eb2a5cbea96341b7d6b2d3901f9283cae9c062e3d796ef6731cc7020f8",
        "d65c1165c23d8a708f0c95fb13459a2240e26950f0c6e9450140c1c1b61546fa",
    ),
    (
        "demonstrations",
        "22911667d3df442367bc7f54632d788b4733318e6a37cad103c57302ea92db9b",
        "59802f426765870df82c05e59b5839d4e42f8e0a8bbdf39db3e7d4a08baad52a",
    ),
    (
        "scene_objects",
        "069b2cf2600e0e7d8aa1e3ded00359fb2c5dd15595f245e1037622e016d6af7a",
        "f9c085a8166e34b04c0ba4c7c47fcb7559d55cb72fe6558a31fec13a0b144d70",
    ),
    (
        "scene_questions",
        "979453290549e987d16f862abae1674f5d80c4c521d329a897cb66f5d09a0052",
        "3346a909e9db12390ab7fcd898571f80fc7b44d7bd6c2dd02a1bfd22d0b61ff1",
    ),
    (
        "scene_truths",
        "db67dc1a5c43482df8f09eedc5dffe9d0ff7cb7cf71ec60894911a55a2ecead7",
        "5203637910e2a9294d9914b0ab88ef5bfeae8ab432bddecd71135481fa91aadd",
    ),
];

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
fn bytes_equal_the_golden_digests() {
    assert_eq!(PROFILE.number, 1, "each profile has its own golden digests");
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
