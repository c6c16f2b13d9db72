//! The cluster profile: how jobs are requested on a cluster, in a TOML file with a table
//! `[cluster]`.
//!
//! A profile says where and how work runs, never what is computed: no key of it is part of an
//! action. `docs/cluster.toml` is a profile with every key and its default.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sbatch_options::reserved_option;
use super::time_limit::TimeLimit;
use crate::evolution::pipeline::section::section;
use crate::evolution::pipeline::{PipelineError, PipelineSource};
use crate::text_file;

/// Name of a profile beside a pipeline file or in the user's configuration.
const FILE_NAME: &str = "cluster.toml";

/// The batch system that runs the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Slurm.
    Slurm,
}

/// How a worker requests its GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GpuRequest {
    /// `--gres=gpu:TYPE:1`.
    Gres,
    /// `--gpus-per-task=TYPE:1`.
    PerTask,
    /// No GPU: workers compute on CPUs.
    None,
}

section! {
    /// The settings of the jobs on a cluster. Every job runs one worker: one process, on one GPU.
    pub struct ClusterProfile {
        /// The batch system.
        pub scheduler: Scheduler = Scheduler::Slurm,
        /// Partition; without one, the cluster's default.
        pub partition: String = String::new(),
        /// Account that is charged; without one, the user's default.
        pub account: String = String::new(),
        /// Quality of service.
        pub qos: String = String::new(),
        /// Reservation.
        pub reservation: String = String::new(),
        /// Features that nodes must have, such as `a100|h100`.
        pub constraint: String = String::new(),
        /// Nodes that are not used.
        pub exclude: Vec<String> = Vec::new(),
        /// Time limit of a job, after which it is requeued: 8:00:00, 90 (minutes),
        /// 1-12:00:00.
        pub time: String = "8:00:00".to_owned(),
        /// Time before the limit at which a worker takes no more work, in seconds.
        pub warn_before_limit: u64 = 300,
        /// How often a job may be requeued at its time limit.
        pub requeues: u32 = 20,
        /// The program that nodes run; without one, the program that submits.
        pub program: PathBuf = PathBuf::new(),
        /// Lines of bash that run on the node before the program.
        pub setup: Vec<String> = Vec::new(),
        /// How a worker requests its GPU: gres, per-task or none.
        pub gpus: GpuRequest = GpuRequest::Gres,
        /// Type of the GPUs, such as `h100`; without one, any.
        pub gpu_type: String = String::new(),
        /// Cores of a worker; 0 for the cluster's default.
        pub cpus_per_worker: u32 = 8,
        /// Memory of a worker, such as `120G`; without it, the partition's default.
        pub memory_per_worker: String = String::new(),
        /// Folder of the jobs' logs, relative to the store.
        pub logs: PathBuf = PathBuf::from("logs"),
        /// Folder on a node's own disk where judges keep copies of the store's files; its beginning
        /// may be a variable of the node, such as `$TMPDIR/visplay`. Without it, nothing is kept.
        pub cache: String = String::new(),
        /// Maximum size of that folder, in bytes.
        pub cache_bytes: u64 = 50 << 30,
        /// Further options of sbatch, one in each string, as they follow `#SBATCH`.
        pub extra: Vec<String> = Vec::new(),
        /// The judge workers.
        pub judge: JudgeWorkers = JudgeWorkers::default(),
    }
}

section! {
    /// The array of judge workers, which take the work of models that a round does not change.
    pub struct JudgeWorkers {
        /// Number of workers.
        pub count: u32 = 4,
        /// Number of them that run at once; 0 for all.
        pub at_most_at_once: u32 = 0,
        /// Maximum number of tasks in an array; the cluster's MaxArraySize counts too.
        pub array_limit: u32 = 1000,
        /// Time without work after which a worker ends, such as `10m`.
        pub idle: String = "10m".to_owned(),
    }
}

/// The content of a profile's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    cluster: ClusterProfile,
}

