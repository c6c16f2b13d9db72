//! The settings of a checkpoint's image processor.
//!
//! Published checkpoints have them in `preprocessor_config.json`; transformers 5 saves them as the
//! section `image_processor` of `processor_config.json`, which has precedence where a folder has
//! both files.
//!
//! Every key of transformers' `Qwen2VLImageProcessor`, also the fast one, that changes pixels is
//! read. Values that mean what this program does are accepted, such as `null` for an absent key or
//! a number for three equal ones; others are errors that name the file and the key. Keys that do
//! not change pixels, such as `device` or `return_tensors`, and unknown keys are ignored, as
//! transformers ignores them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use thiserror::Error;

use super::{CHANNELS, ImageProcessor};
use crate::imaging::{MAX_RESIZED_PIXELS, PixelBudget};
use crate::input_kind::describe_pointer;

/// File name of an image processor's settings in a checkpoint.
pub const PROCESSOR_FILE: &str = "preprocessor_config.json";
/// File name of the settings of all processors of a checkpoint, as transformers 5 saves them.
pub const PROCESSORS_FILE: &str = "processor_config.json";
/// The image processor's section in [`PROCESSORS_FILE`].
const SECTION: &str = "image_processor";

/// The supported values of `image_processor_type`, without `Fast` and `Pil` at their ends.
const TYPES: [&str; 2] = ["Qwen2VLImageProcessor", "Qwen2_5_VLImageProcessor"];
/// Number of Pillow's bicubic filter.
const BICUBIC: f64 = 3.0;
/// The keys of `size`: the name of transformers 5, and the earlier one.
const EDGES: [(&str, &str); 2] = [("shortest_edge", "min_pixels"), ("longest_edge", "max_pixels")];

type Result<T, E = ImageProcessorError> = std::result::Result<T, E>;

/// A reason why the settings of an image processor cannot be used.
#[derive(Debug, Error)]
pub enum ImageProcessorError {
    /// The file cannot be read.
    #[error(
        "{}: cannot be read; a checkpoint folder must contain it, or a processor_config.json with a section image_processor",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a JSON object.
    #[error("{}: not a JSON object: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's message, with line and column.
        problem: String,
    },
    /// A key has a value that is not supported.
    #[error("{}: key `{key}`: {problem}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The problem, and what is expected.
        problem: String,
    },
}

/// The text of an image processor's settings.
#[derive(Debug)]
pub struct ProcessorText {
    /// The file that contains it.
    pub path: PathBuf,
    /// Whether the settings are a section of [`PROCESSORS_FILE`].
    pub is_section: bool,
    /// The settings as the text of a [`PROCESSOR_FILE`].
    pub text: String,
}

impl ProcessorText {
    /// Finds the settings in a checkpoint folder.
    ///
    /// # Errors
    /// There are none, or a file cannot be read.
    pub fn find(folder: &Path) -> Result<Self> {
        let path = folder.join(PROCESSORS_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let json = |problem| ImageProcessorError::Json { path: path.clone(), problem };
                if let Some(problem) = describe_pointer(text.as_bytes()) {
                    return Err(json(problem));
                }
                let value: Value =
                    serde_json::from_str(without_mark(&text)).map_err(|error| json(error.to_string()))?;
                // Older versions wrote this file too, without the section.
                if let Some(section) = value.get(SECTION).filter(|section| !section.is_null()) {
                    return Ok(Self { text: format!("{section:#}\n"), path, is_section: true });
                }
            }
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(ImageProcessorError::Read { path, source }),
        }
        let path = folder.join(PROCESSOR_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self { path, is_section: false, text }),
            Err(source) => Err(ImageProcessorError::Read { path, source }),
        }
    }

    /// Reads the processor from its settings.
    ///
    /// # Errors
    /// As [`ImageProcessor::from_json`].
    pub fn processor(&self) -> Result<ImageProcessor> {
        ImageProcessor::read(&self.text, &self.path, if self.is_section { SECTION } else { "" })
    }
}

impl ImageProcessor {
    /// Reads `preprocessor_config.json`.
    ///
    /// # Errors
    /// The file cannot be read, is not a JSON object, or has a key of a wrong type or range.
    pub fn from_file(path: &Path) -> Result<Self> {
        let read = |source| ImageProcessorError::Read { path: path.to_owned(), source };
        Self::from_json(&fs::read_to_string(path).map_err(read)?, path)
    }

