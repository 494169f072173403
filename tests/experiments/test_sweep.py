"""Sweeps: the grid, what is refused before anything starts, the table against sums made by hand, and real runs."""

import os
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
import yaml
from scipy import stats

from tests.program import run_here, run_sweep
from tmkt_braincog.arguments import build_parser
from tmkt_braincog.comparison import write_csv
from tmkt_braincog.engine.compare import claim
from tmkt_braincog.experiments import grid, jobs, launch, sweep
from tmkt_braincog.methods import METHODS, SYSTEMS
from tmkt_braincog.methods.names import takes
from tmkt_braincog.options import parse, resolve

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = "--shots 2 --batch-size 8 --epoch-size 16 --epochs 2 --warmup-epochs 1 --step 4 --no-tensorboard"


def plan(tmp_path: Path, vary: str, fixed: str = "") -> tuple[list[grid.Run], list[str]]:
    fixed = fixed.split()
    return grid.grid(tmp_path, grid.find_axes(vary.split(), fixed), fixed)


def settings(runs: list[grid.Run]) -> list[str]:
    return [" ".join(run.settings.values()) for run in runs]


# The grid -----------------------------------------------------------------------------------------------------------


def test_a_method_runs_once_for_all_values_that_it_does_not_take(tmp_path):
    runs, remarks = plan(
        tmp_path, "method=event-only,baseline,tmkt mixup-ratio=0.3,0.5 seed=1,2", SMALL
    )
    one_seed = ["event-only", "baseline", "tmkt 0.3", "tmkt 0.5"]
    assert settings(runs) == [*(f"1 {s}" for s in one_seed), *(f"2 {s}" for s in one_seed)]
    assert remarks == [
        f"{m} does not take --mixup-ratio: run once." for m in ("event-only", "baseline")
    ]
    for run in runs:
        options, method = run.job.options, run.settings["method"]
        assert options.method == [method] and options.seed == [int(run.settings["seed"])]
        assert (
            options.mixup_ratio == float(run.settings.get("mixup-ratio", 0.4))
            and options.epochs == 2
        )
    folders = [run.job.folder for run in runs]
    assert folders[2] == tmp_path / "jobs" / "seed-1_method-tmkt_mixup-ratio-0.3"
    assert len(set(folders)) == len(runs)


def test_options_that_no_method_reads_concern_all(tmp_path):
    runs, remarks = plan(tmp_path, "lr=0.1,0.2 method=event-only,tmkt shots=1,2", "--batch-size 8")
    assert len(runs) == 8 and remarks == []


def test_options_that_some_method_reads_but_the_model_too_concern_all(tmp_path):
    runs, remarks = plan(tmp_path, "step=4,5 threshold=0.5,0.6 method=event-only")
    assert len(runs) == 4 and remarks == []


EVENTS = {"TET_loss", "smoothing"}
ALIGNED = EVENTS | {"domain_loss_coefficient", "theta"}
SWITCHES = {"domain_loss", "regularization", "sliding_training", "pow"}
OWN = {
    "event-only": EVENTS,
    "baseline": ALIGNED | SWITCHES,
    "tmkt": ALIGNED | {"mixup_strategy", "mixup_ratio", "mixup_law", "mag_weight", "mrp_weight"}
    | {"rda_form"},
}  # fmt: skip
TEACHER = {"teacher_checkpoint"}
OWN |= {
    "ckd": OWN["baseline"] | TEACHER | {"ckd_k", "ckd_on", "ckd_threshold"},
    "seal": EVENTS | TEACHER,
}


@pytest.mark.parametrize("method", [*METHODS, *SYSTEMS])
def test_what_every_method_takes(method):
    options, _ = resolve(parse(["--method", method]))
    all_options = {a.dest for a in build_parser()._actions} - {"help"}
    taken = {dest for dest in all_options if takes(options, dest)}
    assert taken == all_options - (set().union(*OWN.values()) - OWN[method])


