"""The paper's tables: the runs that a row means, what is refused, the numbers against sums made by hand, a real run."""

import math
import re
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy import stats

from tests.program import run_here, run_table
from tmkt_braincog.comparison import write_csv
from tmkt_braincog.engine.compare import claim
from tmkt_braincog.errors import UserError
from tmkt_braincog.experiments import jobs, paper_table, tables
from tmkt_braincog.experiments.table_file import TABLES, listed, load_table
from tmkt_braincog.methods import build_method
from tmkt_braincog.teacher import Teacher, save_teacher

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "tmkt_braincog" / "tables").glob("*.yaml"))
RECIPE = "quickstart"
MODEL = "--step 4 --event-size 28 --no-tensorboard"
BUDGET = "--shots 4 --batch-size 20 --epoch-size 40 --epochs 2 --warmup-epochs 1 --eval-interval 1"
SMALL = f"{MODEL} {BUDGET}".split()


def planned(table: str, tmp_path, seeds=(1, 2), extra=(), every_row=False):
    """Table and runs; without teachers unless ``extra`` gives them, or with all its rows."""
    loaded, words = load_table(table), ["-c", RECIPE, *SMALL, *extra]
    if not every_row:
        loaded, _ = tables.leave_out(loaded, words, seeds[0])
    return loaded, tables.plan(loaded, tmp_path / "jobs", words, seeds)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Folder of static-1.pt and events-1.pt, which a table's check can read: never to be trained with."""
    folder = tmp_path_factory.mktemp("teachers")
    about = dict(
        model="resnet10t", size=32, classes=["0"], seen={}, fingerprint="", accuracy=0.0, recipe={}
    )
    for on in ("static", "events"):
        teacher = Teacher(on=on, trained=torch.tensor([0]), weights={}, **about)
        save_teacher(folder / f"{on}-1.pt", teacher)
    return folder


def write_results(grid, top1):
    """Finished runs without training; ``top1(row, seed)`` in percent. Returns the numbers by row."""
    seen = {}
    for name, of_row in grid.items():
        for job in of_row:
            (seed,), (method,) = job.options.seed, job.options.method
            if not job.finished():
                claim(job.folder, job.options)
                row = dict(
                    method=method,
                    seed=seed,
                    protocol=job.options.protocol,
                    top1_best=top1(name, seed),
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
    return round(
        50 + 7 * (sum(map(ord, name)) % 5) + np.random.default_rng((len(name), seed)).random(), 4
    )


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_table_file_is_a_command_and_plans_its_runs(path, tmp_path):
    table, grid = planned(path.stem, tmp_path, every_row=True)
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
        folders["table2"]["TSM + MAG + MRP"]
        == folders["table3"]["0.4"]
        == folders["table4"]["TSM"]
        == tmkt
    )
    assert folders["table2"]["none"] == folders["table3"]["baseline"] == baseline
    assert len(set(chain(*(f.values() for f in folders.values())))) == 3 + 3 + 4 + 4
    # Another ratio in the data set's recipe: other folders are the plain ones then.
    _, grid = planned("table3", tmp_path, seeds=(1,), extra=["--mixup-ratio=0.7"])
    assert (
        grid["0.7"][0].folder.name == tmkt
        and grid["0.4"][0].folder.name == f"{tmkt}_mixup-ratio-0.4"
    )


def test_the_numbers_are_those_of_scipy_and_the_published_ones_stand_beside(tmp_path):
    table, grid = planned("table2", tmp_path, seeds=(1, 2, 3))
    top1 = write_results(grid, scattered)
    origin = tables.origin(grid, "the command")
    text = paper_table.write(
        table, tables.collect(table, grid), tables.logs(grid), origin, tmp_path
    )
    markdown = (tmp_path / "table2.md").read_text()
    assert (
        markdown.strip() in text
        and "Made by `the command`" in markdown
        and "Emulated <events>." in markdown
    )
    header, _, *body = [line for line in markdown.splitlines() if line.startswith("|")][:7]
    assert "published, NCALTECH101" in header
    cells = {
        row[0]: row[1:]
        for row in ([c.strip() for c in line.strip("|").split("|")] for line in body)
    }
    assert [cells[name][0] for name in top1] == ["93.45", "97.24", "97.36", "97.70", "97.93"]
    for name, values in top1.items():
        assert cells[name][1] == f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
        if name != "none":
            test = stats.ttest_rel(values, top1["none"])
            low, high = test.confidence_interval(0.95)
            assert (
                cells[name][2] == f"{(values - top1['none']).mean():+.2f} [{low:+.2f}, {high:+.2f}]"
            )
            assert cells[name][3] == ("<0.001" if test.pvalue < 0.001 else f"{test.pvalue:.3f}")
    rows = pd.read_csv(tmp_path / "table2.csv")
    assert sorted(rows["top1_last"]) == pytest.approx(
        sorted(np.concatenate(list(top1.values()))), abs=1e-4
    )
    latex = (tmp_path / "table2.tex").read_text()
    assert latex.count(r"\\") == 6 and r"95 \% CI" in latex and r"Emulated $<$events$>$." in latex
    for name in ("table2.png", "table2.pdf", "table2_curves.png", "table2_curves.pdf"):
        assert (tmp_path / name).read_bytes()[:4] in (b"\x89PNG", b"%PDF")


