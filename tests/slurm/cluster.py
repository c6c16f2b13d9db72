"""A Slurm cluster on this machine, and stores whose rounds run on it, for the tests of suite.py."""
import contextlib
import ctypes
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLUMNS = "JobArrayID:100|,State:32|,Reason:200|,RestartCnt:8|,NodeList:100|"
# States of jobs that have ended and will not come back.
OVER = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"}


class Failure(Exception):
    """What a test found to be wrong."""


def check(condition, problem):
    if not condition:
        raise Failure(problem)


def wait(what, condition, seconds=120):
    """Waits until the condition holds, and returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(0.2)


@contextlib.contextmanager
def stopped_main_thread(pid):
    """Stops the main thread of a process, while its other threads go on, as if it were in a long computation.

    Yields a function that says whether the process has ended; its parent learns so only when that was asked.
    """
    seize, interrupt, detach, every_thread = 0x4206, 0x4207, 17, 0x40000000
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    ptrace.restype = ctypes.c_long
    check(ptrace(seize, pid, None, None) == 0, f"cannot trace process {pid}: error {ctypes.get_errno()}")
    ptrace(interrupt, pid, None, None)

    def has_ended():
        found, status = os.waitpid(pid, os.WNOHANG | every_thread)
        return found == pid and not os.WIFSTOPPED(status)

    try:
        yield has_ended
    finally:
        ptrace(detach, pid, None, None)


class Cluster:
    """The cluster of scripts/slurm-up in a folder."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command, ok=True, timeout=120):
        output = subprocess.run(
            [str(word) for word in command], env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        check(not ok or output.returncode == 0, f"{command}: exit code {output.returncode}: {output.stderr}")
        return output

    def up(self):
        self.run(ROOT / "scripts/slurm-up", self.folder, timeout=300)

    def down(self):
        self.run(ROOT / "scripts/slurm-down", self.folder)

    def queue(self):
        """Jobs by id: state, reason, restarts, nodes."""
        lines = self.run("squeue", "--noheader", "--states=all", "--array", "-O", COLUMNS).stdout.splitlines()
        jobs = {}
        for line in lines:
            fields = [field.strip() for field in line.split("|")]
            if len(fields) > 4:
                jobs[fields[0]] = dict(zip(["state", "reason", "restarts", "nodes"], fields[1:]))
        return jobs

    def state(self, job):
        return self.queue().get(job, {}).get("state", "")

    def exit_code(self, job):
        return int(re.search(r"ExitCode=(\d+):", self.run("scontrol", "show", "job", job, "-o").stdout)[1])

    def restarts(self, job):
        return int(self.queue().get(job, {}).get("restarts") or 0)

    def all_over(self):
        return all(job["state"] in OVER for job in self.queue().values())

    def submitted(self):
        """Ids of all jobs and arrays that Slurm knows."""
        return {job.split("_")[0] for job in self.queue()}

    def processes(self, job=None, node=None):
        """Processes of a job, or of the jobs on a node, without Slurm's own."""
        found = []
        for environment in pathlib.Path("/proc").glob("[0-9]*/environ"):
            try:
                pairs = environment.read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            if values.get("SLURM_CONF") != self.environment["SLURM_CONF"] or "SLURM_JOB_ID" not in values:
                continue
            task = values.get("SLURM_ARRAY_TASK_ID")
            name = f"{values.get('SLURM_ARRAY_JOB_ID')}_{task}" if task else values["SLURM_JOB_ID"]
            if (job is None or name == job) and (node is None or values.get("SLURMD_NODENAME") == node):
                found.append(int(environment.parent.name))
        return found

    def steps_of(self, node):
        """Slurm's own processes for the jobs on a node."""
        found = []
        service = int((self.folder / "run" / node).read_text())
        jobs = set(self.processes(node=node))
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                text = stat.read_text()
            except OSError:
                continue
            parent = int(text.rsplit(")", 1)[1].split()[1])
            if "(slurmstepd)" in text and any(parent_of(pid) == int(stat.parent.name) for pid in jobs):
                found.append(int(stat.parent.name))
            elif "(slurmstepd)" in text and parent == service:
                found.append(int(stat.parent.name))
        return found

    def kill_service(self, node):
        os.kill(int((self.folder / "run" / node).read_text()), signal.SIGKILL)

    def kill_node(self, node):
        """Kills a node whole: its service and all processes of its jobs."""
        own = self.steps_of(node)
        self.kill_service(node)
        for pid in own + self.processes(node=node):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def start_node(self, node):
        self.run(ROOT / "scripts/slurm-node", self.folder, node)
        ready = lambda: "idle" in self.run("sinfo", "--noheader", "--nodes", node, "--format=%T").stdout or "mixed" in self.run(
            "sinfo", "--noheader", "--nodes", node, "--format=%T"
        ).stdout
        wait(f"{node} is back", ready, 60)


def parent_of(pid):
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


class Round:
    """A store with a round, which `visplay submit` runs on the cluster."""

    def __init__(self, cluster, executable, folder, pipeline=None, **profile):
        self.cluster, self.program, self.folder = cluster, executable, pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        self.store = self.folder / "the store"
        self.pipeline = pipeline or ROOT / "tests/slurm/round.toml"
        self.profile = self.folder / "cluster.toml"
        self.ids = {}
        self.write_profile(**profile)

    def write_profile(self, workers=3, **keys):
        # Two cores are shared by all processes of this test.
        keys = {
            "gpus": "none",
            "cpus_per_worker": 1,
            "memory_per_worker": "100M",
            "time": "10",
            "warn_before_limit": 60,
            "program": str(self.program),
            "setup": ["export RAYON_NUM_THREADS=1"],
        } | keys
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        judge = ["[cluster.judge]", f"count = {workers}", 'idle = "15s"']
        self.profile.write_text("\n".join(["[cluster]", *lines, *judge, ""]))

    def visplay(self, command, *arguments, ok=True, program=None, environment=None):
        words = [program or self.program, command, *arguments, "--store", self.store]
        words = [str(word) for word in words]
        environment = self.cluster.environment | {"RAYON_NUM_THREADS": "1"} | (environment or {})
        output = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
        check(not ok or output.returncode == 0, f"{words}: exit code {output.returncode}: {output.stderr}")
        return output

    def submit_words(self, *arguments):
        pipeline = ["--pipeline", self.pipeline, "--cluster", self.profile, "--store", self.store]
        return [str(word) for word in [self.program, "submit", "1", "--json", *pipeline, *arguments]]

    def submit(self, *arguments):
        """Submits the round, and returns the ids of the driver and of the first array of judges."""
        output = self.cluster.run(*self.submit_words(*arguments))
        jobs = json.loads(output.stdout)["jobs"]
        judges = [job["id"] for job in jobs if job["kind"] == "judge"]
        self.ids = {job["id"]: job["kind"].upper() for job in jobs}
        return jobs[0]["id"], judges[0] if judges else None

    def end(self, job):
        """The record of a job's last end; empty if there is none."""
        files = list(self.store.glob(f"jobs/small/round-0001/*/ended-{job}.json"))
        return json.loads(files[-1].read_text()) if files else {}

    def makers(self):
        """Ids of the jobs that made the results."""
        runs = [json.loads(file.read_text()).get("run", {}) for file in self.results()]
        return {run["job"]["id"] for run in runs if "job" in run}

    def results(self):
        return list((self.store / "results").glob("*/*.json"))

    def digest(self):
        """Digest of all results: of their actions, outputs and counts."""
        lines = []
        for file in self.results():
            result = json.loads(file.read_text())
            lines.append(json.dumps([result[key] for key in ("action", "outputs", "counts", "figures")], sort_keys=True))
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]

    def is_finished(self):
        return any((self.store / "refs/small/round-0001/round").glob("*.json"))

    def log(self, job):
        return "\n".join(file.read_text(errors="replace") for file in self.folder.glob(f"**/*-{job}.log"))

    def logs(self):
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')}" for file in sorted(self.folder.glob("**/*.log")))

    def leases(self):
        return list((self.store / "claims").glob("*.lease"))

    def lease_holders(self):
        """Ids of the processes that hold leases."""
        holders = set()
        for lease in self.leases():
            # A lease may be given back meanwhile.
            with contextlib.suppress(OSError, ValueError, KeyError):
                holders.add(json.loads(lease.read_text())["holder"]["pid"])
        return holders

    def wait_for_results(self, count):
        wait(f"{count} results", lambda: len(self.results()) >= count)

    def wait_for_end(self, seconds=600):
        """Waits until the round is finished, all jobs have ended and leases are gone."""
        wait("the end of all jobs", self.cluster.all_over, seconds)
        check(self.is_finished(), "the round is not finished")
        check(not self.leases(), f"leases are left: {self.leases()}")

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)
