// The contract of the boundary, second part: what changed, by whom, and whether it is still there.

#include <poll.h>

#include <cerrno>

#include "rules/scenario.hpp"
#include "rules/stage.hpp"

using namespace smtpfence;

TEST_CASE("kernel: commits of our own are not heard, those of others are, until a large one") {
    const Stage kernel(GENERATE("model", "real as an old one"));
    const auto readable = [&] {
        pollfd descriptor{kernel->listener(), POLLIN, 0};
        return poll(&descriptor, 1, 0) == 1;
    };
    kernel->take();
    REQUIRE_FALSE(kernel->owned());
    CHECK(kernel->listener() == -1);
    kernel.meddle();
    CHECK(kernel->foreign_commits().empty());
    kernel->listen();
    kernel->listen();
    REQUIRE(kernel->listener() >= 0);
    bring(*kernel, compile(small_policy(now()), small_border(), {}));
    CHECK_FALSE(readable());
    CHECK(kernel->foreign_commits().empty());

    kernel.meddle();
    kernel.meddle();
    CHECK(readable());
    const auto heard = kernel->foreign_commits();
    REQUIRE(heard.size() == 2);
    CHECK(heard[0].program == "nft");
    CHECK(heard[0].pid != 0);
    CHECK_FALSE(readable());
    CHECK(kernel->foreign_commits().empty());

    bring(*kernel, compile(many_rights(2000, now()), {}, {}));
    CHECK(kernel->listener() == -1);
    kernel->listen();
    kernel.meddle();
    CHECK(readable());
}

TEST_CASE("kernel: what was worked out before somebody else's commit is refused, and nothing of it is done") {
    const Stage kernel(EACH_KERNEL);
    kernel->take();
    bring(*kernel, compile({}, {}, {}));
    const Transaction grant{{AddElements{"exempt4_32", {{line("100.64.0.1"), {}}}}}};
    const uint32_t before = kernel->generation();
    kernel.meddle();
    CHECK_THROWS_AS(kernel->commit(grant, before), KernelError);
    try {
        kernel->commit(grant, before);
    } catch (const KernelError& error) {
        CHECK(error.code == ERESTART);
        CHECK_THAT(error.what(), Catch::Contains("another program changed nftables meanwhile"));
    }
    CHECK_FALSE(kernel->find("exempt4_32", line("100.64.0.1")));
    kernel->commit(grant, kernel->generation());
    CHECK(kernel->find("exempt4_32", line("100.64.0.1")));
}

TEST_CASE("kernel: held answers for each key, whatever is missing between them") {
    const Stage kernel(EACH_KERNEL);
    kernel->take();
    const Instant start = now();
    Policy policy = many_rights(1000, start);
    policy.rights[17].until = start + Seconds{1000};
    policy.rights[18].until = start + Seconds{1};
    std::vector<Key> keys;
    for (const Right& right : policy.rights) keys.push_back(to_key(right.prefix));
    bring(*kernel, compile(policy, {}, {}));
    DeleteElements gone{"exempt4_32", {}};
    for (const size_t index : {size_t{0}, size_t{300}, size_t{301}, size_t{302}, size_t{999}})
        gone.elements.push_back({keys[index], {}});
    kernel->commit({{gone}});
    kernel.wait(Seconds{2});
    const auto held = kernel->held("exempt4_32", keys);
    REQUIRE(held.size() == keys.size());
    for (size_t i = 0; i < keys.size(); ++i) {
        CAPTURE(i);
        const bool missing = i == 0 || i == 18 || (i >= 300 && i <= 302) || i == 999;
        REQUIRE(held[i].has_value() == !missing);
    }
    CHECK(std::chrono::abs(held[17]->until - policy.rights[17].until) <= Seconds{1});
    CHECK(kernel->held("exempt4_32", {}).empty());
    CHECK(kernel->held("exempt4_19", keys) == std::vector<std::optional<Held>>(keys.size()));
    const auto count = kernel->count("exempt4_32");
    CHECK((!count || *count == 994 || *count == 995));  // one has ended, and may not be collected yet
    CHECK_FALSE(kernel->count("exempt4_19"));
}

namespace {

/// A kernel that holds 700 exemptions.
struct Filled {
    Stage kernel;
    Fence desired = compile(many_rights(700, now()), {}, {});

    explicit Filled(const std::string& which) : kernel(which) {
        kernel->take();
        bring(*kernel, desired);
    }
};

}  // namespace

