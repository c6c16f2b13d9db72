//! A reader of `config.json` that validates every key and collects all problems.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::{ARCHITECTURE, Config, MODEL_TYPE, TextConfig, VisionConfig, VisionTokens};
use crate::vlm::json_section::{Section, abbreviated};

/// Largest size in a configuration. The limit keeps products of two sizes far from overflow.
const MAX_SIZE: usize = 1 << 24;
/// Most layers of a tower.
const MAX_LAYERS: usize = 1 << 12;

/// Reads a configuration from the file's top-level object.
pub(super) fn read_config(top: &Section<'_>) -> Config {
    check_architecture(top);
    let nested = top.object("text_config");
    let text_section = nested.map_or(*top, |keys| top.inside("text_config", keys));
    let text = read_text(&text_section);
    let vision = match top.object("vision_config") {
        Some(keys) => read_vision(&top.inside("vision_config", keys)),
        None => {
            if top.get("vision_config").is_none() {
                top.report("vision_config", "is missing: this is not a vision-language checkpoint");
            }
            read_vision(&Section::new("vision_config", &Map::new(), &RefCell::default()))
        }
    };
    if top.problem_count() == 0 && vision.out_hidden_size != text.hidden_size {
        let (out, hidden) = (vision.out_hidden_size, text.hidden_size);
        let problem = format!("is {out}, but must be the text tower's hidden_size, {hidden}");
        top.report("vision_config.out_hidden_size", problem);
    }
    let mut notes = Vec::new();
    for &index in vision.fullatt_block_indexes.iter().filter(|&&index| index >= vision.depth) {
        notes.push(format!(
            "vision_config.fullatt_block_indexes names block {index}, but there are {} blocks: it has no effect.",
            vision.depth
        ));
    }
    let tokens = read_tokens(top, text.vocab_size, &mut notes);
    // Older nested files have the key in text_config only; transformers ties if either is true.
    let tied = |section: &Section<'_>| section.flag("tie_word_embeddings") == Some(true);
    let tied_inside = nested.is_some() && tied(&text_section);
    let tie_word_embeddings = tied(top) || tied_inside;
    let mut preserved_keys = Map::new();
    for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if let Some(value) = top.get(key).or_else(|| text_section.get(key)) {
            preserved_keys.insert(key.to_owned(), value.clone());
        }
    }
    Config { text, vision, tokens, tie_word_embeddings, preserved_keys, notes }
}

fn check_architecture(top: &Section<'_>) {
    match top.text("model_type") {
        Some(MODEL_TYPE) => {}
        Some(other) => top.report("model_type", format!("must be \"{MODEL_TYPE}\", is \"{other}\"")),
        None if top.get("model_type").is_none() => {
            top.report("model_type", format!("is missing: it must be \"{MODEL_TYPE}\""));
        }
        None => {}
    }
    if let Some(value) = top.get("architectures") {
        let named = value.as_array().is_some_and(|list| list.iter().any(|v| v.as_str() == Some(ARCHITECTURE)));
        if !named {
            top.report("architectures", format!("must name {ARCHITECTURE}, is {}", abbreviated(value)));
        }
    }
    if top.get("quantization_config").is_some() {
        top.report("quantization_config", "is not supported: use the checkpoint in bf16, f16 or f32");
    }
}

fn read_text(section: &Section<'_>) -> TextConfig {
    let before = section.problem_count();
    let hidden_size = section.size("hidden_size", MAX_SIZE);
    let heads = section.size("num_attention_heads", MAX_SIZE);
    let kv_heads = section.size_or("num_key_value_heads", MAX_SIZE, heads);
    let (rope_theta, mrope_section) = read_rope(section);
    let text = TextConfig {
        vocab_size: section.size("vocab_size", MAX_SIZE),
        hidden_size,
        intermediate_size: section.size("intermediate_size", MAX_SIZE),
        num_hidden_layers: section.size("num_hidden_layers", MAX_LAYERS),
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        rms_norm_eps: section.positive("rms_norm_eps", 1e-5),
        rope_theta,
        mrope_section,
        max_position_embeddings: section.size_or("max_position_embeddings", 1 << 40, 32_768),
        initializer_range: section.positive("initializer_range", 0.02),
    };
    check_activation(section);
    // A missing size would only cause more problems here.
    if section.problem_count() == before {
        check_text_shape(section, &text);
    }
    check_sliding(section, &text);
    text
}

