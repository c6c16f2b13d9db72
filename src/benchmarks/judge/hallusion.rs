//! HallusionBench: a judge compares a response with the gold explanation.

/// Verdict of HallusionBench's judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    /// The response is wrong.
    #[serde(rename = "0")]
    Wrong,
    /// The response is right.
    #[serde(rename = "1")]
    Right,
    /// The response does not say.
    #[serde(rename = "2")]
    Unclear,
}

impl Verdict {
    /// Reads a reply: "incorrect" anywhere, else "correct" anywhere, in any case. So "not correct"
    /// is right.
    pub fn read(reply: &str) -> Self {
        let reply = reply.to_lowercase();
        if reply.contains("incorrect") {
            Self::Wrong
        } else if reply.contains("correct") {
            Self::Right
        } else {
            Self::Unclear
        }
    }

    /// Returns the digit that the published code writes.
    pub fn digit(self) -> &'static str {
        match self {
            Self::Wrong => "0",
            Self::Right => "1",
            Self::Unclear => "2",
        }
    }

    /// Whether the verdict counts as right. Of questions about a figure that is not shown, those
    /// that the response does not decide are right, too.
    pub fn is_right(self, is_without_figure: bool) -> bool {
        self == Self::Right || (is_without_figure && self == Self::Unclear)
    }
}
