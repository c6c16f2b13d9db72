#!/usr/bin/env python3
"""Tests of submitted rounds on a real Slurm cluster of two nodes on this machine: jobs that are requeued, killed,
preempted, stopped, cancelled; and ends that must not be requeued.

    tests/slurm/suite.py PROGRAM [--short] [--folder DIR] [NAME...]

Needs root and Debian (scripts/slurm-up installs Slurm). Every round must give the same results as one process alone.
With --short only the tests run that CI has time for. The outputs of `visplay status` and `visplay why` during each test
are kept in DIR/records; those that are the same each time are compared with tests/slurm/records (VISPLAY_FREEZE=1 writes
them).
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from cluster import ROOT, Cluster, Failure, Round, check, stopped_main_thread, wait

TESTS = []
VERIFIED = "checked: no problems"
SHORT = {"array", "requeued_task", "two_submits", "gate", "refusals"}


def test(function):
    TESTS.append(function)
    return function


class Suite:
    def __init__(self, program, folder):
        self.program, self.folder = program, pathlib.Path(folder)
        self.cluster = Cluster(self.folder / "slurm")
        self.records = self.folder / "records"
        self.records.mkdir(exist_ok=True)
        self.name, self.reference = "", ""

    def round(self, **arguments):
        return Round(self.cluster, self.program, self.folder / f"{self.name}-{time.time_ns()}", **arguments)

    def record(self, round_, moment):
        """Keeps what `status` and `why` print at this moment, to be read and compared."""
        text = ""
        for words in (["status"], ["why", "round", "1", "--evolution", "small"]):
            output = round_.visplay(*words, ok=False)
            text += f"$ visplay {' '.join(words)} (exit code {output.returncode})\n{output.stdout}{output.stderr}\n"
        (self.records / f"{self.name}-{moment}.txt").write_text(text)
        return text

    def compare_record(self, round_, moment, of_judges=True):
        """Records a moment at which nothing runs, and compares the words about the round with frozen ones; without those
        of judges if they may or may not have started."""
        text = self.record(round_, moment).replace(str(round_.folder), "FOLDER")
        lines = [line for line in text.splitlines() if not re.match(r"ref |small/", line)]
        words = "\n".join(re.sub(" +", " ", line) for line in lines) + "\n"
        for job, kind in round_.ids.items():
            words = re.sub(rf"(?m)(^ ?|job |-){job}(?=[ _.\[])", rf"\g<1>{kind}", words)
        if not of_judges:
            words = "".join(line for line in words.splitlines(keepends=True) if "JUDGE" not in line)
        words = re.sub(r"\bn[12]\b", "NODE", re.sub(r"\b\d\d:\d\d\b", "TIME", words)).replace(str(self.folder), "FOLDER")
        frozen = ROOT / "tests/slurm/records" / f"{self.name}-{moment}.txt"
        if "VISPLAY_FREEZE" in os.environ:
            frozen.parent.mkdir(exist_ok=True)
            frozen.write_text(words)
        check(frozen.read_text() == words, f"not as in {frozen}:\n{words}")

    def finish(self, round_):
        """Waits for the end of a round, which must have the results of one process alone."""
        round_.wait_for_end()
        digest = round_.digest()
        check(digest == self.reference, f"digest {digest}, not {self.reference}")
        report = round_.visplay("verify", "--full")
        check(report.returncode == 0 and VERIFIED in report.stdout, report.stdout)
        self.record(round_, "end")

    def make_reference(self):
        self.name = "reference"
        alone = self.round()
        alone.visplay("evolve-round", "1", "--pipeline", alone.pipeline)
        self.reference = alone.digest()
        print(f"reference: {len(alone.results())} results, digest {self.reference}")


@test
def array(suite):
    """A driver and three judge workers."""
    round_ = suite.round()
    driver, judge = round_.submit()
    round_.wait_for_results(20)
    suite.record(round_, "running")
    suite.finish(round_)
    judges = {f"{judge}_{task}" for task in range(3)} & round_.makers()
    check(driver in round_.makers() and judges, f"no judge helped: {round_.makers()}")
    print(f"    judges that made results: {sorted(judges)}")
    again = suite.cluster.run(*round_.submit_words())
    check('"finished":true' in again.stdout, f"a finished round is submitted again: {again.stdout}")
    check(suite.cluster.all_over(), "jobs were submitted for a finished round")


@test
def requeued_task(suite):
    """A judge worker is requeued by hand."""
    round_ = suite.round()
    _, judge = round_.submit()
    task = f"{judge}_1"
    wait("a running task", lambda: suite.cluster.state(task) == "RUNNING")
    round_.wait_for_results(10)
    suite.cluster.run("scontrol", "requeue", task)
    waits = lambda: suite.cluster.queue().get(task, {}).get("reason") == "BeginTime"
    wait("the task in the queue", waits)
    text = suite.record(round_, "requeued")
    check(re.search(rf"{task} .*queued: back at \d\d:\d\d", text), f"status does not say when {task} is back:\n{text}")
    suite.finish(round_)


@test
def requeued_driver(suite):
    """The job that runs the round is requeued by hand."""
    round_ = suite.round()
    driver, _ = round_.submit()
    round_.wait_for_results(20)
    suite.cluster.run("scontrol", "requeue", driver)
    suite.finish(round_)
    check(suite.cluster.restarts(driver) == 1, "the driver was not requeued")


@test
def node_dies(suite):
    """A node dies whole, with the processes of its jobs."""
    round_ = suite.round()
    driver, judge = round_.submit()
    round_.wait_for_results(20)
    node = suite.cluster.queue()[f"{judge}_0"]["nodes"]
    victims = suite.cluster.processes(node=node)
    check(victims, f"no process runs on {node}")
    suite.cluster.kill_node(node)
    try:
        wait("the node is down", lambda: "down" in suite.cluster.run("sinfo", "-h", "-n", node, "--format=%T").stdout, 60)
        suite.record(round_, "node-down")
    finally:
        suite.cluster.start_node(node)
    suite.finish(round_)


@test
def service_dies(suite):
    """The service of a node is killed and its jobs live on."""
    round_ = suite.round()
    driver, judge = round_.submit()
    round_.wait_for_results(10)
    node = suite.cluster.queue()[driver]["nodes"]
    suite.cluster.kill_service(node)
    try:
        wait("the node is down", lambda: "down" in suite.cluster.run("sinfo", "-h", "-n", node, "--format=%T").stdout, 60)
        suite.record(round_, "service-down")
    finally:
        suite.cluster.start_node(node)
    suite.finish(round_)


@test
def preempted(suite):
    """Jobs are preempted by a job of a partition with a higher priority."""
    round_ = suite.round()
    driver, _ = round_.submit()
    round_.wait_for_results(20)
    node = suite.cluster.queue()[driver]["nodes"]
    options = ["--partition=urgent", "--cpus-per-task=4", f"--nodelist={node}", "--output=/dev/null", "--wrap=sleep 5"]
    suite.cluster.run("sbatch", *options)
    wait("the preemption", lambda: suite.cluster.restarts(driver) == 1)
    suite.record(round_, "preempted")
    suite.finish(round_)


@test
def cancelled(suite):
    """The round is cancelled, submitted again, and finished."""
    round_ = suite.round()
    round_.submit()
    round_.wait_for_results(20)
    output = round_.visplay("cancel")
    check("cancelled the jobs of small" in output.stdout, output.stdout)
    check(suite.cluster.all_over(), "jobs are left after the cancellation")
    check(not round_.is_finished(), "the round finished before it was cancelled")
    wait("leases are given back", lambda: not round_.leases(), 10)
    suite.record(round_, "cancelled")
    again = round_.visplay("cancel")
    check("no job" in again.stdout, again.stdout)
    round_.submit()
    suite.finish(round_)


@test
def time_limit(suite):
    """The jobs reach their limit of a minute, and come back by themselves."""
    round_ = suite.round(time="1", warn_before_limit=50, workers=1)
    driver, _ = round_.submit()
    wait("a return into the queue", lambda: suite.cluster.restarts(driver) >= 1, 120)
    suite.record(round_, "requeued")
    suite.finish(round_)
    print(f"    requeues of the driver: {suite.cluster.restarts(driver)}")


@test
def limit_in_long_work(suite):
    """At its time limit, the driver is in work that looks at no request, as an update of a large model is."""
    round_ = suite.round(time="1", warn_before_limit=45, workers=0)
    driver, _ = round_.submit()
    round_.wait_for_results(5)
    [pid] = suite.cluster.processes(job=driver)
    with stopped_main_thread(pid) as has_ended:
        wait("the end of the process", has_ended, 90)
    end = round_.end(driver)
    check(end.get("is_requeued") and end["code"] == 75, f"no requeue is recorded: {end}\n{round_.logs()}")
    check(not round_.leases(), f"leases are left: {round_.leases()}")
    wait("a requeue", lambda: suite.cluster.restarts(driver) >= 1, 60)
    suite.finish(round_)


@test
def drained(suite):
    """Workers of jobs are asked to end: their jobs do not come back."""
    round_ = suite.round(workers=1)
    driver, judge = round_.submit()
    wait("two workers", lambda: len(list((round_.store / "workers").glob("*.json"))) == 2)
    round_.visplay("drain", "--all")
    wait("the end of all jobs", suite.cluster.all_over, 60)
    for job in (driver, f"{judge}_0"):
        check(suite.cluster.restarts(job) == 0, f"{job} was requeued")
        check(round_.end(job).get("code") == 75, f"{job}: {round_.end(job)}")
    suite.compare_record(round_, "drained")
    round_.submit()
    suite.finish(round_)


@test
def cancelled_at_limit(suite):
    """A job that drains before its time limit is cancelled, by `visplay cancel` and by scancel: it does not come back."""
    for command in ("visplay cancel", "scancel"):
        round_ = suite.round(time="4", warn_before_limit=215, workers=0)
        driver, _ = round_.submit()
        round_.wait_for_results(3)
        [pid] = suite.cluster.processes(job=driver)
        with stopped_main_thread(pid) as has_ended:
            wait("a drain", lambda: "draining" in round_.log(driver), 90)
            words = [suite.program, "cancel", "--store", round_.store] if command == "visplay cancel" else ["scancel", driver]
            ends = subprocess.Popen([str(word) for word in words], env=suite.cluster.environment)
            wait("the end of the process", has_ended, 30)
        check(ends.wait(timeout=70) == 0, f"{command} failed")
        wait("the end of the job", suite.cluster.all_over, 60)
        end = round_.end(driver)
        check(end.get("code") == 130 and not end["is_requeued"], f"{command}: {end}")
        check(suite.cluster.state(driver) == "CANCELLED", f"{command}: {suite.cluster.state(driver)}")
        print(f"    {command}: {end['message']}")


@test
def watched(suite):
    """`status --watch` lasts from the submission to the end of the jobs, and prints JSON only if asked to."""
    round_ = suite.round(workers=1)
    round_.submit("--", "--begin=now+4")
    output = round_.visplay("status", "--watch", "2", "--json")
    looks = [json.loads(line) for line in output.stdout.splitlines()]
    check(looks[0]["under_way"] == [] and looks[0]["jobs"]["jobs"], f"no job is awaited: {looks[0]}")
    check(any(look["under_way"] for look in looks), "the round was not seen")
    check(round_.is_finished() and looks[-1]["under_way"] == [], f"it ended too early: {looks[-1]}")
    suite.finish(round_)


@test
def requeue_limit(suite):
    """A job is requeued as often as the profile allows, and the record says why it ended."""
    round_ = suite.round(time="1", warn_before_limit=55, workers=0, requeues=1)
    driver, _ = round_.submit()
    wait("the end of the driver", suite.cluster.all_over, 400)
    check(not round_.is_finished(), "the round finished before the limit; give it less time")
    check(suite.cluster.restarts(driver) == 1, "the driver was not requeued once")
    ends = [file.read_text() for file in round_.store.glob("jobs/small/round-0001/*/ended-*.json")]
    check(any("as often as `requeues` allows" in text for text in ends), f"no record says why: {ends}")
    text = suite.record(round_, "limit")
    check("1 of 1" in text and text.count("was requeued as often as `requeues` allows (1)") == 2, text)
    round_.write_profile()
    round_.submit()
    suite.finish(round_)


@test
def worker_hangs(suite):
    """A judge worker is stopped: others take its shard after a minute."""
    round_ = suite.round()
    _, judge = round_.submit()
    wait("a running worker", lambda: suite.cluster.processes(job=f"{judge}_0"))
    [pid] = suite.cluster.processes(job=f"{judge}_0")

    def stop_with_shard():
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.1)
        if pid in round_.lease_holders():
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    wait("a shard of the worker", stop_with_shard)
    try:
        time.sleep(5)
        suite.record(round_, "stopped")
        check(pid in round_.lease_holders(), "the stopped worker's lease is gone too early")
        wait("the round", round_.is_finished, 600)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    suite.finish(round_)


@test
def two_submits(suite):
    """Two submissions at once: one wins, the other names its jobs."""
    round_ = suite.round(workers=1)
    environment = suite.cluster.environment
    words, before = round_.submit_words(), suite.cluster.submitted()
    both = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    outputs = [process.communicate(timeout=200) for process in both]
    codes = sorted(process.returncode for process in both)
    check(codes == [0, 5], f"exit codes {codes}: {outputs}")
    refusal = next(output[1] for output, process in zip(outputs, both) if process.returncode == 5)
    jobs = re.findall(r'"id":"(\d+)"', next(output[0] for output, process in zip(outputs, both) if process.returncode == 0))
    check(len(jobs) == 2 and all(job in refusal for job in jobs), f"{refusal!r} does not name {jobs}")
    print(f"    {refusal.splitlines()[-2] if len(refusal.splitlines()) > 1 else refusal}")
    added = suite.cluster.submitted() - before
    check(added == set(jobs), f"jobs {added} were submitted, not {jobs}")
    suite.finish(round_)


@test
def cron_beside_submit(suite):
    """`evolve-round --alone` beside a submission, and a submission beside `evolve-round`."""
    round_ = suite.round(workers=0)
    round_.submit()
    round_.wait_for_results(10)
    alone = round_.visplay("evolve-round", "next", "--alone", "--pipeline", round_.pipeline, ok=False)
    check(alone.returncode == 5, f"exit code {alone.returncode}: {alone.stderr}")
    suite.finish(round_)
    other = suite.round(workers=0)
    words = [suite.program, "evolve-round", "1", "--pipeline", other.pipeline, "--store", other.store]
    by_hand = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        other.wait_for_results(10)
        refused = suite.cluster.run(*other.submit_words(), ok=False)
        check(refused.returncode == 5 and str(by_hand.pid) in refused.stderr, f"{refused.returncode}: {refused.stderr}")
        print(f"    {refused.stderr.splitlines()[-2]}")
    finally:
        by_hand.terminate()
        by_hand.wait()


def never_requeued(suite, round_, driver, code, text):
    """Checks that a driver ended with this code and one message, was not requeued, and that its dependents end."""
    dependent = suite.cluster.run(
        "sbatch", "--parsable", f"--dependency=afterok:{driver}", "--kill-on-invalid-dep=yes", "--output=/dev/null", "--wrap=true"
    ).stdout.strip()
    wait("the end of all jobs", suite.cluster.all_over, 120)
    job = suite.cluster.queue()[driver]
    check(job["restarts"] == "0", f"the driver was requeued: {job}")
    actual = suite.cluster.exit_code(driver)
    check(actual == code, f"exit code {actual}, not {code}:\n{round_.logs()}")
    log = round_.log(driver)
    messages = [line for line in log.splitlines() if "visplay: " in line]
    check(len(messages) == 1 and text in messages[0], f"not one message with {text!r}:\n{log}")
    print(f"    {messages[0]}")
    check(suite.cluster.state(dependent) == "CANCELLED", f"the dependent is {suite.cluster.state(dependent)}")
    check(not round_.leases(), f"leases are left: {round_.leases()}")


@test
def gate(suite):
    """A gate stops the round."""
    pipeline = suite.folder / "gate.toml"
    text = (ROOT / "tests/slurm/round.toml").read_text().replace("../../", f"{ROOT}/")
    pipeline.write_text(text.replace("[gates]\n", "[gates]\nmean_confidence = { stop = 0.01 }\n").replace("steps = 6", "steps = 1"))
    round_ = suite.round(pipeline=pipeline)
    driver, _ = round_.submit("--", "--begin=now+4")
    never_requeued(suite, round_, driver, 3, "gates.mean_confidence")
    suite.compare_record(round_, "end", of_judges=False)


@test
def wrong_input(suite):
    """The base model is gone when the job starts."""
    model = suite.folder / "model"
    shutil.copytree(ROOT / "data/nano", model, dirs_exist_ok=True)
    pipeline = suite.folder / "model.toml"
    text = (ROOT / "tests/slurm/round.toml").read_text().replace("../../data/nano", str(model)).replace("../../", f"{ROOT}/")
    pipeline.write_text(text)
    round_ = suite.round(pipeline=pipeline)
    driver, _ = round_.submit("--", "--begin=now+4")
    shutil.rmtree(model)
    never_requeued(suite, round_, driver, 2, "model.base")
    suite.compare_record(round_, "end", of_judges=False)


@contextlib.contextmanager
def small_disk(suite, size):
    """A folder on a file system of its own."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=suite.folder))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@test
