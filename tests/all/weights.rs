//! Weights: reading, messages about unusable files, export, memory estimates, and the commands for
//! models.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use visplay::random::Seed;
use visplay::vlm::config::Config;
use visplay::vlm::conversion::numbers;
use visplay::vlm::export::{ExportOptions, export};
use visplay::vlm::mapped::MappedFile;
use visplay::vlm::memory;
use visplay::vlm::parameters::{EMBEDDING, HEAD, parameters};
use visplay::vlm::safetensors_header::{StoredType, read_header};
use visplay::vlm::tensor_source::RandomTensors;
use visplay::vlm::tokenizer::Tokenizer;
use visplay::vlm::weights::Weights;

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Returns the configuration of a model with a few thousand parameters.
pub(crate) fn tiny(tied: bool) -> Config {
    let text = json!({
        "model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"], "vocab_size": 40,
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "rms_norm_eps": 1e-6, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "image_token_id": 30, "vision_start_token_id": 31, "vision_end_token_id": 32, "video_token_id": 33,
        "eos_token_id": 34, "tie_word_embeddings": tied,
        "vision_config": {"depth": 2, "hidden_size": 8, "intermediate_size": 12, "num_heads": 2, "out_hidden_size": 16,
            "fullatt_block_indexes": [1]}
    });
    Config::parse(Path::new("config.json"), &text.to_string()).unwrap()
}

/// Writes a random checkpoint of a tiny model into a new folder.
pub(crate) fn checkpoint(config: &Config, dtype: StoredType, shard_bytes: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = RandomTensors { seed: Seed(1), dtype, deviation: 0.5 };
    let options = ExportOptions { dtype: None, shard_bytes };
    export(&folder.path().join("model"), config, &source, Some(&data("tokenizer")), options).unwrap();
    folder
}

/// Returns the bytes of a safetensors file with this header and data.
pub(crate) fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn open_error(folder: &Path, config: &Config) -> String {
    Weights::open(folder, config).unwrap_err().to_string()
}

/// Changes the header of a checkpoint's single weight file.
fn rewrite(folder: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    change(header.as_object_mut().unwrap());
    fs::write(path, file(&header.to_string(), &bytes[8 + length..])).unwrap();
}

#[test]
fn conversions_equal_torch() {
    let mapped = MappedFile::open(&data("weights/conversions.safetensors")).unwrap();
    let tensors = read_header(mapped.bytes()).unwrap();
    let types = [StoredType::F32, StoredType::F16, StoredType::BF16];
    let bits = |name: &str| {
        let tensor = tensors.iter().find(|t| t.name == name).unwrap();
        (&mapped.bytes()[tensor.bytes.clone()], tensor.dtype)
    };
    for from in types {
        for to in types {
            let (source, _) = bits(&format!("{} as {}", from.name(), from.name()));
            let (expected, stored) = bits(&format!("{} as {}", from.name(), to.name()));
            assert_eq!(stored, to);
            // Compared exactly as 32-bit numbers, since widening is exact. A NaN need not keep its
            // bits.
            let expected = numbers::<f32>(expected, to);
            let actual: Vec<f32> = match to {
                StoredType::F32 => numbers::<f32>(source, from),
                StoredType::F16 => numbers::<half::f16>(source, from).into_iter().map(f32::from).collect(),
                StoredType::BF16 => numbers::<half::bf16>(source, from).into_iter().map(f32::from).collect(),
            };
            assert_eq!(actual.len(), expected.len());
            for (i, (a, b)) in actual.iter().zip(&expected).enumerate() {
                let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                assert!(same, "{} to {}, number {i}: {a:e} here, {b:e} in torch", from.name(), to.name());
            }
        }
    }
}

