"""VL2Spike, as we read its abstract: its losses, its prototypes, and its embeddings."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch

from tests.program import run_teacher, run_train
from tests.streams import (
    BATCH,
    FEATURES,
    OUT,
    B,
    N,
    T,
    cross_entropy,
    model,
    options,
    rand,
    softmax,
)
from tmkt_braincog.arguments import VL2SPIKE_TERMS as TERMS
from tmkt_braincog.data import make_split
from tmkt_braincog.engine.compare import load_data
from tmkt_braincog.errors import UserError
from tmkt_braincog.losses import language as vl
from tmkt_braincog.methods import build_method
from tmkt_braincog.methods.vl2spike import MOMENTUM
from tmkt_braincog.mixing import Progress
from tmkt_braincog.teacher import Embeddings, load_teacher, save_teacher, teacher_outputs

E, EXACT = 8, dict(rel=1e-12)
RUN = "--shots 4 --static-images 12 --step 4 --model Transfer_SCNN --event-size 28 --batch-size 10"
RUN += " --epoch-size 20 --epochs 2 --warmup-epochs 0 --lr 0.1 --eval-interval 2 --no-tensorboard"


def cosine(a, b):
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt((math.hypot(*a) ** 2 + vl.SILENT) * (math.hypot(*b) ** 2 + vl.SILENT))


def test_contrastive_loss_is_a_cross_entropy_of_cosines():
    x, anchors, tau = rand(5, 7, seed=1), rand(4, 7, seed=2), 0.3
    target = rand(5, 4, seed=3).softmax(-1)
    found = vl.contrastive_loss(x, anchors, target, tau)
    for n in range(5):
        likeness = [cosine(x[n].tolist(), a) for a in anchors.tolist()]
        expected = cross_entropy(target[n].tolist(), likeness, tau)
        assert found[n].item() == pytest.approx(expected, **EXACT)


def test_consistency_over_time_is_zero_for_what_stands_still():
    v = rand(T, B, 6, seed=4)
    pairs = [(t, b) for t in range(1, T) for b in range(B)]
    slow = [1 - cosine(v[t, b].tolist(), v[t - 1, b].tolist()) for t, b in pairs]
    assert vl.membrane_consistency(v).item() == pytest.approx(math.fsum(slow) / len(slow), **EXACT)
    slow = [(v[t] - v.mean(0)).square().mean().item() for t in range(T)]
    assert vl.rate_consistency(v).item() == pytest.approx(math.fsum(slow) / T, **EXACT)
    still = 10 * v[:1].expand_as(v)
    assert vl.membrane_consistency(still).item() == pytest.approx(0, abs=1e-5)
    assert vl.rate_consistency(still).item() == pytest.approx(0, abs=1e-24)


def test_word_targets_are_the_likeness_of_names():
    text = rand(N, E, seed=5)
    expected = [softmax([cosine(a, b) for b in text.tolist()], 0.1) for a in text.tolist()]
    torch.testing.assert_close(vl.word_targets(text, 0.1), torch.tensor(expected, dtype=text.dtype))


def test_silence_has_no_direction_and_a_small_gradient():
    x = torch.zeros(T, B, 6, dtype=torch.float64, requires_grad=True)
    anchors, target = rand(B, 6, seed=8), torch.eye(B).double()
    loss = vl.contrastive_loss(x[0], anchors, target, 0.07).sum() + vl.membrane_consistency(x)
    (gradient,) = torch.autograd.grad(loss, x)
    assert 0 < gradient.norm() < 1e5 and loss.isfinite()
    assert vl.unit(x).norm() == 0 and vl.unit(100 * anchors).norm(dim=-1).min() > 1 - 1e-6


TEACHER = SimpleNamespace(text=rand(N, E, seed=6), images=rand(11, E, seed=7))


def part_of(line=""):
    torch.manual_seed(0)
    method = build_method("vl2spike", options(f"--step {T} --epochs 8 {line}"), 5).double()
    (part,) = method.parts
    part.meet(TEACHER)
    part.double().teacher = TEACHER.images
    return method, part


def test_its_terms_join_the_baseline_and_each_can_be_left_out():
    plain = build_method("baseline", options(f"--step {T}"), FEATURES).double()
    plain = plain(model, BATCH, Progress(1, 8, 0, 4))
    method, part = part_of()
    found = method(model, BATCH, Progress(1, 8, 0, 4))
    names = [f"vl_{name}" for name in TERMS]
    assert list(found) == [*plain, *names]
    warm = {"vl_membrane": 0.5, "vl_rate": 0.5}  # the first of the two epochs of a quarter of eight
    added = math.fsum(0.1 * warm.get(n, 1.0) * found[n].item() for n in names)
    assert found["loss"].item() == pytest.approx(plain["loss"].item() + added, rel=1e-6)
    assert found["vl_membrane"].item() == vl.membrane_consistency(OUT.event.tap).item()
    assert found["vl_rate"].item() == vl.rate_consistency(OUT.event.spikes).item()
    spikes, images = part.of_spikes(OUT.static.spikes.mean(0)), TEACHER.images[BATCH.image]
    target = torch.eye(B).double()
    target[1:3, 1:3] = 0.5  # two recordings with the same image
    rows = vl.contrastive_loss(spikes, part.of_words(images), target, 0.07)
    assert found["vl_image"].item() == pytest.approx(rows.mean().item(), rel=1e-12)
    words = vl.word_targets(TEACHER.text, 0.1)[BATCH.label]
    log_p = OUT.event.logits.mean(0).log_softmax(-1)
    assert found["vl_word"].item() == pytest.approx(-(words * log_p).sum(-1).mean().item())
    for name in TERMS:
        kept = [n for n in TERMS if n != name]
        less = part_of(f"--method vl2spike --vl2spike-terms {' '.join(kept)}")[0]
        found = less(model, BATCH, Progress(1, 8, 0, 4))
        assert [n for n in found if n.startswith("vl_")] == [f"vl_{n}" for n in kept]


def test_prototypes_are_running_means_of_the_classes():
    method, part = part_of()
    rows = vl.unit(part.of_spikes(OUT.event.spikes.mean(0))).detach()
    some = BATCH._replace(label=torch.tensor([0, 0, 0, 1, 1, 1]))  # none of class 2
    first = method(model, some, Progress(0, 8, 0, 4))["vl_prototype"]
    means = torch.stack([rows[:3].mean(0), rows[3:].mean(0)])
    torch.testing.assert_close(part.prototypes[:2], means)
    assert part.seen.tolist() == [True, True, False] and part.prototypes[2].abs().max() == 0
    names, right = part.of_words(TEACHER.text), torch.eye(N).double()
    expected = vl.contrastive_loss(means, names, right[:2], 0.07).mean()
    assert first.item() == pytest.approx(expected.item(), rel=1e-9)
    assert first.requires_grad and not part.prototypes.requires_grad
    method(model, BATCH, Progress(0, 8, 0, 4))
    new = torch.stack([rows[BATCH.label == c].mean(0) for c in range(N)])
    kept = torch.tensor([MOMENTUM, MOMENTUM, 0.0]).unsqueeze(1).double()
    old = torch.cat([means, torch.zeros(1, means.shape[1]).double()])
    torch.testing.assert_close(part.prototypes, kept * old + (1 - kept) * new)
    before = part.prototypes.clone()
    part.eval()
    method(model, some, Progress(0, 8, 0, 4))
    assert torch.equal(part.prototypes, before)


class Letters:
    """A text model that counts letters, or says the same of all."""

    def __init__(self, name, device):
        if name not in ("letters", "deaf"):
            raise ValueError(name)
        self.width = 64 if name == "letters" else 1

    def encode(self, texts, **_):
        rows = [[ord(c) % self.width for c in t] for t in texts]
        counts = [torch.bincount(torch.tensor(row), minlength=self.width) for row in rows]
        return torch.stack(counts).float()


@pytest.fixture(scope="module", autouse=True)
def encoders():
    with pytest.MonkeyPatch.context() as patch:
        fake = SimpleNamespace(SentenceTransformer=Letters)
        patch.setattr("tmkt_braincog.teacher.encoders.import_module", lambda _: fake)
        yield


def embed(path):
    weights = path.parent / "resnet10t.pth"
    torch.save(timm.create_model("resnet10t").state_dict(), weights)
    words = f"embed --teacher resnet10t --teacher-size 32 --teacher-weights {weights}"
    return f"{words} --text-encoder letters --teacher-checkpoint {path} {RUN}".split()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Embeddings by a classifier without weights and a text model that counts letters."""
    path = tmp_path_factory.mktemp("embeddings") / "embeddings.pt"
    assert run_teacher([*embed(path), "--prompt", "{}"]) == 0
    assert run_teacher(embed(path)) == 2  # it is there
    return path


