//! The demonstrations of a warm start: the rows of a table, tokenized and grouped by shared prefix.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::ids::Digest;
use crate::imaging::{Limits, decode};
use crate::stages::model::ModelAssets;
use crate::stages::{Rejection, Result, StageError};
use crate::tables::{self, Demonstration, DemonstrationSystem, ImageLink, TableError};
use crate::training::prefix_group::common_prefix;
use crate::training::{Continuation, PrefixGroup, PreparedImage};
use crate::vlm::image_processor::Patches;
use crate::vlm::prompt::Prompt;

/// System prompt of the rows of a table without the column `system`.
const SYSTEM: &str = "You are a helpful assistant.";

/// A row of the table.
#[derive(Debug, Clone)]
struct Row {
    image: ImageLink,
    system: String,
    prompt: String,
    response: String,
}

/// A table of demonstrations, in training order.
#[derive(Debug)]
pub struct Demonstrations {
    pub(super) file: PathBuf,
    rows: Vec<Row>,
    /// Digest of each row's image; `None` where the row before has the same image.
    images: Vec<Option<Digest>>,
    digest: Digest,
}

/// Rows that cannot be trained on, each with the reason.
pub(super) type RejectedRows = Vec<(usize, Rejection)>;

/// A tokenized row.
struct Sequence {
    prompt: Vec<u32>,
    response: Vec<u32>,
}

impl Demonstrations {
    /// Reads a Parquet file with the columns `image` (a struct of `bytes` and `path`), `prompt`,
    /// `response` and, optionally, `system`. An image without bytes is read from its path, relative
    /// to the table's folder.
    ///
    /// # Errors
    /// The table or an image's file cannot be read, or a column is missing.
    pub fn read(file: &Path) -> Result<Self> {
        let demonstrations: Vec<Demonstration> = tables::read_file(file)?;
        let systems: Vec<String> = match tables::read_file::<DemonstrationSystem>(file) {
            Ok(rows) => rows.into_iter().map(|row| row.system).collect(),
            Err(TableError::MissingColumn { .. }) => vec![SYSTEM.to_owned(); demonstrations.len()],
            Err(e) => return Err(e.into()),
        };
        if demonstrations.is_empty() {
            return Err(StageError::source(file, "the table has no rows to train on"));
        }
        let rows: Vec<Row> = demonstrations
            .into_iter()
            .zip(systems)
            .map(|(row, system)| Row { image: row.image, system, prompt: row.prompt, response: row.response })
            .collect();
        let images: Vec<Option<Digest>> =
            (0..rows.len()).into_par_iter().map(|i| image_digest(file, &rows, i)).collect::<Result<_, _>>()?;
        let digest = digest_contents(&rows, &images);
        Ok(Self { file: file.to_owned(), rows, images, digest })
    }

    /// Returns the digest of all rows and images.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the number of rows in the table.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the table has no rows, which [`read`](Self::read) rejects.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns rows as prefix groups, in which rows with one image and system prompt
    /// share their prefix; and the rows that cannot be trained on.
    pub(super) fn prefix_groups(
        &self,
        rows: Range<usize>,
        assets: &ModelAssets,
        max_tokens: usize,
    ) -> Result<(Vec<PrefixGroup>, RejectedRows)> {
        let mut groups: Vec<Range<usize>> = Vec::new();
        // The system prompt precedes the image, so rows share the image only if both are equal.
        let shares_prefix = |a: &Row, b: &Row| a.image == b.image && a.system == b.system;
        for i in rows {
            match groups.last_mut() {
                Some(group) if shares_prefix(&self.rows[group.start], &self.rows[i]) => group.end = i + 1,
                _ => groups.push(i..i + 1),
            }
        }
        let results: Vec<_> =
            groups.into_par_iter().map(|rows| self.prefix_group(rows, assets, max_tokens)).collect::<Result<_, _>>()?;
        let (prefix_groups, rejected): (Vec<Option<PrefixGroup>>, Vec<RejectedRows>) = results.into_iter().unzip();
        Ok((prefix_groups.into_iter().flatten().collect(), rejected.concat()))
    }

