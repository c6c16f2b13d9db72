//! A writer of `config.json` in the published flat layout, which transformers reads since 4.49.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{ARCHITECTURE, Config, MODEL_TYPE, VisionConfig};
use crate::vlm::safetensors_header::StoredType;

impl Config {
    /// Returns the text of a `config.json` in the flat layout, for weights that are mostly stored
    /// as `dtype`.
    pub fn to_flat_json(&self, dtype: StoredType) -> String {
        let flat = Flat { config: self, dtype };
        let mut json = serde_json::to_string_pretty(&flat).expect("plain numbers and texts always serialize");
        json.push('\n');
        json
    }
}

/// Writes keys and their values in this order.
macro_rules! write_keys {
    ($map:ident, $($key:literal: $value:expr,)*) => {
        $($map.serialize_entry($key, &$value)?;)*
    };
}

struct Flat<'a> {
    config: &'a Config,
    dtype: StoredType,
}

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Config { text, vision, tokens, .. } = self.config;
        let mut map = serializer.serialize_map(None)?;
        write_keys! { map,
            "architectures": [ARCHITECTURE],
            "model_type": MODEL_TYPE,
            "torch_dtype": self.dtype.torch_name(),
        }
        for (key, value) in &self.config.preserved_keys {
            map.serialize_entry(key, value)?;
        }
        write_keys! { map,
            "image_token_id": tokens.image,
            "video_token_id": tokens.video,
            "vision_start_token_id": tokens.vision_start,
            "vision_end_token_id": tokens.vision_end,
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "intermediate_size": text.intermediate_size,
            "num_hidden_layers": text.num_hidden_layers,
            "num_attention_heads": text.num_attention_heads,
            "num_key_value_heads": text.num_key_value_heads,
            "hidden_act": "silu",
            "max_position_embeddings": text.max_position_embeddings,
            "initializer_range": text.initializer_range,
            "rms_norm_eps": text.rms_norm_eps,
            "tie_word_embeddings": self.config.tie_word_embeddings,
            "rope_theta": text.rope_theta,
            "rope_scaling": Pairs(("type", "mrope"), ("mrope_section", text.mrope_section)),
            "attention_dropout": 0.0,
            "use_sliding_window": false,
            "use_cache": true,
            "vision_config": FlatVision(vision),
        }
        map.end()
    }
}

struct FlatVision<'a>(&'a VisionConfig);

impl Serialize for FlatVision<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let vision = self.0;
        let mut map = serializer.serialize_map(None)?;
        write_keys! { map,
            "model_type": MODEL_TYPE,
            "depth": vision.depth,
            "hidden_size": vision.hidden_size,
            "hidden_act": "silu",
            "intermediate_size": vision.intermediate_size,
            "num_heads": vision.num_heads,
            "in_channels": vision.in_channels,
            "in_chans": vision.in_channels,
            "out_hidden_size": vision.out_hidden_size,
            "patch_size": vision.patch_size,
            "spatial_merge_size": vision.spatial_merge_size,
            "spatial_patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "tokens_per_second": vision.tokens_per_second,
            "window_size": vision.window_size,
            "fullatt_block_indexes": vision.fullatt_block_indexes,
        }
        // The usual base is left out: older versions of transformers do not know the key.
        if vision.rope_theta != 10_000.0 {
            map.serialize_entry("rope_parameters", &Pairs(("rope_type", "axial"), ("rope_theta", vision.rope_theta)))?;
        }
        map.end()
    }
}

/// An object of two keys in this order.
struct Pairs<T>((&'static str, &'static str), (&'static str, T));

impl<T: Serialize> Serialize for Pairs<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.0.0, self.0.1)?;
        map.serialize_entry(self.1.0, &self.1.1)?;
        map.end()
    }
}
