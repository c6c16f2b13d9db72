//! Learning-rate schedules: linear warm-up, then constant or cosine.

use serde::{Deserialize, Serialize};

/// Shape of the schedule after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// The peak rate.
    Constant,
    /// A half cosine from the peak down to `final_share` of it (Loshchilov & Hutter 2017, arXiv
    /// 1608.03983).
    Cosine,
}

/// The learning rate of every update; it is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Shape after the warm-up.
    pub kind: ScheduleKind,
    /// Highest rate, reached at the end of the warm-up.
    pub peak: f64,
    /// Number of warm-up updates: update `u` (from 0) has the rate `peak * (u + 1) / warmup`.
    pub warmup: u64,
    /// Total number of updates, where a cosine ends.
    pub total: u64,
    /// Fraction of the peak that a cosine reaches just after the last update.
    pub final_share: f64,
}

impl Schedule {
    /// Returns the rate of an update, counted from 0: `peak * (f + (1 - f) * (1 + cos(pi * t)) /
    /// 2)` for a cosine with f the final share and t the fraction of the updates after the warm-up.
    pub fn rate(&self, update: u64) -> f64 {
        if update < self.warmup {
            return self.peak * (update + 1) as f64 / self.warmup as f64;
        }
        match self.kind {
            ScheduleKind::Constant => self.peak,
            ScheduleKind::Cosine => {
                let length = self.total.saturating_sub(self.warmup).max(1) as f64;
                // Updates after the end have the last update's rate.
                let done = ((update - self.warmup) as f64).min(length - 1.0).max(0.0) / length;
                let share = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done));
                self.peak * (self.final_share + (1.0 - self.final_share) * share)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_update_has_the_rate_zero() {
        for kind in [ScheduleKind::Constant, ScheduleKind::Cosine] {
            for (warmup, total) in [(0, 1), (0, 10), (1, 10), (5, 10), (10, 10), (20, 10)] {
                let schedule = Schedule { kind, peak: 1e-3, warmup, total, final_share: 0.0 };
                for update in 0..30 {
                    let rate = schedule.rate(update);
                    assert!(rate > 0.0 && rate <= 1e-3, "{schedule:?} {update}: {rate}");
                }
            }
        }
    }

    #[test]
    fn warm_up_then_cosine() {
        let schedule = Schedule { kind: ScheduleKind::Cosine, peak: 1.0, warmup: 2, total: 6, final_share: 0.1 };
        let rates: Vec<f64> = (0..6).map(|u| schedule.rate(u)).collect();
        assert_eq!(rates[..3], [0.5, 1.0, 1.0]);
        assert!((rates[4] - 0.55).abs() < 1e-12, "{rates:?}");
        assert!(rates[5] > 0.1 && rates[5] < rates[4]);
    }
}
