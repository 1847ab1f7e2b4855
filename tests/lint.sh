#!/usr/bin/env bash
# What machines can check about the sources; ./dev lint installs the tools and calls this. Every finding is printed; the
# exit code is 1 when there was one. With files as arguments clang-tidy reads only those; else what the release build
# compiles, several sources at once, because most of its time goes into the libraries' headers.
# shellcheck disable=SC2317 # check and note call the functions by name
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folders=(subscribers rules controller)
found=0

# check TITLE COMMAND...: what the command prints is a finding.
check() {
    local title=$1 places
    shift
    places=$("$@" 2>&1) || true
    [ -n "$places" ] || return 0
    printf -- '-- %s\n%s\n' "$title" "$places"
    found=1
}

# note TITLE COMMAND...: what the command prints is worth knowing, no more.
note() {
    local before=$found
    check "note: $1" "${@:2}"
    found=$before
}

sources() { find "${folders[@]}" tests -name '*.cpp' -o -name '*.hpp' | sort; }
# scripts_of INTERPRETER: the files whose first line names it.
scripts_of() {
    find dev .ci packaging tests -type f -not -path '*/corpus/*' \
        -exec awk -v end="$1\$" 'FNR == 1 { if ($0 ~ "^#!" && $0 ~ end) print FILENAME; nextfile }' {} +
}
python_files() { { find tests packaging -type f -name '*.py' && scripts_of python3; } | sort -u; }

badly_formatted() { sources | xargs clang-format --dry-run -Werror; }

bad_scripts() { scripts_of sh | xargs shellcheck; }

bad_python() {
    python_files | xargs -n 1 python3 -c 'import ast, sys; ast.parse(open(sys.argv[1], encoding="utf-8").read(), sys.argv[1])'
}

# Includes go one way: controller -> rules -> subscribers; each outside library is known to one folder.
wrong_includes() {
    grep -nE '#include "(rules|controller)/' subscribers/*.[ch]pp
    grep -nE '#include "controller/' rules/*.[ch]pp
    grep -nE '#include <(libnftnl/|libmnl/|linux/netfilter)' subscribers/*.[ch]pp controller/*.[ch]pp
    grep -nE '#include <sqlite3' rules/*.[ch]pp controller/*.[ch]pp
    grep -nE '#include <(CLI/|toml|systemd/)' subscribers/*.[ch]pp rules/*.[ch]pp
}

empty_names() {
    find "${folders[@]}" tests |
        grep -E '(^|[/_])(manager|handler|helper|utils?|common|processor|engine|impl|base|info)([_./]|$)'
    sources | xargs grep -nE '\b(class|struct|enum|namespace)( class)? +[A-Za-z_]*([Mm]anager|[Hh]andler|[Hh]elper|[Uu]tils?\b|Common|Processor|Engine|Impl\b|Base\b|Info\b)'
}

unfinished() { sources | xargs grep -nE '\b(TODO|FIXME|XXX)\b'; }

excused_tests() {
    sources | xargs grep -nE 'TEST_CASE\([^)]*\[(\.|!hide|!mayfail|!shouldfail)'
    python_files | xargs grep -nE '@(unittest\.|pytest\.mark\.)(skip|expectedFailure|xfail)|skipTest\(|pytest\.skip\('
}

without_unit_test() {
    local file
    for file in subscribers/*.cpp rules/*.cpp controller/*.cpp; do
        [ "$file" = controller/main.cpp ] || [ -e "tests/${file%.cpp}_test.cpp" ] || echo "   $file"
    done
}

long_files() { sources | xargs wc -l | awk '$1 > 400 && $2 != "total" { print "   " $2 ": " $1 " lines" }'; }

# What the release build compiles for the program itself.
compiled() {
    sed -nE 's/.*"file": "(.*)".*/\1/p' build/release/compile_commands.json |
        grep -E '/(smtpfence_[a-z]+\.dir/Unity|subscribers|rules|controller)/[^/]+$' | sort -u
}

analysed() {
    local files=("$@")
    [ "${#files[@]}" -gt 0 ] || mapfile -t files < <(compiled)
    printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p build/release |&
        grep -vE '^[0-9]+ warnings? (and [0-9]+ errors? )?(generated|treated)|^Suppressed|^Use -header-filter'
}

# The builds compile several sources as one, where an include that one lacks may stand in another.
without_includes() {
    cmake --preset dev -B build/alone --log-level=WARNING \
        -DSMTPFENCE_UNITY=OFF -DSMTPFENCE_SANITIZE=OFF -DSMTPFENCE_COVERAGE=OFF >/dev/null
    cd build/alone
    python3 -c 'import json; print(*(one["command"] for one in json.load(open("compile_commands.json"))), sep="\0", end="")' |
        xargs -0 -P "$(nproc)" -I COMMAND sh -c 'COMMAND -fsyntax-only'
}

cmake --preset release --log-level=WARNING >/dev/null
check "formatting (./dev format puts it right)" badly_formatted
check "shellcheck" bad_scripts
check "Python syntax" bad_python
check "includes against the direction" wrong_includes
check "names that say nothing" empty_names
check "unfinished marks" unfinished
check "tests that are hidden, skipped or excused" excused_tests
[ "$#" -gt 0 ] || check "each source by itself" without_includes
check "clang-tidy" analysed "$@"
note "no unit test of that name: covered by others' tests?" without_unit_test
note "over 400 lines, a design question each" long_files
[ "$found" != 0 ] || echo "lint: nothing found"
exit "$found"
