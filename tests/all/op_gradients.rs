//! The backward pass of each op in f32 against f64 autograd, on odd shapes; equal bits for any
//! number of threads; attention with a shared prompt against separate sequences.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use rayon::ThreadPoolBuilder;
use visplay::kernels::attention::Heads;
use visplay::random::Seed;
use visplay::vlm::ops::{Embedding, Linear, Ops, RmsNorm, Segments, SharedPrompt};

use super::OPS;

type Shape = (usize, usize);

/// Returns numbers around zero, the same for each dtype.
fn numbers(label: &str, (rows, columns): Shape, dtype: DType) -> Tensor {
    let stream = Seed(7).stream("op gradients", label, 0);
    let values: Vec<f64> = (0..rows * columns).map(|i| f64::from(stream.normal(i as u64) as f32)).collect();
    Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Returns the sum of a function's result, weighted by fixed numbers, and the gradients of its
/// inputs.
fn gradients(inputs: &[Tensor], f: &(dyn Fn(&[Tensor]) -> Tensor + Sync)) -> (f64, Vec<Vec<f64>>) {
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let out = f(&tensors);
    let weights = numbers("weights", out.dims2().unwrap(), out.dtype());
    let loss = (out * weights).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    let value = loss.to_dtype(DType::F64).unwrap().to_scalar().unwrap();
    (value, vars.iter().map(|v| flat(gradients.get(v).unwrap())).collect())
}

/// Compares the gradients in f32 with those in f64, and those of 1 thread with those of 2 and 3.
fn check(name: &str, shapes: &[Shape], f: &(dyn Fn(&[Tensor]) -> Tensor + Sync)) {
    let inputs = |dtype| -> Vec<Tensor> {
        shapes.iter().enumerate().map(|(i, shape)| numbers(&format!("{name} {i}"), *shape, dtype)).collect()
    };
    let exact = gradients(&inputs(DType::F64), f).1;
    let kernels = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let inputs = inputs(DType::F32);
        pool.install(|| gradients(&inputs, f)).1
    };
    let one = kernels(1);
    for (i, (ours, exact)) in one.iter().zip(&exact).enumerate() {
        let size = exact.iter().map(|v| v * v).sum::<f64>().sqrt();
        let error = ours.iter().zip(exact).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        assert!(size > 0.0 || exact.is_empty(), "{name}: gradient {i} is zero");
        assert!(error < 1e-5 * size, "{name}, {shapes:?}: gradient {i} is off by {} of its size", error / size);
    }
    for threads in [2, 3] {
        assert!(kernels(threads) == one, "{name}, {shapes:?}: results differ with {threads} threads");
    }
}

#[test]
fn gradients_of_linear_maps() {
    for (tokens, inputs, outputs) in
        [(1, 1, 1), (5, 3, 7), (33, 31, 65), (130, 128, 64), (400, 96, 288), (1000, 129, 70), (3, 700, 300)]
    {
        let shapes = [(tokens, inputs), (outputs, inputs)];
        check("linear", &shapes, &|x| Linear::new(OPS, x[1].clone(), None).forward(&x[0]).unwrap());
        let shapes = [(tokens, inputs), (outputs, inputs), (1, outputs)];
        check("linear with a bias", &shapes, &|x| {
            let bias = x[2].flatten_all().unwrap();
            Linear::new(OPS, x[1].clone(), Some(bias)).forward(&x[0]).unwrap()
        });
    }
}

#[test]
fn a_constant_has_no_gradient() {
    let x = Var::from_tensor(&numbers("x", (4, 6), DType::F32)).unwrap();
    let weight = numbers("w", (5, 6), DType::F32);
    let bias = numbers("b", (1, 5), DType::F32).flatten_all().unwrap();
    let y = Linear::new(OPS, weight.clone(), Some(bias.clone())).forward(x.as_tensor()).unwrap();
    let gradients = y.sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&x).is_some() && gradients.get(&weight).is_none() && gradients.get(&bias).is_none());
}

