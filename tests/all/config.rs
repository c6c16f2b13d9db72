//! Model configurations: both layouts, the published sizes, and the messages about invalid ones.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use visplay::vlm::config::{Config, ConfigError};

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/configs").join(name)
}

fn sample_json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(sample(name)).unwrap()).unwrap()
}

fn parse(value: &Value) -> Result<Config, ConfigError> {
    Config::parse(Path::new("dir/config.json"), &value.to_string())
}

/// Returns the error message for the 3B's configuration after a change.
fn message(layout: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut value = sample_json(layout);
    change(&mut value);
    parse(&value).unwrap_err().to_string()
}

#[test]
fn published_sizes_are_read() {
    let small = Config::load_file(&sample("qwen2.5-vl-3b.json")).unwrap();
    let t = &small.text;
    assert_eq!((t.num_hidden_layers, t.hidden_size, t.intermediate_size), (36, 2048, 11008));
    assert_eq!((t.num_attention_heads, t.num_key_value_heads, t.head_dim()), (16, 2, 128));
    assert_eq!((t.vocab_size, small.tie_word_embeddings), (151_936, true));
    assert_eq!((t.rope_theta, t.rms_norm_eps, t.mrope_section), (1e6, 1e-6, [16, 24, 24]));
    let v = &small.vision;
    assert_eq!((v.depth, v.hidden_size, v.intermediate_size, v.out_hidden_size), (32, 1280, 3420, 2048));
    assert_eq!((v.patch_len(), v.window_tokens(), v.merge_unit(), v.head_dim()), (1176, 4, 4, 80));
    assert!(v.is_full_attention(31) && !v.is_full_attention(30));
    assert_eq!((small.tokens.image, small.tokens.vision_start, small.tokens.vision_end), (151_655, 151_652, 151_653));

    let large = Config::load_file(&sample("qwen2.5-vl-7b.json")).unwrap();
    let t = &large.text;
    assert_eq!((t.num_hidden_layers, t.hidden_size, t.intermediate_size), (28, 3584, 18944));
    assert_eq!((t.num_attention_heads, t.num_key_value_heads), (28, 4));
    assert_eq!((t.vocab_size, large.tie_word_embeddings, large.vision.out_hidden_size), (152_064, false, 3584));

    let mimo = Config::load_file(&sample("mimo-vl-7b.json")).unwrap();
    let t = &mimo.text;
    assert_eq!((t.num_hidden_layers, t.hidden_size, t.intermediate_size), (36, 4096, 11008));
    assert_eq!((t.num_attention_heads, t.num_key_value_heads), (32, 8));
    assert_eq!((t.rope_theta, t.rms_norm_eps, t.vocab_size), (640_000.0, 1e-5, 151_680));
    assert_eq!((mimo.vision.intermediate_size, mimo.vision.out_hidden_size), (3456, 4096));
}

#[test]
fn the_two_layouts_are_equivalent() {
    let flat = Config::load_file(&sample("qwen2.5-vl-3b.json")).unwrap();
    let nested = Config::load_file(&sample("qwen2.5-vl-3b.nested.json")).unwrap();
    assert_eq!(flat, nested);
}

#[test]
fn text_config_wins_over_the_top_level() {
    let mut value = sample_json("qwen2.5-vl-3b.nested.json");
    value["hidden_size"] = json!(64);
    value["rope_theta"] = json!(5.0);
    assert_eq!(parse(&value).unwrap().text.hidden_size, 2048);
    assert_eq!(parse(&value).unwrap().text.rope_theta, 1e6);
}

#[test]
fn embeddings_can_be_tied_in_either_section() {
    let mut value = sample_json("qwen2.5-vl-3b.nested.json");
    value["tie_word_embeddings"] = json!(false);
    assert!(parse(&value).unwrap().tie_word_embeddings);
    value["text_config"]["tie_word_embeddings"] = json!(false);
    assert!(!parse(&value).unwrap().tie_word_embeddings);
}

