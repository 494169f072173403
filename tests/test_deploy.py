"""Trained networks in use: predictions, model cards, the Hugging Face Hub."""

import base64
import hashlib
import json
import re
import shlex
import shutil
import threading
from argparse import Namespace
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
        for k in range(5):
            events = recording(10 * c + k)
            if k == 4:
                np.savez(root / f"data/events/{name}/a4.npz", **{n: events[n] for n in "xytp"})
            else:
                write_bin(root / f"data/events/{name}/a{k}.bin", events)
            picture(root / f"data/images/{name}/b{k}.png", k)
    words = [*WORDS.split(), "--data-root", str(root / "data"), "--output", str(root / "run")]
    assert run_train(words) == 0
    return root, root / "run/runs/baseline-seed1/best.pt"


def run_predict(*words) -> int:
    return command("predict", map(str, words))


def test_the_same_probabilities_as_in_evaluation(trained):
    root, checkpoint = trained
    network = tmkt_braincog.load(checkpoint)
    data = DATASETS["folder"].load(LoadSpec(root / "data", 4, 28))
    assert network.classes == data.classes == ("cup", "key")
    expected = predict(
        network.model, data.frames, data.labels, np.arange(10), torch.device("cpu")
    ).heads["event"]
    for r in (0, 4, 9):
        found = network.predict(root / "data" / data.names[r])
        np.testing.assert_allclose(found.probabilities, expected[r].softmax(0), atol=1e-6)
        assert found.label == network.classes[expected[r].argmax()]
        assert (
            found.over_time.shape == (4, 2) and (found.over_time[-1] == found.probabilities).all()
        )
        np.testing.assert_allclose(found.over_time.sum(1), 1)
    events = recording(0)
    events["x"] += 1
    with pytest.raises(
        tmkt_braincog.errors.UserError, match=r"24 x 20 sensor: .* to 24 .* 0 to 23 and 0 to 19"
    ):
        network.predict(events)
    assert network.predict(events, (40, 40)).probabilities.sum() == pytest.approx(1)


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
    assert (rows.t == 4).all() and rows["class"].tolist() == rows[COLUMNS].idxmax(1).str[
        2:-1
    ].tolist()
    assert run_predict(*words, everything) == 2 and "Give --force" in capsys.readouterr().err
    assert run_predict(*words, everything, "--force") == 1
    found = json.loads(everything.read_text())["files"]
    assert [f["probabilities"] for f in found] == rows[COLUMNS].to_numpy().tolist()
    assert run_predict(*words, table, "--force", "--over-time") == 1
    over_time = pd.read_csv(table)
    np.testing.assert_array_equal(
        over_time[COLUMNS], np.concatenate([f["over_time"] for f in found])
    )
    for f, (_, steps) in zip(found, over_time.groupby("file", sort=False), strict=True):
        same = steps["class"].eq(f["class"]).to_numpy()
        assert same[f["settled"] - 1 :].all() and (f["settled"] == 1 or not same[f["settled"] - 2])


def test_predict_refuses(trained, tmp_path, capsys):
    root, checkpoint = trained
    torch.save({"weights": 1}, tmp_path / "other.pt")
    state = torch.load(checkpoint, weights_only=True)
    for option, own in (("model", "Transfer_Own"), ("method", ["own"])):
        identity = state["identity"] | {option: own}
        torch.save(state | {"identity": identity}, tmp_path / f"{option}.pt")
    del state["about"]
    torch.save(state, tmp_path / "old.pt")
    (tmp_path / "torn.pt").write_bytes(checkpoint.read_bytes()[:9000])
    (tmp_path / "broken.bin").write_bytes(b"\0" * 7)
    file = root / "data/events/cup/a0.bin"
    for words, said in (
        ((checkpoint, tmp_path / "none.bin"), "There is no file"),
        ((checkpoint, tmp_path / "broken.bin"), "is of no format that is known"),
        ((tmp_path / "other.pt", file), "is not a checkpoint of this program"),
        ((root / "data", checkpoint), "it is a folder, not best.pt or last.pt"),
        ((file, checkpoint), "the order is CHECKPOINT FILE..."),
        ((file.with_name("a4.npz"), checkpoint), "it is a file of another kind"),
        ((tmp_path / "torn.pt", file), "it is damaged"),
        ((tmp_path / "model.pt", file), "the model 'Transfer_Own', which is not known here"),
        ((tmp_path / "method.pt", file), "the method 'own', which is not known here"),
        ((tmp_path / "old.pt", file), "does not say what its classes are"),
        ((checkpoint, file, "--output", "a.txt"), "expected a name in .csv, .json"),
        (("hf:name", file), "expected hf:user/name"),
    ):
        assert run_predict(*words) == 2 and said in capsys.readouterr().err


