"""The report: its numbers against the runs, its pictures, that nothing foreign gets in, and what it says is missing."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
from argparse import Namespace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.program import run_report
from tmkt_braincog.comparison import COLUMNS, read_csv, summarise
from tmkt_braincog.engine.folder import read_environment
from tmkt_braincog.options import identity, parse, resolve
from tmkt_braincog.report import curves
from tmkt_braincog.report.groups import make_groups
from tmkt_braincog.report.render import _safe_html
from tmkt_braincog.report.runs import Run, read_options, read_runs

REPOSITORY = Path(__file__).resolve().parents[2]
METHODS = ("event-only", "baseline", "tmkt")
VOID = ("meta", "img", "br", "hr", "link", "input")

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

[TOC]
"""


class Page(HTMLParser):
    """A page as elements: checks that tags are balanced, keeps attributes, text and table rows."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], []
        self.rows, self.warnings, self.style = [], [], ""
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
        self.text.append(data)
        if "td" in tags or "th" in tags:
            self.rows[-1][-1] += data
        if any(kind == "warning" for _, kind in self.open):
            self.warnings[-1] += data

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def has(self, text: str) -> bool:
        return text in "".join(self.text)


@pytest.fixture(scope="module")
def place(comparison, tmp_path_factory) -> Path:
    """A working directory with the comparison in results/three, without weights, and more files in it."""
    folder = tmp_path_factory.mktemp("report")
    three = folder / "results" / "three"
    shutil.copytree(comparison, three, ignore=shutil.ignore_patterns("*.pt"))
    config = yaml.safe_load((three / "config.yaml").read_text())
    config |= {"output": str(three), "data_root": str(folder.parent / "elsewhere" / "data")}
    (three / "config.yaml").write_text(yaml.safe_dump(config))
    (three / "figures").mkdir()
    Image.new("RGB", (30, 20), "red").save(three / "figures" / "gradcam_steps.png")
    (three / "figures" / "gradcam_steps.csv").write_text("a\n1\n")
    whole = (three / "comparison.png").read_bytes()
    (three / "broken.png").write_bytes(whole[: len(whole) // 2])
    (three / "text.png").write_text("no picture")
    (three / "hostile.md").write_text(HOSTILE)
    (three / "sheet.csv").write_text('name,value\n"<script>alert(7)</script>",1.5\n')
    (three / "made.md").write_text(
        f"Made by `python -m x --output {three} --data-root {config['data_root']}`\n"
    )
    (three / "notes.txt").write_text("not shown")
    return folder


@pytest.fixture(scope="module")
def report(place) -> Path:
    """The folder of its report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert run_report(["results/three"]) == 0
    return place / "results" / "three" / "report"


@pytest.fixture(scope="module")
def page(report) -> Page:
    return Page((report / "report.html").read_text())


@pytest.fixture(scope="module")
def text(report) -> str:
    return (report / "report.md").read_text()


def copy(place: Path, target: Path) -> Path:
    return Path(
        shutil.copytree(
            place / "results" / "three", target, ignore=shutil.ignore_patterns("report")
        )
    )


def markdown_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


# Numbers ------------------------------------------------------------------------------------------------------------


def test_the_table_over_seeds_is_that_of_summarise(place, page, text):
    summary = summarise(read_csv(place / "results" / "three" / "comparison.csv")).set_index(
        "method"
    )
    assert list(summary.index) == list(METHODS)
    for rows in (page.rows, markdown_rows(text)):
        for method in METHODS:
            for kind in ("best", "last"):
                (cells,) = [row for row in rows if row[:2] == [method, kind]]
                row = summary.loc[method]
                mean, std = map(float, cells[3].split(" ± "))
                assert cells[2] == "2"
                assert mean == pytest.approx(row[f"{kind}_mean"], abs=0.0051)
                assert std == pytest.approx(row[f"{kind}_std"], abs=0.0051)
                if method == "baseline":
                    assert cells[4:6] == ["-", "-"]
                    continue
                shown = [float(number) for number in re.findall(r"[-+][\d.]+", cells[4])]
                expected = [row[f"{kind}_{name}"] for name in ("diff", "low", "high")]
                assert shown == pytest.approx(expected, abs=0.0051)
                assert float(cells[5].replace("&lt;", "").replace("<", "")) == pytest.approx(
                    row[f"{kind}_p"], abs=0.00051
                )


