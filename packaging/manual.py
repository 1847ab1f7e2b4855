#!/usr/bin/python3
"""The manual pages, from what the program itself says, so that they can't differ from it. Usage:

    manual.py commands PROGRAM > smtpfence.8          every command's --help
    manual.py configuration FILE > smtpfence.toml.5   the configuration's own comments
    manual.py database SCHEMA > smtpfence-database.7  the tables' own comments, in subscribers/schema.cpp
"""
import re
import sys

from program_help import Help, all_commands

EXIT_CODES = (("0", "done"), ("1", "failed: database, kernel, disk"),
              ("2", "usage: unknown command or option, impossible combination"), ("3", "not found"),
              ("4", "conflict: contradicts what holds; the message says how to go on"), ("5", "permission denied"),
              ("6", "committed, but not enforced in time"), ("7", "a value that does not parse; nothing was written"),
              ("10", "`plan` found changes"))
FILES = (("/etc/smtpfence/config.toml", "the configuration, see smtpfence.toml(5)"),
         ("/var/lib/smtpfence", "the last good fence, and by default the database"))
DATABASE = {
    "DESCRIPTION": [
        "The subscriber database is one SQLite file, by default /var/lib/smtpfence/subscribers.db, in the journal mode WAL. "
        "`smtpfence init` creates it and brings an older one up to date; PRAGMA user_version is the schema version. A program "
        "that finds another version than its own changes nothing and says so."],
    "READING": [
        "Every table may be read at any time, by whoever may read and write the file and its folder (readers share the log's "
        "index with writers). A reader blocks nobody; a transaction that stays open for long keeps the log from being emptied. "
        "Columns and tables may be added by a later version: name the columns that you read. What `--output json` prints is "
        "more stable than the tables, and has prefixes and times as text."],
    "WRITING": [
        "No table is for others to write, also not from provisioning. A row that is written directly has no revision and "
        "no audit entry, nothing keeps it from overlapping another customer's, and a running service may learn of it only when "
        "it starts again or is asked by `smtpfence apply`, where the guard may withhold it. The ways to write are assign, "
        "release, exempt and import, one at a time or by the million, all idempotent: see smtpfence(8).",
        "The audit log, revision and change, is append-only for everybody: triggers refuse the rest."],
}
QUERIES = {
    "Who is exempt, and until when:":
        "SELECT customer, datetime(until, 'unixepoch') FROM exemption WHERE revoked IS NULL AND until > unixepoch()",
    "What a customer holds:":
        "SELECT hex(first), length FROM assignment WHERE customer = 'c1' AND (until IS NULL OR until > unixepoch())",
    "The last ten changes:":
        "SELECT number, datetime(time, 'unixepoch'), login, command, reason FROM revision ORDER BY number DESC LIMIT 10",
}


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
        if "Subcommands" in one.parts:
            continue
        page += f".SS {roff(one.usage.removeprefix('smtpfence '))}\n{roff(one.about)}\n"
        for title in ("Positionals", "Options"):
            page += "".join(tagged(*entry) for entry in one.entries(title))
        page += example(one.examples())
    page += ".SH EXIT STATUS\n" + "".join(tagged(*entry) for entry in EXIT_CODES)
    page += ".SH FILES\n" + "".join(tagged(*entry) for entry in FILES)
    page += ".SH SEE ALSO\n.BR smtpfence.toml (5),\n.BR smtpfence\\-database (7),\n.BR nft (8)\n"
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
    return page + ".SH SEE ALSO\n.BR smtpfence (8),\n.BR smtpfence\\-database (7)\n"


class Schema:
    """The tables and columns that the statements of a source file make, with the comments that stand there."""

    def __init__(self, path):
        self.conventions, self.tables, comment = [], {}, ""
        with open(path, encoding="utf-8") as file:
            source = file.read()
        for about, raw, plain in re.findall(r'((?:^ *//.*\n)+)|R"\(((?:.|\n)*?)\)"|^ *"(.*)",$', source, re.MULTILINE):
            if about:
                lines = [line.strip().removeprefix("//").strip() for line in about.splitlines()]
                comment = " ".join(line for line in lines if line)
                if lines[0] == "Conventions of every table:":
                    self.conventions = comment.split(" - ")[1:]
            else:
                self.read_statement(raw or plain, comment)
                comment = ""

    def read_statement(self, statement, comment):
        if found := re.match(r"CREATE TABLE (\w+) ", statement):
            table = self.tables[found[1]] = [comment, []]
            for line in statement.splitlines()[1:-1]:
                column, _, about = line.strip().partition("-- ")
                column = re.sub(r"\s+", " ", column.strip().removesuffix(","))
                table[1].append([column, about])
        elif found := re.match(r"ALTER TABLE (\w+) ADD COLUMN (.*)", statement):
            self.tables[found[1]][1].append([found[2], comment])
        elif found := re.match(r"ALTER TABLE (\w+) RENAME TO (\w+)", statement):
            self.tables[found[2]] = self.tables.pop(found[1])
        elif found := re.match(r"DROP TABLE (\w+)", statement):
            del self.tables[found[1]]
        elif not re.match("CREATE (INDEX|TRIGGER)|INSERT", statement):
            raise SystemExit(f"manual.py: a statement that is not known here: {statement}")


def database(path):
    schema = Schema(path)
    page = heading("smtpfence-database", 7, "the tables of smtpfence's subscriber database")
    for title, paragraphs in DATABASE.items():
        page += f".SH {title}\n" + ".PP\n".join(roff(one) + "\n" for one in paragraphs)
    page += ".SH TABLES\n" + "".join(f".IP \\(bu 2\n{roff(one)}\n" for one in schema.conventions)
    for name, (about, columns) in schema.tables.items():
        page += f".SS {name}\n{roff(about)}\n" + "".join(tagged(*column) for column in columns)
    page += ".SH EXAMPLES\n"
    for title, query in QUERIES.items():
        page += f".PP\n{roff(title)}\n" + example([f'sqlite3 -readonly /var/lib/smtpfence/subscribers.db "{query}"'])
    return page + ".SH SEE ALSO\n.BR smtpfence (8),\n.BR smtpfence.toml (5),\n.BR sqlite3 (1)\n"


PAGES = {"commands": commands, "configuration": configuration, "database": database}


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in PAGES:
        raise SystemExit(__doc__)
    sys.stdout.write(PAGES[sys.argv[1]](sys.argv[2]))


if __name__ == "__main__":
    main()
