import weakref

import numpy as np

from codec_contract.pixels import quantize
from edge_encoder.integer_network import INPUT, IntegerNetwork
from export.encoder.graph import Add, Concat, Conv, EncoderGraph, Floor, Multiply, Node, exact_graph, rounding_nodes
from export.encoder.torch_graph import torch_encoder


def test_sizes_and_costs_are_those_of_the_integer_network(network: IntegerNetwork) -> None:
    graph = exact_graph(network)
    assert graph.parameters() == sum(layer.weight.size + layer.bias.size for layer in network.layers)
    shapes = graph.shapes()
    assert graph.flops() == sum(2 * layer.weight.size * np.prod(shapes[layer.name][1:]) for layer in network.layers)
    assert {name: shapes[name] for name in network.sizes()} == network.sizes()


def test_rounding_nodes_are_the_quantization_of_the_contract() -> None:
    weight = np.eye(3, dtype=np.float32)[:, :, None, None] * np.float32(2.4 / 255)
    identity = Conv("conv", "image", weight, np.full(3, -1.2, np.float32))
    graph = EncoderGraph("ramp", 16, 16, (identity, *rounding_nodes("conv", 127.5, 127.5)), exact=False)
    rgb = np.arange(16 * 16 * 3).reshape(1, 16, 16, 3) % 256
    expected = quantize(rgb.astype(np.float32) * np.float32(2.4 / 255) - np.float32(1.2))
    assert np.array_equal(torch_encoder(graph, onednn=True)(rgb.astype(np.uint8)), expected)
    assert {0, 255} < set(np.unique(expected))  # the excess was clipped, the rest was not


def test_a_run_computes_every_node_once_and_lets_tensors_go() -> None:
    class Value:
        def __init__(self, text: str) -> None:
            self.text = text

    alive = weakref.WeakSet[Value]()
    most = 0

    def compute(node: Node, inputs: list[Value]) -> Value:
        nonlocal most
        most = max(most, len(alive))
        made = Value(f"{node.name}({','.join(value.text for value in inputs)})")
        alive.add(made)
        return made

    a, b, c, d = Floor("a", INPUT), Floor("b", "a"), Add("c", "b", "a"), Multiply("d", "c", "c")
    chain = [Floor(f"f{index}", f"f{index - 1}" if index else "e") for index in range(20)]
    nodes = (a, b, c, d, Concat("e", ("d", "d")), *chain)
    found = EncoderGraph("g", 4, 4, nodes, exact=False).run(Value("x"), compute).text
    assert found.startswith("f19(f18(") and "e(d(c(b(a(x)),a(x)),c(b(a(x)),a(x))),d(" in found
    assert most <= 3  # a, b and what is made of them; of the chain one
