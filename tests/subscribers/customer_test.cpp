#include "subscribers/customer.hpp"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "scratch.hpp"
#include "seed.hpp"

using namespace smtpfence;

/// Assigns as one change; "added", "changed", "unchanged" with what was taken, or the refusal.
static std::string assigned(Database& database, const std::string& customer, const Prefix& prefix, bool take = false,
                            std::optional<Instant> until = {}) {
    std::string result;
    const std::string refused = refusal([&] {
        committed(database, [&](Change& change) {
            const Assigned done = assign(change, customer, prefix, until, take);
            result = done.added ? "added" : done.changed ? "changed" : "unchanged";
            for (const Assignment& taken : done.taken) result += " " + taken.customer + ":" + taken.prefix.text();
        });
    });
    return refused == "granted" ? result : refused;
}

/// "c1:10.0.0.1/32 c2:..." of what holds at `at`.
static std::string held(Database& database, Instant at = now(), const std::optional<std::string>& customer = {}) {
    std::string result;
    each_assignment(database, customer, at, [&](const Assignment& assignment) {
        result += (result.empty() ? "" : " ") + assignment.customer + ":" + assignment.prefix.text();
    });
    return result;
}

TEST_CASE("customer: ids") {
    for (const std::string& id : {std::string("c1"), std::string("Zoë 日本"), std::string("a b"), std::string("'; --"),
                                  std::string(255, 'x')}) {
        CHECK(refusal([&] { check_customer_id(id); }) == "granted");
    }
    for (const std::string& id :
         {std::string(), std::string(256, 'x'), std::string(" c1"), std::string("c1 "), std::string("c\n1"),
          std::string("c\0001", 3), std::string("\xff"), std::string("c\x7f"), std::string("\xc2\x85")}) {
        CHECK_THAT(refusal([&] { check_customer_id(id); }), Catch::StartsWith("invalid: customer "));
    }
}

TEST_CASE("customer: an assignment is added once and makes the customer") {
    ScratchDatabase database;
    CHECK_FALSE(customer_exists(*database, "c1"));
    CHECK(assigned(*database, "c1", "100.64.3.7"_p) == "added");
    CHECK(customer_exists(*database, "c1"));
    CHECK(log_of(*database, 1) == std::vector<std::string>{"customer c1 added", "assignment c1 100.64.3.7/32 added"});
    CHECK(assigned(*database, "c1", "100.64.3.7"_p) == "unchanged");
    CHECK(current_revision(*database) == 1);
    CHECK(assigned(*database, "c1", "2001:db8:0:ab00::/56"_p) == "added");
    CHECK(log_of(*database, 2) == std::vector<std::string>{"assignment c1 2001:db8:0:ab00::/56 added"});
    CHECK(held(*database) == "c1:100.64.3.7/32 c1:2001:db8:0:ab00::/56");
}

TEST_CASE("customer: the end of an assignment moves, and stays when none is stated") {
    ScratchDatabase database;
    const Instant soon = now() + Seconds(600), later = now() + Seconds(6000);
    CHECK(assigned(*database, "c1", "100.64.3.7"_p, false, soon) == "added");
    CHECK(assigned(*database, "c1", "100.64.3.7"_p, false, soon) == "unchanged");
    CHECK(assigned(*database, "c1", "100.64.3.7"_p) == "unchanged");
    CHECK(assigned(*database, "c1", "100.64.3.7"_p, false, later) == "changed");
    CHECK(holder(*database, "100.64.3.7"_p, now())->until == later);
    CHECK_THAT(assigned(*database, "c1", "100.64.3.7"_p, false, now()),
               Catch::StartsWith("invalid: ") && Catch::Contains("not in the future"));
    CHECK_THAT(assigned(*database, "c1", "0.0.0.0/0"_p), Catch::StartsWith("invalid: "));
}

