"""Everything that the doctor can find, by name: what to do about it, and where people met it in public."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A kind of finding."""

    remedy: str  # whole sentences
    threads: tuple[str, ...] = ()  # repository#number


CATALOGUE = {
    # The loss
    "kl_mean": Entry(
        "Sum the KL over latent dimensions and average it over images, as the reconstruction is.",
        ("pytorch/examples#290", "keras-team/keras-io#270"),
    ),
    "kl_sign": Entry(
        "The KL is the sum of (mean² + exp(log_var) - 1 - log_var) / 2: its log-variance has a minus.",
        ("FluxML/model-zoo#147",),
    ),
    "kl_sigma": Entry(
        "The KL is the sum of (mean² + σ² - 1 - log σ²) / 2, where σ² = exp(log_var) is the variance.",
        ("FluxML/model-zoo#73", "deepchem/deepchem#4888"),
    ),
    "kl_formula": Entry(
        "Compare the KL term with the sum of (mean² + exp(log_var) - 1 - log_var) / 2; another prior than "
        "N(0, 1), or a penalty, is meant to differ."
    ),
    "kl_weight": Entry(
        "Minimize reconstruction + beta KL, both in nats: with a small weight, the prior draws no images.",
        ("openai/vdvae#10",),
    ),
    "far_from_prior": Entry(
        "Look at the KL's weight: where it is small, posteriors lie where the prior hardly draws.",
        ("openai/vdvae#10",),
    ),
    "reconstruction_mean": Entry(
        "Sum the reconstruction over pixels: as a mean it is outweighed by the KL, and z is given up.",
        ("y0ast/VAE-Torch#11",),
    ),
    "batch_size": Entry(
        "Reduce both terms alike: sum over pixels and latent dimensions, then average over the minibatch.",
        ("SeldonIO/alibi-detect#90",),
    ),
    "batch_sum": Entry(
        "Nothing, with Adam; divide by the number of images before figures are compared.",
        ("y0ast/VAE-Torch#7",),
    ),
    "loss_scale": Entry("Nothing; divide by the factor before figures are compared."),
    # The noise and the posterior
    "std_variance": Entry(
        "Scale the noise by exp(log_var / 2): exp(log_var) is the variance.",
        ("rachtsingh/ibp_vae#3",),
    ),
    "noise_scaled": Entry(
        "Draw the noise from N(0, 1): with another scale the loss is no bound on log p(x).",
        ("keras-team/keras#4211",),
    ),
    "noise_once": Entry(
        "Draw noise anew for every image at every step, within forward.",
        ("ericjang/draw#2",),
    ),
    "sigma_stuck": Entry(
        "Let the layer of the log-variance be linear, without softplus or ReLU.",
        ("RasmussenLab/vamb#182",),
    ),
    "log_variance_unbounded": Entry(
        "Clamp the log-variance, to -30 to 20, say, or lower the learning rate; scale pixels to [0, 1].",
        ("vanderschaarlab/synthcity#331",),
    ),
    "collapse": Entry(
        "Train longer, warm the KL up (objective.warmup_epochs), or take fewer latent dimensions.",
        ("jxhe/vae-lagging-encoder#5", "CompVis/vunet#5"),
    ),
    # The decoder and the pixels
    "ignores_z": Entry(
        "Look for what cuts z off the decoder: its input, a path around it, or a KL that outweighs the rest.",
        ("jxhe/vae-lagging-encoder#5", "CompVis/vunet#5"),
    ),
    "z_hardly_used": Entry(
        "Train longer, warm the KL up (objective.warmup_epochs), or lower its weight: z says little yet.",
        ("jxhe/vae-lagging-encoder#5", "CompVis/vunet#5"),
    ),
    "condition_ignored": Entry(
        "Give the decoder the label, as one-hot beside z, in training and when sampling.",
        ("AutoResearch/EEG-GAN#95",),
    ),
    "pixel_range": Entry(
        "Scale pixels to [0, 1] and end the decoder in a sigmoid, or both to [-1, 1] and a tanh.",
        ("AntixK/PyTorch-VAE#108",),
    ),
    "sigmoid_missing": Entry(
        "Apply a sigmoid to logits before they are shown or compared with pixels.",
        ("FluxML/model-zoo#289",),
    ),
    "sigmoid_twice": Entry(
        "Give a loss that takes logits the logits: binary_cross_entropy_with_logits applies its own sigmoid.",
        ("FluxML/model-zoo#289",),
    ),
    "grey_binarized": Entry(
        "Train and evaluate on pixels of one kind, grey or binarized; their losses are no one quantity.",
        ("y0ast/VAE-Torch#17",),
    ),
    "grey_pixels": Entry(
        "Compare with losses of grey pixels only; for log p(x) train on data.binarize=dynamic.",
        ("y0ast/VAE-Torch#17", "pytorch/examples#460"),
    ),
    # Training
    "modes_differ": Entry(
        "Look at batch norm (its momentum, batches too small) and dropout; call eval() to evaluate.",
        ("taldatech/soft-intro-vae-pytorch#13",),
    ),
    "rate_too_high": Entry(
        "Lower the learning rate, to a third each time, until the first steps lower the loss.",
        ("clementchadebec/benchmark_VAE#102",),
    ),
    "diverged": Entry(
        "Lower the learning rate; look for a logarithm of 0, an unbounded exponential, pixels beyond 1.",
        ("vanderschaarlab/synthcity#331", "clementchadebec/benchmark_VAE#102"),
    ),
    "record_differs": Entry(
        "The record is of another loss or another model: evaluate this model anew before it is compared."
    ),
}
