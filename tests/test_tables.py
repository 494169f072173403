"""Tables: the runs that rows mean, what is refused, numbers against sums by hand, real runs."""

import json
import math
import re
import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy import stats
from writers import random_events, write_mnist_idx, write_nmnist_tree

from tests.program import run_fewshot, run_here, run_table
from tests.table_runs import (
    RECIPE,
    SMALL,
    body,
    by_hand,
    jobs_by_row,
    planned,
    scattered,
    write_results,
)
from tmkt_braincog import jobs, table_plan, table_write
from tmkt_braincog.errors import UserError
from tmkt_braincog.methods import build_method
from tmkt_braincog.options import save_yaml
from tmkt_braincog.tables import SWEEP, TABLES, Row, Table, listed, load_table
from tmkt_braincog.teacher import Teacher, save_teacher


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Folder of static-1-4.pt and events-1-4.pt, which a check can read: not to be trained with."""
    folder = tmp_path_factory.mktemp("teachers")
    about = dict(
        model="resnet10t", size=32, classes=["0"], seen={}, fingerprint="", accuracy=0.0, recipe={}
    )
    for on in ("static", "events"):
        teacher = Teacher(on=on, trained=torch.tensor([0]), weights={}, **about)
        save_teacher(folder / f"{on}-1-4.pt", teacher)
    return folder


@pytest.mark.parametrize("name", [name for name in listed() if name != "fewshot"])
def test_every_table_file_is_a_command_and_plans_its_runs(name, tmp_path):
    table, runs = planned(name, tmp_path, every_row=True)
    grid = jobs_by_row(runs)
    assert list(grid) == [row.name for row in table.run_rows()]
    for row in table.run_rows():
        for job, seed in zip(grid[row.name], (1, 2), strict=True):
            assert job.options.seed == [seed]
            assert job.options.epochs == row.options.get("epochs", 2)
            for option, value in row.options.items():
                got = getattr(job.options, option.replace("-", "_"))
                assert got in (value, [value])


def test_tables_share_the_runs_that_they_have_in_common(tmp_path):
    folders = {}
    for name in ("table1", "table2", "table3", "table4"):
        grid = jobs_by_row(planned(name, tmp_path, seeds=(1,))[1])
        folders[name] = {row: jobs[0].folder.name for row, jobs in grid.items()}
    tmkt, baseline = folders["table1"]["TMKT"], folders["table1"]["baseline"]
    assert (tmkt, baseline) == ("seed-1_method-tmkt", "seed-1_method-baseline")
    same = (("table2", "TSM + MAG + MRP"), ("table3", "0.4"), ("table4", "TSM"))
    assert {folders[name][row] for name, row in same} == {tmkt}
    assert folders["table2"]["none"] == folders["table3"]["baseline"] == baseline
    assert len(set(chain(*(f.values() for f in folders.values())))) == 8 + 3 + 4 + 4
    # Another ratio in the data set's recipe: other folders are the plain ones then.
    grid = jobs_by_row(planned("table3", tmp_path, seeds=(1,), extra=["--mixup-ratio=0.7"])[1])
    assert grid["0.7"][0].folder == tmp_path / "jobs" / tmkt
    assert grid["0.4"][0].folder.name == f"{tmkt}_mixup-ratio-0.4"


def test_a_table_of_ones_own_with_an_axis(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(OWN_TABLE + "axis: {option: mixup-ratio, values: [0.3, 0.5]}\n")
    words = ["own.yaml", "--data", "ndigits", *SMALL, "--seed", "1", "--dry-run"]
    assert run_table(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 jobs: 0 finished, 0 begun, 3 new"  # the baseline does not take it
    folder = "results/tables/ndigits/jobs/seed-1_method-tmkt_mixup-ratio-0."
    assert all(any(f"{folder}{k} " in line for line in lines) for k in (3, 5))
    assert run_table([*words, "--mixup-ratio", "0.3"]) == 0
    assert capsys.readouterr().out.startswith("2 jobs:")
    wide = load_table("own.yaml").expanded([0.3, 0.5])
    (_, claim), at = wide.claims, ", mixup-ratio 0.5"
    assert [claim["better"], claim["worse"]] == [f"TMKT{at}", f"baseline{at}"]
    assert wide.references()[f"TMKT{at}"] == f"baseline{at}" == wide.references()[f"baseline{at}"]
    assert wide.rows[3].labels == {"mixup-ratio": "0.5", "method": "TMKT"}
    assert wide.with_rows(wide.rows) == replace(wide, claims=list(wide.claims))
    assert wide.with_rows(wide.rows[1:2]).reference == wide.rows[1].name


def test_the_rows_of_ckd_are_what_they_are_called(tmp_path):
    grid = jobs_by_row(planned("ckd", tmp_path, seeds=(1,), extra=["--epochs", "8"])[1])
    assert len({jobs[0].folder for jobs in grid.values()}) == len(grid) == 8
    options = {row: jobs[0].options for row, jobs in grid.items()}
    built = {row: build_method(o.method[0], o, 5) for row, o in options.items()}
    k = built["CKD"].parts[0].k
    assert not built.pop("no distillation").parts
    assert [
        (m.parts[0].teacher_gives, m.parts[0].threshold, m.parts[0].k, m.mixing.power)
        for m in built.values()
    ] == [
        ("logits", 4, k, 3),
        ("features", 4, k, 3),  # for logits
        ("logits", 2, k, 3),  # to 1/4 of the epochs
        ("logits", 8, k, 3),  # to the last epoch
        ("logits", 4, 0.001, 3),
        ("logits", 4, k, 0),  # all replaced
        ("logits", 4, k, math.inf),  # none replaced
    ]


def test_the_numbers_are_those_of_sums_by_hand_in_every_file(tmp_path):
    table, runs = planned("table2", tmp_path, seeds=(1, 2, 3))
    top1 = write_results(runs, scattered)
    text = table_write.write(table, runs, "the command", tmp_path)
    markdown = (tmp_path / "table2.md").read_text()
    assert markdown.strip() in text and "Made by `the command`" in markdown
    assert "Two <files>." in markdown
    assert "published" not in markdown and "97.93" not in markdown  # that is of another data set
    rows = {row[0]: row[1:] for row in body(markdown).values()}
    fact = json.loads((tmp_path / "table2.json").read_text())
    facts = {row["name"]: row["values"] for row in fact["rows"]}
    other_head = {run.row for run in runs if run.method == "tmkt"}
    assert 0 < len(other_head) < len(top1)
    for name, values in top1.items():
        if name == "none":
            assert rows[name][1:3] == ["-", "-"] and "reference" not in facts[name]
            assert facts[name]["last_diff"] is None
            continue
        mean, difference, p = by_hand(values, top1["none"])
        static = f"{values.mean() + 1:.2f}" if name in other_head else "-"
        assert rows[name] == [mean, difference, p, mean, difference, static, "77.25"]
        assert facts[name]["n"] == 3 and facts[name]["reference"] == "none"
        assert facts[name]["last_mean"] == pytest.approx(values.mean())
        assert facts[name]["best_p"] == pytest.approx(stats.ttest_rel(values, top1["none"]).pvalue)
    csv = pd.read_csv(tmp_path / "table2.csv")
    columns = ["method", "seed", "protocol", "top1_best", "top1_last", "epoch_best", "row"]
    assert list(csv) == [*columns, "val_last", "static_last"] and len(csv) == 15
    assert csv.set_index(["row", "seed"])["top1_last"]["TSM"].tolist() == top1["TSM"].tolist()
    latex = (tmp_path / "table2.tex").read_text()
    assert latex.count(r"\\") == 6 and r"95 \% CI" in latex and r"Two $<$files$>$." in latex
    for name in ("table2.png", "table2.pdf", "table2_curves.png", "table2_curves.pdf"):
        assert (tmp_path / name).read_bytes()[:4] in (b"\x89PNG", b"%PDF")
    about = ("kind", "name", "title", "command", "dataset", "emulated", "protocol", "reference")
    expected = ["table", "table2", table.title, "the command", "ndigits", True, "clean", "none"]
    assert [fact[key] for key in about] == expected
    assert fact["pictures"] == ["table2.png", "table2_curves.png"]
    assert set(fact["columns"]) == set(facts["TSM"]) and fact["caption"] in markdown
    assert [claim["say"] for claim in fact["claims"]] == [claim["say"] for claim in table.claims]
    one = fact["claims"][1]
    ours = top1["TSM + MAG"] - top1["TSM"]
    assert one["difference"] == pytest.approx(ours.mean()) and one["low"] < one["high"]
    assert one["p"] <= one["p_holm"] <= 1


def test_a_picture_names_protocols_other_than_the_default(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(table_write, "plot_rows", lambda *_, title, **__: titles.append(title))
    for name in ("leakage", "table2"):
        table, runs = planned(name, tmp_path)
        write_results(runs, scattered)
        table_write.write(table, runs, "the command", tmp_path)
    assert ["protocol" in title for title in titles] == [True] * 2 + [False] * 2  # .png and .pdf
    assert "protocol clean and leak" in titles[0]


def test_every_backbone_is_compared_with_its_own_baseline(tmp_path):
    table, runs = planned("backbones", tmp_path)
    options = {name: jobs[0].options for name, jobs in jobs_by_row(runs).items()}
    models = {name: (o.model, o.method) for name, o in options.items()}
    assert len(set(m for m, _ in models.values())) == 4 and len(models) == 13
    top1 = write_results(runs, scattered)
    text = table_write.write(table, runs, "the command", tmp_path)
    assert "Transfer_VGG_SNN (widths / 8), " in text and "Transfer_SCNN, T = 4" in text
    assert "Difference: to the row's reference" in text
    header, _, *rows = body(text).values()
    assert header[:3] == ["row", "reference", "last epoch"]
    for name, reference, mean, last, p, _, best, *_ in rows:
        model, (method,) = models[name]
        if reference == "-":
            assert method == "baseline" and (last, p, best) == ("-",) * 3
            continue
        assert models[reference] == (model, ["baseline"])
        assert [mean, last, p] == by_hand(top1[name], top1[reference]) and best == last
    assert not (tmp_path / "backbones_curves.png").exists()  # more rows than can be told apart


def test_published_values_stand_beside_their_own_data_set_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(table_write, "_draw", lambda *rest: [])
    table, runs = planned("table1", tmp_path)
    write_results(runs, scattered)
    text = table_write.write(table, runs, "command", tmp_path)
    assert "82.50" not in text and "93.18" not in text
    for run in runs:
        run.job.options.target_dataset = "NCALTECH101"
    rows = {row[0]: row[1] for row in body(table_write.write(table, runs, "", tmp_path)).values()}
    found = {name: rows[name] for name in ("baseline", "EventMixer", "CKD")}
    assert found == {"baseline": "93.18", "EventMixer": "79.50", "CKD": "97.13"}
    assert "Ev2Vid" not in rows


HERE = ["event-only", "baseline", "TMKT"]
OTHERS = ["NDA", "EventMixer", "TET", "TKS", "ETC", "R2ETL with TCKA"]


@pytest.mark.parametrize(
    "given, rows, said",
    [
        ([], HERE, "CKD, SeAl-KD, VL2Spike, our reading: not run, they need teachers: --teacher"),
        (["static"], ["CKD", *HERE], "SeAl-KD, VL2Spike, our reading: not run, they need teachers"),
        (["events", "static"], ["CKD", "SeAl-KD", *HERE], "VL2Spike, our reading: not run"),
    ],
)
def test_rows_that_need_teachers(tmp_path, teachers, capsys, given, rows, said):
    extra = [f"{teachers}/{on}-{{seed}}-{{shots}}.pt" for on in given]
    extra = ["--teacher-checkpoint", *extra] if given else []
    table, runs = planned("table1", tmp_path, seeds=(1,), extra=extra)
    assert [run.row for run in runs] == [*OTHERS, *rows]
    claimed = {claim[side] for claim in table.claims for side in ("better", "worse")}
    assert claimed == {*OTHERS, *rows} - {"TET"}
    words = ["--data", "ndigits", "--output", str(tmp_path), *SMALL, "--seed", "1", "--dry-run"]
    assert run_table(["table1", *words, *extra]) == 0
    out = capsys.readouterr().out
    assert f"{len(OTHERS) - 1 + len(rows)} jobs: 0 finished" in out  # TET is event-only
    assert out.splitlines()[-1].startswith(said)
    # Tables about teachers need them, one without such rows has the same runs, by the same names.
    assert run_table(["ckd", *words, *extra]) == (0 if "static" in given else 2)
    assert ("needs a teacher trained on static" in capsys.readouterr().err) != ("static" in given)
    assert run_table(["table2", *words, *extra]) == run_table(["table2", *words]) == 0
    lines = [line.split("--")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines[:6] == lines[6:]
    assert run_table(["table1", *words, "--teacher-checkpoint", "nowhere.pt"]) == 2
    assert "There is no teacher checkpoint nowhere.pt" in capsys.readouterr().err


def test_a_missing_run_is_refused_by_name(tmp_path, capsys):
    _, runs = planned("table1", tmp_path)
    write_results(runs, scattered)
    shutil.rmtree(jobs_by_row(runs)["TMKT"][1].folder)
    words = ["table1", "--data", "ndigits", "--output", str(tmp_path), "--collect", *SMALL]
    assert run_table([*words, "--seed", "1", "2"]) == 2
    assert "table1 lacks 1 of 16 runs: seed-2_method-tmkt." in capsys.readouterr().err
    assert not (tmp_path / "table1.md").exists()
    assert run_table([*words, "--seed", "1"]) == 0
    out = capsys.readouterr().out
    assert "1 seeds" not in out and "needs more seeds" in out and "--collect" not in out


SWEEP_WORDS = "sweep --output never --vary "


@pytest.mark.parametrize(
    "words, expected",
    [
        ("table1 --data nmnistt", "Did you mean 'nmnist'"),
        ("table1 --data ndigits --method tmkt", "--method belongs to the rows"),
        ("table1 --data ndigits -c x.yaml", "Cannot read the config file"),
        (f"table1 --data ndigits -c {RECIPE}", "the settings are those of --data ndigits"),
        ("table1 --data ndigits --resume", "--resume is for tmkt train"),
        ("table1 --data ndigits --seed 1 1", "names the same value twice"),
        ("fewshot --data-root DATA --shots 1 1", "--shots names the same value twice"),
        ("fewshot --data-root DATA --method tmkt tmkt", "--method names the same value twice"),
        ("fewshot --data-root DATA --method tmtk", "Did you mean 'tmkt'"),
        ("table3 --data ndigits --mixup-law truncated --step 1", "reached by the truncated law"),
        ("table1", "--data"),
        ("table9", "Did you mean 'table"),
        ("backbones --data ndigits --model=Transfer_SCNN", "--model belongs to the rows"),
        ("backbones --data ndigits --width-divisor 2", "TransferSCNN has fixed widths"),
        ("leakage --data ndigits --protocol he2024", "--protocol belongs to the rows of leakage"),
        (f"{SWEEP_WORDS} no-mag=true,false", "unrecognized arguments: --no-mag"),
        (f"{SWEEP_WORDS} mixup-ration=0.3", "Did you mean --mixup-ratio"),
        (f"{SWEEP_WORDS} mixup-ratio=0.3,1.2", "above 0 and below 1"),
        (f"{SWEEP_WORDS} mixup-ratio=0.3,lots", "mixup-ratio: invalid float value: 'lots'"),
        (f"{SWEEP_WORDS} method=tmkt,tmtk", "Did you mean 'tmkt'"),
        (f"{SWEEP_WORDS} regularization=true,maybe", "expected true or false, seen 'maybe'"),
        (f"{SWEEP_WORDS} mixup-ratio", "expected NAME=VALUE,..."),
        (f"{SWEEP_WORDS} mixup-ratio=0.3,,0.4", "expected NAME=VALUE,..."),
        (f"{SWEEP_WORDS} seed=1,2,1", "names the same value twice"),
        (f"{SWEEP_WORDS} seed=1 --vary seed=2", "--vary seed=2 is there twice"),
        (f"{SWEEP_WORDS} device=cpu,cuda", "--device changes no result"),
        (f"{SWEEP_WORDS} seed=1,2 --epochz 3", "--epochz 3. Did you mean --epochs"),
        (f"{SWEEP_WORDS} seed=1,2 --eval", "--eval is for tmkt train"),
        (f"{SWEEP_WORDS} epochs=30,3 --warmup-epochs 5", "epochs-3: --warmup-epochs 5"),
        (f"{SWEEP_WORDS} seed=1,2 --jobs 0", "at least 1"),
        (f"{SWEEP_WORDS} seed=1,2 --jobs 2 --slurm time=5", "not allowed with"),
        (f"{SWEEP_WORDS} seed=1,2 --slurm time", "expected KEY=VALUE"),
        (f"{SWEEP_WORDS} seed=1,2 --collect", "sweep lacks 2 of 2 runs"),
    ],
)
def test_bad_words_are_refused_before_anything_runs(tmp_path, capsys, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "run", lambda *rest: pytest.fail("a job was started"))
    assert run_table(words.split()) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and expected in message and "Traceback" not in message
    assert not list(tmp_path.iterdir())


ONE = {"name": "none", "options": {"method": "tmkt"}}


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"reference": "nobody"}, "no such row: ['nobody']"),
        ({"rows": [ONE, ONE]}, "rows twice: ['none']"),
        ({"rows": [ONE | {"reference": "x"}], "claims": []}, "no such row: ['x']"),
        ({"colour": "red"}, "is no table"),
        ({"rows": [{"nam": "none"}]}, "is no table"),
    ],
)
def test_a_table_file_with_mistakes_is_refused(tmp_path, change, expected):
    path = tmp_path / "table2.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((TABLES / "table2.yaml").read_text()) | change))
    with pytest.raises(UserError, match=re.escape(expected)):
        load_table(str(path))


def test_rows_of_a_folder_of_their_own_must_be_one_run(tmp_path):
    rows = (Row("a", {"method": "tmkt", "lr": 0.1}), Row("b", {"method": "baseline", "lr": 0.2}))
    table = Table("t", "T", "a", rows, folder="s-{seed}")
    with pytest.raises(UserError, match="different options would share the folder"):
        table_plan.jobs_of(table_plan.plan(table, tmp_path, [], [1]))


def test_a_row_gives_all_values_of_a_list(tmp_path):
    camera = ["flip=true", "vary=1"]
    rows = (Row("a", {"method": "tmkt", "source-encoding": "saccade", "camera": camera}),)
    (run,) = table_plan.plan(Table("t", "T", "a", rows), tmp_path, [], [1])
    assert run.job.options.camera == camera
    assert "camera-flip-true-vary-1" in run.job.name


def test_help_names_all_tables(capsys):
    assert run_table(["--help"]) == 0
    out = capsys.readouterr().out
    assert {"fewshot", "table1", "causes"} < set(listed())
    assert all(f"\n  {name} " in out for name in [*listed(), *SWEEP])
    assert run_table(["table1", "--help"]) == 0
    assert "--slurm" in capsys.readouterr().out


FEWSHOT_RECIPE = """
source-dataset: mnist
target-dataset: nmnist
leftover: parity
step: 3
batch-size: 8
epoch-size: 16
epochs: 2
warmup-epochs: 1
"""


@pytest.fixture
def fewshot(tmp_path) -> list[str]:
    """The words of a small curve, on a stand-in tree in the real formats."""
    labels = [i % 10 for i in range(50)]
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28))
    for split, idx in (("Train", "train"), ("Test", "t10k")):
        write_nmnist_tree(
            tmp_path, {(split, d, i + 1): random_events(200, seed=i) for i, d in enumerate(labels)}
        )
        write_mnist_idx(tmp_path, idx, images, labels)
    (tmp_path / "recipe.yaml").write_text(FEWSHOT_RECIPE)
    words = f"--data-root {tmp_path} --recipe {tmp_path}/recipe.yaml --shots 1 2 --seed 1 2"
    return [*words.split(), "--output", str(tmp_path / "out")]


def test_a_curve_whose_methods_are_one_run(fewshot, tmp_path, capsys):
    words = ["-c", str(tmp_path / "recipe.yaml"), "--data-root", str(tmp_path), "--no-tensorboard"]
    runs = table_plan.plan(load_table("fewshot").expanded([1, 2]), tmp_path / "out", words, (1, 2))
    folders = {tmp_path / f"out/shots-{k}/seed-{seed}" for k in (1, 2) for seed in (1, 2)}
    assert {run.job.folder for run in runs} == folders
    assert runs[0].job.options.method == ["event-only", "baseline", "tmkt"]
    top1 = write_results(runs, scattered)
    assert run_fewshot([*fewshot, "--dry-run"]) == 0
    assert "4 jobs: 4 finished" in capsys.readouterr().out
    assert run_fewshot([*fewshot, "--collect"]) == 0
    text = (tmp_path / "out/fewshot.md").read_text()
    assert text in capsys.readouterr().out and "the even-numbered ones validate" in text
    rows = body(text)
    for k in "12":
        expected = by_hand(top1[f"tmkt, shots {k}"], top1[f"baseline, shots {k}"])
        row = rows[k, "tmkt", "2"]
        assert row[3:6] == expected and row[-1] == "77.25"
        assert rows[k, "baseline", "2"][4] == "-"
    csv = pd.read_csv(tmp_path / "out/fewshot.csv")
    columns = "shots method seed protocol top1_best top1_last epoch_best val_last static_last"
    assert list(csv) == columns.split() and len(csv) == 12 and set(csv.shots) == {1, 2}
    assert all((tmp_path / f"out/fewshot.{s}").stat().st_size > 3000 for s in ("png", "pdf"))
    # A run without the reference has no differences.
    assert run_fewshot([*fewshot, "--method", "tmkt", "--collect"]) == 0
    assert body((tmp_path / "out/fewshot.md").read_text())["2", "tmkt", "2"][4] == "-"


def test_shots_that_the_data_do_not_have(fewshot, tmp_path, capsys):
    assert run_fewshot([*fewshot, "--shots", "9"]) == 2
    assert "shots 9, seed 1: --shots 9: class 0 has only 5" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/shots*"))


OWN_TABLE = """
title: Own
reference: baseline
rows:
  - {name: baseline, options: {method: baseline}}
  - {name: TMKT, options: {method: tmkt}, published: {NCALTECH101: 97.93}}
