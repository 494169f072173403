"""The report: its numbers against the files, that nothing foreign gets in, and what it says is missing."""

import base64
import io
import json
import re
import shutil
import subprocess
from argparse import Namespace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tests.program import run_report, run_train
from tmkt_braincog import report_runs
from tmkt_braincog.comparison import COLUMNS, read_csv, summarise, write_csv
from tmkt_braincog.errors import UserError
from tmkt_braincog.options import identity, parse, resolve, save_yaml
from tmkt_braincog.plots import plot_curves
from tmkt_braincog.report_files import safe_html
from tmkt_braincog.report_runs import make_groups
from tmkt_braincog.runs import Run, all_seeds, find_runs, read_options, run_folders

REPOSITORY = Path(__file__).resolve().parents[2]
METHODS = ("event-only", "baseline", "tmkt")
LOSSES = {
    "event-only": ["cls_event"],
    "baseline": ["cls_event", "cls_static", "sigma_1", "sigma_2"],
}
LOSSES["tmkt"] = ["cls_mixed", "mag", "sigma_1", "sigma_2"]
VOID = ("meta", "img", "hr", "br", "link", "input")
TAGS = r"html|head|meta|title|style|body|nav|section|div|p|span|strong|em|code|pre|h[1-4]|ul|li|a"
TAGS += r"|figure|figcaption|img|table|thead|tbody|tr|th|td"
HOSTILE = """\
# A table of <b>mine</b>

| method | top-1 |
| --- | ---: |
| <script>alert(1)</script> | 12.5 |
| `a < b` | <img src=x onerror=alert(2)> |

<script>alert(3)</script>

<div onclick="alert(4)">
raw
</div>

![remote](https://example.org/x.png) ![lost](lost.png) [run](javascript:alert(5)) [there][1] <https://example.org>

[1]: https://example.org/reference

```{.a onclick=alert(6)}
<table><tr><td>fenced &lt;
```
"""
TABLE = {
    "kind": "table", "name": "table1", "title": "Table <1>", "caption": "5 seeds; protocol clean.",
    "command": "tmkt table table1 --data ndigits", "dataset": "ndigits", "emulated": True,
    "protocol": "clean", "reference": "baseline", "columns": ["last epoch", "p"],
    "rows": [{"name": "baseline", "values": {"last epoch": 71.23456, "p": None}},
             {"name": "<i>TMKT</i>", "values": {"last epoch": "74.28 ± 5.22", "p": 0.19}}],
    "claims": [{"say": "TMKT helps", "verdict": "undecided", "difference": 3.05, "low": -1.5,
                "high": 7.6, "p": 0.19}],
    "pictures": ["table1_curves.png"],
}  # fmt: skip