def test_what_a_method_takes_can_depend_on_other_options(tmp_path):
    runs, remarks = plan(
        tmp_path, "regularization=true,false theta=learned,fixed method=baseline,tmkt"
    )
    assert settings(runs) == ["true learned baseline", "learned tmkt", "true fixed baseline", "fixed tmkt", "false baseline"]  # fmt: skip
    assert remarks == [
        "baseline does not take --theta in some of the combinations: run once there.",
        "tmkt does not take --regularization: run once.",
    ]


def test_switches_lists_and_files(tmp_path):
    runs, _ = plan(tmp_path, "TET-loss=true,false sync-bn=true,false")
    seen = [(run.job.options.TET_loss, run.job.options.sync_bn) for run in runs]
    assert seen == [(True, True), (True, False), (False, True), (False, False)]
    assert settings(runs)[0] == "true true"

    (tmp_path / "c.yaml").write_text(
        "method: [baseline, tmkt]\nseed: [1, 2]\nlr: 0.2\nmixup_ratio: 0.7\n"
    )
    runs, _ = plan(tmp_path, "mixup_ratio=0.3", f"-c {tmp_path / 'c.yaml'}")
    assert settings(runs) == ["1 baseline", "1 0.3 tmkt", "2 baseline", "2 0.3 tmkt"]
    assert {run.job.options.lr for run in runs} == {0.2}
    assert [run.job.options.seed for run in runs] == [[1], [1], [2], [2]]


def test_the_published_baselines_line_keeps_its_meaning(tmp_path):
    runs, _ = plan(tmp_path, "seed=1,2", "--domain-loss")
    assert {(*run.job.options.method, run.job.options.TET_loss) for run in runs} == {
        ("baseline", False)
    }