def test_what_predict_does_not_take_or_overwrite(trained, tmp_path, capsys):
    root, checkpoint = trained
    file = shutil.copy(root / "data/events/cup/a4.npz", tmp_path / "rec.csv")
    for words, said in (
        ((file, "--output", file, "--force"), "would be written over"),
        ((file, "--output", tmp_path), "expected a name in .csv, .json"),
        ((root / "data/images", "--output", tmp_path / "x.csv"), "No file below"),
    ):
        assert run_predict(checkpoint, *words) == 2 and said in capsys.readouterr().err
    below = tmp_path / "below"
    (below / ".git").mkdir(parents=True)
    (below / "cup").symlink_to(root / "data/events/cup")
    for name in (".git/a.bin", "b.png"):
        shutil.copy(file, below / name)
    assert run_predict(checkpoint, below, "--output", below / "found.csv") == 0
    assert run_predict(checkpoint, below, "--output", below / "found.csv", "--force") == 0
    assert len(pd.read_csv(below / "found.csv")) == 5


def test_events_in_the_usual_containers(trained):
    network = tmkt_braincog.load(trained[1])
    events = recording(3)
    expected = network.predict(events).probabilities
    tables = [pd.DataFrame({n: events[n] for n in "xytp"}), {n: events[n].tolist() for n in "xytp"}]
    tables += [{n: torch.tensor(events[n].astype(float)) for n in "xytp"}]
    for table in tables:
        np.testing.assert_array_equal(network.predict(table).probabilities, expected)
    wide = network.predict(events, np.array([24, 20])).probabilities
    np.testing.assert_array_equal(wide, expected)
    bad = {"no p": {n: events[n] for n in "xyt"}, "seconds": {**tables[1], "t": events["t"] / 1e6}}
    bad |= {"lengths": {**tables[1], "x": [1, 2]}, "none": {n: [] for n in "xytp"}}
    for given in bad.values():
        with pytest.raises(tmkt_braincog.errors.UserError, match=r"no events|too short"):
            network.predict(given)


def test_files_that_only_training_can_read(trained, tmp_path, capsys):
    _, checkpoint = trained
    state = torch.load(checkpoint, weights_only=True)
    for preparation, said in (
        ({**state["about"]["preparation"], "reads": False}, "in a way of its own"),
        (None, "without TransferData.preparation"),
    ):
        state["about"]["preparation"] = preparation
        torch.save(state, tmp_path / "own.pt")
        assert run_predict(tmp_path / "own.pt", trained[0] / "data/events/cup/a0.bin") == 2
        assert said in capsys.readouterr().err
        assert command("export", [str(tmp_path / "own.pt"), "--to", "torch", "--force"]) == 0


def test_a_card_says_what_the_checkpoint_is(trained, capsys):
    _, checkpoint = trained
    assert run_report([str(checkpoint)]) == 0
    card = checkpoint.with_suffix(".md").read_text()
    row = pd.read_csv(checkpoint.parent / "log.csv").sort_values("test_top1").iloc[-1]
    data = DATASETS["folder"].load(LoadSpec(checkpoint.parents[3] / "data", 4, 28))
    assert f"| test recordings | {row.test_top1:.2f} |" in card
    assert (
        f"`{data.preparation.fingerprint}`" in card and "8 train, 2 test; protocol `clean`" in card
    )
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
    assert isinstance(options, Namespace)
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
