from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import vae_lab
from vae_lab import evaluation
from vae_lab.errors import LabError, UserError
from vae_lab.faults import data_with
from vae_lab.objectives import kl_per_dimension
from vae_lab.trained.model import TrainedModel
from vae_lab.trained.pictures import picture

BOTH = pytest.mark.parametrize("kind", ["vae", "cvae"])


@pytest.fixture
def lab(kind: str, vae: TrainedModel, cvae: TrainedModel) -> TrainedModel:
    return cvae if kind == "cvae" else vae


@BOTH
def test_it_knows_its_run(lab: TrainedModel, kind: str) -> None:
    assert lab.run.name == f"{kind} L3 Z15 s0"
    assert lab.metrics["test/loss"] == lab.run.metrics["test/loss"]
    assert (lab.config.model.layers, lab.config.data.name, lab.config.seed) == (3, "digits", 0)
    assert (lab.shape, lab.classes) == ((1, 8, 8), [*range(10)])
    assert (lab.latent_size, lab.conditional) == (15, kind == "cvae")
    assert not lab.module.training


@BOTH
def test_shapes_are_those_of_images_and_latent_vectors(lab: TrainedModel, device: torch.device) -> None:
    images, labels = lab.examples(4)
    mean, log_var = lab.encode(images, labels)
    assert images.shape == (4, 1, 8, 8)
    assert mean.shape == log_var.shape == (4, 15)
    assert lab.decode(mean, labels).shape == (4, 1, 8, 8)
    assert lab.sample(3).shape == (3, 1, 8, 8)
    assert lab.traverse(steps=5).shape == (15, 5, 1, 8, 8)
    assert lab.interpolate(images[0], images[1], steps=7, labels=labels[:2]).shape == (7, 1, 8, 8)
    for result in (images, mean, lab.sample(1), lab.traverse(steps=2)):
        assert result.device.type == device.type
        assert not result.requires_grad


@BOTH
def test_it_computes_what_its_module_does(lab: TrainedModel) -> None:
    images, labels = lab.examples(5)
    x, c = (
        images.flatten(1),
        torch.eye(10, device=images.device)[labels] if lab.conditional else images[:, :0, 0, 0],
    )
    with torch.no_grad():
        posterior = lab.module.posterior(x, c)
        expected = lab.module.logits(posterior.mean, c).sigmoid().reshape(5, 1, 8, 8)
    torch.testing.assert_close(lab.encode(images, labels).log_var, posterior.log_var)
    torch.testing.assert_close(lab.reconstruct(images, labels), expected)


@BOTH
def test_many_images_are_encoded_as_few_are(lab: TrainedModel) -> None:
    images, labels = lab.examples(360)
    repeated = lab.encode(images.repeat(4, 1, 1, 1), labels.repeat(4)).mean
    torch.testing.assert_close(repeated[:360], lab.encode(images, labels).mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        lab.decode(repeated, labels.repeat(4))[360:720], lab.reconstruct(images, labels)
    )


def test_samples_are_those_of_the_runs_own_pictures(cvae: TrainedModel) -> None:
    drawn = evaluation.prior_samples(cvae.module, cvae.likelihood, 20, seed=3)
    torch.testing.assert_close(cvae.sample(20, seed=3).cpu().flatten(1), drawn)
    assert torch.equal(cvae.sample(4, label=7, seed=1), cvae.sample(4, label=7, seed=1))
    assert not torch.equal(cvae.sample(4, label=7), cvae.sample(4, label=7, seed=1))


@BOTH
def test_the_most_informative_dimension_comes_first(lab: TrainedModel) -> None:
    images, labels = lab.examples(360)
    kl = kl_per_dimension(lab.encode(images, labels)).double().mean(0).cpu()
    torch.testing.assert_close(lab.kl, kl, rtol=1e-5, atol=1e-5)
    assert lab.kl[lab.order].tolist() == sorted(lab.kl.tolist(), reverse=True)
    assert sorted(lab.order.tolist()) == [*range(15)]


@BOTH
def test_a_row_of_a_traversal_moves_one_dimension(lab: TrainedModel) -> None:
    start = torch.randn(15, generator=torch.Generator().manual_seed(0))
    label = 4 if lab.conditional else None
    rows = lab.traverse(start, label=label, dimensions=[2, 9], steps=5, span=2.0)
    z = start.repeat(5, 1)
    z[:, 9] = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    torch.testing.assert_close(rows[1], lab.decode(z, label))
    first = lab.traverse(dimensions=lab.order[:1], steps=3)
    torch.testing.assert_close(lab.traverse(steps=3)[:1], first)


