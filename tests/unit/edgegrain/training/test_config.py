"""Recipes from JSON: nested parts of the right class, fields with earlier names."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from edgegrain.training.adversarial import AdversarialConfig
from edgegrain.training.config import config_from_dict
from edgegrain.training.discriminator import DiscriminatorConfig
from edgegrain.training.recipes import RECIPES
from server_decoder.stylegan2.synthesis import CONFIG_F_256

OLD = {"random_pictures": "made_up", "random_teacher": "made_up", "evaluated": "judged", "discriminator": "judge",
       "discriminator_alone": "judge_alone", "loss": "losses", "clip_gradient": "clip"}


def renamed(values: Any, inside: bool = False) -> Any:
    """The values with earlier names, which the fields of an adversarial loss never had."""
    if not isinstance(values, dict):
        return values
    return {name if inside else OLD.get(name, name): renamed(value, name == "adversarial")
            for name, value in values.items()}


@pytest.mark.parametrize("name", ["smoke-stage1", "smoke-irn-plus", "smoke-enlarge", "smoke-gcfsr", "smoke-prior",
                                  "smoke-mobile", "stage3-1024-lr16-paper", "gcfsr-512-blind"])
def test_recipes_with_earlier_names_are_read(name: str) -> None:
    old = json.loads(json.dumps(renamed(RECIPES[name].as_dict())))
    assert set(OLD.values()) & old.keys()
    assert config_from_dict(type(RECIPES[name]), old) == RECIPES[name]


@pytest.mark.parametrize("discriminator", [DiscriminatorConfig(64), CONFIG_F_256])
def test_the_class_that_has_the_fields_is_taken(discriminator: Any) -> None:
    config = AdversarialConfig(discriminator=discriminator)
    values = {"weight": 0.01, "discriminator": vars(discriminator)}
    assert config_from_dict(AdversarialConfig, values) == config
    with pytest.raises(KeyError, match="no configuration has the fields size, other"):
        config_from_dict(AdversarialConfig, {"discriminator": {"size": 64, "other": 1}})
    with pytest.raises(KeyError):
        config_from_dict(AdversarialConfig, {"unknown": 1})
    with pytest.raises(ValueError, match="learning_rate is at least 0, got nan"):
        config_from_dict(type(RECIPES["smoke-irn"]), {"learning_rate": math.nan})
