//! `visplay doctor`: a report on this machine's hardware and store.

mod device_info;
mod full;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use self::device_info::DeviceInfo;
use self::full::{FullArgs, cmd_doctor_full};
use crate::cli::args::{DeviceArgs, StoreArgs};
use crate::cli::{Result, Ui, format};
use crate::store::Store;

/// Show this machine's CPU, memory, disk and GPUs, and check the store.
///
/// With --full, compares the device's results with those of the CPU and of transformers on tiny
/// checkpoints, runs a round on it twice, and measures its speed against its limits.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  visplay doctor
  visplay doctor --json
  visplay doctor --device cuda --full --out docs/results")]
pub struct DoctorArgs {
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    full: FullArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs `visplay doctor`.
pub fn cmd_doctor(args: &DoctorArgs, ui: &Ui) -> Result<()> {
    if args.full.full {
        return cmd_doctor_full(&args.full, args.device.device.unwrap_or_default(), ui);
    }
    let device = DeviceInfo::of(args.device.open()?)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (memory, free_memory) = memory();
    let disk = disk(&args.store.store);
    let gpus = gpus();
    let store = store_state(&args.store.store);
    if ui.json {
        return ui.result_json(&json!({
            "program": env!("CARGO_PKG_VERSION"),
            "cores": cores,
            "instruction_sets": instruction_sets(),
            "memory_bytes": memory,
            "free_memory_bytes": free_memory,
            "free_disk_bytes": disk,
            "gpus": gpus,
            "cuda_build": cfg!(feature = "cuda"),
            "device": device,
            "store": args.store.store,
            "store_state": store,
        }));
    }
    let build = if cfg!(feature = "cuda") { "CUDA" } else { "the CPU" };
    ui.result(format!("visplay  {}, built for {build}", env!("CARGO_PKG_VERSION")))?;
    ui.result(format!("cores    {cores}"))?;
    let sets = instruction_sets();
    ui.result(format!("SIMD     {}", if sets.is_empty() { "none".into() } else { sets.join(", ") }))?;
    ui.result(format!("memory   {}, {} free", format::bytes(memory), format::bytes(free_memory)))?;
    let unknown = || "unknown: cannot access any folder above".to_owned();
    let free = disk.map_or_else(unknown, |free| format!("{} free for", format::bytes(free)));
    ui.result(format!("disk     {free} {}", args.store.store.display()))?;
    match gpus.as_slice() {
        [] => ui.result("GPU      none")?,
        gpus if cfg!(feature = "cuda") => ui.result(format!("GPU      {}", gpus.join(", ")))?,
        gpus => ui.result(format!("GPU      {} (unused: this build supports only the CPU)", gpus.join(", ")))?,
    }
    ui.result(format!("device   {}", device.describe()))?;
    ui.result(format!("store    {}: {store}", args.store.store.display()))
}

/// Returns the SIMD instruction sets of this CPU that the kernels can use.
fn instruction_sets() -> Vec<&'static str> {
    let mut sets = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
            ("FMA", std::arch::is_x86_feature_detected!("fma")),
            ("AVX-512F", std::arch::is_x86_feature_detected!("avx512f")),
            ("AVX-512BF16", std::arch::is_x86_feature_detected!("avx512bf16")),
        ];
        sets.extend(found.iter().filter(|(_, there)| *there).map(|(name, _)| *name));
    }
    #[cfg(target_arch = "aarch64")]
    sets.push("NEON");
    sets
}

/// Returns the total and the available memory in bytes.
fn memory() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    };
    (field("MemTotal:").unwrap_or(0), field("MemAvailable:").unwrap_or(0))
}

/// Returns the free bytes on the disk of a folder, or of its nearest existing parent.
fn disk(folder: &Path) -> Option<u64> {
    let absolute = std::path::absolute(folder).ok()?;
    let existing = absolute.ancestors().find(|p| p.exists())?;
    let status = rustix::fs::statvfs(existing).ok()?;
    Some(status.f_bavail * status.f_frsize)
}

/// Returns the names of the NVIDIA GPUs that the driver lists.
fn gpus() -> Vec<String> {
    let Ok(folders) = std::fs::read_dir("/proc/driver/nvidia/gpus") else { return Vec::new() };
    let mut files: Vec<PathBuf> = folders.flatten().map(|folder| folder.path().join("information")).collect();
    files.sort();
    let model = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).ok()?;
        let line = text.lines().find_map(|l| l.strip_prefix("Model:"))?;
        Some(line.trim().to_owned())
    };
    files.iter().map(|f| model(f).unwrap_or_else(|| "unknown NVIDIA GPU".into())).collect()
}

fn store_state(folder: &Path) -> String {
    match Store::open(folder) {
        Ok(store) => match store.stage() {
            Ok(_) => "readable and writable".into(),
            Err(e) => format!("readable, not writable: {e}"),
        },
        Err(_) if !folder.exists() => "does not exist yet; `visplay ingest` creates it".into(),
        Err(e) => e.to_string(),
    }
}
