//! Several linear maps of the same input, such as `q_proj`, `k_proj` and `v_proj`.

use candle_core::{Result, Tensor};

use super::named_tensors::{Purpose, Scope};
use super::ops::Linear;

/// Several linear maps of the same input: stacked into one for sampling, separate for training.
#[derive(Debug)]
pub(super) enum Projections {
    Stacked(Linear, Vec<usize>),
    Separate(Vec<Linear>),
}

impl Projections {
    /// Builds the maps from the tensors `{name}.weight`, and `{name}.bias` where they have one.
    pub(super) fn new(scope: Scope<'_>, names: &[&str], bias: bool) -> Result<Self> {
        let weights = names.iter().map(|n| scope.get(&format!("{n}.weight"))).collect::<Result<Vec<_>>>()?;
        let biases = match bias {
            true => names.iter().map(|n| scope.get(&format!("{n}.bias"))).collect::<Result<Vec<_>>>()?,
            false => Vec::new(),
        };
        Ok(match scope.purpose {
            Purpose::Sampling => {
                let widths = weights.iter().map(|w| w.dim(0)).collect::<Result<_>>()?;
                Self::Stacked(Linear::frozen(scope.ops(), &weights, &biases)?, widths)
            }
            Purpose::Training => {
                let mut biases = biases.into_iter();
                Self::Separate(weights.into_iter().map(|w| Linear::new(scope.ops(), w, biases.next())).collect())
            }
        })
    }

    /// Builds `parts` maps from the one map `name`, whose result is that many parts of equal width.
    ///
    /// For training the weight is split: the gradient of a part of a result would be as large as
    /// the whole result.
    pub(super) fn split(scope: Scope<'_>, name: &str, parts: usize) -> Result<Self> {
        let (weight, bias) = (scope.get(&format!("{name}.weight"))?, scope.get(&format!("{name}.bias"))?);
        let width = weight.dim(0)? / parts;
        Ok(match scope.purpose {
            Purpose::Sampling => Self::Stacked(Linear::frozen(scope.ops(), &[weight], &[bias])?, vec![width; parts]),
            Purpose::Training => {
                let part = |i: usize| -> Result<Linear> {
                    let bias = bias.narrow(0, i * width, width)?;
                    Ok(Linear::new(scope.ops(), weight.narrow(0, i * width, width)?, Some(bias)))
                };
                Self::Separate((0..parts).map(part).collect::<Result<_>>()?)
            }
        })
    }

    /// Computes the results of the maps, `[tokens, out]` each, from `[tokens, in]`. There may be
    /// gaps between their rows.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        match self {
            Self::Separate(maps) => maps.iter().map(|map| map.forward(x)).collect(),
            Self::Stacked(map, widths) => {
                let all = map.forward(x)?;
                let mut from = 0;
                let part = |width: &usize| {
                    from += width;
                    all.narrow(1, from - width, *width)
                };
                widths.iter().map(part).collect()
            }
        }
    }
}