#[test]
fn vision_rotary_base_is_read() {
    let mut value = sample_json("qwen2.5-vl-3b.nested.json");
    assert_eq!(parse(&value).unwrap().vision.rope_theta, 10_000.0);
    value["vision_config"]["rope_parameters"] = json!({"rope_type": "axial", "rope_theta": 500.0});
    assert_eq!(parse(&value).unwrap().vision.rope_theta, 500.0);
}

#[test]
fn missing_keys_have_the_defaults_of_transformers() {
    let mut value = sample_json("qwen2.5-vl-3b.json");
    for key in ["rope_theta", "tie_word_embeddings", "image_token_id", "hidden_act"] {
        value.as_object_mut().unwrap().remove(key);
    }
    for key in ["window_size", "fullatt_block_indexes", "in_chans", "patch_size"] {
        value["vision_config"].as_object_mut().unwrap().remove(key);
    }
    let config = parse(&value).unwrap();
    assert_eq!((config.text.rope_theta, config.tie_word_embeddings, config.tokens.image), (1e6, false, 151_655));
    assert_eq!(config.vision.fullatt_block_indexes, [7, 15, 23, 31]);
    assert_eq!((config.vision.window_size, config.vision.patch_len()), (112, 1176));
}

#[test]
fn every_problem_is_reported_with_file_and_key() {
    const FLAT: &str = "qwen2.5-vl-3b.json";
    const NESTED: &str = "qwen2.5-vl-3b.nested.json";
    type Case = (&'static str, fn(&mut Value), &'static [&'static str]);
    let cases: &[Case] = &[
        (FLAT, |v| v["hidden_size"] = json!(2047), &["hidden_size is 2047", "num_attention_heads = 16"]),
        (FLAT, |v| v["hidden_size"] = Value::Null, &["hidden_size is missing"]),
        (FLAT, |v| v["hidden_size"] = json!("2048"), &["hidden_size must be a whole number", "\"2048\""]),
        (FLAT, |v| v["hidden_size"] = json!(1u64 << 40), &["hidden_size must be a whole number from 1 to 16777216"]),
        (FLAT, |v| v["num_hidden_layers"] = json!(-1), &["num_hidden_layers", "-1"]),
        (FLAT, |v| v["num_key_value_heads"] = json!(3), &["num_attention_heads is 16", "num_key_value_heads = 3"]),
        (FLAT, |v| v["head_dim"] = json!(64), &["head_dim is 64", "= 128 wide"]),
        (FLAT, |v| v["rms_norm_eps"] = json!(0.0), &["rms_norm_eps must be a number above 0"]),
        (FLAT, |v| v["hidden_act"] = json!("gelu"), &["hidden_act is \"gelu\"", "silu"]),
        (FLAT, |v| v["rope_scaling"] = json!({"type": "yarn", "mrope_section": [16, 24, 24]}), &["type is \"yarn\""]),
        (FLAT, |v| v["rope_scaling"]["mrope_section"] = json!([16, 24, 20]), &["mrope_section sums to 60", "64"]),
        (FLAT, |v| v["rope_scaling"]["mrope_section"] = json!([32, 32]), &["rope_scaling.mrope_section", "three"]),
        (FLAT, |v| v["rope_scaling"] = Value::Null, &[]),
        (
            NESTED,
            |v| v["text_config"]["rope_parameters"]["rope_type"] = json!("linear"),
            &["text_config.rope_parameters.rope_type is \"linear\""],
        ),
        (
            NESTED,
            |v| v["text_config"]["vocab_size"] = json!(151_655),
            &["image_token_id is 151655", "vocab_size = 151655"],
        ),
        (NESTED, |v| v["text_config"]["layer_types"][3] = json!("sliding_attention"), &["text_config.layer_types"]),
        (FLAT, |v| v["use_sliding_window"] = json!(true), &[]),
        (
            FLAT,
            |v| (v["use_sliding_window"], v["max_window_layers"]) = (json!(true), json!(9)),
            &["use_sliding_window"],
        ),
        (FLAT, |v| v["model_type"] = json!("qwen2_vl"), &["model_type must be \"qwen2_5_vl\", is \"qwen2_vl\""]),
        (FLAT, |v| v["architectures"] = json!(["LlamaForCausalLM"]), &["architectures", "LlamaForCausalLM"]),
        (FLAT, |v| v["quantization_config"] = json!({"bits": 4}), &["quantization_config is not supported"]),
        (FLAT, |v| v["vision_config"] = Value::Null, &["vision_config is missing"]),
        (FLAT, |v| v["vision_config"] = json!([1]), &["vision_config must be an object"]),
        (FLAT, |v| v["vision_config"]["hidden_size"] = json!(1288), &["vision_config.hidden_size is 1288"]),
        (FLAT, |v| v["vision_config"]["hidden_size"] = json!(1296), &["vision_config.hidden_size", "multiple of 4"]),
        (FLAT, |v| v["vision_config"]["out_hidden_size"] = json!(2560), &["vision_config.out_hidden_size is 2560"]),
        (FLAT, |v| v["vision_config"]["window_size"] = json!(27), &["vision_config.window_size is 27", "28"]),
        (FLAT, |v| v["vision_config"]["hidden_act"] = json!("quick_gelu"), &["vision_config.hidden_act"]),
        (FLAT, |v| v["vision_config"]["fullatt_block_indexes"] = json!([-1]), &["vision_config.fullatt_block_indexes"]),
        (
            NESTED,
            |v| v["vision_config"]["rope_parameters"] = json!({"rope_type": "linear"}),
            &["vision_config.rope_parameters.rope_type is \"linear\""],
        ),
        (FLAT, |v| v["vision_start_token_id"] = json!(151_655), &["image_token_id is 151655, the same"]),
        (FLAT, |v| v["image_token_id"] = json!(1.5), &["image_token_id must be a token id, is 1.5"]),
        (FLAT, |v| v["tie_word_embeddings"] = json!("yes"), &["tie_word_embeddings must be true or false"]),
    ];
    for (layout, change, parts) in cases {
        if parts.is_empty() {
            let mut value = sample_json(layout);
            change(&mut value);
            parse(&value).unwrap();
            continue;
        }
        let text = message(layout, change);
        for part in parts.iter().chain(&["dir/config.json"]) {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
        assert_eq!(text.lines().count(), 2, "one cause, one line: {text}");
    }
}

#[test]
fn all_problems_are_listed() {
    let text = Config::parse(Path::new("c.json"), r#"{"model_type": "qwen2_5_vl"}"#).unwrap_err().to_string();
    for key in ["hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size", "vision_config"] {
        assert!(text.contains(key), "{text}");
    }
}

#[test]
fn invalid_json_is_reported_with_file_line_and_column() {
    let text = Config::parse(Path::new("c.json"), "{\n \"a\": 1,\n}").unwrap_err().to_string();
    assert!(text.contains("c.json is not a JSON object") && text.contains("line 3"), "{text}");
    assert!(Config::parse(Path::new("c.json"), "[1]").unwrap_err().to_string().contains("it holds [1]"));
    let text = Config::load(Path::new("/nowhere/at/all")).unwrap_err().to_string();
    assert!(text.contains("/nowhere/at/all/config.json"), "{text}");
    // Deep nesting must not overflow the stack.
    assert!(Config::parse(Path::new("c.json"), &"[".repeat(100_000)).is_err());
}

#[test]
fn harmless_deviations_become_notes() {
    let mut value = sample_json("qwen2.5-vl-3b.json");
    value["vision_config"]["depth"] = json!(8);
    value["video_token_id"] = json!(999_999);
    let config = parse(&value).unwrap();
    assert_eq!(config.notes.len(), 4, "{:?}", config.notes);
    assert!(config.notes[0].contains("block 15"));
}