TEST_CASE("customer: two customers never hold overlapping prefixes") {
    ScratchDatabase database;
    assigned(*database, "c1", "100.64.3.0/28"_p);
    CHECK_THAT(assigned(*database, "c2", "100.64.3.0/28"_p),
               Catch::StartsWith("conflict: ") && Catch::Contains("'c1'") && Catch::Contains("--take"));
    CHECK_THAT(assigned(*database, "c2", "100.64.3.7"_p),
               Catch::StartsWith("conflict: ") && Catch::Contains("100.64.3.0/28") && Catch::Contains("'c1'"));
    CHECK_THAT(assigned(*database, "c2", "100.64.3.0"_p), Catch::StartsWith("conflict: "));
    CHECK_THAT(assigned(*database, "c2", "100.64.0.0/16"_p),
               Catch::StartsWith("conflict: ") && Catch::Contains("100.64.3.0/28 is held by customer 'c1'"));
    CHECK_FALSE(customer_exists(*database, "c2"));
    CHECK(current_revision(*database) == 1);
    CHECK(assigned(*database, "c1", "100.64.3.7"_p) == "added");  // his own
    CHECK(assigned(*database, "c1", "100.64.3.0/24"_p) == "added");
    CHECK(assigned(*database, "c2", "100.64.4.0/24"_p) == "added");
    CHECK(assigned(*database, "c2", "100.64.2.255"_p) == "added");
}

TEST_CASE("customer: take ends what is equal or narrower, and names it") {
    ScratchDatabase database;
    assigned(*database, "c1", "100.64.3.1"_p);
    assigned(*database, "c2", "100.64.3.2"_p);
    assigned(*database, "c3", "100.64.3.3"_p);
    assigned(*database, "c4", "100.64.4.0/24"_p);
    CHECK(assigned(*database, "c3", "100.64.3.0/24"_p, true) == "added c1:100.64.3.1/32 c2:100.64.3.2/32");
    CHECK(log_of(*database, 5) == std::vector<std::string>{"assignment c1 100.64.3.1/32 ended",
                                                           "assignment c2 100.64.3.2/32 ended",
                                                           "assignment c3 100.64.3.0/24 added"});
    CHECK(held(*database) == "c3:100.64.3.0/24 c3:100.64.3.3/32 c4:100.64.4.0/24");
    CHECK_THAT(assigned(*database, "c5", "100.64.4.9"_p, true), Catch::StartsWith("conflict: ") &&
                                                                    Catch::Contains("never split") &&
                                                                    Catch::Contains("release 100.64.4.0/24"));
    CHECK(current_revision(*database) == 5);
    CHECK(assigned(*database, "c5", "100.64.4.0/24"_p, true) == "added c4:100.64.4.0/24");
}

TEST_CASE("customer: an assignment that is over is not held, and goes to history when met") {
    ScratchDatabase database;
    assigned(*database, "c1", "100.64.3.0/28"_p, false, now() + Seconds(600));
    let_pass(*database, Seconds(601));
    const Instant then = now() - Seconds(10);
    CHECK(held(*database).empty());
    CHECK_FALSE(holder(*database, "100.64.3.7"_p, now()));
    CHECK(holder(*database, "100.64.3.7"_p, then)->customer == "c1");
    CHECK(assigned(*database, "c2", "100.64.3.7"_p) == "added");
    CHECK(log_of(*database, 2) == std::vector<std::string>{"customer c2 added", "assignment c2 100.64.3.7/32 added"});
    CHECK(holder(*database, "100.64.3.7"_p, then)->customer == "c1");
    CHECK(holder(*database, "100.64.3.7"_p, now())->customer == "c2");
    CHECK(assigned(*database, "c1", "100.64.4.0/24"_p, false, now() + Seconds(600)) == "added");
    let_pass(*database, Seconds(601));
    CHECK(assigned(*database, "c1", "100.64.4.0/24"_p) == "added");  // anew, without an end
    CHECK_FALSE(holder(*database, "100.64.4.0/24"_p, now())->until);
}

