//! Tests of `visplay ingest` through the real command.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;
use visplay::tables::{self, ImageRow, RejectRow};

use crate::imaging::tiff_of_grey;
use crate::support::{Workspace, stderr_of, test_image};

fn images(place: &Workspace) -> Vec<ImageRow> {
    place.files("views/t/images").iter().flat_map(|f| tables::read_file::<ImageRow>(f).unwrap()).collect()
}

fn rejects(place: &Workspace) -> BTreeMap<String, RejectRow> {
    let files = place.files("views/t/rejects");
    let rows = files.iter().flat_map(|f| tables::read_file::<RejectRow>(f).unwrap());
    rows.map(|r| (r.subject.clone(), r)).collect()
}

#[test]
fn a_folder_becomes_a_table_of_its_images() {
    let place = Workspace::new();
    place.fill(20);
    let done = place.ingest();
    assert_eq!(done["images"], 20);
    assert_eq!(done["rejects"], 0);
    let rows = images(&place);
    assert_eq!(rows.len(), 20);
    assert!(rows.is_sorted_by_key(|r| r.source.clone()));
    for row in &rows {
        let original = fs::read(place.source().join(&row.source)).unwrap();
        assert_eq!(row.image.bytes, original, "{}", row.source);
        assert_eq!(row.image_id.0, visplay::ids::Digest::of(&original));
    }
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn ingesting_again_computes_nothing() {
    let place = Workspace::new();
    place.fill(20);
    let first = place.ingest();
    assert!(first["shards_made"].as_u64().unwrap() > 0);
    let second = place.ingest();
    assert_eq!((&second["new"], &second["shards_made"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(second["result"], first["result"]);
    assert_eq!(second["ref"], "t/images@1");
}

#[test]
fn new_images_compute_only_new_shards() {
    let place = Workspace::new();
    place.fill(20);
    place.ingest();
    let before = place.files("views/t/images");
    place.add(20);
    let done = place.ingest();
    assert_eq!((&done["new"], &done["images"]), (&Value::from(1), &Value::from(21)));
    assert_eq!(done["ref"], "t/images@2");
    // One shard to measure the image, one to pack it, one decision, one table.
    assert_eq!(done["shards_made"], 4);
    let after = place.files("views/t/images");
    assert_eq!(after[..before.len()], before);
    assert_eq!(images(&place).len(), 21);
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn results_do_not_depend_on_threads_or_file_order() {
    let (a, b) = (Workspace::new(), Workspace::new());
    a.fill(40);
    for i in (0..40).rev() {
        b.add(i);
    }
    let one = a.json(&["ingest", "source", "--threads", "1"]);
    let two = b.json(&["ingest", "source/folder-2", "source/folder-0", "source/folder-1", "--threads", "2"]);
    let three = b.json(&["ingest", "source", "--threads", "2", "--evolution", "again"]);
    assert_eq!(one["result"], three["result"]);
    assert_ne!(one["result"], two["result"], "labels are relative to the sources on the command line");
}

#[test]
fn every_kind_of_bad_file_is_rejected_with_its_reason() {
    let place = Workspace::new();
    place.fill(4);
    let source = place.source();
    let write = |name: &str, bytes: &[u8]| fs::write(source.join(name), bytes).unwrap();
    write("empty.png", b"");
    write("text.png", b"this is no image at all");
    write("half.png", &test_image(3)[..test_image(3).len() / 2]);
    write("copy.png", &test_image(0));
    write("renamed.txt", &test_image(30));
    let mut flipped = test_image(33);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    write("flipped.png", &flipped);
    symlink(&source, source.join("loop")).unwrap();
    symlink("nowhere", source.join("dangling.png")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(source.join("pipe.png")).status().unwrap().success());
    let odd = std::ffi::OsStr::from_bytes(b"not-utf8-\xff\xfe.png");
    fs::write(source.join(odd), test_image(36)).unwrap();
    let done = place.ingest();

    let rejects = rejects(&place);
    let reasons: BTreeMap<&str, &str> = rejects.iter().map(|(s, r)| (s.as_str(), r.reason.as_str())).collect();
    let expected = BTreeMap::from([
        ("dangling.png", "unreadable"),
        ("empty.png", "empty"),
        ("flipped.png", "corrupt"),
        ("folder-0/image-0000.png", "duplicate"),
        ("half.png", "truncated"),
        ("loop", "symlink_loop"),
        ("pipe.png", "not_a_file"),
        ("text.png", "not_an_image"),
    ]);
    assert_eq!(reasons, expected);
    assert_eq!(done["images"], 6);
    assert_eq!(done["entries"], 6 + 8);
    let twin = rejects["folder-0/image-0000.png"].twin_id.expect("it names its twin");
    let kept = images(&place);
    assert!(kept.iter().any(|r| r.image_id.0 == twin && r.source == "copy.png"));
    assert!(kept.iter().any(|r| r.source == "not-utf8-%FF%FE.png"));
    assert!(kept.iter().any(|r| r.source == "renamed.txt" && r.format == "png"));
    assert_eq!(place.verify(), (0, vec![]));
    assert_eq!(place.ingest()["new"], 0);
}

#[test]
fn nearly_black_images_of_more_than_8_bits_are_warned_of() {
    let place = Workspace::new();
    place.fill(3);
    for (name, values) in [
        ("dark-b", [0u16, 9, 900, 4000, 4095]),
        ("dark-a", [1, 300, 7, 4095, 0]),
        ("full", [0, 9, 1, 2, 65535]),
        ("mask", [0, 10, 50, 50, 1]),
    ] {
        let mut tiff = tiff_of_grey(16, 1);
        tiff.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        fs::write(place.source().join(format!("{name}.tif")), tiff).unwrap();
    }
    let warning = |output: std::process::Output| {
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().find(|line| line.contains("nearly black")).map(str::to_owned)
    };
    let first = warning(place.command(&["ingest", "source"]).output().unwrap()).unwrap();
    let start = "warning: 2 images of more than 8 bits a sample are nearly black, the first is dark-a.tif:";
    assert!(first.contains(start) && first.contains("new evolution"), "{first}");
    // They are in the table, and are not new any more.
    assert_eq!(images(&place).len(), 7);
    assert_eq!(warning(place.command(&["ingest", "source"]).output().unwrap()), None);
}

#[test]
fn near_duplicates_are_rejected_if_the_pipeline_says_so() {
    let place = Workspace::new();
    place.fill(3);
    // The same picture in a lossy format.
    let picture = image::load_from_memory(&test_image(0)).unwrap();
    picture.to_rgb8().save(place.source().join("again.jpg")).unwrap();
    let pipeline = "evolution = \"t\"\n[ingest]\nnear_duplicate_bits = 4\n";
    fs::write(place.path().join("small.toml"), pipeline).unwrap();
    let done = place.ingest();
    assert_eq!(done["rejects_by_reason"]["near_duplicate"], 1);
    let row = &rejects(&place)["folder-0/image-0000.png"];
    assert!(row.detail.contains("again.jpg"), "{}", row.detail);
    assert!(row.twin_id.is_some());
}

#[test]
fn changed_options_start_a_new_table() {
    let place = Workspace::new();
    place.fill(6);
    let first = place.ingest();
    fs::write(place.path().join("small.toml"), "evolution = \"t\"\n[ingest]\nshard_rows = 8\nmax_pixels = 1500\n")
        .unwrap();
    let why = place.json(&["why", "ingest"]);
    assert_eq!(why["differences"][0]["key"], "parameters.max_pixels");
    let second = place.ingest();
    assert_eq!(second["ref"], "t/images@2");
    assert_ne!(second["result"], first["result"]);
    assert!(second["rejects_by_reason"]["bomb"].as_u64().unwrap() > 0);
    assert_eq!(second["entries"], 6);
    assert_eq!(place.ingest()["new"], 0);
}

#[test]
fn a_parquet_dataset_is_a_source() {
    let folder = Workspace::new();
    folder.fill(10);
    folder.ingest();
    let shards = folder.files("views/t/images");
    let place = Workspace::new();
    for (i, shard) in shards.iter().enumerate() {
        fs::copy(shard, place.source().join(format!("train-{i}.parquet"))).unwrap();
    }
    let done = place.ingest();
    assert_eq!(done["images"], 10);
    let ids = |p: &Workspace| {
        let mut ids: Vec<_> = images(p).iter().map(|r| r.image_id).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&place), ids(&folder));
    assert_eq!(images(&place)[9].source_row, Some(1));
    assert_eq!(place.ingest()["new"], 0);

    let no_images = place.path().join("other.parquet");
    fs::copy(folder.files("views/t/sources")[0].as_path(), &no_images).unwrap();
    let output = place.command(&["ingest", "other.parquet"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr_of(&output).contains("column"), "{}", stderr_of(&output));
}

#[test]
fn a_missing_source_is_an_error_of_one_line() {
    let place = Workspace::new();
    let output = place.command(&["ingest", "nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr_of(&output), "visplay: nowhere: there is no such file\n");
}

#[test]
fn the_store_does_not_ingest_itself() {
    let place = Workspace::new();
    place.fill(3);
    let pipeline = Path::new("small.toml");
    let done = place.json(&["ingest", "."]);
    assert_eq!(done["images"], 3);
    assert_eq!(rejects(&place).keys().collect::<Vec<_>>(), vec![&pipeline.display().to_string()]);
    assert_eq!(place.json(&["ingest", "."])["new"], 0);
}

#[test]
fn a_changed_file_is_a_new_entry_and_the_old_image_stays() {
    let place = Workspace::new();
    let paths = place.fill(3);
    place.ingest();
    fs::write(&paths[0], test_image(90)).unwrap();
    let done = place.ingest();
    assert_eq!((done["new"].as_u64(), done["images"].as_u64()), (Some(1), Some(4)));
}

#[test]
fn two_thousand_broken_images_are_all_accounted_for() {
    let place = Workspace::new();
    crate::image_mutator::Mutator::new(7).write_files(&place.source(), 2_000);
    let output = place.command(&["ingest", "source", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert!(!stderr_of(&output).contains("panic"), "{}", stderr_of(&output));
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |key: &str| done[key].as_u64().unwrap();
    assert_eq!(count("entries"), 2_000);
    assert_eq!(count("images") + count("rejects"), 2_000);
    assert!(count("images") > 100 && count("rejects") > 100, "{done}");
    assert_eq!(rejects(&place).values().filter(|r| r.reason.is_empty()).count(), 0);
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn broken_parquet_files_are_rejected_and_the_rest_is_ingested() {
    let folder = Workspace::new();
    folder.fill(10);
    folder.ingest();
    let whole = fs::read(&folder.files("views/t/images")[0]).unwrap();
    let place = Workspace::new();
    place.fill(3);
    let mut random = crate::random::Random::new(11);
    for i in 0..60 {
        let mut bytes = whole.clone();
        match i % 3 {
            0 => bytes.truncate(random.index(whole.len())),
            1 => (0..8).for_each(|_| bytes[random.index(whole.len())] ^= 1 << random.below(8)),
            _ => {
                // Damage the footer, which has the offsets of everything else.
                let from = whole.len() - 300;
                (0..3).for_each(|_| bytes[from + random.index(292)] = random.draw() as u8);
            }
        }
        fs::write(place.source().join(format!("broken-{i:02}.parquet")), bytes).unwrap();
    }
    let output = place.command(&["ingest", "source", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr_of(&output));
    assert!(!stderr_of(&output).contains("panic"), "{}", stderr_of(&output));
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["images"].as_u64().unwrap() + done["rejects"].as_u64().unwrap(), done["entries"].as_u64().unwrap());
    assert!(done["images"].as_u64().unwrap() >= 3);
    assert!(done["rejects_by_reason"]["corrupt"].as_u64().unwrap() > 10, "{done}");
    assert_eq!(place.verify(), (0, vec![]));
}

#[test]
fn flat_images_are_not_near_duplicates_of_each_other() {
    let place = Workspace::new();
    for (name, colour) in [("red", [255, 0, 0]), ("green", [0, 255, 0]), ("black", [0, 0, 0])] {
        image::RgbImage::from_pixel(40, 30, image::Rgb(colour))
            .save(place.source().join(format!("{name}.png")))
            .unwrap();
    }
    fs::write(place.path().join("small.toml"), "evolution = \"t\"\n[ingest]\nnear_duplicate_bits = 16\n").unwrap();
    assert_eq!(place.ingest()["images"], 3);
}

#[test]
fn a_copy_of_a_near_duplicate_names_the_same_twin() {
    let place = Workspace::new();
    fs::write(place.source().join("a.png"), test_image(0)).unwrap();
    let again = image::load_from_memory(&test_image(0)).unwrap().to_rgb8();
    again.save(place.source().join("b.bmp")).unwrap();
    fs::copy(place.source().join("b.bmp"), place.source().join("c.bmp")).unwrap();
    fs::write(place.path().join("small.toml"), "evolution = \"t\"\n[ingest]\nnear_duplicate_bits = 0\n").unwrap();
    assert_eq!(place.ingest()["rejects_by_reason"]["near_duplicate"], 2);
    let rejects = rejects(&place);
    assert!(rejects["b.bmp"].twin_id.is_some());
    assert_eq!(rejects["b.bmp"].twin_id, rejects["c.bmp"].twin_id);
}

#[test]
fn the_store_is_never_a_source_even_through_links() {
    let place = Workspace::new();
    place.fill(3);
    place.ingest();
    symlink(place.store(), place.source().join("link")).unwrap();
    symlink(place.store().join("views/t/images"), place.source().join("shards")).unwrap();
    assert_eq!(place.ingest()["new"], 0);
    let output = place.command(&["ingest", "store"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr_of(&output).contains("inside the store"), "{}", stderr_of(&output));
}

#[test]
fn parquet_files_are_recognized_by_content() {
    let folder = Workspace::new();
    folder.fill(5);
    folder.ingest();
    let place = Workspace::new();
    fs::copy(&folder.files("views/t/images")[0], place.source().join("data.bin")).unwrap();
    fs::write(place.source().join("picture.parquet"), test_image(40)).unwrap();
    assert_eq!(place.ingest()["images"], 6);
}

#[test]
fn a_parquet_file_that_changes_while_it_is_read_leaves_no_wrong_cache_entry() {
    let whole = Workspace::new();
    whole.fill(30);
    whole.ingest();
    let bytes = fs::read(&whole.files("views/t/images")[0]).unwrap();
    let (place, other) = (Workspace::new(), Workspace::new());
    fs::write(other.source().join("data.parquet"), &bytes).unwrap();
    let expected = other.ingest();
    for cut in [4, bytes.len() / 2, bytes.len() - 1] {
        // Whatever the command read of the truncated file, the restored file is read completely
        // afterwards.
        let file = place.source().join("data.parquet");
        fs::write(&file, &bytes).unwrap();
        let run = place.command(&["ingest", "source"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(cut as u64).unwrap();
        run.wait_with_output().unwrap();
        fs::write(&file, &bytes).unwrap();
        let done = place.json(&["ingest", "source", "--evolution", &format!("after-{cut}")]);
        assert_eq!((&done["images"], &done["rejects"]), (&expected["images"], &expected["rejects"]));
    }
}

#[test]
fn the_size_limit_applies_to_cached_files_too() {
    let place = Workspace::new();
    let paths = place.fill(6);
    let early = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    for path in &paths {
        fs::File::open(path).unwrap().set_modified(early).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    place.ingest();
    assert_eq!(place.ingest()["read"], 0, "the digests of all files are cached");
    fs::write(place.path().join("small.toml"), "evolution = \"t\"\n[ingest]\nmax_bytes = 2000\n").unwrap();
    let known = place.ingest();
    fs::remove_dir_all(place.store()).unwrap();
    let fresh = place.ingest();
    assert!(fresh["rejects_by_reason"]["too_large"].as_u64().unwrap() > 0, "{fresh}");
    assert_eq!(known["result"], fresh["result"]);
}