claims:
  - {say: TMKT beats the baseline, better: TMKT, worse: baseline}
"""


@pytest.mark.slow
def test_a_table_of_ones_own_end_to_end_and_a_job_that_fails(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "start", run_here)
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(OWN_TABLE)
    words = ["own.yaml", "--data", "ndigits", *SMALL, "--seed", "1", "--jobs", "2"]
    assert run_table([*words, "--dry-run"]) == 0
    assert "2 jobs: 0 finished, 0 begun, 2 new" in capsys.readouterr().out
    # An interrupted run whose checkpoint was damaged since.
    folder = Path("results/tables/ndigits")
    job = table_plan.plan(load_table("own.yaml"), folder, ["-c", RECIPE, *SMALL], [1])[1].job
    checkpoint = job.folder / "runs/tmkt-seed1/last.pt"
    checkpoint.parent.mkdir(parents=True)
    save_yaml(job.options, job.folder / "config.yaml")
    checkpoint.write_bytes(b"damaged")
    assert run_table(words) == 2
    seen = capsys.readouterr().err
    assert "1 of 2 jobs failed:\n  seed-1_method-tmkt (status 2" in seen and str(job.log) in seen
    assert f"error: The checkpoint {checkpoint} cannot be read" in seen
    assert not (folder / "own.md").exists()
    # Mended, only that one is run.
    checkpoint.unlink()
    (result,) = folder.glob("jobs/*/runs/*/result.json")
    before = result.stat().st_mtime_ns
    assert run_table(words) == 0 and result.stat().st_mtime_ns == before
    out = capsys.readouterr().out
    assert "| baseline" in out and "Events are emulated" in out and "torch " in out
    assert "Made by `tmkt table own.yaml --data ndigits" in out
    assert json.loads((folder / "own.json").read_text())["emulated"] is True
    rows = pd.read_csv(folder / "own.csv")
    assert list(rows["row"]) == ["baseline", "TMKT"]
    log = pd.read_csv(checkpoint.with_name("log.csv"))
    assert rows["top1_last"][1] == pytest.approx(log["test_top1"].iloc[-1], abs=1e-4)
    assert run_table([*words[:-2], "--dry-run"]) == 0
    assert "2 jobs: 2 finished, 0 begun, 0 new" in capsys.readouterr().out
