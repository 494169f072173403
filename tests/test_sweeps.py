"""Sweeps: combinations that are one run, what is refused, numbers against sums by hand, a kill."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.program import run_here, run_sweep
from tests.table_runs import REPOSITORY, SMALL, body, by_hand, write_results
from tmkt_braincog import jobs, table_plan
from tmkt_braincog.arguments import build_parser
from tmkt_braincog.errors import UserError
from tmkt_braincog.methods import METHODS, SYSTEMS
from tmkt_braincog.methods.names import takes
from tmkt_braincog.options import parse, resolve
from tmkt_braincog.table_plan import Planned


def swept(tmp_path: Path, vary: str, fixed: str = "", against: str = "method=baseline"):
    return table_plan.sweep(tmp_path, vary.split(), fixed.split(), against)


def names(runs: list[Planned]) -> list[str]:
    return [run.job.name for run in runs]


def test_a_method_runs_once_for_all_values_that_it_does_not_take(tmp_path):
    vary = "method=event-only,baseline,tmkt mixup-ratio=0.3,0.5 seed=1,2"
    table, runs = swept(tmp_path, vary, "--epochs 7")
    one_seed = ["event-only", "baseline", "tmkt_mixup-ratio-0.3", "tmkt_mixup-ratio-0.5"]
    assert names(runs) == [f"seed-{seed}_method-{one}" for seed in (1, 2) for one in one_seed]
    never = [f"{m} does not take --mixup-ratio: run once." for m in ("event-only", "baseline")]
    assert table.notes == never
    assert [run.job.options.mixup_ratio for run in runs] == [0.4, 0.4, 0.3, 0.5] * 2
    assert all(run.job.options.seed == [run.seed] and run.job.options.epochs == 7 for run in runs)
    assert runs[2].job.folder == tmp_path / "jobs" / "seed-1_method-tmkt_mixup-ratio-0.3"
    assert table.rows[0].labels == {"mixup-ratio": "-", "method": "event-only"}


@pytest.mark.parametrize(
    "vary, count",
    [
        ("lr=0.1,0.2 method=event-only,tmkt shots=1,2", 8),  # that no method reads
        ("step=4,5 threshold=0.5,0.6 method=event-only", 4),  # that the model reads too
        ("lr=0.1,1e-1 method=event-only", 1),
    ],
)
def test_options_that_concern_all_methods(tmp_path, vary, count):
    table, runs = swept(tmp_path, vary, "--batch-size 8")
    assert len(runs) == len(table_plan.jobs_of(runs)) == count and not table.notes


EVENTS, TEACHER = {"TET_loss", "smoothing"}, {"teacher_checkpoint"}
ALIGNED = EVENTS | {"domain_loss_coefficient", "theta", "source_encoding"}
BASELINE = ALIGNED | {"domain_loss", "regularization", "sliding_training", "pow"}
MIXUP = {"mixup_strategy", "mixup_ratio", "mixup_law"}
OWN = {
    "event-only": EVENTS,
    "finetune": EVENTS | {"source_encoding"},
    "baseline": BASELINE,
    "tmkt": ALIGNED | MIXUP | {"mag_weight", "mrp_weight", "rda_form"},
    "ckd": BASELINE | TEACHER | {"ckd_k", "ckd_on", "ckd_threshold"},
    "vl2spike": BASELINE | TEACHER | {"vl2spike_terms"},
    "r2etl": {"smoothing", "source_encoding"},
    "seal": EVENTS | TEACHER,
    "etc": {"smoothing"},
    "tks": {"smoothing"},
}


@pytest.mark.parametrize("method", [*METHODS, *SYSTEMS])
def test_what_every_method_takes(method):
    options, _ = resolve(parse(["--method", method]))
    all_options = {a.dest for a in build_parser()._actions} - {"help"}
    taken = {dest for dest in all_options if takes(options, dest)}
    of_encodings = {"camera", "i2e_ratio"}  # of other encodings than the default
    assert taken == all_options - of_encodings - (set().union(*OWN.values()) - OWN[method])


def test_what_a_method_takes_can_depend_on_other_options(tmp_path):
    vary = "regularization=true,false theta=learned,fixed method=baseline,tmkt"
    table, runs = swept(tmp_path, vary)
    baseline = [f"regularization-true_theta-{t}_method-baseline" for t in ("learned", "fixed")]
    baseline.append("regularization-false_method-baseline")
    assert set(names(runs)) == {*baseline, "theta-learned_method-tmkt", "theta-fixed_method-tmkt"}
    assert table.notes == ["tmkt does not take --regularization: run once."]


def test_switches_lists_files_and_the_published_line(tmp_path):
    _, runs = swept(tmp_path, "TET-loss=true,false regularization=true,false")
    seen = [(run.job.options.TET_loss, run.job.options.regularization) for run in runs]
    assert seen == [(True, True), (True, False), (False, True), (False, False)]
    assert names(runs)[0] == "TET-loss-true_regularization-true"

    file = tmp_path / "c.yaml"
    file.write_text("method: [baseline, tmkt]\nseed: [1, 2]\nlr: 0.2\nmixup_ratio: 0.7\n")
    _, runs = swept(tmp_path, "mixup_ratio=0.3", f"-c {file}")
    rows = "method baseline", "mixup-ratio 0.3, method tmkt"
    assert [(run.seed, run.row) for run in runs] == [(seed, r) for seed in (1, 2) for r in rows]
    assert {run.job.options.lr for run in runs} == {0.2}

    _, runs = swept(tmp_path, "seed=1,2", "--domain-loss")
    assert {(run.method, run.job.options.TET_loss) for run in runs} == {("baseline", False)}


def test_names_of_folders_are_plain_and_different():
    name = table_plan.folder_name
    assert name({"seed": "1", "lr": "1e-05", "TET-loss": "true"}) == "seed-1_lr-1e-05_TET-loss-true"
    odd = [name({"model": text}) for text in ("a/b", "a:b", "a b", "x" * 300, "x" * 301, "é")]
    assert len(set(odd)) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9_.+-]{1,140}", one) for one in odd)
    assert name({}) == "run"


def test_slurm_parameters_reach_submitit_and_a_failed_launch_has_no_table(
    tmp_path, monkeypatch, capsys
):
    called = []
    monkeypatch.setattr(jobs, "run", lambda *rest: called.append(rest))
    words = ["--vary", "seed=1,2", "--slurm", "time=720", "partition=gpu", "--lr", "1", "--output"]
    assert run_sweep([*words, str(tmp_path)]) == 2
    ((given, folder, workers, parameters),) = called
    assert len(given) == 2 and given[0].options.lr == 1 and folder == tmp_path
    assert parameters == {"time": 720, "partition": "gpu"} and workers == 1
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    assert run_sweep([*words, str(tmp_path)]) == 2
    assert "other files" in capsys.readouterr().err and len(list(tmp_path.iterdir())) == 1


VARY = shlex.split(
    "--vary seed=1,2,3 --vary method=event-only,baseline,tmkt --vary mixup-ratio=0.3,0.5"
)
# (last, best) for seeds 1, 2, 3, by the row
TOP1 = {
    "method event-only": [(40.0, 41.0), (50.0, 52.5), (45.0, 45.0)],
    "method baseline": [(80.0, 82.0), (84.0, 85.0), (79.0, 81.5)],
    "mixup-ratio 0.3, method tmkt": [(81.0, 81.0), (86.5, 87.0), (79.5, 84.0)],
    "mixup-ratio 0.5, method tmkt": [(70.0, 73.0), (75.0, 76.0), (74.0, 74.5)],
}


@pytest.fixture
def output(tmp_path) -> Path:
    _, runs = swept(tmp_path / "out", " ".join(VARY[1::2]))
    write_results(runs, lambda row, seed: TOP1[row][seed - 1])
    return tmp_path / "out"


def sweep_rows(output: Path) -> dict[tuple[str, str], list[str]]:
    return {(r[0], r[1]): r[2:] for r in body((output / "sweep.md").read_text()).values()}


def test_the_table_of_a_sweep_against_sums_by_hand(output, capsys):
    assert run_sweep(["--output", str(output), *VARY, "--collect"]) == 0
    text, rows = (output / "sweep.md").read_text(), sweep_rows(output)
    assert text in capsys.readouterr().out
    base_last, base_best = zip(*TOP1["method baseline"], strict=True)
    for row, pairs in TOP1.items():
        last, best = zip(*pairs, strict=True)
        ratio, method = (re.findall(r"ratio (\S+),", row) or ["-"])[0], row.split()[-1]
        if method == "baseline":
            assert rows[ratio, method][2:4] == ["-", "-"] and rows[ratio, method][5] == "-"
        else:
            expected = ["3", *by_hand(last, base_last), *by_hand(best, base_best)[:2]]
            other_head = f"{np.mean(last) + 1:.2f}" if method == "tmkt" else "-"
            assert rows[ratio, method] == [*expected, other_head, "77.25"]
    assert text.count("Two <files>.") == 1 and "does not take --mixup-ratio" in text
    assert "NOT COMPLETE" not in text
    assert f"Made by `tmkt table sweep --output {output} {shlex.join(VARY)}`" in text
    table = pd.read_csv(output / "sweep.csv")
    columns = "mixup_ratio method seed protocol top1_best top1_last epoch_best val_last static_last"
    assert list(table) == columns.split()
    tmkt = table[table.method == "tmkt"].set_index(["mixup_ratio", "seed"])
    assert len(table) == 12 and tmkt.loc[(0.5, 2), ["top1_last", "top1_best"]].tolist() == [75, 76]
    assert table[table.method != "tmkt"].mixup_ratio.isna().all()
    fact = json.loads((output / "sweep.json").read_text())
    assert [row["name"] for row in fact["rows"]] == list(TOP1) and fact["pictures"] == []


def test_an_incomplete_sweep_says_so(output, monkeypatch, capsys):
    (output / "jobs/seed-3_method-baseline/comparison.csv").unlink()
    assert run_sweep(["--output", str(output), *VARY, "--collect"]) == 0
    text, rows = (output / "sweep.md").read_text(), sweep_rows(output)
    assert "NOT COMPLETE, 11 of 12 runs; missing: seed-3_method-baseline." in text
    assert rows["-", "baseline"][:2] == ["2", f"82.00 ± {np.std([80, 84], ddof=1):.2f}"]
    assert rows["0.3", "tmkt"][2] == by_hand([81, 86.5], [80, 84])[1] + " (2 seeds)"

    def failing(*rest):
        raise jobs.JobsFailed("1 of 12 jobs failed")

    monkeypatch.setattr(jobs, "run", failing)
    capsys.readouterr()
    assert run_sweep(["--output", str(output), *VARY]) == 2
    seen = capsys.readouterr()
    assert "NOT COMPLETE, 11 of 12" in seen.out and "1 of 12 jobs failed" in seen.err


def test_every_row_is_compared_with_the_reference_of_the_same_shared_options(tmp_path):
    """The baseline alone takes pow, all take lr: as many references as baselines that agree."""
    vary = "method=event-only,baseline lr=0.1,0.2 pow=2,3"
    event, base = "lr 0.1, method event-only", "lr 0.1, pow 3.0, method baseline"
    assert swept(tmp_path, vary)[0].references()[event] == event  # two would do
    references = swept(tmp_path, vary.replace("2,3", "3"))[0].references()
    assert references[event] == base
    references = swept(tmp_path, vary, against="lr=.20")[0].references()
    for name in (event, base):
        other = name.replace("0.1", "0.2")
        assert references[name] == references[other] == other
    with pytest.raises(UserError, match=r"expected one of lr=0\.1, "):
        swept(tmp_path, vary, against="lr=0.3")


def test_a_dry_run_shows_the_jobs_and_other_fixed_options_are_refused(output, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "run", lambda *rest: pytest.fail("a job was started"))
    (output / "jobs/seed-3_method-baseline/comparison.csv").unlink()
    before = {p: p.read_bytes() for p in output.rglob("*") if p.is_file()}
    words = ["--output", str(output)]
    assert run_sweep([*words, "--vary", "seed=1,2,3,4", *VARY[2:], "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "16 jobs: 11 finished, 1 begun, 4 new"
    (begun,) = [line for line in lines if line.startswith("begun")]
    start, command, *given = shlex.split(begun.removeprefix("begun"))
    options, _ = resolve(parse(given))
    assert [start, command, *options.method, *options.seed] == ["tmkt", "train", "baseline", 3]
    assert options.output == str(output / "jobs/seed-3_method-baseline")
    for how in ([], ["--dry-run"], ["--collect"]):
        assert run_sweep([*words, *VARY, "--epochs", "7", *how]) == 2
        message = capsys.readouterr().err
        assert "seed-1_method-event-only: " in message and "epochs: there 20, here 7" in message
    assert {p: p.read_bytes() for p in output.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_where_it_stopped(tmp_path, monkeypatch):
    words = ["--output", str(tmp_path / "out"), "--vary", "seed=1,2", *SMALL]
    words += ["--method", "event-only", "--epochs", "12", "--eval-interval", "12"]
    command = [sys.executable, "-m", "tmkt_braincog", "table", "sweep", *words]
    first, second = (tmp_path / f"out/jobs/seed-{seed}" for seed in (1, 2))
    log, checkpoint = first.with_name("seed-1.log"), first / "runs/event-only-seed1/last.pt"
    started = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while not checkpoint.exists() and time.time() < deadline and started.poll() is None:
        time.sleep(0.02)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 143 and "0 of 2 jobs are finished" in said
    assert "Stopped on a signal" in log.read_text() and not second.exists()

    monkeypatch.setattr(jobs, "start", run_here)
    assert run_sweep(words) == 0
    assert log.read_text().count("\n$ ") == 2
    epochs = pd.read_csv(first / "runs/event-only-seed1/log.csv").epoch
    assert epochs.tolist() == list(range(12))
    assert len(pd.read_csv(tmp_path / "out/sweep.csv")) == 2