def test_every_run_has_its_row(place, page, text):
    for rows in (page.rows, markdown_rows(text)):
        found = {(row[0], row[1]): row for row in rows if len(row) == 8 and row[-1] == "finished"}
        assert set(found) == {(method, str(seed)) for method in METHODS for seed in (1, 2)}
        for (method, seed), cells in found.items():
            folder = place / "results" / "three" / "runs" / f"{method}-seed{seed}"
            result = json.loads((folder / "result.json").read_text())
            assert float(cells[2]) == pytest.approx(result["top1_best"], abs=0.0051)
            assert int(cells[3]) == result["epoch_best"]
            assert float(cells[4]) == pytest.approx(result["top1_last"], abs=0.0051)


def test_settings_and_what_differs_from_the_defaults_of_the_data_set(page, text):
    rows = {row[0]: row[1] for row in page.rows if len(row) == 2 and row[0].startswith("--")}
    changed = {"--method", "--seed", "--tensorboard", "--data-root", "--step", "--shots"}
    changed |= {"--epochs", "--batch-size", "--epoch-size"}
    assert {name for name, value in rows.items() if "default: " in value} == changed
    assert (
        rows["--epochs"] == "3default: 20"
        and rows["--method"] == "event-only, baseline, tmktdefault: tmkt"
    )
    assert rows["--lr"] == "0.1" and rows["--pow"] == "3" and rows["--mag-weight"] == "1"
    assert "| **--epochs** | **3** | 20 |" in text and "| --lr | 0.1 | |" in text
    assert "--output" not in rows and "--resume" not in rows


def test_audit_once_for_the_seeds_that_share_it(place, page, text):
    split = json.loads(
        (place / "results" / "three" / "runs" / "tmkt-seed1" / "split.json").read_text()
    )
    assert ["seed 1, 2", split["audit"]] in page.rows and [
        "seed 1, 2",
        split["audit"],
    ] in markdown_rows(text)


def test_the_environment_that_the_runs_kept(place, page):
    (kept,) = read_environment(place / "results" / "three" / "runs" / "tmkt-seed1")
    assert ["torch", kept["torch"]] in page.rows and ["device", kept["device"]] in page.rows
    assert ["", "6 of 6 runs"] in page.rows


# Pictures -----------------------------------------------------------------------------------------------------------

DRAWN = [
    "test_top1",
    "val_top1",
    "loss",
    "cls_event",
    "cls_static",
    "alignment",
    "cls_mixed",
    "mag",
    "mrp",
]
DRAWN += ["sigma", "sigma_t"]


def test_every_picture_is_inside_and_decodes(report, page):
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == len(DRAWN) + 2  # comparison.png, gradcam_steps.png
    for attributes in images:
        kind, _, data = attributes["src"].partition(",")
        assert kind == "data:image/png;base64" and attributes["alt"]
        with Image.open(
            io.BytesIO(base64.b64decode(data, validate=True)), formats=["PNG"]
        ) as image:
            image.load()
            assert image.size == (int(attributes["width"]), int(attributes["height"]))
    assert page.has("Grad-CAM++") and page.has("(steps) Numbers: gradcam_steps.csv.")


def test_links_of_the_markdown_lead_to_pictures(report, text):
    targets = re.findall(r"(?<!\\)\]\(([^)]*)\)", text)
    assert sorted(targets) == sorted(
        f"report_pictures/1-{name}.png"
        for name in [*(f"curve-{drawn}" for drawn in DRAWN), "02-comparison", "04-gradcam_steps"]
    )
    for target in targets:
        with Image.open(report / target) as image:
            image.load()


def test_a_broken_picture_is_said_and_stops_nothing(page, text):
    for name in ("broken.png", "text.png"):
        assert any(
            f"{name} cannot be shown: it is no whole PNG" in warning for warning in page.warnings
        )
        assert f"> **Warning:** {name} cannot be shown" in text


