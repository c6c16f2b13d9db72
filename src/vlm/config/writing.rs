//! A writer of `config.json` in the published flat layout, which transformers reads since 4.49.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{ARCHITECTURE, Config, MODEL_TYPE};
use crate::vlm::safetensors_header::StoredType;

#[derive(Serialize)]
struct Flat<'a> {
    architectures: [&'static str; 1],
    model_type: &'static str,
    torch_dtype: &'static str,
    #[serde(flatten)]
    preserved_keys: &'a Map<String, Value>,
    image_token_id: u32,
    video_token_id: u32,
    vision_start_token_id: u32,
    vision_end_token_id: u32,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    hidden_act: &'static str,
    max_position_embeddings: usize,
    initializer_range: f64,
    rms_norm_eps: f64,
    tie_word_embeddings: bool,
    rope_theta: f64,
    rope_scaling: RopeScaling,
    attention_dropout: f64,
    use_sliding_window: bool,
    use_cache: bool,
    vision_config: FlatVision<'a>,
}

#[derive(Serialize)]
struct RopeScaling {
    r#type: &'static str,
    mrope_section: [usize; 3],
}

#[derive(Serialize)]
struct FlatVision<'a> {
    model_type: &'static str,
    depth: usize,
    hidden_size: usize,
    hidden_act: &'static str,
    intermediate_size: usize,
    num_heads: usize,
    in_channels: usize,
    in_chans: usize,
    out_hidden_size: usize,
    patch_size: usize,
    spatial_merge_size: usize,
    spatial_patch_size: usize,
    temporal_patch_size: usize,
    tokens_per_second: usize,
    window_size: usize,
    fullatt_block_indexes: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    rope_parameters: Option<VisionRope>,
}

#[derive(Serialize)]
struct VisionRope {
    rope_type: &'static str,
    rope_theta: f64,
}

impl Config {
    /// Returns the text of a `config.json` in the flat layout, for weights that are mostly stored
    /// as `dtype`.
    pub fn to_flat_json(&self, dtype: StoredType) -> String {
        let (text, vision) = (&self.text, &self.vision);
        let flat = Flat {
            architectures: [ARCHITECTURE],
            model_type: MODEL_TYPE,
            torch_dtype: dtype.torch_name(),
            preserved_keys: &self.preserved_keys,
            image_token_id: self.tokens.image,
            video_token_id: self.tokens.video,
            vision_start_token_id: self.tokens.vision_start,
            vision_end_token_id: self.tokens.vision_end,
            vocab_size: text.vocab_size,
            hidden_size: text.hidden_size,
            intermediate_size: text.intermediate_size,
            num_hidden_layers: text.num_hidden_layers,
            num_attention_heads: text.num_attention_heads,
            num_key_value_heads: text.num_key_value_heads,
            hidden_act: "silu",
            max_position_embeddings: text.max_position_embeddings,
            initializer_range: text.initializer_range,
            rms_norm_eps: text.rms_norm_eps,
            tie_word_embeddings: self.tie_word_embeddings,
            rope_theta: text.rope_theta,
            rope_scaling: RopeScaling { r#type: "mrope", mrope_section: text.mrope_section },
            attention_dropout: 0.0,
            use_sliding_window: false,
            use_cache: true,
            vision_config: FlatVision {
                model_type: MODEL_TYPE,
                depth: vision.depth,
                hidden_size: vision.hidden_size,
                hidden_act: "silu",
                intermediate_size: vision.intermediate_size,
                num_heads: vision.num_heads,
                in_channels: vision.in_channels,
                in_chans: vision.in_channels,
                out_hidden_size: vision.out_hidden_size,
                patch_size: vision.patch_size,
                spatial_merge_size: vision.spatial_merge_size,
                spatial_patch_size: vision.patch_size,
                temporal_patch_size: vision.temporal_patch_size,
                tokens_per_second: vision.tokens_per_second,
                window_size: vision.window_size,
                fullatt_block_indexes: &vision.fullatt_block_indexes,
                // The usual base is left out: older versions of transformers do not know the key.
                rope_parameters: (vision.rope_theta != 10_000.0)
                    .then_some(VisionRope { rope_type: "axial", rope_theta: vision.rope_theta }),
            },
        };
        let mut json = serde_json::to_string_pretty(&flat).expect("plain numbers and texts always serialize");
        json.push('\n');
        json
    }
}