def test_every_backbone_is_compared_with_its_own_baseline(tmp_path):
    table, grid = planned("backbones", tmp_path, seeds=(1, 2, 3))
    models = {name: (jobs[0].options.model, jobs[0].options.method) for name, jobs in grid.items()}
    assert len(set(m for m, _ in models.values())) == 4 and len(models) == 13
    top1 = write_results(grid, scattered)
    origin = tables.origin(grid, "the command")
    assert (
        "Transfer_VGG_SNN (widths / 8), " in origin.setting
        and "Transfer_SCNN, T = 4" in origin.setting
    )
    paper_table.write(table, tables.collect(table, grid), tables.logs(grid), origin, tmp_path)
    text = (tmp_path / "backbones.md").read_text()
    header, _, *body = [line for line in text.splitlines() if line.startswith("|")][:15]
    assert (
        header.split("|")[2].strip() == "reference" and "Difference: to the row's reference" in text
    )
    for line in body:
        name, reference, _, last, p, _, best = [cell.strip() for cell in line.strip("|").split("|")]
        model, (method,) = models[name]
        if reference == "-":
            assert method == "baseline" and (last, p, best) == ("-",) * 3
            continue
        assert models[reference] == (model, ["baseline"])
        test = stats.ttest_rel(top1[name], top1[reference])
        low, high = test.confidence_interval(0.95)
        mean = (top1[name] - top1[reference]).mean()
        assert last == best == f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
        assert p == ("<0.001" if test.pvalue < 0.001 else f"{test.pvalue:.3f}")


def test_the_rows_of_a_backbone_differ_in_the_method_only():
    table = load_table("backbones")
    kinds = {}
    for row in table.run_rows():
        options = dict(row.options)
        kinds.setdefault(options.pop("model"), []).append((options.pop("method"), options))
    assert kinds["Transfer_VGG_SNN"].pop() == (
        "baseline",
        {"width-divisor": 8, "regularization": False},
    )
    for rows in kinds.values():
        assert [method for method, _ in rows] == ["event-only", "baseline", "tmkt"]
        assert rows[0][1] == rows[1][1] == rows[2][1]


@pytest.mark.parametrize(
    "table, words, expected",
    [
        ("backbones", "--model Transfer_SCNN", "--model belongs to the rows of backbones"),
        ("backbones", "--model=Transfer_SCNN", "--model belongs to the rows of backbones"),
        ("backbones", "--width-divisor 2", "--width-divisor 2: TransferSCNN has fixed widths"),
        ("leakage", "--protocol he2024", "--protocol belongs to the rows of leakage"),
    ],
)
def test_words_that_contradict_all_rows_are_refused(
    tmp_path, capsys, monkeypatch, table, words, expected
):
    monkeypatch.chdir(tmp_path)
    assert run_table([table, "--data", "ndigits", *words.split(), "--dry-run"]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    "gain, expected",
    [
        ((1, 1.1, 0.9), "holds"),
        ((-1, -1.1, -0.9), "fails: the reverse holds"),
        ((1, -1, 0.5), "undecided"),
    ],
)
def test_claims_are_decided_by_the_interval(gain, expected):
    rows = [("a", s, 50.0 + g) for s, g in enumerate(gain)] + [("b", s, 50.0) for s in range(3)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "top1_last"])
    frame = frame.assign(
        top1_best=frame["top1_last"], protocol="p", epoch_best=1, train_s=1.0, peak_mib=0.0
    )
    claims = [{"say": "a is better", "better": "a", "worse": "b"}]
    ((say, verdict, difference),) = paper_table.verdicts(frame, claims)
    assert (say, verdict) == ("a is better", expected) and difference.startswith(
        f"{np.mean(gain):+.2f} ["
    )
    one_seed = paper_table.verdicts(frame[frame["seed"] == 0], claims)
    assert one_seed[0][1] == "needs more seeds"


