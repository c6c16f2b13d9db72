//! The scripts of a round's jobs, as sbatch reads them.
//!
//! A script ends in `exec`, so that the program itself is the batch process: signals of Slurm reach
//! it and not a shell, which would pass none of them on.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::profile::{ClusterProfile, GpuRequest};
use super::quote::{for_bash, for_bash_with_variable, for_log_name, for_sbatch};
use super::time_limit::TimeLimit;
use crate::batch_job::JOB_END_VARIABLE;

/// Environment variable that names the submission of a job: `nano/round-0003/submit-000001`.
pub const SUBMISSION_VARIABLE: &str = "VISPLAY_SUBMISSION";

/// The work of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// The round itself: `visplay evolve-round`.
    Driver,
    /// An array of judge workers: `visplay work --role judge`.
    Judge(WorkerArray),
}

/// An array of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerArray {
    /// Number of workers.
    pub count: u32,
    /// Number of them that run at once; 0 for all.
    pub at_most_at_once: u32,
}

impl JobKind {
    /// Returns the kind's name, which is also the end of the job's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Judge(_) => "judge",
        }
    }

    /// Returns the name of the file in the folder of logs, with the symbols that Slurm replaces.
    pub fn log_pattern(&self) -> &'static str {
        match self {
            Self::Driver => "%x-%j.log",
            Self::Judge(_) => "%x-%A_%a.log",
        }
    }
}

/// The settings of a submission's scripts. All paths are absolute.
#[derive(Debug, Clone)]
pub struct ScriptSettings<'a> {
    /// The profile.
    pub profile: &'a ClusterProfile,
    /// Time limit of the jobs.
    pub time: TimeLimit,
    /// The evolution.
    pub evolution: &'a str,
    /// The round.
    pub round: u32,
    /// The submission, as in [`SUBMISSION_VARIABLE`].
    pub submission: &'a str,
    /// Word in the jobs' comments by which a submission's jobs are found.
    pub token: &'a str,
    /// The store's folder.
    pub store: &'a str,
    /// The program.
    pub program: &'a str,
    /// The copy of the pipeline file.
    pub pipeline: &'a str,
    /// The folder of logs.
    pub logs: &'a str,
    /// Further options of sbatch from the command line.
    pub flags: &'a [String],
}

/// Returns the script of a job.
pub fn write_script(settings: &ScriptSettings<'_>, kind: &JobKind) -> String {
    let mut script = "#!/bin/bash\n".to_owned();
    for option in options(settings, kind) {
        let _ = writeln!(script, "#SBATCH {option}");
    }
    script.push_str("set -e\n");
    let _ = writeln!(script, "export {JOB_END_VARIABLE}=$(( $(date +%s) + {} ))", settings.time.seconds());
    // Steps that a program starts with srun would get no environment after --export=NONE.
    script.push_str("unset SLURM_EXPORT_ENV\n");
    let _ = writeln!(script, "export {SUBMISSION_VARIABLE}={}", for_bash(settings.submission));
    for line in &settings.profile.setup {
        let _ = writeln!(script, "{line}");
    }
    let _ = writeln!(script, "exec {}", command(settings, kind));
    script
}

/// Returns the command line that a job runs.
fn command(settings: &ScriptSettings<'_>, kind: &JobKind) -> String {
    let ScriptSettings { profile, time, .. } = settings;
    let mut words = vec![for_bash(settings.program)];
    match kind {
        JobKind::Driver => words.extend(["evolve-round".to_owned(), settings.round.to_string()]),
        JobKind::Judge(_) => words.extend(["work", "--role", "judge"].map(str::to_owned)),
    }
    let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    if *kind == JobKind::Driver {
        add("--pipeline", for_bash(settings.pipeline));
    }
    add("--evolution", for_bash(settings.evolution));
    add("--store", for_bash(settings.store));
    // Slurm's signal may fail to arrive; the program's own clock does not.
    add("--until", time.until(profile.warn_before_limit));
    if let JobKind::Judge(_) = kind {
        add("--idle", for_bash(&profile.judge.idle));
        if !profile.cache.is_empty() {
            add("--cache", for_bash_with_variable(&profile.cache));
            add("--cache-bytes", profile.cache_bytes.to_string());
        }
    }
    add("--requeues", profile.requeues.to_string());
    words.join(" ")
}

