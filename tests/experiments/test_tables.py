"""The paper's tables: the runs that a row means, what is refused, the numbers against sums made by hand, a real run."""

import re
import shutil
from itertools import chain

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from tmkt_braincog.analysis.table import write_csv
from tmkt_braincog.engine.compare import claim
from tmkt_braincog.errors import UserError
from tmkt_braincog.experiments import paper_table, tables
from tmkt_braincog.experiments.__main__ import COMMANDS, main
from tmkt_braincog.experiments.table_file import load_table

FILES = sorted((tables.SCRIPTS / "tables").glob("*.yaml"))
RECIPE = str(tables.SCRIPTS / "quickstart.yaml")
MODEL = "--model Transfer_SCNN --step 4 --event-size 28 --no-tensorboard"
BUDGET = "--shots 4 --batch-size 20 --epoch-size 40 --epochs 2 --warmup-epochs 1 --eval-interval 1"
SMALL = f"{MODEL} {BUDGET}".split()


def planned(table: str, tmp_path, seeds=(1, 2), extra=()):
    loaded = load_table(tables.SCRIPTS / "tables" / f"{table}.yaml")
    return loaded, tables.plan(loaded, tmp_path / "jobs", ["-c", RECIPE, *SMALL, *extra], seeds)


def write_results(grid, top1):
    """Finished runs without training; ``top1(row, seed)`` in percent. Returns the numbers by row."""
    seen = {}
    for name, jobs in grid.items():
        for job in jobs:
            (seed,), (method,) = job.options.seed, job.options.method
            if not job.finished():
                claim(job.folder, job.options)
                row = dict(
                    method=method, seed=seed, protocol=job.options.protocol, top1_best=top1(name, seed)
                )
                row |= dict(top1_last=top1(name, seed), epoch_best=1, train_s=1.0, peak_mib=0.0)
                write_csv([row], job.folder / "comparison.csv")
                (job.folder / "comparison.md").write_text("# x\n\n- note: Emulated <events>.\n")
                run = job.folder / "runs" / f"{method}-seed{seed}"
                run.mkdir(parents=True)
                pd.DataFrame({"epoch": [0, 1], "test_top1": [np.nan, top1(name, seed)]}).to_csv(
                    run / "log.csv"
                )
            value = pd.read_csv(job.folder / "comparison.csv")["top1_last"][0]
            seen.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in seen.items()}


def scattered(name: str, seed: int) -> float:
    return round(50 + 7 * (sum(map(ord, name)) % 5) + np.random.default_rng((len(name), seed)).random(), 4)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_table_file_is_a_command_and_plans_its_runs(path, tmp_path):
    assert COMMANDS[path.stem][0] == "tables"
    table, grid = planned(path.stem, tmp_path)
    assert list(grid) == [row.name for row in table.run_rows()]
    for row in table.run_rows():
        for job, seed in zip(grid[row.name], (1, 2), strict=True):
            assert job.options.seed == [seed] and job.options.epochs == 2
            for option, value in row.options.items():
                got = getattr(job.options, option.replace("-", "_"))
                assert (got[0] if isinstance(got, list) else got) == value


def test_tables_share_the_runs_that_they_have_in_common(tmp_path):
    folders = {}
    for name in ("table1", "table2", "table3", "table4"):
        _, grid = planned(name, tmp_path, seeds=(1,))
        folders[name] = {row: jobs[0].folder.name for row, jobs in grid.items()}
    tmkt, baseline = folders["table1"]["TMKT"], folders["table1"]["baseline"]
    assert (tmkt, baseline) == ("seed-1_method-tmkt", "seed-1_method-baseline")
    assert (
        folders["table2"]["TSM + MAG + MRP"] == folders["table3"]["0.4"] == folders["table4"]["TSM"] == tmkt
    )
    assert folders["table2"]["none"] == folders["table3"]["baseline"] == baseline
    assert len(set(chain(*(f.values() for f in folders.values())))) == 3 + 3 + 4 + 4
    # Another ratio in the data set's recipe: other folders are the plain ones then.
    _, grid = planned("table3", tmp_path, seeds=(1,), extra=["--mixup-ratio=0.7"])
    assert grid["0.7"][0].folder.name == tmkt and grid["0.4"][0].folder.name == f"{tmkt}_mixup-ratio-0.4"


