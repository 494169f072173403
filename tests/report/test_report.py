"""The report: its numbers are those of the files, nothing foreign gets in, and what it warns of."""

import base64
import io
import json
import re
import shutil
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from PIL import Image

from tests.program import run_report
from tmkt_braincog import report_parts
from tmkt_braincog.comparison import COLUMNS, read_csv, summarise, write_csv
from tmkt_braincog.errors import UserError
from tmkt_braincog.options import identity, parse, resolve, save_yaml
from tmkt_braincog.plots import plot_curves
from tmkt_braincog.report_parts import safe_html
from tmkt_braincog.runs import all_seeds, find_runs, read_options, run_folders

REPOSITORY = Path(__file__).resolve().parents[2]
METHODS = ("event-only", "baseline", "tmkt")
LOSSES = {"event-only": ["cls_event"], "baseline": ["cls_event", "cls_static", "sigma_1"]}
LOSSES["tmkt"] = ["cls_mixed", "mag", "sigma_1", "sigma_2"]
TAGS = r"html|head|meta|title|style|body|nav|section|div|p|span|strong|em|code|pre|h[1-4]|ul|li|a"
TAGS += r"|figure|figcaption|img|table|thead|tbody|tr|th|td"
EMULATED = "Events are emulated from the images."
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

![remote](https://example.org/x.png) [run](javascript:alert(5)) [there][1] <https://example.org>

[1]: https://example.org/reference

```{.a onclick=alert(6)}
<table><tr><td>fenced &lt;
```
"""
AS_TEXT = ("<script>alert(3)</script>", '<div onclick="alert(4)">', "A table of <b>mine</b>")
AS_TEXT += ("[run](javascript:alert(5))", "![remote](https://example.org/x.png)", "<td>fenced &lt;")
TABLE = {"kind": "table", "title": "Table <1>", "emulated": True}
TABLE |= {"command": "tmkt table table1 --data ndigits", "pictures": ["table1_curves.png"]}
FIGURE = {"kind": "figure", "title": "Own", "caption": "By me.", "pictures": ["own.png"]}
FIGURE["command"] = "tmkt figure own results/three"


class Page:
    """A page as a tree, which XML's parser takes only if all tags are balanced."""

    def __init__(self, text: str):
        self.elements = list(ElementTree.fromstring(text).iter())
        self.text = "".join(self.elements[0].itertext())
        said = {tag: [e for e in self.elements if e.tag == tag] for tag in ("tr", "p")}
        self.rows = [["".join(cell.itertext()) for cell in row] for row in said["tr"]]
        self.warnings = ["".join(p.itertext()) for p in said["p"] if p.get("class") == "warning"]

    def attributes(self, name: str) -> list[str]:
        return [e.attrib[name] for e in self.elements if name in e.attrib]

    def captions(self) -> list[str]:
        """Those of the pictures, which are inside and decode."""
        for kind, _, data in (source.partition(",") for source in self.attributes("src")):
            assert kind == "data:image/png;base64"
            Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=["PNG"]).load()
        return self.attributes("alt")

    def check_safe(self) -> None:
        """No script, nothing from elsewhere, links only to places on the page."""
        assert all(re.fullmatch(TAGS, e.tag) for e in self.elements)
        self.captions()
        names = {name for e in self.elements for name in e.attrib}
        assert not any(name.startswith("on") or name == "srcset" for name in names)
        assert not any(
            "url(" in e.text or "@import" in e.text for e in self.elements if e.tag == "style"
        )
        ids = self.attributes("id")
        assert len(ids) == len(set(ids))
        assert all(href[0] == "#" and href[1:] in ids for href in self.attributes("href"))


