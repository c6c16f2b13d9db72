//! The math of GRPO, compared with an independent oracle frozen by `tests/oracles/grpo.py` and
//! checked against verl and TRL.

use serde::Deserialize;
use visplay::training::grpo::{
    Advantages, Aggregation, GrpoSettings, advantages, importance_weight, k3, overlong_penalty, policy_loss,
    token_weights,
};
use visplay::training::grpo_step::policy_tokens;
use visplay::training::objective::PolicyObjective;
use visplay::training::policy_metrics::PolicyMetricSums;
use visplay::training::{Objective, Rollout, TokenStats};

use crate::training_gradients::oracles;

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant)] // read once from a file and not moved
enum Case {
    Advantages(AdvantageCase),
    Loss(LossCase),
    Overlong {
        length: usize,
        max_tokens: usize,
        cache: usize,
        factor: f64,
        penalty: f64,
    },
    /// Log-probabilities and entropies from logits, tested in `src/training/lm_head.rs`.
    Distribution {},
}

#[derive(Deserialize)]
struct AdvantageCase {
    groups: Vec<Vec<f64>>,
    scale: bool,
    advantages: Vec<Vec<f64>>,
    means: Vec<f64>,
    stds: Vec<f64>,
    frac_zero_std: f64,
    kept: Vec<bool>,
}

#[derive(Deserialize)]
struct LossCase {
    aggregation: Aggregation,
    eps_low: f64,
    eps_high: f64,
    dual: Option<f64>,
    beta: f64,
    max_tokens: usize,
    importance_cap: Option<f64>,
    mask_truncated: bool,
    responses: Vec<Response>,
    loss: f64,
    policy_loss: f64,
    kl_loss: f64,
    losses: Vec<Vec<f64>>,
    k3: Vec<Vec<f64>>,
    gradient: Vec<Vec<f64>>,
    response_tokens: usize,
    responses_counted: usize,
    clip_low_fraction: Option<f64>,
    clip_high_fraction: Option<f64>,
    dual_clip_fraction: Option<f64>,
    kl_reference: Option<f64>,
    kl_old: Option<f64>,
    ratio_mean: Option<f64>,
    ratio_max: Option<f64>,
    sampler_gap_mean: Option<f64>,
    sampler_gap_max: Option<f64>,
    importance_truncated_share: Option<f64>,
}

