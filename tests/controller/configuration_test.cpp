#include "controller/configuration.hpp"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <fstream>

using namespace smtpfence;

namespace {

/// A file that is there while this lives.
struct File {
    explicit File(const std::string& text) {
        const int descriptor = mkstemp(path);
        REQUIRE(descriptor >= 0);
        close(descriptor);
        std::ofstream(path, std::ios::binary) << text;
    }
    ~File() { unlink(path); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    char path[32] = "/tmp/smtpfence-config-XXXXXX";
};

Configuration read(const std::string& text) {
    const File file(text);
    return read_configuration(file.path, false);
}

std::string refusal(const std::string& text) {
    const File file(text);
    try {
        read_configuration(file.path, false);
    } catch (const ConfigurationError& error) {
        const std::string what = error.what();
        CHECK(what.starts_with(file.path));
        CHECK(what.find('\n') == std::string::npos);
        return what.substr(std::string(file.path).size());
    }
    return "accepted";
}

}  // namespace

TEST_CASE("configuration: every key has a default but the database") {
    char host[256] = "";
    REQUIRE(gethostname(host, sizeof host - 1) == 0);
    const Configuration empty = read("");
    CHECK(empty.database.empty());
    CHECK(empty.router == host);
    CHECK(empty.state_directory == "/var/lib/smtpfence");
    CHECK(empty.border.subscriber.empty());
    CHECK(empty.border.action == Action::drop);
    CHECK(empty.relay.widest4 == 24);
    CHECK(empty.relay.widest6 == 64);
    CHECK(empty.keep == Seconds{180 * 86400});
    CHECK(empty.poll == Seconds{5});
    CHECK(empty.verify == Seconds{60});
    CHECK(empty.guard.max_release_percent == 10);
    CHECK(empty.guard.max_exempt_percent == 5);
    CHECK(empty.guard.relay.widest4 == 24);
    CHECK(empty.boot.pools.empty());
    CHECK(empty.boot.relays.empty());
}

TEST_CASE("configuration: every key is read") {
    const Configuration all = read(R"(
database = "sqlite:/x.db"
router = "edge1"
state_directory = "/run/fence"
[interfaces]
subscriber = ["bng0", "vlan*"]
action = "reject"
[relay]
widest4 = 20
widest6 = 48
[history]
keep = "2w"
[follow]
poll = "1s"
verify = "2m"
[boot]
pools = ["2001:db8::/40", "100.64.0.0/16"]
relays = ["192.0.2.10"]
[guard]
max_release_percent = 0
max_exempt_percent = 100
)");
    CHECK(all.boot.pools == std::vector{std::pair{Prefix::parse("100.64.0.0/16"), Action::drop},
                                        std::pair{Prefix::parse("2001:db8::/40"), Action::drop}});
    CHECK(all.boot.relays == std::vector{Prefix::parse("192.0.2.10")});
    CHECK(all.guard.max_release_percent == 0);
    CHECK(all.guard.max_exempt_percent == 100);
    CHECK(all.guard.relay.widest4 == 20);
    CHECK(all.database == "sqlite:/x.db");
    CHECK(all.router == "edge1");
    CHECK(all.state_directory == "/run/fence");
    CHECK(all.border.subscriber == std::vector<std::string>{"bng0", "vlan*"});
    CHECK(all.border.action == Action::reject);
    CHECK(all.relay.widest4 == 20);
    CHECK(all.relay.widest6 == 48);
    CHECK(all.keep == Seconds{14 * 86400});
    CHECK(all.poll == Seconds{1});
    CHECK(all.verify == Seconds{120});
}

TEST_CASE("configuration: unknown keys are refused with their line and path") {
    CHECK(refusal("database = \"sqlite:/x\"\ndatabse = \"y\"\n").starts_with(":2: databse: unknown key"));
    CHECK(refusal("[relay]\nwidest = 3\n").starts_with(":2: relay.widest: unknown key"));
    CHECK(refusal("[metrics]\nlisten = \"\"\n").starts_with(":1: metrics: unknown key"));
    CHECK(refusal("[detect]\n").starts_with(":1: detect: unknown key"));
    CHECK(refusal("[metrics]\n").starts_with(":1: metrics: unknown key"));
    CHECK(refusal("[[source]]\nname = \"radius\"\n").find("source: unknown key") != std::string::npos);
}

TEST_CASE("configuration: values that don't fit are refused with a reason") {
    CHECK(refusal("database = 3\n").starts_with(":1: database: must be a string"));
    CHECK(refusal("database = \"\"\n").starts_with(":1: database: must name a database"));
    CHECK(refusal("router = \"\"\n").starts_with(":1: router: "));
    CHECK(refusal("state_directory = \"var\"\n").starts_with(":1: state_directory: must be an absolute path"));
    CHECK(refusal("relay = 3\n").starts_with(":1: relay: must be a section"));
    CHECK(refusal("[relay]\nwidest4 = 33\n").starts_with(":2: relay.widest4: must be a prefix length, 1 to 32"));
    CHECK(refusal("[relay]\nwidest6 = 0\n").starts_with(":2: relay.widest6: must be a prefix length, 1 to 128"));
    CHECK(refusal("[relay]\nwidest4 = \"24\"\n").starts_with(":2: relay.widest4: must be a prefix length"));
    CHECK(refusal("[follow]\npoll = \"0s\"\n").starts_with(":2: follow.poll: "));
    CHECK(refusal("[follow]\npoll = 5\n").starts_with(":2: follow.poll: must be a string"));
    CHECK(refusal("[history]\nkeep = \"forever\"\n").starts_with(":2: history.keep: "));
    CHECK(refusal("[interfaces]\nsubscriber = \"bng0\"\n").starts_with(":2: interfaces.subscriber: must be a list"));
    CHECK(refusal("[interfaces]\nsubscriber = [\"*\"]\n").starts_with(":2: interfaces.subscriber: "));
    CHECK(refusal("[interfaces]\nsubscriber = [3]\n").starts_with(":2: interfaces.subscriber: must be a string"));
    CHECK(refusal("[interfaces]\naction = \"pass\"\n").starts_with(":2: interfaces.action: pass would let"));
    CHECK(refusal("[interfaces]\naction = \"deny\"\n").starts_with(":2: interfaces.action: "));
}

TEST_CASE("configuration: what a terminal would act on is shown in the refusal of what is no TOML") {
    CHECK_FALSE(has_control(refusal("c = in\x0e\x1b[31m")));
    CHECK_FALSE(has_control(refusal("[interfaces]\n\"\"=t\n")));
}

TEST_CASE("configuration: what is no TOML is refused with its line") {
    CHECK(refusal("database = \n").starts_with(":1: "));
    CHECK(refusal("router = \"a\"\nrouter = \"b\"\n").starts_with(":2: "));
    CHECK(refusal("router = \"\xff\"\n").starts_with(":1: "));
    CHECK(refusal("router = \"a\x1b\"\n").find('\x1b') == std::string::npos);
}

TEST_CASE("configuration: a missing file is an error unless it may be missing") {
    CHECK_THROWS_AS(read_configuration("/nonexistent/config.toml", false), ConfigurationError);
    CHECK(read_configuration("/nonexistent/config.toml", true).poll == Seconds{5});
    CHECK_THROWS_WITH(read_configuration("/tmp", true), Catch::Contains("directory"));
}

TEST_CASE("configuration: the guard's shares are whole percents") {
    for (const char* value : {"-1", "101", "10.5", "\"10\"", "true"}) {
        CAPTURE(value);
        CHECK(refusal(std::string("[guard]\nmax_exempt_percent = ") + value + "\n") ==
              ":2: guard.max_exempt_percent: must be a whole number of percent, 0 to 100");
    }
}

TEST_CASE("configuration: a fence for the boot needs relays beside its pools") {
    CHECK(refusal("[boot]\npools = [\"100.64.0.0/16\"]\n").starts_with(": boot.relays: empty"));
    CHECK(refusal("[boot]\nrelays = [\"192.0.2.10\"]\n") == "accepted");
    CHECK(refusal("[boot]\npools = \"100.64.0.0/16\"\n") == ":2: boot.pools: must be a list: [\"100.64.0.0/10\"]");
    CHECK(refusal("[boot]\npools = [\"100.64.0.1/16\"]\n").starts_with(":2: boot.pools: "));
    CHECK(refusal("[boot]\nrelays = [25]\n") == ":2: boot.relays: must be a string: write it in quotes");
}