def make_runs(output: Path, methods=METHODS, seeds=(1, 2), **more) -> Path:
    """An output folder as ``tmkt train`` leaves it, but for weights; all numbers differ."""
    words = f"--method {' '.join(methods)} --seed {' '.join(map(str, seeds))} --epochs 3 --shots 4"
    options, rows = resolve(parse([*words.split(), "--output", str(output)]))[0], []
    vars(options).update(more)
    for method, seed in product(methods, seeds):
        run, i = output / "runs" / f"{method}-seed{seed}", METHODS.index(method)
        run.mkdir(parents=True)
        top1 = 40 + 10 * i + (i + 1) * seed**2 + 3 * options.mixup_ratio
        row = (method, seed, options.protocol, top1 + 1.25, top1 - i / 8, 1, 2.5 + seed, 100 + seed)
        rows.append(dict(zip(COLUMNS, row, strict=True)))
        log = {"epoch": range(3), "lr": 0.1, "loss": [3 / seed, 2.0, 1.0], "test_top1": top1}
        log |= {name: [seed, 0.5, 0.25] for name in LOSSES[method]}
        pd.DataFrame(log).to_csv(run / "log.csv", index=False)
        split = {"audit": "Audit: 0 of 7 <twins>.", "remarks": ["8 files."], "val": ["a"]}
        kept = [{"torch": "2.99", "device": "Abacus"}]
        files = {"result": rows[-1], "split": split | {"emulated": True}, "environment": kept}
        for name, value in files.items():
            (run / f"{name}.json").write_text(json.dumps(value))
    write_csv(rows, output / "comparison.csv")
    save_yaml(options, output / "config.yaml")
    return output


