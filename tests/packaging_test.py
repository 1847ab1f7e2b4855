"""What the package brings besides the program, as systemd, sudo, groff and the shells themselves read it."""

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGING = os.path.realpath(os.path.join(HERE, "../packaging"))
SCHEMA = os.path.realpath(os.path.join(HERE, "../subscribers/schema.cpp"))
PROGRAM = os.environ.get("SMTPFENCE", "")
UNITS = ("smtpfence.service", "smtpfence-restore.service")


def read(*path):
    with open(os.path.join(PACKAGING, *path), encoding="utf-8") as file:
        return file.read()


def run(*command, **options):
    return subprocess.run(command, text=True, capture_output=True, check=False, timeout=60, **options)


class PackagingCase(unittest.TestCase):
    def setUp(self):
        self.assertTrue(PROGRAM, "set SMTPFENCE to the path of the executable")
        folder = tempfile.TemporaryDirectory(prefix="smtpfence-packaging-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


class Units(PackagingCase):
    def analysed(self, verb, *options, old="", new=""):
        """What systemd-analyze says of the units, with the program that is tested as the installed one."""
        paths = []
        for name in UNITS:
            unit = read(name)
            self.assertIn("/usr/sbin/smtpfence ", unit)
            paths.append(self.write(name, unit.replace("/usr/sbin/smtpfence", PROGRAM).replace(old or "\0", new)))
        done = run("systemd-analyze", verb, *options, *paths)
        return done.returncode, done.stdout + done.stderr

    def test_systemd_finds_nothing(self):
        self.assertEqual(self.analysed("verify", "--man=no"), (0, ""))

    def test_mistakes_are_found(self):
        for old, new, said in (("ProtectSystem=strict", "ProtectSystem=stern", "stern"),
                               ("WatchdogSec=60", "WatchdogSecs=60", "WatchdogSecs"),
                               ("=/bin/sh", "=/nowhere/sh", "/nowhere/sh")):
            with self.subTest(new):
                self.assertIn(said, self.analysed("verify", "--man=no", old=old, new=new)[1])

    def test_exposure(self):
        """1.7 or better, of 10."""
        options = ("--offline=yes", "--threshold=17")
        code, said = self.analysed("security", *options)
        self.assertEqual(code, 0, said)
        self.assertNotEqual(self.analysed("security", *options, old="CapabilityBoundingSet=CAP_NET_ADMIN")[0], 0)


class Support(PackagingCase):
    """Whether sudo lets support staff run a command: sudo -l says so for another user."""

    def setUp(self):
        super().setUp()
        rules = read("smtpfence.sudoers")
        self.assertIn("\n%smtpfence-support ALL", rules)
        self.write("smtpfence", rules.replace("%smtpfence-support", "nobody").replace("/usr/sbin/smtpfence", PROGRAM))
        os.chmod(os.path.join(self.folder, "smtpfence"), 0o440)

    def allowed(self, *words):
        script = 'mount --bind "$1" /etc/sudoers.d && shift && exec sudo -n -l -U nobody "$@"'
        done = run(os.path.join(PACKAGING, "private_mounts.py"), "sh", "-c", script, "sh", self.folder, PROGRAM, *words)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        self.assertNotRegex(done.stderr, "syntax error|parse error")
        return done.returncode == 0

    def test_what_the_desk_needs(self):
        for words in (("explain", "100.64.3.7"), ("explain", "c1", "--at=2026-12-24T18:00:00Z"), ("customer", "show", "c1"),
                      ("exempt", "grant", "c1", "--reason", "runs a mail server", "--ticket", "T-1", "--for", "30d"),
                      ("exempt", "revoke", "c1", "--reason=abuse", "--no-wait"), ("exempt", "list", "--expiring", "30d"),
                      ("attempts", "--since", "7d", "--pool", "100.64.0.0/10", "--output", "csv"), ("status",),
                      ("explain", "100", "--customer"), ("exempt", "show", "c1")):
            with self.subTest(words):
                self.assertTrue(self.allowed(*words))

    def test_no_way_out(self):
        for words in (("clear", "--yes"), ("pool", "add", "0.0.0.0/0"), ("import", "/etc/shadow"), ("run",), (), ("exempt",),
                      ("explain", "c1", "--config", "/tmp/x"), ("explain", "c1", "--config=/tmp/x"),
                      ("--config", "/tmp/x", "explain", "c1"), ("--database", "sqlite:/tmp/x", "status"),
                      ("exempt", "list", "--database=sqlite:/tmp/x"), ("status", "--operator", "boss"),
                      ("exempt", "grant", "c1", "--reason", "x --config /tmp/x"), ("exempt", "grant", "c1", "--confirm"),
                      ("explain", "--", "c1"), ("explain\n--config=/tmp/x",), ("customer", "list"), ("audit",), ("export", "--what", "pbl"),
                      ("status", "", "--config=/tmp/x"), ("statuss",), ("explain", "-h")):
            with self.subTest(words):
                self.assertFalse(self.allowed(*words))


class SupportMember(PackagingCase):
    """Somebody of the desk at work: the rules on a router of its own, with its own /etc and its own network."""
    SETUP = """set -e
mount -t tmpfs files "$1" && mkdir "$1/upper" "$1/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" etc /etc
mkdir -p /etc/smtpfence && cp "$2/config.toml" /etc/smtpfence/
rm -f /etc/sudoers.d/* && cp "$2/rules" /etc/sudoers.d/smtpfence && chmod 440 /etc/sudoers.d/smtpfence
{ $3 init && $3 relay add 203.0.113.10 && $3 pool add 100.64.0.0/10 && $3 assign c1 100.64.3.7 && $3 apply; } >&2
program=$3
as_member() { setpriv --reuid=65534 --regid=65534 --clear-groups sudo -n "$program" "$@"; }
"""

    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        os.mkdir(os.path.join(self.folder, "mount"))
        self.write("config.toml", f'router = "edge1"\ndatabase = "sqlite:{self.folder}/subscribers.db"\n'
                                  f'state_directory = "{self.folder}/state"\n')
        # A copy, as the other one's folder may be root's alone.
        self.program = shutil.copy(PROGRAM, os.path.join(self.folder, "smtpfence"))
        # The rules as they are, but for a user without a password.
        self.write("rules", "Defaults:nobody !authenticate\n" + read("smtpfence.sudoers").replace(
            "%smtpfence-support", "nobody").replace("/usr/sbin/smtpfence", self.program))

    def at_work(self, script):
        """`script` calls the member's commands by as_member."""
        return run(os.path.join(PACKAGING, "private_mounts.py"), "unshare", "--net", "sh", "-c", self.SETUP + script, "sh",
                   os.path.join(self.folder, "mount"), self.folder, self.program)

    def test_explain_asks_the_kernel(self):
        done = self.at_work("as_member explain 100.64.3.7 --output json")
        self.assertEqual(done.returncode, 0, done.stderr)
        answer = json.loads(done.stdout)
        self.assertEqual((answer["customer"], answer["verdict"], answer["kernel_agrees"]), ("c1", "drop", True))
        self.assertNotIn("warning", done.stderr)

    def test_without_sudo_nothing_is_told(self):
        done = self.at_work('setpriv --reuid=65534 --regid=65534 --clear-groups "$3" explain 100.64.3.7')
        self.assertEqual((done.returncode, done.stdout), (5, ""), done.stderr)

    def test_another_database_in_the_environment_is_none(self):
        done = self.at_work("SMTPFENCE_DATABASE=sqlite:/nowhere SMTPFENCE_OPERATOR=boss as_member exempt grant c1 --reason mail "
                            "--no-wait >&2 && $3 audit --customer c1 --output json")
        self.assertEqual(done.returncode, 0, done.stderr)
        last = json.loads(done.stdout)["items"][-1]
        self.assertEqual((last["command"], last["login"], last["operator"]), ("exempt grant", "nobody", None))


class SpareFence(PackagingCase):
    """nftables.service's commands, as the package has them: other people's tables go and come, ours isn't touched."""
    SETUP = """set -e
mount -t tmpfs files "$1" && mkdir "$1/upper" "$1/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" etc /etc
cp "$2" /etc/nftables.conf
nft 'table inet smtpfence { set exempt { type ipv4_addr; timeout 1d; elements = { 100.64.3.7 } }; chain border { type filter hook forward priority -10; }; }'
nft 'table ip old { chain forward { type filter hook forward priority 0; }; }; table inet smtpfence-of-old { }'
nft -a list table inet smtpfence | sed 's/expires .*//' >"$1/before"
"""
    CONF = "#!/usr/sbin/nft -f\n\n{}\ntable inet filter {{\n chain forward {{ type filter hook forward priority 0; }}\n}}\n"

    def beside(self, script, conf):
        """The tables then, and that ours is as it was."""
        self.write("nftables.conf", conf)
        os.makedirs(os.path.join(self.folder, "mount"), exist_ok=True)
        done = run(os.path.join(PACKAGING, "private_mounts.py"), "unshare", "--net", "sh", "-c", self.SETUP + script +
                   "\nnft -a list table inet smtpfence | sed 's/expires .*//' | diff \"$1/before\" - >&2\nnft list tables", "sh",
                   os.path.join(self.folder, "mount"), os.path.join(self.folder, "nftables.conf"),
                   os.path.join(PACKAGING, "spare-fence"))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()

    def test_a_load_replaces_all_tables_but_ours(self):
        for flush in ("flush ruleset", "  flush  ruleset ; # all"):
            with self.subTest(flush):
                self.assertEqual(self.beside('"$3" load; "$3" load', self.CONF.format(flush)),
                                 ["table inet smtpfence", "table inet filter"])

    def test_a_load_without_flush_replaces_none(self):
        for verb in ("load", "reload"):
            with self.subTest(verb):
                self.assertEqual(self.beside(f'"$3" {verb}', self.CONF.format("")), [
                    "table inet smtpfence", "table ip old", "table inet smtpfence-of-old", "table inet filter"])

    def test_a_reload_replaces_where_the_unit_flushes_and_not_its_file(self):
        """As with Fedora's nftables.service. A file that is missing or does not load changes nothing."""
        script = ("mkdir -p /etc/sysconfig && mv /etc/nftables.conf /etc/sysconfig; file=/etc/sysconfig/nftables.conf\n"
                  '"$3" load; nft list tables | wc -l\n'
                  '"$3" reload; "$3" reload; nft list ruleset | grep -c "dport 22 drop"\n'
                  'echo broken >>$file; if "$3" reload 2>"$1/said"; then exit 1; fi; grep -q nftables.conf: "$1/said"\n'
                  'rm $file; if "$3" reload; then exit 1; fi\n')
        self.assertEqual(self.beside(script, self.CONF.format("") + "add rule inet filter forward tcp dport 22 drop\n"),
                         ["4", "1", "table inet smtpfence", "table inet filter"])

    def test_a_flush_leaves_ours(self):
        self.assertEqual(self.beside('"$3" flush; "$3" flush', ""), ["table inet smtpfence"])

    def test_a_file_that_does_not_load_changes_nothing(self):
        self.assertEqual(self.beside('if "$3" load 2>"$1/said"; then exit 1; fi; grep -q nftables.conf:3 "$1/said"', "\n\nbroken\n"),
                         ["table inet smtpfence", "table ip old", "table inet smtpfence-of-old"])


class Manual(PackagingCase):
    def page(self, *words):
        done = run(sys.executable, os.path.join(PACKAGING, "manual.py"), *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def formatted(self, page):
        done = run("groff", "-man", "-ww", "-Tutf8", "-P-cbou", input=page)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_every_command_is_there(self):
        text = self.formatted(self.page("commands", PROGRAM))
        for words in (r"exempt grant \[OPTIONS\] CUSTOMER", r"--reason TEXT", r"smtpfence relay add 203\.0\.113\.10",
                      r"pool set \[OPTIONS\]", r"--database URL", "EXIT STATUS", r"clear \[OPTIONS\]"):
            self.assertRegex(text, words)

    def test_every_key_is_there(self):
        text = self.formatted(self.page("configuration", os.path.join(PACKAGING, "smtpfence.toml")))
        for key in re.findall(r"^(?:# )?(\w+ = .*)$", read("smtpfence.toml"), re.MULTILINE):
            self.assertIn(key, text)

    def test_every_table_and_column_is_there(self):
        """And no other: against what `init` really makes."""
        database = os.path.join(self.folder, "subscribers.db")
        run(PROGRAM, "--database", f"sqlite:{database}", "init")
        page = self.page("database", SCHEMA)
        text = self.formatted(page)
        described = {}
        for line in re.sub(r"\\(.)", r"\1", page[page.index(".SH TABLES"):page.index(".SH EXAMPLES")]).splitlines():
            if line.startswith(".SS "):
                columns = described[line.removeprefix(".SS ")] = []
            elif line.startswith(".B ") and not line.startswith(".B PRIMARY KEY"):
                columns.append(line.split()[1])
        with contextlib.closing(sqlite3.connect(database)) as session:
            tables = session.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'").fetchall()
            real = {name: [row[1] for row in session.execute(f"PRAGMA table_info({name})")] for name, in tables}
        self.assertEqual(described, real)
        self.assertIn("who held it then; '': nobody", text)
        self.assertIn("A time is whole seconds since 1970, UTC.", re.sub(r"\s+", " ", text))

    def test_its_queries_run(self):
        database = os.path.join(self.folder, "subscribers.db")
        for words in (("init",), ("assign", "c1", "100.64.3.7"), ("exempt", "grant", "c1", "--reason", "x", "--no-wait")):
            done = run(PROGRAM, "--database", f"sqlite:{database}", *words)
            self.assertEqual(done.returncode, 0, done.stderr)
        text = self.formatted(self.page("database", SCHEMA))
        queries = re.findall(r"^ *(sqlite3 .*)$", text[text.index("EXAMPLES"):], re.MULTILINE)
        answers = [run("sh", "-c", one.replace("/var/lib/smtpfence/subscribers.db", database)) for one in queries]
        self.assertEqual([(one.returncode, one.stderr) for one in answers], [(0, "")] * 3)
        self.assertRegex(answers[0].stdout, r"^c1\|\d{4}-")
        self.assertEqual(answers[1].stdout, "0464400307|32\n")
        self.assertIn("|exempt grant|x\n", answers[2].stdout)


class Completions(PackagingCase):
    """What each shell offers, against what the program itself knows."""

    def setUp(self):
        super().setUp()
        self.scripts = {}
        for shell, name in (("bash", "smtpfence"), ("zsh", "_smtpfence"), ("fish", "smtpfence.fish")):
            done = run(sys.executable, os.path.join(PACKAGING, "completions.py"), shell, PROGRAM)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.scripts[shell] = self.write(name, done.stdout)

    # Each: the words that the shell offers behind each of the lines.

    def bash(self, lines):
        script = ('. "$0"; for line; do COMP_WORDS=(); word=; for ((i = 0; i < ${#line}; i++)); do c=${line:i:1}; case $c in '
                  '" ") [ -z "$word" ] || COMP_WORDS+=("$word"); word= ;; =) COMP_WORDS+=("$word" "="); word= ;; '
                  '*) word+=$c ;; esac; done; COMP_WORDS+=("$word"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=(); '
                  '$(complete -p smtpfence | sed -E "s/.*-F ([^ ]+) .*/\\1/"); echo "${COMPREPLY[@]}"; done')
        done = run("bash", "--norc", "-c", script, self.scripts["bash"], *lines, cwd=self.folder)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return [line.split() for line in done.stdout.split("\n")[:-1]]

    def zsh(self, lines):
        """By an interactive zsh on a terminal of its own, whose compadd writes down what it is given."""
        self.write("lines", "\n".join(lines) + "\n")
        self.write(".zshrc", """
            fpath=($ZDOTDIR $fpath)
            autoload -Uz compinit && compinit -u -d $ZDOTDIR/dump
            compadd() {
                local -a found
                local i
                for ((i = 1; i <= $#; i++)); do [[ ${@[i]} = -[ADO] ]] && { builtin compadd "$@"; return }; done
                builtin compadd -O found "$@"
                offered+=($found)
                builtin compadd "$@"
            }
            offer() { offered=(); _main_complete; print -r -- $offered >> $ZDOTDIR/offered }
            zle -C offer complete-word offer
            all() {
                for BUFFER in "${(@f)$(< $ZDOTDIR/lines)}"; do CURSOR=$#BUFFER; zle offer; done
                exit
            }
            zle -N zle-line-init all
        """)
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "dumb", "ZDOTDIR": self.folder}
        script = "zmodload zsh/zpty; zpty shell zsh -d -i; while zpty -r shell; do :; done"
        run("zsh", "-f", "-c", script, env=environment, cwd=self.folder, stdin=subprocess.DEVNULL)
        with open(os.path.join(self.folder, "offered"), encoding="utf-8") as file:
            return [line.split() for line in file]

    def fish(self, lines):
        script = "source $argv[1]; for line in $argv[2..]; complete -C $line; echo; echo .; end"
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": self.folder}
        done = run("fish", "--no-config", "-c", script, self.scripts["fish"], *lines, env=environment, cwd=self.folder)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        # A word, a tab, what it means. Behind --name= it is all of --name=value.
        return [[line.split("\t")[0].split("=")[-1] or line.split("\t")[0] for line in one.splitlines() if line]
                for one in done.stdout.split("\n.\n")[:-1]]

    def offered(self, lines):
        """By shell, by line: sorted."""
        result = {}
        for shell in (self.bash, self.zsh, self.fish):
            answers = shell(lines)
            self.assertEqual(len(answers), len(lines), (shell.__name__, answers))
            result[shell.__name__] = {line: sorted({word.rstrip("=") for word in words}) for line, words in zip(lines, answers)}
        return result

    def known(self, *words):
        """Subcommands, options with their values, of the command's own help."""
        text = run(PROGRAM, *words, "--help").stdout
        commands = re.findall(r"^  ([a-z]+) ", text.partition("\nSubcommands:\n")[2].partition("\nExamples:")[0], re.MULTILINE)
        options = re.findall(r"^  (?:-h,)?(--[a-z-]+)(?: ([a-z|]+)(?= |$))?", text, re.MULTILINE)
        return commands, dict(options)

    def test_commands_options_and_values(self):
        _, everywhere = self.known()
        expected, wait = {}, [()]
        while wait:
            words = wait.pop()
            commands, options = self.known(*words)
            wait += [(*words, command) for command in commands]
            line = " ".join(("smtpfence", *words))
            if commands:
                expected[f"{line} "] = sorted(commands)
                expected[f"{line} --quiet --output json {commands[0][:2]}"] = sorted(c for c in commands if c.startswith(commands[0][:2]))
            expected[f"{line} --"] = sorted({*options, *everywhere})
            for option, values in options.items():
                if values:
                    expected[f"{line} {option} "] = sorted(values.split("|"))
                    expected[f"{line} {option}={values[0]}"] = sorted(v for v in values.split("|") if v[0] == values[0])
        self.assertGreater(len(expected), 70)
        for shell, found in self.offered(list(expected)).items():
            for line, words in expected.items():
                with self.subTest(shell=shell, line=line):
                    self.assertEqual(found[line], words)

    def test_the_parser_takes_what_is_offered(self):
        """The values in the help are those that the message about another value names."""
        for words, option in ((("status",), "--output"), (("status",), "--color"), (("export",), "--what"),
                              (("pool", "set", "--all"), "--action"), (("attempts",), "--action"), (("plan",), "--format"),
                              (("import", "-", "--format", "csv"), "--mode"), (("import", "-", "--format", "csv"), "--what"),
                              (("import", "-"), "--format")):
            with self.subTest(words + (option,)):
                database = os.path.join(self.folder, "subscribers.db")
                run(PROGRAM, "--database", f"sqlite:{database}", "init")
                done = run(PROGRAM, "--database", f"sqlite:{database}", *words, option, "other", stdin=subprocess.DEVNULL)
                self.assertEqual(done.returncode, 7, done.stderr)
                named = re.search(r"(?:use|one of) (.*?)(?:, or --output)?$", done.stderr.strip())[1]
                place = [word for word in words if not word.startswith("-") and word != "csv"]
                values = {**self.known()[1], **self.known(*place)[1]}[option]
                self.assertEqual(sorted(re.split(", | or | and ", named)), sorted(values.split("|")))

    def test_what_only_the_database_knows_is_not_offered(self):
        for shell, found in self.offered(["smtpfence exempt grant --reason ", "smtpfence customer show c",
                                          "smtpfence relay add 100.64.0.0/10 2", "smtpfence --database ",
                                          "smtpfence apply --confirm=", "smtpfence explain exempt "]).items():
            for line, words in found.items():
                with self.subTest(shell=shell, line=line):
                    self.assertEqual([word for word in words if not word.startswith("--")], [])

    def test_files_are_offered_where_one_is_meant(self):
        os.mkdir(os.path.join(self.folder, "customers"))
        self.write("customers.jsonl", "")
        for shell, found in self.offered(["smtpfence import cust", "smtpfence --config cust", "smtpfence assign cust"]).items():
            with self.subTest(shell):
                names = [sorted(word.rstrip("/") for word in words) for words in found.values()]
                self.assertEqual(names, [["customers", "customers.jsonl"], ["customers", "customers.jsonl"], []])


if __name__ == "__main__":
    unittest.main()