class Page(HTMLParser):
    """A page as elements: checks that tags are balanced, keeps attributes, text and table rows."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text, self.style = [], [], "", ""
        self.rows, self.warnings = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if dict(attrs).get("class") == "warning":
            self.warnings.append("")
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("class")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tags = [tag for tag, _ in self.open]
        if "style" in tags:
            self.style += data
            return
        self.text += data
        if "td" in tags or "th" in tags:
            self.rows[-1][-1] += data
        if any(kind == "warning" for _, kind in self.open):
            self.warnings[-1] += data

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def images(self) -> dict[str, Image.Image]:
        """By caption, decoded; a page has no other sources."""
        images = {}
        for its in (its for tag, its in self.elements if tag == "img"):
            kind, _, data = its["src"].partition(",")
            assert kind == "data:image/png;base64"
            images[its["alt"]] = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
            images[its["alt"]].load()
        return images

    def check_safe(self) -> None:
        """No script, nothing from elsewhere, links only to places on the page."""
        assert all(re.fullmatch(TAGS, tag) for tag, _ in self.elements)
        names = {name for _, its in self.elements for name in its}
        assert not any(name.startswith("on") or name == "srcset" for name in names)
        assert len(self.images()) <= len(self.attributes("src"))
        ids = self.attributes("id")
        assert len(ids) == len(set(ids))
        assert all(href[0] == "#" and href[1:] in ids for href in self.attributes("href"))
        assert "url(" not in self.style and "@import" not in self.style


def make_runs(output: Path, methods=METHODS, seeds=(1, 2), **more) -> Path:
    """An output folder as ``tmkt train`` leaves it, but for weights; numbers that no two runs share."""
    words = f"--method {' '.join(methods)} --seed {' '.join(map(str, seeds))} --epochs 3 --shots 4"
    options, _ = resolve(parse([*words.split(), "--output", str(output)]))
    vars(options).update(more)
    rows = []
    for method in methods:
        for seed in seeds:
            run = output / "runs" / f"{method}-seed{seed}"
            run.mkdir(parents=True)
            place = METHODS.index(method)
            top1 = 40 + 10 * place + (place + 1) * seed**2 + 3 * options.mixup_ratio
            row = (method, seed, options.protocol, top1 + 1.25, top1, 1, 2.5 + seed, 100 + seed)
            rows.append(dict(zip(COLUMNS, row, strict=True)))
            (run / "result.json").write_text(json.dumps(rows[-1]))
            log = {"epoch": range(3), "lr": 0.1, "loss": [3 / seed, 2.0, 1.0], "test_top1": top1}
            log |= {name: [seed, 0.5, 0.25] for name in LOSSES[method]}
            pd.DataFrame(log).to_csv(run / "log.csv", index=False)
            split = {"audit": "Audit: 0 of 7 <twins>.", "remarks": ["8 files."], "val": ["a"]}
            (run / "split.json").write_text(json.dumps(split | {"emulated": True}))
            kept = [{"torch": "2.99", "device": "Abacus"}]
            (run / "environment.json").write_text(json.dumps(kept))
    write_csv(rows, output / "comparison.csv")
    save_yaml(options, output / "config.yaml")
    return output


@pytest.fixture(scope="module", autouse=True)
def drawn():
    """Pictures of curves are not drawn; what would be: by its column, the logs of every label."""
    calls = {}

    def plot(runs, path, y, ylabel):
        calls[y] = runs
        Image.new("RGB", (4, 3)).save(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_runs, "plot_curves", plot)
        yield calls


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working directory with runs in results/three, and more files in it."""
    folder = tmp_path_factory.mktemp("report")
    data = str(folder.parent / "elsewhere" / "data")
    three = make_runs(folder / "results" / "three", data_root=data)
    (three / "figures").mkdir()
    for name in ("figures/gradcam_steps", "figures/own", "table1_curves", "comparison", "broken"):
        Image.new("RGB", (30, 20), "red").save(three / f"{name}.png")
    (three / "broken.png").write_bytes((three / "broken.png").read_bytes()[:60])
    (three / "text.png").write_text("no picture")
    (three / "figures" / "gradcam_steps.csv").write_text("a\n1\n")
    figure = {"kind": "figure", "title": "Own", "caption": "By me.", "pictures": ["own.png"]}
    (three / "figures" / "own.json").write_text(json.dumps(figure))
    (three / "table1.json").write_text(json.dumps(TABLE))
    (three / "table1.md").write_text("the same once more")
    (three / "damaged.json").write_text(json.dumps({"kind": "table", "title": "x"}))
    (three / "hostile.md").write_text(HOSTILE)
    (three / "sheet.csv").write_text('name,value\n"<script>alert(7)</script>",1.5\n')
    (three / "made.md").write_text(f"Made by `python -m x --output {three} --data-root {data}`\n")
    (three / "notes.txt").write_text("not shown")
    return folder


@pytest.fixture(scope="module")
def page(place, drawn) -> Page:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert run_report(["results/three"]) == 0
    return Page((place / "results" / "three" / "report" / "report.html").read_text())


def report_of(*words: str, output: str | Path = "out") -> Page:
    assert run_report([*map(str, words), "--output", str(output)]) == 0
    return Page((Path(output) / "report.html").read_text())


