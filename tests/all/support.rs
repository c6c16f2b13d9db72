//! Helpers of the command's tests: images to ingest, running the command, reading its output.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{ImageFormat, Rgb, RgbImage};
use serde_json::Value;

/// The command under test.
pub const VISPLAY: &str = env!("CARGO_BIN_EXE_visplay");

/// A temporary folder with a `store` and a `source` folder, deleted when the test ends.
pub struct Workspace {
    folder: tempfile::TempDir,
}

impl Workspace {
    pub fn new() -> Self {
        Self::in_folder(tempfile::tempdir().expect("a temporary folder"))
    }

    /// Creates the folder in memory if the system has `/dev/shm`, for tests that write many stores:
    /// a disk that flushes every file would take minutes.
    pub fn in_memory() -> Self {
        tempfile::tempdir_in("/dev/shm").map_or_else(|_| Self::new(), Self::in_folder)
    }

    fn in_folder(folder: tempfile::TempDir) -> Self {
        std::fs::create_dir(folder.path().join("source")).unwrap();
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    pub fn source(&self) -> PathBuf {
        self.path().join("source")
    }

    /// Fills the source with `count` different images in a few folders, and returns their paths.
    pub fn fill(&self, count: u32) -> Vec<PathBuf> {
        (0..count).map(|i| self.add(i)).collect()
    }

    /// Adds image number `i`.
    pub fn add(&self, i: u32) -> PathBuf {
        let folder = self.source().join(format!("folder-{}", i % 3));
        std::fs::create_dir_all(&folder).unwrap();
        let ending = ["png", "jpg", "bmp"][i as usize % 3];
        let path = folder.join(format!("image-{i:04}.{ending}"));
        std::fs::write(&path, test_image(i)).unwrap();
        path
    }

    /// Returns the command for this store. `ingest` and `why` use a pipeline file with small
    /// shards.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(VISPLAY);
        command.args(arguments).env("VISPLAY_STORE", self.store()).current_dir(self.path());
        if matches!(arguments.first(), Some(&"ingest" | &"why")) {
            let pipeline = self.path().join("small.toml");
            if !pipeline.exists() {
                std::fs::write(&pipeline, "evolution = \"t\"\n[ingest]\nshard_rows = 8\n").unwrap();
            }
            command.arg("--pipeline").arg(pipeline);
        }
        command
    }

    /// Runs the command and parses its output as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(&[arguments, &["--json"]].concat()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Ingests the source.
    pub fn ingest(&self) -> Value {
        self.json(&["ingest", "source"])
    }

    /// Runs `verify --full` and returns the exit code and the names of the problem files.
    pub fn verify(&self) -> (i32, Vec<String>) {
        let output = self.command(&["verify", "--full", "--json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems = report["problems"].as_array().unwrap().iter();
        let names = problems.map(|p| p["name"].as_str().unwrap().to_owned()).collect();
        (output.status.code().unwrap(), names)
    }

    /// Lists the files below a folder of the store.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let walk = walkdir::WalkDir::new(self.store().join(folder)).sort_by_file_name();
        walk.into_iter().flatten().filter(|e| e.file_type().is_file()).map(|e| e.into_path()).collect()
    }
}

/// Encodes test image number `i`; any two differ in their bytes and in their looks.
pub fn test_image(i: u32) -> Vec<u8> {
    let (w, h) = (40 + i % 17, 30 + i % 23);
    let mut state = u64::from(i).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let blocks: Vec<u8> = (0..81)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    let image = RgbImage::from_fn(w, h, |x, y| {
        let block = blocks[(x * 9 / w + y * 9 / h * 9) as usize];
        Rgb([block, block.wrapping_add(i as u8), 255 - block])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    let format = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp][i as usize % 3];
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Asks a command to stop, as Ctrl-C does. Background jobs of a shell ignore SIGINT, and so do the
/// tests and commands that they start; these get SIGTERM.
pub fn interrupt(child: &std::process::Child) {
    const SIGINT_BIT: u64 = 1 << 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let is_ignored = u64::from_str_radix(ignored.trim(), 16).unwrap() & SIGINT_BIT != 0;
    let signal = if is_ignored { "-TERM" } else { "-INT" };
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Returns what a command printed to standard error.
pub fn stderr_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
