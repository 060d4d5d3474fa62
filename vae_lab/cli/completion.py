"""`vae-lab completion`: a shell's completion script; and what follows `train`, completed as Hydra would."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from vae_lab.cli.terminal.messages import echo

SHELLS = ("bash", "zsh", "fish")
# Click's own script has bash take names apart at spaces, unfold their asterisks, and insert them as they
# are, where the next return runs what they hold; the other shells quote what they insert themselves.
BASH = """\
%(complete_func)s() {
    local completion quoted IFS=$'\\n'
    while IFS= read -r completion; do
        case $completion in
            dir,*) compopt -o dirnames ;;
            file,*) compopt -o default ;;
            plain,*) printf -v quoted %%q "${completion#plain,}"; COMPREPLY+=("$quoted") ;;
        esac
    done < <(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1")
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@click.command
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL, which completes groups and keys after `train` too.

    \b
    Examples:
      source <(vae-lab completion bash)          add this line to ~/.bashrc
      vae-lab completion fish > ~/.config/fish/completions/vae-lab.fish
    """
    from click.shell_completion import get_completion_class

    completion_class = get_completion_class(shell)
    assert completion_class is not None
    script = completion_class(context.find_root().command, {}, "vae-lab", "_VAE_LAB_COMPLETE")
    template = BASH if shell == "bash" else script.source_template
    echo(template % script.source_vars())


def complete_overrides(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Returns completions of the word being typed after `vae-lab train`.

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
        completions = _completions(words, typed + incomplete)
    except Exception:  # an earlier word is wrong, and a shell is no place to say so
        return []
    return [
        CompletionItem(text.removeprefix(typed))
        for text in completions
        if text.startswith(typed) and text.isprintable()  # a shell is handed a line for each
    ]


def joined(pieces: Iterable[str]) -> list[str]:
    """Returns the words of a line that bash took apart.

    >>> joined(["model", "=", "vae", "-m"])
    ['model=vae', '-m']
    """
    words: list[str] = []
    open_value = False
    for piece in pieces:
        if words and (piece == "=" or open_value):
            words[-1] += piece
        else:
            words.append(piece)
        open_value = piece == "="
    return words


def _completions(words: list[str], word: str) -> list[str]:
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    from vae_lab.cli.overrides.line import Line, config_loader

    line = Line([*words, word])
    plugin = DefaultCompletionPlugin(config_loader(line))
    return plugin._query(config_name=line.config_name, line=" ".join(line.overrides))
