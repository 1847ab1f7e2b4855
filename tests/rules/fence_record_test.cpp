#include "rules/fence_record.hpp"

#include <catch2/catch.hpp>

#include "rules/scenario.hpp"
#include "subscribers/error.hpp"

using namespace smtpfence;

namespace {

std::string lines_of(const Fence& fence) {
    std::string lines;
    each_record_line(fence, [&](std::string_view line) { lines += line; });
    return lines;
}

Fence read_back(std::string_view lines, Instant now) {
    FenceReader reader;
    reader.read(lines);
    return std::move(reader).fence(now);
}

Instant past() { return to_instant(0); }

}  // namespace

TEST_CASE("fence_record: a small fence reads like a document") {
    Policy policy;
    policy.relays = {Prefix::parse("192.0.2.10")};
    policy.pools = {{Prefix::parse("100.64.0.0/16"), Action::drop}, {Prefix::parse("2001:db8::/40"), Action::pass}};
    policy.rights = {{Prefix::parse("100.64.3.7"), to_instant(1798761600)},
                     {Prefix::parse("2001:db8:0:100::/56"), never}};
    CHECK(lines_of(compile(policy, {{"vlan*"}, Action::reject}, {})) ==
          "+exempt 100.64.3.7/32 1798761600\n"
          "+exempt 2001:db8:0:100::/56 never\n"
          "+pool 100.64.0.0/16 drop\n"
          "+pool 2001:db8::/40 pass\n"
          "+relay 192.0.2.10/32\n"
          "+interface \"vlan*\" reject\n");
}

TEST_CASE("fence_record: any fence comes back from its lines") {
    std::mt19937 random(20261124);
    for (int round = 0; round < 100; ++round) {
        const Fence fence = compile(random_policy(random, test_time()), random_border(random), {});
        CAPTURE(round);
        CHECK(left_to_do(read_back(lines_of(fence), past()), fence).empty());
    }
}

TEST_CASE("fence_record: the lines of the differences lead from one fence to the other") {
    std::mt19937 random(7);
    Fence fence;
    FenceReader reader;
    for (int round = 0; round < 60; ++round) {
        const Fence desired = compile(random_policy(random, test_time()), random_border(random), fence);
        for (const Transaction& transaction : difference(fence, desired, test_time()).transactions) {
            reader.read(record_lines(transaction));
            perform(fence, transaction);
        }
        FenceReader copy = reader;
        CAPTURE(round);
        CHECK(lines_of(std::move(copy).fence(past())) == lines_of(fence));
    }
}

TEST_CASE("fence_record: rights that are over do not come back, and sets are large enough") {
    std::string lines =
        "+exempt 100.64.0.1/32 100\n+exempt 100.64.0.2/32 never\n+exempt 100.64.0.3/32 99\n"
        "+exempt 100.64.0.4/32 50\n+exempt 100.64.0.5/32 98\n-exempt 100.64.0.5/32\n+exempt 100.64.0.6/32 999\n"
        "-exempt 100.64.0.6/32\n+exempt 100.64.0.7/32 98\n-exempt 100.64.0.7/32\n+exempt 100.64.0.7/32 never\n";
    for (int i = 0; i < 5000; ++i)
        lines += "+exempt 100.65." + std::to_string(i / 250) + "." + std::to_string(i % 250) + "/32 never\n";
    const Fence fence = read_back(lines, to_instant(100));
    CHECK(fence.sets.at("exempt4_32_16384").elements.size() == 5002);
    CHECK_FALSE(fence.sets.contains("exempt4_32"));
    CHECK_FALSE(fence.sets.at("exempt4_32_16384").elements.contains(to_key(Prefix::parse("100.64.0.1"))));
    CHECK(fence.sets.at("exempt4_32_16384").ended.size() == 4);  // .1, .3, .5, and .7 before it was given again
}

TEST_CASE("fence_record: what no program of ours writes is refused with its line") {
    for (const char* line : {"pool 100.64.0.0/16 drop", "+pool 100.64.0.0/16", "+pool 100.64.0.0/16 open",
                             "+pool 100.64.0.1/16 drop", "+relay 192.0.2.1 drop", "+exempt 100.64.0.1 soon",
                             "+exempt 100.64.0.1 -5", "+exempt 100.64.0.1 99999999999999999", "+attempts 100.64.0.1",
                             "+interface bng0 drop", "+interface \"\" drop", "-pool 100.64.0.0/16 drop", "+", ""}) {
        CAPTURE(line);
        CHECK_THROWS_AS(read_back(std::string(line) + "\n", past()), Refused);
    }
}

TEST_CASE("fence_record: only what is given to customers may reach the disk late") {
    const ElementList one{{to_key(Prefix::parse("100.64.0.1")), {}}};
    CHECK_FALSE(narrows({{AddElements{"exempt4_32", one}}}));
    CHECK(narrows({{DeleteElements{"exempt4_32", one}, AddElements{"exempt4_32", one}}}));
    CHECK(narrows({{AddElements{"pool4", one}}}));
    CHECK(narrows({{DeleteElements{"relay4", one}}}));
    CHECK(narrows({{DeleteSet{"exempt4_32", {one.front().first}}}}));
    CHECK_FALSE(narrows({{DeleteSet{"exempt4_32"}}}));
    CHECK_FALSE(narrows({{AddSet{"exempt4_32", {}}}}));
}

TEST_CASE("fence_record: two fences with the same lines are told from others") {
    const Instant time = test_time();
    const Fence fence = compile(small_policy(time), small_border(), {});
    CHECK(same_record(fence, fence));
    CHECK(same_record({}, compile({}, {}, {})));
    Fence other = fence;
    Elements& exempt = other.sets.at("exempt4_32").elements;
    bool same = false;
    SECTION("one more") { exempt.emplace(to_key(Prefix::parse("192.0.2.1")), Held{}); }
    SECTION("one less") { exempt.erase(exempt.begin()); }
    SECTION("another end") { exempt.begin()->second.until = time + Seconds{5}; }
    SECTION("no pools") { other.sets.at("pool4").elements.clear(); }
    SECTION("another action") { other.sets.at("pool4").elements.begin()->second.action = Action::pass; }
    SECTION("other rules only") {
        other.chains.clear();
        same = true;
    }
    SECTION("in a larger set") {
        other.sets["exempt4_32_131072"] = other.sets.at("exempt4_32");
        other.sets.erase("exempt4_32");
        same = true;
    }
    CHECK(same_record(fence, other) == same);
}

TEST_CASE("fence_record: what ended by itself stays known, and is over whatever the clock says") {
    const Instant now = to_instant(1000);
    Fence fence = compile({}, {}, {});
    Set& set = fence.sets.at("exempt4_32");
    const Key ended = to_key(Prefix::parse("100.64.0.1")), given_again = to_key(Prefix::parse("100.64.0.2"));
    set.ended = {{ended, {{}, to_instant(998)}}, {given_again, {{}, to_instant(999)}}};
    set.elements = {{given_again, {{}, to_instant(5000)}}};
    const Set read = read_back(lines_of(fence), now).sets.at("exempt4_32");
    CHECK(read.elements == set.elements);
    CHECK(read.ended == set.ended);
    CHECK(read_back(lines_of(fence), to_instant(100)).sets.at("exempt4_32").elements == set.elements);
}
