//! The row of a training step in the `metrics` table.

use crate::tables::{MetricRow, RewardRow, Role};
use crate::training::grpo_step::{GrpoStepReport, RolloutGroup};

/// Returns the mean of values; `None` where there are none.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0u32), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

/// Returns the row of a step from the trainer's report, the step's groups and their rewards.
pub(super) fn metrics_row(
    role: Role,
    step: u32,
    report: &GrpoStepReport,
    groups: &[RolloutGroup],
    rewards: &[RewardRow],
) -> MetricRow {
    let lengths: Vec<u32> = all_rollouts(groups).map(|rollout| rollout.token_ids.len() as u32).collect();
    let reward_mean = mean(rewards.iter().map(|row| row.reward));
    let deviation = |mean: f64| {
        let squares: f64 = rewards.iter().map(|row| (row.reward - mean).powi(2)).sum();
        (rewards.len() > 1).then(|| (squares / (rewards.len() as f64 - 1.0)).sqrt())
    };
    let share = |column: &dyn Fn(&RewardRow) -> Option<bool>| {
        mean(rewards.iter().filter_map(|row| column(row).map(|yes| f64::from(u8::from(yes)))))
    };
    let reward_groups = || rewards.chunk_by(|a, b| a.group_id == b.group_id);
    MetricRow {
        role: Some(role),
        step,
        groups: groups.len() as u32,
        groups_dropped: reward_groups().filter(|group| group.iter().all(|row| !row.in_update)).count() as u32,
        frac_zero_std: mean(reward_groups().map(|group| f64::from(u8::from(group[0].group_std == 0.0)))),
        reward_mean,
        reward_std: reward_mean.and_then(deviation),
        advantage_mean: mean(rewards.iter().map(|row| row.advantage)),
        confidence_mean: mean(rewards.iter().filter_map(|row| row.confidence)),
        uncertainty_mean: mean(rewards.iter().filter_map(|row| row.uncertainty)),
        diversity_penalty_mean: mean(rewards.iter().filter_map(|row| row.diversity_penalty)),
        valid_share: share(&|row| Some(row.valid)),
        correct_share: share(&|row| row.correct),
        response_length_mean: mean(lengths.iter().map(|&length| f64::from(length))),
        response_length_min: lengths.iter().min().copied(),
        response_length_max: lengths.iter().max().copied(),
        truncated_share: mean(all_rollouts(groups).map(|rollout| f64::from(u8::from(rollout.truncated)))),
        ..report.metrics.clone()
    }
}

fn all_rollouts(groups: &[RolloutGroup]) -> impl Iterator<Item = &crate::training::grpo_step::Rollout> {
    groups.iter().flat_map(|group| &group.rollouts)
}