#[test]
fn gradients_of_row_by_row_ops() {
    for (tokens, width) in [(1, 2), (5, 6), (64, 96), (65, 130), (700, 128), (900, 384)] {
        let shape = (tokens, width);
        check("rms norm", &[shape, (1, width)], &|x| {
            RmsNorm::new(OPS, x[1].flatten_all().unwrap(), 1e-6).forward(&x[0]).unwrap()
        });
        check("swiglu", &[shape, shape], &|x| OPS.swiglu(&x[0], &x[1]).unwrap());
        check("residual", &[shape, shape], &|x| OPS.residual(&x[0], &x[1]).unwrap());
        check("gelu", &[shape], &|x| OPS.gelu(&(&x[0] * 2.0).unwrap()).unwrap());
        let angles = numbers("angles", (tokens, width / 2), DType::F64);
        check("rotary", &[shape], &|x| {
            let turn = |angles: candle_core::Result<Tensor>| angles.unwrap().to_dtype(x[0].dtype()).unwrap();
            OPS.rotate(&x[0], &turn(angles.cos()), &turn(angles.sin())).unwrap()
        });
    }
}

#[test]
fn gelu_is_close_to_the_exact_value() {
    let values: Vec<f32> = (-1200..=1200).map(|i| i as f32 / 100.0).chain([0.0, 50.0, -50.0, 1e30, -1e30]).collect();
    let x = Tensor::from_vec(values.clone(), (1, values.len()), &Device::Cpu).unwrap();
    let exact = flat(&x.to_dtype(DType::F64).unwrap().gelu_erf().unwrap());
    for ((x, ours), exact) in values.iter().zip(flat(&OPS.gelu(&x).unwrap())).zip(exact) {
        assert!((ours - exact).abs() <= 4e-7 * f64::from(x.abs()).max(0.01), "gelu({x}) is {ours}, not {exact}");
    }
    let nan = Tensor::from_vec(vec![f32::NAN; 3], (1, 3), &Device::Cpu).unwrap();
    assert!(flat(&OPS.gelu(&nan).unwrap()).iter().all(|v| v.is_nan()));
}

#[test]
fn an_embedding_sums_the_gradients_of_a_row() {
    check("embedding", &[(7, 10)], &|x| {
        let ids = Tensor::new(&[3u32, 0, 3, 6, 3, 1], &Device::Cpu).unwrap();
        Embedding::new(OPS, x[0].clone()).forward(&ids).unwrap()
    });
    let embedding = Embedding::new(OPS, numbers("rows", (7, 10), DType::F32));
    let ids = Tensor::new(&[3u32, 7], &Device::Cpu).unwrap();
    let refused = embedding.forward(&ids).unwrap_err().to_string();
    assert!(OPS == Ops::Reference || refused.contains("row 7 of a matrix of 7 rows"), "{refused}");
}

fn shared(prompt: usize, responses: &[usize]) -> SharedPrompt {
    SharedPrompt { prompt, responses: responses.to_vec() }
}

fn cases() -> Vec<(Heads, Segments)> {
    let heads = |query, key_value, dim| Heads { query, key_value, dim };
    vec![
        (heads(1, 1, 4), Segments::causal(vec![2])),
        (heads(4, 2, 10), Segments::causal(vec![31, 32, 33, 1, 64, 0, 97])),
        (heads(7, 1, 32), Segments::causal(vec![70, 5])),
        (heads(6, 6, 80), Segments::full(vec![64, 16, 100])),
        (heads(3, 3, 36), Segments::full(vec![5, 0, 129])),
        (heads(4, 4, 24), Segments::full(vec![64; 9])),
        (heads(4, 2, 32), Segments::shared(vec![shared(40, &[9, 33, 1]), shared(64, &[20, 20])])),
        (heads(2, 2, 6), Segments::shared(vec![shared(3, &[]), shared(0, &[4, 5]), shared(31, &[1, 0, 70])])),
        (heads(7, 1, 40), Segments::shared(vec![shared(33, &[50, 50, 50])])),
    ]
}