impl ClusterProfile {
    /// Reads the profile of a pipeline file: the named file, else `cluster.toml` beside the
    /// pipeline file, else `visplay/cluster.toml` in the user's configuration folder. Returns it
    /// with its path.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn find(named: Option<&Path>, pipeline_file: &Path) -> Result<(PathBuf, Self), PipelineError> {
        if let Some(file) = named {
            return Ok((file.to_owned(), Self::load(file)?));
        }
        let places = default_places(pipeline_file);
        match places.iter().find(|file| file.exists()) {
            Some(file) => Ok((file.clone(), Self::load(file)?)),
            None => {
                let places: Vec<String> = places.iter().map(|file| file.display().to_string()).collect();
                let problem = format!(
                    "there is no cluster profile (nor {}); name one with --cluster, or write one: docs/cluster.toml \
                     has every key",
                    places[1..].join(", ")
                );
                Err(PipelineError::of_file(places[0].clone(), problem))
            }
        }
    }

    fn load(file: &Path) -> Result<Self, PipelineError> {
        let failed = |problem: String| PipelineError::of_file(file, problem);
        let bytes = std::fs::read(file).map_err(|e| failed(format!("cannot be read: {e}")))?;
        let text = text_file::decode(&bytes).map_err(|e| failed(e.to_string()))?;
        Self::parse(file, &text)
    }

    /// Reads the text of a profile.
    ///
    /// # Errors
    /// A key is unknown, or a value cannot be used; the error names the file, the line and the key.
    pub fn parse(file: &Path, text: &str) -> Result<Self, PipelineError> {
        let source = PipelineSource::new(file, text);
        let parsed: Result<ProfileFile, _> = toml::from_str(text);
        let profile = parsed.map_err(|e| source.explain(e.message(), e.span()))?.cluster;
        match profile.first_invalid_value() {
            Some((key, problem)) => Err(source.error(&format!("cluster.{key}"), problem)),
            None => Ok(profile),
        }
    }

    /// Returns the first key whose value cannot be used, and why.
    pub(super) fn first_invalid_value(&self) -> Option<(&'static str, String)> {
        let texts = [
            ("partition", &self.partition),
            ("account", &self.account),
            ("qos", &self.qos),
            ("reservation", &self.reservation),
            ("constraint", &self.constraint),
            ("gpu_type", &self.gpu_type),
            ("memory_per_worker", &self.memory_per_worker),
            ("cache", &self.cache),
        ];
        let lists = [("exclude", &self.exclude), ("setup", &self.setup), ("extra", &self.extra)];
        let listed = lists.iter().flat_map(|(key, values)| values.iter().map(move |value| (*key, value)));
        for (key, text) in texts.into_iter().chain(listed) {
            if text.chars().any(|c| c.is_control() && (c != '\t' || key != "setup")) {
                let advice = if key == "setup" { "; write each line as a string of its own" } else { "" };
                return Some((key, format!("it has a control character, such as the end of a line{advice}")));
            }
        }
        let invalid = |key, problem: &str| Some((key, problem.to_owned()));
        let time = match TimeLimit::parse(&self.time) {
            Ok(time) => time,
            Err(problem) => return Some(("time", problem)),
        };
        if self.warn_before_limit == 0 || self.warn_before_limit >= time.seconds() {
            return invalid("warn_before_limit", "it must be at least 1 and less than the time of a job, in seconds");
        }
        if self.requeues > 1000 {
            return invalid("requeues", "it must be at most 1000");
        }
        if self.gpus == GpuRequest::None && !self.gpu_type.is_empty() {
            return invalid("gpu_type", "no GPU is requested, because `gpus` is \"none\"");
        }
        if let Some(problem) = memory_problem(&self.memory_per_worker) {
            return invalid("memory_per_worker", problem);
        }
        if !self.cache.is_empty() && !self.cache.starts_with(['/', '$']) {
            return invalid("cache", "it must begin with `/`, or with a variable such as $TMPDIR");
        }
        for (key, path) in [("program", &self.program), ("logs", &self.logs)] {
            match path.to_str() {
                Some(text) if !text.contains(|c: char| c.is_control()) => {}
                _ => return invalid(key, "it is not UTF-8, or has a control character"),
            }
        }
        if self.extra.iter().any(|flag| !flag.starts_with('-')) {
            return invalid("extra", "each string is an option that begins with `-`, such as \"--mail-type=FAIL\"");
        }
        if let Some(problem) = reserved_option(&self.extra) {
            return Some(("extra", problem));
        }
        self.judge.first_invalid_value()
    }
}

impl JudgeWorkers {
    fn first_invalid_value(&self) -> Option<(&'static str, String)> {
        if self.count > 100_000 {
            return Some(("judge.count", "it must be at most 100000".into()));
        }
        if self.array_limit == 0 {
            return Some(("judge.array_limit", "it must be at least 1".into()));
        }
        let number = self.idle.trim_end_matches(['s', 'm', 'h']);
        let is_duration = number.len() + 1 == self.idle.len() && number.parse::<u32>().is_ok_and(|n| n > 0);
        (!is_duration).then(|| ("judge.idle", "it must be a time such as 90s, 10m or 1h".into()))
    }
}

