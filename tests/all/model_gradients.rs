//! Gradients of the layers: the backward passes in f32 against f64 autograd, and f64 autograd
//! against finite differences.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor, Var};
use visplay::kernels::attention::Heads;
use visplay::random::Seed;
use visplay::vlm::config::Config;
use visplay::vlm::grid::Grid;
use visplay::vlm::named_tensors::{CheckpointTensors, NamedTensors, Purpose};
use visplay::vlm::ops::{Ops, Segments};
use visplay::vlm::text::{DecoderLayer, Head, TextTower};
use visplay::vlm::vision::{Merger, VisionBlock, VisionTower};
use visplay::vlm::weights::Weights;

use super::OPS;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/model/mimo-like")
}

/// The tensors of a checkpoint as variables of one dtype.
struct Variables {
    vars: HashMap<String, Var>,
}

impl Variables {
    fn load(dtype: DType) -> (Config, Self) {
        let config = Config::load(&folder()).unwrap();
        let weights = Weights::open(&folder(), &config).unwrap();
        let source = CheckpointTensors { weights: &weights, dtype: DType::F32, device: &Device::Cpu, ops: OPS };
        let vars = visplay::vlm::parameters::parameters(&config)
            .into_iter()
            .map(|p| {
                let tensor = source.tensor(&p.name).unwrap().to_dtype(dtype).unwrap();
                (p.name, Var::from_tensor(&tensor).unwrap())
            })
            .collect();
        (config, Self { vars })
    }
}

impl NamedTensors for Variables {
    fn tensor(&self, name: &str) -> candle_core::Result<Tensor> {
        Ok(self.vars[name].as_tensor().clone())
    }

    fn ops(&self) -> Ops {
        OPS
    }
}

