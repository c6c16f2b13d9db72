//! The image processor's patches against those of transformers, recorded by
//! `tests/oracles/image_processor.py`.

use std::path::Path;

use serde::Deserialize;
use visplay::imaging::{PixelBudget, RgbImage, smart_resize};
use visplay::vlm::image_processor::ImageProcessor;

use crate::oracle_files::{fnv, json_lines, pattern};

#[derive(Deserialize)]
struct ProcessedImage {
    config: serde_json::Value,
    kind: String,
    seed: u64,
    from: (u32, u32),
    grid: [usize; 3],
    shape: [usize; 2],
    values: String,
    first: Vec<f32>,
    mean: f64,
}

#[test]
fn patches_equal_those_of_transformers_to_the_last_bit() {
    let rows: Vec<ProcessedImage> = json_lines("image-processor.jsonl", |line| line.contains("\"config\""));
    assert_eq!(rows.len(), 105);
    for row in rows {
        let label = format!("{} {:?}", row.config, row.from);
        let path = Path::new("preprocessor_config.json");
        let processor = ImageProcessor::from_json(&row.config.to_string(), path).unwrap();
        let (width, height) = row.from;
        let data = pattern(&row.kind, row.seed, width as usize, height as usize, 3);
        let patches = processor.process(&RgbImage::new(width, height, data).unwrap()).unwrap();
        assert_eq!(patches.grid, row.grid, "{label}");
        assert_eq!(processor.grid(width, height), Ok(row.grid), "{label}");
        assert_eq!([patches.count(), processor.patch_dim()], row.shape, "{label}");
        assert_eq!(patches.values[..4], row.first, "{label}");
        let mean = patches.values.iter().map(|value| f64::from(*value)).sum::<f64>() / patches.values.len() as f64;
        assert!((mean - row.mean).abs() < 1e-9, "{label}: {mean} {}", row.mean);
        assert_eq!(fnv(patches.values.iter().flat_map(|value| value.to_le_bytes())), row.values, "{label}");
    }
}

#[derive(Deserialize)]
struct ResizeCases {
    factor: u32,
    min_pixels: u64,
    max_pixels: u64,
    smart_resize: Vec<[u32; 4]>,
}

#[test]
fn smart_resize_equals_transformers() {
    let rows: Vec<ResizeCases> = json_lines("image-processor.jsonl", |line| line.contains("\"smart_resize\""));
    assert_eq!(rows.len(), 60);
    for row in rows {
        let budget = PixelBudget { min_pixels: row.min_pixels, max_pixels: row.max_pixels };
        for [width, height, to_width, to_height] in row.smart_resize {
            let size = smart_resize(width, height, row.factor, budget);
            let expected = (to_width > 0).then_some((to_width, to_height));
            assert_eq!(size.ok(), expected, "{width}x{height} by {} within {budget:?}", row.factor);
        }
    }
}
