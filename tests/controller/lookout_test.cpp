#include "controller/lookout.hpp"

#include <catch2/catch.hpp>

using namespace smtpfence;

TEST_CASE("lookout: warnings travel in a report's notes") {
    const std::string features = "owner and persist flags: yes\ntolerant delete: no\n";
    const std::vector<std::string> warnings{"bridge br0: ...", "flowtable fast: ..."};
    const std::string notes = notes_with(features, warnings);
    CHECK(notes == features + "warning: bridge br0: ...\nwarning: flowtable fast: ...\n");
    CHECK(warnings_in(notes) == warnings);
    CHECK(notes_without_warnings(notes) == features);
    CHECK(warnings_in(features).empty());
    CHECK(notes_with(features, {}) == features);
}

TEST_CASE("lookout: what it sees is what it saw last") {
    Lookout lookout;
    lookout.look({"no-such-interface"});
    REQUIRE_FALSE(lookout.warnings().empty());
    CHECK(lookout.warnings()[0] ==
          "[interfaces] subscriber \"no-such-interface\" matches no interface now: correct it, or bring the interface "
          "up");
    const auto seen = lookout.warnings();
    lookout.look({"no-such-interface"});
    CHECK(lookout.warnings() == seen);
    lookout.look({"lo"});
    CHECK(lookout.warnings() != seen);
}
