"""Embeddings of a data set's images and class names in one space, written once: by open_clip, or
by a classifier and a text model.

An encoder turns ``images`` ``[n, 3, size, size]`` in [0, 1], and ``texts``, which stay on the CPU,
into rows of length 1 in one space, ``[n, E]``."""

from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.data import ImageNetInfo
from torch import Tensor
from torchvision.transforms import Normalize

from ..data import TransferData
from ..errors import UserError
from .kinds import Embeddings, about, save_teacher
from .network import build_teacher, in_batches, views, weights_of

NEAREST = 5  # classes of ImageNet that make an embedding (ConSE)
ALIKE = 0.999  # cosine of two names that an encoder does not tell apart


class OpenCLIP:
    """``MODEL:WEIGHTS`` of open_clip, WEIGHTS being one of its tags or a file."""

    def __init__(self, name: str, device: torch.device):
        clip = _need("open_clip", "tmkt-braincog[vlm]")
        model, _, weights = name.partition(":")
        try:
            if not weights:
                raise ValueError("no weights are named")
            self.model = clip.create_model(model, pretrained=weights, device=device).eval()
            self.tokenizer = clip.get_tokenizer(model)
        except Exception as error:  # open_clip, huggingface_hub and torch raise many types
            raise UserError(
                f"--encoder {name} cannot be built ({str(error)[:99]}). Expected "
                "conse, or MODEL:WEIGHTS as open_clip.list_pretrained() has them, or with a file."
            ) from error
        visual: Any = self.model.visual
        self.name, self.device, self.size = name, device, visual.image_size[0]
        self.normalise = Normalize(visual.image_mean, visual.image_std)

    def images(self, x: Tensor) -> Tensor:
        return F.normalize(self.model.encode_image(self.normalise(x)).float(), dim=-1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(list(texts)).to(self.device)
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1).cpu()


class ConSE:
    """The five likeliest classes of ImageNet, their names' embeddings weighted by probability.

    Norouzi et al., ICLR 2014. It is not CLIP: a classifier that never saw the words, and a sentence
    model that never saw an image."""

    def __init__(self, own: Namespace, device: torch.device):
        sentences = _need("sentence_transformers", "tmkt-braincog[conse]")
        known = weights_of(own.teacher)
        if known.num_classes != 1000 or not (own.pretrained or own.teacher_weights):
            raise UserError(
                f"--teacher {own.teacher}: ConSE needs a trained classifier of ImageNet's 1,000 "
                f"classes; timm's weights have {known.num_classes}. Choose another, or leave "
                "--no-pretrained away."
            )
        self.size = own.teacher_size or known.input_size[-1]
        start = own.pretrained, own.teacher_weights
        self.network = build_teacher(own.teacher, 1000, *start).to(device).eval()
        try:
            self.sentences = sentences.SentenceTransformer(own.text_encoder, device="cpu")
        except Exception as error:  # of many types, for a path or a name that is none
            raise UserError(
                f"--text-encoder {own.text_encoder} cannot be loaded ({type(error).__name__}). "
                "Expected a sentence model of Hugging Face by name, or its folder."
            ) from error
        names = ImageNetInfo()
        words = map(names.label_name_to_description, map(names.index_to_label_name, range(1000)))
        self.of_classes = self.texts([str(each).split(",")[0] for each in words]).to(device)
        self.name = f"conse ({own.teacher}, {own.text_encoder})"

    def images(self, x: Tensor) -> Tensor:
        nearest = self.network(x).softmax(dim=-1).topk(NEAREST)
        return F.normalize((nearest[0].unsqueeze(-1) * self.of_classes[nearest[1]]).sum(1), dim=-1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        found = self.sentences.encode(list(texts), convert_to_tensor=True, show_progress_bar=False)
        return F.normalize(found.float(), dim=-1).cpu()


def _need(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f"This needs {module}: pip install '{package}'.") from error


def make_embeddings(
    own: Namespace, options: Namespace, data: TransferData, device: torch.device
) -> None:
    """Write them to ``--teacher-checkpoint``."""
    path = Path(own.teacher_checkpoint)
    encoder = ConSE(own, device) if own.encoder == "conse" else OpenCLIP(own.encoder, device)
    with torch.no_grad():
        text = _of_names(encoder, data.classes, own.prompt)
    pixels, bar = views(data, "static", encoder.size), "embedding images"
    every = np.arange(len(pixels))
    images = in_batches(encoder.images, pixels, every, encoder.size, device, bar)
    nearest = (images @ text.mT).argmax(dim=-1)
    accuracy = 100 * (nearest == data.image_labels.cpu()).double().mean().item()
    found = dict[str, Any](encoder=encoder.name, accuracy=accuracy, images=images, text=text)
    save_teacher(path, Embeddings(**found, **about(data, options, "vlm")))
    print(
        f"{encoder.name}: {len(images)} images and {len(text)} class names in {images.shape[1]} "
        f"dimensions; the nearest name is right for {accuracy:.2f} % of the images. Written: {path}"
    )


def _of_names(encoder: OpenCLIP | ConSE, classes: tuple[str, ...], prompt: str) -> Tensor:
    """``[N, E]``; a UserError for names that the encoder does not tell apart."""
    text = encoder.texts([prompt.format(name.replace("_", " ").lower()) for name in classes])
    likeness = (text @ text.mT).fill_diagonal_(-1)
    if likeness.max() > ALIKE:
        a, b = divmod(int(likeness.argmax()), len(classes))
        raise UserError(
            f"{encoder.name} does not tell the class names {classes[a]!r} and {classes[b]!r} "
            "apart: it lacks their language, or they are no words. Choose another --encoder or "
            "--text-encoder."
        )
    return text