def test_rows_that_are_only_published_stand_beside_their_own_data_set(tmp_path):
    table, grid = planned("table1", tmp_path)
    write_results(grid, scattered)
    rows, logs = tables.collect(table, grid), tables.logs(grid)
    for dataset, shown in (("NCALTECH101", True), ("nmnist", False)):
        origin = paper_table.Origin(dataset, "setting", [], "", "command")
        assert ("| EventMixer" in paper_table.write(table, rows, logs, origin, tmp_path)) is shown


TRAINED_HERE = ["event-only", "baseline", "TMKT"]


@pytest.mark.parametrize(
    "given, rows, said",
    [
        ((), TRAINED_HERE, "CKD, SeAl-KD: not run, they need teachers: --teacher-checkpoint (see"),
        (("static",), ["CKD", *TRAINED_HERE], "SeAl-KD: not run, they need teachers"),
        (("events",), ["SeAl-KD", *TRAINED_HERE], "CKD: not run, they need teachers"),
        (("events", "static"), ["CKD", "SeAl-KD", *TRAINED_HERE], None),
    ],
)
def test_rows_that_need_teachers_are_run_where_there_are_some(
    tmp_path, teachers, capsys, given, rows, said
):
    extra = (
        ["--teacher-checkpoint", *(f"{teachers}/{on}-{{seed}}.pt" for on in given)] if given else []
    )
    table, grid = planned("table1", tmp_path, seeds=(1,), extra=extra)
    assert list(grid) == rows
    assert {claim[side] for claim in table.claims for side in ("better", "worse")} == set(rows)
    words = ["table1", "--data", "ndigits", "--output", str(tmp_path), *SMALL, "--seed", "1"]
    assert run_table([*words, "--dry-run", *extra]) == 0
    out = capsys.readouterr().out
    assert f"{len(rows)} jobs: 0 finished" in out
    assert out.splitlines()[-1].startswith(said) if said else "not run" not in out
    # A row that is not run shows what was published.
    write_results(grid, scattered)
    origin = paper_table.Origin("NCALTECH101", "setting", [], "", "command")
    text = paper_table.write(
        table, tables.collect(table, grid), tables.logs(grid), origin, tmp_path
    )
    (shown,) = re.findall(r"^\| CKD +\| 97.13 +\|(.*)\|$", text, re.M)
    assert all(cell.strip() == "-" for cell in shown.split("|")) == ("CKD" not in rows)


def test_tables_without_such_rows_take_teachers_without_a_word(tmp_path, teachers, capsys):
    extra = [
        "--teacher-checkpoint",
        str(teachers / "static-{seed}.pt"),
        str(teachers / "events-{seed}.pt"),
    ]
    for name in ("table2", "table3", "table4"):
        words = [
            name,
            "--data",
            "ndigits",
            "--output",
            str(tmp_path),
            *SMALL,
            "--seed",
            "1",
            "--dry-run",
        ]
        assert run_table([*words, *extra]) == 0
        with_teachers = capsys.readouterr().out
        assert run_table(words) == 0  # the same runs, by the same names
        assert [line.split("--")[0] for line in capsys.readouterr().out.splitlines()] == [
            line.split("--")[0] for line in with_teachers.splitlines()
        ]


def test_tables_about_teachers_refuse_to_run_without(tmp_path, teachers, capsys):
    words = ["--data", "ndigits", "--output", str(tmp_path), *SMALL, "--seed", "1", "--dry-run"]
    for name in ("neighbours", "ckd"):
        assert run_table([name, *words]) == 2
        assert (
            "needs a teacher trained on static: give --teacher-checkpoint"
            in capsys.readouterr().err
        )
    static = ["--teacher-checkpoint", str(teachers / "static-{seed}.pt")]
    assert run_table(["ckd", *words, *static]) == 0
    assert "8 jobs: 0 finished" in capsys.readouterr().out
    assert run_table(["table1", *words, "--teacher-checkpoint", "nowhere.pt"]) == 2
    assert "There is no teacher checkpoint nowhere.pt" in capsys.readouterr().err


