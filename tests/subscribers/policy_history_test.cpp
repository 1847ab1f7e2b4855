// Random histories: a follower of differences holds what reading everything gives.

#include <fmt/format.h>

#include <map>
#include <random>

#include "scratch.hpp"
#include "seed.hpp"
#include "subscribers/policy.hpp"

using namespace smtpfence;

namespace {

std::string text(const std::deque<Right>& rights) {
    std::string result;
    for (const Right& right : rights) {
        result += (result.empty() ? "" : " ") + right.prefix.text() + "@" + format_instant(right.until);
    }
    return result;
}

/// Follows by differences, as a router does.
struct Follower {
    Policy held;
    Instant time;
    int differences = 0;

    explicit Follower(Database& database) : time(now()) { held = read_policy(database, time); }

    void follow(Database& database, Instant at) {
        if (const auto delta = read_delta(database, held.revision, time, at, 200)) {
            ++differences;
            take(*delta);
        } else {
            held = read_policy(database, at);
        }
        time = at;
    }

    void take(const PolicyDelta& delta) {
        std::map<Prefix, Instant> rights;
        for (const Right& right : held.rights) rights[right.prefix] = right.until;
        for (const auto& [prefix, until] : delta.rights) {
            if (until) {
                rights[prefix] = *until;
            } else {
                rights.erase(prefix);
            }
        }
        held.rights.clear();
        for (const auto& [prefix, until] : rights) held.rights.push_back({prefix, until});
        if (delta.relays) held.relays = *delta.relays;
        if (delta.pools) held.pools = *delta.pools;
        held.revision = delta.revision;
    }

    void let_pass(Seconds elapsed) {
        time -= elapsed;
        for (Right& right : held.rights) right.until -= elapsed;
    }
};

/// One random thing that happens to customers, pools or relays.
class History {
public:
    History(Database& database, unsigned seed) : database_(database), random_(seed) {}

    void step() {
        Change change(database_, alice, "random");
        try {
            const unsigned writes = 1 + below(3);
            for (unsigned i = 0; i < writes; ++i) write(change);
            change.commit();
        } catch (const Refused&) {
        }
    }
    Seconds some_time() { return Seconds(random_() % 300); }
    unsigned below(unsigned limit) { return static_cast<unsigned>(random_() % limit); }

private:
    std::string customer() { return fmt::format("c{}", random_() % 12); }
    Prefix prefix() {
        const bool v4 = random_() % 2 == 0;
        const auto byte = static_cast<uint8_t>(random_());
        const auto length = static_cast<uint8_t>((v4 ? 26 : 58) + random_() % 6);
        return v4 ? Prefix(Family::v4, {100, 64, 0, byte}, length)
                  : Prefix(Family::v6, {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, byte}, length);
    }
    std::optional<Instant> end(const Change& change) {
        return random_() % 2 == 0 ? std::nullopt : std::optional(change.time() + Seconds(1 + random_() % 900));
    }
    void write(Change& change) {
        const Seconds duration(1 + random_() % 900);
        switch (random_() % 12) {
            case 0:
            case 1:
            case 2:
                assign(change, customer(), prefix(), end(change), false);
                break;
            case 3:
            case 4:
                assign(change, customer(), prefix(), end(change), true);
                break;
            case 5:
                release(change, prefix());
                break;
            case 6:
            case 7:
                grant_exemption(change, {customer(), "own server", "T1", {}, duration, {}});
                break;
            case 8:
                renew_exemption(change, {customer(), "longer", {}, {}, duration, {}});
                break;
            case 9:
                revoke_exemption(change, customer(), "abuse");
                break;
            case 10:
                add_pool(change, prefix(), {}, Action::drop);
                remove_pool(change, prefix());
                break;
            case 11:
                add_relay(change, prefix(), {}, {0, 0});
                if (random_() % 2) remove_relay(change, prefix());
                break;
        }
    }

    Database& database_;
    std::mt19937 random_;
};

}  // namespace

TEST_CASE("policy: differences lead to the same policy as reading all of it") {
    for (const unsigned seed : {1u, 2u, 3u, printed_seed()}) {
        INFO("SMTPFENCE_SEED=" << seed);
        const auto memory = open_database("sqlite::memory:", OpenMode::create);
        Database& database = *memory;
        migrate(database);
        History history(database, seed);
        Follower follower(database);
        Policy earlier = read_policy(database, now());
        Instant read_at = now();
        size_t most_rights = 0;
        int looks = 0, brought_up = 0;
        for (int step = 0; step < 400; ++step) {
            CAPTURE(step);
            history.step();
            if (history.below(3) == 0) {
                const Seconds elapsed = history.some_time();
                let_pass(database, elapsed);
                follower.let_pass(elapsed);
                read_at = Instant::max();  // before all that was stored has moved
            }
            if (history.below(2) == 0) continue;
            ++looks;
            const Instant at = now();
            follower.follow(database, at);
            const Policy all = read_policy(database, at);
            REQUIRE(text(follower.held.rights) == text(all.rights));
            REQUIRE(follower.held.pools == all.pools);
            REQUIRE(follower.held.relays == all.relays);
            REQUIRE(follower.held.revision == all.revision);
            if (read_at <= at) {
                auto since = read_delta(database, earlier.revision, read_at, at, 100);
                REQUIRE(since);
                bring_up(earlier, std::move(*since));
                REQUIRE(text(earlier.rights) == text(all.rights));
                REQUIRE(earlier.pools == all.pools);
                REQUIRE(earlier.relays == all.relays);
                REQUIRE(earlier.revision == all.revision);
                ++brought_up;
            }
            earlier = all;
            read_at = at;
            most_rights = std::max(most_rights, all.rights.size());
        }
        CHECK(brought_up > 30);
        CHECK(most_rights >= 5);                       // the history was one worth following
        CHECK(follower.differences > looks * 9 / 10);  // and was followed by differences
    }
}