def check_over_seeds(page: Page, rows: pd.DataFrame) -> None:
    for method, row in summarise(rows).set_index("method").iterrows():
        for kind in ("best", "last"):
            (cells,) = [cells for cells in page.rows if cells[:2] == [method, kind]]
            expected = [row[f"{kind}_{name}"] for name in ("mean", "std")]
            shown = [float(number.replace("-", "nan")) for number in cells[3].split(" ± ")]
            assert shown == pytest.approx(expected, abs=0.0051, nan_ok=True)
            if len(rows) > 1 and method != "baseline":
                shown = [float(number) for number in re.findall(r"[-+][\d.]+", cells[4])]
                expected = [row[f"{kind}_{name}"] for name in ("diff", "low", "high")]
                assert shown == pytest.approx(expected, abs=0.0051)


def test_the_numbers_are_those_of_the_files(place, page):
    three = place / "results" / "three"
    rows = read_csv(three / "comparison.csv")
    check_over_seeds(page, rows)
    assert "best epoch on the validation set" in page.text
    assert "note: 8 files. Events are emulated from the images." in page.text
    for row in rows.itertuples():
        numbers = [f"{row.top1_best:.2f}", "1", f"{row.top1_last:.2f}", f"{row.train_s:.1f}"]
        cells = [row.method, str(row.seed), *numbers, f"{row.peak_mib:.0f}", "finished"]
        assert cells in page.rows
    assert ["seed 1; seed 2", "Audit: 0 of 7 <twins>. 8 files."] in page.rows
    assert ["", "6 of 6 runs"] in page.rows and ["device", "Abacus"] in page.rows


def test_settings_and_what_differs_from_the_defaults_of_the_data_set(page):
    rows = {row[0]: row[1:] for row in page.rows if row[0].startswith("--")}
    assert list(rows)[:2] == ["--method", "--seed"]  # what varies, first
    assert rows["--method"] == ["event-only, baseline, tmkt", "tmkt"]
    assert rows["--epochs"] == ["3", "20"] and rows["--lr"] == ["0.1", ""]
    changed = {name for name, (_, default) in rows.items() if default}
    assert changed == {"--method", "--seed", "--data-root", "--shots", "--epochs"}
    assert "--output" not in rows and "--resume" not in rows and "--no-mag" not in rows


def test_tables_and_figures_that_were_written_as_json(page):
    assert "Table <1>" in page.text and page.text.count("the same once more") == 0
    for row in (["baseline", "71.23", "-"], ["<i>TMKT</i>", "74.28 ± 5.22", "0.19"]):
        assert row in page.rows
    assert ["TMKT helps", "undecided", "3.05", "-1.5", "7.6", "0.19"] in page.rows
    assert any("damaged.json cannot be read" in warning for warning in page.warnings)
    assert set(page.images()) >= {"Own. By me.", "Table1 curves."} or page.images().keys()
    assert "tmkt table table1 --data ndigits" in page.text
    # Over seeds, table, curves, figures, runs.
    assert page.text.count("Events are emulated from the images.") == 1 + 5


def test_every_picture_is_inside_and_a_broken_one_stops_nothing(page):
    captions = set(page.images())
    steps = "Grad-CAM++ on events and on static images, the runs beside each other. (steps)"
    assert f"{steps} Numbers: gradcam_steps.csv." in captions
    assert {"Own. By me.", "Table1 curves.", "loss (weighted sum)", "cls_static"} <= captions
    for name in ("broken.png", "text.png"):
        assert any(f"{name} cannot be shown: it is no whole PNG" in w for w in page.warnings)
    assert "Files not shown: damaged.json, notes.txt." in page.text


