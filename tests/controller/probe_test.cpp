// With real packets through a real kernel; needs root.

#include "controller/probe.hpp"

#include <algorithm>
#include <catch2/catch.hpp>

#include "controller/probe_samples.hpp"
#include "subscribers/scratch.hpp"

using namespace smtpfence;

namespace {

const Border with_lines{{"bng0", "vlan*"}, Action::drop};

Policy everything(Instant time) {
    Policy policy;
    policy.relays = {"203.0.113.10/32"_p, "2001:db8:25::/64"_p};
    policy.pools = {{"100.64.0.0/16"_p, Action::drop},       {"100.64.8.0/24"_p, Action::reject},
                    {"100.66.0.0/16"_p, Action::observe},    {"100.67.0.0/16"_p, Action::pass},
                    {"2001:db8:100::/40"_p, Action::reject}, {"2001:db8:200::/40"_p, Action::drop}};
    const Instant until = time + Seconds{86400};
    policy.rights = {{"100.64.0.1/32"_p, until}, {"100.64.0.2/31"_p, until}, {"2001:db8:100::/56"_p, until}};
    return policy;
}

/// The packets that the table of `enforced` judges otherwise than `asked` does.
std::vector<std::string> differences(const Policy& asked, const Policy& enforced, const Border& border, Instant time) {
    const ProbePlan plan = plan_probe(asked, border, time);
    ScratchNetwork network(plan.interfaces());
    require_paths(network, plan);
    const auto kernel = open_kernel();
    enforce(*kernel, enforced, border, time);
    std::vector<std::string> wrong;
    for (const ProbeCase& one : plan.cases) {
        if (const Verdict seen = verdict(network, one); seen != one.expected)
            wrong.push_back(text(one) + ": " + word(seen));
    }
    return wrong;
}

size_t count(const std::vector<std::string>& lines, const std::string& beginning) {
    return static_cast<size_t>(std::count_if(lines.begin(), lines.end(),
                                             [&](const std::string& line) { return line.starts_with(beginning); }));
}

}  // namespace

TEST_CASE("probe samples: the first host of a pool that is neither exempt nor in an inner pool nor a relay") {
    Policy policy = everything(now());
    policy.relays.push_back("100.64.0.4/32"_p);
    const Samples found = samples(policy, Family::v4, now());
    CHECK(found.consumers.at(Action::drop) == "100.64.0.5/32"_p);
    CHECK(found.consumers.at(Action::reject) == "100.64.8.1/32"_p);
    CHECK(found.expert == "100.64.0.1/32"_p);
    CHECK(found.server == "198.51.100.1/32"_p);
    CHECK(found.outside == "198.51.100.2/32"_p);
    CHECK(samples(policy, Family::v6, now()).consumers.at(Action::reject) == "2001:db8:100:100::/128"_p);
}

TEST_CASE(
    "probe samples: a pool without a free address, a right that ends now and addresses of no router are no samples") {
    Policy policy;
    policy.pools = {{"10.0.0.0/31"_p, Action::drop}, {"127.0.0.0/8"_p, Action::observe}};
    policy.rights = {{"10.0.0.0/31"_p, now() + Seconds{1}}};
    const Samples found = samples(policy, Family::v4, now());
    CHECK(found.consumers.empty());
    CHECK_FALSE(found.expert);
    CHECK_FALSE(found.relay);
}

TEST_CASE("probe: every packet of a whole policy gets what it should, with and without subscriber interfaces") {
    const Instant time = now();
    const Policy policy = everything(time);
    for (const Border& border :
         {with_lines, Border{}, Border{{"bng0"}, Action::reject}, Border{{"x*"}, Action::observe}}) {
        CHECK(differences(policy, policy, border, time) == std::vector<std::string>{});
    }
}

TEST_CASE("probe: a table that is not the policy's is found out, and only where it differs") {
    const Instant time = now();
    const Policy policy = everything(time);

    Policy softened = policy;
    softened.pools[0].second = Action::observe;
    const auto open = differences(policy, softened, with_lines, time);
    CHECK(count(open, "consumer (drop), IPv4") == open.size());
    CHECK(
        count(open,
              "consumer (drop), IPv4 outbound syn from 100.64.0.4 port 40000 to 198.51.100.1 port 25 by bng0: pass") ==
        1);
    CHECK(count(open, "consumer (drop), IPv4 inbound data") == 1);
    CHECK(count(open, "consumer (drop), IPv4 outbound cut first fragment") == 1);

    Policy forgotten = policy;
    forgotten.rights.clear();
    const auto closed = differences(policy, forgotten, with_lines, time);
    CHECK(count(closed, "expert, IPv4") > 0);
    CHECK(count(closed, "expert, IPv6") > 0);
    CHECK(count(closed, "expert") == closed.size());

    Policy lost = policy;
    lost.relays = {"203.0.113.99/32"_p};
    CHECK(count(differences(policy, lost, with_lines, time),
                "consumer (drop), IPv4 outbound syn from 100.64.0.4 port 40000 to 203.0.113.10 port 25") == 1);
}

TEST_CASE("probe: interfaces without the configuration's names are found out") {
    const Instant time = now();
    const Policy policy = everything(time);
    const ProbePlan plan = plan_probe(policy, with_lines, time);
    CHECK(plan.interfaces() == std::vector<std::string>{"bng0", "vlan0", "other0", "internet0"});
    ScratchNetwork network(plan.interfaces());
    enforce(*open_kernel(), policy, Border{}, time);
    std::vector<std::string> wrong;
    for (const ProbeCase& one : plan.cases) {
        if (verdict(network, one) != one.expected) wrong.push_back(one.about);
    }
    CHECK(count(wrong, "outside") > 0);
    CHECK(count(wrong, "spoofed") > 0);
    CHECK(count(wrong, "outside") + count(wrong, "spoofed") == wrong.size());
}

TEST_CASE("probe: patterns that match the usual names leave others") {
    const ProbePlan plan = plan_probe({}, {{"i*", "o*", "abcdefghijklmno*", "bng0", "bng*"}, Action::drop}, now());
    CHECK(plan.interfaces() ==
          std::vector<std::string>{"i0", "o0", "abcdefghijklmno", "bng0", "bng1", "a-other0", "a-internet0"});
}

TEST_CASE("probe: what the policy has no address for is said") {
    const ProbePlan plan = plan_probe({}, {}, now());
    const auto says = [&](const std::string& what) {
        return std::find(plan.left_out.begin(), plan.left_out.end(), what) != plan.left_out.end();
    };
    CHECK(says("IPv4: no exempt address"));
    CHECK(says("IPv6: no relay"));
    CHECK(says("IPv6: no pool with action drop has an address that is not exempt"));
    CHECK(says("spoofed sources: source addresses are not enforced without [interfaces] subscriber"));
}
