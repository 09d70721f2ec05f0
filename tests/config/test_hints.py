"""Suggestions for settings that do not exist."""

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from support.catalogue import composed
from vdm.config.hints import suggestion


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["time=continuous", "model.time.timesteps=100"], "it is a setting of time=discrete"),
        (["schedule=linear", "model.schedule.beta_0=1"], "it is a setting of schedule=ddpm"),
        (["network=unet", "model.denoiser.network.hidden=1"], "it is a setting of network=mlp"),
        (["model=vdm", "model.warmup.steps=5"], "it is a setting of kl_warmup=linear"),
    ],
)
def test_a_setting_of_another_choice_names_that_choice(words, reason):
    with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        composed(*words)
    assert reason in str(caught.value) + suggestion("train", str(caught.value))
