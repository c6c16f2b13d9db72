//! `visplay model inspect`: a checkpoint's architecture, sizes and memory needs.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::args::{Dtype, StoreArgs};
use crate::cli::model_source::ModelSource;
use crate::cli::{Result, Ui, format};
use crate::store::VerifyDepth;
use crate::vlm::config::Config;
use crate::vlm::memory::{self, ParameterCounts, SamplingMemory, TrainingMemory, TrainingMemoryOptions, Workload};
use crate::vlm::safetensors_header::StoredType;
use crate::vlm::weights::Weights;

/// Show a checkpoint's architecture, sizes, parameters, dtypes and memory needs.
///
/// Reads only headers, so it is instant for any size, and checks that the weight files are complete
/// and match the configuration.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  visplay model inspect models/qwen2.5-vl-3b\n  \
                        visplay model inspect nano/round-0003/reasoner\n  \
                        visplay model inspect models/qwen2.5-vl-7b --dtype bf16 --sequences 64 --json")]
pub struct ModelInspectArgs {
    /// Folder of a checkpoint, or the ref of a model in the store.
    #[arg(value_name = "DIR|REF")]
    model: PathBuf,
    /// Dtype that the model computes in.
    #[arg(long, alias = "type", value_enum, value_name = "DTYPE", default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Numbers of concurrent sequences in the memory tables.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64], value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    sequences: Vec<u64>,
    /// Tokens per prompt, including those of its image.
    #[arg(long, default_value_t = 384, value_parser = clap::value_parser!(u64).range(..=MAX_COUNT))]
    prompt_tokens: u64,
    /// Patches per image: width/14 * height/14 after resizing, four per image token.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(..=MAX_COUNT))]
    image_patches: u64,
    /// Tokens per response.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(..=MAX_COUNT))]
    response_tokens: u64,
    /// Samples per prompt, which share the prompt's cache.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    samples_per_prompt: u64,
    /// Dtype of AdamW's moments in training.
    #[arg(long, value_enum, default_value_t = Moments::F32)]
    moments: Moments,
    /// Count a reference policy in training (beta above 0).
    #[arg(long)]
    reference: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// The dtype of AdamW's moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Moments {
    /// 8 bytes per parameter.
    F32,
    /// 4 bytes per parameter.
    Bf16,
}

/// Maximum of any count; the product of three and a model's bytes per token fits in 64 bits.
const MAX_COUNT: u64 = 1 << 20;

