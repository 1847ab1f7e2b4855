#include "controller/explanation.hpp"

#include <catch2/catch.hpp>
#include <thread>

#include "controller/enforcement.hpp"
#include "rules/model_kernel.hpp"
#include "subscribers/router.hpp"
#include "subscribers/scratch.hpp"

using namespace smtpfence;
using namespace std::chrono_literals;

namespace {

struct World {
    ScratchDatabase database;
    World() {
        committed(*database, [](Change& change) {
            add_relay(change, "203.0.113.10"_p, {}, {});
            add_pool(change, "100.64.0.0/16"_p, {}, Action::drop);
            add_pool(change, "100.64.8.0/24"_p, {}, Action::observe);
            add_pool(change, "2001:db8:100::/40"_p, {}, Action::reject);
            assign(change, "c1", "100.64.3.7"_p, {}, false);
            assign(change, "c1", "2001:db8:100:700::/56"_p, {}, false);
        });
    }
    void grant(const std::string& customer) {
        committed(*database, [&](Change& change) { grant_exemption(change, {customer, "test", {}, {}, 86400s, {}}); });
    }
    Judgement judged(const Prefix& line, std::optional<Prefix> to = {}) { return judged_at(line, now(), to); }
    Judgement judged_at(const Prefix& line, Instant at, std::optional<Prefix> to = {}) {
        return desired_judgement(circumstances(*database, line, to, at, now()), {}, line, to);
    }
};

// The change log counts whole seconds.
void pass_a_second() { std::this_thread::sleep_for(1100ms); }

}  // namespace

TEST_CASE("explanation: the longest pool decides, and a relay is always reachable") {
    World world;
    CHECK(world.judged("100.64.3.7"_p).verdict == Action::drop);
    CHECK(world.judged("100.64.8.1"_p).verdict == Action::observe);
    CHECK(world.judged("2001:db8:100:701::1"_p).verdict == Action::reject);
    CHECK(world.judged("100.64.3.7"_p, "203.0.113.10"_p).verdict == Action::pass);
    CHECK(world.judged("100.64.3.7"_p, "198.51.100.1"_p).verdict == Action::drop);
    const Judgement outside = world.judged("192.0.2.1"_p);
    CHECK(outside.verdict == Action::pass);
    CHECK(outside.rule == "no rule: not fenced");
    CHECK(outside.element.empty());
}

TEST_CASE("explanation: an exemption opens every line of its customer, until its earlier end") {
    World world;
    world.grant("c1");
    const Judgement judgement = world.judged("2001:db8:100:701::1"_p);
    CHECK(judgement.verdict == Action::pass);
    CHECK(judgement.exempt);
    CHECK(judgement.element == "2001:db8:100:700::/56 in exempt6_56");
    CHECK(world.judged("100.64.3.7"_p).exempt);
    CHECK_FALSE(world.judged("100.64.3.8"_p).exempt);
    // A time to come: the exemption is over by then.
    CHECK(world.judged_at("100.64.3.7"_p, now() + 2 * 86400s).verdict == Action::drop);
}

TEST_CASE("explanation: the past is told from the change log") {
    World world;
    world.grant("c1");
    const Instant before = now();
    pass_a_second();
    committed(*world.database, [](Change& change) {
        revoke_exemption(change, "c1", "abuse");
        release(change, "100.64.3.7"_p);
        assign(change, "c2", "100.64.3.7"_p, {}, false);
        set_pool(change, "2001:db8:100::/40"_p, Action::pass);
        add_relay(change, "203.0.113.11"_p, {}, {});
    });
    const auto then = circumstances(*world.database, "100.64.3.7"_p, {}, before, now());
    REQUIRE(then.held);
    CHECK(then.held->customer == "c1");
    REQUIRE(then.exemption);
    CHECK_FALSE(then.exemption->revoked);
    CHECK(world.judged_at("100.64.3.7"_p, before).exempt);
    CHECK(world.judged_at("2001:db8:100:800::1"_p, before).verdict == Action::reject);
    CHECK(world.judged_at("100.64.3.8"_p, before, "203.0.113.11"_p).verdict == Action::drop);

    CHECK(circumstances(*world.database, "100.64.3.7"_p, {}, now(), now()).held->customer == "c2");
    CHECK(world.judged("100.64.3.7"_p).verdict == Action::drop);
    CHECK(world.judged("2001:db8:100:800::1"_p).verdict == Action::pass);
    CHECK(world.judged("100.64.3.8"_p, "203.0.113.11"_p).verdict == Action::pass);
}

TEST_CASE("explanation: nothing was fenced before the first pool") {
    ScratchDatabase database;
    const Instant before = now();
    pass_a_second();
    committed(*database, [](Change& change) {
        add_relay(change, "203.0.113.10"_p, {}, {});
        add_pool(change, "100.64.0.0/16"_p, {}, Action::drop);
    });
    const auto then = circumstances(*database, "100.64.3.7"_p, {}, before, now());
    CHECK_FALSE(then.pool);
    CHECK(desired_judgement(then, {}, "100.64.3.7"_p, {}).verdict == Action::pass);
}

TEST_CASE("explanation: the kernel answers by key, whatever its exemption sets were grown to") {
    World world;
    world.grant("c1");
    ModelKernel kernel(now());
    const std::vector<Prefix> relays = {"203.0.113.10"_p}, pools = {"100.64.0.0/16"_p};
    CHECK_FALSE(holds_any(kernel, relays, pools));
    CHECK(kernel_judgement(kernel, "100.64.3.7"_p, {}).verdict == Action::pass);

    Enforcement enforcement(kernel, {});
    enforcement.take();
    enforcement.follow(*world.database, now());
    const size_t readings = kernel.readings;
    CHECK(holds_any(kernel, relays, {}));
    CHECK(holds_any(kernel, {}, pools));
    CHECK_FALSE(holds_any(kernel, {"203.0.113.99"_p}, {"100.99.0.0/16"_p}));
    const auto exempted = kernel_judgement(kernel, "100.64.3.7"_p, {});
    CHECK(exempted.exempt);
    CHECK(kernel_judgement(kernel, "100.64.3.8"_p, {}).verdict == Action::drop);
    CHECK(kernel_judgement(kernel, "100.64.8.8"_p, {}).verdict == Action::observe);
    CHECK(kernel_judgement(kernel, "100.64.3.8"_p, "203.0.113.10"_p).verdict == Action::pass);
    CHECK(kernel.readings == readings);  // never by dumping

    kernel.meddle([](Fence& table) {
        auto set = table.sets.extract("exempt4_32");
        set.key() = "exempt4_32_131072";
        table.sets.insert(std::move(set));
    });
    const auto grown = kernel_judgement(kernel, "100.64.3.7"_p, {});
    CHECK(grown.exempt);
    CHECK(grown.element == "100.64.3.7 in exempt4_32_131072");
    CHECK(grown.rule == "ip saddr @exempt4_32_131072 return");

    kernel.meddle([](Fence& table) { table.sets["exempt4_32_131072"].elements.clear(); });
    CHECK(kernel_judgement(kernel, "100.64.3.7"_p, {}).verdict == Action::drop);
}

TEST_CASE("explanation: parts of a prefix that have an answer of their own") {
    World world;
    CHECK(parts_inside(*world.database, "192.0.2.0/24"_p, now()).empty());
    CHECK(parts_inside(*world.database, "100.64.3.7"_p, now()).empty());
    const auto parts = parts_inside(*world.database, "100.64.0.0/16"_p, now());
    CHECK(parts == std::vector<std::string>{"pool 100.64.8.0/24", "100.64.3.7/32 of customer 'c1'"});
}
