"""Shell completion of what follows `train`: config groups, their options and keys, asked of Hydra."""

from __future__ import annotations

from collections.abc import Iterable

from click import Context, Parameter
from click.shell_completion import CompletionItem


def complete_overrides(context: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Completions of the word being typed after `vae-lab train`.

    Bash takes `model=cv` apart at the equals sign and replaces only what follows it; other shells hand over
    and replace the whole word.
    """
    words = joined(context.params.get(str(parameter.name)) or ())
    typed = ""
    if words and words[-1].endswith("="):
        typed = words.pop()
    elif not incomplete and words and "=" not in words[-1] and not words[-1].startswith("-"):
        typed = f"{words.pop()}="
    try:
        found = _query(words, typed + incomplete)
    except (
        Exception
    ):  # an earlier word is wrong: there is nothing to go by, and a shell is no place to say so
        return []
    return [CompletionItem(each.removeprefix(typed)) for each in found if each.startswith(typed)]


def joined(pieces: Iterable[str]) -> list[str]:
    """The words of a line that bash took apart: `model`, `=`, `vae` is `model=vae` again."""
    words: list[str] = []
    open_value = False
    for piece in pieces:
        if words and (piece == "=" or open_value):
            words[-1] += piece
        else:
            words.append(piece)
        open_value = piece == "="
    return words


def _query(words: list[str], word: str) -> list[str]:
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_automatic_config_search_path
    from hydra.core.global_hydra import GlobalHydra
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    from vae_lab.files import CONF

    path = create_automatic_config_search_path(None, None, str(CONF))
    assert isinstance(path, ConfigSearchPathImpl)
    try:
        loader = Hydra.create_main_hydra2(task_name="vae-lab", config_search_path=path).config_loader
        return DefaultCompletionPlugin(loader)._query(config_name="config", line=" ".join([*words, word]))
    finally:
        GlobalHydra.instance().clear()