fn check_text_shape(section: &Section<'_>, text: &TextConfig) {
    let (hidden, heads, kv) = (text.hidden_size, text.num_attention_heads, text.num_key_value_heads);
    if hidden % heads != 0 {
        let problem = format!("is {hidden}, which is not divisible by num_attention_heads = {heads}");
        return section.report("hidden_size", problem);
    }
    if heads % kv != 0 {
        let problem = format!("is {heads}, which is not divisible by num_key_value_heads = {kv}");
        section.report("num_attention_heads", problem);
    }
    let head_dim = text.head_dim();
    if let Some(given) = section.get("head_dim").filter(|value| value.as_u64() != Some(head_dim as u64)) {
        let problem = format!(
            "is {}, but this architecture's heads are hidden_size / num_attention_heads = {head_dim} wide",
            abbreviated(given)
        );
        section.report("head_dim", problem);
    }
    if !head_dim.is_multiple_of(2) {
        section.report("hidden_size", format!("gives heads of odd width {head_dim}: rotary positions need pairs"));
    }
    let sum: usize = text.mrope_section.iter().sum();
    if sum != head_dim / 2 {
        let problem = format!("sums to {sum}, but must sum to half of a head's width: {}", head_dim / 2);
        section.report("mrope_section", problem);
    }
}

/// Checks that no layer attends within a sliding window, which is not supported; no published
/// checkpoint does.
fn check_sliding(section: &Section<'_>, text: &TextConfig) {
    if let Some(types) = section.get("layer_types") {
        let all_full = types.as_array().is_some_and(|list| list.iter().all(|v| v.as_str() == Some("full_attention")));
        if !all_full {
            let problem =
                format!("must all be \"full_attention\", is {}: no other kind is supported", abbreviated(types));
            section.report("layer_types", problem);
        }
    } else if section.flag("use_sliding_window") == Some(true) {
        let first = section.get("max_window_layers").and_then(Value::as_u64).unwrap_or(80);
        if first < text.num_hidden_layers as u64 {
            let problem =
                format!("is true, with a window from layer {first} on: sliding-window attention is not supported");
            section.report("use_sliding_window", problem);
        }
    }
}

/// Reads the rotary base and sections; `rope_scaling` has precedence over `rope_parameters`, as in
/// transformers.
fn read_rope(section: &Section<'_>) -> (f64, [usize; 3]) {
    const DEFAULT_SECTION: [usize; 3] = [16, 24, 24];
    let outer_theta = section.positive("rope_theta", 1_000_000.0);
    let Some((key, _)) = section.first_of(&["rope_scaling", "rope_parameters"]) else {
        return (outer_theta, DEFAULT_SECTION);
    };
    let Some(keys) = section.object(key) else { return (outer_theta, DEFAULT_SECTION) };
    let path = section.name(key);
    let rope = section.inside(&path, keys);
    check_rope_type(&rope, &["default", "mrope"]);
    let theta = rope.positive("rope_theta", outer_theta);
    let Some(given) = rope.get("mrope_section") else { return (theta, DEFAULT_SECTION) };
    let numbers = rope.numbers("mrope_section", MAX_SIZE);
    match numbers.as_deref().map(<[usize; 3]>::try_from) {
        Some(Ok(three)) => (theta, three),
        Some(Err(_)) => {
            let problem = format!("must be three numbers, for time, height and width; is {}", abbreviated(given));
            rope.report("mrope_section", problem);
            (theta, DEFAULT_SECTION)
        }
        None => (theta, DEFAULT_SECTION),
    }
}

fn check_rope_type(rope: &Section<'_>, supported: &[&str]) {
    for kind in ["rope_type", "type"] {
        if let Some(given) = rope.text(kind).filter(|given| !supported.contains(given)) {
            rope.report(kind, format!("is \"{given}\": only {supported:?} are supported"));
        }
    }
}