def test_curves_hold_the_logs(place, page, drawn):
    run = place / "results" / "three" / "runs"
    for y in ("loss", "cls_event", "cls_static", "mag", "test_top1"):
        labels = [m for m in METHODS if y in ("loss", "test_top1", *LOSSES[m])]
        assert set(drawn[y]) == set(labels)
        for label in labels:
            for seed, log in enumerate(drawn[y][label], start=1):
                whole = pd.read_csv(run / f"{label}-seed{seed}" / "log.csv")
                assert list(log[y]) == list(whole[y]) and list(log["epoch"]) == [0, 1, 2]
    assert set(drawn["sigma"]) == {"baseline", "tmkt"}
    assert list(drawn["sigma"]["tmkt"][1]["sigma"]) == [2, 0.5, 0.25]
    assert not {"lr", "train_s", "epoch", "sigma_1"} & set(drawn)


def test_html_in_found_files_is_text(page):
    page.check_safe()
    for row in (["<script>alert(1)</script>", "12.5"], ["a < b", "<img src=x onerror=alert(2)>"]):
        assert row in page.rows
    assert ["<script>alert(7)</script>", "1.5"] in page.rows
    for words in ("<script>alert(3)</script>", '<div onclick="alert(4)">', "A table of <b>mine</b>",
                  "[run](javascript:alert(5))", "![remote](https://example.org/x.png)",
                  "<table><tr><td>fenced &lt;"):  # fmt: skip
        assert words in page.text


@pytest.mark.parametrize("word", re.split(r"\n\n+", HOSTILE))
def test_every_hostile_piece_alone(word):
    page = Page(safe_html(word))
    tags = {tag for tag, _ in page.elements}
    assert all(re.fullmatch(TAGS, tag) for tag in tags - {"a", "img"}) and not tags & {"a", "img"}
    assert {name for _, its in page.elements for name in its} <= {"class", "style"}


def test_a_hostile_method_and_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, folder = "<script>alert('m')</script>|`", tmp_path / '<b>"x" & y'
    make_runs(folder, seeds=(1,))
    rows = read_csv(folder / "comparison.csv").replace("tmkt", name)
    write_csv(rows, folder / "comparison.csv")
    Image.new("RGB", (3, 2)).save(folder / '"><script>.png')
    page = report_of(folder)
    page.check_safe()
    assert any(row[0] == name and row[3] == "65.45 ± -" for row in page.rows)
    assert 'Report: <b>"x" & y' in page.text


def test_no_paths_of_this_machine(place, page):
    whole = page.text + "".join(page.attributes("alt"))
    assert str(place) not in whole and str(place.parent) not in whole
    assert "python -m x --output results/three --data-root .../data" in whole


