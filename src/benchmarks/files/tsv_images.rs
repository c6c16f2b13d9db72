//! Images of VLMEvalKit's rows: base64 text, a list of such texts, or the index of a row with the
//! same image.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::cell::{Row, RowError};
use crate::benchmarks::python::literal;

/// Column of images.
const IMAGE: &str = "image";
/// Length of a text up to which it is the index of another row.
const MAX_INDEX: usize = 64;

/// Encoded images of a row, in the order of their marks. Rows that share an image share its bytes.
pub type EncodedImages = Vec<Arc<[u8]>>;

/// Returns the images of each row. A row without images has an empty list.
///
/// # Errors
/// A text is no base64, or an index is that of no row with an image of its own.
pub fn tsv_images(rows: &[Row]) -> Result<Vec<EncodedImages>, RowError> {
    let mut by_index: HashMap<String, EncodedImages> = HashMap::new();
    let mut decoded = Vec::with_capacity(rows.len());
    for row in rows {
        let text = row.text(IMAGE)?;
        let images = match text.as_deref() {
            None | Some("") => Some(Vec::new()),
            Some(text) if text.len() <= MAX_INDEX => None,
            Some(text) => Some(decode(row, text)?),
        };
        if let (Some(images), Some(index)) = (&images, row.text("index")?) {
            by_index.insert(index, images.clone());
        }
        decoded.push((images, text));
    }
    let shared = |(row, (images, text)): (&Row, (Option<EncodedImages>, Option<String>))| match images {
        Some(images) => Ok(images),
        None => {
            let index = text.unwrap_or_default();
            let found = by_index.get(&index).filter(|images| !images.is_empty()).cloned();
            found.ok_or_else(|| row.error(IMAGE, format!("{index:?} is the index of no row with an image")))
        }
    };
    rows.iter().zip(decoded).map(shared).collect()
}

fn decode(row: &Row, text: &str) -> Result<EncodedImages, RowError> {
    let texts = if text.trim_start().starts_with('[') {
        let list = literal::parse(text).map_err(|e| row.error(IMAGE, e.to_string()))?;
        list.texts().ok_or_else(|| row.error(IMAGE, "the list holds something else than texts"))?
    } else {
        vec![text.to_owned()]
    };
    let decoded = |text: &String| match STANDARD.decode(text.trim()) {
        Ok(bytes) => Ok(bytes.into()),
        Err(e) => Err(row.error(IMAGE, format!("it is not base64: {e}"))),
    };
    texts.iter().map(decoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::files::read_tsv;

    fn images(text: &str) -> Result<Vec<Vec<Vec<u8>>>, RowError> {
        let rows = read_tsv(text.as_bytes()).unwrap();
        let images = tsv_images(&rows)?;
        Ok(images.into_iter().map(|images| images.iter().map(|image| image.to_vec()).collect()).collect())
    }

    #[test]
    fn images_are_texts_lists_and_other_rows() {
        let (one, two) = (vec![1u8; 60], vec![2u8; 90]);
        let (a, b) = (STANDARD.encode(&one), STANDARD.encode(&two));
        let text = format!("index\timage\n7\t9\n9\t{a}\n10\t['{a}', \"{b}\"]\n11\t\n");
        assert_eq!(images(&text).unwrap(), [vec![one.clone()], vec![one.clone()], vec![one, two], vec![]]);
    }

    #[test]
    fn damage_names_row_and_column() {
        let long = "!".repeat(70);
        for (cell, problem) in [
            ("8", "row 1, column image: \"8\" is the index of no row with an image"),
            (long.as_str(), "row 1, column image: it is not base64"),
            (&format!("[{long}]"), "row 1, column image: not a Python literal"),
            (&format!("[1, ['{long}']]"), "row 1, column image: the list holds something else"),
        ] {
            let message = images(&format!("index\timage\n7\t{cell}\n")).unwrap_err().to_string();
            assert!(message.starts_with(problem), "{message}");
        }
    }
}
