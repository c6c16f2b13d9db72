//! The images of a round: read once, cut into patches once, and kept in memory for every model that looks at them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::StageError;
use crate::ids::ImageId;
use crate::imaging::{self, Limits};
use crate::store::{ObjectId, Store};
use crate::tables::{self, ImageFacts, ImageRow, TableReader};
use crate::training::Picture;
use crate::vlm::grid::Grid;
use crate::vlm::image_processor::{ImageProcessor, Patches};

/// Why a row was left out: a stable word and words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stable word.
    pub reason: &'static str,
    /// The words for a person.
    pub detail: String,
}

impl Refusal {
    /// A refusal in words.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// ImageFiles of images by their ids.
pub type ImageFiles = BTreeMap<ImageId, Bytes>;

/// Images by id. Nothing is read before the first one is asked for.
pub struct ImageSet<'a> {
    read: Box<dyn Fn() -> Result<ImageFiles, StageError> + Send + Sync + 'a>,
    files: OnceLock<ImageFiles>,
    reading: Mutex<()>,
    patches: Mutex<PatchCache>,
    memory: u64,
}

#[derive(Default)]
struct PatchCache {
    patches: BTreeMap<ImageId, Arc<Patches>>,
    bytes: u64,
}

impl<'a> ImageSet<'a> {
    /// Images that `read` gives. Patches are kept up to `memory` bytes; beyond that they are cut again when they are needed.
    pub fn new(memory: u64, read: impl Fn() -> Result<ImageFiles, StageError> + Send + Sync + 'a) -> Self {
        let (files, reading, patches) = (OnceLock::new(), Mutex::new(()), Mutex::default());
        Self { read: Box::new(read), files, reading, patches, memory }
    }

    /// The `wanted` images of the images table.
    pub fn of_table(store: &'a Store, objects: Vec<ObjectId>, wanted: BTreeSet<ImageId>, memory: u64) -> Self {
        Self::new(memory, move || {
            let mut files = ImageFiles::new();
            for object in &objects {
                let bytes = Bytes::from(store.read_object(*object)?);
                for row in TableReader::<ImageRow>::new(object.name(), bytes)? {
                    let row = row?;
                    if wanted.contains(&row.image_id) {
                        files.insert(row.image_id, row.image.bytes.into());
                    }
                }
            }
            Ok(files)
        })
    }

    /// The patches of an image, or why it has none.
    ///
    /// # Errors
    /// The images cannot be read from the store.
    pub fn patches(
        &self,
        id: ImageId,
        processor: &ImageProcessor,
    ) -> Result<Result<Arc<Patches>, Refusal>, StageError> {
        if let Some(kept) = self.kept().patches.get(&id) {
            return Ok(Ok(Arc::clone(kept)));
        }
        let Some(file) = self.files()?.get(&id) else {
            return Ok(Err(Refusal::new("no_image", format!("image {id} is not in the images table"))));
        };
        let cut = match cut(file, processor) {
            Ok(patches) => Arc::new(patches),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let bytes = (cut.values.len() * size_of::<f32>()) as u64;
        let mut kept = self.kept();
        if kept.bytes + bytes <= self.memory && kept.patches.insert(id, Arc::clone(&cut)).is_none() {
            kept.bytes += bytes;
        }
        Ok(Ok(cut))
    }

    /// The same for training, which goes through many images in a step: what is beyond the memory is cut when it is looked at.
    ///
    /// # Errors
    /// As [`Self::patches`].
    pub fn picture(&self, id: ImageId, processor: &ImageProcessor) -> Result<Result<Picture, Refusal>, StageError> {
        let patches = match self.patches(id, processor)? {
            Ok(patches) => patches,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if self.kept().patches.contains_key(&id) {
            return Ok(Ok(patches.into()));
        }
        let Some(file) = self.files()?.get(&id).cloned() else { return Ok(Ok(patches.into())) };
        let [frames, rows, columns] = patches.grid;
        let processor = processor.clone();
        let again = move || cut(&file, &processor).map_err(|refusal| format!("{id}: {}", refusal.detail));
        Ok(Ok(Picture::lazy(Grid { frames, rows, columns }, again)))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, PatchCache> {
        self.patches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> Result<&ImageFiles, StageError> {
        let _one_reader = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.files.get().is_none() {
            // Only the holder of the lock sets it.
            let _ = self.files.set((self.read)()?);
        }
        self.files.get().ok_or_else(|| StageError::Conflict("the images were not read".into()))
    }
}

fn cut(file: &[u8], processor: &ImageProcessor) -> Result<Patches, Refusal> {
    // The images table has been through ingest's limits; what a benchmark brings may be of any size.
    let decoded = imaging::decode(file, &Limits::default()).map_err(|e| Refusal::new(e.reason(), e.to_string()))?;
    processor.process(&decoded.pixels).map_err(|e| Refusal::new("image_shape", e.to_string()))
}

/// The ids of the images in a table's objects, in order.
///
/// # Errors
/// An object is missing or damaged.
pub fn image_ids(store: &Store, objects: &[ObjectId]) -> Result<Vec<ImageId>, StageError> {
    let mut ids = Vec::new();
    for object in objects {
        let rows: Vec<ImageFacts> = tables::read(object.name(), Bytes::from(store.read_object(*object)?))?;
        ids.extend(rows.iter().map(|row| row.image_id));
    }
    Ok(ids)
}
