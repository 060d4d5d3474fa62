"""Lets Hydra find sweeps/ and experiments/ from any folder, and nothing else that lies beside them."""

from __future__ import annotations

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.plugins.search_path_plugin import SearchPathPlugin

from vae_lab.files import CONF, CONFIG_ROOT

GROUPS = ("sweeps", "experiments")

for _group in GROUPS:  # an option that says nothing, for lines such as `experiments=reference sweeps=null`
    ConfigStore.instance().store(group=_group, name="none", node={}, package="_global_", provider="vae_lab")


class StudySource(FileConfigSource):
    """The folder that holds sweeps/ and experiments/, with everything else hidden.

    A plain file source would show the repository's other folders as config groups.
    """

    @staticmethod
    def scheme() -> str:
        """`vae-lab://FOLDER`."""
        return "vae-lab"

    def available(self) -> bool:
        """Whether a group is there."""
        return any(super(StudySource, self).is_group(group) for group in GROUPS)

    def is_group(self, config_path: str) -> bool:
        """Whether a shown folder has that path."""
        return _shown(config_path) and super().is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        """Whether a shown YAML file has that path."""
        return _shown(config_path) and super().is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """What lies in a folder."""
        if config_path:
            return super().list(config_path, results_filter)
        return sorted(GROUPS) if results_filter != ObjectType.CONFIG else []


def _shown(config_path: str) -> bool:
    return config_path.partition("/")[0] in GROUPS


class StudySearchPath(SearchPathPlugin):
    """Adds that folder to the search path of whatever reads the lab's conf/, and of no other application."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra."""
        if any(str(element.path).removeprefix("file://") == str(CONF) for element in search_path.get_path()):
            search_path.append(provider="vae_lab", path=f"{StudySource.scheme()}://{CONFIG_ROOT}")