def test_names_of_folders_are_plain_and_different():
    plain = {"seed": "1", "lr": "1e-05", "TET-loss": "true"}
    assert grid.folder_name(plain) == "seed-1_lr-1e-05_TET-loss-true"
    names = [
        grid.folder_name({"model": text})
        for text in ("a/b", "a:b", "a b", "x" * 300, "x" * 301, "é")
    ]
    assert len(set(names)) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9_.+-]{1,140}", name) for name in names)
    assert grid.folder_name({}) == "run"


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--vary mixup-ration=0.3", "Did you mean --mixup-ratio"),
        ("--vary mixup-ratio=0.3,1.2", "above 0 and below 1"),
        ("--vary mixup-ratio=0.3,lots", "mixup-ratio: invalid float value: 'lots'"),
        ("--vary batch-size=8,1", "--batch-size 1: tmkt compares"),
        ("--vary method=tmkt,tmtk", "Did you mean 'tmkt'"),
        ("--vary sync-bn=true,maybe", "expected true, false or both, seen 'maybe'"),
        ("--vary mixup-ratio", "expected NAME=VALUE,VALUE"),
        ("--vary mixup-ratio=0.3,,0.4", "expected NAME=VALUE,VALUE"),
        ("--vary seed=1,2,1", "names the same value twice"),
        ("--vary lr=0.1,1e-1", "gives the same settings twice: lr 0.1"),
        ("--vary sync-bn=true,false --sync-bn", "gives the same settings twice: sync-bn true"),
        ("--vary seed=1 --vary seed=2", "--vary seed is there twice"),
        ("--vary device=cpu,cuda", "--device changes no result"),
        ("--vary output=a,b", "--output changes no result"),
        ("--vary seed=1,2 --epochz 3", "unrecognized arguments: --epochz 3. Did you mean --epochs"),
        ("--vary seed=1,2 --epochs 0", "at least 1"),
        ("--vary seed=1,2 --eval", "--eval is for tmkt train"),
        ("--vary seed=1,2 --resume last.pt", "--resume is for tmkt train"),
        ("--vary epochs=30,3 --warmup-epochs 5", "epochs-3: --warmup-epochs 5"),
        ("--vary node-type=LIFNode,LIFnode", "node-type-LIFnode: "),
        ("--vary seed=1,2 --jobs 0", "at least 1"),
        ("--vary seed=1,2 --jobs 2 --slurm time=5", "not allowed with"),
        ("--vary seed=1,2 --slurm time", "expected KEY=VALUE"),
        ("--vary seed=1,2 --collect", "No job of this sweep is finished"),
    ],
)
def test_refused_before_anything_starts(capsys, tmp_path, monkeypatch, words, expected):
    monkeypatch.setattr(launch, "run", lambda *rest: pytest.fail("a job was started"))
    output = tmp_path / "never"
    assert run_sweep(["--output", str(output), *words.split()]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and expected in message and "Traceback" not in message
    assert not output.exists()


def test_slurm_parameters_reach_submitit(tmp_path, monkeypatch, capsys):
    called = []
    monkeypatch.setattr(launch, "run", lambda *rest: called.append(rest))
    words = [
        "--vary",
        "seed=1,2",
        "--slurm",
        "time=720",
        "partition=gpu",
        "--output",
        str(tmp_path),
        "--lr",
        "1",
    ]
    assert run_sweep(words) == 2  # nothing has run, so that there is no table
    ((runs, workers, parameters, folder),) = called
    assert len(runs) == 2 and workers == 1 and runs[0].options.lr == 1
    assert parameters == {"time": 720, "partition": "gpu"} and folder == tmp_path / "slurm"


def test_a_folder_of_other_things_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    assert run_sweep(["--output", str(tmp_path), "--vary", "seed=1,2"]) == 2
    assert "other files" in capsys.readouterr().err and len(list(tmp_path.iterdir())) == 1


# The table, from runs that are written by hand ----------------------------------------------------------------------

VARY = [
    "--vary",
    "seed=1,2,3",
    "--vary",
    "method=event-only,baseline,tmkt",
    "--vary",
    "mixup-ratio=0.3,0.5",
]
# (last, best) for seeds 1, 2, 3
TOP1 = {
    ("event-only", ""): [(40.0, 41.0), (50.0, 52.5), (45.0, 45.0)],
    ("baseline", ""): [(80.0, 82.0), (84.0, 85.0), (79.0, 81.5)],
    ("tmkt", "0.3"): [(81.0, 81.0), (86.5, 87.0), (79.5, 84.0)],
    ("tmkt", "0.5"): [(70.0, 73.0), (75.0, 76.0), (74.0, 74.5)],
}


def write_run(run: grid.Run) -> None:
    """As main_transfer.py leaves a finished run."""
    job, (method,), (seed,) = run.job, run.job.options.method, run.job.options.seed
    last, best = TOP1[method, run.settings.get("mixup-ratio", "")][seed - 1]
    claim(job.folder, job.options)
    row = {
        "method": method,
        "seed": seed,
        "protocol": "clean",
        "top1_last": last,
        "top1_best": best,
    }
    write_csv(
        [row | {"epoch_best": 1, "train_s": 10.0 + seed, "peak_mib": 5.0}],
        job.folder / "comparison.csv",
    )
    (job.folder / "comparison.md").write_text(
        "# t\n\n- note: Events are emulated.\n- protocol: clean\n"
    )


@pytest.fixture
def output(tmp_path) -> Path:
    axes = grid.find_axes(VARY[1::2], [])
    for run in grid.grid(tmp_path / "out", axes, [])[0]:
        write_run(run)
    return tmp_path / "out"


def row_of(text: str, *start: str) -> list[str]:
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in text.splitlines()
        if "|" in line
    ]
    (row,) = [row for row in rows if row[: len(start)] == list(start)]
    return row[len(start) :]


def by_hand(values: list[float], reference: list[float]) -> list[str]:
    """Mean and sample deviation; mean of the differences with Student's interval."""
    d = np.subtract(values, reference)
    half = stats.t.ppf(0.975, len(d) - 1) * np.sqrt(
        ((d - d.mean()) ** 2).sum() / (len(d) - 1) / len(d)
    )
    spread = np.sqrt(((values - np.mean(values)) ** 2).sum() / (len(values) - 1))
    difference = f"{d.mean():+.2f} [{d.mean() - half:+.2f}, {d.mean() + half:+.2f}]"
    return [f"{np.mean(values):.2f} ± {spread:.2f}", difference]