/// Returns numbers around zero, the same for each dtype.
fn numbers(label: &str, shape: (usize, usize), dtype: DType) -> Tensor {
    let stream = Seed(5).stream("gradients", label, 0);
    let values: Vec<f64> = (0..shape.0 * shape.1).map(|i| f64::from(stream.normal(i as u64) as f32)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Computes a part of the model from its variables and its input.
type Part = fn(&Config, &Variables, &Tensor) -> Tensor;

fn decoder_layer(config: &Config, vars: &Variables, x: &Tensor) -> Tensor {
    let tower = TextTower::new(&config.text, false, vars, Purpose::Training).unwrap();
    let positions: Vec<[u32; 3]> = (0..x.dim(0).unwrap() as u32).map(|i| [i, i / 2, i % 3]).collect();
    let context = tower.context(&positions, vec![5, 1, 0, x.dim(0).unwrap() - 6]).unwrap();
    DecoderLayer::new(&config.text, 1, vars, Purpose::Training).unwrap().forward(x, &context).unwrap()
}

fn head(config: &Config, vars: &Variables, x: &Tensor) -> Tensor {
    let head = Head::new(&config.text, None, vars, Purpose::Training).unwrap();
    candle_nn::ops::log_softmax(&head.forward(x).unwrap(), 1).unwrap()
}

fn windowed_block(config: &Config, vars: &Variables, x: &Tensor) -> Tensor {
    vision_block(config, vars, x, 0)
}

fn full_block(config: &Config, vars: &Variables, x: &Tensor) -> Tensor {
    vision_block(config, vars, x, 2)
}

fn vision_block(config: &Config, vars: &Variables, x: &Tensor, index: usize) -> Tensor {
    let tower = VisionTower::new(&config.vision, vars, Purpose::Training).unwrap();
    let context = tower.context(&[Grid::image(2, 10), Grid::image(4, 2)]).unwrap();
    VisionBlock::new(&config.vision, index, vars, Purpose::Training).unwrap().forward(x, &context).unwrap()
}

fn merger(config: &Config, vars: &Variables, x: &Tensor) -> Tensor {
    let tower = VisionTower::new(&config.vision, vars, Purpose::Training).unwrap();
    let context = tower.context(&[Grid::image(2, 10), Grid::image(4, 2)]).unwrap();
    Merger::new(&config.vision, vars, Purpose::Training).unwrap().forward(x, &context).unwrap()
}

const PARTS: [(&str, Part, bool, &str); 5] = [
    ("decoder layer", decoder_layer, true, "model.layers.1."),
    ("head", head, true, "model.norm.weight lm_head.weight"),
    ("windowed block", windowed_block, false, "visual.blocks.0."),
    ("full block", full_block, false, "visual.blocks.2."),
    ("merger", merger, false, "visual.merger."),
];

fn belongs(name: &str, prefixes: &str) -> bool {
    prefixes.split(' ').any(|prefix| name.starts_with(prefix))
}

/// Returns a scalar that depends on every output, and the gradients of the input and the variables.
fn gradients(part: Part, text: bool, dtype: DType) -> (Variables, Var, f64, candle_core::backprop::GradStore) {
    let (config, vars) = Variables::load(dtype);
    let width = if text { config.text.hidden_size } else { config.vision.hidden_size };
    let x = Var::from_tensor(&numbers("input", (28, width), dtype)).unwrap();
    let out = part(&config, &vars, x.as_tensor());
    let loss = (&out * numbers("weights", out.dims2().unwrap(), dtype)).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    let value = loss.to_dtype(DType::F64).unwrap().to_scalar().unwrap();
    (vars, x, value, gradients)
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn compare(label: &str, ours: &Tensor, truth: &Tensor) {
    let (ours, truth) = (flat(ours), flat(truth));
    let size = truth.iter().map(|v| v * v).sum::<f64>().sqrt();
    let error = ours.iter().zip(&truth).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    assert!(size > 0.0, "{label}: the gradient is zero");
    assert!(error <= 2e-5 * size, "{label}: off by {} of its size", error / size);
}

#[test]
fn gradients_in_f32_equal_those_of_f64_autograd() {
    for (name, part, text, prefixes) in PARTS {
        let (vars, x, _, ours) = gradients(part, text, DType::F32);
        let (exact_vars, exact_x, _, exact) = gradients(part, text, DType::F64);
        compare(&format!("{name}: input"), ours.get(&x).unwrap(), exact.get(&exact_x).unwrap());
        let mut compared = 0;
        for (tensor, var) in vars.vars.iter().filter(|(tensor, _)| belongs(tensor, prefixes)) {
            let gradient = ours.get(var).unwrap_or_else(|| panic!("{name}: {tensor} has no gradient"));
            compare(&format!("{name}: {tensor}"), gradient, exact.get(&exact_vars.vars[tensor]).unwrap());
            compared += 1;
        }
        assert!(compared >= 2, "{name}: only {compared} tensors");
    }
}

#[test]
fn gradients_of_f64_autograd_equal_finite_differences() {
    const STEP: f64 = 1e-5;
    for (name, part, text, prefixes) in PARTS {
        let (vars, x, _, exact) = gradients(part, text, DType::F64);
        let (config, mut moved) = Variables::load(DType::F64);
        let loss = |vars: &Variables| {
            let out = part(&config, vars, x.as_tensor());
            let loss = (&out * numbers("weights", out.dims2().unwrap(), DType::F64)).unwrap().sum_all().unwrap();
            loss.to_scalar::<f64>().unwrap()
        };
        for (tensor, var) in vars.vars.iter().filter(|(tensor, _)| belongs(tensor, prefixes)) {
            let gradient = flat(exact.get(var).unwrap());
            let values = flat(var.as_tensor());
            for at in [0, values.len() / 2, values.len() - 1] {
                let mut at_step = |step: f64| {
                    let mut values = values.clone();
                    values[at] += step;
                    let replaced = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
                    moved.vars.insert(tensor.clone(), Var::from_tensor(&replaced).unwrap());
                    loss(&moved)
                };
                let slope = (at_step(STEP) - at_step(-STEP)) / (2.0 * STEP);
                at_step(0.0);
                let tolerance = 1e-6 * (1.0 + slope.abs());
                assert!(
                    (slope - gradient[at]).abs() <= tolerance,
                    "{name}: {tensor}[{at}]: {} and {slope}",
                    gradient[at]
                );
            }
        }
    }
}

#[test]
fn attention_in_f32_equals_f64_for_many_shapes() {
    for (case, (heads, lengths, causal)) in [
        (Heads { query: 1, key_value: 1, dim: 4 }, vec![1], true),
        (Heads { query: 4, key_value: 2, dim: 10 }, vec![31, 32, 33, 1, 64], true),
        (Heads { query: 7, key_value: 1, dim: 32 }, vec![70], true),
        (Heads { query: 6, key_value: 6, dim: 80 }, vec![64, 16, 100], false),
        (Heads { query: 3, key_value: 3, dim: 36 }, vec![5, 0, 129], false),
    ]
    .into_iter()
    .enumerate()
    {
        let segments = if causal { Segments::causal(lengths) } else { Segments::full(lengths) };
        let segments = std::sync::Arc::new(segments);
        let run = |dtype| {
            let tokens = segments.tokens();
            let q = numbers(&format!("q{case}"), (tokens, heads.query * heads.dim), dtype);
            let k = numbers(&format!("k{case}"), (tokens, heads.key_value * heads.dim), dtype);
            let v = numbers(&format!("v{case}"), (tokens, heads.key_value * heads.dim), dtype);
            flat(&OPS.attention(&q, &k, &v, heads, &segments).unwrap())
        };
        for (i, (a, b)) in run(DType::F32).iter().zip(run(DType::F64)).enumerate() {
            assert!((a - b).abs() < 3e-6, "case {case}, element {i}: {a} and {b}");
        }
    }
}
