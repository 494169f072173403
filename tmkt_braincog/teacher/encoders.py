"""Encoders of images and words into one space: open_clip's, or a classifier and a text model."""

from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import ImageNetInfo
from torch import Tensor
from torchvision.transforms import Normalize

from ..errors import UserError
from .network import build_teacher, weights_of

NEAREST = 5  # classes of ImageNet that make an embedding (ConSE)


class Encoder(ABC):
    """Images ``[n, 3, size, size]`` in [0, 1], and texts, to rows of length 1 in one space."""

    name: str
    size: int

    @abstractmethod
    def images(self, x: Tensor) -> Tensor:
        """``[n, E]``."""

    @abstractmethod
    def texts(self, texts: Sequence[str]) -> Tensor:
        """``[len(texts), E]``, on the CPU."""


class OpenCLIP(Encoder):
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


class ConSE(Encoder):
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
        about = ImageNetInfo()
        words = map(about.label_name_to_description, map(about.index_to_label_name, range(1000)))
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