    /// Reads the text of a `preprocessor_config.json`; errors name `path`. Absent keys have the
    /// values of transformers' `Qwen2VLImageProcessor`; `min_pixels` and `max_pixels` have
    /// precedence over `size`.
    ///
    /// # Errors
    /// As [`Self::from_file`].
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        Self::read(text, path, "")
    }

    /// Reads settings that are the section `section` of their file, or the whole file if empty.
    fn read(text: &str, path: &Path, section: &str) -> Result<Self> {
        let json = |problem| ImageProcessorError::Json { path: path.to_owned(), problem };
        if let Some(problem) = describe_pointer(text.as_bytes()) {
            return Err(json(problem));
        }
        let value: Value = serde_json::from_str(without_mark(text)).map_err(|error| json(error.to_string()))?;
        let Value::Object(keys) = value else {
            let place = if section.is_empty() { "the top level" } else { section };
            return Err(json(format!("{place} is not an object")));
        };
        let config = Keys { path, section, keys: &keys };
        config.check_type()?;
        for step in ["do_resize", "do_rescale", "do_normalize", "do_convert_rgb"] {
            config.require(step, &Value::Bool(true), "only `true` is supported")?;
        }
        for step in ["do_center_crop", "do_pad"] {
            config.require(step, &Value::Bool(false), "only `false` is supported")?;
        }
        config.check_resample()?;
        let mean = config.channels("image_mean", [0.481_454_66, 0.457_827_5, 0.408_210_73])?;
        let std = config.channels("image_std", [0.268_629_54, 0.261_302_58, 0.275_777_11])?;
        if std.iter().any(|value| *value as f32 <= 0.0) {
            return Err(config.fault("image_std", "every value must be above 0"));
        }
        let rescale = config.number("rescale_factor")?.unwrap_or(1.0 / 255.0);
        if rescale <= 0.0 {
            return Err(config.fault("rescale_factor", format!("{rescale}: a number above 0 is expected")));
        }
        Ok(Self {
            patch_size: config.size("patch_size", 14)?,
            temporal_patch_size: config.size("temporal_patch_size", 2)?,
            merge_size: config.size("merge_size", 2)?,
            budget: config.budget()?,
            table: std::array::from_fn(|channel| normalisation_table(rescale, mean[channel], std[channel])),
        })
    }
}

fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// Returns `(f32(byte * rescale) - mean) / std` for every byte.
fn normalisation_table(rescale: f64, mean: f64, std: f64) -> [f32; 256] {
    std::array::from_fn(|byte| ((byte as f64 * rescale) as f32 - mean as f32) / std as f32)
}

