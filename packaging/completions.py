#!/usr/bin/python3
"""Completions of commands, options and fixed values, from what the program itself says (program_help.py), so that they can't
differ from it. What only the database knows, customers and prefixes, is not completed. Usage:

    completions.py bash|zsh|fish PROGRAM
"""
import re
import sys

from program_help import all_commands

BASH = """\
# Completion of smtpfence for bash, from its --help.
_smtpfence() {
    local at='' option='' word choices='' commands='' options='@GLOBAL@' current=${COMP_WORDS[COMP_CWORD]}
    # bash makes three words of --name=value.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [ "$word" = -- ]; then return; fi
        if [ "$word" = = ]; then continue; fi
        if [ -n "$option" ]; then option=''; continue; fi
        case "$at $word" in
            @TAKES_VALUE@) option=$word ;;
            @COMMANDS@) at="$at $word" ;;
        esac
    done
    if [ "$current" = = ]; then current=''; fi
    case "$at$option" in
@VALUES@
        *--*) ;;
@WORDS@
    esac
    if [[ $choices = FILE && $current != -* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
    fi
    if [ -z "$option" ]; then
        choices=$commands
        if [[ -z $commands || $current = -* ]]; then choices=$options; fi
    fi
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
}
complete -F _smtpfence smtpfence
"""

ZSH = """\
#compdef smtpfence
# Completion of smtpfence for zsh, from its --help.
local at='' option='' word rest='*: : '
local -a commands options=(
@GLOBAL@
)
for word in "${(@)words[2,CURRENT-1]}"; do
    if [[ -n $option ]]; then option=''; continue; fi
    case "$at $word" in
        (@TAKES_VALUE@) option=$word ;;
        (@COMMANDS@) at="$at $word" ;;
    esac
done
case $at in
@WORDS@
esac
if (( $#commands )); then rest='*: :{_describe command commands}'; fi
_arguments : $options $rest
"""

FISH = """\
# Completion of smtpfence for fish, from its --help.
function __smtpfence_at --description 'whether these are the words of the command so far'
    set -l at ''
    set -l option ''
    set -l words (commandline -opc)
    set -e words[1]
    for word in $words
        if test -n "$option"
            set option ''
            continue
        end
        switch "$at $word"
            case @TAKES_VALUE@
                set option $word
            case @COMMANDS@
                set at "$at $word"
        end
    end
    test "$at" = "$(string join '' ' '$argv)"
end
complete -c smtpfence -f
"""


def quoted(text):
    """For sh and zsh; fish knows no '...'\\''...'."""
    return "'" + text.replace("'", "'\\''") + "'"


def fish_quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def filled(template, parts):
    return re.sub(r"@(\w+)@", lambda found: parts[found[1]], template)


def at(words):
    """A command's place, as the scripts keep it."""
    return "".join(" " + word for word in words)


def takes_file(command):
    return any(term.startswith("FILE ") for term, _ in command.entries("Positionals"))


def words_that_matter(tree, separator, everywhere="*'{}'"):
    """Options whose next word is their value, and commands: as patterns of what stands before and the word."""
    options = [everywhere.format(" " + one.name) for one in tree[0].options() if one.takes_word]
    options += [quoted(f"{at(command.words)} {one.name}") for command in tree[1:] for one in command.options() if one.takes_word]
    return {"TAKES_VALUE": separator.join(options), "COMMANDS": separator.join(quoted(at(one.words)) for one in tree[1:])}


def bash(tree):
    values, words = [], []
    for command in tree:
        place = "*" if command is tree[0] else quoted(at(command.words))
        for one in command.options():
            choices = "FILE" if one.value == "FILE" else " ".join(one.choices)
            if choices:
                values.append(f"        {place}{one.name}) choices={quoted(choices)} ;;")
        commands = " ".join(name for name, _ in command.entries("Subcommands"))
        options = " ".join(one.name for one in command.options()) if command is not tree[0] else ""
        words.append(f"        {quoted(at(command.words))}) commands={quoted(commands)} options+={quoted(' ' + options)}"
                     f"{' choices=FILE' if takes_file(command) else ''} ;;")
    everywhere = " ".join(["--help"] + [one.name for one in tree[0].options()])
    return filled(BASH, {**words_that_matter(tree, " | "), "GLOBAL": everywhere, "VALUES": "\n".join(values),
                         "WORDS": "\n".join(words)})


def zsh_option(one):
    about = re.sub(r"([][:\\])", r"\\\1", one.about)
    if not one.value:
        return quoted(f"{one.name}[{about}]")
    action = "_files" if one.value == "FILE" else f"({' '.join(one.choices)})" if one.choices else " "
    if not one.takes_word:
        return quoted(f"{one.name}=-[{about}]::{one.value.strip('[=]')}:{action}")
    return quoted(f"{one.name}=[{about}]:{'value' if one.choices else one.value}:{action}")


def zsh(tree):
    words = []
    for command in tree:
        parts = [quoted(f"{name}:{about}") for name, about in command.entries("Subcommands")]
        line = f"commands=({' '.join(parts)}) " if parts else ""
        if command is not tree[0] and command.options():
            line += "options+=(" + " ".join(zsh_option(one) for one in command.options()) + ") "
        line += "rest='*:FILE:_files' " if takes_file(command) else ""
        words.append(f"    ({quoted(at(command.words))}) {line};;")
    everywhere = ["'--help[what it does, with examples]'"] + [zsh_option(one) for one in tree[0].options()]
    return filled(ZSH, {**words_that_matter(tree, "|"), "GLOBAL": "\n".join("    " + one for one in everywhere),
                        "WORDS": "\n".join(words)})


def fish(tree):
    text = filled(FISH, words_that_matter(tree, " ", "'*{}'"))
    text += "complete -c smtpfence -l help -d 'what it does, with examples'\n"
    for command in tree:
        here = f" -n '__smtpfence_at{at(command.words)}'"
        for one in command.options():
            value = " -r -F" if one.value == "FILE" else " -x" if one.takes_word else ""
            choices = f" -a '{' '.join(one.choices)}'" if one.choices else ""
            text += (f"complete -c smtpfence{'' if command is tree[0] else here} -l {one.name.removeprefix('--')}"
                     f"{value}{choices} -d {fish_quoted(one.about)}\n")
        for name, about in command.entries("Subcommands"):
            text += f"complete -c smtpfence{here} -a {name} -d {fish_quoted(about)}\n"
        if takes_file(command):
            text += f"complete -c smtpfence{here} -F\n"
    return text


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("bash", "zsh", "fish"):
        raise SystemExit(__doc__)
    sys.stdout.write({"bash": bash, "zsh": zsh, "fish": fish}[sys.argv[1]](all_commands(sys.argv[2])))


if __name__ == "__main__":
    main()