TEST_CASE("kernel: reading is the same whatever was expected") {
    const Filled filled(EACH_KERNEL);
    const auto& [kernel, desired] = filled;
    Fence expected = desired;
    Elements& elements = expected.sets.at("exempt4_32").elements;
    SECTION("exactly that") {}
    SECTION("more") { elements.emplace(line("192.0.2.1"), Held{}); }
    SECTION("less") { elements.erase(elements.begin()); }
    SECTION("nothing") { elements.clear(); }
    SECTION("other ends") { elements.begin()->second.until = now() + Seconds{5}; }
    SECTION("as many others") {
        elements.erase(elements.begin());
        elements.emplace(line("192.0.2.1"), Held{});
    }
    SECTION("in a set of another capacity") {
        expected.sets["exempt4_32_131072"] = expected.sets.at("exempt4_32");
        expected.sets.erase("exempt4_32");
    }
    SECTION("a set that isn't there") { expected.sets["exempt4_19"] = expected.sets.at("exempt4_32"); }
    const Fence actual = kernel->read(std::move(expected));
    CHECK(left_to_do(actual, desired) == "");
    CHECK(actual.sets.at("exempt4_32").elements.size() == 700);
    CHECK(actual.sets.size() == desired.sets.size());
}

TEST_CASE("kernel: by numbers, as many elements pass for the expected ones, and others are told as they are") {
    const Filled filled(EACH_KERNEL);
    const auto& [kernel, desired] = filled;
    Fence expected = desired;
    Elements& elements = expected.sets.at("exempt4_32").elements;
    elements.erase(elements.begin());
    const auto read = [&] { return kernel->read(expected, Comparison::numbers).sets.at("exempt4_32").elements; };
    SECTION("less") { CHECK(left_to_do(kernel->read(expected, Comparison::numbers), desired) == ""); }
    elements.emplace(line("192.0.2.1"), Held{});
    const bool told = kernel->count("exempt4_32").has_value();
    SECTION("as many") { CHECK(read().contains(line("192.0.2.1")) == told); }
    SECTION("more") {
        elements.emplace(line("192.0.2.2"), Held{});
        CHECK(left_to_do(kernel->read(expected, Comparison::numbers), desired) == "");
    }
}

TEST_CASE("kernel: what others touch of our table is told") {
    const Stage kernel(GENERATE("model", "real as an old one"));
    kernel->take();
    Policy policy = small_policy(now());
    policy.rights = {{Prefix::parse("100.64.7.7"), never}, {Prefix::parse("2001:db8:0:700::/56"), never}};
    bring(*kernel, compile(policy, small_border(), {}));
    kernel->listen();
    const uint32_t before = kernel->generation();
    const auto touched = [&](const std::string& script, const std::function<void(Fence&)>& change) {
        kernel.meddle(script, change);
        Touched all;
        for (ForeignCommit& commit : kernel->foreign_commits()) all.merge(std::move(commit.touched));
        CHECK_FALSE(all.everything);
        return all;
    };
    using Exemptions = std::map<std::string, std::vector<Key>>;

    const Touched granted = touched("add element inet smtpfence exempt4_32 { 192.0.2.1 }", [](Fence& table) {
        table.sets["exempt4_32"].elements.emplace(line("192.0.2.1"), Held{});
    });
    CHECK(granted.exemptions == Exemptions{{"exempt4_32", {line("192.0.2.1")}}});
    CHECK_FALSE(granted.outline);
    const Touched revoked = touched("delete element inet smtpfence exempt6_56 { 2001:db8:0:700:: }", [](Fence& table) {
        table.sets["exempt6_56"].elements.erase(line("2001:db8:0:700::/56"));
    });
    CHECK(revoked.exemptions == Exemptions{{"exempt6_56", {line("2001:db8:0:700::/56")}}});
    const Touched relay = touched("add element inet smtpfence relay4 { 192.0.2.9 }", [](Fence& table) {
        table.sets["relay4"].elements.emplace(line("192.0.2.9"), Held{});
    });
    CHECK(relay.outline);
    CHECK(relay.exemptions.empty());
    const Touched rule = touched("add rule inet smtpfence outbound accept",
                                 [](Fence& table) { table.chains["outbound"].rules.emplace_back(); });
    CHECK(rule.outline);
    const Touched set = touched("add set inet smtpfence exempt4_19 { type ipv4_addr; size 7; }",
                                [](Fence& table) { table.sets["exempt4_19"].shape.size = 7; });
    CHECK(set.remade == std::set<std::string>{"exempt4_19"});
    kernel.meddle();
    const auto elsewhere = kernel->foreign_commits();
    REQUIRE(elsewhere.size() == 1);
    CHECK(elsewhere[0].touched.nothing());
    CHECK(elsewhere[0].generation == before + 6);
    CHECK(kernel->generation() == before + 6);
    const Touched flushed = touched("flush ruleset", [](Fence& table) { table = {}; });
    CHECK(flushed.outline);
    CHECK(flushed.remade.contains("exempt4_32"));
}
