"""What the program says of its commands and options: every --help, read."""
import re
import subprocess


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

    def options(self):
        return [Option(*entry) for entry in self.entries("Options")]


class Option:
    """--name VALUE; a value in capitals is free, one in small letters is one of the words that it consists of."""

    def __init__(self, term, about):
        found = re.match(r"(--[\w-]+)(?: (\[=[A-Z]+\]|[A-Z]+|[a-z]+(?:\|[a-z]+)*)(?= |$))?", term)
        self.name, self.about = found[1], about
        self.value = found[2] or ""
        self.choices = self.value.split("|") if self.value.islower() else []
        self.takes_word = self.value != "" and not self.value.startswith("[")


def all_commands(program, words=()):
    """Every command below these words with what leads there, in the order in which the program lists them."""
    this = Help(program, list(words))
    return [this] + [one for name, _ in this.entries("Subcommands") for one in all_commands(program, [*words, name])]
