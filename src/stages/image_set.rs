//! The images of a round, read once and kept in memory as patches for all models that use them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use once_cell::sync::OnceCell;

use super::{Rejection, Result, read_object};
use crate::ids::ImageId;
use crate::imaging::{self, Limits};
use crate::store::{ObjectId, Store};
use crate::tables::{ImageFacts, ImageRow, TableReader};
use crate::training::PreparedImage;
use crate::vlm::grid::Grid;
use crate::vlm::image_processor::{ImageProcessor, Patches};

/// Image files by image id.
pub type ImageFiles = BTreeMap<ImageId, Bytes>;

/// Images by id. Nothing is read before the first image is requested.
pub struct ImageSet<'a> {
    read: Box<dyn Fn() -> Result<ImageFiles> + Send + Sync + 'a>,
    files: OnceCell<ImageFiles>,
    patches: Mutex<PatchCache>,
    memory: u64,
}

#[derive(Default)]
struct PatchCache {
    patches: BTreeMap<ImageId, Arc<Patches>>,
    bytes: u64,
}

impl<'a> ImageSet<'a> {
    /// Returns a set of the images that `read` reads. Patches are kept up to `memory` bytes;
    /// further ones are recomputed when they are needed.
    pub fn new(memory: u64, read: impl Fn() -> Result<ImageFiles> + Send + Sync + 'a) -> Self {
        Self { read: Box::new(read), files: OnceCell::new(), patches: Mutex::default(), memory }
    }

    /// Returns a set of the `wanted` images of the images table.
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

    /// Returns the patches of an image, or the reason why it has none.
    ///
    /// # Errors
    /// The images cannot be read from the store.
    pub fn patches(&self, id: ImageId, processor: &ImageProcessor) -> Result<Result<Arc<Patches>, Rejection>> {
        if let Some(patches) = self.cache().patches.get(&id) {
            return Ok(Ok(Arc::clone(patches)));
        }
        let Some(file) = self.files.get_or_try_init(&self.read)?.get(&id) else {
            return Ok(Err(Rejection::new("no_image", format!("image {id} is not in the images table"))));
        };
        let patches = match patches_of(file, processor) {
            Ok(patches) => Arc::new(patches),
            Err(rejection) => return Ok(Err(rejection)),
        };
        let bytes = (patches.values.len() * size_of::<f32>()) as u64;
        let mut cache = self.cache();
        if cache.bytes + bytes <= self.memory && cache.patches.insert(id, Arc::clone(&patches)).is_none() {
            cache.bytes += bytes;
        }
        Ok(Ok(patches))
    }

    /// Returns an image for training, whose steps use many images: patches beyond the memory limit
    /// are recomputed on each use.
    ///
    /// # Errors
    /// The errors of [`Self::patches`].
    pub fn prepared_image(&self, id: ImageId, processor: &ImageProcessor) -> Result<Result<PreparedImage, Rejection>> {
        let patches = match self.patches(id, processor)? {
            Ok(patches) => patches,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if self.cache().patches.contains_key(&id) {
            return Ok(Ok(patches.into()));
        }
        let Some(file) = self.files.get_or_try_init(&self.read)?.get(&id).cloned() else {
            return Ok(Ok(patches.into()));
        };
        let [frames, rows, columns] = patches.grid;
        let processor = processor.clone();
        let recompute =
            move || patches_of(&file, &processor).map_err(|rejection| format!("{id}: {}", rejection.detail));
        Ok(Ok(PreparedImage::lazy(Grid { frames, rows, columns }, recompute)))
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, PatchCache> {
        self.patches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn patches_of(file: &[u8], processor: &ImageProcessor) -> Result<Patches, Rejection> {
    // Ingest has applied its limits to the images table; images of a benchmark may have any size.
    let decoded = imaging::decode(file, &Limits::default()).map_err(|e| Rejection::new(e.reason(), e.to_string()))?;
    processor.process(&decoded.pixels).map_err(|e| Rejection::new("image_shape", e.to_string()))
}

/// Returns the ids of the images in a table's objects, in order.
///
/// # Errors
/// An object is missing or damaged.
pub fn image_ids(store: &Store, objects: &[ObjectId]) -> Result<Vec<ImageId>> {
    let mut ids = Vec::new();
    for object in objects {
        let rows: Vec<ImageFacts> = read_object(store, *object)?;
        ids.extend(rows.iter().map(|row| row.image_id));
    }
    Ok(ids)
}
