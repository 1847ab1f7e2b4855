#!/usr/bin/python3
"""The manual pages, from what the program itself says, so that they can't differ from it. Usage:

    manual.py commands PROGRAM > smtpfence.8          every command's --help
    manual.py configuration FILE > smtpfence.toml.5   the configuration's own comments
"""
import re
import subprocess
import sys

EXIT_CODES = (("0", "done"), ("1", "failed: database, kernel, disk"),
              ("2", "usage: unknown command or option, impossible combination"), ("3", "not found"),
              ("4", "conflict: contradicts what holds; the message says how to go on"), ("5", "permission denied"),
              ("6", "committed, but not enforced in time"), ("7", "a value that does not parse; nothing was written"),
              ("10", "`plan` found changes"))
FILES = (("/etc/smtpfence/config.toml", "the configuration, see smtpfence.toml(5)"),
         ("/var/lib/smtpfence", "the last good fence, and by default the database"))


class Help:
    """One command's --help, in parts."""

    def __init__(self, program, words):
        text = subprocess.run([program, *words, "--help"], capture_output=True, text=True, check=True).stdout
        self.words = words
        about, _, rest = text.partition("\nUsage: ")
        self.about = about.strip()
        self.usage = rest.split("\n", 1)[0].strip()
        self.parts, title = {}, None
        for line in rest.split("\n")[1:]:
            if line and not line.startswith(" "):
                title = line.rstrip(":")
                self.parts[title] = []
            elif line.strip() and title:
                self.parts[title].append(line)

    def entries(self, title):
        """(term, what it means): a term begins at column 2, its meaning further right or on the next line."""
        result = []
        for line in self.parts.get(title, []):
            found = re.match(r"  (\S.*?)(?:  +(\S.*))?$", line)
            if found:
                result.append([found[1], found[2] or ""])
            else:
                result[-1][1] = f"{result[-1][1]} {line.strip()}".strip()
        return [entry for entry in result if not entry[0].startswith("-h,")]

    def examples(self):
        return [line.strip() for line in self.parts.get("Examples", [])]


def all_commands(program, words=()):
    """Every command below these words, in the order in which the program lists them."""
    this = Help(program, list(words))
    if "Subcommands" not in this.parts:
        return [this]
    return [one for name, _ in this.entries("Subcommands") for one in all_commands(program, [*words, name])]


def roff(text):
    """As it is, for troff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace('"', "\\(dq")
    return "\\&" + text if text.startswith((".", "\\(aq")) else text


def tagged(term, meaning):
    return f".TP\n.B {roff(term)}\n{roff(meaning)}\n" if meaning else f".TP\n.B {roff(term)}\n"


def example(lines):
    return ".PP\n.EX\n" + "".join(roff("    " + line) + "\n" for line in lines) + ".EE\n"


def heading(name, section, about):
    return f".TH {name.upper()} {section} \"\" smtpfence smtpfence\n.SH NAME\n{roff(name)} \\- {roff(about)}\n"


def commands(program):
    top = Help(program, [])
    page = heading("smtpfence", 8, "keeps consumers off port 25, except for those who opted out")
    page += ".SH SYNOPSIS\n.B smtpfence\n[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]\n"
    page += ".SH DESCRIPTION\n" + roff(
        "smtpfence runs on an ISP's border routers. It reads the subscriber database and keeps the table inet smtpfence in "
        "the kernel, which stops traffic of fenced lines to and from tcp/25 unless the other end is a relay, except for "
        "customers who are exempt. What it keeps in the kernel outlives it.") + "\n"
    page += ".SH OPTIONS\nThey stand before or behind the command.\n"
    page += "".join(tagged(*entry) for entry in top.entries("Options"))
    page += ".SH COMMANDS\n"
    for one in all_commands(program):
        page += f".SS {roff(one.usage.removeprefix('smtpfence '))}\n{roff(one.about)}\n"
        for title in ("Positionals", "Options"):
            page += "".join(tagged(*entry) for entry in one.entries(title))
        page += example(one.examples())
    page += ".SH EXIT STATUS\n" + "".join(tagged(*entry) for entry in EXIT_CODES)
    page += ".SH FILES\n" + "".join(tagged(*entry) for entry in FILES)
    page += ".SH SEE ALSO\n.BR smtpfence.toml (5),\n.BR nft (8)\n"
    return page


def configuration(path):
    """Each key with the comment above it. A key that is commented out shows its default."""
    page = heading("smtpfence.toml", 5, "configuration of smtpfence")
    with open(path, encoding="utf-8") as file:
        blocks = [block.splitlines() for block in file.read().strip().split("\n\n")]
    page += ".SH DESCRIPTION\n" + roff(" ".join(line.removeprefix("# ") for line in blocks[0])) + "\n"
    for block in blocks[1:]:
        if block[0].startswith("["):
            page += f".SS {roff(block.pop(0))}\n"
        comment = []
        for line in block:
            setting = re.fullmatch(r"(?:# )?(\w+ = .*?)", line)
            if setting:
                page += tagged(setting[1], " ".join(comment) or None)
                comment = []
            else:
                comment.append(line.removeprefix("# "))
        if comment:
            raise SystemExit(f"manual.py: {path}: a comment without a key: {comment}")
    return page + ".SH SEE ALSO\n.BR smtpfence (8)\n"


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("commands", "configuration"):
        raise SystemExit(__doc__)
    sys.stdout.write(commands(sys.argv[2]) if sys.argv[1] == "commands" else configuration(sys.argv[2]))


if __name__ == "__main__":
    main()