def full_disk(suite):
    """The store's disk is full."""
    with small_disk(suite, "4m") as folder:
        logs = suite.folder / "logs-full"
        logs.mkdir(exist_ok=True)
        round_ = suite.round(logs=str(logs))
        round_.store = folder / "store"
        driver, _ = round_.submit("--", "--begin=now+4")
        round_.log = lambda job: "\n".join(file.read_text() for file in logs.glob(f"*-{job}.log"))
        never_requeued(suite, round_, driver, 1, "No space left")


@test
def read_only_store(suite):
    """The store becomes read-only before the job starts."""
    with small_disk(suite, "100m") as folder:
        logs = suite.folder / "logs-read-only"
        logs.mkdir(exist_ok=True)
        round_ = suite.round(logs=str(logs))
        round_.store = folder / "store"
        driver, _ = round_.submit("--", "--begin=now+4")
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        round_.log = lambda job: "\n".join(file.read_text() for file in logs.glob(f"*-{job}.log"))
        never_requeued(suite, round_, driver, 1, "Read-only file system")


@test
def refusals(suite):
    """Each refusal names the key that caused it, and nothing stays in the queue."""
    before = len(suite.cluster.queue())
    for keys, key in [
        ({"partition": "nope"}, "cluster.partition"),
        ({"memory_per_worker": "9000G"}, "memory_per_worker"),
        ({"cpus_per_worker": 640}, "cpus_per_worker"),
        ({"gpus": "gres", "gpu_type": "x9"}, "cluster.gpu"),
        ({"constraint": "nope"}, "cluster.constraint"),
        ({"exclude": ["nope"]}, "cluster.exclude"),
        ({"reservation": "nope"}, "cluster.reservation"),
        ({"time": "9-00"}, "cluster.time"),
        ({"extra": ["--nope"]}, "cluster.extra"),
        ({"program": "/bin/true"}, "cluster.program"),
        ({"logs": "/proc/nope"}, "cluster.logs"),
    ]:
        round_ = suite.round(**keys)
        output = suite.cluster.run(*round_.submit_words(), ok=False)
        check(output.returncode == 2 and key in output.stderr, f"{keys}: {output.returncode}: {output.stderr}")
        check(not list(round_.store.glob("jobs/**/*.json")), f"{keys}: a record is left")
    check(len(suite.cluster.queue()) == before, "a job is in the queue")