#[derive(Debug, Serialize)]
struct Inspection {
    model: String,
    architecture: &'static str,
    sizes: Sizes,
    parameters: ParameterCounts,
    files: Vec<FileSize>,
    stored: std::collections::BTreeMap<&'static str, u64>,
    memory: Memory,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Sizes {
    text_layers: usize,
    text_hidden: usize,
    text_ffn: usize,
    heads: usize,
    kv_heads: usize,
    vocabulary: usize,
    tied_embeddings: bool,
    rope_theta: f64,
    rms_norm_eps: f64,
    mrope_section: [usize; 3],
    vision_depth: usize,
    vision_hidden: usize,
    vision_ffn: usize,
    vision_heads: usize,
    patch: usize,
    window: usize,
    full_attention_blocks: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct FileSize {
    file: String,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Memory {
    r#type: &'static str,
    workload: Workload,
    kv_bytes_per_token: u64,
    sampling: Vec<SamplingMemory>,
    training: Vec<TrainingMemory>,
}

/// Runs `visplay model inspect`.
pub fn cmd_model_inspect(args: &ModelInspectArgs, ui: &Ui) -> Result<()> {
    let model = ModelSource::open(&args.model, &args.store)?;
    let config = model.config()?;
    let weights = model.weights(&config, VerifyDepth::Quick)?;
    let inspection = inspect(args, &config, &weights);
    if ui.json { ui.result_json(&inspection) } else { ui.result(table(&inspection)) }
}

fn inspect(args: &ModelInspectArgs, config: &Config, weights: &Weights) -> Inspection {
    let (text, vision) = (&config.text, &config.vision);
    let file_size = |file: &crate::vlm::mapped::MappedFile| FileSize {
        file: file.path().file_name().unwrap_or_default().display().to_string(),
        bytes: file.bytes().len() as u64,
    };
    Inspection {
        model: args.model.display().to_string(),
        architecture: crate::vlm::config::ARCHITECTURE,
        sizes: Sizes {
            text_layers: text.num_hidden_layers,
            text_hidden: text.hidden_size,
            text_ffn: text.intermediate_size,
            heads: text.num_attention_heads,
            kv_heads: text.num_key_value_heads,
            vocabulary: text.vocab_size,
            tied_embeddings: config.tie_word_embeddings,
            rope_theta: text.rope_theta,
            rms_norm_eps: text.rms_norm_eps,
            mrope_section: text.mrope_section,
            vision_depth: vision.depth,
            vision_hidden: vision.hidden_size,
            vision_ffn: vision.intermediate_size,
            vision_heads: vision.num_heads,
            patch: vision.patch_size,
            window: vision.window_size,
            full_attention_blocks: (0..vision.depth).filter(|&block| vision.is_full_attention(block)).collect(),
        },
        parameters: memory::parameter_counts(config),
        files: weights.files().map(file_size).collect(),
        stored: weights.stored_types().into_iter().map(|(dtype, bytes)| (dtype.name(), bytes)).collect(),
        memory: predict(args, config),
        notes: config.notes.clone(),
    }
}

fn predict(args: &ModelInspectArgs, config: &Config) -> Memory {
    let dtype = args.dtype.stored();
    let workload = Workload {
        prompt_tokens: args.prompt_tokens,
        image_patches: args.image_patches,
        response_tokens: args.response_tokens,
        samples_per_prompt: args.samples_per_prompt,
    };
    let moments = match args.moments {
        Moments::F32 => StoredType::F32,
        Moments::Bf16 => StoredType::BF16,
    };
    let state = TrainingMemoryOptions { moments, reference: args.reference };
    Memory {
        r#type: dtype.torch_name(),
        workload,
        kv_bytes_per_token: memory::kv_bytes_per_token(config, dtype),
        sampling: args.sequences.iter().map(|&n| memory::sampling(config, workload, n, dtype)).collect(),
        training: args.sequences.iter().map(|&n| memory::training(config, workload, n, dtype, state)).collect(),
    }
}

fn table(i: &Inspection) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    let (s, p) = (&i.sizes, &i.parameters);
    line(format!("{}: {}", i.model, i.architecture));
    line(format!(
        "text    {} layers, hidden {}, FFN {}, {} heads over {} kv heads, vocabulary {} ({})",
        s.text_layers,
        s.text_hidden,
        s.text_ffn,
        s.heads,
        s.kv_heads,
        s.vocabulary,
        if s.tied_embeddings { "tied" } else { "untied" }
    ));
    line(format!("        rope theta {}, mrope {:?}, rms eps {:e}", s.rope_theta, s.mrope_section, s.rms_norm_eps));
    line(format!(
        "vision  {} blocks, hidden {}, FFN {}, {} heads, patch {}, window {}, full attention in {:?}",
        s.vision_depth, s.vision_hidden, s.vision_ffn, s.vision_heads, s.patch, s.window, s.full_attention_blocks
    ));
    line(format!("\nparameters  {}", format::count(p.total)));
    for (part, count) in [
        ("patch embedding", p.patch_embedding),
        ("vision blocks", p.vision_blocks),
        ("merger", p.merger),
        ("embedding", p.embedding),
        ("text layers", p.text_layers),
        ("final norm", p.final_norm),
        ("head", p.head),
    ] {
        line(format!("  {part:<16} {:>16}", format::count(count)));
    }
    let stored: Vec<String> = i.stored.iter().map(|(dtype, bytes)| format!("{dtype} {}", size(*bytes))).collect();
    line(format!("\nstored      {}", stored.join(", ")));
    for file in &i.files {
        line(format!("  {:<40} {:>10}", file.file, size(file.bytes)));
    }
    memory_tables(&i.memory, &mut line);
    for note in &i.notes {
        line(format!("note: {note}"));
    }
    out.trim_end().to_owned()
}

fn memory_tables(memory: &Memory, line: &mut impl FnMut(String)) {
    let w = memory.workload;
    line(format!(
        "\nmemory in {}: prompts of {} tokens, images of {} patches, responses of {} tokens, {} samples per prompt; KV cache of {} per token",
        memory.r#type,
        w.prompt_tokens,
        w.image_patches,
        w.response_tokens,
        w.samples_per_prompt,
        size(memory.kv_bytes_per_token)
    ));
    line("  sampling   sequences    weights    loading      cache  activations      total".to_owned());
    for m in &memory.sampling {
        let [weights, loading, total] = [m.weights, m.loading, m.total].map(size);
        let [cache, activations] = [m.kv_cache, m.activations].map(size);
        let n = m.sequences;
        line(format!("             {n:>9} {weights:>10} {loading:>10} {cache:>10} {activations:>12} {total:>10}"));
    }
    line(
        "  training   sequences    weights  optimizer  reference layer inputs  one layer      freed      total"
            .to_owned(),
    );
    for m in &memory.training {
        let state = [m.weights, m.optimizer, m.reference].map(|bytes| format!("{:>10}", size(bytes))).join(" ");
        let rest = [m.one_layer, m.freed, m.total].map(|bytes| format!("{:>10}", size(bytes))).join(" ");
        line(format!("             {:>9} {state} {:>12} {rest}", m.sequences, size(m.layer_inputs)));
    }
}

/// Formats a number of bytes in decimal units, as checkpoint sizes are published.
fn size(bytes: u64) -> String {
    let x = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", x / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", x / 1e6),
        _ => format!("{:.2} GB", x / 1e9),
    }
}
