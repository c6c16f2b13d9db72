//! The AdamW optimizer (Loshchilov & Hutter 2019, arXiv 1711.05101) as `torch.optim.AdamW` computes
//! it, with gradient clipping, and moments stored in f32 or, to save memory, in bf16.
//!
//! With the clipped gradient g, learning rate lr and update count t:
//!
//! ```text
//!     m = beta1 m + (1 - beta1) g
//!     v = beta2 v + (1 - beta2) g²
//!     w = (1 - lr weight_decay) w - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
//! ```

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor, Var, bail};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::floats::{floats, in_place};
use super::gradients::{Gradients, zeros};
use super::rounding::{PERIOD, RoundingNoise};

/// Elements per task of a thread. No result depends on it.
const TASK_ELEMENTS: usize = 1 << 16;
/// Elements updated at a time by the reference implementation, whose intermediate tensors take
/// about ten times as much in f32. A multiple of the noise's period, so that rounding does not
/// depend on it.
const SLICE: usize = 4 * PERIOD;

/// Settings of the optimizer. The learning rate is an argument of each update.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Gradient clipping: the largest global norm of the gradients.
    pub max_grad_norm: f64,
    /// Dtype in which the moments are stored.
    #[serde(default, skip_serializing_if = "MomentType::is_f32")]
    pub moments: MomentType,
}

/// Dtype in which the moments are stored; they are always computed in f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MomentType {
    /// f32: 8 bytes per parameter for both moments.
    #[default]
    F32,
    /// bf16 with stochastic rounding: 4 bytes per parameter for both moments.
    Bf16,
}

impl MomentType {
    /// Whether the moments are stored in f32, as they are computed.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            moments: MomentType::default(),
        }
    }
}

/// The two moments of a trained tensor, in f32 or bf16.
#[derive(Debug, Clone)]
pub struct Moments {
    /// First moment: running mean of the gradient.
    pub first: Tensor,
    /// Second moment: running mean of its square.
    pub second: Tensor,
}

/// The optimizer: settings and state.
#[derive(Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    moments: BTreeMap<String, Moments>,
    updates: u64,
    /// Noise of the stochastic rounding; created with the first rounding.
    noise: Option<RoundingNoise>,
}

/// The result of an update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateResult {
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Whether the update was skipped because the norm is not finite.
    pub skipped: bool,
}

impl AdamW {
    /// Returns an optimizer with zero moments for the trained tensors.
    pub fn new(settings: AdamWSettings, variables: &BTreeMap<String, Var>) -> Result<Self> {
        let zero = |tensor: &Tensor| zeros(tensor.shape(), settings.moments.dtype(), tensor.device());
        let moments = variables
            .iter()
            .map(|(name, variable)| Ok((name.clone(), Moments { first: zero(variable)?, second: zero(variable)? })));
        Ok(Self { settings, moments: moments.collect::<Result<_>>()?, updates: 0, noise: None })
    }

    /// Returns an optimizer with saved moments and update count.
    pub fn resumed(settings: AdamWSettings, moments: BTreeMap<String, Moments>, updates: u64) -> Self {
        Self { settings, moments, updates, noise: None }
    }

    /// Returns the moments by the names of their tensors.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// Returns the number of updates, without skipped ones.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Returns the settings.
    pub fn settings(&self) -> AdamWSettings {
        self.settings
    }

