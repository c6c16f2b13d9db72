//! The optimizer, compared with `torch.optim.AdamW`, frozen by `tests/oracles/adamw.py`.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use serde::Deserialize;
use visplay::random::Seed;
use visplay::training::gradients::Gradients;
use visplay::training::supervised::cross_entropy;
use visplay::training::{AdamW, AdamWSettings, MomentType, Schedule, ScheduleKind, TrainScope};

use super::OPS;
use super::training_gradients::{Example, compute_settings, frozen, oracle, prefix_groups, trainable};

#[derive(Deserialize)]
pub(crate) struct Settings {
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    max_norm: f64,
    warm_up: u64,
    total: u64,
}

impl Settings {
    pub(crate) fn optimizer(&self) -> AdamWSettings {
        let Self { betas: [beta1, beta2], eps, weight_decay, max_norm, .. } = *self;
        AdamWSettings { beta1, beta2, eps, weight_decay, max_grad_norm: max_norm, moments: MomentType::F32 }
    }

    pub(crate) fn schedule(&self) -> Schedule {
        let Self { lr, warm_up, total, .. } = *self;
        Schedule { kind: ScheduleKind::Cosine, peak: lr, warmup: warm_up, total, final_share: 0.0 }
    }
}

#[derive(Deserialize)]
pub(crate) struct Step {
    rate: f64,
    loss: Option<f64>,
    norm: Option<f64>,
    #[serde(default)]
    skipped: bool,
}