def fake_commands(suite, **scripts):
    """A folder with commands that take the place of Slurm's."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=suite.folder))
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@test
def killed_submitter(suite):
    """A submission that is killed before, between or after calls of sbatch does not block the next one, and loses no job."""
    real = shutil.which("sbatch")
    for moment, script in [
        ("before", f'case "$*" in *test-only*) exec {real} "$@";; esac; kill -9 $PPID'),
        ("after", f'case "$*" in *test-only*) exec {real} "$@";; esac; {real} "$@"; kill -9 $PPID'),
        ("after the second", f'case "$*" in *dependency*) {real} "$@"; kill -9 $PPID;; *) exec {real} "$@";; esac'),
    ]:
        round_ = suite.round(workers=1 if moment == "after the second" else 0)
        before = suite.cluster.submitted()
        environment = suite.cluster.environment | fake_commands(suite, sbatch=script)
        killed = subprocess.run(round_.submit_words(), env=environment, capture_output=True, text=True)
        check(killed.returncode == -signal.SIGKILL, f"{moment}: {killed.returncode}: {killed.stderr}")
        again = suite.cluster.run(*round_.submit_words(), ok=False)
        expected = 0 if moment == "before" else 5
        check(again.returncode == expected, f"{moment}: exit code {again.returncode}: {again.stderr}")
        [jobs] = [json.loads(file.read_text()) for file in round_.store.glob("jobs/small/round-0001/*/jobs.json")]
        added = suite.cluster.submitted() - before
        check({job["id"] for job in jobs} == added, f"{moment}: {jobs} are recorded, {added} submitted")
        suite.finish(round_)


@test
def hung_controller(suite):
    """Commands of Slurm that never answer end with a message."""
    round_ = suite.round(workers=0)
    round_.submit()
    hung = fake_commands(suite, squeue="exec sleep 1000", scancel="exec sleep 1000")
    began = time.monotonic()
    output = round_.visplay("cancel", ok=False, environment=hung)
    check(output.returncode == 1 and "no answer within" in output.stderr, f"{output.returncode}: {output.stderr}")
    check(time.monotonic() - began < 60, "it took too long")
    suite.finish(round_)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--folder", help="keep everything here")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_intermixed_args()
    folder = arguments.folder or tempfile.mkdtemp(prefix="visplay-slurm-")
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    # munged runs as a user of its own.
    pathlib.Path(folder).chmod(0o755)
    suite = Suite(arguments.program.resolve(), folder)
    by_name = {t.__name__: t for t in TESTS}
    chosen = [by_name[name] for name in arguments.names] or TESTS
    chosen = [t for t in chosen if not arguments.short or t.__name__ in SHORT]
    failed = []
    suite.cluster.up()
    try:
        suite.make_reference()
        for one in chosen:
            suite.name, began = one.__name__, time.monotonic()
            try:
                one(suite)
                outcome = "passed"
            except (Failure, OSError, ValueError, LookupError, subprocess.SubprocessError) as problem:
                outcome = f"FAILED: {problem!r}" if not isinstance(problem, Failure) else f"FAILED: {problem}"
                failed.append(one.__name__)
            print(f"{one.__name__}: {outcome} ({time.monotonic() - began:.0f} s)", flush=True)
            # What a failed test left must not disturb the next one.
            suite.cluster.run("scancel", "--user=root", ok=False)
            wait("an empty queue", suite.cluster.all_over, 60)
    finally:
        suite.cluster.down()
    print(f"slurm: {len(chosen) - len(failed)} of {len(chosen)} tests passed; records: {suite.records}")
    if not arguments.folder and not failed:
        for round_ in pathlib.Path(folder).glob("*-*"):
            shutil.rmtree(round_, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