@pytest.fixture(scope="module", autouse=True)
def drawn():
    """Instead of pictures of curves what is in them: by column, its rows."""
    calls = {}

    def plot(df, path, y, ylabel, emulated):
        calls[y] = df
        Image.new("RGB", (4, 3)).save(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_parts, "plot_curves", plot)
        yield calls


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working directory with runs in results/three, and more files in it."""
    folder = tmp_path_factory.mktemp("report")
    three = make_runs(folder / "results" / "three")
    (three / "figures").mkdir()
    for name in ("figures/gradcam_steps", "figures/own", "table1_curves", "comparison", "broken"):
        Image.new("RGB", (30, 20), "red").save(three / f"{name}.png")
    (three / "broken.png").write_bytes((three / "broken.png").read_bytes()[:60])
    texts = {"text.png": "no picture", "notes.txt": "not shown", "hostile.md": HOSTILE}
    texts |= {"figures/gradcam_steps.csv": "a\n1\n", "figures/own.json": json.dumps(FIGURE)}
    texts |= {"table1.json": json.dumps(TABLE), "table1.md": "# The <i>table</i>"}
    texts |= {"damaged.json": "{"}
    for name, text in texts.items():
        (three / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def page(place, drawn) -> Page:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert run_report(["results/three"]) == 0
    return Page((place / "results" / "three" / "report" / "report.html").read_text())


def report_of(*words: str | Path, output: str | Path = "out") -> Page:
    assert run_report([*map(str, words), "--output", str(output)]) == 0
    return Page((Path(output) / "report.html").read_text())


def check_over_seeds(page: Page, rows: pd.DataFrame) -> None:
    for method, row in summarise(rows).set_index("method").iterrows():
        for kind in ("best", "last"):
            (cells,) = [cells for cells in page.rows if cells[:2] == [method, kind]]
            shown = re.findall(r"[-+]?\d+\.\d+", f"{cells[3]} {cells[4]}")
            names = ("mean", "std", "diff", "low", "high")
            expected = [row[f"{kind}_{n}"] for n in names if pd.notna(row[f"{kind}_{n}"])]
            assert list(map(float, shown)) == pytest.approx(expected, abs=0.0051)


def test_the_numbers_are_those_of_the_files(place, page):
    rows = read_csv(place / "results" / "three" / "comparison.csv")
    check_over_seeds(page, rows)
    assert "best epoch on the validation set" in page.text
    assert f"note: 8 files. {EMULATED}" in page.text
    for row in rows.itertuples():
        numbers = [f"{row.top1_best:.2f}", "1", f"{row.top1_last:.2f}", f"{row.train_s:.2f}"]
        cells = [row.method, str(row.seed), *numbers, f"{row.peak_mib:.2f}", "finished"]
        assert cells in page.rows
    assert ["seed 1; seed 2", "Audit: 0 of 7 <twins>. 8 files."] in page.rows
    assert ["", "6 of 6 runs"] in page.rows and ["device", "Abacus"] in page.rows


def test_settings_and_what_differs_from_the_defaults_of_the_data_set(page):
    rows = {row[0]: row[1:] for row in page.rows if row[0].startswith("--")}
    assert list(rows)[:2] == ["--method", "--seed"]  # what varies, first
    assert rows["--method"] == ["event-only, baseline, tmkt", "tmkt"]
    assert rows["--epochs"] == ["3", "20"] and rows["--lr"] == ["0.1", ""]
    changed = {name for name, (_, default) in rows.items() if default}
    assert changed == {"--method", "--seed", "--shots", "--epochs"}
    assert not {"--output", "--resume", "--data-root"} & set(rows)


def test_tables_pictures_and_files_that_lie_there(page):
    assert "The <i>table</i>" in page.text and "tmkt table table1 --data ndigits" in page.text
    assert f"note: {EMULATED}" in " ".join(page.text.split())
    shown = {"Gradcam steps.", "Own. By me.", "Table1 curves.", "cls_static"}
    assert shown <= set(page.captions())
    for words in ("damaged.json cannot be read", "broken.png cannot be", "text.png cannot be"):
        assert any(words in warning for warning in page.warnings)
    assert "Files not shown: damaged.json, notes.txt." in page.text


def test_curves_hold_the_logs(place, page, drawn):
    runs = place / "results" / "three" / "runs"
    for y in ("loss", "cls_event", "cls_static", "mag", "test_top1"):
        assert set(drawn[y]["method"]) == {
            m for m in METHODS if y in (*LOSSES[m], "loss", "test_top1")
        }
        for method, of_method in drawn[y].groupby("method"):
            logs = [of_run for _, of_run in of_method.groupby("seed")]
            for seed, log in enumerate(logs, start=1):
                kept = pd.read_csv(runs / f"{method}-seed{seed}" / "log.csv")
                assert log[["epoch", y]].equals(kept[["epoch", y]])
    sigma = drawn["sigma"].set_index("method")["sigma"]
    assert set(sigma.index) == {"baseline", "tmkt"}
    assert list(sigma["tmkt"]) == [1.0, 0.5, 0.25, 2.0, 0.5, 0.25]
    assert not {"lr", "train_s", "epoch", "sigma_1"} & set(drawn)


def test_html_in_found_files_is_text(page):
    page.check_safe()
    assert ["<script>alert(1)</script>", "12.5"] in page.rows
    assert ["a < b", "<img src=x onerror=alert(2)>"] in page.rows
    assert all(words in page.text for words in AS_TEXT)


@pytest.mark.parametrize("word", re.split(r"\n\n+", HOSTILE))
def test_every_hostile_piece_alone(word):
    page = Page(f"<div>{safe_html(word)}</div>")
    assert all(re.fullmatch(TAGS, e.tag) and e.tag not in ("a", "img") for e in page.elements)
    assert {name for e in page.elements for name in e.attrib} <= {"class", "style"}


def test_a_hostile_method_and_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, folder = "<script>alert('m')</script>|`", make_runs(tmp_path / '<b>"x" & y', seeds=(1,))
    write_csv(read_csv(folder / "comparison.csv").replace("tmkt", name), folder / "comparison.csv")
    Image.new("RGB", (3, 2)).save(folder / '"><script>.png')
    page = report_of(folder)
    page.check_safe()
    assert any(row[0] == name and row[3] == "65.45 ± -" for row in page.rows)
    assert 'Report: <b>"x" & y' in page.text


def test_what_is_not_finished_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = make_runs(Path("three")) / "runs"
    Path("three/comparison.csv").unlink()
    shutil.rmtree(runs / "tmkt-seed2")
    (runs / "baseline-seed2" / "result.json").unlink()
    log = runs / "baseline-seed2" / "log.csv"
    pd.read_csv(log).head(2).to_csv(log, index=False)
    (runs / "event-only-seed2" / "result.json").write_text("{")
    (runs / "event-only-seed1" / "split.json").write_text("[]")
    page = report_of("three")
    words = "3 of 6 runs are not finished: runs/event-only-seed2 (3 of 3 epochs), "
    words += "runs/baseline-seed2 (2 of 3 epochs), runs/tmkt-seed2 (not begun)."
    assert any(words in w for w in page.warnings) and words in capsys.readouterr().out
    for name in ("seed2/result.json", "seed1/split.json"):
        assert any(f"{name} cannot be read" in warning for warning in page.warnings)
    seeds = {row[0]: row[2] for row in page.rows if row[1:2] == ["last"]}
    assert seeds == dict.fromkeys(METHODS, "1")
    assert [row[-1] for row in page.rows if row[:2] == ["baseline", "2"]] == ["2 of 3 epochs"]
    assert "Go on with: tmkt train -c three/config.yaml --resume" in page.text


def test_only_the_table_was_kept_or_the_config_cannot_be_read(tmp_path):
    folder = make_runs(tmp_path / "three")
    shutil.rmtree(folder / "runs")
    page = report_of(folder, output=tmp_path / "out")
    check_over_seeds(page, read_csv(folder / "comparison.csv"))
    assert page.warnings == [] and "Curves" not in page.text
    (folder / "config.yaml").write_text("mixup_ration: 0.4\n")
    page = report_of(folder, output=tmp_path / "out")
    assert "--mixup_ration in" in page.warnings[0]


def test_mixed_protocols_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = make_runs(Path("three")) / "runs" / "tmkt-seed1" / "result.json"
    Path("three/comparison.csv").unlink()
    result.write_text(json.dumps(json.loads(result.read_text()) | {"protocol": "he2024"}))
    page = report_of("three", make_runs(Path("other"), protocol="he2024"))
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
    assert len(page.captions()) == 1 and "No runs here" in page.text
    assert "Files not shown" not in page.text


def test_jobs_of_a_sweep_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = Path("ratios/jobs")
    for method, seed in product(METHODS, (1, 2)):
        make_runs(jobs / f"{method}-{seed}", [method], [seed])
    make_runs(jobs / "tmkt-1-0.3", ["tmkt"], [1], mixup_ratio=0.3)
    page = report_of("ratios")
    page.check_safe()
    tables = {row[0]: row for row in page.rows if row[1:2] == ["last"]}
    labels = ["baseline", "event-only", "tmkt, mixup-ratio 0.3", "tmkt, mixup-ratio 0.4"]
    assert sorted(tables) == labels
    # 60 + 3 + 3 * 0.3 - 2 / 8 against 50 + 2 + 3 * 0.4 - 1 / 8, of the one seed in common
    assert tables[labels[2]][2:5] == ["1", "63.65 ± -", "+10.57 [-]"]
    for some in (["tmkt", "1", "0.3"], ["baseline", "1", "-"]):
        assert some in [row[:3] for row in page.rows]
    again = re.findall(r"tmkt train -c (\S+)/config.yaml .*--output (\S+)", page.text)
    names = [path.name for path in jobs.iterdir()]
    assert sorted(again) == sorted((f"ratios/jobs/{n}", f"ratios-again/jobs/{n}") for n in names)


def test_the_command_line_means_the_same_runs(place, page, monkeypatch):
    monkeypatch.chdir(place)
    options = resolve(parse(re.search(r"tmkt train (.*?-again)", page.text)[1].split()))[0]
    assert identity(options) == identity(read_options(Path("results/three/config.yaml")))
    assert options.output == "results/three-again" and FIGURE["command"] in page.text
    assert "tmkt report results/three --output results/three/report" in page.text


BAD = """\
results/none | There is no folder results/none
results/three/notes.txt | There is no folder
empty | empty holds nothing to report
results/three --output results/three/notes.txt | notes.txt
results/three --output foreign | was not made by this command
results/three --outpt x | --output
 | required: FOLDER