TEST_CASE("customer: what is over can be released, as it may be over by a wrong clock only") {
    ScratchDatabase database;
    assigned(*database, "c1", "100.64.3.0/28"_p, false, now() + Seconds(600));
    let_pass(*database, Seconds(601));
    committed(*database, [](Change& change) {
        CHECK(release(change, "100.64.3.0/28"_p)->customer == "c1");
        CHECK_FALSE(release(change, "100.64.3.0/28"_p));
    });
    CHECK(log_of(*database, 2) == std::vector<std::string>{"assignment c1 100.64.3.0/28 ended"});
    CHECK(holder(*database, "100.64.3.7"_p, now() - Seconds(10))->customer == "c1");  // as history has it
}

TEST_CASE("customer: release needs the exact prefix") {
    ScratchDatabase database;
    assigned(*database, "c1", "100.64.3.0/28"_p);
    committed(*database, [](Change& change) {
        CHECK_FALSE(release(change, "100.64.3.0/27"_p));
        CHECK_FALSE(release(change, "100.64.3.0"_p));
        CHECK(change.empty());
        const auto released = release(change, "100.64.3.0/28"_p);
        REQUIRE(released);
        CHECK(released->customer == "c1");
        CHECK_FALSE(release(change, "100.64.3.0/28"_p));
    });
    CHECK(log_of(*database, 2) == std::vector<std::string>{"assignment c1 100.64.3.0/28 ended"});
    CHECK(held(*database).empty());
}

TEST_CASE("customer: who holds an address is the longest assignment, now and then") {
    ScratchDatabase database;
    assigned(*database, "c1", "100.64.0.0/16"_p);
    assigned(*database, "c1", "100.64.3.0/24"_p);
    assigned(*database, "c2", "2001:db8:0:ab00::/56"_p);
    let_pass(*database, Seconds(1000));
    const Instant then = now() - Seconds(500);
    CHECK(holder(*database, "100.64.3.7"_p, now())->prefix == "100.64.3.0/24"_p);
    CHECK(holder(*database, "100.64.3.0/24"_p, now())->prefix == "100.64.3.0/24"_p);
    CHECK(holder(*database, "100.64.2.0/23"_p, now())->prefix == "100.64.0.0/16"_p);
    CHECK_FALSE(holder(*database, "100.65.0.1"_p, now()));
    CHECK_FALSE(holder(*database, "100.0.0.0/8"_p, now()));
    CHECK_FALSE(holder(*database, "100.64.3.7"_p, now() - Seconds(2000)));
    CHECK(holder(*database, "2001:db8:0:ab12::1"_p, now())->customer == "c2");
    committed(*database, [](Change& change) {
        release(change, "100.64.3.0/24"_p);
        release(change, "100.64.0.0/16"_p);
    });
    assigned(*database, "c9", "100.64.3.7"_p);
    CHECK(holder(*database, "100.64.3.7"_p, now())->customer == "c9");
    CHECK(holder(*database, "100.64.3.7"_p, then)->prefix == "100.64.3.0/24"_p);
    CHECK(holder(*database, "100.64.3.7"_p, then)->ended);
    CHECK(held(*database, then) == "c1:100.64.0.0/16 c1:100.64.3.0/24 c2:2001:db8:0:ab00::/56");
    CHECK(held(*database, then, "c1") == "c1:100.64.0.0/16 c1:100.64.3.0/24");
    CHECK(held(*database, now(), "c1").empty());
    CHECK(held(*database) == "c9:100.64.3.7/32 c2:2001:db8:0:ab00::/56");
    CHECK(held_within(*database, "100.64.0.0/16"_p, then, 10).size() == 2);
    CHECK(held_within(*database, "100.64.0.0/16"_p, then, 1).at(0).prefix == "100.64.0.0/16"_p);
    CHECK(held_within(*database, "100.64.0.0/17"_p, then, 10).at(0).prefix == "100.64.3.0/24"_p);
    CHECK(held_within(*database, "100.64.3.0/24"_p, now(), 10).at(0).customer == "c9");
}