def log_of(values: list[float], **more) -> pd.DataFrame:
    return pd.DataFrame({"epoch": range(len(values)), "loss": values} | more)


def test_curves_hold_mean_and_std_and_a_label_keeps_its_colour(tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr(curves, "save", lambda draw, path: figures.update({path.stem: draw()}))
    runs = {
        "event-only": [log_of([3.0, 1.0]), log_of([5.0, 2.0])],
        "tmkt": [log_of([2.0, 4.0], alignment=[0.5, 0.25], sigma_1=[0.1, 0.2], sigma_2=[0.3, 0.6])],
    }
    group = Namespace(
        runs={label: [Namespace(log=log) for log in logs] for label, logs in runs.items()}
    )
    drawn = list(curves.draw_curves(group, tmp_path, "c-"))
    assert [path.name for path, _ in drawn] == [
        "c-loss.png",
        "c-alignment.png",
        "c-sigma.png",
        "c-sigma_t.png",
    ]
    lines = {name: figure.axes[0].lines for name, figure in figures.items()}
    np.testing.assert_allclose(lines["c-loss"][0].get_ydata(), [4.0, 1.5])
    band = figures["c-loss"].axes[0].collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(4 + np.std([3, 5], ddof=1))
    np.testing.assert_allclose(lines["c-alignment"][0].get_ydata(), [0.5, 0.25])
    np.testing.assert_allclose(lines["c-sigma"][0].get_ydata(), [0.2, 0.4])
    assert list(lines["c-sigma_t"][0].get_xdata()) == [1, 2]
    np.testing.assert_allclose(lines["c-sigma_t"][0].get_ydata(), [0.2, 0.6])
    colours = {name: [line.get_color() for line in some] for name, some in lines.items()}
    assert colours["c-alignment"] == colours["c-sigma"] == colours["c-loss"][1:]
    assert colours["c-loss"][0] != colours["c-loss"][1]


# Nothing foreign ----------------------------------------------------------------------------------------------------


ALLOWED = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "nav",
    "main",
    "section",
    "div",
    "p",
    "small",
    "span",
}
ALLOWED |= {
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "ul",
    "li",
    "a",
    "strong",
    "em",
    "code",
    "pre",
    "figure",
    "figcaption",
    "img",
}
ALLOWED |= {"table", "thead", "tbody", "tr", "th", "td", "caption"}


def check_safe(page: Page) -> None:
    """No script, nothing from elsewhere, links only to places on the page."""
    assert {tag for tag, _ in page.elements} <= ALLOWED
    assert not any(
        name.startswith("on") or name == "srcset" for _, its in page.elements for name in its
    )
    assert all(source.startswith("data:image/png;base64,") for source in page.attributes("src"))
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert page.attributes("href") and all(
        href[:1] == "#" and href[1:] in ids for href in page.attributes("href")
    )
    assert "url(" not in page.style and "@import" not in page.style


def test_html_in_found_files_is_text(page):
    check_safe(page)
    assert ["<script>alert(1)</script>", "12.5"] in page.rows
    assert ["a < b", "<img src=x onerror=alert(2)>"] in page.rows
    assert ["<script>alert(7)</script>", "1.5"] in page.rows
    for words in (
        "<script>alert(3)</script>",
        '<div onclick="alert(4)">',
        "[run](javascript:alert(5))",
    ):
        assert page.has(words)
    assert page.has("![remote](https://example.org/x.png)") and page.has(
        "<table><tr><td>fenced &lt;"
    )
    assert page.has("A table of <b>mine</b> (hostile.md)")


@pytest.mark.parametrize("word", re.split(r"\n\n+", HOSTILE))
def test_every_hostile_piece_alone(word):
    page = Page(_safe_html(word, "s1"))
    assert {tag for tag, _ in page.elements} <= ALLOWED - {"a", "img"}
    assert {name for _, its in page.elements for name in its} <= {"class", "id", "style"}