#[derive(Deserialize)]
struct Steps {
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Oracle {
    settings: Settings,
    examples: Vec<Example>,
    plain: Steps,
    checkpoints: BTreeMap<String, Steps>,
}

/// Checks that entries of a tensor equal the frozen ones within 1e-5; `indexes` are the frozen
/// entries' flat indexes.
pub(crate) fn check_entries(label: &str, actual: &Tensor, frozen: &Tensor, indexes: Option<&Tensor>) {
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (actual, expected) = (flat(actual), flat(frozen));
    let indexes = match indexes {
        Some(indexes) => indexes.to_vec1::<u32>().unwrap(),
        None => (0..actual.len() as u32).collect(),
    };
    assert_eq!(indexes.len(), expected.len(), "{label}");
    for (index, expected) in indexes.into_iter().zip(expected) {
        let actual = actual[index as usize];
        assert!((actual - expected).abs() <= 1e-5, "{label}[{index}]: {actual} here, {expected} in torch");
    }
}

/// Runs the steps on the examples and compares rate, loss and gradient norm of each; `after`
/// inspects the weights.
pub(crate) fn train(
    weights: &visplay::training::TrainableModel,
    examples: &[Example],
    settings: &Settings,
    steps: &[Step],
    mut after: impl FnMut(usize, &BTreeMap<String, Var>),
) {
    let prefix_groups = prefix_groups(examples);
    let mut optimizer = AdamW::new(settings.optimizer(), weights.variables()).unwrap();
    for (number, step) in steps.iter().enumerate() {
        let (loss, _, gradients) = cross_entropy(weights, &prefix_groups, compute_settings()[1]).unwrap();
        let rate = settings.schedule().rate(optimizer.updates());
        assert!((rate - step.rate).abs() <= 1e-12, "rate {rate}, {}", step.rate);
        let update = optimizer.update(weights.variables(), &gradients, rate).unwrap();
        let (expected, norm) = (step.loss.unwrap(), step.norm.unwrap());
        assert!((loss - expected).abs() <= 1e-4 * expected, "step {number}: loss {loss}, {expected}");
        assert!((update.grad_norm - norm).abs() <= 1e-3 * norm, "step {number}: {update:?}, {norm}");
        after(number, weights.variables());
    }
}

#[test]
fn five_steps_on_a_model_equal_those_of_torch() {
    let (oracle, frozen): (Oracle, _) = (oracle("adamw.json"), frozen("adamw.safetensors"));
    for (name, Steps { steps }) in &oracle.checkpoints {
        assert_eq!(steps.len(), 5);
        let weights = trainable(name, TrainScope::All);
        train(&weights, &oracle.examples, &oracle.settings, steps, |step, variables| {
            for (parameter, variable) in variables {
                let label = format!("{name}/{step}/{parameter}");
                let indexes = frozen.get(&format!("{name}/places/{parameter}"));
                check_entries(&label, variable, &frozen[&label], indexes);
            }
        });
    }
}

#[test]
fn steps_on_plain_tensors_equal_those_of_torch() {
    let (oracle, frozen): (Oracle, _) = (oracle("adamw.json"), frozen("adamw.safetensors"));
    let start = frozen.iter().filter_map(|(key, tensor)| Some((key.strip_prefix("plain/start/")?, tensor)));
    let variables: BTreeMap<String, Var> =
        start.map(|(name, tensor)| (name.to_owned(), Var::from_tensor(&tensor.copy().unwrap()).unwrap())).collect();
    assert_eq!(variables.len(), 4);
    let mut optimizer = AdamW::new(oracle.settings.optimizer(), &variables).unwrap();
    for (number, step) in oracle.plain.steps.iter().enumerate() {
        let mut gradients = Gradients::new(OPS);
        for name in variables.keys() {
            gradients.add(name, frozen[&format!("plain/gradient/{number}/{name}")].clone()).unwrap();
        }
        let update = optimizer.update(&variables, &gradients, step.rate).unwrap();
        assert_eq!(update.skipped, step.skipped, "step {number}");
        match step.norm {
            Some(norm) => assert!((update.grad_norm - norm).abs() <= 1e-6 * norm, "step {number}: {update:?}"),
            None => assert!(!update.grad_norm.is_finite()),
        }
        for (name, variable) in &variables {
            let label = format!("plain/{number}/{name}");
            check_entries(&label, variable, &frozen[&label], None);
        }
    }
    // The skipped step is not counted either.
    assert_eq!(optimizer.updates(), 5);
    let moved = frozen["plain/5/still"].sub(&frozen["plain/start/still"]).unwrap().abs().unwrap();
    let decay = moved.to_device(&Device::Cpu).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(decay > 0.0, "a tensor whose gradient is zero decays");
}

#[test]
fn a_tensor_without_a_gradient_does_not_change() {
    let variable = |value: f32| Var::new(&[value], &Device::Cpu).unwrap();
    let variables = BTreeMap::from([("a".to_owned(), variable(1.0)), ("b".to_owned(), variable(2.0))]);
    let mut optimizer = AdamW::new(AdamWSettings::default(), &variables).unwrap();
    let mut gradients = Gradients::new(OPS);
    gradients.add("a", Tensor::new(&[0.5f32], &Device::Cpu).unwrap()).unwrap();
    optimizer.update(&variables, &gradients, 0.1).unwrap();
    let value = |name: &str| variables[name].to_vec1::<f32>().unwrap()[0];
    assert_eq!(value("b"), 2.0);
    assert!(value("a") < 0.91);
}

/// Returns the gradient of an update: 0.01 with noise, for a tensor of 256 elements.
fn noisy_gradient(update: u64) -> Gradients {
    let stream = Seed(11).stream("gradients", "", update);
    let values: Vec<f32> = (0..256).map(|i| 0.01 * (1.0 + 0.5 * stream.normal(i)) as f32).collect();
    let mut gradients = Gradients::new(OPS);
    gradients.add("w", Tensor::new(values.as_slice(), &Device::Cpu).unwrap()).unwrap();
    gradients
}

fn ones() -> BTreeMap<String, Var> {
    BTreeMap::from([("w".to_owned(), Var::ones(256, DType::F32, &Device::Cpu).unwrap())])
}

fn in_bf16() -> AdamWSettings {
    AdamWSettings { moments: MomentType::Bf16, ..AdamWSettings::default() }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64
}

/// With rounding to nearest the second moment would stop at a fraction of its value, and steps
/// would be too large for ever.
#[test]
fn moments_in_bf16_follow_those_in_f32() {
    let (in_f32_weights, in_bf16_weights) = (ones(), ones());
    let mut in_f32 = AdamW::new(AdamWSettings::default(), &in_f32_weights).unwrap();
    let mut optimizer = AdamW::new(in_bf16(), &in_bf16_weights).unwrap();
    for update in 0..2000 {
        let gradients = noisy_gradient(update);
        in_f32.update(&in_f32_weights, &gradients, 1e-4).unwrap();
        optimizer.update(&in_bf16_weights, &gradients, 1e-4).unwrap();
    }
    let (exact_moments, moments) = (&in_f32.moments()["w"], &optimizer.moments()["w"]);
    assert_eq!((moments.first.dtype(), moments.second.dtype()), (DType::BF16, DType::BF16));
    let second = mean(&floats(&moments.second)) / mean(&floats(&exact_moments.second));
    assert!((second - 1.0).abs() < 0.01, "the second moments are {second} of those in f32");
    let moved = |w: &BTreeMap<String, Var>| floats(&w["w"]).iter().map(|w| 1.0 - w).collect::<Vec<_>>();
    let (moved_f32, moved_bf16) = (moved(&in_f32_weights), moved(&in_bf16_weights));
    assert!(
        (mean(&moved_bf16) / mean(&moved_f32) - 1.0).abs() < 0.002,
        "{} and {}",
        mean(&moved_bf16),
        mean(&moved_f32)
    );
    for (a, b) in moved_bf16.iter().zip(&moved_f32) {
        assert!((a / b - 1.0).abs() < 0.08, "a weight moved by {a}, in f32 by {b}");
    }
}

#[test]
fn training_with_bf16_moments_resumes_bit_for_bit() {
    let (straight, stopped) = (ones(), ones());
    let mut optimizer = AdamW::new(in_bf16(), &straight).unwrap();
    let mut first_half = AdamW::new(in_bf16(), &stopped).unwrap();
    for update in 0..20 {
        optimizer.update(&straight, &noisy_gradient(update), 1e-3).unwrap();
        if update < 10 {
            first_half.update(&stopped, &noisy_gradient(update), 1e-3).unwrap();
        }
    }
    let mut rest = AdamW::resumed(in_bf16(), first_half.moments().clone(), first_half.updates());
    for update in 10..20 {
        rest.update(&stopped, &noisy_gradient(update), 1e-3).unwrap();
    }
    assert_eq!(floats(&straight["w"]), floats(&stopped["w"]));
    for (a, b) in [(&optimizer, &rest)].map(|(a, b)| (&a.moments()["w"], &b.moments()["w"])) {
        assert_eq!((floats(&a.first), floats(&a.second)), (floats(&b.first), floats(&b.second)));
    }
}
