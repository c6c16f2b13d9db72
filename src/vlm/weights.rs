//! The weights of a checkpoint: safetensors files, checked against the configuration and read
//! tensor by tensor.
//!
//! Opening reads headers only, so it is instant for any size. A tensor is converted from the mapped
//! file into its final vector, and the file's pages are released at once: the peak memory is the
//! converted model plus one tensor.
//!
//! Request f32 on a CPU, where candle's bf16 matmul would widen the whole operand at each call (a
//! 3B model then takes 15 GB), and bf16 on a GPU.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

use super::checkpoint_files::{CheckpointFiles, Index};
use super::config::Config;
use super::conversion::numbers;
use super::mapped::MappedFile;
use super::parameters::{EMBEDDING, HEAD, canonical_name, is_computed, parameters};
use super::safetensors_header::{StoredTensor, StoredType, quoted, read_header};
pub use super::weights_error::{WeightProblem, WeightsError};

/// The weights of a checkpoint, in their files.
#[derive(Debug)]
pub struct Weights {
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, TensorLocation>,
}

#[derive(Debug)]
struct TensorLocation {
    /// Index into `Weights::files`.
    file: usize,
    tensor: StoredTensor,
}

/// A tensor as it is stored in its file.
#[derive(Debug, Clone, Copy)]
pub struct RawTensor<'a> {
    /// Dtype.
    pub dtype: StoredType,
    /// Shape.
    pub shape: &'a [usize],
    /// Elements, little endian, row by row.
    pub bytes: &'a [u8],
}

impl Weights {
    /// Opens the weights of a checkpoint folder and checks that they are exactly those of `config`.
    pub fn open(folder: &Path, config: &Config) -> Result<Self, WeightsError> {
        Self::from_files(CheckpointFiles::find(folder)?, config)
    }

    /// Opens weights in several files, in any folder, and checks that they are exactly those of
    /// `config`.
    pub fn open_files(files: Vec<PathBuf>, config: &Config) -> Result<Self, WeightsError> {
        Self::from_files(CheckpointFiles { files, index: None }, config)
    }

    fn from_files(checkpoint_files: CheckpointFiles, config: &Config) -> Result<Self, WeightsError> {
        let (files, headers) = open_files(&checkpoint_files)?;
        let mut problems = Vec::new();
        if let Some(index) = &checkpoint_files.index {
            check_index(index, &files, &headers, &mut problems);
        }
        let tensors = collect(&files, headers, &mut problems);
        let mut weights = Self { files, tensors };
        let first = || checkpoint_files.files.first().cloned().unwrap_or_default();
        let default_file = checkpoint_files.index.map_or_else(first, |index| index.file);
        weights.check(config, &default_file, &mut problems);
        if problems.is_empty() { Ok(weights) } else { Err(WeightsError::Damaged { problems }) }
    }

    /// Returns the tensor of this name (see [`parameters`]), converted to `dtype`, on `device`.
    pub fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor, WeightsError> {
        let RawTensor { dtype: stored, shape, bytes } = self.raw(name)?;
        let placed = match dtype {
            DType::F32 => Tensor::from_vec(numbers::<f32>(bytes, stored), shape, device),
            DType::BF16 => Tensor::from_vec(numbers::<bf16>(bytes, stored), shape, device),
            DType::F16 => Tensor::from_vec(numbers::<f16>(bytes, stored), shape, device),
            other => return Err(WeightsError::Type(other)),
        };
        self.release(name);
        placed.map_err(|source| WeightsError::Place { name: name.to_owned(), source })
    }

