//! Replies of a judge, and the calls that were made for them.

/// Outcome of one call of a judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The text of the reply.
    Text(String),
    /// The server refused the call because of its rate limit.
    RateLimit,
}

/// Temperatures of the calls that were made, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calls {
    /// Temperature of each call.
    pub temperatures: Vec<f64>,
}

impl Calls {
    /// Asks at a temperature, and records the call.
    pub(super) fn ask(&mut self, temperature: f64, ask: &mut dyn FnMut(f64) -> Reply) -> Reply {
        self.temperatures.push(temperature);
        ask(temperature)
    }
}