#[test]
fn an_exported_checkpoint_is_read_back() {
    for (tied, dtype, shard_bytes) in
        [(true, StoredType::F32, u64::MAX), (false, StoredType::BF16, 4096), (false, StoredType::F16, 1)]
    {
        let config = tiny(tied);
        let folder = checkpoint(&config, dtype, shard_bytes);
        let model = folder.path().join("model");
        let mut read = Config::load(&model).unwrap();
        assert_eq!(read.preserved_keys.remove("eos_token_id"), Some(json!(34)));
        assert_eq!(Config { preserved_keys: read.preserved_keys.clone(), ..config.clone() }, read);
        let weights = Weights::open(&model, &config).unwrap();
        assert_eq!(weights.raw(HEAD).is_err(), tied);
        let all = parameters(&config);
        assert_eq!(weights.files().count(), if shard_bytes == 1 { all.len() } else { weights.files().count() });
        for parameter in &all {
            let tensor = weights.tensor(&parameter.name, DType::F32, &Device::Cpu).unwrap();
            assert_eq!(tensor.dims(), parameter.shape);
            let raw = weights.raw(&parameter.name).unwrap();
            assert_eq!(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), numbers::<f32>(raw.bytes, dtype));
        }
        assert_eq!(
            weights.stored_types().values().sum::<u64>(),
            memory::parameter_counts(&config).total * dtype.size() as u64
        );
    }
}

#[test]
fn equal_models_give_equal_bytes_and_a_copy_is_exact() {
    let config = tiny(false);
    let (a, b) = (checkpoint(&config, StoredType::BF16, 4096), checkpoint(&config, StoredType::BF16, 4096));
    let copy = a.path().join("copy");
    let weights = Weights::open(&a.path().join("model"), &config).unwrap();
    let options = ExportOptions { dtype: None, shard_bytes: 4096 };
    export(&copy, &Config::load(&a.path().join("model")).unwrap(), &weights, Some(&a.path().join("model")), options)
        .unwrap();
    let files = |folder: &Path| -> BTreeMap<_, _> {
        fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.file_name(), fs::read(e.path()).unwrap()))
            .collect()
    };
    let first = files(&a.path().join("model"));
    assert!(first.len() > 5 && first.keys().any(|name| name == "tokenizer.json"));
    assert_eq!(first, files(&b.path().join("model")));
    assert_eq!(first, files(&copy));
    // No temporary folder is left.
    assert_eq!(fs::read_dir(a.path()).unwrap().count(), 2);
}