    /// Returns the prefix group of rows that share an image and a system prompt.
    fn prefix_group(
        &self,
        rows: Range<usize>,
        assets: &ModelAssets,
        max_tokens: usize,
    ) -> Result<(Option<PrefixGroup>, RejectedRows)> {
        let image = match self.load_patches(rows.start, assets)? {
            Ok(patches) => PreparedImage::from(patches),
            Err(rejection) => return Ok((None, rows.map(|i| (i, rejection.clone())).collect())),
        };
        let image_tokens = image.grid().tokens(assets.config.vision.spatial_merge_size);
        let (mut sequences, mut rejected) = (Vec::new(), Vec::new());
        for i in rows {
            match self.tokenize(&self.rows[i], image_tokens, assets) {
                Err(rejection) => rejected.push((i, rejection)),
                Ok(Sequence { prompt, response }) if prompt.len() + response.len() > max_tokens => {
                    let tokens = prompt.len() + response.len();
                    let detail = format!("{tokens} tokens of prompt and response are more than {max_tokens}");
                    rejected.push((i, Rejection::new("too_long", detail)));
                }
                Ok(sequence) => sequences.push(sequence),
            }
        }
        let prompts: Vec<&[u32]> = sequences.iter().map(|sequence| sequence.prompt.as_slice()).collect();
        let shared = common_prefix(&prompts);
        let Some(first) = sequences.first() else { return Ok((None, rejected)) };
        let prefix = first.prompt[..shared].to_vec();
        let continuation = |sequence: &Sequence| Continuation {
            ids: [&sequence.prompt[shared..], &sequence.response].concat(),
            first_target: sequence.prompt.len() - shared,
        };
        let continuations = sequences.iter().map(continuation).collect();
        Ok((Some(PrefixGroup { prefix, images: vec![Arc::new(image)], continuations }), rejected))
    }

    fn tokenize(&self, row: &Row, image_tokens: usize, assets: &ModelAssets) -> Result<Sequence, Rejection> {
        let text = |e: &dyn std::error::Error| Rejection::new("text", e.to_string());
        let prompt = Prompt::chat(&row.system, Some(image_tokens), &row.prompt);
        let prompt = assets.tokenizer.encode_prompt(&prompt).map_err(|e| text(&e))?;
        let mut response = assets.tokenizer.encode_plain(&row.response).map_err(|e| text(&e))?;
        response.push(assets.tokenizer.special().im_end);
        Ok(Sequence { prompt, response })
    }

    fn load_patches(&self, row: usize, assets: &ModelAssets) -> Result<Result<Patches, Rejection>> {
        let image = &self.rows[row].image;
        let bytes = image_bytes(&self.file, image)?;
        // The action names the digests of the images, so training on other bytes would falsify it.
        if self.images[row].is_some_and(|digest| digest != Digest::of(&bytes)) {
            return Err(StageError::SourceChanged { labels: vec![image.path.clone()] });
        }
        let reject = |e: &dyn std::error::Error| Rejection::new("image", format!("{}: {e}", image.path));
        let decoded = decode(&bytes, &Limits::default()).map_err(|e| reject(&e));
        Ok(decoded.and_then(|decoded| assets.processor.process(&decoded.pixels).map_err(|e| reject(&e))))
    }
}

/// Returns the bytes of an image, from the table or from a file relative to the table's folder.
fn image_bytes<'i>(table: &Path, image: &'i ImageLink) -> Result<Cow<'i, [u8]>> {
    if let Some(bytes) = &image.bytes {
        return Ok(Cow::Borrowed(bytes));
    }
    let path = table.parent().unwrap_or(Path::new("")).join(&image.path);
    std::fs::read(&path).map(Cow::Owned).map_err(StageError::read(&path))
}

/// Returns the digest of a row's image; `None` where the row before has the same image, since rows
/// of one image are usually contiguous.
fn image_digest(table: &Path, rows: &[Row], i: usize) -> Result<Option<Digest>> {
    if i > 0 && rows[i - 1].image == rows[i].image {
        return Ok(None);
    }
    Ok(Some(Digest::of(&image_bytes(table, &rows[i].image)?)))
}

/// Returns the digest of all texts, image paths and images of the rows. Paths count, since a
/// rejected row names its image.
fn digest_contents(rows: &[Row], images: &[Option<Digest>]) -> Digest {
    let digest_row = |(row, image): (&Row, &Option<Digest>)| {
        let image = image.as_ref().map_or(&b"the image before"[..], |digest| digest.as_bytes());
        let texts = [&row.image.path, &row.system, &row.prompt, &row.response].map(|text| text.as_bytes());
        Digest::derive("visplay 2026 demonstration", &[image, texts[0], texts[1], texts[2], texts[3]])
    };
    let digests: Vec<Digest> = rows.par_iter().zip(images).map(digest_row).collect();
    let parts: Vec<&[u8]> = digests.iter().map(|digest| digest.as_bytes().as_slice()).collect();
    Digest::derive("visplay 2026 demonstrations", &parts)
}
