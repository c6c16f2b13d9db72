//! `visplay doctor --full`: correctness checks and speed measurements of a device.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::device_info::DeviceInfo;
use crate::checkup::{self, Checkup, CheckupError, CheckupRequest, Rate};
use crate::cli::{CommandError, Result, Ui, format};
use crate::device::{DeviceChoice, DeviceClass};
use crate::stages::StageError;

/// Options of `visplay doctor --full`.
#[derive(Debug, Args)]
pub struct FullArgs {
    /// Check the device's results and measure its speed. Outside a checkout of visplay, the checks
    /// that need the nano model are skipped.
    #[arg(long)]
    pub full: bool,
    /// Models to measure: small (the nano model) or full (3B and 7B models with random weights)
    /// [default: full on a GPU].
    #[arg(long, value_enum, value_name = "SHAPES", requires = "full")]
    shapes: Option<Shapes>,
    /// Folder of tiny checkpoints with expected results [default: six built-in ones].
    #[arg(long, value_name = "DIR", requires = "full")]
    checkpoints: Option<PathBuf>,
    /// Write the report to this folder, as JSON and as Markdown.
    #[arg(long, value_name = "DIR", requires = "full")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shapes {
    Small,
    Full,
}

/// Runs `visplay doctor --full`.
pub fn cmd_doctor_full(args: &FullArgs, choice: DeviceChoice, ui: &Ui) -> Result<()> {
    let device = choice.open()?;
    let shapes = match args.shapes {
        Some(Shapes::Small) => checkup::Shapes::Small,
        Some(Shapes::Full) => checkup::Shapes::Full,
        None if DeviceClass::from_device(&device) == DeviceClass::Cuda => checkup::Shapes::Full,
        None => checkup::Shapes::Small,
    };
    let device_info = DeviceInfo::of(device)?;
    let request = CheckupRequest { choice, checkpoints: args.checkpoints.clone(), shapes };
    let found = checkup::run(&request, |what| ui.say(format!("checking {what}")))?;
    let report = json!({
        "program": env!("CARGO_PKG_VERSION"),
        "commit": commit(),
        "when": when(),
        "device": device_info,
        "shapes": shapes,
        "checks": found.checks,
        "limits": found.limits,
        "rates": found.rates,
        "skipped": found.skipped,
    });
    if let Some(out) = &args.out {
        write(out, &device_info, &report, &found)?;
    }
    if ui.json {
        ui.result_json(&report)?;
    } else {
        table(&device_info, &found).iter().try_for_each(|line| ui.result(line))?;
    }
    match found.checks.iter().filter(|check| !check.passed).count() {
        0 => Ok(()),
        failed => Err(CommandError::failed(format!("{failed} checks failed: do not use this device"))),
    }
}

/// Formats the report as lines of Markdown.
fn table(device_info: &DeviceInfo, found: &Checkup) -> Vec<String> {
    let mut lines = vec![format!("device: {}", device_info.describe()), String::new()];
    let checks = found.checks.iter().map(|check| {
        let verdict = if check.passed { "passed" } else { "FAILED" };
        [check.name.into(), number(check.deviation), number(check.allowed), check.unit.into(), verdict.into()]
    });
    lines.extend(markdown(&format::with_heading(["check", "measured", "allowed", "unit", ""], checks)));
    lines.push(String::new());
    lines.extend(found.skipped.iter().flat_map(|what| [format!("skipped: {what}"), String::new()]));
    lines.push(limits(found));
    lines.push(String::new());
    let heading = ["model", "work", "batch", "dtype", "per second", "", "share", "of", "peak memory", "note"];
    lines.extend(markdown(&format::with_heading(heading, found.rates.iter().map(rate))));
    lines
}

fn limits(found: &Checkup) -> String {
    let tera = |operations: f64| format!("{:.1} TFLOP/s", operations / 1e12);
    let limits = &found.limits;
    let half = limits.bf16_operations.map_or(String::new(), |operations| format!(", {} in bf16", tera(operations)));
    format!(
        "measured limits: copies {:.1} GB/s (read plus write), matrix products {} in f32{half}",
        limits.copy_bytes / 1e9,
        tera(limits.f32_operations)
    )
}

fn rate(rate: &Rate) -> Vec<String> {
    let none = || "-".to_owned();
    vec![
        rate.model.to_owned(),
        rate.operation.to_owned(),
        rate.shape.clone(),
        rate.dtype.to_owned(),
        rate.per_second.map_or_else(none, |n| format::count(n as u64)),
        rate.unit.to_owned(),
        rate.share.map_or_else(none, |share| format!("{:.1} %", 100.0 * share)),
        rate.limit.to_owned(),
        rate.peak_memory.map_or_else(none, format::bytes),
        rate.note.as_deref().map(format::plain).unwrap_or_default(),
    ]
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e9 { format!("{value}") } else { format!("{value:.2e}") }
}

/// Formats rows as a Markdown table with aligned columns; the first row is the heading.
fn markdown(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().map(|row| row[c].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let pad = " ".repeat(width - cell.chars().count());
            format!("{cell}{pad}")
        });
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join(" | ");
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.insert(1.min(lines.len()), format!("| {rule} |"));
    lines
}

fn write(out: &Path, device_info: &DeviceInfo, report: &Value, found: &Checkup) -> Result<()> {
    let failed = |path: &Path, e: std::io::Error| CommandError::failed(format!("{}: {e}", path.display()));
    std::fs::create_dir_all(out).map_err(|e| failed(out, e))?;
    let name = format!("device-{}", device_info.slug());
    let title =
        "# Device checks and measurements\n\nWritten by `visplay doctor --full`; docs/cuda.md explains each number.\n";
    let commit = report["commit"].as_str().unwrap_or("unknown");
    let when = format!("visplay {}, commit {commit}, {}\n", env!("CARGO_PKG_VERSION"), when());
    let text = format!("{title}\n{when}\n{}\n", table(device_info, found).join("\n"));
    for (ending, text) in [("json", format!("{report:#}\n")), ("md", text)] {
        let path = out.join(format!("{name}.{ending}"));
        std::fs::write(&path, text).map_err(|e| failed(&path, e))?;
    }
    Ok(())
}

/// Returns the commit of the checkout in the working folder, marked `-dirty` if files were changed.
fn commit() -> Option<String> {
    let git =
        std::process::Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output().ok()?;
    let text = String::from_utf8(git.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| git.status.success() && !text.is_empty())
}

fn when() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{} UTC", format::time(since.as_millis() as u64))
}

impl From<CheckupError> for CommandError {
    fn from(e: CheckupError) -> Self {
        match e {
            CheckupError::Stage(StageError::Device(e)) => e.into(),
            CheckupError::Data { .. } => Self::from_input(e),
            e => Self::from_failure(e),
        }
    }
}
