"""The float form of the coder's networks."""

import pytest

torch = pytest.importorskip("torch")

from edgegrain.training.grain.coder_network import FIRST_OCTAVE, FloatNetwork, code_length  # noqa: E402


@pytest.mark.parametrize(("exponent", "error", "returns"), [
    (17.0, 0.0, True),  # far too wide for a mean that is right
    (17.0, 250.0, False),  # a wider one would be better still: nothing to come back for
    (FIRST_OCTAVE - 4.0, 40.0, True),  # far too narrow for a mean that is wrong
    (FIRST_OCTAVE - 4.0, 0.0, False),
])
def test_a_scale_beyond_its_limits_comes_back(exponent: float, error: float, returns: bool) -> None:
    prediction = torch.tensor([[0.0, exponent]], requires_grad=True)
    code_length(prediction, torch.tensor([2.0]), torch.tensor([2.0 + error])).sum().backward()
    assert prediction.grad is not None
    slope = prediction.grad[0, 1].item()
    outward = 1 if exponent > 0 else -1
    assert slope * outward > 0 if returns else slope == 0


def test_without_skip_the_context_reaches_the_output_through_hidden_units_only() -> None:
    torch.manual_seed(0)
    network = FloatNetwork(5, (4,), skip=False)
    context = torch.randn(64, 5) * 20
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2, weight_decay=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        network(context).square().sum().backward()
        optimizer.step()
    network.calibrate(context)
    integers = network.integers().output
    assert not integers.weight[:, :5].any() and integers.weight[:, 5:].any()
    with torch.no_grad():
        network.get_parameter("layers.0.weight").zero_()
        network.get_parameter("layers.0.bias").zero_()
        assert torch.equal(network(context), network.bias(1).expand(64, 2))