    /// Updates the variables in place with the learning rate `rate`, or skips the update if the
    /// gradient norm is not finite. A variable without a gradient does not change.
    pub fn update(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &Gradients,
        rate: f64,
    ) -> Result<UpdateResult> {
        let grad_norm = gradients.norm()?;
        if !grad_norm.is_finite() {
            return Ok(UpdateResult { grad_norm, skipped: true });
        }
        self.updates += 1;
        let AdamWSettings { beta1, beta2, eps, weight_decay, max_grad_norm, moments: moment_type } = self.settings;
        // torch.nn.utils.clip_grad_norm_ scales by max / (norm + 1e-6), and never up.
        let scale = (max_grad_norm / (grad_norm + 1e-6)).min(1.0) as f32;
        let time = i32::try_from(self.updates).unwrap_or(i32::MAX);
        let (correction1, correction2) = (1.0 - beta1.powi(time), 1.0 - beta2.powi(time));
        let step = WeightUpdate {
            keep: (1.0 - rate * weight_decay) as f32,
            size: (rate / correction1) as f32,
            root: (1.0 / correction2.sqrt()) as f32,
            eps: eps as f32,
        };
        for (name, variable) in variables {
            let (Some(gradient), Some(moments)) = (gradients.get(name), self.moments.get_mut(name)) else { continue };
            let average1 = MomentUpdate { decay: beta1 as f32, scale, squared: false };
            let average2 = MomentUpdate { decay: beta2 as f32, scale, squared: true };
            if moment_type.is_f32() && gradients.ops().uses_cpu_kernels_for(variable) {
                average1.by_kernel(&moments.first, gradient)?;
                average2.by_kernel(&moments.second, gradient)?;
                step.by_kernel(variable, &moments.first, &moments.second)?;
                continue;
            }
            // The update is in place; flattening a tensor that is not contiguous would copy it.
            if ![variable.as_tensor(), &moments.first, &moments.second].iter().all(|tensor| tensor.is_contiguous()) {
                bail!("adamw: {name} is not contiguous");
            }
            let weights = variable.as_tensor().flatten_all()?;
            let (firsts, seconds) = (moments.first.flatten_all()?, moments.second.flatten_all()?);
            let gradients = gradient.flatten_all()?;
            for from in (0..weights.elem_count()).step_by(SLICE) {
                let slice = |all: &Tensor| all.narrow(0, from, SLICE.min(all.elem_count() - from));
                let gradient = slice(&gradients)?;
                let mut first = average1.reference(&slice(&firsts)?.to_dtype(DType::F32)?, &gradient)?;
                let mut second = average2.reference(&slice(&seconds)?.to_dtype(DType::F32)?, &gradient)?;
                weights.slice_set(&step.reference(&slice(&weights)?, &first, &second)?, 0, from)?;
                if !moment_type.is_f32() {
                    let noise = match &mut self.noise {
                        Some(noise) => noise,
                        none => none.insert(RoundingNoise::new(variable.device())?),
                    };
                    first = noise.round(&first, &format!("first.{name}"), self.updates)?;
                    second = noise.round(&second, &format!("second.{name}"), self.updates)?;
                }
                firsts.slice_set(&first, 0, from)?;
                seconds.slice_set(&second, 0, from)?;
            }
        }
        Ok(UpdateResult { grad_norm, skipped: false })
    }
}

/// The update of a moment: `m = decay m + (1 - decay) scale g`, or with `(scale g)²` if `squared`.
struct MomentUpdate {
    decay: f32,
    scale: f32,
    squared: bool,
}

impl MomentUpdate {
    fn reference(&self, moment: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let gradient = (gradient * f64::from(self.scale))?;
        let gradient = if self.squared { gradient.sqr()? } else { gradient };
        (moment * f64::from(self.decay))? + (gradient * f64::from(1.0 - self.decay))?
    }

    /// Updates the moment in place on the CPU.
    fn by_kernel(&self, moment: &Tensor, gradient: &Tensor) -> Result<()> {
        let gradient = floats(gradient)?;
        let Self { decay, scale, squared } = *self;
        in_place(moment, |moment| {
            let tasks = moment.par_chunks_mut(TASK_ELEMENTS).zip(gradient.par_chunks(TASK_ELEMENTS));
            tasks.for_each(|(moment, gradient)| {
                for (m, g) in moment.iter_mut().zip(gradient) {
                    let g = g * scale;
                    let g = if squared { g * g } else { g };
                    *m = decay * *m + (1.0 - decay) * g;
                }
            });
        })
    }
}

