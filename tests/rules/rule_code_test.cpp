#include "rules/rule_code.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <catch2/catch.hpp>

#include "rules/layout.hpp"

using namespace smtpfence;

TEST_CASE("mentions: the sets and chains of a rule") {
    const Rule rule =
        RuleDraft().address(Family::v4, End::source).in("relay4").verdict(NFT_GOTO, "inbound").rule("", "");
    const Mentions mentioned = mentions(rule.code);
    CHECK(mentioned.sets == std::vector<std::string>{"relay4"});
    CHECK(mentioned.chains == std::vector<std::string>{"inbound"});
    CHECK(mentions(RuleDraft().remember("attempts4").rule("", "").code).sets == std::vector<std::string>{"attempts4"});
    CHECK(mentions(RuleDraft().verdict(NF_DROP).rule("", "").code).chains.empty());
    CHECK(mentions("no expressions at all").sets.empty());
}

TEST_CASE("layout: every chain that is gone to exists, and every set that is looked into") {
    const auto chains = chains_with({{Family::v4, 32, 4096}, {Family::v6, 56, 8192}});
    size_t sets = 0, targets = 0;
    for (const auto& [name, chain] : chains) {
        for (const Rule& rule : chain.rules) {
            for (const std::string& target : mentions(rule.code).chains) {
                CHECK(chains.contains(target));
                ++targets;
            }
            for (const std::string& set : mentions(rule.code).sets) {
                CHECK(shape_of(set));
                ++sets;
            }
        }
    }
    CHECK(sets == 21);
    CHECK(targets == 18);
}

TEST_CASE("layout: every rule has a text and a comment that nft can keep") {
    for (const auto& [name, chain] : chains_with({{Family::v6, 56, 8192}})) {
        for (const Rule& rule : chain.rules) {
            CHECK_FALSE(rule.nft.empty());
            CHECK_FALSE(rule.comment.empty());
            CHECK(rule.comment.size() <= 128);
        }
    }
}