#[derive(Deserialize)]
struct Response {
    advantage: f64,
    truncated: bool,
    logp: Vec<f64>,
    old: Vec<f64>,
    reference: Vec<f64>,
    sampler: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(oracles().join("grpo.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn assert_close(label: &str, actual: f64, expected: f64, tolerance: f64) {
    assert!((actual - expected).abs() <= tolerance * (1.0 + expected.abs()), "{label}: {actual}, {expected}");
}

impl LossCase {
    fn settings(&self) -> GrpoSettings {
        GrpoSettings {
            eps_low: self.eps_low,
            eps_high: self.eps_high,
            dual: self.dual,
            beta: self.beta,
            aggregation: self.aggregation,
            max_tokens: self.max_tokens,
            mask_truncated: self.mask_truncated,
            importance_cap: self.importance_cap,
        }
    }

    fn rollout(&self, response: &Response) -> Rollout {
        Rollout {
            token_ids: vec![0; response.logp.len()],
            logprobs: response.sampler.iter().map(|logp| *logp as f32).collect(),
            advantage: response.advantage,
            truncated: response.truncated,
            in_update: true,
        }
    }
}

/// Checks the loss, its terms and its gradient from the pure functions, in f64 like the oracle's.
fn check_pure(label: &str, case: &LossCase) {
    let settings = case.settings();
    let counted: Vec<bool> = case.responses.iter().map(|r| case.rollout(r).is_in_loss(&settings)).collect();
    let numbers = || counted.iter().enumerate().filter_map(|(i, counts)| counts.then_some(i));
    let lengths: Vec<usize> = numbers().map(|i| case.responses[i].logp.len()).collect();
    assert_eq!(
        (lengths.iter().sum::<usize>(), lengths.len()),
        (case.response_tokens, case.responses_counted),
        "{label}"
    );
    let mut weights = vec![0.0; counted.len()];
    let shares = token_weights(&lengths, settings.aggregation, settings.max_tokens);
    numbers().zip(shares).for_each(|(i, share)| weights[i] = share);
    let (mut policy_sum, mut k3_sum) = (0.0, 0.0);
    for (i, response) in case.responses.iter().enumerate() {
        for t in 0..response.logp.len() {
            let (logp, old) = (response.logp[t], response.old[t]);
            let policy = policy_loss(logp, old, response.advantage, &settings);
            let importance =
                settings.importance_cap.map_or(1.0, |cap| importance_weight(old, response.sampler[t], cap).0);
            let (value, slope) = k3(logp, response.reference[t]);
            let label = format!("{label}, response {i}, token {t}");
            assert_close(&label, importance * policy.loss, case.losses[i][t], 1e-9);
            assert_close(&label, value, case.k3[i][t], 1e-9);
            let gradient = weights[i] * (importance * policy.gradient + settings.beta * slope);
            assert_close(&label, gradient, case.gradient[i][t], 1e-9);
            policy_sum += weights[i] * importance * policy.loss;
            k3_sum += weights[i] * value;
        }
    }
    assert_close(label, policy_sum, case.policy_loss, 1e-9);
    assert_close(label, settings.beta * k3_sum, case.kl_loss, 1e-9);
    assert_close(label, policy_sum + settings.beta * k3_sum, case.loss, 1e-9);
}

/// Checks the same values and the training metrics from the objective, whose log-probabilities are
/// f32.
fn check_objective(label: &str, case: &LossCase) {
    let settings = case.settings();
    let rollouts: Vec<Rollout> = case.responses.iter().map(|response| case.rollout(response)).collect();
    let counted: Vec<usize> = (0..rollouts.len()).filter(|i| rollouts[*i].is_in_loss(&settings)).collect();
    let flat = |of: &dyn Fn(&Response) -> &Vec<f64>| -> Vec<f32> {
        counted.iter().flat_map(|i| of(&case.responses[*i]).iter().map(|x| *x as f32)).collect()
    };
    let (logp, old, reference) = (flat(&|r| &r.logp), flat(&|r| &r.old), flat(&|r| &r.reference));
    let tokens = policy_tokens(
        counted.iter().map(|i| &rollouts[*i]).collect(),
        &settings,
        |i, _| Some(old[i]),
        |i| Some(reference[i]),
    );
    let objective = PolicyObjective { settings: &settings, tokens };
    let stats = |logps: &[f32]| -> Vec<TokenStats> {
        logps.iter().map(|logprob| TokenStats { logprob: *logprob, entropy: 0.5 }).collect()
    };
    let gradients = counted.iter().flat_map(|i| &case.gradient[*i]);
    // Rounding an exponent of 30 to f32 changes the power by that times the power.
    let tolerance = 1e-5;
    for (i, expected) in gradients.enumerate() {
        assert_close(&format!("{label}, token {i}"), f64::from(objective.gradient(i, logp[i])), *expected, tolerance);
    }
    let mut sums = PolicyMetricSums::default();
    sums.add(&objective, &stats(&logp), &stats(&old));
    assert_close(label, sums.policy_loss(), case.policy_loss, tolerance);
    assert_close(label, settings.beta * sums.k3_loss(), case.kl_loss, tolerance);
    let means = sums.means();
    for (name, actual, expected) in [
        ("clip low", means.clip_low_fraction, case.clip_low_fraction),
        ("clip high", means.clip_high_fraction, case.clip_high_fraction),
        ("dual clip", means.dual_clip_fraction, case.dual_clip_fraction),
        ("k3", means.kl_reference, case.kl_reference),
        ("KL to old", means.kl_old, case.kl_old),
        ("ratio", means.ratio_mean, case.ratio_mean),
        ("largest ratio", means.ratio_max, case.ratio_max),
        ("gap", means.sampler_gap_mean, case.sampler_gap_mean),
        ("largest gap", means.sampler_gap_max, case.sampler_gap_max),
        ("importance", means.importance_truncated_share, case.importance_truncated_share),
        ("entropy", means.entropy, (case.response_tokens > 0).then_some(0.5)),
    ] {
        let label = format!("{label}: {name}");
        match (actual, expected) {
            (Some(actual), Some(expected)) => assert_close(&label, actual, expected, tolerance),
            (actual, expected) => assert_eq!(actual, expected, "{label}"),
        }
    }
}

#[test]
fn losses_advantages_and_penalties_equal_the_oracle() {
    let cases = cases();
    assert_eq!(cases.len(), 386);
    let mut kinds = [0; 4];
    for (number, case) in cases.iter().enumerate() {
        let label = format!("case {number}");
        match case {
            Case::Advantages(case) => {
                kinds[0] += 1;
                check_advantages(&label, case);
            }
            Case::Loss(case) => {
                kinds[1] += 1;
                check_pure(&label, case);
                check_objective(&label, case);
            }
            Case::Overlong { length, max_tokens, cache, factor, penalty } => {
                kinds[2] += 1;
                assert_close(&label, factor * overlong_penalty(*length, *max_tokens, *cache), *penalty, 1e-12);
            }
            Case::Distribution {} => kinds[3] += 1,
        }
    }
    assert!(kinds.iter().all(|kind| *kind >= 20), "{kinds:?}");
}

fn check_advantages(label: &str, case: &AdvantageCase) {
    let mut equal = 0.0;
    for (i, group) in case.groups.iter().enumerate() {
        let label = format!("{label}, group {i}");
        let aggregations: &[Aggregation] =
            if case.scale { &[Aggregation::Token, Aggregation::Sequence] } else { &[Aggregation::DrGrpo] };
        for aggregation in aggregations {
            let Advantages { values, mean, std, zero_std } = advantages(group, *aggregation);
            assert_eq!(zero_std, !case.kept[i], "{label}");
            assert_close(&label, mean, case.means[i], 1e-9);
            assert_close(&label, std, case.stds[i], 1e-9);
            assert_eq!(values.len(), group.len());
            values
                .iter()
                .zip(&case.advantages[i])
                .for_each(|(actual, expected)| assert_close(&label, *actual, *expected, 2e-9));
        }
        equal += f64::from(u8::from(!case.kept[i]));
    }
    assert_close(label, equal / case.groups.len() as f64, case.frac_zero_std, 1e-9);
}

#[test]
fn a_rollout_that_is_left_out_is_not_in_the_loss() {
    let rollout =
        Rollout { token_ids: vec![1], logprobs: vec![-1.0], advantage: 1.0, truncated: true, in_update: true };
    let masking = GrpoSettings { mask_truncated: true, ..GrpoSettings::default() };
    assert!(rollout.is_in_loss(&GrpoSettings::default()));
    assert!(!rollout.is_in_loss(&masking));
    assert!(!Rollout { in_update: false, ..rollout.clone() }.is_in_loss(&GrpoSettings::default()));
    assert!(!Rollout { token_ids: vec![], logprobs: vec![], ..rollout }.is_in_loss(&GrpoSettings::default()));
}
