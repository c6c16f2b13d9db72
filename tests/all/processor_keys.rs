//! Keys of an image processor that change pixels: those that mean what this program does are
//! accepted in every notation, the others are refused with the key and the file.

use std::path::Path;

use serde_json::{Value, json};
use visplay::vlm::image_processor::{ImageProcessor, ProcessorText};

use crate::support::{Workspace, stderr_of};

/// The settings of Qwen2.5-VL, as transformers 5 saves them.
fn saved() -> Value {
    json!({
        "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "merge_size": 2, "patch_size": 14, "resample": 3, "rescale_factor": 0.00392156862745098,
        "size": {"longest_edge": 12845056, "shortest_edge": 3136}, "temporal_patch_size": 2
    })
}

fn with(changes: &Value) -> String {
    let mut settings = saved();
    for (key, value) in changes.as_object().unwrap() {
        settings[key] = value.clone();
    }
    settings.to_string()
}

fn read(changes: &Value) -> Result<ImageProcessor, String> {
    ImageProcessor::from_json(&with(changes), Path::new("m/preprocessor_config.json")).map_err(|e| e.to_string())
}

#[test]
fn keys_that_mean_the_same_are_accepted() {
    let expected = read(&json!({})).unwrap();
    for changes in [
        json!({"resample": "bicubic"}),
        json!({"resample": "BICUBIC"}),
        json!({"resample": "PILImageResampling.BICUBIC"}),
        json!({"resample": "Resampling.BICUBIC"}),
        json!({"resample": "PIL.Image.BICUBIC"}),
        json!({"resample": "PIL.Image.Resampling.BICUBIC"}),
        json!({"resample": "InterpolationMode.BICUBIC"}),
        json!({"resample": 3.0}),
        json!({"resample": null}),
        json!({"do_resize": null, "do_rescale": null, "do_normalize": null, "do_convert_rgb": null}),
        json!({"do_center_crop": false, "crop_size": {"height": 224, "width": 224}}),
        json!({"do_center_crop": null, "crop_size": null, "do_pad": null, "pad_size": null}),
        json!({"do_pad": false, "default_to_square": false, "device": null, "disable_grouping": null}),
        json!({"data_format": "channels_first", "input_data_format": null, "return_tensors": null}),
        json!({"image_processor_type": "Qwen2VLImageProcessorFast"}),
        json!({"image_processor_type": "Qwen2VLImageProcessorPil"}),
        json!({"image_processor_type": "Qwen2_5_VLImageProcessor"}),
        json!({"image_processor_type": null, "feature_extractor_type": null}),
        json!({"rescale_factor": null, "image_mean": null, "image_std": null}),
        json!({"min_pixels": null, "max_pixels": null}),
        json!({"min_pixels": 3136, "max_pixels": 12845056, "size": null}),
        json!({"min_pixels": 3136, "max_pixels": 12845056, "size": {"min_pixels": 1, "max_pixels": 2}}),
        json!({"min_pixels": 3136, "size": {"longest_edge": 12845056}}),
        json!({"size": {"min_pixels": 3136, "max_pixels": 12845056}}),
        json!({"size": {"longest_edge": 12845056, "shortest_edge": 3136, "height": null, "width": null}}),
    ] {
        assert_eq!(read(&changes), Ok(expected.clone()), "{changes}");
    }
    let number = read(&json!({"image_mean": 0.5, "image_std": 0.25})).unwrap();
    assert_eq!(read(&json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]})), Ok(number.clone()));
    assert_ne!(number, expected);
}

#[test]
fn keys_that_ask_for_other_pixels_are_refused_by_name() {
    for (changes, key) in [
        (json!({"size": {"height": 112, "width": 112}}), "size.height"),
        (json!({"size": {"max_height": 112, "max_width": 112}}), "size.max_height"),
        (json!({"size": {"longest_edge": 12845056, "shortest_edge": 3136, "width": 112}}), "size.width"),
        (json!({"size": {"shortest_edge": 3136}}), "size"),
        (json!({"size": {"longest_edge": 12845056}}), "size"),
        (json!({"size": {}}), "size"),
        (json!({"size": 224}), "size"),
        (json!({"size": [224, 224]}), "size"),
        (json!({"size": {"shortest_edge": 0, "longest_edge": 9}}), "size.shortest_edge"),
        (json!({"resample": 2}), "resample"),
        (json!({"resample": "bilinear"}), "resample"),
        (json!({"resample": "PILImageResampling.LANCZOS"}), "resample"),
        (json!({"resample": "Filter.BICUBIC"}), "resample"),
        (json!({"resample": [3]}), "resample"),
        (json!({"do_center_crop": true, "crop_size": {"height": 224, "width": 224}}), "do_center_crop"),
        (json!({"do_pad": true}), "do_pad"),
        (json!({"do_convert_rgb": false}), "do_convert_rgb"),
        (json!({"do_resize": false}), "do_resize"),
        (json!({"do_rescale": false}), "do_rescale"),
        (json!({"do_normalize": false}), "do_normalize"),
        (json!({"do_normalize": "true"}), "do_normalize"),
        (json!({"image_mean": [0.5]}), "image_mean"),
        (json!({"image_mean": "0.5"}), "image_mean"),
        (json!({"image_std": 0}), "image_std"),
        (json!({"rescale_factor": 0}), "rescale_factor"),
        (json!({"rescale_factor": -1}), "rescale_factor"),
        (json!({"image_processor_type": "CLIPImageProcessor"}), "image_processor_type"),
        (json!({"image_processor_type": "SiglipImageProcessorFast"}), "image_processor_type"),
        (json!({"image_processor_type": 3}), "image_processor_type"),
    ] {
        let message = read(&changes).unwrap_err();
        assert!(message.starts_with(&format!("m/preprocessor_config.json: key `{key}`: ")), "{changes}: {message}");
    }
}

#[test]
fn keys_within_a_section_and_files_with_a_mark_are_read_alike() {
    let place = Workspace::in_memory();
    let write = |name: &str, text: String| std::fs::write(place.path().join(name), text).unwrap();
    let processor = || ProcessorText::find(place.path()).and_then(|text| text.processor()).map_err(|e| e.to_string());
    let expected = read(&json!({})).unwrap();
    write("preprocessor_config.json", format!("\u{feff}{}", with(&json!({}))).replace(',', ",\r\n"));
    assert_eq!(processor(), Ok(expected.clone()));
    write("processor_config.json", format!("\u{feff}{}", json!({"image_processor": saved()})));
    assert_eq!(processor(), Ok(expected));
    let section: Value = serde_json::from_str(&with(&json!({"size": {"height": 1, "width": 1}}))).unwrap();
    write("processor_config.json", json!({"image_processor": section}).to_string());
    let message = processor().unwrap_err();
    assert!(message.contains("processor_config.json: key `image_processor.size.height`"), "{message}");
}

#[test]
fn a_command_refuses_keys_that_ask_for_other_pixels() {
    let place = Workspace::in_memory();
    let model = place.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/nano")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), model.join(entry.file_name())).unwrap();
    }
    let file = model.join("preprocessor_config.json");
    std::fs::write(&file, with(&json!({"size": {"height": 112, "width": 112}}))).unwrap();
    let output = place.command(&["model", "generate", "--model", "model", "--prompt", "x"]).output().unwrap();
    let stderr = stderr_of(&output);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("model/preprocessor_config.json: key `size.height`"), "{stderr}");
}
