"""Jobs: at once, skipped, failing, stopped, on GPUs of their own, and as a SLURM job array.

A small script stands in for the program wherever it is not the training that matters.
"""

import json
import os
import signal
import stat
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from tmkt_braincog import jobs, slurm
from tmkt_braincog.errors import UserError
from tmkt_braincog.jobs import Job, JobsFailed

# Fails for --lr 9, is lost for --lr 8, runs until it is told to stop for --lr 7.
PROGRAM = """
import argparse, json, os, signal, sys, time
from pathlib import Path
from unittest.mock import Mock

parser = argparse.ArgumentParser()
for name in ("output", "seed", "lr"):
    parser.add_argument(f"--{name}")
own, _ = parser.parse_known_args()
folder = Path(own.output)
folder.mkdir(parents=True, exist_ok=True)
started = time.time()
print("one line of output")
if own.lr == "9":
    sys.exit("warning\\nerror: the loss is not finite.\\nLower --lr.")
if own.lr == "8":
    os.kill(os.getpid(), signal.SIGKILL)
if own.lr == "7":
    def save(*_):
        (folder / "saved").touch()
        sys.exit(143)
    signal.signal(signal.SIGTERM, save)
    (folder / "begun").touch()
    time.sleep(60)
time.sleep(0.3)
names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "TMKT_JOBS")
seen = {name: os.environ.get(name) for name in names} | {"from": started, "to": time.time()}
with (folder / "seen.jsonl").open("a") as file:
    file.write(json.dumps(seen) + "\\n")
(folder / "comparison.csv").write_text(
    "method,seed,protocol,top1_best,top1_last,epoch_best,train_s,peak_mib\\n"
    f"tmkt,{own.seed},clean,50,50,0,1,1\\n"
)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    monkeypatch.setattr(jobs, "PROGRAM", (sys.executable, str(file)))
    monkeypatch.setattr(jobs, "check_data", lambda jobs: None)
    monkeypatch.setattr(jobs, "PAUSE", 0.02)
    for name in ("OMP_NUM_THREADS", "TMKT_JOBS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def make(folder: Path, seed: int, *words: str) -> Job:
    return Job.from_words(f"seed {seed}", folder / f"seed-{seed}", ["--seed", str(seed), *words])


def seen(job: Job) -> list[dict]:
    return [json.loads(line) for line in (job.folder / "seen.jsonl").read_text().splitlines()]


def test_a_job_is_a_command_line_and_what_it_means(tmp_path):
    job = make(tmp_path, 3, "--mixup-ratio", "0.6")
    assert job.options.seed == [3] and job.options.mixup_ratio == 0.6
    assert job.command[:5] == [sys.executable, "-u", "-m", "tmkt_braincog", "train"]
    words = f"--seed 3 --mixup-ratio 0.6 --output {tmp_path}/seed-3 --resume"
    assert job.command[5:] == words.split()
    # what its method does not take is not for it, and the run that it makes is the one it means
    other = make(tmp_path, 3, "--mixup-ratio", "0.6", "--method", "baseline")
    assert other.options.mixup_ratio == 0.4 and "--mixup-ratio" not in other.words
    with pytest.raises(UserError, match="above 0 and below 1"):
        make(tmp_path, 3, "--mixup-ratio", "1.2")


def test_no_more_at_once_than_workers_and_the_cores_are_shared_out(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(7))
    four = [make(tmp_path, seed) for seed in range(4)]
    jobs.run(four, tmp_path, workers=2)
    (spans,) = zip(*[seen(job) for job in four], strict=True)
    assert {s["OMP_NUM_THREADS"] for s in spans} == {"3"} == {s["TMKT_JOBS"] for s in spans}
    assert {s["CUDA_VISIBLE_DEVICES"] for s in spans} == {None}
    assert max(sum(a["from"] <= b["from"] < a["to"] for a in spans) for b in spans) == 2
    assert (tmp_path / jobs.SHARED).exists()


@pytest.mark.parametrize(
    "workers, own, expected",
    [(6, None, "3"), (1, None, "6"), (2, "1", "1"), (2, "64", "3"), (6, "4,2", "3")],
)
def test_threads_of_two_jobs_on_six_cores(tmp_path, monkeypatch, workers, own, expected):
    """Workers beyond the jobs leave no core idle; a smaller OMP_NUM_THREADS of the user's holds."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(6))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if own:
        monkeypatch.setenv("OMP_NUM_THREADS", own)
    slots = jobs._environments([make(tmp_path, seed) for seed in range(2)], workers)
    assert [slot["OMP_NUM_THREADS"] for slot in slots] == [expected] * min(workers, 2)


