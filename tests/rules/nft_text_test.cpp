// The text against two oracles: what we meant (golden), and what nft itself makes of it.

#include <catch2/catch.hpp>

#include "rules/difference.hpp"
#include "rules/network.hpp"
#include "rules/scenario.hpp"

using namespace smtpfence;

namespace {

constexpr const char* golden_beginning = R"(table inet smtpfence {
	comment "smtpfence keeps consumers off port 25; see: smtpfence status"
	set relay4 {
		type ipv4_addr
		flags interval
)";

}  // namespace

TEST_CASE("nft_text: begins like a document") {
    const std::string text = nft_text(compile(small_policy(test_time()), small_border(), {}), test_time());
    CHECK(text.starts_with(golden_beginning));
    CHECK_THAT(text, Catch::Contains(R"(	set attempts4 {
		type ipv4_addr
		size 65536
		flags dynamic,timeout
		counter
		timeout 1h
	}
)"));
    CHECK(text.find("chain border") < text.find("chain outbound"));
    CHECK_THAT(text, Catch::Contains(R"(	set exempt4_32 {
		type ipv4_addr
		size 4096
		flags timeout
		elements = { 100.64.7.7 timeout 30d, 100.64.7.8 }
	}
)"));
    CHECK_THAT(text, Catch::Contains(R"(	map pool4 {
		type ipv4_addr : verdict
		flags interval
		elements = { 100.64.0.0/17 : goto consumer_drop, 100.64.128.0/24 : return,
			     100.64.129.0/24 : goto consumer_drop, 100.64.130.0/23 : goto consumer_drop,
			     100.64.132.0/22 : goto consumer_drop, 100.64.136.0/21 : goto consumer_drop,
			     100.64.144.0/20 : goto consumer_drop, 100.64.160.0/19 : goto consumer_drop,
			     100.64.192.0/18 : goto consumer_drop, 100.65.0.0/24 : goto consumer_reject,
			     100.66.0.0/24 : goto consumer_observe }
	}
)"));
    CHECK_THAT(text, Catch::Contains(R"(	chain border {
		type filter hook forward priority filter - 10; policy accept;
		@nh,0,32 & 0xff000000 == 0x45000000 @nh,32,32 & 0x3fff != 0x0 goto hidden comment "IPv4 fragment"
)"));
    CHECK(nft_text({}, test_time()).empty());
}

TEST_CASE("nft_text: nft loads it and lists the same") {
    std::mt19937 random(3);
    for (int round = 0; round < 10; ++round) {
        const Fence fence = round == 0 ? compile(small_policy(test_time()), small_border(), {})
                                       : compile(random_policy(random, test_time()), random_border(random), {});
        const std::string text = nft_text(fence, test_time());
        FreshNetwork network;
        nft({"-f", "-"}, text);
        CHECK(without_expiry(nft({"list", "ruleset"})) == text);
    }
}

TEST_CASE("nft_script: nft performs the changes from state to state") {
    std::mt19937 random(4);
    FreshNetwork network;
    Fence fence;
    for (int round = 0; round < 15; ++round) {
        const Fence desired = compile(random_policy(random, test_time()), random_border(random), fence);
        nft({"-f", "-"}, nft_script(fence, difference(fence, desired, test_time()), test_time()));
        REQUIRE(sorted(without_timeouts(nft({"list", "ruleset"}))) ==
                sorted(without_timeouts(nft_text(desired, test_time()))));
        fence = desired;
    }
}