def test_the_table_against_sums_by_hand(output, capsys):
    assert run_sweep(["--output", str(output), *VARY, "--collect"]) == 0
    text = (output / "sweep.md").read_text()
    assert text in capsys.readouterr().out
    (base_last, base_best) = map(list, zip(*TOP1["baseline", ""], strict=True))
    for (method, ratio), pairs in TOP1.items():
        last, best = map(list, zip(*pairs, strict=True))
        expected = ["3", *by_hand(last, base_last), *by_hand(best, base_best)]
        if method == "baseline":
            expected[2] = expected[4] = "-"
        assert (
            row_of(text, ratio or "-", method) == expected
            or row_of(text, ratio or "-", method) == expected
        )
    assert "- note: Events are emulated." in text and text.count("emulated") == 1
    assert "NOT COMPLETE" not in text and shlex.join(VARY) in text

    rows = pd.read_csv(output / "sweep.csv")
    assert len(rows) == 12 and list(rows) == [
        *(
            "mixup_ratio",
            "method",
            "seed",
            "protocol",
            "top1_best",
            "top1_last",
            "epoch_best",
            "train_s",
            "peak_mib",
        )
    ]
    seen = {
        (r.method, r.mixup_ratio, r.seed): (r.top1_last, r.top1_best)
        for r in rows.itertuples()
        if r.method == "tmkt"
    }
    assert seen == {
        (m, float(x), i + 1): p
        for (m, x), v in TOP1.items()
        if m == "tmkt"
        for i, p in enumerate(v)
    }
    assert rows[rows.method != "tmkt"].mixup_ratio.isna().all()


def test_times_are_left_out_where_jobs_shared_the_machine(output, monkeypatch):
    assert run_sweep(["--output", str(output), *VARY, "--collect"]) == 0
    assert {"train_s", "peak_mib"} <= set(pd.read_csv(output / "sweep.csv"))
    monkeypatch.setattr(launch, "run", lambda *rest: None)
    assert run_sweep(["--output", str(output), *VARY, "--jobs", "2"]) == 0
    assert not {"train_s", "peak_mib"} & set(pd.read_csv(output / "sweep.csv"))
    assert run_sweep(["--output", str(output), *VARY]) == 0  # what ran together stays so
    assert not {"train_s", "peak_mib"} & set(pd.read_csv(output / "sweep.csv"))


def test_an_incomplete_sweep_says_so(output):
    (output / "jobs/seed-3_method-baseline/comparison.csv").unlink()
    assert run_sweep(["--output", str(output), *VARY, "--collect"]) == 0
    text = (output / "sweep.md").read_text()
    assert "NOT COMPLETE, 11 of 12 runs; missing: seed-3_method-baseline." in text
    (seeds, mean, *_) = row_of(text, "-", "baseline")
    assert seeds == "2" and mean == f"82.00 ± {np.std([80, 84], ddof=1):.2f}"
    d = np.array([81 - 80, 86.5 - 84])
    half = stats.t.ppf(0.975, 1) * d.std(ddof=1) / np.sqrt(2)
    expected = f"{d.mean():+.2f} [{d.mean() - half:+.2f}, {d.mean() + half:+.2f}] (2 seeds)"
    assert row_of(text, "0.3", "tmkt")[2] == expected