def test_the_markdown_holds_no_html_and_no_link_of_others(text):
    assert re.findall(r"<[a-z/!][^>]*", text, flags=re.IGNORECASE) == [
        text[: text.index("-->") + 2]
    ]
    assert "&lt;script>alert(1)&lt;/script>" in text and "]\\(javascript:alert(5))" in text
    assert "\n\\[1]: https://example.org/reference" in text and "\n[1]:" not in text


def test_a_hostile_method_and_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, folder = "<script>alert('m')</script>|`", tmp_path / '<b>"x" & y'
    folder.mkdir()
    rows = [
        dict(zip(COLUMNS, (m, s, "clean", 50 + s, 40 + s, 1, 2, 3), strict=True))
        for m in (name, "baseline")
        for s in (1, 2)
    ]
    pd.DataFrame(rows).to_csv(folder / "comparison.csv", index=False)
    Image.new("RGB", (3, 2)).save(folder / '"><script>.png')
    assert run_report([str(folder), "--output", "out"]) == 0
    page = Page((tmp_path / "out" / "report.html").read_text())
    check_safe(page)
    assert any(row[0] == name and row[3] == "51.50 ± 0.71" for row in page.rows)
    assert page.has('Report: <b>"x" & y')
    text = (tmp_path / "out" / "report.md").read_text()
    outside_of_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "<script" not in outside_of_code and "<b>" not in outside_of_code
    assert re.findall(r"(?<!\\)\]\(([^)]*)\)", text) == ["report_pictures/1-01----script-.png"]


def test_no_paths_of_this_machine(place, report, page, text):
    assert str(place) not in "".join(page.text) and str(place) not in text
    assert str(place.parent) not in "".join(page.text) + text
    assert page.has("python -m x --output results/three --data-root .../data")
    assert str(Path.home()) not in text


# What is missing ----------------------------------------------------------------------------------------------------


