#include "subscribers/fenced.hpp"

#include "scratch.hpp"

using namespace smtpfence;

TEST_CASE("fenced: relays are added once and listed in prefix order") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        CHECK(add_relay(change, "2001:db8::25"_p, {}, {}));
        CHECK(add_relay(change, "203.0.113.10"_p, "mx-out-1", {}));
        CHECK_FALSE(add_relay(change, "203.0.113.10"_p, "mx-out-1", {}));
        CHECK_FALSE(add_relay(change, "203.0.113.10"_p, {}, {}));
    });
    CHECK(relays(*database) ==
          std::vector<Relay>{{"203.0.113.10"_p, "mx-out-1", "manual"}, {"2001:db8::25"_p, {}, "manual"}});
}

TEST_CASE("fenced: relays that are refused") {
    ScratchDatabase database;
    Change change(*database, alice, "relay add");
    add_relay(change, "203.0.113.10"_p, "mx-out-1", {});
    CHECK_THAT(refusal([&] { add_relay(change, "203.0.113.10"_p, "other", {}); }),
               Catch::StartsWith("conflict: ") && Catch::Contains("mx-out-1") && Catch::Contains("relay remove"));
    CHECK_THAT(refusal([&] { add_relay(change, "203.0.0.0/16"_p, {}, {}); }),
               Catch::StartsWith("invalid: ") && Catch::Contains("wider than /24"));
    CHECK_THAT(refusal([&] { add_relay(change, "2001:db8::/32"_p, {}, {}); }), Catch::Contains("wider than /64"));
    CHECK_THAT(refusal([&] { add_relay(change, "0.0.0.0/0"_p, {}, {}); }), Catch::StartsWith("invalid: "));
    CHECK(add_relay(change, "203.0.0.0/16"_p, {}, {16, 64}));
    for (const char* note : {"", "a\nb", "\xff", "a\x1b[2J"}) {
        CHECK_THAT(refusal([&] { add_relay(change, "203.0.113.11"_p, note, {}); }),
                   Catch::StartsWith("invalid: note "));
    }
    CHECK_THAT(refusal([&] { add_relay(change, "203.0.113.11"_p, std::string(1001, 'x'), {}); }),
               Catch::Contains("1,000 bytes"));
}

TEST_CASE("fenced: the last relay stays while a pool is fenced") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        add_relay(change, "203.0.113.10"_p, {}, {});
        add_relay(change, "203.0.113.11"_p, {}, {});
        add_pool(change, "100.64.0.0/10"_p, {}, Action::drop);
    });
    const std::string refused = refusal([&] {
        committed(*database, [](Change& change) {
            CHECK(remove_relay(change, "203.0.113.10"_p));
            remove_relay(change, "203.0.113.11"_p);
        });
    });
    CHECK_THAT(refused, Catch::StartsWith("conflict: ") && Catch::Contains("203.0.113.11/32 is the last one"));
    CHECK(relays(*database).size() == 2);
    committed(*database, [](Change& change) {
        CHECK_FALSE(remove_relay(change, "203.0.113.99"_p));
        CHECK(remove_relay(change, "203.0.113.10"_p));
        CHECK(set_pool(change, "100.64.0.0/10"_p, Action::observe));
        CHECK(remove_relay(change, "203.0.113.11"_p));
    });
    CHECK(relays(*database).empty());
}

TEST_CASE("fenced: pools are added once, set and removed") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        CHECK(add_pool(change, "100.64.0.0/10"_p, "north", Action::drop));
        CHECK_FALSE(add_pool(change, "100.64.0.0/10"_p, "north", Action::drop));
        CHECK_FALSE(add_pool(change, "100.64.0.0/10"_p, {}, Action::drop));
        CHECK(add_pool(change, "2001:db8::/32"_p, {}, Action::reject));
        CHECK(set_pool(change, "100.64.0.0/10"_p, Action::pass));
        CHECK_FALSE(set_pool(change, "100.64.0.0/10"_p, Action::pass));
        CHECK_FALSE(remove_pool(change, "100.64.0.0/24"_p));
    });
    CHECK(pools(*database) == std::vector<Pool>{{"100.64.0.0/10"_p, "north", Action::pass, "manual"},
                                                {"2001:db8::/32"_p, {}, Action::reject, "manual"}});
    committed(*database, [](Change& change) { CHECK(remove_pool(change, "100.64.0.0/10"_p)); });
    CHECK(pools(*database).size() == 1);
}