def test_every_cell_is_compared_with_the_baseline_of_the_same_shared_options():
    """Two learning rates, which all take; and pow, which of these only the baseline takes."""

    def rows(method, lr, power, values):
        common = {"method": method, "lr": lr, "pow": power, "protocol": "clean", "epoch_best": 0}
        return [
            common | {"seed": i, "top1_last": v, "top1_best": v, "train_s": 1.0, "peak_mib": 1.0} for i, v in enumerate(values)
        ]  # fmt: skip

    table = pd.DataFrame(
        [
            *rows("baseline", "0.1", "2", [50.0, 52.0]),
            *rows("baseline", "0.2", "2", [60.0, 64.0]),
            *rows("baseline", "0.2", "3", [1.0, 2.0]),
            *rows("event-only", "0.1", "", [40.0, 43.0]),
            *rows("event-only", "0.2", "", [40.0, 44.0]),
            *rows("tmkt", "0.2", "3", [11.0, 12.0]),
            *rows("tmkt", "0.3", "3", [11.0, 13.0]),
        ]
    )
    header, *body = sweep.cells(table, ["lr", "pow"])
    assert header[:4] == ["lr", "pow", "method", "seeds"]
    difference = {tuple(row[:3]): row[5] for row in body}
    assert difference["0.1", "-", "event-only"].startswith("-9.50 [")
    assert difference["0.2", "-", "event-only"] == "-"  # two baselines would do
    assert difference["0.2", "3", "tmkt"] == "+10.00 [-]"  # twice the same: no interval
    assert difference["0.3", "3", "tmkt"] == "-"  # none would
    assert {difference[key] for key in difference if key[2] == "baseline"} == {"-"}
    against = {
        tuple(row[:3]): row[5] for row in sweep.cells(table, ["lr", "pow"], ("lr", "0.2"))[1:]
    }
    assert against["0.1", "2", "baseline"].startswith("-11.00 [")
    assert against["0.1", "-", "event-only"].startswith("-0.50 [")
    assert against["0.3", "3", "tmkt"].startswith("+0.50 [")
    assert {against[key] for key in against if key[0] == "0.2"} == {"-"}


def test_an_unknown_reference_is_refused_with_the_known_ones(tmp_path, capsys):
    words = [
        "--output",
        str(tmp_path / "out"),
        "--vary",
        "amp=none,bf16",
        "--vary",
        "seed=1,2",
        "--dry-run",
    ]
    assert run_sweep([*words, "--against", "amp=fp16"]) == 2
    assert "expected one of amp=none, amp=bf16" in capsys.readouterr().err
    assert run_sweep([*words, "--against", "amp=none"]) == 0


def test_one_seed_has_no_spread():
    row = {
        "method": "tmkt",
        "seed": 1,
        "protocol": "clean",
        "top1_best": 50.0,
        "top1_last": 50.0,
        "epoch_best": 0,
    }
    table = pd.DataFrame([row, row | {"method": "baseline", "top1_last": 47.0}]).assign(
        train_s=1.0, peak_mib=1.0
    )
    body = sweep.cells(table, [])[1:]
    assert body[0] == ["tmkt", "1", "50.00", "+3.00 [-]", "50.00", "+0.00 [-]"]


def test_a_dry_run_shows_the_jobs_and_starts_nothing(output, capsys):
    (output / "jobs/seed-3_method-baseline/comparison.csv").unlink()
    before = {p: p.read_bytes() for p in output.rglob("*") if p.is_file()}
    more = ["--output", str(output), "--vary", "seed=1,2,3,4", *VARY[2:], "--dry-run"]
    assert run_sweep(more) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "16 jobs: 11 finished, 1 begun, 4 new"
    (begun,) = [line for line in lines if line.startswith("begun")]
    words = shlex.split(begun.removeprefix("begun"))
    assert words[:2] == ["tmkt", "train"]
    options, _ = resolve(parse(words[2:]))
    assert (options.method, options.seed) == (["baseline"], [3])
    assert options.output == str(output / "jobs/seed-3_method-baseline")
    assert {p: p.read_bytes() for p in output.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "vary", [VARY, ["--vary", "seed=4,5"]], ids=["same values", "other values"]
)
def test_a_sweep_with_other_fixed_options_is_refused_with_the_difference(
    output, capsys, monkeypatch, vary
):
    monkeypatch.setattr(launch, "run", lambda *rest: pytest.fail("a job was started"))
    before = {p: p.read_bytes() for p in output.rglob("*") if p.is_file()}
    for how in ([], ["--dry-run"], ["--collect"]):
        assert run_sweep(["--output", str(output), *vary, "--epochs", "7", *how]) == 2
        assert "epochs: there 20, here 7" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in output.rglob("*") if p.is_file()} == before