def test_the_rows_of_ckd_are_what_they_are_called(tmp_path):
    _, grid = planned("ckd", tmp_path, seeds=(1,), extra=["--epochs", "8"])
    assert len({jobs[0].folder for jobs in grid.values()}) == len(grid) == 8
    built = {
        row: build_method(jobs[0].options.method[0], jobs[0].options, 5)
        for row, jobs in grid.items()
    }
    plain = built["CKD"].parts[0]
    assert not built.pop("no distillation").parts
    settings = {
        row: (m.parts[0].teacher_gives, m.parts[0].threshold, m.parts[0].k, m.mixing.power)
        for row, m in built.items()
    }
    assert settings == {
        "CKD": ("logits", 4, plain.k, 3),
        "features for logits": ("features", 4, plain.k, 3),
        "to 1/4 of the epochs": ("logits", 2, plain.k, 3),
        "to the last epoch": ("logits", 8, plain.k, 3),
        "k = 0.001": ("logits", 4, 0.001, 3),
        "all replaced": ("logits", 4, plain.k, 0),
        "none replaced": ("logits", 4, plain.k, math.inf),
    }


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
    assert run_table(words) == 2
    assert "table1 lacks 1 of 6 runs: seed-2_method-tmkt." in capsys.readouterr().err
    assert not (tmp_path / "table1.md").exists()
    assert run_table([*words[:-1]]) == 0
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
    assert run_table(words) == 2
    error = capsys.readouterr().err
    assert "seed-1_method-baseline" in error and re.search(r"lr: there 0\.25, here 0\.1", error)


@pytest.mark.parametrize(
    "words, expected",
    [
        ("--data nmnistt", "Did you mean 'nmnist'"),
        ("--data ndigits --method tmkt", "--method belongs to the rows"),
        ("--data ndigits -c x.yaml", "Cannot read the config file"),
        (f"--data ndigits -c {RECIPE}", "the settings are those of --data ndigits"),
        ("--data ndigits --resume", "--resume is for tmkt train"),
        ("--data ndigits --seed 1 1", "names the same value twice"),
        ("--data ndigits --mixup-law truncated --step 1", "cannot be reached by the truncated law"),
        ("--data ndigits --lerning-rate 1", "lerning-rate"),
        ("", "--data"),
    ],
)
def test_bad_words_are_refused_before_anything_runs(tmp_path, capsys, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    assert run_table(["table1", *words.split()]) == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"reference": "nobody"}, "no such row: ['nobody']"),
        ({"rows": [{"name": "none", "options": {"method": "tmkt"}}] * 2}, "rows twice: ['none']"),
        (
            {
                "rows": [{"name": "none", "reference": "x", "options": {"method": "tmkt"}}],
                "claims": [],
            },
            "no such row: ['x']",
        ),
        ({"colour": "red"}, "is no table"),
        ({"rows": [{"nam": "none"}]}, "is no table"),
    ],
)
def test_a_table_file_with_mistakes_is_refused(tmp_path, change, expected):
    path = tmp_path / "table2.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((TABLES / "table2.yaml").read_text()) | change))
    with pytest.raises(UserError, match=re.escape(expected)):
        load_table(str(path))


def test_unknown_commands_and_help(capsys):
    assert run_table(["table9"]) == 2
    assert "Did you mean 'table" in capsys.readouterr().err
    assert run_table(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in [*listed(), "sweep", "fewshot"])
    assert run_table(["table1", "--help"]) == 0
    assert "--slurm" in capsys.readouterr().out


OWN = """
title: Own
reference: baseline
rows:
  - {name: baseline, options: {method: baseline}}
  - {name: TMKT, options: {method: tmkt}, published: {NCALTECH101: 97.93}}
claims:
  - {say: TMKT beats the baseline, better: TMKT, worse: baseline}
"""


@pytest.mark.slow
def test_a_table_of_ones_own_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "_start", run_here)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    Path("own.yaml").write_text(OWN)
    words = ["own.yaml", "--data", "ndigits", *SMALL, "--seed", "1", "--jobs", "2"]
    assert run_table([*words, "--dry-run"]) == 0
    assert "2 jobs: 0 finished, 0 begun, 2 new" in capsys.readouterr().out
    assert run_table(words) == 0
    out = capsys.readouterr().out
    assert "| baseline" in out and "Events are emulated" in out and "torch " in out
    assert "Made by `tmkt table own.yaml --data ndigits" in out
    rows = pd.read_csv(tmp_path / "results" / "tables" / "ndigits" / "own.csv")
    assert list(rows["row"]) == ["baseline", "TMKT"] and rows["top1_last"].between(0, 100).all()
    assert run_table([*words[:-2], "--dry-run"]) == 0
    assert "2 jobs: 2 finished, 0 begun, 0 new" in capsys.readouterr().out