def test_embeddings_are_of_unit_length_and_train_a_run(file, tmp_path, capsys):
    made = load_teacher(file)
    assert made.encoder == "conse (resnet10t, letters)" and len(made.classes) == len(made.text)
    for rows in (made.images, made.text):
        torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(rows)))
    right = (made.images @ made.text.mT).argmax(-1) == load_data(options(RUN)).image_labels
    assert made.accuracy == pytest.approx(100 * right.double().mean().item())
    words = f"--method vl2spike tmkt+vl2spike --teacher-checkpoint {file} --output {tmp_path / 'a'}"
    assert run_train(f"{words} {RUN}".split()) == 0
    assert "tmkt+vl2spike" in capsys.readouterr().out


def test_embeddings_of_other_images_classes_or_kind_are_refused(file, tmp_path):
    chosen = options(f"--method vl2spike {RUN}")
    data, made = load_data(chosen), load_teacher(file)
    split = make_split(data, chosen, 42)
    made.check(file, chosen, data, split)
    other = replace(data, images=data.images.flip(0))
    with pytest.raises(UserError, match=r"was made from other files of .*tmkt teacher embed"):
        made.check(file, chosen, other, split)
    fewer = Embeddings(**vars(made) | {"classes": ["ant", "bee"]})
    with pytest.raises(UserError, match=r"has other classes: 2 \(ant, bee\); here 10 \(0, 1, 2"):
        fewer.check(file, chosen, data, split)
    smaller = Embeddings(**vars(made) | {"seen": made.seen | {"event_size": 20}})
    with pytest.raises(UserError, match="event_size: there 20, here 28"):
        smaller.check(file, chosen, data, split)
    table = np.array([3, 1])
    rows = teacher_outputs(made, "", data, table, torch.device("cpu"), "embeddings")
    assert torch.equal(rows[table], made.images[table])
    assert rows.isnan().any(-1).sum() == len(made.images) - 2
    save_teacher(tmp_path / "again.pt", made)
    assert torch.equal(load_teacher(tmp_path / "again.pt").text, made.text)


