//! Sources of images as other programs write them (`tests/oracles/foreign_sources.py`): Parquet
//! files with the paths of images, and archives.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::Value;
use visplay::ids::Digest;
use visplay::tables::{self, DemonstrationRow, ImageLink, SourceRow};

use crate::rounds::{evolve, place_in};
use crate::support::{Workspace, stderr_of, test_image};

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/foreign_sources").join(name)
}

pub(crate) fn expected(name: &str) -> BTreeMap<String, Value> {
    serde_json::from_slice(&fs::read(folder(name).join("expected.json")).unwrap()).unwrap()
}

/// Returns a workspace whose size limit is the one that the archives are made for.
fn workspace() -> Workspace {
    let place = Workspace::in_memory();
    fs::write(place.path().join("small.toml"), "evolution = \"t\"\n[ingest]\nshard_rows = 2\nmax_bytes = 100000\n")
        .unwrap();
    place
}

fn ingest(place: &Workspace, sources: &[&str]) -> Output {
    place.command(&[&["ingest", "--json"], sources].concat()).output().unwrap()
}

pub(crate) fn assert_code(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr_of(output));
    parts.iter().for_each(|part| assert!(stderr_of(output).contains(part), "{part}: {}", stderr_of(output)));
}

/// Returns the entries of an ingest: label, row, and the name of the image or the reason.
fn entries(place: &Workspace, images: &BTreeMap<Digest, String>) -> Vec<(String, Option<u64>, String)> {
    let rows = place.files("views/t/sources").into_iter().flat_map(|f| tables::read_file::<SourceRow>(&f).unwrap());
    let result = |row: &SourceRow| match &row.reason {
        Some(reason) => {
            assert!(!row.detail.as_deref().unwrap_or_default().is_empty() || reason == "empty", "{row:?}");
            reason.clone()
        }
        None => images[&row.image_id.unwrap().0].clone(),
    };
    rows.map(|row| (row.source.clone(), row.source_row, result(&row))).collect()
}

/// Returns the names of the images of a folder by their digests.
fn image_names(prefix: &str) -> BTreeMap<Digest, String> {
    let files = fs::read_dir(folder("paths/rel")).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
    files.map(|path| (Digest::of(&fs::read(&path).unwrap()), name(&path))).collect()
}

#[test]
fn parquet_files_with_the_paths_of_images_give_these_images() {
    let names = image_names("rel/");
    for (file, wanted) in expected("paths") {
        let place = workspace();
        let output = ingest(&place, &[folder("paths").join(&file).to_str().unwrap()]);
        assert_code(&output, 0, &[]);
        let mut wanted: Vec<(String, Option<u64>, String)> = (wanted.as_array().unwrap().iter())
            .map(|entry| {
                (format!("{file}{}", entry[0].as_str().unwrap()), entry[1].as_u64(), entry[2].as_str().unwrap().into())
            })
            .collect();
        wanted.sort();
        assert_eq!(entries(&place, &names), wanted, "{file}");
        assert_eq!(place.verify(), (0, vec![]));
    }
}

#[test]
fn rejects_name_the_path_that_could_not_be_read() {
    let place = workspace();
    ingest(&place, &[folder("paths/mixed.parquet").to_str().unwrap()]);
    let rows: Vec<SourceRow> =
        place.files("views/t/sources").iter().flat_map(|f| tables::read_file::<SourceRow>(f).unwrap()).collect();
    let detail = |row: u64| rows.iter().find(|r| r.source_row == Some(row)).unwrap().detail.clone().unwrap();
    assert_eq!(detail(5), "rel/gone.png: there is no such file");
    assert_eq!(detail(6), "rel: it is a folder");
    assert!(detail(8).chars().count() < 300, "{}", detail(8));
    assert!(detail(10).starts_with("https://example.org/0.png: images at URLs are not downloaded"), "{}", detail(10));
}

