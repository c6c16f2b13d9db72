//! Stochastic rounding of AdamW's moments to bf16.
//!
//! A number is rounded up or down at random, with probabilities that make the mean of many
//! roundings the number itself. AdamW's second moment changes by about a thousandth of itself per
//! update, less than half the distance of two bf16 numbers: rounded to nearest it would never
//! change (Zamirai et al., *Revisiting BFloat16 Training*, arXiv 2010.06192).

use candle_core::{DType, Device, Result, Tensor};

use crate::random::Seed;

/// Number of elements of a tensor that get independent noise; elements this far apart share it.
pub(super) const PERIOD: usize = 1 << 20;

/// Uniform noise in [0, 1) for the rounding: a fixed table, read from another offset for every
/// tensor and update. So a training gives the same bits whether it was interrupted or not, on every
/// device, and no random number is drawn while it runs.
#[derive(Debug, Clone)]
pub(super) struct RoundingNoise {
    table: Tensor, // [2 * PERIOD], f32
}

impl RoundingNoise {
    pub(super) fn new(device: &Device) -> Result<Self> {
        let stream = Seed(0).stream("adamw", "rounding", 0);
        let four = |position: usize| {
            // Rounding f32 to bf16 drops 16 bits.
            let bits = stream.bits(position as u64);
            (0..4).map(move |i| ((bits >> (16 * i)) & 0xffff) as f32 / 65536.0)
        };
        let table: Vec<f32> = (0..2 * PERIOD / 4).flat_map(four).collect();
        Ok(Self { table: Tensor::from_vec(table, 2 * PERIOD, device)? })
    }

    /// Returns the noise of a tensor in an update, in the tensor's shape.
    fn for_update(&self, tensor: &Tensor, name: &str, update: u64) -> Result<Tensor> {
        let from = Seed(0).stream("adamw", name, update).bits(0) as usize % PERIOD;
        let count = tensor.elem_count();
        let once = self.table.narrow(0, from, PERIOD.min(count))?;
        let repeats = count.div_ceil(PERIOD);
        let all = if repeats > 1 { once.repeat(repeats)?.narrow(0, 0, count)? } else { once };
        all.reshape(tensor.shape())
    }

    /// Rounds f32 to bf16, to the upper neighbour with probability (x - lower) / (upper - lower).
    /// `name` and `update` select the noise.
    pub(super) fn round(&self, exact: &Tensor, name: &str, update: u64) -> Result<Tensor> {
        let nearest = exact.to_dtype(DType::BF16)?;
        let wide = nearest.to_dtype(DType::F32)?;
        // Both the error and the neighbour are exact: the step is between half and one and a half
        // times the distance to the next bf16 number, whatever the significand.
        let error = (exact - &wide)?;
        let step = (wide.abs()? * (1.3 / 256.0))?;
        let above = error.ge(0f32)?;
        let other = above.where_cond(&(&wide + &step)?, &(&wide - &step)?)?.to_dtype(DType::BF16)?;
        let distance = (other.to_dtype(DType::F32)? - &wide)?;
        // For x = 0 both are 0, and 0 / 0 is NaN, which is not greater than the noise.
        let taken = (error / distance)?.gt(&self.for_update(exact, name, update)?)?;
        taken.where_cond(&other, &nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(noise: &RoundingNoise, values: &[f32], update: u64) -> Vec<f32> {
        let exact = Tensor::new(values, &Device::Cpu).unwrap();
        let actual = noise.round(&exact, "x", update).unwrap();
        assert_eq!(actual.dtype(), DType::BF16);
        actual.to_dtype(DType::F32).unwrap().to_vec1().unwrap()
    }

    /// Returns the bf16 numbers just below and above `x`, from its bits.
    fn neighbours(x: f32) -> [f32; 2] {
        let toward_zero = x.to_bits() & 0xffff_0000;
        let away = if x.to_bits() == toward_zero { toward_zero } else { toward_zero + 0x1_0000 };
        let (a, b) = (f32::from_bits(toward_zero), f32::from_bits(away));
        [a.min(b), a.max(b)]
    }

    fn edge_cases() -> Vec<f32> {
        let mut values =
            vec![0.0, -0.0, 1.0, -1.0, 1.999, 2.0, 0.999_999_9, 1e-30, -3e30, 255.9, 256.1, f32::MIN_POSITIVE];
        let stream = Seed(5).stream("test", "", 0);
        for i in 0..2000 {
            let size = 2f64.powf(60.0 * stream.uniform(2 * i) - 30.0);
            values.push((size * (2.0 * stream.uniform(2 * i + 1) - 1.0)) as f32);
        }
        // Next to bf16 numbers and half way between them, at both ends of a binade.
        for bits in [0x3f80_0000u32, 0x3fff_0000, 0x3f81_0000, 0x3fc0_0000, 0xbfbf_0000] {
            values.extend(
                [0i64, 1, -1, 0x7fff, 0x8000, 0x8001, -0x8000].map(|d| f32::from_bits((i64::from(bits) + d) as u32)),
            );
        }
        values
    }

    #[test]
    fn a_number_is_rounded_to_one_of_its_neighbours() {
        let noise = RoundingNoise::new(&Device::Cpu).unwrap();
        let values = edge_cases();
        for update in 0..50 {
            for (x, actual) in values.iter().zip(rounded(&noise, &values, update)) {
                assert!(neighbours(*x).contains(&actual), "{x} became {actual}, not one of {:?}", neighbours(*x));
            }
        }
    }

    #[test]
    fn the_mean_of_many_roundings_is_the_number() {
        let noise = RoundingNoise::new(&Device::Cpu).unwrap();
        let values = edge_cases();
        const TIMES: u32 = 4000;
        let mut sums = vec![0f64; values.len()];
        for update in 0..TIMES {
            let actual = rounded(&noise, &values, u64::from(update));
            sums.iter_mut().zip(actual).for_each(|(sum, actual)| *sum += f64::from(actual));
        }
        let mut largest = 0f64;
        for (x, sum) in values.iter().zip(sums) {
            let [below, above] = neighbours(*x).map(f64::from);
            // In units of the distance; the mean of unbiased roundings has a standard deviation of
            // at most 0.5 / sqrt(TIMES) = 0.008.
            let off = if below == above { 0.0 } else { (sum / f64::from(TIMES) - f64::from(*x)) / (above - below) };
            largest = largest.max(off.abs());
        }
        assert!(largest < 0.04, "{largest} of a step");
    }

    #[test]
    fn noise_depends_on_the_tensor_and_the_update() {
        let noise = RoundingNoise::new(&Device::Cpu).unwrap();
        let values = vec![1.0f32 + 1.0 / 256.0; PERIOD + 5];
        let exact = Tensor::new(values.as_slice(), &Device::Cpu).unwrap();
        let round = |name: &str, update| -> Vec<f32> {
            noise.round(&exact, name, update).unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
        };
        let first = round("a", 1);
        assert_eq!(first, round("a", 1));
        assert_ne!(first, round("a", 2));
        assert_ne!(first, round("b", 1));
        assert_eq!(first[..5], first[PERIOD..]);
    }
}