/// The update of a weight: `w = keep w - size m / (sqrt(v) root + eps)`, with `keep = 1 - lr
/// weight_decay`, `size = lr / (1 - beta1^t)` and `root = 1 / sqrt(1 - beta2^t)`.
struct WeightUpdate {
    keep: f32,
    size: f32,
    root: f32,
    eps: f32,
}

impl WeightUpdate {
    fn reference(&self, weight: &Tensor, first: &Tensor, second: &Tensor) -> Result<Tensor> {
        let divisor = ((second.sqrt()? * f64::from(self.root))? + f64::from(self.eps))?;
        (weight * f64::from(self.keep))? - ((first / divisor)? * f64::from(self.size))?
    }

    /// Updates the weight in place on the CPU.
    fn by_kernel(&self, weight: &Tensor, first: &Tensor, second: &Tensor) -> Result<()> {
        let (first, second) = (floats(first)?, floats(second)?);
        let Self { keep, size, root, eps } = *self;
        in_place(weight, |weight| {
            let moments = first.par_chunks(TASK_ELEMENTS).zip(second.par_chunks(TASK_ELEMENTS));
            weight.par_chunks_mut(TASK_ELEMENTS).zip(moments).for_each(|(weight, (first, second))| {
                for ((w, m), v) in weight.iter_mut().zip(first).zip(second) {
                    *w = keep * *w - size * (m / (v.sqrt() * root + eps));
                }
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::random::Seed;

    #[test]
    fn an_update_in_slices_equals_the_update_of_the_whole_tensor() {
        let stream = Seed(3).stream("test", "", 0);
        let count = SLICE + PERIOD + 3;
        let random = |times: u64| {
            let value = |i: usize| (stream.uniform(times * count as u64 + i as u64) - 0.5) as f32;
            Tensor::from_vec((0..count).map(value).collect(), (1, count), &Device::Cpu).unwrap()
        };
        let (start, gradient) = (random(0), random(1));
        let settings = AdamWSettings { moments: MomentType::Bf16, ..AdamWSettings::default() };
        let variables = BTreeMap::from([("w".to_owned(), Var::from_tensor(&start).unwrap())]);
        let mut optimizer = AdamW::new(settings, &variables).unwrap();
        let mut gradients = Gradients::default();
        gradients.add("w", gradient.clone()).unwrap();
        optimizer.update(&variables, &gradients, 0.1).unwrap();

        let norm = gradients.norm().unwrap();
        let scale = (settings.max_grad_norm / (norm + 1e-6)) as f32;
        let noise = RoundingNoise::new(&Device::Cpu).unwrap();
        let average = |decay: f64, squared| {
            let zero = Tensor::zeros((1, count), DType::F32, &Device::Cpu).unwrap();
            MomentUpdate { decay: decay as f32, scale, squared }.reference(&zero, &gradient).unwrap()
        };
        let (first, second) = (average(settings.beta1, false), average(settings.beta2, true));
        let (correction1, correction2) = (1.0 - settings.beta1, 1.0 - settings.beta2);
        let step = WeightUpdate {
            keep: (1.0 - 0.1 * settings.weight_decay) as f32,
            size: (0.1 / correction1) as f32,
            root: (1.0 / correction2.sqrt()) as f32,
            eps: settings.eps as f32,
        };
        let bits = |tensor: &Tensor| -> Vec<u32> {
            let values: Vec<f32> = tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap();
            values.into_iter().map(f32::to_bits).collect()
        };
        assert!(bits(&variables["w"]) == bits(&step.reference(&start, &first, &second).unwrap()), "the weights");
        let stored = &optimizer.moments()["w"];
        assert!(bits(&stored.first) == bits(&noise.round(&first, "first.w", 1).unwrap()), "the first moment");
        assert!(bits(&stored.second) == bits(&noise.round(&second, "second.w", 1).unwrap()), "the second moment");
    }
}