/// Returns a table of strings.
fn strings(columns: &[(&str, &[Option<&str>])]) -> Vec<u8> {
    let arrays =
        columns.iter().map(|(name, values)| (*name, Arc::new(StringArray::from(values.to_vec())) as ArrayRef, true));
    let batch = RecordBatch::try_from_iter_with_nullable(arrays).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn paths_of_other_files_in_a_folder_are_no_images() {
    let place = workspace();
    let write = |name: &str, bytes: &[u8]| fs::write(place.source().join(name), bytes).unwrap();
    for n in 0..2 {
        write(&format!("{n}.PNG"), &test_image(n));
    }
    let (audio, images): ([Option<&str>; 4], [Option<&str>; 4]) =
        ([None, Some(""), Some("a.flac"), Some("b.png")], [None, Some(""), Some("0.PNG"), Some("1.PNG")]);
    write("audio.parquet", &strings(&[("path", &audio), ("text", &images)]));
    write("empty.parquet", &strings(&[("path", &[None; 4])]));
    write("both.parquet", &strings(&[("path", &images), ("file_name", &images)]));
    write("metadata.parquet", &strings(&[("file_name", &images), ("text", &audio)]));
    write("sure.parquet", &strings(&[("image_path", &audio)]));
    let of_table = |rows: &[SourceRow], name: &str| {
        let rows = rows.iter().filter(|row| row.source == name);
        let reason = |row: &SourceRow| row.reason.clone().unwrap_or_default();
        rows.map(|row| (row.source_row, reason(row))).collect::<Vec<_>>()
    };
    // A file that is named itself is believed; what is cached of it does not count for the folder.
    for (named, evolution) in [("source/audio.parquet", "named"), ("source", "t"), ("source", "again")] {
        ingest(&place, &[named, "--evolution", evolution]);
        let files = place.files(&format!("views/{evolution}/sources"));
        let rows: Vec<SourceRow> = files.iter().flat_map(|f| tables::read_file::<SourceRow>(f).unwrap()).collect();
        let no_column = [(None, "no_image_column".to_owned())];
        if named == "source/audio.parquet" {
            assert_eq!(of_table(&rows, "audio.parquet").len(), 4);
            continue;
        }
        for name in ["audio.parquet", "empty.parquet", "both.parquet"] {
            assert_eq!(of_table(&rows, name), no_column, "{name}");
        }
        let found = of_table(&rows, "metadata.parquet");
        assert_eq!(found.len(), 4);
        assert!(found[2..].iter().all(|(_, reason)| matches!(&**reason, "" | "duplicate")), "{found:?}");
        assert_eq!(of_table(&rows, "sure.parquet").len(), 4);
    }
    assert_code(&ingest(&place, &["source/audio.parquet", "--evolution", "u"]), 7, &["2 empty, 2 unreadable path"]);
}

fn links(paths: &[String]) -> Vec<u8> {
    let row = |path: &String| DemonstrationRow {
        scene: 0,
        image: ImageLink { bytes: None, path: path.clone() },
        system: String::new(),
        prompt: String::new(),
        response: String::new(),
        style: String::new(),
        family: None,
        wrong: false,
    };
    tables::to_bytes(paths.iter().map(row).collect::<Vec<_>>()).unwrap()
}

#[test]
fn paths_are_absolute_or_relative_to_the_folder_in_which_the_user_sees_the_table() {
    let place = workspace();
    let source = place.source();
    for sub in ["set/rel", "blobs"] {
        fs::create_dir_all(source.join(sub)).unwrap();
    }
    for n in 0..2 {
        fs::write(source.join(format!("set/rel/{n}.png")), test_image(n)).unwrap();
    }
    let absolute = source.join("set/rel/1.png").display().to_string();
    // As in the cache of huggingface_hub, the table is a link to a file in another folder.
    fs::write(source.join("blobs/4f1c"), links(&["rel/0.png".into(), absolute])).unwrap();
    symlink("../blobs/4f1c", source.join("set/data.parquet")).unwrap();
    for named in ["source/set/data.parquet", "source/set"] {
        let output = ingest(&place, &[named, "--evolution", &named.replace('/', "-")]);
        assert_code(&output, 0, &[]);
        let done: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(done["images"], 2, "{named}: {done}");
    }
    // The other images of a folder and those that its tables name are the same images.
    let done = place.json(&["ingest", "source/set", "--evolution", "source-set"]);
    assert_eq!(done["rejects_by_reason"]["duplicate"], 2, "{done}");
}

#[test]
fn files_that_a_table_names_are_looked_up_in_every_ingest() {
    let place = workspace();
    let image = place.source().join("0.png");
    let table = place.source().join("data.parquet");
    fs::write(&table, links(&["0.png".into()])).unwrap();
    assert_code(&ingest(&place, &["source/data.parquet"]), 7, &["source/data.parquet", "1 unreadable path"]);
    fs::write(&image, test_image(0)).unwrap();
    assert_eq!(place.json(&["ingest", "source/data.parquet"])["new_images"], 1);
    assert_eq!(place.json(&["ingest", "source/data.parquet"])["new"], 0);
    fs::write(&image, test_image(3)).unwrap();
    assert_eq!(place.json(&["ingest", "source/data.parquet"])["new_images"], 1);
    fs::write(&image, vec![0; 200_000]).unwrap();
    assert_code(&ingest(&place, &["source/data.parquet", "--evolution", "u"]), 7, &["1 too large"]);
}

#[test]
fn images_are_read_from_archives() {
    let names = image_names("");
    for (file, wanted) in expected("archives") {
        let place = workspace();
        let output = ingest(&place, &[folder("archives").join(&file).to_str().unwrap()]);
        let mut wanted: Vec<(String, Option<u64>, String)> = (wanted.as_array().unwrap().iter())
            .map(|entry| (format!("{file}{}", entry[0].as_str().unwrap()), None, entry[1].as_str().unwrap().into()))
            .collect();
        wanted.sort();
        let mut found = entries(&place, &names);
        found.sort();
        assert_eq!(found, wanted, "{file}");
        let has_image = wanted.iter().any(|(.., result)| result.contains('.'));
        assert_code(&output, if has_image { 0 } else { 7 }, &[]);
        assert_eq!(place.verify(), (0, vec![]));
        // Nothing is unpacked, and the cached contents give the same.
        assert_eq!(
            serde_json::from_slice::<Value>(
                &ingest(&place, &[folder("archives").join(&file).to_str().unwrap()]).stdout
            )
            .unwrap()["new"],
            0
        );
    }
}

#[test]
fn an_archive_in_a_folder_is_read_at_any_thread_count_and_replayed() {
    let place = workspace();
    for name in ["shuffled.tar.gz", "deflated.zip", "webdataset.tar", "nested.zip"] {
        fs::copy(folder("archives").join(name), place.source().join(name)).unwrap();
    }
    place.add(0);
    let one = place.json(&["ingest", "source", "--threads", "1"]);
    let two = place.json(&["ingest", "source", "--threads", "2", "--store", "other"]);
    assert_eq!(one["result"], two["result"]);
    assert_eq!(one["images"], 7, "{one}");
    let replayed = place.command(&["replay", "t/images", "--images", "source"]).output().unwrap();
    assert_code(&replayed, 0, &[]);
    assert!(String::from_utf8_lossy(&replayed.stdout).contains("identical, bit for bit"));
    // A changed archive is read once more; what it had before stays.
    fs::copy(folder("archives/small.tgz"), place.source().join("webdataset.tar")).unwrap();
    let done = place.json(&["ingest", "source"]);
    assert_eq!((&done["new"], &done["images"]), (&Value::from(2), &Value::from(7)), "{done}");
    assert_eq!(done["new_rejects"]["duplicate"], 2);
}

#[test]
fn a_source_without_a_usable_image_has_its_own_exit_code() {
    let place = place_in(workspace());
    fs::write(place.path().join("small.toml"), "evolution = \"t\"\n").unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(place.path().join(name), bytes).unwrap();
    write("captions.json", b"{\"images\": []}");
    write("zeros.tar", &[0; 10240]);
    write("notes.tar.gz", &fs::read(folder("archives/small.tgz")).unwrap()[..40]);
    write("list.csv", b"file\na.png\n");
    fs::create_dir_all(place.path().join("empty/inside")).unwrap();
    for (source, part) in [
        ("zeros.tar", "zeros.tar: no usable image (rejected: 1 "),
        ("notes.tar.gz", "notes.tar.gz: no usable image (rejected: 1 "),
        ("list.csv", "list.csv: no usable image (rejected: 1 not an image)"),
        ("empty", "empty: no usable image (it has no files or rows)"),
    ] {
        for _ in 0..2 {
            assert_code(&ingest(&place, &[source]), 7, &[part, "hint: "]);
        }
        let round = evolve(&place, "rounds", &["1", "--images", source]).output().unwrap();
        assert_code(&round, 7, &[part]);
    }
    // A source of another kind says what it is.
    let mistaken =
        ["captions.json: no usable image: it is a JSON file", "weights: no usable image: it is a safetensors"];
    write("weights", b"\x10\0\0\0\0\0\0\0{\"a\":{}}        ");
    assert_code(&ingest(&place, &["captions.json", "weights", "--evolution", "none"]), 7, &mistaken);
    assert!(!place.store().join("views/none").exists());
    let round = evolve(&place, "rounds", &["1", "--images", "captions.json"]).output().unwrap();
    assert_code(&round, 7, &mistaken[..1]);
    // Each source is judged by itself; what the others have is stored.
    let output = ingest(&place, &["captions.json", "source", "weights", "empty"]);
    assert_code(&output, 7, &[&mistaken[..], &["empty: no usable image (it has no files or rows)"]].concat());
    assert!(!stderr_of(&output).contains("source: no usable"), "{}", stderr_of(&output));
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["images"], 12);
    let unusable = done["unusable_sources"].as_array().unwrap();
    assert_eq!(
        unusable.iter().map(|source| &source["source"]).collect::<Vec<_>>(),
        ["captions.json", "weights", "empty"]
    );
    assert!(unusable[0]["problem"].as_str().unwrap().starts_with("it is a JSON file; "), "{done}");
    assert_eq!(unusable[2]["problem"], Value::Null);
    // With a source that does not exist, nothing is stored.
    let before = place.json(&["ingest", "source"])["ref"].clone();
    assert_code(&ingest(&place, &["captions.json", "nowhere", "copy"]), 2, &["nowhere"]);
    assert_eq!(place.json(&["ingest", "source"])["ref"], before);
    // A copy of images that are known is usable.
    fs::create_dir(place.path().join("copy")).unwrap();
    fs::write(place.path().join("copy/again.png"), test_image(0)).unwrap();
    assert_code(&ingest(&place, &["copy"]), 0, &[]);
    assert_code(&ingest(&place, &["source"]), 0, &[]);
}
