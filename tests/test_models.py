import pytest
import torch

from vae_lab import devices
from vae_lab.errors import UserError
from vae_lab.models import ACTIVATIONS, VAE, Posterior, parameter_count
from vae_lab.stacks import Stack


def relative_error(x: torch.Tensor, y: torch.Tensor) -> float:
    """The report's measure."""
    return (x - y).abs().max().item() / (x.abs() + y.abs()).max().item()


def test_reparametrization_gives_the_reports_numbers() -> None:
    torch.manual_seed(0)
    noise = torch.randn(1, 15)
    z = Posterior(torch.zeros(1, 15), torch.ones(1, 15)).sample(noise)
    assert relative_error(z.mean(-1), torch.tensor(-0.4363)) == 5.639056398351415e-05
    assert relative_error(torch.std(z, dim=-1), torch.tensor(1.6860)) == 7.1412955526273885e-06


def test_base_model_has_the_layers_and_weights_of_the_report() -> None:
    model = VAE(784)
    linear = [tuple(layer.weight.shape) for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    assert linear == [
        *[(400, 784), (400, 400), (400, 400)],
        *[(15, 400), (15, 400)],
        *[(400, 15), (400, 400), (400, 400), (784, 400)],
    ]
    assert parameter_count(model) == sum(rows * columns + rows for rows, columns in linear)
    assert [type(layer).__name__ for layer in model.encoder] == ["Linear", "ReLU"] * 3


def test_cvae_takes_the_label_before_both_first_layers() -> None:
    model = VAE(784, condition_size=10)
    first_encoder, first_decoder = model.encoder[0], model.decoder[0]
    assert isinstance(first_encoder, torch.nn.Linear)
    assert isinstance(first_decoder, torch.nn.Linear)
    assert (first_encoder.in_features, first_decoder.in_features) == (794, 25)


@pytest.mark.parametrize("lead", [(), (5,), (2, 7)])
@pytest.mark.parametrize("C", [0, 3])
def test_leading_axes_pass_through(lead: tuple[int, ...], C: int, device: torch.device) -> None:
    model = VAE(16, C, latent_size=4, layers=2, hidden_size=8).to(device)
    x, c, noise = (torch.rand(*lead, size, device=device) for size in (16, C, 4))
    logits, posterior = model(x, c, noise)
    assert logits.shape == (*lead, 16)
    assert posterior.mean.shape == posterior.log_var.shape == (*lead, 4)


@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_parameter_gets_a_gradient(layers: int, activation: str, device: torch.device) -> None:
    model = VAE(16, 3, latent_size=2, layers=layers, hidden_size=32, activation=activation).to(device)
    c = torch.eye(3, device=device).repeat(8, 1)
    logits, posterior = model(torch.rand(24, 16, device=device), c, torch.randn(24, 2, device=device))
    (logits.square().sum() + posterior.log_var.sum()).backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in model.parameters())


def test_widths_narrow_towards_the_latent_vector_and_widen_again() -> None:
    model = VAE(16, layers=2, hidden_size=[12, 6], latent_size=3)
    assert [layer.out_features for layer in model.encoder if isinstance(layer, torch.nn.Linear)] == [12, 6]
    assert [layer.out_features for layer in model.decoder if isinstance(layer, torch.nn.Linear)] == [6, 12]


def test_encoder_and_decoder_can_differ_in_depth() -> None:
    model = VAE(16, encoder_layers=1, decoder_layers=4, hidden_size=8)
    assert [len(part) // 2 for part in (model.encoder, model.decoder)] == [1, 4]
    assert len(VAE(16, layers=2, decoder_layers=1).encoder) == 4


@pytest.mark.parametrize(
    ("init", "std"),
    [("default", (1 / 3 / 400) ** 0.5), ("kaiming", (2 / 400) ** 0.5), ("xavier", (2 / 800) ** 0.5)],
)
def test_first_weights_have_the_spread_of_their_scheme(init: str, std: float) -> None:
    torch.manual_seed(0)
    layer = VAE(784, init=init).encoder[2]
    assert layer.get_parameter("weight").std().item() == pytest.approx(std, rel=0.02)
    assert bool(layer.get_parameter("bias").any()) == (init == "default")


def test_orthogonal_weights_keep_lengths_up_to_the_gain() -> None:
    weight = VAE(784, init="orthogonal").encoder[2].get_parameter("weight")
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(400), atol=1e-4, rtol=0)


def test_an_unknown_init_is_named() -> None:
    with pytest.raises(UserError, match=r"init=kaming: unknown; did you mean kaiming\?"):
        VAE(16, init="kaming")


def test_the_condition_changes_what_is_decoded(device: torch.device) -> None:
    model = VAE(16, 3, latent_size=2, hidden_size=8).to(device)
    z = torch.zeros(3, 2, device=device)
    images = model.logits(z, torch.eye(3, device=device))
    assert not torch.allclose(images[0], images[1])


def test_wrong_widths_and_activations_are_named() -> None:
    with pytest.raises(UserError, match=r"hidden_size=\[4, 4\]: needs one width for each of 3 layers"):
        VAE(16, hidden_size=[4, 4])
    with pytest.raises(UserError, match=r"activation=relo: unknown; did you mean relu\?"):
        VAE(16, activation="relo")


@pytest.mark.parametrize("stacked", [False, True])
def test_what_goes_in_and_out_of_the_latent_vector_stays_in_float32(
    stacked: bool, device: torch.device
) -> None:
    torch.manual_seed(0)
    model = VAE(16, 3, latent_size=2, hidden_size=8).to(device)
    if stacked:
        model = Stack([model, VAE(16, 3, latent_size=2, hidden_size=8).to(device)]).model
    lead = (2,) if stacked else ()
    x, c, z = (torch.rand(*lead, 5, size, device=device) for size in (16, 3, 2))
    with devices.autocast("bfloat16", device):
        hidden = model.encoder(torch.cat([x, c], dim=-1))
        posterior, logits = model.posterior(x, c), model.logits(z, c)
        first = model.decoder[0](torch.cat([z, c], dim=-1))
    assert hidden.dtype == logits.dtype == torch.bfloat16
    torch.testing.assert_close(posterior.mean, model.mean(hidden.float()))
    torch.testing.assert_close(posterior.log_var, model.log_var(hidden.float()))
    torch.testing.assert_close(first, model.decoder[0](torch.cat([z, c], dim=-1)))


def test_layers_in_float32_work_in_other_formats_and_without_values() -> None:
    exact = VAE(16, latent_size=2, hidden_size=8).double()
    x, z = torch.rand(5, 16).double(), torch.rand(5, 2).double()
    with devices.autocast("bfloat16", torch.device("cpu")):
        assert exact.mean(torch.rand(5, 8)).dtype == torch.float64
    model = VAE(16, latent_size=2, hidden_size=8).to("meta")
    logits, _ = model(x.float().to("meta"), x[:, :0].to("meta"), z.float().to("meta"))
    assert logits.shape == (5, 16)
