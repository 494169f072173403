"""Trained networks in use: predictions, model cards, the Hugging Face Hub."""

import base64
import hashlib
import json
import re
import shlex
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
from writers import write_bin

import tmkt_braincog
from tests.data.test_folder import picture, recording
from tests.program import command, run_report, run_train
from tmkt_braincog.data import DATASETS, LoadSpec
from tmkt_braincog.engine.evaluate import predict
from tmkt_braincog.errors import UserError
from tmkt_braincog.options import RECIPES, identity, parse, resolve, words_of

COLUMNS = ["p(cup)", "p(key)"]
WORDS = (
    "--target-dataset folder --method baseline --seed 1 --model Transfer_SCNN --step 4 "
    "--event-size 28 --batch-size 8 --epoch-size 16 --epochs 2 --warmup-epochs 0 --lr 0.1 "
    "--width-divisor 1 --no-tensorboard"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of recordings, and the checkpoint of a network trained on them."""
    root = tmp_path_factory.mktemp("own")
    for c, name in enumerate(("cup", "key")):
        (root / "data/events" / name).mkdir(parents=True)
        for k in range(4):
            write_bin(root / f"data/events/{name}/a{k}.bin", recording(10 * c + k))
            picture(root / f"data/images/{name}/b{k}.png", k)
        np.savez(root / f"data/events/{name}/a4.npz", **columns(recording(10 * c + 4)))
        picture(root / f"data/images/{name}/b4.png", 4)
    words = [*WORDS.split(), "--data-root", str(root / "data"), "--output", str(root / "run")]
    assert run_train(words) == 0
    return root, root / "run/runs/baseline-seed1/best.pt"


@pytest.fixture(scope="module")
def network(trained):
    return tmkt_braincog.load(trained[1])


def columns(events) -> dict[str, np.ndarray]:
    return {name: events[name] for name in "xytp"}


def run_predict(*words) -> int:
    return command("predict", map(str, words))


def test_the_same_probabilities_as_in_evaluation(trained, network):
    root, _ = trained
    data = DATASETS["folder"].load(LoadSpec(root / "data", 4, 28))
    assert network.classes == data.classes == ("cup", "key")
    which, cpu = np.arange(10), torch.device("cpu")
    expected = predict(network.model, data.frames, data.labels, which, cpu).heads["event"]
    for r in (0, 4, 9):
        found = network.predict(root / "data" / data.names[r])
        np.testing.assert_allclose(found.probabilities, expected[r].softmax(0), atol=1e-6)
        assert found.label == network.classes[expected[r].argmax()]
        assert found.over_time.shape == (4, 2)
        assert (found.over_time[-1] == found.probabilities).all()
        np.testing.assert_allclose(found.over_time.sum(1), 1)


def test_predict_many_files_one_of_them_broken(trained, tmp_path, capsys):
    root, checkpoint = trained
    (tmp_path / "broken.bin").write_bytes(b"\0" * 7)
    table, everything = tmp_path / "found.csv", tmp_path / "found.json"
    words = [checkpoint, root / "data/events", tmp_path / "broken.bin", "--picture"]
    words += [tmp_path / "found.png", "--output"]
    assert run_predict(*words, table) == 1
    out, err = capsys.readouterr()
    assert "of 10 right" in out and f"not read: {tmp_path}/broken.bin" in err
    assert "1 of 11 files could not be read." in err and (tmp_path / "found.png").stat().st_size
    rows = pd.read_csv(table)
    assert rows.columns.tolist() == ["file", "t", "class", "p(cup)", "p(key)"] and len(rows) == 10
    assert (rows.t == 4).all()
    assert rows["class"].tolist() == rows[COLUMNS].idxmax(1).str[2:-1].tolist()
    assert run_predict(*words, everything) == 2 and "Give --force" in capsys.readouterr().err
    assert run_predict(*words, everything, "--force") == 1
    found = json.loads(everything.read_text())["files"]
    assert [f["probabilities"] for f in found] == rows[COLUMNS].to_numpy().tolist()
    assert run_predict(*words, table, "--force", "--over-time") == 1
    over_time = pd.read_csv(table)
    every = np.concatenate([f["over_time"] for f in found])
    np.testing.assert_array_equal(over_time[COLUMNS], every)
    for f, (_, steps) in zip(found, over_time.groupby("file", sort=False), strict=True):
        same = steps["class"].eq(f["class"]).to_numpy()
        assert same[f["settled"] - 1 :].all() and (f["settled"] == 1 or not same[f["settled"] - 2])


@pytest.fixture(scope="module")
def others(trained, tmp_path_factory):
    """Folder with all that the words of the next test name."""
    root, checkpoint = trained
    folder, state = tmp_path_factory.mktemp("others"), torch.load(checkpoint, weights_only=True)
    who, about = state["identity"], state["about"]
    own_way = about["preparation"] | {"reads": False}
    for name, other in (
        ("model.pt", {"identity": who | {"model": "Transfer_Own"}}),
        ("method.pt", {"identity": who | {"method": ["own"]}}),
        ("own-way.pt", {"about": about | {"preparation": own_way}}),
        ("unsaid.pt", {"about": about | {"preparation": None}}),
    ):
        torch.save(state | other, folder / name)
    torch.save({"weights": 1}, folder / "other.pt")
    (folder / "torn.pt").write_bytes(checkpoint.read_bytes()[:9000])
    (folder / "x.csv").write_text("x,y,t,p")
    (folder / "broken.bin").write_bytes(b"\0" * 7)
    for name, path in (("best.pt", checkpoint), ("cup", root / "data/events/cup")):
        (folder / name).symlink_to(path)
    (folder / "images").symlink_to(root / "data/images")
    return folder


@pytest.mark.parametrize(
    "words, said",
    [
        ("best.pt none.bin", "There is no file"),
        ("best.pt broken.bin", "is of no format that is known"),
        ("other.pt cup/a0.bin", "is not a checkpoint of this program"),
        ("cup best.pt", "it is a folder, not best.pt or last.pt"),
        ("cup/a0.bin best.pt", "the order is CHECKPOINT FILE..."),
        ("cup/a4.npz best.pt", "it is a file of another kind"),
        ("torn.pt cup/a0.bin", "it is damaged"),
        ("model.pt cup/a0.bin", "the model 'Transfer_Own', which is not known here"),
        ("method.pt cup/a0.bin", "the method 'own', which is not known here"),
        ("own-way.pt cup/a0.bin", "reads files in a way of its own"),
        ("unsaid.pt cup/a0.bin", "without TransferData.preparation"),
        ("best.pt cup/a0.bin --output a.txt", "expected a name in .csv, .json"),
        ("hf:name cup/a0.bin", "expected hf:user/name"),
        ("best.pt x.csv --output x.csv --force", "would be written over"),
        ("best.pt cup/a0.bin --output cup", "expected a name in .csv, .json"),
        ("best.pt images --output y.csv", "No file below"),
    ],
)
def test_predict_refuses(others, capsys, monkeypatch, words, said):
    monkeypatch.chdir(others)
    assert run_predict(*words.split()) == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["own-way.pt", "unsaid.pt"])
def test_a_network_that_reads_no_files_is_exported(others, name):
    assert command("export", [str(others / name), "--to", "torch"]) == 0


def test_what_a_folder_stands_for(trained, tmp_path):
    root, checkpoint = trained
    (tmp_path / ".git").mkdir()
    (tmp_path / "cup").symlink_to(root / "data/events/cup")
    for name in (".git/a.npz", ".b.npz", "b.png"):
        shutil.copy(root / "data/events/cup/a4.npz", tmp_path / name)
    assert run_predict(checkpoint, tmp_path, "--output", tmp_path / "found.csv") == 0
    assert run_predict(checkpoint, tmp_path, "--output", tmp_path / "found.csv", "--force") == 0
    assert len(pd.read_csv(tmp_path / "found.csv")) == 5


def test_events_in_the_usual_containers(network):
    events = columns(recording(3))
    expected = network.predict(recording(3)).probabilities
    lists = {n: column.tolist() for n, column in events.items()}
    tensors = {n: torch.tensor(column.astype(float)) for n, column in events.items()}
    for given in (pd.DataFrame(events), lists, tensors):
        np.testing.assert_array_equal(network.predict(given).probabilities, expected)
    same = network.predict(events, np.array([24, 20])).probabilities
    np.testing.assert_array_equal(same, expected)
    moved = events | {"x": events["x"] + 1}
    assert network.predict(moved, (40, 40)).probabilities.sum() == pytest.approx(1)
    for given, said in (
        ({n: events[n] for n in "xyt"}, "no events"),
        (lists | {"x": [1, 2]}, "no events"),
        ({n: [] for n in "xytp"}, "no events"),
        (lists | {"t": events["t"] / 1e6}, "too short"),
        (moved, "outside the 24 x 20 sensor: .* to 24 .* expected 0 to 23 and 0 to 19"),
    ):
        with pytest.raises(UserError, match=said):
            network.predict(given)


def test_a_card_says_what_the_checkpoint_is(trained, capsys):
    _, checkpoint = trained
    assert run_report([str(checkpoint)]) == 0
    card = checkpoint.with_suffix(".md").read_text()
    row = pd.read_csv(checkpoint.parent / "log.csv").sort_values("test_top1").iloc[-1]
    data = DATASETS["folder"].load(LoadSpec(checkpoint.parents[3] / "data", 4, 28))
    assert f"| test recordings | {row.test_top1:.2f} |" in card
    assert f"`{data.preparation.fingerprint}`" in card
    assert "8 train, 2 test; protocol `clean`" in card
    line = next(line for line in card.splitlines() if line.startswith("tmkt train"))
    assert run_report([str(checkpoint)]) == 2 and "exists" in capsys.readouterr().err
    again, _ = resolve(parse(shlex.split(line)[2:]))
    assert identity(again) == torch.load(checkpoint, weights_only=True)["identity"]


EXAMPLE = Path(__file__).resolve().parent.parent / "docs/examples/nmnist.pt"


def test_the_example_is_small_and_has_its_card(tmp_path):
    assert EXAMPLE.stat().st_size < 1_000_000
    copy = shutil.copy(EXAMPLE, tmp_path)
    assert run_report([str(copy)]) == 0
    assert Path(copy).with_suffix(".md").read_text() == EXAMPLE.with_suffix(".md").read_text()


@pytest.mark.realdata
def test_the_example_knows_digits(real_data, capsys):
    assert run_predict(EXAMPLE, real_data / "NMNIST/Test") == 0
    right, of = re.search(r"(\d+) of (\d+) right", capsys.readouterr().out).groups()
    assert int(right) >= 0.9 * int(of) > 0


@pytest.mark.parametrize("name", sorted(f.name.removesuffix(".yaml") for f in RECIPES.iterdir()))
def test_words_of_options_resolve_to_them(name):
    words = ["-c", name, "--method", "baseline", "tmkt", "--no-mag", "--seed", "3", "--lr", "0.7"]
    options, _ = resolve(parse(words))
    again, _ = resolve(parse(words_of(options)))
    assert identity(again) == identity(options)


COMMIT = "1" * 40


class Hub(BaseHTTPRequestHandler):
    """The calls of the Hub's client that ``tmkt`` makes: files by repository, in memory."""

    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        *_, owner, name, what, _ = f"///{self.path}".split("/")
        if self.path.endswith("/repos/create"):
            asked = json.loads(body)
            assert asked.get("private") or asked["visibility"] == "private"  # newer, older clients
            self.repositories[f"user/{asked['name']}"] = {}
            return self.answer({"url": f"http://{self.headers['Host']}/user/{asked['name']}"})
        if self.path.endswith("/validate-yaml"):
            return self.answer({"errors": [], "warnings": []})
        if what == "preupload":
            files = [f["path"] for f in json.loads(body)["files"]]
            return self.answer(
                {
                    "files": [
                        {"path": f, "uploadMode": "regular", "shouldIgnore": False} for f in files
                    ]
                }
            )
        lines = [json.loads(line) for line in body.splitlines()]
        for value in (line["value"] for line in lines if line["key"] == "file"):
            content = base64.b64decode(value["content"])
            self.repositories[f"{owner}/{name}"][value["path"]] = content
        url = f"http://{self.headers['Host']}/{owner}/{name}/commit/{COMMIT}"
        self.answer({"commitUrl": url, "commitOid": COMMIT})

    def do_GET(self):
        owner, name, _, _, file = self.path[1:].split("/")
        found = self.repositories.get(f"{owner}/{name}", {}).get(file)
        self.answer(found if found is not None else {}, 404 if found is None else 200)

    do_HEAD = do_GET

    def answer(self, what, status=200):
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", hashlib.sha256(body).hexdigest())
        self.send_header("X-Repo-Commit", COMMIT)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The Hub of this test: the stand-in, and an empty cache."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield Hub.repositories
    server.shutdown()


def test_push_and_pull(hub, trained, tmp_path, capsys):
    root, checkpoint = trained
    assert command("push", [str(checkpoint), "hf:user/it", "--private"]) == 0
    assert len(hub["user/it"]["best.pt"]) < 0.4 * len(checkpoint.read_bytes())
    assert b"tmkt predict hf:user/it RECORDING..." in hub["user/it"]["README.md"]
    said = []
    for name in (checkpoint, "hf:user/it"):
        capsys.readouterr()
        assert run_predict(name, root / "data/events/cup/a0.bin") == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    (found,) = tmp_path.rglob("best.pt")
    words = [*WORDS.split(), "--data-root", str(root / "data"), "--output", str(tmp_path / "run")]
    assert run_train([*words, "--resume", str(found)]) == 2
    assert "holds a network alone" in capsys.readouterr().err
    assert run_predict("hf:user/other", root / "data/events/cup/a0.bin") == 2
    assert "Cannot get best.pt of hf:user/other" in capsys.readouterr().err