def test_the_numbers_are_those_of_scipy_and_the_published_ones_stand_beside(tmp_path):
    table, grid = planned("table2", tmp_path, seeds=(1, 2, 3))
    top1 = write_results(grid, scattered)
    origin = tables.origin(grid, "the command")
    text = paper_table.write(table, tables.collect(table, grid), tables.logs(grid), origin, tmp_path)
    markdown = (tmp_path / "table2.md").read_text()
    assert (
        markdown.strip() in text and "Made by `the command`" in markdown and "Emulated <events>." in markdown
    )
    header, _, *body = [line for line in markdown.splitlines() if line.startswith("|")][:7]
    assert "published, NCALTECH101" in header
    cells = {row[0]: row[1:] for row in ([c.strip() for c in line.strip("|").split("|")] for line in body)}
    assert [cells[name][0] for name in top1] == ["93.45", "97.24", "97.36", "97.70", "97.93"]
    for name, values in top1.items():
        assert cells[name][1] == f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
        if name != "none":
            test = stats.ttest_rel(values, top1["none"])
            low, high = test.confidence_interval(0.95)
            assert cells[name][2] == f"{(values - top1['none']).mean():+.2f} [{low:+.2f}, {high:+.2f}]"
            assert cells[name][3] == ("<0.001" if test.pvalue < 0.001 else f"{test.pvalue:.3f}")
    rows = pd.read_csv(tmp_path / "table2.csv")
    assert sorted(rows["top1_last"]) == pytest.approx(sorted(np.concatenate(list(top1.values()))), abs=1e-4)
    latex = (tmp_path / "table2.tex").read_text()
    assert latex.count(r"\\") == 6 and r"95 \% CI" in latex and r"Emulated $<$events$>$." in latex
    for name in ("table2.png", "table2.pdf", "table2_curves.png", "table2_curves.pdf"):
        assert (tmp_path / name).read_bytes()[:4] in (b"\x89PNG", b"%PDF")


@pytest.mark.parametrize(
    "gain, expected",
    [((1, 1.1, 0.9), "holds"), ((-1, -1.1, -0.9), "fails: the reverse holds"), ((1, -1, 0.5), "undecided")],
)
def test_claims_are_decided_by_the_interval(gain, expected):
    rows = [("a", s, 50.0 + g) for s, g in enumerate(gain)] + [("b", s, 50.0) for s in range(3)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "top1_last"])
    frame = frame.assign(top1_best=frame["top1_last"], protocol="p", epoch_best=1, train_s=1.0, peak_mib=0.0)
    claims = [{"say": "a is better", "better": "a", "worse": "b"}]
    ((say, verdict, difference),) = paper_table.verdicts(frame, claims)
    assert (say, verdict) == ("a is better", expected) and difference.startswith(f"{np.mean(gain):+.2f} [")
    one_seed = paper_table.verdicts(frame[frame["seed"] == 0], claims)
    assert one_seed[0][1] == "needs more seeds"


def test_rows_that_are_only_published_stand_beside_their_own_data_set(tmp_path):
    table, grid = planned("table1", tmp_path)
    write_results(grid, scattered)
    rows, logs = tables.collect(table, grid), tables.logs(grid)
    for dataset, shown in (("NCALTECH101", True), ("nmnist", False)):
        origin = paper_table.Origin(dataset, "setting", [], "", "command")
        assert ("| EventMixer" in paper_table.write(table, rows, logs, origin, tmp_path)) is shown


def test_without_published_values_there_is_no_such_column(tmp_path):
    table, grid = planned("causes", tmp_path)
    write_results(grid, scattered)
    origin = paper_table.Origin("nmnist", "setting", [], "", "command")
    paper_table.write(table, tables.collect(table, grid), tables.logs(grid), origin, tmp_path)
    assert "published" not in (tmp_path / "causes.md").read_text()
    assert not (tmp_path / "causes_curves.png").exists()  # more rows than can be told apart


