"""Small checkpoints in the layouts of the authors' public code: its names and shapes, random values, fewer channels.

Nothing here knows our networks. What the authors' code computes with them: `tests/parity/test_official_networks.py`.
"""

import re

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
FILTER = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
CODE = 64  # width of a code in all of them

GRAIN_CHANNELS = {4: 16, 8: 16, 16: 16, 32: 16, 64: 8}
GRAIN_WIDTH, GRAIN_GROWTH = 8, 4
GRAIN_TRUNKS = {16: 1, 32: 1, 64: 1}  # the finest one of reduced blocks
GLEAN_CHANNELS = {4: 12, 8: 12, 16: 12, 32: 6}
GLEAN_LR, GLEAN_WIDTH, GLEAN_GROWTH = 8, 6, 4
GCFSR_CHANNELS = {4: 12, 8: 12, 16: 12, 32: 12, 64: 6}
IRN_BLOCKS, IRN_GROWTH = (2, 1), 6


class Builder:
    """Collects tensors by name."""

    def __init__(self, seed: int) -> None:
        self.tensors: Tensors = {}
        self.generator = torch.Generator().manual_seed(seed)

    def put(self, name: str, *shape: int, scale: float = 1.0, mean: float = 0.0) -> None:
        self.tensors[name] = mean + scale * torch.randn(shape, generator=self.generator)

    def conv(self, name: str, inputs: int, outputs: int, kernel: int = 3, *, bias: bool = True) -> None:
        self.put(f"{name}.weight", outputs, inputs, kernel, kernel, scale=(inputs * kernel**2) ** -0.5)
        if bias:
            self.put(f"{name}.bias", outputs, scale=0.1)

    def linear(self, name: str, inputs: int, outputs: int) -> None:
        self.put(f"{name}.weight", outputs, inputs, scale=inputs**-0.5)
        self.put(f"{name}.bias", outputs, scale=0.1)

    def dense_block(self, name: str, width: int, growth: int, convs: int = 5) -> None:
        for index in range(convs):
            self.conv(f"{name}.conv{index + 1}", width + index * growth, width if index == convs - 1 else growth)

    def inv_block(self, name: str, channels: int, growth: int) -> None:
        """IRN's F, G and H."""
        for part, inputs, outputs in (("F", channels - 3, 3), ("G", 3, channels - 3), ("H", 3, channels - 3)):
            for conv in range(5):
                self.conv(f"{name}.{part}.conv{conv + 1}", inputs + conv * growth, outputs if conv == 4 else growth)

    def modulated(self, name: str, inputs: int, outputs: int, kernel: int, code: int) -> None:
        self.put(f"{name}.conv.weight", 1, outputs, inputs, kernel, kernel)
        self.put(f"{name}.conv.modulation.weight", inputs, code)
        self.put(f"{name}.conv.modulation.bias", inputs, scale=0.2, mean=1.0)