"""


@pytest.mark.parametrize("line", BAD.splitlines())
def test_errors_exit_with_2(line, place, monkeypatch, capsys):
    words, message = line.split(" | ")
    monkeypatch.chdir(place)
    for name in ("empty", "foreign"):
        Path(name).mkdir(exist_ok=True)
    Path("foreign/report.html").write_text("my own")
    before = sorted(place.rglob("*"))
    assert run_report(words.split()) == 2 and message in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before
    assert Path("foreign/report.html").read_text() == "my own"


def test_run_folders_of_a_seed(place):
    three, runs = place / "results" / "three", place / "results" / "three" / "runs"
    assert run_folders(three) == [runs / f"{method}-seed1" for method in sorted(METHODS)]
    assert len(all_seeds(three)) == 6 and run_folders(runs / "x") == [runs / "x"]
    with pytest.raises(UserError, match=r"no finished run of seed 3 \(seeds there: 1, 2\)"):
        run_folders(three, 3)
    with pytest.raises(UserError, match="no finished run"):
        all_seeds(place)


def test_real_runs_with_real_curves(comparison, tmp_path, monkeypatch):
    monkeypatch.setattr(report_parts, "plot_curves", plot_curves)
    monkeypatch.setattr(report_parts, "NO_LOSSES", "")  # each picture takes a second
    page = report_of(comparison, output=tmp_path)
    check_over_seeds(page, read_csv(comparison / "comparison.csv"))
    ((run, *_), problems) = find_runs(comparison)
    assert page.warnings == problems == [] and run.emulated is run.split["emulated"] is True
    assert run.environments and "Audit: 0 images" in page.text
    assert {"top-1, test (%)", "sigma(theta_t), mean over t"} <= set(page.captions())