def test_a_missing_run_is_refused_by_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, grid = planned("table1", tmp_path)
    write_results(grid, scattered)
    shutil.rmtree(grid["TMKT"][1].folder)
    words = [
        "table1",
        "--data",
        "ndigits",
        "--output",
        str(tmp_path),
        "--collect",
        *SMALL,
        "--seed",
        "1",
        "2",
    ]
    assert main(words) == 2
    assert "table1 lacks 1 of 6 runs: seed-2_method-tmkt." in capsys.readouterr().err
    assert not (tmp_path / "table1.md").exists()
    assert main([*words[:-1]]) == 0
    out = capsys.readouterr().out
    assert "1 seeds" not in out and "needs more seeds" in out


def test_runs_of_other_settings_are_refused_with_the_difference(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, grid = planned("table1", tmp_path)
    write_results(grid, scattered)
    config = grid["baseline"][0].folder / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"lr": 0.25}))
    words = [
        "table1",
        "--data",
        "ndigits",
        "--output",
        str(tmp_path),
        "--collect",
        *SMALL,
        "--seed",
        "1",
        "2",
    ]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "seed-1_method-baseline" in error and re.search(r"lr: there 0\.25, here 0\.1", error)


@pytest.mark.parametrize(
    "words, expected",
    [
        ("--data nmnistt", "Did you mean 'nmnist'"),
        ("--data ndigits --method tmkt", "--method belongs to the rows"),
        ("--data ndigits -c x.yaml", "Cannot read the config file"),
        (f"--data ndigits -c {RECIPE}", "the settings are those of --data ndigits"),
        ("--data ndigits --resume", "--resume is for main_transfer.py"),
        ("--data ndigits --seed 1 1", "names the same value twice"),
        ("--data ndigits --mixup-law truncated --step 1", "cannot be reached by the truncated law"),
        ("--data ndigits --lerning-rate 1", "lerning-rate"),
        ("", "--data"),
    ],
)
def test_bad_words_are_refused_before_anything_runs(tmp_path, capsys, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    assert main(["table1", *words.split()]) == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"reference": "nobody"}, "no such row: ['nobody']"),
        ({"rows": [{"name": "none", "options": {"method": "tmkt"}}] * 2}, "rows twice: ['none']"),
        ({"colour": "red"}, "is no table"),
        ({"rows": [{"nam": "none"}]}, "is no table"),
    ],
)
def test_a_table_file_with_mistakes_is_refused(tmp_path, change, expected):
    path = tmp_path / "table2.yaml"
    path.write_text(
        yaml.safe_dump(yaml.safe_load((tables.SCRIPTS / "tables" / "table2.yaml").read_text()) | change)
    )
    with pytest.raises(UserError, match=re.escape(expected)):
        load_table(path)


def test_unknown_commands_and_help(capsys):
    assert main(["table9"]) == 2
    assert "Did you mean 'table" in capsys.readouterr().err
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n  {name} " in listed for name in COMMANDS)
    with pytest.raises(SystemExit, match="0"):
        main(["table1", "--help"])
    assert "--slurm" in capsys.readouterr().out


@pytest.mark.slow
def test_a_table_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tables.SCRIPTS.parent))
    words = ["table3", "--data", "ndigits", *SMALL, "--seed", "1", "--jobs", "2"]
    assert main([*words, "--dry-run"]) == 0
    assert "6 jobs: 0 finished, 0 begun, 6 new" in capsys.readouterr().out
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "| baseline" in out and "Events are emulated" in out and "torch " in out
    folder = tmp_path / "results" / "tables" / "ndigits"
    rows = pd.read_csv(folder / "table3.csv", dtype={"row": str})
    assert (
        list(rows["row"]) == ["baseline", "0.3", "0.4", "0.5", "0.6", "0.7"]
        and rows["top1_last"].between(0, 100).all()
    )
    assert main([*words[:-2], "--dry-run"]) == 0
    assert "6 jobs: 6 finished, 0 begun, 0 new" in capsys.readouterr().out
