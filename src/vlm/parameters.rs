//! The tensors of the architecture: their names, shapes, and parts of the model.
//!
//! The names are those of the published files (`visual.*`, `model.layers.*`, `lm_head.weight`).
//! transformers also writes `model.visual.*` and `model.language_model.*`; [`canonical_name`] maps
//! those to the published names.

use super::config::{Config, TextConfig, VisionConfig};

/// Name of the embedding matrix, which is also the output projection where embeddings are tied.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the output projection of a model whose embeddings are not tied.
pub const HEAD: &str = "lm_head.weight";

/// A part of the model that tensors belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModelPart {
    /// The linear map from pixels to the vision tower (`visual.patch_embed`).
    PatchEmbedding,
    /// A block of the vision tower (`visual.blocks.{i}`).
    VisionBlock(usize),
    /// The map from the vision tower to the text tower (`visual.merger`).
    Merger,
    /// The embedding matrix (`model.embed_tokens`).
    Embedding,
    /// A block of the text tower (`model.layers.{i}`).
    TextLayer(usize),
    /// The norm before the output projection (`model.norm`).
    FinalNorm,
    /// The output projection, where it is not the embedding matrix (`lm_head`).
    Head,
}

/// A tensor of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Name, as in the published files.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// The part of the model that it belongs to.
    pub part: ModelPart,
}

impl Parameter {
    /// Returns the number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&side| side as u64).product()
    }
}

/// Returns every tensor of the model, in the order in which a forward pass needs them.
pub fn parameters(config: &Config) -> Vec<Parameter> {
    let mut list = ParameterList::default();
    list.vision(&config.vision);
    list.text(&config.text);
    if !config.tie_word_embeddings {
        list.add(ModelPart::Head, HEAD, &[config.text.vocab_size, config.text.hidden_size]);
    }
    list.0
}

/// Returns the published name of a tensor, given its name in a file.
pub fn canonical_name(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("model.visual.") {
        format!("visual.{rest}")
    } else if let Some(rest) = name.strip_prefix("model.language_model.") {
        format!("model.{rest}")
    } else {
        name.to_owned()
    }
}

/// Whether a tensor of this name is computed, not loaded: old exports have the rotary frequencies.
pub(crate) fn is_computed(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".rotary_pos_emb.inv_freq")
}

#[derive(Default)]
struct ParameterList(Vec<Parameter>);

impl ParameterList {
    fn add(&mut self, part: ModelPart, name: &str, shape: &[usize]) {
        self.0.push(Parameter { name: name.to_owned(), shape: shape.to_vec(), part });
    }

    /// Adds a linear map `[out, in]` and, where it has one, its bias `[out]`.
    fn linear(&mut self, part: ModelPart, name: &str, (out, input): (usize, usize), bias: bool) {
        self.add(part, &format!("{name}.weight"), &[out, input]);
        if bias {
            self.add(part, &format!("{name}.bias"), &[out]);
        }
    }

    fn vision(&mut self, c: &VisionConfig) {
        let (h, f) = (c.hidden_size, c.intermediate_size);
        let patch = [h, c.in_channels, c.temporal_patch_size, c.patch_size, c.patch_size];
        self.add(ModelPart::PatchEmbedding, "visual.patch_embed.proj.weight", &patch);
        for block in 0..c.depth {
            let part = ModelPart::VisionBlock(block);
            let name = |rest: &str| format!("visual.blocks.{block}.{rest}");
            self.add(part, &name("norm1.weight"), &[h]);
            self.linear(part, &name("attn.qkv"), (3 * h, h), true);
            self.linear(part, &name("attn.proj"), (h, h), true);
            self.add(part, &name("norm2.weight"), &[h]);
            self.linear(part, &name("mlp.gate_proj"), (f, h), true);
            self.linear(part, &name("mlp.up_proj"), (f, h), true);
            self.linear(part, &name("mlp.down_proj"), (h, f), true);
        }
        let merged = h * c.merge_unit();
        self.add(ModelPart::Merger, "visual.merger.ln_q.weight", &[h]);
        self.linear(ModelPart::Merger, "visual.merger.mlp.0", (merged, merged), true);
        self.linear(ModelPart::Merger, "visual.merger.mlp.2", (c.out_hidden_size, merged), true);
    }

    fn text(&mut self, c: &TextConfig) {
        let (h, f) = (c.hidden_size, c.intermediate_size);
        self.add(ModelPart::Embedding, EMBEDDING, &[c.vocab_size, h]);
        for layer in 0..c.num_hidden_layers {
            let part = ModelPart::TextLayer(layer);
            let name = |rest: &str| format!("model.layers.{layer}.{rest}");
            self.add(part, &name("input_layernorm.weight"), &[h]);
            self.linear(part, &name("self_attn.q_proj"), (h, h), true);
            self.linear(part, &name("self_attn.k_proj"), (c.kv_dim(), h), true);
            self.linear(part, &name("self_attn.v_proj"), (c.kv_dim(), h), true);
            self.linear(part, &name("self_attn.o_proj"), (h, h), false);
            self.add(part, &name("post_attention_layernorm.weight"), &[h]);
            self.linear(part, &name("mlp.gate_proj"), (f, h), false);
            self.linear(part, &name("mlp.up_proj"), (f, h), false);
            self.linear(part, &name("mlp.down_proj"), (h, f), false);
        }
        self.add(ModelPart::FinalNorm, "model.norm.weight", &[h]);
    }
}