@pytest.mark.parametrize(
    "count, visible, device, expected",
    [
        (2, None, "auto", ["0", "1", "0"]),
        (2, "5,GPU-ab", "cuda", ["5", "GPU-ab", "5"]),
        (1, "3,-1,4", "auto", ["3"] * 3),
        (0, "", "auto", [None] * 3),
        (2, None, "cuda:1", [None] * 3),  # that the user has named
    ],
)
def test_every_worker_has_its_own_gpu(tmp_path, monkeypatch, count, visible, device, expected):
    monkeypatch.setattr(jobs.torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    slots = jobs._environments([make(tmp_path, seed, "--device", device) for seed in range(3)], 3)
    assert [slot.get("CUDA_VISIBLE_DEVICES") for slot in slots] == expected


def test_finished_jobs_are_skipped_and_only_the_failed_run_again(tmp_path, stand_in, capsys):
    good, bad = make(tmp_path, 1), make(tmp_path, 2, "--lr", "9")
    lost, last = make(tmp_path, 3, "--lr", "8"), make(tmp_path, 4)
    with pytest.raises(JobsFailed) as failure:
        jobs.run([good, bad, lost, last], tmp_path)
    message = str(failure.value)
    assert message.startswith("2 of 4 jobs failed:")
    assert "seed 1" not in message and "seed 4" not in message
    assert f"seed 2 (status 1; full log: {bad.log})\n" in message
    assert "error: the loss is not finite.\n    Lower --lr." in message
    assert f"seed 3 (status -9; full log: {lost.log})" in message
    assert "one line of output" in bad.log.read_text() and "--seed 2" in bad.log.read_text()
    assert good.finished() and last.finished() and not bad.finished()
    assert not (tmp_path / jobs.SHARED).exists()

    mended = make(tmp_path, 2)
    for _ in range(2):
        jobs.run([good, mended, last], tmp_path)
        assert mended.finished() and [len(seen(job)) for job in (good, last, mended)] == [1, 1, 1]
    assert "100%" in capsys.readouterr().err


def test_a_table_of_other_methods_or_seeds_is_not_the_jobs(tmp_path):
    job = make(tmp_path, 1, "--method", "baseline", "tmkt")
    assert not job.finished()
    job.folder.mkdir()
    header = "method,seed,protocol,top1_best,top1_last,epoch_best,train_s,peak_mib\n"
    rows = "tmkt,1", "baseline,2", "baseline,1"
    for n, expected in ((1, False), (2, False), (3, True)):
        text = header + "".join(f"{row},clean,50,50,0,1,1\n" for row in rows[:n])
        (job.folder / "comparison.csv").write_text(text)
        assert job.finished() is expected


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_jobs_save_and_starts_no_other(tmp_path, stand_in, signum):
    four = [make(tmp_path, 0), *(make(tmp_path, seed, "--lr", "7") for seed in range(1, 4))]

    def stop_when_two_are_running():
        deadline = time.time() + 30
        while len(list(tmp_path.glob("*/begun"))) < 2 and time.time() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signum)

    before = signal.getsignal(signum)
    threading.Thread(target=stop_when_two_are_running).start()
    with pytest.raises(jobs.Interrupted, match=r"1 of 4 jobs are finished.*same command") as stop:
        jobs.run(four, tmp_path, workers=2)
    assert stop.value.exit_code == 128 + signum
    assert [(job.folder / "saved").exists() for job in four] == [False, True, True, False]
    assert not four[3].folder.exists() and signal.getsignal(signum) is before


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--model", "Transfer_SCN"], "seed 2: Unknown --model"),
        (["--opt", "adamx"], "seed 2: --opt"),
        (["--node-type", "LIFnode"], "Did you mean 'LIFNode'"),
    ],
)
def test_what_a_job_would_refuse_is_refused_before(tmp_path, words, expected):
    with pytest.raises(UserError, match=expected):
        jobs.check([make(tmp_path, 1), make(tmp_path, 2, *words)])
    assert not list(tmp_path.iterdir())


def test_data_that_do_not_allow_a_job_are_found_before(tmp_path):
    few = ["--step", "4", "--event-size", "28", "--batch-size", "8"]
    jobs.check_data([make(tmp_path, 1, *few, "--shots", "2")])
    with pytest.raises(UserError, match="seed 2: --shots 5000: class 0 has only"):
        jobs.check_data([make(tmp_path, 1, *few), make(tmp_path, 2, *few, "--shots", "5000")])
    with pytest.raises(UserError, match="seed 3: An epoch of 10 recordings holds no batch of 16"):
        jobs.check_data([make(tmp_path, 3, *few, "--batch-size", "16", "--shots", "1")])