fn shapes(heads: Heads, tokens: usize) -> [Shape; 3] {
    [heads.query, heads.key_value, heads.key_value].map(|count| (tokens, count * heads.dim))
}

#[test]
fn gradients_of_attention() {
    for (heads, segments) in cases() {
        let segments = Arc::new(segments);
        check("attention", &shapes(heads, segments.tokens()), &|x| {
            OPS.attention(&x[0], &x[1], &x[2], heads, &segments).unwrap()
        });
    }
}

#[test]
fn attention_in_f64_has_the_gradients_of_finite_differences() {
    const STEP: f64 = 1e-5;
    let heads = Heads { query: 4, key_value: 2, dim: 6 };
    let segments = Arc::new(Segments::shared(vec![shared(4, &[3, 2]), shared(2, &[3])]));
    let inputs = shapes(heads, segments.tokens()).map(|shape| numbers("differences", shape, DType::F64));
    let f = |x: &[Tensor]| OPS.attention(&x[0], &x[1], &x[2], heads, &segments).unwrap();
    let exact = gradients(&inputs, &f).1;
    for (i, exact) in exact.iter().enumerate() {
        for (at, exact) in exact.iter().enumerate().step_by(5) {
            let value = |step: f64| {
                let mut values = flat(&inputs[i]);
                values[at] += step;
                let mut moved = inputs.to_vec();
                moved[i] = Tensor::from_vec(values, inputs[i].shape(), &Device::Cpu).unwrap();
                gradients(&moved, &f).0
            };
            let slope = (value(STEP) - value(-STEP)) / (2.0 * STEP);
            assert!((slope - exact).abs() < 1e-7 * (1.0 + slope.abs()), "input {i}, element {at}: {exact}, {slope}");
        }
    }
}

/// Compares two tensors: bit by bit for our kernels, up to rounding for the reference ops.
fn assert_same(a: &Tensor, b: &Tensor, label: &str) {
    let (a, b) = (flat(a), flat(b));
    assert_eq!(a.len(), b.len());
    assert!(
        a.iter().zip(&b).all(|(a, b)| a == b || OPS == Ops::Reference && (a - b).abs() < 1e-6),
        "{label}: {a:?} and {b:?}"
    );
}

#[test]
fn a_response_with_a_shared_prompt_has_the_bits_of_a_separate_sequence() {
    for (prompt, responses) in [(40, vec![9, 33, 1]), (64, vec![20, 65]), (7, vec![3, 90]), (100, vec![31, 32])] {
        let heads = Heads { query: 4, key_value: 2, dim: 24 };
        let segments = Arc::new(Segments::shared(vec![shared(5, &[2]), shared(prompt, &responses)]));
        let inputs = shapes(heads, segments.tokens()).map(|shape| numbers("bits", shape, DType::F32));
        let together = OPS.attention(&inputs[0], &inputs[1], &inputs[2], heads, &segments).unwrap();
        let mut first = 7 + prompt;
        for response in responses {
            let alone = inputs.each_ref().map(|x| {
                let parts = [x.narrow(0, 7, prompt).unwrap(), x.narrow(0, first, response).unwrap()];
                Tensor::cat(&parts, 0).unwrap()
            });
            let plain = Arc::new(Segments::causal(vec![prompt + response]));
            let plain = OPS.attention(&alone[0], &alone[1], &alone[2], heads, &plain).unwrap();
            let pairs = [(0, 7, prompt, "prompt"), (prompt, first, response, "response")];
            for (a, b, len, label) in pairs {
                assert_same(&plain.narrow(0, a, len).unwrap(), &together.narrow(0, b, len).unwrap(), label);
            }
            first += response;
        }
    }
}