#[test]
fn tensors_in_memory_are_exported() {
    let config = tiny(true);
    let folder = checkpoint(&config, StoredType::F32, u64::MAX);
    let weights = Weights::open(&folder.path().join("model"), &config).unwrap();
    let mut tensors: BTreeMap<String, Tensor> = parameters(&config)
        .iter()
        .map(|p| (p.name.clone(), weights.tensor(&p.name, DType::F32, &Device::Cpu).unwrap()))
        .collect();
    let out = folder.path().join("again");
    let options = ExportOptions::default();
    export(&out, &config, &tensors, None, options).unwrap();
    let name = "model.safetensors";
    assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(folder.path().join("model").join(name)).unwrap());

    let again = export(&out, &config, &tensors, None, options).unwrap_err().to_string();
    assert!(again.contains("already exists"), "{again}");
    tensors.insert("model.norm.weight".to_owned(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    let failed = folder.path().join("failed");
    let text = export(&failed, &config, &tensors, None, options).unwrap_err().to_string();
    assert!(text.contains("model.norm.weight") && text.contains("[3]"), "{text}");
    tensors.remove("model.norm.weight");
    let text = export(&failed, &config, &tensors, None, options).unwrap_err().to_string();
    assert_eq!(text, "tensor model.norm.weight is missing");
    // A failed export leaves no folder.
    assert!(!failed.exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn published_and_transformers_names_are_equivalent() {
    let config = tiny(false);
    let folder = checkpoint(&config, StoredType::F32, u64::MAX);
    let model = folder.path().join("model");
    let before = Weights::open(&model, &config).unwrap().tensor("model.norm.weight", DType::F32, &Device::Cpu).unwrap();
    rewrite(&model, |header| {
        let renamed = std::mem::take(header).into_iter().map(|(name, entry)| {
            let new = match name.as_str() {
                n if n.starts_with("visual.") => format!("model.{n}"),
                n if n.starts_with("model.") => n.replacen("model.", "model.language_model.", 1),
                n => n.to_owned(),
            };
            (new, entry)
        });
        header.extend(renamed);
    });
    let weights = Weights::open(&model, &config).unwrap();
    let after = weights.tensor("model.norm.weight", DType::F32, &Device::Cpu).unwrap();
    assert_eq!(before.to_vec1::<f32>().unwrap(), after.to_vec1::<f32>().unwrap());
    assert!(weights.raw("visual.blocks.1.attn.qkv.bias").is_ok());
}

#[test]
fn a_folder_of_layer_files_needs_no_index() {
    let config = tiny(false);
    let folder = checkpoint(&config, StoredType::F32, 4096);
    let model = folder.path().join("model");
    fs::remove_file(model.join("model.safetensors.index.json")).unwrap();
    assert!(Weights::open(&model, &config).unwrap().files().count() > 2);
}

#[test]
fn every_problem_of_a_checkpoint_is_listed_with_file_and_tensor() {
    let config = tiny(false);
    let folder = checkpoint(&config, StoredType::F32, u64::MAX);
    let model = folder.path().join("model");
    rewrite(&model, |header| {
        let gate = header.remove("model.layers.0.mlp.gate_proj.weight").unwrap();
        header.insert("model.layers.0.mlp.fate_proj.weight".to_owned(), gate);
        header["model.layers.1.self_attn.k_proj.weight"]["shape"] = json!([16, 8]);
        header.insert(
            "model.rotary_emb.inv_freq".to_owned(),
            json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
        );
    });
    let text = open_error(&model, &config);
    for part in [
        "model.safetensors: tensor \"model.layers.0.mlp.gate_proj.weight\" is missing",
        "tensor \"model.layers.0.mlp.fate_proj.weight\" is not part of the architecture",
        "tensor \"model.layers.1.self_attn.k_proj.weight\" has shape [16, 8], but config.json requires [8, 16]",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(text.lines().count(), 4, "a computed tensor of an old export is ignored: {text}");

    // The list of problems of a checkpoint of another size is capped.
    let other = tiny(true);
    let mut larger = other.clone();
    larger.text.num_hidden_layers = 40;
    let folder = checkpoint(&other, StoredType::F32, u64::MAX);
    let text = open_error(&folder.path().join("model"), &larger);
    assert!(text.contains(".. and ") && text.lines().count() == 22, "{text}");
}

#[test]
fn shards_and_index_must_agree() {
    let config = tiny(false);
    let index = "model.safetensors.index.json";
    let broken = |change: &dyn Fn(&Path, &mut Value)| {
        let folder = checkpoint(&config, StoredType::F32, 8192);
        let model = folder.path().join("model");
        let mut value: Value = serde_json::from_slice(&fs::read(model.join(index)).unwrap()).unwrap();
        change(&model, &mut value);
        if !value.is_null() {
            fs::write(model.join(index), value.to_string()).unwrap();
        }
        open_error(&model, &config)
    };
    let name = |value: &Value, tensor: &str| value["weight_map"][tensor].as_str().unwrap().to_owned();

    let text = broken(&|model, value| fs::remove_file(model.join(name(value, HEAD))).unwrap());
    assert!(text.contains("-of-") && text.contains("is missing") && text.contains(index), "{text}");

    let text = broken(&|_, value| value["weight_map"]["extra.weight"] = json!(name(value, HEAD)));
    assert!(text.contains("\"extra.weight\" is not in this file, though") && text.contains(index), "{text}");

    let text = broken(&|_, value| drop(value["weight_map"].as_object_mut().unwrap().remove(HEAD)));
    assert!(text.contains("\"lm_head.weight\" is here, but") && text.contains("does not name it"), "{text}");

    let text = broken(&|_, value| value["weight_map"][HEAD] = json!(name(value, EMBEDDING)));
    assert!(text.contains("\"lm_head.weight\" is here, but") && text.contains("says it is in"), "{text}");

    for path in ["../model.safetensors", "/etc/passwd", "", "a/b.safetensors", "model.bin"] {
        let text = broken(&|_, value| value["weight_map"][HEAD] = json!(path));
        assert!(text.contains("not the name of a safetensors file"), "{text}");
    }
    let text = broken(&|_, value| value["weight_map"] = json!([1]));
    assert!(text.contains(index) && text.contains("weight_map"), "{text}");
    let text = broken(&|model, value| {
        fs::write(model.join(index), "{\"weight_map\": ").unwrap();
        *value = Value::Null;
    });
    assert!(text.contains(index) && text.contains("line 1"), "{text}");

    // One tensor in two files, under both of its names.
    let text = broken(&|model, value| {
        fs::remove_file(model.join(index)).unwrap();
        let header = r#"{"model.language_model.norm.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        fs::write(model.join("z.safetensors"), file(header, &[0; 4])).unwrap();
        *value = Value::Null;
    });
    assert!(
        text.contains("\"model.language_model.norm.weight\" is in") && text.contains("\"model.norm.weight\""),
        "{text}"
    );
}

#[test]
fn a_tied_head_in_the_file_must_equal_the_embedding() {
    let (tied, untied) = (tiny(true), tiny(false));
    let folder = checkpoint(&untied, StoredType::F32, u64::MAX);
    let model = folder.path().join("model");
    let text = open_error(&model, &tied);
    assert!(text.contains("\"lm_head.weight\" differs from the embeddings"), "{text}");
    let weights = Weights::open(&model, &untied).unwrap();
    let mut tensors: BTreeMap<String, Tensor> = parameters(&untied)
        .iter()
        .map(|p| (p.name.clone(), weights.tensor(&p.name, DType::F32, &Device::Cpu).unwrap()))
        .collect();
    tensors.insert(HEAD.to_owned(), tensors[EMBEDDING].clone());
    let same = folder.path().join("same");
    export(&same, &untied, &tensors, None, ExportOptions::default()).unwrap();
    assert!(Weights::open(&same, &tied).unwrap().raw(HEAD).is_err());
}

#[test]
fn messages_about_folders_without_safetensors_name_folder_and_pickles() {
    let folder = tempfile::tempdir().unwrap();
    let text = open_error(folder.path(), &tiny(true));
    assert!(text.contains("contains no weights") && text.contains(&folder.path().display().to_string()), "{text}");
    fs::write(folder.path().join("pytorch_model.bin"), b"PK\x03\x04").unwrap();
    let text = open_error(folder.path(), &tiny(true));
    assert!(text.contains("pytorch_model.bin") && text.contains("pickle"), "{text}");
    fs::write(folder.path().join("model.safetensors"), b"PK\x03\x04aaaaaaaaaaaa").unwrap();
    let text = open_error(folder.path(), &tiny(true));
    assert!(text.contains("model.safetensors: is a zip archive"), "{text}");
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    fs::create_dir(folder.path().join("model.safetensors")).unwrap();
    let text = open_error(folder.path(), &tiny(true));
    assert!(text.contains("model.safetensors: cannot be read: it is not a file"), "{text}");
    let text = open_error(Path::new("/nowhere"), &tiny(true));
    assert!(text.contains("/nowhere"), "{text}");
}

#[test]
fn parameter_counts_equal_those_of_transformers() {
    let count = |name: &str| memory::parameter_counts(&Config::load_file(&data(name)).unwrap());
    // Counted by transformers 5.23, which built the models of these files on the meta device.
    assert_eq!(count("configs/qwen2.5-vl-3b.json").total, 3_754_622_976);
    assert_eq!(count("configs/qwen2.5-vl-7b.json").total, 8_292_166_656);
    let mimo = count("configs/mimo-vl-7b.json");
    assert_eq!(mimo.total, 8_306_217_216);
    let vision = mimo.patch_embedding + mimo.vision_blocks + mimo.merger;
    assert_eq!(mimo.total, vision + mimo.embedding + mimo.text_layers + mimo.final_norm + mimo.head);
}

#[test]
fn memory_estimates_follow_the_configuration() {
    let config = Config::load_file(&data("configs/qwen2.5-vl-3b.json")).unwrap();
    // 2 (keys, values) x 36 layers x 2 heads x 128 x 4 bytes.
    assert_eq!(memory::kv_bytes_per_token(&config, StoredType::F32), 73_728);
    let work = memory::Workload { prompt_tokens: 100, image_patches: 64, response_tokens: 28, samples_per_prompt: 1 };
    let one = memory::sampling(&config, work, 1, StoredType::F32);
    let ten = memory::sampling(&config, work, 10, StoredType::F32);
    assert_eq!(one.weights, 3_754_622_976 * 4);
    assert_eq!((one.kv_cache, ten.kv_cache), (128 * 73_728, 1280 * 73_728));
    let shared = memory::Workload { samples_per_prompt: 8, ..work };
    // Ten samples of two prompts.
    let tokens = 2 * 100 + 10 * 28;
    assert_eq!(memory::sampling(&config, shared, 10, StoredType::F32).kv_cache, tokens * 73_728);
    assert_eq!(one.loading, 2 * 2 * 11_008 * 2048 * 4);
    assert_eq!(one.total, one.program + one.weights + one.loading);
    let many = memory::sampling(&config, work, 100, StoredType::F32);
    assert_eq!(many.total, many.program + many.weights + many.kv_cache + many.activations);
    let state = |moments, reference| memory::TrainingMemoryOptions { moments, reference };
    let training = memory::training(&config, work, 4, StoredType::BF16, state(StoredType::F32, false));
    assert_eq!(training.weights, 3_754_622_976 * 2);
    // Two moments, the gradient and the weights, 4 bytes each.
    assert_eq!((training.optimizer, training.reference), (3_754_622_976 * 16, 0));
    let small = memory::training(&config, work, 4, StoredType::BF16, state(StoredType::BF16, true));
    assert_eq!((small.optimizer, small.reference), (3_754_622_976 * 12, 3_754_622_976 * 2));
    assert_eq!(small.total + 3_754_622_976 * 2, training.total);
    let on_cpu = memory::training(&config, work, 4, StoredType::F32, state(StoredType::F32, false));
    assert_eq!(on_cpu.optimizer, 3_754_622_976 * 12);
    assert_eq!(training.layer_inputs, (37 * 4 * 128 * 2048 + 4 * 64 * (1176 + 33 * 1280)) * 4);
}

fn visplay() -> Command {
    Command::new(env!("CARGO_BIN_EXE_visplay"))
}

#[test]
fn inspect_refuses_counts_that_are_too_large() {
    let most = u64::MAX.to_string();
    for count in ["--sequences", "--prompt-tokens", "--image-patches", "--response-tokens", "--samples-per-prompt"] {
        let output = visplay().args(["model", "inspect", "data/nano", count, &most]).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{count}: {message}");
        assert!(message.contains(count) && message.contains("1048576"), "{message}");
    }
}

#[test]
fn the_commands_inspect_and_export() {
    let folder = checkpoint(&tiny(true), StoredType::BF16, u64::MAX);
    let (model, out) = (folder.path().join("model"), folder.path().join("out"));
    let output = visplay().args(["model", "inspect", "--json"]).arg(&model).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["sizes"]["text_layers"], 2);
    assert_eq!(value["sizes"]["tied_embeddings"], true);
    let bytes = value["stored"]["BF16"].as_u64().unwrap();
    assert_eq!(value["parameters"]["total"].as_u64().unwrap() * 2, bytes);
    assert_eq!(value["memory"]["sampling"].as_array().unwrap().len(), 3);
    visplay().args(["model", "inspect"]).arg(&model).assert().success();

    visplay()
        .args(["model", "export", "--dtype", "f32", "--shard-size", "9000"])
        .args([&model, &out])
        .assert()
        .success();
    let config = Config::load(&out).unwrap();
    let exported = Weights::open(&out, &config).unwrap();
    let first = Weights::open(&model, &config).unwrap();
    assert!(exported.files().count() > 1);
    for p in parameters(&config) {
        let read = |w: &Weights| w.tensor(&p.name, DType::F32, &Device::Cpu).unwrap().flatten_all().unwrap();
        assert_eq!(read(&exported).to_vec1::<f32>().unwrap(), read(&first).to_vec1::<f32>().unwrap());
    }
    visplay().args(["model", "export"]).args([&model, &out]).assert().failure().code(1);
    let output = visplay().args(["model", "inspect", "/nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere is neither a folder nor a ref"));
}

#[test]
fn a_random_checkpoint_takes_its_special_tokens_from_the_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.json");
    let mut larger = tiny(true);
    larger.text.vocab_size = 600;
    fs::write(&config, larger.to_flat_json(StoredType::F32)).unwrap();
    let out = folder.path().join("random");
    let args = ["model", "random", "--seed", "5", "--dtype", "f32", "--config"];
    visplay().args(args).arg(&config).arg("--files-from").arg(data("tokenizer")).arg(&out).assert().success();
    let config = Config::load(&out).unwrap();
    Tokenizer::load(&out, &config).unwrap();
    let weights = Weights::open(&out, &config).unwrap();
    let embedding: Vec<f32> =
        weights.tensor(EMBEDDING, DType::F32, &Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let n = embedding.len() as f64;
    let square = embedding.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n;
    let mean = embedding.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    assert!((square.sqrt() / 0.02 - 1.0).abs() < 0.03 && mean.abs() < 0.001, "{mean} {square}");
    let norm: Vec<f32> = weights.tensor("model.norm.weight", DType::F32, &Device::Cpu).unwrap().to_vec1().unwrap();
    assert!(norm.iter().all(|&x| x == 1.0));
}