    /// Returns a tensor as it is stored in its file.
    pub fn raw(&self, name: &str) -> Result<RawTensor<'_>, WeightsError> {
        let TensorLocation { file, tensor } =
            self.tensors.get(name).ok_or_else(|| WeightsError::Unknown(name.to_owned()))?;
        let bytes = self.files[*file].bytes().get(tensor.bytes.clone()).unwrap_or_default();
        Ok(RawTensor { dtype: tensor.dtype, shape: &tensor.shape, bytes })
    }

    /// Releases the memory of a tensor's file pages.
    pub fn release(&self, name: &str) {
        if let Some(TensorLocation { file, tensor }) = self.tensors.get(name) {
            self.files[*file].release(tensor.bytes.clone());
        }
    }

    /// Returns the weight files.
    pub fn files(&self) -> impl Iterator<Item = &MappedFile> {
        self.files.iter()
    }

    /// Returns the dtypes of the tensors and the bytes stored in each.
    pub fn stored_types(&self) -> BTreeMap<StoredType, u64> {
        let mut types = BTreeMap::new();
        for TensorLocation { tensor, .. } in self.tensors.values() {
            *types.entry(tensor.dtype).or_default() += tensor.bytes.len() as u64;
        }
        types
    }

    /// Compares the tensors with those of the configuration. `default_file` is the file that the
    /// message about a missing tensor names.
    fn check(&mut self, config: &Config, default_file: &Path, problems: &mut Vec<WeightProblem>) {
        self.tensors.retain(|name, _| !is_computed(name));
        if config.tie_word_embeddings {
            self.check_tied_head(problems);
        }
        let expected = parameters(config);
        for parameter in &expected {
            match self.tensors.get(&parameter.name) {
                None => {
                    let problem = format!("is missing: config.json requires it with shape {:?}", parameter.shape);
                    problems.push(WeightProblem::new(default_file, Some(&parameter.name), problem));
                }
                Some(location) if location.tensor.shape != parameter.shape => {
                    let (actual, expected) = (&location.tensor.shape, &parameter.shape);
                    let problem = format!("has shape {actual:?}, but config.json requires {expected:?}");
                    problems.push(self.problem(location, problem));
                }
                Some(_) => {}
            }
        }
        let expected: HashSet<&str> = expected.iter().map(|p| p.name.as_str()).collect();
        for location in self.tensors.values() {
            if !expected.contains(canonical_name(&location.tensor.name).as_str()) {
                let problem = "is not part of the architecture that config.json describes".to_owned();
                problems.push(self.problem(location, problem));
            }
        }
    }

    /// Checks that `lm_head.weight` equals the embedding where they are tied; files may have both.
    fn check_tied_head(&mut self, problems: &mut Vec<WeightProblem>) {
        let (Ok(head), Ok(embedding)) = (self.raw(HEAD), self.raw(EMBEDDING)) else { return };
        if (head.dtype, head.bytes) != (embedding.dtype, embedding.bytes) {
            let problem = "differs from the embeddings, but config.json says tie_word_embeddings".to_owned();
            problems.extend(self.tensors.get(HEAD).map(|location| self.problem(location, problem)));
        }
        self.release(HEAD);
        self.release(EMBEDDING);
        self.tensors.remove(HEAD);
    }

    fn problem(&self, location: &TensorLocation, problem: String) -> WeightProblem {
        WeightProblem::new(self.files[location.file].path(), Some(&location.tensor.name), problem)
    }
}

type Headers = Vec<Vec<StoredTensor>>;

/// Maps all files and reads their headers; the error has the problems of all files.
fn open_files(checkpoint_files: &CheckpointFiles) -> Result<(Vec<MappedFile>, Headers), WeightsError> {
    let (mut files, mut headers, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for path in &checkpoint_files.files {
        let mut wrong = |problem| problems.push(WeightProblem::new(path, None, problem));
        match MappedFile::open(path) {
            Ok(file) => {
                match read_header(file.bytes()) {
                    Ok(header) => headers.push(header),
                    Err(header_problems) => header_problems.into_iter().for_each(wrong),
                }
                files.push(file);
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => match &checkpoint_files.index {
                Some(index) => wrong(format!("is missing: {} names it", index.file.display())),
                None => wrong("is missing".to_owned()),
            },
            Err(e) => wrong(format!("cannot be read: {e}")),
        }
    }
    if problems.is_empty() { Ok((files, headers)) } else { Err(WeightsError::Damaged { problems }) }
}

/// Checks that the index and the shards agree.
fn check_index(index: &Index, files: &[MappedFile], headers: &Headers, problems: &mut Vec<WeightProblem>) {
    let mut unseen: BTreeMap<&str, &str> = index.weight_map.iter().map(|(t, f)| (t.as_str(), f.as_str())).collect();
    for (file, header) in files.iter().zip(headers) {
        let file_name = file.path().file_name().unwrap_or_default();
        for tensor in header {
            match unseen.get(tensor.name.as_str()) {
                Some(&named) if file_name == named => {
                    unseen.remove(tensor.name.as_str());
                }
                _ => {
                    let problem = match index.weight_map.get(&tensor.name) {
                        Some(other) => format!("is here, but {} says it is in {other}", index.file.display()),
                        None => format!("is here, but {} does not name it", index.file.display()),
                    };
                    problems.push(WeightProblem::new(file.path(), Some(&tensor.name), problem));
                }
            }
        }
    }
    for (tensor, shard) in unseen {
        let problem = format!("is not in this file, though {} says so", index.file.display());
        problems.push(WeightProblem::new(&index.file.with_file_name(shard), Some(tensor), problem));
    }
}

/// Collects all tensors under their published names.
fn collect(
    files: &[MappedFile],
    headers: Headers,
    problems: &mut Vec<WeightProblem>,
) -> BTreeMap<String, TensorLocation> {
    let mut tensors = BTreeMap::<String, TensorLocation>::new();
    for (file, header) in headers.into_iter().enumerate() {
        for tensor in header {
            let name = canonical_name(&tensor.name);
            if let Some(first) = tensors.get(&name) {
                let other = files[first.file].path().display();
                let problem = format!("is in {other} too, as {}", quoted(&first.tensor.name));
                problems.push(WeightProblem::new(files[file].path(), Some(&tensor.name), problem));
            } else {
                tensors.insert(name, TensorLocation { file, tensor });
            }
        }
    }
    tensors
}