/// Returns the options of sbatch, one for each line. Later ones override earlier ones.
fn options(settings: &ScriptSettings<'_>, kind: &JobKind) -> Vec<String> {
    let ScriptSettings { profile, time, evolution, round, token, logs, .. } = settings;
    let array = match kind {
        JobKind::Driver => String::new(),
        JobKind::Judge(WorkerArray { count, at_most_at_once: 0 }) => format!("0-{}", count.saturating_sub(1)),
        JobKind::Judge(WorkerArray { count, at_most_at_once }) => {
            format!("0-{}%{at_most_at_once}", count.saturating_sub(1))
        }
    };
    let gpu = match profile.gpu_type.as_str() {
        "" => "1".to_owned(),
        of_type => format!("{of_type}:1"),
    };
    let cpus = match profile.cpus_per_worker {
        0 => String::new(),
        cpus => cpus.to_string(),
    };
    let values = [
        ("job-name", format!("visplay-{evolution}-r{round}-{}", kind.name())),
        ("comment", format!("visplay:{evolution}:r{round}:{token}")),
        ("array", array),
        ("output", format!("{}/{}", for_log_name(logs), kind.log_pattern())),
        ("open-mode", "append".to_owned()),
        ("partition", profile.partition.clone()),
        ("account", profile.account.clone()),
        ("qos", profile.qos.clone()),
        ("reservation", profile.reservation.clone()),
        ("constraint", profile.constraint.clone()),
        ("exclude", profile.exclude.join(",")),
        ("nodes", "1".to_owned()),
        ("ntasks", "1".to_owned()),
        ("cpus-per-task", cpus),
        ("mem", profile.memory_per_worker.clone()),
        ("gres", if profile.gpus == GpuRequest::Gres { format!("gpu:{gpu}") } else { String::new() }),
        ("gpus-per-task", if profile.gpus == GpuRequest::PerTask { gpu.clone() } else { String::new() }),
        ("time", time.to_string()),
        ("signal", format!("B:USR1@{}", profile.warn_before_limit)),
        ("kill-on-invalid-dep", "yes".to_owned()),
        ("export", "NONE".to_owned()),
    ];
    let set = values.iter().filter(|(_, value)| !value.is_empty());
    let mut options: Vec<String> = set.map(|(name, value)| format!("--{name}={}", for_sbatch(value))).collect();
    options.push("--requeue".to_owned());
    options.extend(profile.extra.iter().cloned());
    options.extend(joined_flags(settings.flags));
    options
}

/// Returns the flags of a command line, each with its value if that is an argument of its own.
fn joined_flags(arguments: &[String]) -> Vec<String> {
    let mut flags: Vec<String> = Vec::new();
    for argument in arguments {
        match flags.last_mut() {
            Some(flag) if !argument.starts_with('-') => *flag = format!("{flag} {}", for_sbatch(argument)),
            _ => match argument.split_once('=') {
                Some((name, value)) => flags.push(format!("{name}={}", for_sbatch(value))),
                None => flags.push(argument.clone()),
            },
        }
    }
    flags
}

/// Splits judge workers into arrays of at most `limit` tasks, and the number that runs at once
/// among the arrays.
///
/// # Errors
/// Fewer workers than arrays may run at once.
pub fn split_workers(count: u32, at_most_at_once: u32, limit: u32) -> Result<Vec<WorkerArray>, String> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if limit == 0 {
        return Err("job arrays are switched off on this cluster (MaxArraySize is 0)".to_owned());
    }
    let arrays = count.div_ceil(limit);
    if at_most_at_once > 0 && at_most_at_once < arrays {
        return Err(format!(
            "{count} workers are {arrays} arrays of at most {limit} tasks, so that at least {arrays} workers run at once"
        ));
    }
    let share = |total: u32, array: u32| total / arrays + u32::from(array < total % arrays);
    let array = |n| WorkerArray { count: share(count, n), at_most_at_once: share(at_most_at_once, n) };
    Ok((0..arrays).map(array).collect())
}

