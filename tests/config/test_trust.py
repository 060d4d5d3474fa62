import pytest
import yaml

from vae_lab.config.trust import OWN, check_trusted
from vae_lab.errors import UserError
from vae_lab.files import CONF


def test_the_labs_own_names_are_those_of_its_configs_and_of_a_model_with_a_fault() -> None:
    files = [file for group in ("model", "data", "objective") for file in (CONF / group).glob("*.yaml")]
    named = {yaml.safe_load(file.read_text()).get("_target_") for file in files} - {None}
    assert named | {"vae_lab.faults.FaultyVAE"} == OWN


@pytest.mark.parametrize("name", ["os.system", "vae_lab.models", "vae_lab.models.VAE.mro", "", None, 3])
def test_any_other_name_is_refused(name: object) -> None:
    with pytest.raises(UserError, match="which is not the lab's own"):
        check_trusted(name, ["my.Model"], "here")
    assert check_trusted("my.Model", ["my.Model"], "here") == "my.Model"