def test_what_is_not_finished_is_said(tmp_path, monkeypatch, capsys):
    runs = make_runs(tmp_path / "three") / "runs"
    (tmp_path / "three" / "comparison.csv").unlink()
    shutil.rmtree(runs / "tmkt-seed2")
    (runs / "baseline-seed2" / "result.json").unlink()
    log = pd.read_csv(runs / "baseline-seed2" / "log.csv")
    log.head(2).to_csv(runs / "baseline-seed2" / "log.csv", index=False)
    (runs / "event-only-seed2" / "result.json").write_text("{")
    (runs / "event-only-seed1" / "split.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    page = report_of("three")
    words = "3 of 6 runs are not finished: runs/event-only-seed2 (3 of 3 epochs), runs/baseline-seed2 (2 of 3 epochs), runs/tmkt-seed2 (not begun)."
    assert any(words in w for w in page.warnings) and words in capsys.readouterr().out
    for name in ("seed2/result.json", "seed1/split.json"):
        assert any(f"{name} cannot be read" in warning for warning in page.warnings)
    seeds = {row[0]: row[2] for row in page.rows if row[1:2] == ["last"]}
    assert seeds == dict.fromkeys(METHODS, "1")
    assert [row[-1] for row in page.rows if row[:2] == ["baseline", "2"]] == ["2 of 3 epochs"]
    assert "# go on with what is not finished" in page.text


def test_a_comparison_of_which_only_the_table_was_kept(tmp_path):
    folder = make_runs(tmp_path / "three")
    shutil.rmtree(folder / "runs")
    page = report_of(folder, output=tmp_path / "out")
    check_over_seeds(page, read_csv(folder / "comparison.csv"))
    assert page.warnings == [] and "Curves" not in page.text


def test_mixed_protocols_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = make_runs(Path("three")) / "runs" / "tmkt-seed1" / "result.json"
    Path("three/comparison.csv").unlink()
    result.write_text(json.dumps(json.loads(result.read_text()) | {"protocol": "he2024"}))
    make_runs(Path("other"), protocol="he2024")
    page = report_of("three", "other")
    page.check_safe()
    assert any("2 protocols cannot share a table" in warning for warning in page.warnings)
    words = "The folders follow different protocols (three: clean; other: he2024)"
    assert words in page.warnings[0] and words in capsys.readouterr().out


def test_a_folder_of_small_files(tmp_path):
    committed = REPOSITORY / "results" / "nmnist_fewshot"
    page = report_of(committed, output=tmp_path)
    page.check_safe()
    lines = (committed / "fewshot.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    rows = [row for row in rows if row and row[0].isdigit()]
    assert len(rows) == 15 and all(row in page.rows for row in rows)
    assert len(page.images()) == 1 and "No runs here" in page.text
    assert "Other files" not in page.text


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "ratios"
    for seed in (1, 2):
        for method in METHODS:
            make_runs(folder / "jobs" / f"{method}-{seed}", [method], [seed])
    make_runs(folder / "jobs" / "tmkt-1-0.3", ["tmkt"], [1], mixup_ratio=0.3)
    return folder


def test_jobs_are_grouped_by_what_their_method_takes(sweep, tmp_path):
    page = report_of(sweep, output=tmp_path)
    page.check_safe()
    tables = {row[0]: row for row in page.rows if row[1:2] == ["last"]}
    labels = ["baseline", "event-only", "tmkt, mixup-ratio 0.3", "tmkt, mixup-ratio 0.4"]
    assert sorted(tables) == labels
    # 60 + 3 + 3 * 0.3 against 50 + 2 + 3 * 0.4, of the one seed in common
    assert tables[labels[2]][2:5] == ["1", "63.90 ± -", "+10.70 [-]"]
    assert ["tmkt", "0.3", "1"] in [row[:3] for row in page.rows]
    assert ["baseline", "-", "1"] in [row[:3] for row in page.rows]


def test_what_differs_between_methods_only_is_in_the_label():
    def run(method, seed, **options):
        base = vars(resolve(parse(["--method", method]))[0]) | {"seed": [seed]} | options
        place = Path(f"{method}-{seed}-{options}")
        return Run(place, Namespace(**base), None, pd.DataFrame(), {}, [])

    def labels(runs):
        return {title: list(group) for title, group in make_groups(runs, []).items()}

    between = [run("baseline", 1, lr=0.1), run("tmkt", 1, lr=0.2)]
    assert labels(between) == {"": ["baseline, lr 0.1", "tmkt, lr 0.2"]}
    shots = [run(m, 1, shots=k) for k in (1, 5) for m in METHODS]
    assert labels(shots) == {"shots 1": list(METHODS), "shots 5": list(METHODS)}
    # Event-only training has no such coefficient: it stands beside both values.
    name = "domain-loss-coefficient"
    weights = [run(m, 1, domain_loss_coefficient=c) for c in (0.1, 0.5) for m in METHODS[1:]]
    beside = {f"{name} {c}": list(METHODS) for c in (0.1, 0.5)}
    assert labels([run("event-only", 1), *weights]) == beside
    only = [run("baseline", 1), run("tmkt", 1), run("tmkt", 1, domain_loss_coefficient=0.1)]
    assert labels(only) == {"": ["baseline", f"tmkt, {name} 0.5", f"tmkt, {name} 0.1"]}
    problems = []
    (group,) = make_groups(
        [run("tmkt", 1), run("tmkt", 1, workers=2), run("tmkt", 2)], problems
    ).values()
    assert [r.seed for r in group["tmkt"]] == [1, 2] and "only the latter counts" in problems[0]
    assert make_groups([], []) == {}


def test_the_command_line_means_the_same_runs(place, page, monkeypatch):
    monkeypatch.chdir(place)
    line = re.search(r"tmkt train (.*?-again)", page.text)[1]
    options = resolve(parse(line.split()))[0]
    assert identity(options) == identity(read_options(Path("results/three/config.yaml")))
    assert options.output == "results/three-again"
    assert "tmkt figure all results/three" in page.text
    assert "tmkt report results/three --output results/three/report" in page.text


def test_the_loop_over_jobs_is_right_for_the_shell(sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(sweep.parent)
    line = re.search(r"for c in.*?done", report_of("ratios", output=tmp_path).text)[0]
    lines = ["bash", "-c", f'tmkt() {{ echo tmkt "$@"; }}\n{line}']
    shell = subprocess.run(lines, capture_output=True, text=True, check=True)
    names = [path.name for path in (sweep / "jobs").iterdir()]
    assert sorted(shell.stdout.splitlines()) == sorted(
        f"tmkt train -c ratios/jobs/{n}/config.yaml --output ratios-again/jobs/{n}" for n in names
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("results/none", "There is no folder results/none"),
        ("results/three/notes.txt", "There is no folder"),
        ("empty", "empty holds nothing to report"),
        ("results/three results/../results/three", "named twice"),
        ("results/three --output results/three/notes.txt", "is a file"),
        ("results/three --output foreign", "was not made by this command"),
        ("results/three --outpt x", "--output"),
        ("", "required: FOLDER"),
    ],
)
def test_errors_exit_with_2(words, message, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    for name in ("empty", "foreign"):
        Path(name).mkdir(exist_ok=True)
    Path("foreign/report.html").write_text("my own")
    before = sorted(place.rglob("*"))
    assert run_report(words.split()) == 2
    assert message in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before
    assert Path("foreign/report.html").read_text() == "my own"


def test_a_config_that_cannot_be_read_is_a_warning(tmp_path):
    folder = make_runs(tmp_path / "three")
    (folder / "config.yaml").write_text("mixup_ration: 0.4\n")
    page = report_of(folder, output=tmp_path / "out")
    assert any("unknown option 'mixup_ration'" in warning for warning in page.warnings)
    assert any(row[:2] == ["tmkt", "1"] for row in page.rows)  # of comparison.csv


def test_run_folders_of_a_seed(place):
    three, runs = place / "results" / "three", place / "results" / "three" / "runs"
    assert run_folders(three) == [runs / f"{method}-seed1" for method in sorted(METHODS, key=str)]
    assert len(all_seeds(three)) == 6 and run_folders(runs / "x") == [runs / "x"]
    with pytest.raises(UserError, match=r"no finished run of seed 3 \(seeds there: 1, 2\)"):
        run_folders(three, 3)
    with pytest.raises(UserError, match="no finished run"):
        all_seeds(place)


def test_a_real_run_with_real_curves(tmp_path, monkeypatch):
    monkeypatch.setattr(report_runs, "plot_curves", plot_curves)
    words = "--model Transfer_SCNN --step 4 --event-size 28 --shots 2 --epochs 1 --epoch-size 20"
    words += f" --warmup-epochs 0 --batch-size 20 --no-tensorboard --output {tmp_path}/run"
    assert run_train(words.split()) == 0
    page = report_of(tmp_path / "run", output=tmp_path / "out")
    check_over_seeds(page, read_csv(tmp_path / "run" / "comparison.csv"))
    ((run,), problems) = find_runs(tmp_path / "run")
    assert page.warnings == problems == [] and run.emulated is run.split["emulated"] is True
    assert run.environments and "Audit: 0 static twins" in page.text
    assert {"top-1, test (%)", "mag", "sigma(theta_t), mean over t"} <= set(page.images())
