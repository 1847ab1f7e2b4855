#include <catch2/catch.hpp>
#include <random>
#include <set>

#include "scratch.hpp"
#include "subscribers/customer.hpp"
#include "subscribers/export.hpp"
#include "subscribers/fenced.hpp"

using namespace smtpfence;

namespace {

std::vector<std::string> pbl(Database& database) {
    std::vector<std::string> result;
    export_pbl(
        database, [&](const Prefix& prefix) { result.push_back(prefix.text()); }, now());
    return result;
}

/// Makes the customer exempt.
void exempt(Change& change, const std::string& customer) {
    grant_exemption(change, {customer, "mail server", {}, {}, std::chrono::days{365}, {}});
}

}  // namespace

TEST_CASE("export_pbl: pools that drop or reject, the longest deciding, without exempt customers and relays") {
    ScratchDatabase database;
    CHECK(pbl(*database).empty());
    committed(*database, [](Change& change) {
        add_relay(change, "100.64.0.128/25"_p, {}, {});
        add_pool(change, "100.64.0.0/23"_p, {}, Action::drop);
        add_pool(change, "100.64.0.0/26"_p, {}, Action::observe);
        add_pool(change, "100.64.0.16/28"_p, {}, Action::reject);
        add_pool(change, "100.64.8.0/24"_p, {}, Action::pass);
        add_pool(change, "2001:db8::/32"_p, {}, Action::drop);
    });
    CHECK(pbl(*database) ==
          std::vector<std::string>{"100.64.0.16/28", "100.64.0.64/26", "100.64.1.0/24", "2001:db8::/32"});
    committed(*database, [](Change& change) {
        assign(change, "c1", "100.64.0.17"_p, {}, false);
        assign(change, "c1", "100.64.1.0/25"_p, {}, false);
        assign(change, "c1", "100.64.1.7"_p, {}, false);
        assign(change, "c1", "2001:db8:8000::/34"_p, {}, false);
        assign(change, "c2", "100.64.1.200"_p, {}, false);
        exempt(change, "c1");
        exempt(change, "c2");
        revoke_exemption(change, "c2", "r");
    });
    CHECK(pbl(*database) == std::vector<std::string>{"100.64.0.16/32", "100.64.0.18/31", "100.64.0.20/30",
                                                     "100.64.0.24/29", "100.64.0.64/26", "100.64.1.128/25",
                                                     "2001:db8::/33", "2001:db8:c000::/34"});
}

TEST_CASE("export_pbl: an exempt IPv6 address in a wide pool splits it along that address only") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        add_relay(change, "203.0.113.1"_p, {}, {});
        add_pool(change, "2001:db8::/32"_p, {}, Action::drop);
        assign(change, "c1", "2001:db8:1234:5678::9"_p, {}, false);
        exempt(change, "c1");
    });
    CHECK(pbl(*database).size() == 128 - 32);
}

TEST_CASE("export_pbl: the whole of the address space has no edge that overflows") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        add_relay(change, "203.0.113.1"_p, {}, {});
        add_pool(change, "255.255.255.0/24"_p, {}, Action::drop);
        add_pool(change, "0.0.0.0/8"_p, {}, Action::drop);
        add_pool(change, "ff00::/8"_p, {}, Action::drop);
        add_pool(change, "::/8"_p, {}, Action::drop);
        assign(change, "c1", "255.255.255.255"_p, {}, false);
        assign(change, "c1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"_p, {}, false);
        assign(change, "c1", "::"_p, {}, false);
        assign(change, "c1", "0.0.0.0"_p, {}, false);
        exempt(change, "c1");
    });
    CHECK(pbl(*database).size() == 8 + 24 + 120 + 120);
}

TEST_CASE("export_pbl: agrees with asking for each address, on random pools and exemptions") {
    std::mt19937 random(11);
    for (int round = 0; round < 40; ++round) {
        ScratchDatabase database;
        const auto some = [&](unsigned shortest) {
            return Prefix(Family::v4, {100, 64, 0, static_cast<uint8_t>(random() % 256)},
                          static_cast<uint8_t>(shortest + random() % (33 - shortest)));
        };
        committed(*database, [&](Change& change) {
            for (unsigned n = 0; n < 6; ++n) {
                const Prefix prefix = some(24);
                if (!pool_of(*database, prefix) || pool_of(*database, prefix)->prefix != prefix) {
                    add_pool(change, prefix, {}, static_cast<Action>(random() % 4));
                }
            }
            add_relay(change, some(29), {}, {});
            for (unsigned n = 0; n < 12; ++n) assign(change, "c1", some(26), {}, false);
            exempt(change, "c1");
        });
        std::set<Prefix> listed;
        std::optional<Prefix> previous;
        export_pbl(
            *database,
            [&](const Prefix& prefix) {
                CHECK((!previous || (*previous < prefix && !previous->overlaps(prefix))));
                previous = prefix;
                for (int i = 0; i < 256; ++i) {
                    const Prefix address(Family::v4, {100, 64, 0, static_cast<uint8_t>(i)}, 32);
                    if (prefix.contains(address)) listed.insert(address);
                }
            },
            now());
        std::set<Prefix> expected;
        const std::vector<Relay> kept = relays(*database);
        for (int i = 0; i < 256; ++i) {
            const Prefix address(Family::v4, {100, 64, 0, static_cast<uint8_t>(i)}, 32);
            const auto pool = pool_of(*database, address);
            const bool blocked = pool && (pool->action == Action::drop || pool->action == Action::reject);
            if (blocked && !kept[0].prefix.contains(address) && !holder(*database, address, now())) {
                expected.insert(address);
            }
        }
        CHECK(listed == expected);
    }
}