def test_unfinished_runs_are_said(place, tmp_path, monkeypatch, capsys):
    folder = copy(place, tmp_path / "three")
    (folder / "comparison.csv").unlink()
    shutil.rmtree(folder / "runs" / "tmkt-seed2")
    begun = folder / "runs" / "baseline-seed2"
    (begun / "result.json").unlink()
    pd.read_csv(begun / "log.csv").head(2).to_csv(begun / "log.csv", index=False)
    (folder / "runs" / "event-only-seed2" / "result.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    assert run_report(["three", "--output", "out"]) == 0
    page, text = Page(Path("out/report.html").read_text()), Path("out/report.md").read_text()
    words = "3 of 6 runs are not finished: runs/event-only-seed2 (3 of 3 epochs), runs/baseline-seed2 (2 of 3 epochs), runs/tmkt-seed2 (not begun)."
    assert any(words in warning for warning in page.warnings) and words in capsys.readouterr().out
    assert any(
        "event-only-seed2/result.json cannot be read" in warning for warning in page.warnings
    )
    assert "> **Warning:** 3 of 6 runs" in text
    assert {row[0]: row[2] for row in page.rows if row[1:2] == ["last"]} == dict.fromkeys(
        METHODS, "1"
    )
    assert [row[-1] for row in page.rows if row[:2] == ["baseline", "2"]] == ["2 of 3 epochs"]
    assert page.has("# go on with what is not finished")


def test_a_comparison_of_which_only_the_table_was_kept(place, tmp_path, monkeypatch):
    folder = copy(place, tmp_path / "three")
    shutil.rmtree(folder / "runs")
    monkeypatch.chdir(tmp_path)
    assert run_report(["three", "--output", "out"]) == 0
    page = Page(Path("out/report.html").read_text())
    expected = summarise(read_csv(folder / "comparison.csv")).set_index("method")
    for method in METHODS:
        assert any(
            row[:2] == [method, "last"]
            and row[3].startswith(f"{expected.loc[method, 'last_mean']:.2f}")
            for row in page.rows
        )
    assert not any("not finished" in warning for warning in page.warnings) and not page.has(
        "Curves"
    )


def test_mixed_protocols_are_said(place, tmp_path, monkeypatch, capsys):
    folder = copy(place, tmp_path / "three")
    (folder / "comparison.csv").unlink()
    result = folder / "runs" / "tmkt-seed1" / "result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"protocol": "he2024"}))
    monkeypatch.chdir(tmp_path)
    assert run_report(["three", "--output", "out"]) == 0
    page = Page(Path("out/report.html").read_text())
    assert any("2 protocols cannot share a table" in warning for warning in page.warnings)
    assert not any(row[1:2] == ["last"] for row in page.rows)

    other = copy(place, tmp_path / "other")
    config = yaml.safe_load((other / "config.yaml").read_text()) | {"protocol": "he2024"}
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    assert run_report(["three", "other", "--output", "both"]) == 0
    page = Page(Path("both/report.html").read_text())
    check_safe(page)
    words = "The folders follow different protocols (three: clean; other: he2024)"
    assert words in page.warnings[0] and words in capsys.readouterr().out


def test_a_folder_of_small_files(tmp_path):
    committed = REPOSITORY / "results" / "nmnist_fewshot"
    assert run_report([str(committed), "--output", str(tmp_path)]) == 0
    page = Page((tmp_path / "report.html").read_text())
    check_safe(page)
    wanted = [
        row for row in markdown_rows((committed / "fewshot.md").read_text()) if row[0].isdigit()
    ]
    assert len(wanted) == 15 and all(row in page.rows for row in wanted)
    assert len(page.attributes("src")) == 1 and page.has("No runs here")
    assert page.has("Accuracy against shots")
    assert "fewshot.csv" not in [row[0] for row in page.rows]


# Sweeps -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep(place, tmp_path_factory) -> Path:
    """The comparison's runs as jobs, TMKT with two ratios, of which the second lost three points and a seed."""
    folder, three = tmp_path_factory.mktemp("sweep") / "ratios", place / "results" / "three"
    config = yaml.safe_load((three / "config.yaml").read_text())
    jobs = [(m, s, 0.4) for m in METHODS for s in (1, 2)] + [("tmkt", 1, 0.3)]
    for method, seed, ratio in jobs:
        job = folder / "jobs" / f"seed-{seed}_method-{method}_mixup-ratio-{ratio}"
        run = job / "runs" / f"{method}-seed{seed}"
        shutil.copytree(three / "runs" / run.name, run)
        options = config | {
            "method": [method],
            "seed": [seed],
            "mixup_ratio": ratio,
            "output": str(job),
        }
        (job / "config.yaml").write_text(yaml.safe_dump(options))
        if ratio == 0.3:
            result = json.loads((run / "result.json").read_text())
            result["top1_last"] += 3
            (run / "result.json").write_text(json.dumps(result))
    (folder / "sweep.md").write_text("# Sweep\n\nMade by `tmkt table sweep --output x`\n")
    return folder


def test_jobs_are_grouped_by_what_their_method_takes(sweep, tmp_path):
    assert run_report([str(sweep), "--output", str(tmp_path)]) == 0
    page = Page((tmp_path / "report.html").read_text())
    check_safe(page)
    results = {
        (run.method, run.seed, run.options.mixup_ratio): run.result["top1_last"]
        for run in read_runs(sweep)[0]
    }
    tables = {row[0]: row for row in page.rows if row[1:2] == ["last"]}
    assert list(tables) == [
        "baseline",
        "event-only",
        "tmkt, mixup-ratio 0.3",
        "tmkt, mixup-ratio 0.4",
    ]
    difference = results["tmkt", 1, 0.3] - results["baseline", 1, 0.4]
    assert (
        tables["tmkt, mixup-ratio 0.3"][2] == "1"
        and tables["tmkt, mixup-ratio 0.3"][4] == f"{difference:+.2f} [-]"
    )
    assert ["0.3", "tmkt", "1"] in [row[:3] for row in page.rows] and ["-", "baseline", "1"] in [
        row[:3] for row in page.rows
    ]
    assert page.has("tmkt table sweep --output x")


def test_what_differs_between_methods_only_is_in_the_label():
    def run(method, seed, **options):
        given = {"method": [method], "seed": [seed], **options}
        base = vars(resolve(parse(["--method", method]))[0])
        return Run(
            Path(f"{method}-{seed}-{options}"),
            Namespace(**(base | given)),
            None,
            pd.DataFrame(),
            {},
            [],
        )

    def labels(runs):
        return {group.title: list(group.runs) for group in make_groups(runs)[0]}

    assert labels([run("baseline", 1, lr=0.1), run("tmkt", 1, lr=0.2)]) == {
        "": ["baseline, lr 0.1", "tmkt, lr 0.2"]
    }
    shots = [run(m, 1, shots=k) for k in (1, 5) for m in ("event-only", "baseline", "tmkt")]
    assert labels(shots) == {"shots 1": list(METHODS), "shots 5": list(METHODS)}
    # Event-only training has no such coefficient: it stands beside both values.
    weights = [
        run(m, 1, domain_loss_coefficient=c) for c in (0.1, 0.5) for m in ("baseline", "tmkt")
    ]
    beside = ["event-only", "baseline", "tmkt"]
    assert labels([run("event-only", 1), *weights]) == {
        f"domain-loss-coefficient {c}": beside for c in (0.1, 0.5)
    }
    only = [run("baseline", 1), run("tmkt", 1), run("tmkt", 1, domain_loss_coefficient=0.1)]
    assert labels(only) == {
        "": ["baseline", "tmkt, domain-loss-coefficient 0.5", "tmkt, domain-loss-coefficient 0.1"]
    }
    groups, warnings = make_groups([run("tmkt", 1), run("tmkt", 1, workers=2), run("tmkt", 2)])
    assert [r.seed for r in groups[0].runs["tmkt"]] == [
        1,
        2,
    ] and "only the latter counts" in warnings[0]
    assert make_groups([]) == ([], [])


# Commands -----------------------------------------------------------------------------------------------------------


def test_the_command_line_means_the_same_runs(place, text, monkeypatch):
    monkeypatch.chdir(place)
    (line,) = [line for line in text.splitlines() if line.startswith("tmkt train")]
    options = resolve(parse(line.split()[2:]))[0]
    assert identity(options) == identity(read_options(Path("results/three/config.yaml")))
    assert options.output == "results/three-again"
    assert "tmkt figure all results/three" in text
    assert "tmkt report results/three --output results/three/report" in text


def test_the_loop_over_jobs_is_right_for_the_shell(sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(sweep.parent)
    assert run_report(["ratios", "--output", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("for c in")]
    shell = subprocess.run(
        ["bash", "-c", f'tmkt() {{ echo tmkt "$@"; }}\n{line}'],
        capture_output=True,
        text=True,
        check=True,
    )
    names = sorted(path.name for path in (sweep / "jobs").iterdir())
    assert shell.stdout.splitlines() == [
        f"tmkt train -c ratios/jobs/{name}/config.yaml --output ratios-again/jobs/{name}"
        for name in names
    ]


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
    Path("foreign/report.md").write_text("my own")
    before = sorted(place.rglob("*"))
    assert run_report(words.split()) == 2
    assert message in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before and Path("foreign/report.md").read_text() == "my own"


def test_a_config_that_cannot_be_read_is_a_warning(place, tmp_path, monkeypatch):
    folder = copy(place, tmp_path / "three")
    (folder / "config.yaml").write_text("mixup_ration: 0.4\n")
    monkeypatch.chdir(tmp_path)
    assert run_report(["three", "--output", "out"]) == 0
    page = Page(Path("out/report.html").read_text())
    assert any("unknown option 'mixup_ration'" in warning for warning in page.warnings)
    assert any(row[:2] == ["tmkt", "last"] for row in page.rows)  # from comparison.csv


def test_made_again_it_replaces_itself(report, place, monkeypatch):
    monkeypatch.chdir(place)
    before = {path: path.stat().st_size for path in report.rglob("*.png")}
    assert run_report(["results/three"]) == 0
    assert {path: path.stat().st_size for path in report.rglob("*.png")} == before
    assert not [name for name in os.listdir(report) if name.endswith(".tmp")]
