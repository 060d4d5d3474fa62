"""What a notebook shows of a trained model."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

from vae_lab.errors import visible
from vae_lab.metrics import metric_named
from vae_lab.trained.pictures import picture

if TYPE_CHECKING:
    from vae_lab.trained.model import TrainedModel

ROWS, COLUMNS = 2, 10
FIGURES = ("test/loss", "test/reconstruction", "test/kl", "test/active_units")


def model_html(lab: TrainedModel) -> str:
    """Returns a model's name, figures and a few of its samples as HTML; of up to 20 classes, one a column."""
    columns = min(len(lab.classes), 2 * COLUMNS) if lab.conditional else COLUMNS
    samples = lab.sample(ROWS * columns)
    written = io.BytesIO()
    picture(samples, columns).save(written, format="PNG")
    source = base64.b64encode(written.getvalue()).decode()
    chosen = f"{lab.chosen}; " if lab.chosen else ""
    words = [f"<b>{_text(lab.run.name)}</b>, {_text(chosen)}run <code>{_text(lab.run.run_id)}</code>"]
    if figures := ", ".join(_figure(lab, key) for key in FIGURES if key in lab.metrics):
        words.append(figures)
    alt = f"{len(samples)} images that {lab.run.name} decodes from draws of the prior"
    image = f'<img alt="{_text(alt)}" src="data:image/png;base64,{source}">'
    return f"<div>{'<br>'.join([*words, image])}</div>"


def _figure(lab: TrainedModel, key: str) -> str:
    metric = metric_named(key)
    of = f"of {lab.latent_size}" if metric.unit == "of Z" else metric.unit
    return _text(f"{metric.heading} {lab.metrics[key]:.{metric.digits}f} {of}")


def _text(text: str) -> str:
    return html.escape(visible(text))