@BOTH
def test_an_interpolation_ends_at_the_reconstructions(lab: TrainedModel) -> None:
    images, labels = lab.examples(2)
    between = lab.interpolate(images[0], images[1], steps=5, labels=labels)
    torch.testing.assert_close(between[[0, -1]], lab.reconstruct(images, labels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [0, 1])
def test_a_way_from_one_end_to_the_other_has_two_images_at_least(cvae: TrainedModel, steps: int) -> None:
    images, labels = cvae.examples(2)
    rule = f"steps={steps}: must be a whole number from 2 to"
    with pytest.raises(UserError, match=rule):
        cvae.traverse(steps=steps)
    with pytest.raises(UserError, match=rule):
        cvae.interpolate(images[0], images[1], steps=steps, labels=labels)
    assert cvae.interpolate(images[0], images[1], steps=2, labels=labels).shape == images.shape


def test_arrays_and_lists_are_taken_as_tensors_are(cvae: TrainedModel) -> None:
    images, labels = cvae.examples(2)
    expected = cvae.encode(images, labels).mean
    for given, classes in (
        (images.cpu().numpy(), labels.cpu().numpy()),
        (images.tolist(), labels.tolist()),
        ([*images], [*labels]),
        (images.double(), labels.to(torch.uint8)),
    ):
        torch.testing.assert_close(cvae.encode(given, classes).mean, expected)
    assert cvae.decode(np.zeros((3, 15)), 2).shape == (3, 1, 8, 8)


def test_arrays_of_any_layout_and_columns_of_tables_are_taken(cvae: TrainedModel) -> None:
    images, labels = cvae.examples(3)
    mirrored, expected = images.cpu().numpy()[..., ::-1], cvae.encode(images.flip(-1), labels).mean
    column: Any = pd.Series(labels.tolist(), index=[7, 5, 3])
    fixed = mirrored.copy()
    fixed.flags.writeable = False
    arguments: list[Any] = [mirrored, [*mirrored], mirrored.astype(">f4"), fixed]
    for given in arguments:
        torch.testing.assert_close(cvae.encode(given, column).mean, expected)
    classes: list[Any] = [3, np.int64(3), torch.tensor(3)]
    first, *others = (cvae.sample(1, label=label) for label in classes)
    assert all(torch.equal(other, first) for other in others)


def test_equal_seeds_of_any_kind_draw_the_same(vae: TrainedModel) -> None:
    for number in (0, 1):
        drawn, kinds = vae.sample(2, seed=number), (np.int64, np.uint8, torch.tensor, bool)
        for kind in kinds:
            assert torch.equal(vae.sample(2, seed=kind(number)), drawn), kind  # type: ignore[arg-type]
    assert not torch.equal(vae.sample(2, seed=0), drawn)


def test_many_samples_are_decoded_in_parts(vae: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    logits = vae.module.logits

    def counted(z: Tensor, c: Tensor) -> Tensor:
        counts.append(len(z))
        return logits(z, c)

    monkeypatch.setattr(vae.module, "logits", counted)
    assert vae.sample(2500).shape == (2500, 1, 8, 8)
    assert counts == [1000, 1000, 500]


def test_a_run_on_unscaled_pixels_says_that_they_are_its_fault(vae: TrainedModel) -> None:
    config = OmegaConf.merge(vae.config, {"fault": "pixel_range"})
    lab = TrainedModel(
        vae.run,
        config,  # type: ignore[arg-type]
        vae.module,
        vae.objective,
        device=vae.device,
        load_data=lambda: data_with("pixel_range", vae.data),
    )
    images, labels = lab.examples(2)
    with pytest.raises(UserError, match=r"from 0 to 16; .* \[0, 1\]: the run has fault=pixel_range, whose"):
        lab.interpolate(*images, labels=labels)
    assert lab.sample(2).shape == images.shape


def test_examples_of_a_class_have_its_label(vae: TrainedModel) -> None:
    images, labels = vae.examples(3, label=6)
    assert labels.tolist() == [6, 6, 6]
    assert len(images) == 3


WRONG: list[tuple[str, Any, str]] = [
    (
        "cvae",
        lambda lab, x: lab.encode(x),
        "labels: a CVAE needs the class of every image. Valid:",
    ),
    ("cvae", lambda lab, x: lab.encode(x, [1, 2, 10]), "labels: 10 is no class of this model"),
    ("cvae", lambda lab, x: lab.encode(x, [1, 2]), "labels of shape (2,): must have shape (3,), or be one"),
    ("cvae", lambda lab, x: lab.encode(x, 0.5), "labels: 0.5 is no class"),
    ("cvae", lambda lab, x: lab.sample(2, label=-1), "labels: -1 is no class"),
    (
        "vae",
        lambda lab, x: lab.sample(2, label=3),
        "label=3: vae L3 Z15 s0 is a VAE, which draws no class",
    ),
    ("vae", lambda lab, x: lab.sample(0), "count=0: must be a whole number from 1"),
    ("vae", lambda lab, x: lab.encode(x * 255), "they must lie in [0, 1]: divide by 255."),
    ("vae", lambda lab, x: lab.encode(x * float("nan")), "images: pixels run from nan to nan"),
    ("vae", lambda lab, x: lab.encode(x[0]), "one image is a batch of its own: image[None]"),
    ("vae", lambda lab, x: lab.encode(x[:0]), "N >= 1"),
    (
        "vae",
        lambda lab, x: lab.encode(x[..., :5]),
        "images of shape (3, 1, 8, 5): must have shape (N,",
    ),
    ("vae", lambda lab, x: lab.encode("pixels"), "images: are no numbers of one shape"),
    ("vae", lambda lab, x: lab.decode(torch.zeros(15)), "one vector is a batch of its own: z[None]"),
    ("vae", lambda lab, x: lab.decode(torch.zeros(2, 3)), "z of shape (2, 3): must have shape (N, 15)"),
    ("vae", lambda lab, x: lab.decode(torch.full((1, 15), torch.inf)), "not finite"),
    (
        "vae",
        lambda lab, x: lab.traverse(dimensions=[15]),
        "dimensions: 15 is no latent dimension. Valid:",
    ),
    ("vae", lambda lab, x: lab.traverse(dimensions=[]), "dimensions=[]: must name at least one. Valid: 0 to"),
    ("vae", lambda lab, x: lab.traverse(dimensions=3), "dimensions=3: must be a list of latent dimensions."),
    ("vae", lambda lab, x: lab.traverse(label=3, dimensions=[0]), "is a VAE, which draws no class of choice"),
    (
        "vae",
        lambda lab, x: lab.decode(torch.zeros(2, 15), 7),
        "labels=7: vae L3 Z15 s0 is a VAE, which",
    ),
    ("cvae", lambda lab, x: lab.sample(2, label=[3]), "label=[3]: must be one class, which all images have."),
    ("vae", lambda lab, x: lab.encode(x + torch.inf), "run from inf to inf; they must lie in [0, 1]."),
    ("vae", lambda lab, x: picture(x, columns=0), "columns=0: must be a whole number from 1"),
    ("vae", lambda lab, x: picture(x, scale=0), "scale=0: must be a whole number from 1"),
    ("vae", lambda lab, x: lab.traverse(span="wide"), "span=wide: must be a finite number"),
    ("vae", lambda lab, x: lab.interpolate(x[0], x[1][..., :5]), "images: are no numbers of one shape"),
    ("vae", lambda lab, x: lab.sample(1, seed=None), "seed=None: must be a whole number."),
    ("vae", lambda lab, x: lab.sample(1, seed="a"), "seed=a: must be a whole number."),
    ("vae", lambda lab, x: lab.read(5), "picture=5: must be a file's name or a picture of Pillow's."),
    ("vae", lambda lab, x: lab.explore(5), "5: must be a model that vae_lab.load has returned."),
    ("vae", lambda lab, x: lab.explore(height="tall"), "height=tall: must be a whole number from 1"),
    ("vae", lambda lab, x: lab.examples(2, label=11), "label=11: no held-out image has it. Valid: 0, 1, 2"),
]


@pytest.mark.parametrize(("kind", "asked", "message"), WRONG, ids=[message[:30] for *_, message in WRONG])
def test_what_does_not_fit_is_one_line(lab: TrainedModel, kind: str, asked: Any, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        asked(lab, lab.examples(3)[0])
    assert len(str(raised.value).splitlines()) == 1


def test_a_notebook_shows_its_figures_and_samples(cvae: TrainedModel) -> None:
    shown = cvae._repr_html_()
    assert "<b>cvae L3 Z15 s0</b>" in shown
    assert f"held-out loss {cvae.metrics['test/loss']:.2f} nats/image" in shown
    assert 'src="data:image/png;base64,iVBOR' in shown
    assert repr(cvae).startswith("TrainedModel('cvae L3 Z15 s0', held-out loss ")


def test_it_is_used_where_its_data_are_not(
    uri: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_lab.trained import loading

    def absent(*_: object) -> None:
        raise LabError("no data here")

    monkeypatch.setattr(loading, "data_of", absent)
    lab = vae_lab.load("reference:cvae L3 Z15 s0", uri=uri, device=str(device))
    assert lab.sample(10).shape == (10, 1, 8, 8)
    with pytest.raises(LabError, match="no data here"):
        lab.traverse()


def test_a_device_that_is_not_there_is_named(uri: str) -> None:
    with pytest.raises(UserError, match=r"device=tpu: this machine has no such device\. Valid here: auto"):
        vae_lab.load("reference:best", uri=uri, device="tpu")