SBATCH = """#!{python}
# What sbatch does with a job array, without a queue: every element at once.
import os, re, subprocess, sys
text = open(sys.argv[1]).read()
n = int(re.search(r"--array=0-(\\d+)%", text)[1]) + 1 if "--array" in text else 1
for i in range(n):
    ids = {{"SLURM_JOB_ID": str(4243 + i), "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1",
           "SLURM_NODEID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
           "SLURM_JOB_NODELIST": "here"}}
    if n > 1:
        ids |= {{"SLURM_ARRAY_JOB_ID": "4242", "SLURM_ARRAY_TASK_ID": str(i)}}
    else:
        ids |= {{"SLURM_JOB_ID": "4242"}}
    silent = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
    subprocess.Popen(["bash", sys.argv[1]], env=os.environ | ids, **silent)
print("Submitted batch job 4242")
"""
SRUN = '#!/bin/sh\nwhile [ "$1" != "{python}" ]; do shift; done\nexec "$@"\n'
SACCT = "#!/bin/sh\necho 'JobID|State|NodeList'\n"


@pytest.fixture
def cluster(tmp_path, stand_in, monkeypatch):
    """Stand-ins for SLURM's commands, which start what submitit submits."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
        (commands / name).write_text(text.format(python=sys.executable))
        (commands / name).chmod(0o700 | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(jobs, "SLURM_PAUSE", 0.2)


@pytest.mark.slow
def test_a_job_array(tmp_path, cluster):
    bad, good, fine = make(tmp_path, 1, "--lr", "9"), make(tmp_path, 2), make(tmp_path, 3)
    parameters = {"time": 30, "partition": "gpu", "gpus_per_node": 1, "array_parallelism": 2}
    failed = r"1 of 3 jobs failed(.|\n)*seed 1(.|\n)*error: the loss is not finite"
    with pytest.raises(JobsFailed, match=failed):
        jobs.run([bad, good, fine], tmp_path, slurm=parameters)
    assert good.finished() and fine.finished()
    (script,) = (tmp_path / "slurm").rglob("*submission.sh")
    asked = "array=0-2%2 partition=gpu time=30 gpus-per-node=1 job-name=tmkt"
    assert {f"#SBATCH --{word}" for word in asked.split()} <= {*script.read_text().splitlines()}
    jobs.run([good, fine], tmp_path, slurm=parameters)
    assert len(seen(good)) == 1


@pytest.mark.parametrize(
    "parameters, missing, expected",
    [
        ({"partition": "gpu"}, None, "time=: expected minutes"),
        ({"time": "12:00:00"}, None, "time=12:00:00: expected minutes"),
        ({"time": 5, "partitoin": "gpu"}, None, "partitoin"),
        ({"time": 5}, "slurm", "srun"),
        ({"time": 5}, "submitit", r"pip install 'tmkt-braincog\[slurm\]'"),
    ],
)
def test_slurm_that_cannot_be(tmp_path, cluster, monkeypatch, parameters, missing, expected):
    if missing == "slurm":
        monkeypatch.setenv("PATH", str(tmp_path))
    if missing == "submitit":
        monkeypatch.setitem(sys.modules, "submitit", None)
    job = make(tmp_path, 1)
    with pytest.raises(UserError, match=expected):
        jobs.run([job], tmp_path, slurm=parameters)
    assert not job.log.exists()


def test_a_task_whose_time_is_over_lets_the_job_save_and_is_queued_again(tmp_path, stand_in):
    job, task, status = make(tmp_path, 1, "--lr", "7"), slurm.Task(), []
    thread = threading.Thread(target=lambda: status.append(task(job.command, job.log)))
    thread.start()
    while not (job.folder / "begun").exists():
        time.sleep(0.05)
    # SLURM's warning, which would end the process, is not for it.
    os.kill(task.process.pid, signal.SIGUSR2)
    time.sleep(0.3)
    assert task.process.poll() is None
    again = task.checkpoint(job.command, job.log)
    thread.join()
    assert (job.folder / "saved").exists() and status == [143]
    assert isinstance(again.function, slurm.Task) and again.args == (job.command, job.log)


def test_a_submitted_job_is_cancelled_once_and_a_lost_node_is_told_in_its_log(tmp_path):
    handle = Mock(job_id="4242_1", done=Mock(return_value=False))
    submitted = slurm.Submitted(handle, tmp_path / "x.log")
    assert submitted.poll() is None
    submitted.terminate()
    submitted.terminate()
    assert handle.cancel.call_count == 1 and submitted.poll() == 143
    lost = Mock(job_id="4242_1", result=Mock(side_effect=RuntimeError("out of memory")))
    submitted = slurm.Submitted(lost, tmp_path / "deep" / "x.log")
    assert submitted.poll() == 1 == submitted.poll()
    assert (tmp_path / "deep" / "x.log").read_text() == "error: SLURM job 4242_1: out of memory\n"
