//! The writer that stores a model's weights as one object per part of the model.

use std::io::Write;

use super::WEIGHTS;
use crate::stages::{Result, StageError};
use crate::store::{ObjectKind, Output, Store, StoreError};
use crate::vlm::config::Config;
use crate::vlm::export::ExportError;
use crate::vlm::parameters::{ModelPart, parameters};
use crate::vlm::safetensors_header::StoredType;
use crate::vlm::safetensors_writer::{PlannedTensor, write_tensors};
use crate::vlm::tensor_source::TensorSource;

/// Stores weights as one object per part of the model. Equal tensors give equal objects.
///
/// # Errors
/// A tensor is missing or has the wrong shape, or the store cannot be written to.
pub fn store_weights(store: &Store, config: &Config, source: &dyn TensorSource) -> Result<Vec<Output>> {
    let mut parts: Vec<(ModelPart, Vec<_>)> = Vec::new();
    for parameter in parameters(config) {
        match parts.last_mut().filter(|(part, _)| *part == parameter.part) {
            Some((_, of_part)) => of_part.push(parameter),
            None => parts.push((parameter.part, vec![parameter])),
        }
    }
    let mut outputs = Vec::with_capacity(parts.len());
    for (_, of_part) in &parts {
        let mut planned = Vec::with_capacity(of_part.len());
        for parameter in of_part {
            let dtype: StoredType = source.stored_type(parameter).map_err(|e| write_error(store, e))?;
            planned.push(PlannedTensor { name: parameter.name.clone(), dtype, shape: parameter.shape.clone() });
        }
        outputs.push(put_tensors(store, WEIGHTS, &planned, |tensor, out| {
            let parameter = of_part.iter().find(|parameter| parameter.name == tensor.name);
            let unknown = || ExportError::Tensor(tensor.name.clone(), "is not part of the model".to_owned());
            source.write(parameter.ok_or_else(unknown)?, tensor.dtype, out)
        })?);
    }
    Ok(outputs)
}

/// Stores tensors, whose values `write` writes, as one object.
pub(in crate::stages) fn put_tensors(
    store: &Store,
    role: &str,
    planned: &[PlannedTensor],
    write: impl FnMut(&PlannedTensor, &mut dyn Write) -> Result<(), ExportError>,
) -> Result<Output> {
    let mut staged = store.stage()?;
    write_tensors(&mut staged, planned, write).map_err(|e| write_error(store, e))?;
    let (object, bytes) = store.publish_object(staged, ObjectKind::Safetensors)?;
    Ok(Output { role: role.to_owned(), object, rows: 0, bytes })
}

/// Returns the error for tensors that cannot be stored, because of the disk or of the model.
fn write_error(store: &Store, e: ExportError) -> StageError {
    match e {
        ExportError::Io(source) | ExportError::File { source, .. } => {
            StoreError::Io { doing: "write weights to", path: store.root().to_owned(), source }.into()
        }
        e => StageError::model(e),
    }
}
