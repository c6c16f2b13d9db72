//! Scenes on disk: their images, the tables about them, and the nano model's tokenizer.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use thiserror::Error;

use super::demonstration::{DemonstrationOptions, demonstrations};
use super::rows::{benchmark_row, image_path, object_rows, question_rows};
use super::scene::{Scene, ScenePurpose};
use super::tokenizer::tokenizer_json;
use crate::random::Seed;
use crate::tables::{SceneTruthRow, TableError, TableRow, TableWriter};

/// Number of scenes drawn in parallel before their rows are written.
const CHUNK: u64 = 1024;

/// A file of scenes that cannot be written.
#[derive(Debug, Error)]
pub enum SceneFileError {
    /// A table's rows cannot be written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A file or folder cannot be created or written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The tokenizer cannot be written as JSON.
    #[error("cannot serialize the tokenizer")]
    Tokenizer(#[source] tokenizers::Error),
}

/// A table file, or a folder of images, that was written.
#[derive(Debug)]
pub struct WrittenFile {
    /// The file or folder.
    pub path: PathBuf,
    /// Number of rows of the table, or of images in the folder.
    pub rows: u64,
}

/// Draws scenes of [`ScenePurpose::Images`] into `folder`: images, `scenes.parquet` and
/// `questions.parquet`.
pub fn write_images(folder: &Path, seed: Seed, indexes: Range<u64>) -> Result<Vec<WrittenFile>, SceneFileError> {
    write_scenes(folder, ScenePurpose::Images, seed, indexes, "questions.parquet", question_rows)
}

/// Draws scenes of [`ScenePurpose::WarmStart`] into `folder`: images, `scenes.parquet` and
/// `demonstrations.parquet`.
pub fn write_demonstrations(
    folder: &Path,
    seed: Seed,
    indexes: Range<u64>,
    options: &DemonstrationOptions,
) -> Result<Vec<WrittenFile>, SceneFileError> {
    let rows = |scene: &Scene| demonstrations(scene, &image_path(scene.index()), options);
    write_scenes(folder, ScenePurpose::WarmStart, seed, indexes, "demonstrations.parquet", rows)
}

/// Writes held-out questions, with the image in each row, to one file.
pub fn write_benchmark(file: &Path, seed: Seed, indexes: Range<u64>) -> Result<WrittenFile, SceneFileError> {
    let mut table = TableFile::create(file)?;
    for chunk in split_into_chunks(indexes) {
        let rows: Vec<_> = chunk.into_par_iter().map(|index| benchmark_row(seed, index)).collect();
        table.extend(rows)?;
    }
    table.finish()
}

/// Writes the right answers of generated questions to one file.
pub fn write_truths(file: &Path, rows: Vec<SceneTruthRow>) -> Result<WrittenFile, SceneFileError> {
    let mut table = TableFile::create(file)?;
    table.extend(rows)?;
    table.finish()
}

/// Writes the nano model's tokenizer as a Hugging Face `tokenizer.json`.
pub fn write_tokenizer(file: &Path) -> Result<(), SceneFileError> {
    let json = tokenizer_json().map_err(SceneFileError::Tokenizer)?;
    create_folder_of(file)?;
    write_file(file, json.as_bytes())
}

fn write_scenes<R: TableRow>(
    folder: &Path,
    purpose: ScenePurpose,
    seed: Seed,
    indexes: Range<u64>,
    table: &str,
    rows_of: impl Fn(&Scene) -> Vec<R> + Sync,
) -> Result<Vec<WrittenFile>, SceneFileError> {
    let image_folder = folder.join("images");
    create_folder(&image_folder)?;
    let mut objects = TableFile::create(&folder.join("scenes.parquet"))?;
    let mut table = TableFile::create(&folder.join(table))?;
    let mut images = 0;
    for chunk in split_into_chunks(indexes) {
        let drawn = chunk.into_par_iter().map(|index| {
            let scene = Scene::draw(purpose, seed, index);
            write_file(&folder.join(image_path(index)), &scene.to_png())?;
            Ok((object_rows(&scene), rows_of(&scene)))
        });
        for (object_rows, table_rows) in drawn.collect::<Result<Vec<_>, SceneFileError>>()? {
            images += 1;
            objects.extend(object_rows)?;
            table.extend(table_rows)?;
        }
    }
    let images = WrittenFile { path: image_folder, rows: images };
    Ok(vec![images, objects.finish()?, table.finish()?])
}

/// Splits `indexes` into ranges of at most [`CHUNK`].
fn split_into_chunks(indexes: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = indexes.end;
    indexes.step_by(CHUNK as usize).map(move |first| first..end.min(first.saturating_add(CHUNK)))
}

/// A table file that gets its name only once it is complete.
struct TableFile<R: TableRow> {
    path: PathBuf,
    partial: PathBuf,
    writer: TableWriter<R, BufWriter<File>>,
}

impl<R: TableRow> TableFile<R> {
    fn create(path: &Path) -> Result<Self, SceneFileError> {
        create_folder_of(path)?;
        // A rename would replace a device or a pipe with a file.
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "exists and is not a regular file");
            return Err(write_error(path, source));
        }
        let partial = path.with_added_extension("partial");
        let file = File::create(&partial).map_err(|e| write_error(&partial, e))?;
        Ok(Self { path: path.to_owned(), partial, writer: TableWriter::new(BufWriter::new(file))? })
    }

    fn extend(&mut self, rows: Vec<R>) -> Result<(), SceneFileError> {
        Ok(rows.into_iter().try_for_each(|row| self.writer.push(row))?)
    }

    fn finish(self) -> Result<WrittenFile, SceneFileError> {
        let rows = self.writer.rows();
        let mut file = self.writer.finish()?;
        file.flush().map_err(|e| write_error(&self.partial, e))?;
        fs::rename(&self.partial, &self.path).map_err(|e| write_error(&self.path, e))?;
        Ok(WrittenFile { path: self.path, rows })
    }
}

fn create_folder_of(file: &Path) -> Result<(), SceneFileError> {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(Ok(()), create_folder)
}

fn create_folder(folder: &Path) -> Result<(), SceneFileError> {
    fs::create_dir_all(folder).map_err(|e| write_error(folder, e))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SceneFileError> {
    fs::write(path, bytes).map_err(|e| write_error(path, e))
}

fn write_error(path: &Path, source: io::Error) -> SceneFileError {
    SceneFileError::Write { path: path.to_owned(), source }
}