# Real runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_failing_job_among_good_ones_and_the_command_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "_start", run_here)
    output = tmp_path / "out"
    words = ["--output", str(output), "--jobs", "2", *SMALL.split()]
    words += ["--vary", "method=baseline,tmkt", "--vary", "mixup-ratio=0.3", "--seed", "1", "2"]
    # An interrupted run whose checkpoint was damaged since.
    axes = grid.find_axes(["method=tmkt", "mixup-ratio=0.3", "seed=2"], SMALL.split())
    (damaged,) = grid.grid(output, axes, SMALL.split())[0]
    claim(damaged.job.folder, damaged.job.options)
    checkpoint = damaged.job.folder / "runs/tmkt-seed2/last.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"damaged")

    assert run_sweep(words) == 2
    seen = capsys.readouterr()
    assert "1 of 4 jobs failed:\n  seed-2_method-tmkt_mixup-ratio-0.3 (status 2" in seen.err
    assert (
        f"error: The checkpoint {checkpoint} cannot be read" in seen.err
        and str(damaged.job.log) in seen.err
    )
    assert "NOT COMPLETE, 3 of 4" in seen.out

    finished = sorted(output.glob("jobs/*/runs/*/result.json"))
    before = [file.stat().st_mtime_ns for file in finished]
    checkpoint.unlink()
    assert len(finished) == 3 and run_sweep(words) == 0
    assert [file.stat().st_mtime_ns for file in finished] == before
    text = (output / "sweep.md").read_text()
    assert "NOT COMPLETE" not in text and "Events are emulated" in text
    rows = pd.read_csv(output / "sweep.csv")
    for row in rows.itertuples():
        folder = next(
            output.glob(
                f"jobs/seed-{row.seed}_method-{row.method}*/runs/{row.method}-seed{row.seed}"
            )
        )
        log = pd.read_csv(folder / "log.csv")
        assert row.top1_last == pytest.approx(log.test_top1.iloc[-1], abs=1e-4)
        config = yaml.safe_load((folder.parents[1] / "config.yaml").read_text())
        assert config["epochs"] == 2 and config["mixup_ratio"] == (
            0.3 if row.method == "tmkt" else 0.4
        )
    wide = rows.pivot(index="seed", columns="method", values="top1_last")
    difference = (wide.tmkt - wide.baseline).mean()
    assert row_of(text, "0.3", "tmkt")[2].startswith(f"{difference:+.2f} [")


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_where_it_stopped(tmp_path, monkeypatch):
    words = [
        "--output",
        str(tmp_path / "out"),
        "--vary",
        "seed=1,2",
        *SMALL.split(),
        "--method",
        "event-only",
    ]
    words += ["--epochs", "12", "--eval-interval", "12"]
    command = [sys.executable, "-m", "tmkt_braincog", "table", "sweep", *words]
    first, second = (tmp_path / f"out/jobs/seed-{seed}" for seed in (1, 2))
    log, checkpoint = first.with_name("seed-1.log"), first / "runs/event-only-seed1/last.pt"
    started = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while not checkpoint.exists() and time.time() < deadline and started.poll() is None:
        time.sleep(0.02)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=60)
    assert (
        started.returncode == 143 and "0 of 2 jobs are finished" in said and "same command" in said
    )
    assert "Stopped on a signal" in log.read_text() and not second.exists()

    monkeypatch.setattr(jobs, "_start", run_here)
    assert run_sweep(words) == 0
    assert log.read_text().count("\n$ ") == 2
    epochs = pd.read_csv(first / "runs/event-only-seed1/log.csv").epoch
    assert epochs.tolist() == list(range(12))
    assert len(pd.read_csv(tmp_path / "out/sweep.csv")) == 2


def test_the_script(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [
        "bash",
        str(REPOSITORY / "run_scripts/sweep.sh"),
        "--output",
        str(tmp_path / "o"),
        "--vary",
        "seed=1,1",
    ]
    done = subprocess.run(
        command,
        env=os.environ | {"TMKT_SKIP_SETUP": "1", "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "names the same value twice" in done.stderr