TEST_CASE("fenced: pools that are refused") {
    ScratchDatabase database;
    Change change(*database, alice, "pool add");
    add_pool(change, "100.64.0.0/10"_p, "north", Action::drop);
    CHECK_THAT(refusal([&] { add_pool(change, "100.64.0.0/10"_p, "north", Action::reject); }),
               Catch::StartsWith("conflict: ") && Catch::Contains("pool set 100.64.0.0/10 --action reject"));
    CHECK_THAT(refusal([&] { add_pool(change, "100.64.0.0/10"_p, "south", Action::drop); }),
               Catch::StartsWith("conflict: ") && Catch::Contains("'north'") && Catch::Contains("pool set"));
    CHECK_THAT(refusal([&] { add_pool(change, "0.0.0.0/0"_p, {}, Action::drop); }),
               Catch::StartsWith("invalid: ") && Catch::Contains("default route"));
    CHECK_THAT(refusal([&] { add_pool(change, "::/0"_p, {}, Action::drop); }), Catch::StartsWith("invalid: "));
    CHECK_THAT(refusal([&] { set_pool(change, "100.64.0.0/24"_p, Action::drop); }),
               Catch::StartsWith("not found: ") && Catch::Contains("pool list"));
    CHECK_THAT(refusal([] { parse_action("block"); }), Catch::StartsWith("invalid: ") && Catch::Contains("reject"));
    for (Action action : {Action::drop, Action::reject, Action::observe, Action::pass}) {
        CHECK(parse_action(word(action)) == action);
    }
}

TEST_CASE("fenced: the longest pool decides") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        add_pool(change, "100.64.0.0/10"_p, {}, Action::drop);
        add_pool(change, "100.64.8.0/24"_p, {}, Action::pass);
        add_pool(change, "2001:db8::/32"_p, {}, Action::reject);
    });
    const std::vector<Pool> all = pools(*database);
    const auto chosen = [&](const Prefix& prefix) {
        const auto found = pool_of(*database, prefix);
        const Pool* same = longest_pool(all, prefix);
        CHECK((same ? std::optional(*same) : std::nullopt) == found);
        return found ? found->prefix.text() : "none";
    };
    CHECK(chosen("100.64.8.1"_p) == "100.64.8.0/24");
    CHECK(chosen("100.64.8.0/24"_p) == "100.64.8.0/24");
    CHECK(chosen("100.64.8.0/23"_p) == "100.64.0.0/10");
    CHECK(chosen("100.64.9.1"_p) == "100.64.0.0/10");
    CHECK(chosen("100.0.0.1"_p) == "none");
    CHECK(chosen("100.0.0.0/8"_p) == "none");
    CHECK(chosen("2001:db8:1::1"_p) == "2001:db8::/32");
    CHECK(chosen("2001:db9::1"_p) == "none");
}

TEST_CASE("fenced: a family that pools close has a relay of its own, or that is doubted") {
    const Relay relay4{"203.0.113.10"_p, {}, "m"}, relay6{"2001:db8:ffff::10"_p, {}, "m"};
    const Pool closed4{"100.64.0.0/16"_p, {}, Action::drop, "m"}, closed6{"2001:db8::/40"_p, {}, Action::reject, "m"};
    CHECK(missing_relays({relay4, relay6}, {closed4, closed6}).empty());
    CHECK(missing_relays({relay4}, {closed4}).empty());
    CHECK(missing_relays({}, {closed4, closed6}).empty());  // refused
    const auto without6 = missing_relays({relay4}, {closed4, closed6});
    REQUIRE(without6.size() == 1);
    CHECK_THAT(without6[0], Catch::StartsWith("no IPv6 relay: lines in pool 2001:db8::/40 (reject) reach no relay"));
    const auto without4 = missing_relays({relay6}, {closed4, closed6});
    REQUIRE(without4.size() == 1);
    CHECK_THAT(without4[0], Catch::StartsWith("no IPv4 relay: lines in pool 100.64.0.0/16 (drop) reach no relay"));
    CHECK(doubts({relay6}, {closed4, closed6}) == without4);
    Pool open6 = closed6;
    for (const Action action : {Action::observe, Action::pass}) {
        open6.action = action;
        CHECK(missing_relays({relay4}, {closed4, open6}).empty());
    }
}

TEST_CASE("fenced: doubts") {
    const Pool pool{"100.64.0.0/10"_p, {}, Action::drop, "manual"};
    const Relay relay{"203.0.113.10"_p, {}, "manual"};
    CHECK(doubts({relay}, {pool}).empty());
    CHECK(doubts({}, {}).empty());
    const Relay inside{"100.64.0.25"_p, {}, "manual"};
    REQUIRE(doubts({inside}, {pool}).size() == 1);
    CHECK_THAT(doubts({inside}, {pool})[0], Catch::Contains("100.64.0.25/32 lies inside pool 100.64.0.0/10 (drop)"));
    CHECK_THAT(doubts({{"203.0.113.0/24"_p, {}, "m"}}, {{"203.0.113.64/26"_p, {}, Action::drop, "m"}}).at(0),
               Catch::Contains("pool 203.0.113.64/26 lies inside relay 203.0.113.0/24"));
    CHECK_THAT(doubts({relay}, {{"64.0.0.0/2"_p, {}, Action::drop, "m"}}).at(0), Catch::Contains("wider"));
}
