//! Conversion between the bytes of a stored tensor and numbers of a requested type.

use std::convert::identity;

use half::{bf16, f16};
use rayon::prelude::*;

use super::safetensors_header::StoredType;

/// Numbers that a thread converts at a time: few enough for its cache, enough to be worth a task.
const CHUNK: usize = 1 << 16;

/// A type that stored numbers are converted to. Narrowing rounds to nearest, ties to even.
pub trait Number: Copy + Default + Send + Sync {
    /// The dtype that stores this type.
    const STORED: StoredType;
    /// Converts from 32 bits.
    fn from_f32(x: f32) -> Self;
    /// Converts to 32 bits, exactly.
    fn to_f32(self) -> f32;
    /// Reads [`StoredType::size`] little-endian bytes.
    fn from_bytes(bytes: &[u8]) -> Self;
    /// Appends its little-endian bytes.
    fn push_bytes(self, out: &mut Vec<u8>);
}

/// Implements [`Number`] for a type, given its dtype and its conversions from and to 32 bits.
macro_rules! number {
    ($type:ty, $stored:expr, $from:expr, $to:expr) => {
        impl Number for $type {
            const STORED: StoredType = $stored;
            fn from_f32(x: f32) -> Self {
                $from(x)
            }
            fn to_f32(self) -> f32 {
                $to(self)
            }
            fn from_bytes(bytes: &[u8]) -> Self {
                bytes.first_chunk().map_or(Self::default(), |b| Self::from_le_bytes(*b))
            }
            fn push_bytes(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    };
}

number!(f32, StoredType::F32, identity, identity);
number!(bf16, StoredType::BF16, bf16::from_f32, bf16::to_f32);
number!(f16, StoredType::F16, f16::from_f32, f16::to_f32);

/// Converts the elements in `bytes`, which are of dtype `stored`, in parallel.
pub fn numbers<T: Number>(bytes: &[u8], stored: StoredType) -> Vec<T> {
    let mut out = vec![T::default(); bytes.len() / stored.size()];
    out.par_chunks_mut(CHUNK).zip(bytes.par_chunks(CHUNK * stored.size())).for_each(|(out, bytes)| match stored {
        StoredType::F32 => convert::<f32, T>(bytes, out),
        StoredType::F16 => convert::<f16, T>(bytes, out),
        StoredType::BF16 => convert::<bf16, T>(bytes, out),
    });
    out
}

/// Returns the bytes of `numbers` in dtype `stored`, little endian.
pub fn stored_bytes<T: Number>(numbers: &[T], stored: StoredType) -> Vec<u8> {
    let mut out = Vec::with_capacity(numbers.len() * stored.size());
    for &number in numbers {
        match stored {
            _ if stored == T::STORED => number.push_bytes(&mut out),
            StoredType::F32 => number.to_f32().push_bytes(&mut out),
            StoredType::F16 => f16::from_f32(number.to_f32()).push_bytes(&mut out),
            StoredType::BF16 => bf16::from_f32(number.to_f32()).push_bytes(&mut out),
        }
    }
    out
}

fn convert<S: Number, T: Number>(bytes: &[u8], out: &mut [T]) {
    for (number, bytes) in out.iter_mut().zip(bytes.chunks_exact(S::STORED.size())) {
        // An equal type keeps its bits, including those of a NaN.
        *number =
            if S::STORED == T::STORED { T::from_bytes(bytes) } else { T::from_f32(S::from_bytes(bytes).to_f32()) };
    }
}
