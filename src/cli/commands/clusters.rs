//! `visplay clusters`: clusters of near-duplicate questions.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::output::jsonl::{Line, LinesArgs, Order, for_each_line, kind_of};
use crate::cli::{Result, Ui};
use crate::reward::Clusters;

/// Group near-duplicate questions, as the diversity penalty does.
///
/// Reads lines {"questions": [".."]} and adds two lists to each: "shares", the size of each
/// question's cluster divided by the number of questions, and "clusters", the number of its cluster
/// in order of first appearance. Clustering is by average linkage below a BLEU distance of 0.5 (see
/// docs/rewards.md). Other keys pass through.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay clusters questions.jsonl
  echo '{\"questions\": [\"How many dots?\", \"How many dots are there?\", \"\"]}' | visplay clusters
  jq -sc '{questions: map(.question)}' generated.jsonl | visplay clusters")]
pub struct ClustersArgs {
    #[command(flatten)]
    lines: LinesArgs,
}

/// Runs `visplay clusters`.
pub fn cmd_clusters(args: &ClustersArgs, ui: &Ui) -> Result<()> {
    for_each_line(&args.lines, ui, Order::Sequential, |line| {
        let clusters = Clusters::from_questions(&questions(line)?).map_err(|error| error.to_string())?;
        Ok(vec![("shares", json!(clusters.shares())), ("clusters", json!(clusters.labels))])
    })
}

fn questions<'a>(line: &'a Line) -> Result<Vec<&'a str>, String> {
    let value = line.get("questions")?;
    let list = value.as_array().ok_or_else(|| format!("\"questions\" is {}, not a list of strings", kind_of(value)))?;
    let string = |(at, value): (usize, &'a Value)| {
        value.as_str().ok_or_else(|| format!("\"questions\"[{at}] is {}, not a string", kind_of(value)))
    };
    list.iter().enumerate().map(string).collect()
}