/// Returns the path as text, for a script.
///
/// # Errors
/// It is not UTF-8, or has a control character or, for a name of logs, a backslash.
pub fn script_path<'a>(path: &'a Path, what: &str) -> Result<&'a str, String> {
    match path.to_str() {
        Some(text) if !text.contains(|c: char| c.is_control()) => Ok(text),
        _ => Err(format!("the path of {what} is not UTF-8 or has a control character: {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_split_into_arrays() {
        let split = |count, at_once, limit| {
            let arrays = split_workers(count, at_once, limit).expect("a split");
            arrays.iter().map(|array| (array.count, array.at_most_at_once)).collect::<Vec<_>>()
        };
        assert_eq!(split(0, 0, 1000), []);
        assert_eq!(split(16, 8, 1000), [(16, 8)]);
        assert_eq!(split(1001, 0, 1001), [(1001, 0)]);
        assert_eq!(split(2500, 100, 1000), [(834, 34), (833, 33), (833, 33)]);
        assert!(split_workers(2500, 2, 1000).is_err());
        assert!(split_workers(1, 0, 0).is_err());
    }

    #[test]
    fn flags_of_the_command_line_keep_their_values() {
        let flags = ["--mail-type", "FAIL", "--wckey=a b", "-A", "lab", "--exclusive"].map(str::to_owned);
        assert_eq!(joined_flags(&flags), ["--mail-type FAIL", "--wckey=\"a b\"", "-A lab", "--exclusive"]);
    }

    fn script(profile: &ClusterProfile, kind: &JobKind) -> String {
        let flags = Vec::new();
        let settings = ScriptSettings {
            profile,
            time: TimeLimit::parse(&profile.time).expect("a time"),
            evolution: "nano",
            round: 3,
            submission: "nano/round-0003/submit-000001",
            token: "0123abcd",
            store: "/data/the store",
            program: "/sw/it's/visplay",
            pipeline: "/data/the store/jobs/nano/round-0003/submit-000001/pipeline.toml",
            logs: "/data/the store/logs 50%",
            flags: &flags,
        };
        write_script(&settings, kind)
    }

    #[test]
    fn bash_runs_the_program_with_its_arguments_in_the_place_of_the_script() {
        let profile = ClusterProfile {
            setup: vec!["export ANSWER='4 2'".into()],
            cache: "$VISPLAY_TEST/cache".into(),
            ..ClusterProfile::default()
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = folder.path().join("it's a program");
        std::fs::write(&program, "#!/bin/bash\necho \"$PPID $ANSWER $VISPLAY_SUBMISSION\"\necho $((VISPLAY_JOB_END - $(date +%s)))\nprintf '%s\\n' \"$@\"\n")
            .expect("a program");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("permissions");
        let text = script(&profile, &JobKind::Judge(WorkerArray { count: 3, at_most_at_once: 0 }));
        let text = text.replace("'/sw/it'\\''s/visplay'", &for_bash(program.to_str().expect("UTF-8")));
        let bash = std::process::Command::new("bash").args(["-c", &text]).env("VISPLAY_TEST", "/x y").output();
        let bash = bash.expect("bash");
        let output = String::from_utf8(bash.stdout).expect("UTF-8");
        let mut lines = output.lines();
        // `exec`: the parent of the program is the test, not bash.
        let expected = format!("{} 4 2 nano/round-0003/submit-000001", std::process::id());
        assert_eq!(lines.next(), Some(expected.as_str()), "{}", String::from_utf8_lossy(&bash.stderr));
        let left: u64 = lines.next().and_then(|line| line.parse().ok()).expect("the time left");
        assert!((28_700..=28_800).contains(&left), "{left}");
        let expected = [
            "work",
            "--role",
            "judge",
            "--evolution",
            "nano",
            "--store",
            "/data/the store",
            "--until",
            "7:55:00",
            "--idle",
            "10m",
            "--cache",
            "/x y/cache",
            "--cache-bytes",
            "53687091200",
            "--requeues",
            "20",
        ];
        assert_eq!(lines.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_setup_line_that_fails_ends_the_script() {
        let profile = ClusterProfile { setup: vec!["false".into()], ..ClusterProfile::default() };
        let text = script(&profile, &JobKind::Driver).replace("exec ", "echo ");
        let bash = std::process::Command::new("bash").args(["-c", &text]).output().expect("bash");
        assert!(!bash.status.success() && bash.stdout.is_empty());
    }

    /// The scripts of six profiles, frozen in files.
    #[test]
    fn scripts_are_as_frozen() {
        let base = ClusterProfile { partition: "gpu".into(), account: "lab".into(), ..ClusterProfile::default() };
        let none = ClusterProfile {
            gpus: GpuRequest::None,
            memory_per_worker: "4G".into(),
            logs: "/logs".into(),
            ..base.clone()
        };
        let extra = ClusterProfile {
            extra: vec!["--mail-type=FAIL".into(), "--wckey=\"a word\"".into()],
            setup: vec!["module load cuda/13.0".into(), "ulimit -c 0".into()],
            exclude: vec!["n17".into(), "n[20-23]".into()],
            qos: "long".into(),
            constraint: "a100|h100".into(),
            cache: "$TMPDIR/visplay".into(),
            ..base.clone()
        };
        let profiles = [
            (
                "gres",
                ClusterProfile { gpu_type: "h100".into(), memory_per_worker: "120G".into(), ..base.clone() },
                16,
                8,
            ),
            ("per-task", ClusterProfile { gpus: GpuRequest::PerTask, ..base.clone() }, 4, 0),
            ("none", none, 4, 0),
            ("no-account", ClusterProfile { account: String::new(), partition: String::new(), ..base.clone() }, 4, 0),
            ("extra-flags", extra, 4, 0),
            ("split-array", ClusterProfile { time: "2-00".into(), ..base.clone() }, 2500, 100),
            ("no-judge-workers", base, 0, 0),
        ];
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/scripts");
        for (name, profile, count, at_once) in profiles {
            assert_eq!(profile.first_invalid_value(), None, "{name}");
            let arrays = split_workers(count, at_once, 1001.min(profile.judge.array_limit)).expect("a split");
            let kinds = std::iter::once(JobKind::Driver).chain(arrays.into_iter().map(JobKind::Judge));
            let scripts: Vec<String> = kinds.map(|kind| script(&profile, &kind)).collect();
            let actual = scripts.join("\n");
            let file = folder.join(format!("{name}.txt"));
            if std::env::var_os("VISPLAY_FREEZE").is_some() {
                std::fs::write(&file, &actual).expect("a frozen file");
            }
            let frozen = std::fs::read_to_string(&file).expect("a frozen file");
            assert_eq!(actual, frozen, "{name}: compare, and set VISPLAY_FREEZE=1 to write the file");
        }
    }
}