def stylegan2_generator(channels: dict[int, int], *, seed: int = 0, code: int = CODE, mapping: int = 2) -> Tensors:
    """Rosinality's ``Generator`` for these channels by side."""
    b, first = Builder(seed), min(channels)
    b.put("input.input", 1, channels[first], first, first)
    for index in range(mapping):
        b.put(f"style.{index + 1}.weight", code, code, scale=100.0)
        b.put(f"style.{index + 1}.bias", code, scale=20.0)

    def styled(name: str, index: int, inputs: int, side: int) -> None:
        b.modulated(name, inputs, channels[side], 3, code)
        b.put(f"{name}.noise.weight", 1, scale=0.1)
        b.put(f"{name}.activate.bias", channels[side], scale=0.1)
        b.put(f"noises.noise_{index}", 1, 1, side, side)

    def to_rgb(name: str, inputs: int) -> None:
        b.modulated(name, inputs, 3, 1, code)
        b.put(f"{name}.bias", 1, 3, 1, 1)

    styled("conv1", 0, channels[first], first)
    to_rgb("to_rgb1", channels[first])
    for index, side in enumerate(list(channels)[1:]):
        styled(f"convs.{2 * index}", 2 * index + 1, channels[side // 2], side)
        b.tensors[f"convs.{2 * index}.conv.blur.kernel"] = 4 * FILTER
        styled(f"convs.{2 * index + 1}", 2 * index + 2, channels[side], side)
        to_rgb(f"to_rgbs.{index}", channels[side])
        b.tensors[f"to_rgbs.{index}.upsample.kernel"] = 4 * FILTER
    return b.tensors


def renamed(tensors: Tensors, changes: dict[str, str]) -> Tensors:
    """The tensors by names in which patterns were replaced, one after the other."""
    found = {}
    for name, tensor in tensors.items():
        for pattern, replacement in changes.items():
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found


# --- GRAIN: models/invRRDB.py, codeStyleGAN.py, feaFusion.py, stylegan2/model.py -------------------------------------


def grain_invertible() -> Tensors:
    """``InvRRDB``: 64 -> 16 and back."""
    b, width, growth = Builder(1), GRAIN_WIDTH, GRAIN_GROWTH
    b.conv("enc.conv_first", 3, width)
    for index in range(2):
        b.conv(f"enc.body.{index}.0", width, width)
    for dense in (1, 2, 3):
        b.dense_block(f"enc.RRDB_trunk.0.RDB{dense}", width, growth)
    b.conv("enc.trunk_conv", width, width)
    b.conv("enc.out.0", width, width)
    b.conv("enc.out.2", width, 3)
    b.conv("dec.conv_first", 3, width)
    for size, count in GRAIN_TRUNKS.items():
        for index in range(count):
            reduced = size == max(GRAIN_TRUNKS)
            for dense in (1,) if reduced else (1, 2, 3):
                b.dense_block(f"dec.RRDB_trunk{size}.{index}.RDB{dense}", width, growth, convs=4 if reduced else 5)
        b.conv(f"dec.trunk_conv{size}", width, width)
    b.conv("dec.out.0", width, width)
    b.conv("dec.out.2", width, width // 2)
    b.conv("dec.out.4", width // 2, 3)
    return b.tensors


def grain_codes() -> Tensors:
    """``codeStyleGAN``: the predictor and rosinality's generator at 64."""
    b, width = Builder(2), GRAIN_WIDTH
    for style in range(len(GRAIN_CHANNELS)):
        name = f"encoder.styles.{style}"
        if style > 2:
            b.conv(f"{name}.conv_first.0", width, width)
            for index in range(style - 3):
                b.conv(f"{name}.convs.{2 * index}", width, width)
        for head in (1, 2):
            for index, (a, z) in enumerate(((1, 1), (1, 2), (2, 4), (4, 8))):
                b.conv(f"{name}.convs{head}.{2 * index}", a * width, z * width)
            b.linear(f"{name}.linear{head}", CODE, CODE)
    return b.tensors | renamed(stylegan2_generator(GRAIN_CHANNELS), {"^": "decoder."})


def grain_fusion() -> Tensors:
    """``Fusion`` of the features at 16, 32 and 64."""
    b, widths, channels = Builder(3), (12, 8, 6), list(GRAIN_CHANNELS.values())[-3:]
    for index, (width, generated) in enumerate(zip(widths, channels, strict=True), 1):
        joined = GRAIN_WIDTH + generated
        b.conv(f"se{index}.fc1", joined, joined // 16, 1, bias=False)
        b.conv(f"se{index}.fc2", joined // 16, joined, 1, bias=False)
        b.conv(f"conv{index}.0", joined, width)
        b.conv(f"conv{index}.2", width, width)
    b.conv("se4.fc1", sum(widths), sum(widths) // 16, 1, bias=False)
    b.conv("se4.fc2", sum(widths) // 16, sum(widths), 1, bias=False)
    for index, (a, z) in enumerate(((sum(widths), 10), (10, 10), (10, 6), (6, 6), (6, 3))):
        b.conv(f"out.{2 * index}", a, z)
    return b.tensors


def grain_files() -> dict[str, object]:
    """File name -> content, as the authors save them; the last one is rosinality's."""
    opts = {"exp_dir": "experiments", "learning_rate": 0.0001, "Fusion": True, "InvRRDBdis_checkpoint_path": None}
    mean = Builder(4)
    mean.put("latent_avg", CODE)
    return {
        "invRRDB_model.pt": {"state_dict": grain_invertible(), "opts": opts},
        "codeStyleGAN_model.pt": {"state_dict": grain_codes(), "opts": opts},
        "Fusion_model.pt": {"state_dict3": grain_fusion(), "opts": opts},
        "stylegan2-ffhq-config-f.pt": {"g_ema": {"input.input": torch.zeros(1, 4, 4, 4)}, **mean.tensors},
    }


# --- IRN: codes/models/modules/Inv_arch.py ---------------------------------------------------------------------------


def irn_state(blocks: tuple[int, ...] = IRN_BLOCKS) -> Tensors:
    """``InvRescaleNet``."""
    b, index, channels = Builder(5), 0, 3
    cell = torch.ones(4, 1, 2, 2)
    cell[1, 0, :, 1] = cell[2, 0, 1, :] = cell[3, 0, 0, 1] = cell[3, 0, 1, 0] = -1
    for count in blocks:
        b.tensors[f"operations.{index}.haar_weights"] = torch.cat([cell] * channels)
        channels, index = 4 * channels, index + 1
        for _ in range(count):
            b.inv_block(f"operations.{index}", channels, IRN_GROWTH)
            index += 1
    return b.tensors


def irn_x3_state() -> Tensors:
    """``InvRescaleNet`` with ``use_ConvDownsampling``: one trained transform of 3 x 3 cells and three blocks."""
    b = Builder(15)
    b.put("operations.0.conv_weights", 9, 9, scale=0.05)
    b.tensors["operations.0.conv_weights"] += torch.eye(9)
    b.tensors["operations.0.conv_weights"][0] = 1 / 9
    for index in (1, 2, 3):
        b.inv_block(f"operations.{index}", 27, IRN_GROWTH)
    return b.tensors


# --- GLEAN: mmagic/models/editors/glean/glean_styleganv2.py ----------------------------------------------------------


def glean_state() -> Tensors:
    """``GLEANStyleGANv2``: 8 -> 32."""
    b, channels, width = Builder(6), GLEAN_CHANNELS, GLEAN_WIDTH
    b.conv("encoder.0.0.conv_first", 3, width)
    for dense in (1, 2, 3):
        b.dense_block(f"encoder.0.0.body.0.rdb{dense}", width, GLEAN_GROWTH)
    b.conv("encoder.0.0.conv_body", width, width)
    b.conv("encoder.0.1", width, channels[GLEAN_LR])
    b.conv("encoder.1.0", channels[8], channels[4])
    b.conv("encoder.1.2", channels[4], channels[4])
    b.conv("encoder.2.0", channels[4], channels[4])
    b.linear("encoder.2.3", 16 * channels[4], 8 * CODE)
    for index, side in enumerate((4, 8)):
        b.conv(f"fusion_out.{index}", 2 * channels[side], channels[side])
        b.conv(f"fusion_skip.{index}", channels[side] + 3, 3)
    b.conv("decoder.0.upsample_conv", channels[8], 4 * channels[16])
    b.conv("decoder.1.upsample_conv", 2 * channels[16], 4 * channels[32])
    b.conv("decoder.2.0", 2 * channels[32], 10)
    b.conv("decoder.2.2", 10, 3)
    return b.tensors | renamed(
        stylegan2_generator(channels),
        {
            "^input": "constant_input",
            r"^style\.(\d+)\.weight": r"style.\1.linear.weight_orig",
            "^style": "style_mapping",
            "noises.noise_": "injected_noise_",
            r"noise\.weight": "noise_injector.weight",
            r"conv\.weight": "conv.weight_orig",
            r"modulation\.weight": "modulation.linear.weight_orig",
            r"conv\.modulation": "conv.style_modulation",
            "^": "generator.",
        },
    )


def glean_file() -> dict[str, object]:
    """As mmediting saves the whole restorer."""
    state = renamed(glean_state(), {"^": "generator."})
    state["discriminator.convs.0.conv.weight_orig"] = torch.zeros(2, 3, 1, 1)
    state["perceptual_loss.vgg.mean"] = torch.zeros(1, 3, 1, 1)
    return {"meta": {"iter": 300000, "mmedit_version": "0.8.0"}, "state_dict": state}


# --- GCFSR: basicsr/archs/gcfsr_arch.py ------------------------------------------------------------------------------


def gcfsr_state(*, blind: bool = False) -> Tensors:
    """``GCFSR`` or ``GCFSR_blind`` at 64."""
    b, channels, sides = Builder(7), GCFSR_CHANNELS, (64, 32, 16)
    last = channels[4] if blind else channels[4] // 2

    def layer(name: str, inputs: int, outputs: int, *, down: bool = False) -> None:
        b.put(f"{name}.{int(down)}.weight", outputs, inputs, 3, 3)
        b.put(f"{name}.{int(down) + 1}.bias", outputs, scale=0.1)

    layer("conv_body_first", 3, channels[64])
    layer("conv_body_down.0", channels[64], channels[32], down=True)
    layer("conv_body_down.1", channels[32], channels[16], down=True)
    layer("final_conv", channels[16], channels[16])
    layer("final_down1", channels[16], channels[8], down=True)
    layer("final_down2", channels[8], last, down=True)
    b.put("final_linear.weight", 6 * CODE, 16 * last)
    b.put("final_linear.bias", 6 * CODE, scale=0.1)
    for index, side in enumerate(sides):
        for scale in ("condition_scale1", "condition_scale2"):
            b.put(f"{scale}.{index}.weight", channels[side], 1)
            b.put(f"{scale}.{index}.bias", channels[side], scale=0.3, mean=1.0)
        b.put(f"condition_shift.{index}.0.weight", channels[side], channels[side], 3, 3)
        b.put(f"condition_shift.{index}.0.bias", channels[side], scale=0.1)
    generator = stylegan2_generator({side: channels[side] for side in sides[::-1]})
    names = [name for name in generator if name.startswith(("conv", "to_rgb")) and not name.endswith("kernel")]
    layers = {name: generator[name] for name in names}
    b.tensors |= renamed(layers, {r"\.conv\.": ".modulated_conv.", "^conv": "style_conv", r"noise\.weight": "weight"})
    for index in range(5):
        b.put(f"noises.noise{index}", 1, 1, *[2 ** ((index + 5) // 2)] * 2)
    return b.tensors


def gcfsr_file() -> dict[str, object]:
    """As BasicSR saves a network and its average."""
    state = gcfsr_state()
    return {"params": {name: torch.zeros_like(tensor) for name, tensor in state.items()}, "params_ema": state}