TEST_CASE("customer: ids that look alike") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        for (const char* id : {"c100", "c1001", "c101", "c1234", "d100", "Zoë"}) mention_customer(change, id);
    });
    using Ids = std::vector<std::string>;
    CHECK(similar_customers(*database, "c10") == Ids{"c100", "c101", "c1001"});
    CHECK(similar_customers(*database, "c1243") == Ids{"c1234"});
    CHECK(similar_customers(*database, "e100") == Ids{"d100", "c100"});
    CHECK(similar_customers(*database, "c123") == Ids{"c1234"});
    CHECK(similar_customers(*database, "Zoe").empty());  // two bytes away
    CHECK(similar_customers(*database, "unlike").empty());
    CHECK(similar_customers(*database, "c1001") == Ids{"c101", "c100"});
}

/// Whether two customers' prefixes overlap in what is held now.
static std::string overlap(Database& database) {
    std::vector<Assignment> all;
    each_assignment(database, {}, now(), [&](const Assignment& assignment) { all.push_back(assignment); });
    for (size_t i = 0; i < all.size(); ++i) {
        for (size_t j = i + 1; j < all.size() && all[i].prefix.contains(all[j].prefix); ++j) {
            if (all[i].customer != all[j].customer) {
                return fmt::format("{} of {} and {} of {}", all[i].prefix.text(), all[i].customer, all[j].prefix.text(),
                                   all[j].customer);
            }
        }
    }
    return "none";
}

TEST_CASE("customer: processes that write at once never make two customers overlap, nor lose a revision") {
    ScratchDatabase database;
    const unsigned seed = printed_seed();
    INFO("SMTPFENCE_SEED=" << seed);
    std::vector<pid_t> children;
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    for (unsigned child = 0; child < 3; ++child) {
        const pid_t pid = fork();
        if (pid == 0) {
            std::mt19937 random(seed + child);
            const auto session = database.open();
            int64_t writes = 0;
            try {
                for (int i = 0; i < 150; ++i) {
                    const auto length = static_cast<uint8_t>(26 + random() % 7);
                    Prefix::Address address{10, 0, 0, static_cast<uint8_t>(random())};
                    const Prefix prefix(Family::v4, address, length);
                    Change change(*session, alice, "assign");
                    try {
                        if (random() % 4 == 0) {
                            release(change, prefix);
                        } else {
                            assign(change, fmt::format("c{}", child), prefix, {}, random() % 4 == 0);
                        }
                    } catch (const Refused&) {
                        continue;
                    }
                    writes += !change.empty();
                    change.commit();
                }
            } catch (const std::exception& error) {
                std::fprintf(stderr, "%s\n", error.what());
                _exit(1);
            }
            _exit(write(ends[1], &writes, sizeof writes) == sizeof writes ? 0 : 1);
        }
        children.push_back(pid);
    }
    close(ends[1]);
    const auto reader = database.open(OpenMode::read);
    Revision last = 0;
    for (int looks = 0; looks < 200; ++looks) {
        const Reading reading(*reader);
        REQUIRE(overlap(*reader) == "none");
        const Revision revision = current_revision(*reader);
        int64_t logged = 0;
        reader->query("SELECT count(*) FROM revision", {}, [&](const Row& row) { logged = row.integer(0); });
        REQUIRE(logged == revision);  // state and log are one
        REQUIRE(revision >= last);
        last = revision;
    }
    int64_t writes = 0;
    for (int64_t part; read(ends[0], &part, sizeof part) == sizeof part;) writes += part;
    close(ends[0]);
    for (pid_t child : children) {
        int status = 1;
        waitpid(child, &status, 0);
        CHECK(status == 0);
    }
    CHECK(writes > 100);
    CHECK(current_revision(*database) == writes);
    CHECK(overlap(*database) == "none");
}
