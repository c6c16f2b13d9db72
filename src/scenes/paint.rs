//! Rendering of a scene to pixels, in integer arithmetic throughout.

use super::object::{Colour, ObjectShape, SceneObject};
use super::png;
use super::rng::SceneRng;
use super::scene::{SIDE, Scene};
use crate::imaging::RgbImage;

/// Samples are multiples of this (16 levels): noise exceeds a level, and files are half as large.
const LEVEL: i32 = 17;
/// Random bytes per sample for the noise.
const BYTES: usize = 3;

impl Scene {
    /// Renders the scene as 112 x 112 pixels: a gradient, objects in jittered colours, and noise.
    pub fn paint(&self) -> RgbImage {
        let mut rng = SceneRng::new(self.stream("paint"));
        let mut samples = paint_background(&mut rng);
        for object in self.objects() {
            let colour = jitter(object.colour, &mut rng);
            fill_shape(object, colour, &mut samples);
        }
        let sigma = rng.between(8, 26);
        let data = self.with_noise(&samples, sigma);
        RgbImage::new(SIDE as u32, SIDE as u32, data).expect("three samples for each pixel")
    }

    /// Encodes the scene as a PNG file, with the same bytes on every machine.
    pub fn to_png(&self) -> Vec<u8> {
        png::encode(&self.paint())
    }

    /// Adds noise of standard deviation `sigma` and rounds to levels. The sum of three bytes has
    /// mean 382.5 and standard deviation 128.0, and is close to a normal distribution.
    fn with_noise(&self, samples: &[i32], sigma: i32) -> Vec<u8> {
        let mut random = vec![0; samples.len() * BYTES];
        self.stream("noise").fill(0, &mut random);
        let noisy = samples.iter().zip(random.as_chunks::<BYTES>().0).map(|(&sample, bytes)| {
            let sum: i32 = bytes.iter().map(|&byte| i32::from(byte)).sum();
            let value = sample + (((2 * sum - 765) * sigma + 128) >> 8);
            ((value.clamp(0, 255) + LEVEL / 2) / LEVEL * LEVEL) as u8
        });
        noisy.collect()
    }
}

/// Paints a gradient between two dull colours in a random direction.
fn paint_background(rng: &mut SceneRng) -> Vec<i32> {
    let mut dull = || {
        let grey = rng.between(55, 185);
        [0; 3].map(|_: i32| grey + rng.between(-14, 14))
    };
    let (from, to) = (dull(), dull());
    let (across, down) = (rng.between(-4, 4), rng.between(-4, 4));
    let last = SIDE as i32 - 1;
    let least = across.min(0) * last + down.min(0) * last;
    let range = ((across.abs() + down.abs()) * last).max(1);
    let mut samples = Vec::with_capacity(SIDE * SIDE * 3);
    for y in 0..SIDE as i32 {
        for x in 0..SIDE as i32 {
            let place = x * across + y * down - least;
            samples.extend((0..3).map(|channel| from[channel] + (to[channel] - from[channel]) * place / range));
        }
    }
    samples
}

/// Returns the colour of an object: the pure colour, shifted and made brighter or darker.
fn jitter(colour: Colour, rng: &mut SceneRng) -> [i32; 3] {
    let pure = match colour {
        Colour::Red => [210, 45, 45],
        Colour::Green => [45, 170, 60],
        Colour::Blue => [50, 75, 210],
        Colour::Yellow => [225, 205, 45],
    };
    let brightness = rng.between(80, 115);
    pure.map(|sample| (sample + rng.between(-22, 22)) * brightness / 100)
}

/// Paints an object in one colour.
fn fill_shape(object: &SceneObject, colour: [i32; 3], samples: &mut [i32]) {
    let r = object.size;
    for dy in -r..=r {
        for dx in -r..=r {
            let inside = match object.shape {
                ObjectShape::Circle => dx * dx + dy * dy <= r * r + r / 2,
                ObjectShape::Square => true,
                // The half width grows from 0 at the top to `r` at the base.
                ObjectShape::Triangle => 2 * dx.abs() <= dy + r,
            };
            let (x, y) = (object.x + dx, object.y + dy);
            if inside && (0..SIDE as i32).contains(&x) && (0..SIDE as i32).contains(&y) {
                let at = (y as usize * SIDE + x as usize) * 3;
                samples[at..at + 3].copy_from_slice(&colour);
            }
        }
    }
}