@pytest.mark.parametrize(
    "more, message",
    [
        ("--prompt nothing", "expected one {} for the class name"),
        ("--prompt word", "expected one {}"),
        ("--encoder ViT-B-32", "--teacher-weights, --text-encoder: of conse"),
        ("--teacher convnext_tiny.fb_in22k", "needs a trained classifier of ImageNet"),
        ("--teacher-checkpoint x-{shots}.pt", "one for all runs"),
        ("--text-encoder nowhere", "--text-encoder nowhere cannot be loaded"),
        ("--text-encoder deaf", "does not tell the class names '0' and '1' apart"),
    ],
)
def test_what_cannot_embed(more, message, tmp_path, capsys):
    assert run_teacher([*embed(tmp_path / "x.pt"), *more.split()]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "x.pt").exists()


def test_an_open_clip_model_needs_its_weights_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tmkt_braincog.teacher.encoders.import_module", lambda _: None)
    words = f"embed --encoder ViT-B-32 --teacher-checkpoint {tmp_path / 'x.pt'} {RUN}"
    assert run_teacher(words.split()) == 2
    assert "cannot be built (no weights are named)" in capsys.readouterr().err


def test_a_run_without_embeddings_says_what_makes_them(capsys, tmp_path):
    assert run_train(f"--method vl2spike {RUN} --output {tmp_path / 'a'}".split()) == 2
    assert "needs a teacher trained on images and class names" in (said := capsys.readouterr().err)
    assert "tmkt teacher embed" in said