/// Reads the base of the vision tower's rotary frequencies: 10000 by default (transformers 5.2x
/// writes it).
fn read_vision_theta(section: &Section<'_>) -> f64 {
    let outer_theta = section.positive("rope_theta", 10_000.0);
    let Some(keys) = section.object("rope_parameters") else { return outer_theta };
    let path = section.name("rope_parameters");
    let rope = section.inside(&path, keys);
    check_rope_type(&rope, &["axial", "default"]);
    rope.positive("rope_theta", outer_theta)
}

fn check_activation(section: &Section<'_>) {
    if let Some(other) = section.text("hidden_act").filter(|&act| act != "silu") {
        section.report("hidden_act", format!("is \"{other}\": only \"silu\" is supported"));
    }
}

fn read_vision(section: &Section<'_>) -> VisionConfig {
    let before = section.problem_count();
    // The published files have in_chans, those of transformers 5 have in_channels.
    let channels = section.first_of(&["in_channels", "in_chans"]).map_or("in_channels", |(key, _)| key);
    let vision = VisionConfig {
        depth: section.size("depth", MAX_LAYERS),
        hidden_size: section.size("hidden_size", MAX_SIZE),
        intermediate_size: section.size("intermediate_size", MAX_SIZE),
        num_heads: section.size("num_heads", MAX_SIZE),
        in_channels: section.size_or(channels, 1024, 3),
        out_hidden_size: section.size("out_hidden_size", MAX_SIZE),
        patch_size: section.size_or("patch_size", 1024, 14),
        spatial_merge_size: section.size_or("spatial_merge_size", 64, 2),
        temporal_patch_size: section.size_or("temporal_patch_size", 64, 2),
        rope_theta: read_vision_theta(section),
        window_size: section.size_or("window_size", MAX_SIZE, 112),
        fullatt_block_indexes: section
            .numbers("fullatt_block_indexes", MAX_SIZE)
            .unwrap_or_else(|| vec![7, 15, 23, 31]),
        tokens_per_second: section.size_or("tokens_per_second", MAX_SIZE, 4),
    };
    check_activation(section);
    if section.problem_count() == before {
        check_vision_shape(section, &vision);
    }
    vision
}

fn check_vision_shape(section: &Section<'_>, vision: &VisionConfig) {
    let (hidden, heads) = (vision.hidden_size, vision.num_heads);
    if hidden % heads != 0 {
        section.report("hidden_size", format!("is {hidden}, which is not divisible by num_heads = {heads}"));
    } else if !vision.head_dim().is_multiple_of(4) {
        let problem = format!(
            "gives heads {} wide: positions in two directions, each of pairs, need a multiple of 4",
            vision.head_dim()
        );
        section.report("hidden_size", problem);
    }
    if vision.window_tokens() == 0 {
        let token = vision.patch_size * vision.spatial_merge_size;
        let problem = format!("is {}, less than the {token} pixels of one image token", vision.window_size);
        section.report("window_size", problem);
    }
}

fn read_tokens(top: &Section<'_>, vocab: usize, notes: &mut Vec<String>) -> VisionTokens {
    let tokens = VisionTokens {
        image: top.token("image_token_id", 151_655),
        video: top.token("video_token_id", 151_656),
        vision_start: top.token("vision_start_token_id", 151_652),
        vision_end: top.token("vision_end_token_id", 151_653),
    };
    for (key, id) in [("image_token_id", tokens.image), ("vision_start_token_id", tokens.vision_start)] {
        if id as usize >= vocab {
            top.report(key, format!("is {id}, which is not within vocab_size = {vocab}"));
        }
    }
    // These two do not affect images, and a small model's file may have a large model's defaults.
    for (key, id) in [("video_token_id", tokens.video), ("vision_end_token_id", tokens.vision_end)] {
        if id as usize >= vocab {
            notes.push(format!("{key} is {id}, which is not within vocab_size = {vocab}; it is not used."));
        }
    }
    if tokens.image == tokens.vision_start {
        top.report("image_token_id", format!("is {}, the same as vision_start_token_id", tokens.image));
    }
    tokens
}