/// Returns the places where a profile is looked for if none is named.
fn default_places(pipeline_file: &Path) -> Vec<PathBuf> {
    let beside = pipeline_file.parent().unwrap_or(Path::new("")).join(FILE_NAME);
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    std::iter::once(beside).chain(config.map(|folder| folder.join("visplay").join(FILE_NAME))).collect()
}

/// Returns why a text is not an amount of memory in Slurm's notation.
fn memory_problem(text: &str) -> Option<&'static str> {
    let number = text.strip_suffix(['K', 'M', 'G', 'T']).unwrap_or(text);
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (!text.is_empty() && !is_number).then_some("it must be a whole number with K, M, G or T, such as 120G")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ClusterProfile, PipelineError> {
        ClusterProfile::parse(Path::new("c.toml"), text)
    }

    fn error(text: &str) -> String {
        parse(&format!("[cluster]\n{text}\n")).expect_err("must not parse").to_string()
    }

    #[test]
    fn the_example_lists_every_key_with_its_default() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cluster.toml");
        let text = std::fs::read_to_string(&file).expect("the example");
        let example = ClusterProfile::parse(&file, &text).expect("usable");
        assert_eq!(example, ClusterProfile::default());
        let all = toml::Table::try_from(ClusterProfile::default()).expect("a table");
        let written: toml::Table = toml::from_str(&text).expect("TOML");
        let keys = |table: &toml::Table| table.keys().cloned().collect::<Vec<_>>();
        let written = written["cluster"].as_table().expect("a table");
        assert_eq!(keys(written), keys(&all));
        assert_eq!(
            keys(written["judge"].as_table().expect("a table")),
            keys(all["judge"].as_table().expect("a table"))
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_file_line_and_key() {
        assert_eq!(error("partitoin = \"gpu\""), "c.toml:2: unknown key `partitoin`; did you mean `partition`?");
        assert_eq!(error("\n[cluster.judge]\ncuont = 3"), "c.toml:4: unknown key `cuont`; did you mean `count`?");
        assert!(error("gpus = \"two\"").starts_with("c.toml:2: `gpus`: unknown variant `two`"));
        assert!(error("scheduler = \"pbs\"").contains("expected `slurm`"));
        assert!(parse("").expect_err("no table").to_string().contains("missing field `cluster`"));
    }

    #[test]
    fn an_invalid_value_is_refused_with_its_line_and_key() {
        for (text, expected) in [
            ("time = \"soon\"", "c.toml:2: `cluster.time`: `soon` is not a time"),
            ("time = \"5\"\nwarn_before_limit = 300", "c.toml:3: `cluster.warn_before_limit`: it must be at least 1"),
            ("setup = [\"a\\nb\"]", "c.toml:2: `cluster.setup`: it has a control character"),
            ("partition = \"a\\nb\"", "c.toml:2: `cluster.partition`: it has a control character"),
            ("memory_per_worker = \"12 GB\"", "c.toml:2: `cluster.memory_per_worker`: it must be a whole number"),
            ("cache = \"tmp\"", "c.toml:2: `cluster.cache`: it must begin with"),
            ("gpus = \"none\"\ngpu_type = \"h100\"", "c.toml:3: `cluster.gpu_type`: no GPU is requested"),
            ("extra = [\"mail\"]", "c.toml:2: `cluster.extra`: each string is an option"),
            ("extra = [\"--array=0-3\"]", "c.toml:2: `cluster.extra`: --array is set by visplay itself"),
            (
                "extra = [\"--mail-type=FAIL --time=5\"]",
                "c.toml:2: `cluster.extra`: --time is set by visplay itself; use",
            ),
            ("judge.idle = \"soon\"", "c.toml:2: `cluster.judge.idle`: it must be a time such as"),
            ("judge.array_limit = 0", "c.toml:2: `cluster.judge.array_limit`: it must be at least 1"),
        ] {
            let e = error(text);
            assert!(e.starts_with(expected), "{e}");
        }
    }

    #[test]
    fn a_profile_is_found_beside_the_pipeline_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pipeline = folder.path().join("p.toml");
        let file = folder.path().join(FILE_NAME);
        std::fs::write(&file, "[cluster]\npartition = \"gpu\"\n").expect("a file");
        let (found, profile) = ClusterProfile::find(None, &pipeline).expect("a profile");
        assert_eq!((found, profile.partition.as_str()), (file, "gpu"));
        let missing = folder.path().join("other.toml");
        let e = ClusterProfile::find(Some(&missing), &pipeline).expect_err("no such file").to_string();
        assert!(e.contains("other.toml: cannot be read"), "{e}");
    }
}