/// The keys of the settings. Errors name the file and the key.
struct Keys<'a> {
    path: &'a Path,
    /// The section of the file that contains the keys; empty for the top level.
    section: &'a str,
    keys: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn fault(&self, key: &str, problem: impl Into<String>) -> ImageProcessorError {
        let key = if self.section.is_empty() { key.to_owned() } else { format!("{}.{key}", self.section) };
        ImageProcessorError::Key { path: self.path.to_owned(), key, problem: problem.into() }
    }

    /// Returns a key's value; `null` counts as absent.
    fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn require(&self, key: &str, expected: &Value, problem: &str) -> Result<()> {
        match self.get(key) {
            Some(value) if value != expected => Err(self.fault(key, format!("{value}: {problem}"))),
            _ => Ok(()),
        }
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        let fault = |value| self.fault(key, format!("{value}: a number is expected"));
        self.get(key).map(|value| value.as_f64().ok_or_else(|| fault(value))).transpose()
    }

    fn count(&self, key: &str, value: &Value) -> Result<u64> {
        let whole = value.as_f64().filter(|number| number.fract() == 0.0 && (1.0..=1e15).contains(number));
        whole
            .map(|number| number as u64)
            .ok_or_else(|| self.fault(key, format!("{value}: a whole number from 1 is expected")))
    }

    fn size(&self, key: &str, default: usize) -> Result<usize> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match self.count(key, value)? {
            size @ 1..=256 => Ok(size as usize),
            size => Err(self.fault(key, format!("{size}: at most 256 is supported"))),
        }
    }

    fn channels(&self, key: &str, default: [f64; CHANNELS]) -> Result<[f64; CHANNELS]> {
        let Some(value) = self.get(key) else { return Ok(default) };
        // A single number is the value of every channel.
        if let Some(number) = value.as_f64() {
            return Ok([number; CHANNELS]);
        }
        let numbers: Option<Vec<f64>> = value.as_array().and_then(|values| values.iter().map(Value::as_f64).collect());
        numbers
            .and_then(|numbers| numbers.try_into().ok())
            .ok_or_else(|| self.fault(key, format!("{value}: a list of 3 numbers, or one number, is expected")))
    }

    /// Checks that the settings are those of a processor that this program computes.
    fn check_type(&self) -> Result<()> {
        const KEY: &str = "image_processor_type";
        let Some(value) = self.get(KEY) else { return Ok(()) };
        let name = value.as_str().unwrap_or_default();
        let base = ["Fast", "Pil"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        match TYPES.contains(&base) {
            true => Ok(()),
            false => Err(self.fault(KEY, format!("{value}: only {} is supported", TYPES[0]))),
        }
    }

    /// Checks that images are resized bicubically: by the number of Pillow's filter, or by its name
    /// alone or within `PILImageResampling`, `PIL.Image`, `Resampling` or `InterpolationMode`.
    fn check_resample(&self) -> Result<()> {
        const KEY: &str = "resample";
        let Some(value) = self.get(KEY) else { return Ok(()) };
        let named = |name: &str| {
            let (family, filter) = name.rsplit_once('.').unwrap_or(("", name));
            let is_known = ["", "PILImageResampling", "Resampling", "Image", "Image.Resampling", "InterpolationMode"];
            let family = family.strip_prefix("PIL.").unwrap_or(family);
            is_known.contains(&family) && filter.eq_ignore_ascii_case("bicubic")
        };
        if value.as_f64() == Some(BICUBIC) || value.as_str().is_some_and(named) {
            return Ok(());
        }
        Err(self.fault(KEY, format!("{value}: only 3 or \"bicubic\" is supported")))
    }

    /// Checks that `size` has the limits of the number of pixels and nothing else: transformers'
    /// processor has no other form, though the base class has.
    fn check_size(&self, size: &Map<String, Value>) -> Result<()> {
        let present = |key: &str| size.get(key).is_some_and(|value| !value.is_null());
        if let Some((key, value)) = size
            .iter()
            .find(|(key, value)| !value.is_null() && !EDGES.iter().any(|(edge, flat)| key == edge || key == flat))
        {
            let problem = format!(
                "{value}: images are resized to a number of pixels, from size.shortest_edge to size.longest_edge, and \
                 not to given sides"
            );
            return Err(self.fault(&format!("size.{key}"), problem));
        }
        for (edge, flat) in EDGES {
            if !present(edge) && !present(flat) && self.get(flat).is_none() {
                return Err(
                    self.fault("size", format!("it has no {edge}; it must have shortest_edge and longest_edge"))
                );
            }
        }
        Ok(())
    }

    fn budget(&self) -> Result<PixelBudget> {
        let size = match self.get("size") {
            None => None,
            Some(Value::Object(size)) => {
                self.check_size(size)?;
                Some(size)
            }
            Some(other) => {
                let problem = format!("{other}: an object with shortest_edge and longest_edge is expected");
                return Err(self.fault("size", problem));
            }
        };
        let bound = |flat: &str, edge: &str, default: u64| {
            let nested = |key: &str| size.and_then(|size| size.get(key)).filter(|value| !value.is_null());
            let named = format!("size.{edge}");
            match (self.get(flat), nested(edge).or_else(|| nested(flat))) {
                (Some(value), _) => self.count(flat, value),
                (None, Some(value)) => self.count(&named, value),
                (None, None) => Ok(default),
            }
        };
        let min_pixels = bound("min_pixels", "shortest_edge", 56 * 56)?;
        let max_pixels = bound("max_pixels", "longest_edge", 28 * 28 * 1280)?;
        if min_pixels > max_pixels {
            return Err(self.fault("min_pixels", format!("{min_pixels} is above max_pixels, {max_pixels}")));
        }
        if min_pixels > MAX_RESIZED_PIXELS {
            let problem = format!("{min_pixels} is above {MAX_RESIZED_PIXELS}, the most that is supported");
            return Err(self.fault("min_pixels", problem));
        }
        Ok(PixelBudget { min_pixels, max_pixels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ImageProcessor> {
        ImageProcessor::from_json(text, Path::new("preprocessor_config.json"))
    }

    #[test]
    fn flat_and_nested_pixel_limits_are_equal() {
        let flat = read(r#"{"min_pixels": 3136, "max_pixels": 12845056}"#).unwrap();
        let nested = read(r#"{"size": {"shortest_edge": 3136, "longest_edge": 12845056}}"#).unwrap();
        assert_eq!(flat, nested);
        assert_eq!(flat.budget, PixelBudget { min_pixels: 3136, max_pixels: 12_845_056 });
        assert_eq!(flat.patch_dim(), 1176);
    }

    #[test]
    fn a_fault_names_file_and_key() {
        let message = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(
            message(r#"{"patch_size": 0}"#),
            "preprocessor_config.json: key `patch_size`: 0: a whole number from 1 is expected"
        );
        assert!(message(r#"{"image_mean": [0.5, 0.5]}"#).contains("`image_mean`"));
        assert!(message(r#"{"image_std": [0.5, 0.5, 0]}"#).contains("above 0"));
        let size = r#"{"size": {"shortest_edge": "x", "longest_edge": 9}}"#;
        assert!(message(size).contains("`size.shortest_edge`"));
        assert!(message(r#"{"min_pixels": 10, "max_pixels": 5}"#).contains("above max_pixels"));
        assert!(message(r#"{"min_pixels": 1e14, "max_pixels": 1e15}"#).contains("most that is supported"));
        assert!(message(r#"{"resample": 2}"#).contains("bicubic"));
        assert!(message(r#"{"do_resize": false}"#).contains("`do_resize`"));
        assert!(message("[1]").contains("not a JSON object"));
        assert!(message("{\"a\": }").contains("line 1"));
    }

    /// A file that transformers 5.24 saved, with the keys of the video processor left out.
    const SAVED: &str = r#"{
      "image_processor": {
        "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "merge_size": 2, "patch_size": 14, "resample": 3, "rescale_factor": 0.00392156862745098,
        "size": {"longest_edge": 12544, "shortest_edge": 12544}, "temporal_patch_size": 2
      },
      "processor_class": "Qwen2_5_VLProcessor",
      "video_processor": {"video_processor_type": "Qwen2VLVideoProcessor", "merge_size": 3}
    }"#;

    #[test]
    fn the_section_of_transformers_5_has_precedence_over_the_separate_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let absent = ProcessorText::find(folder.path()).unwrap_err().to_string();
        assert!(absent.contains(PROCESSOR_FILE) && absent.contains(PROCESSORS_FILE), "{absent}");
        write(PROCESSORS_FILE, SAVED);
        let section = ProcessorText::find(folder.path()).unwrap();
        assert!(section.is_section);
        let nano = include_str!("../../../data/nano/preprocessor_config.json");
        assert_eq!(section.processor().unwrap(), read(nano).unwrap());
        // The extracted section is a valid file of its own.
        assert_eq!(read(&section.text).unwrap(), read(nano).unwrap());
        write(PROCESSOR_FILE, "{}");
        assert!(ProcessorText::find(folder.path()).unwrap().is_section);
        write(PROCESSORS_FILE, r#"{"processor_class": "Qwen2_5_VLProcessor"}"#);
        let own = ProcessorText::find(folder.path()).unwrap();
        assert_eq!((own.is_section, own.text.as_str()), (false, "{}"));
        let message = |text: &str| {
            write(PROCESSORS_FILE, text);
            ProcessorText::find(folder.path()).and_then(|found| found.processor()).unwrap_err().to_string()
        };
        assert!(
            message(&SAVED.replace("\"merge_size\": 2", "\"merge_size\": 0")).contains("`image_processor.merge_size`")
        );
        assert!(message(r#"{"image_processor": []}"#).contains("image_processor is not an object"));
        assert!(message("{").contains(PROCESSORS_FILE));
    }
}
