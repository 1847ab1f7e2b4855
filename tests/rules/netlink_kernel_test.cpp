// What only the real kernel and the real nft can tell.

#include "rules/netlink_kernel.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>

#include "rules/layout.hpp"
#include "rules/scenario.hpp"
#include "rules/stage.hpp"

using namespace smtpfence;

namespace {

std::string listing() { return without_table_flags(nft({"list", "table", "inet", "smtpfence"})); }

Features as_old() { return {false, false, false, false}; }

KernelError take_refused(Kernel& kernel) {
    try {
        kernel.take();
    } catch (const KernelError& error) {
        return error;
    }
    return {0, "", "taken"};
}

/// Another process that takes the table and keeps it until it is told to end.
class OtherOwner {
public:
    OtherOwner() {
        int ready[2], end[2];
        REQUIRE(pipe(ready) == 0);
        REQUIRE(pipe(end) == 0);
        child_ = fork();
        if (child_ == 0) {
            close(end[1]);
            NetlinkKernel kernel;
            kernel.take();
            char byte = 0;
            if (write(ready[1], &byte, 1) != 1) _exit(1);
            _exit(read(end[0], &byte, 1) == 0 ? 0 : 1);
        }
        close(end[0]);
        end_ = end[1];
        char byte = 0;
        REQUIRE(::read(ready[0], &byte, 1) == 1);
        close(ready[0]);
        close(ready[1]);
    }
    ~OtherOwner() { stop(); }
    void stop() {
        if (child_ <= 0) return;
        close(end_);
        waitpid(child_, nullptr, 0);
        child_ = -1;
    }
    pid_t process() const { return child_; }

private:
    pid_t child_ = -1;
    int end_ = -1;
};

}  // namespace

TEST_CASE("netlink_kernel: our batch and our text loaded by nft list the same") {
    std::mt19937 random(5);
    for (int round = 0; round < 8; ++round) {
        const Instant time = now();
        const Fence fence = round == 0 ? compile(small_policy(time), small_border(), {})
                                       : compile(random_policy(random, time), random_border(random), {});
        std::string ours, theirs;
        {
            const FreshNetwork network;
            NetlinkKernel kernel;
            kernel.take();
            bring(kernel, fence);
            ours = listing();
        }
        {
            const FreshNetwork network;
            nft({"-f", "-"}, nft_text(fence, time));
            theirs = listing();
        }
        CHECK(sorted(without_timeouts(ours)) == sorted(without_timeouts(theirs)));
        CHECK(sorted(without_timeouts(ours)) == sorted(without_timeouts(nft_text(fence, time))));
    }
}

namespace {

constexpr ExemptSet for_a_million{Family::v4, 32, 2'097'152};

/// No rights yet, in a set that is made for a million.
Fence large_fence() {
    Fence fence = compile({}, {}, {});
    fence.sets.erase("exempt4_32");
    fence.sets[exempt_set_name(for_a_million.family, for_a_million.length, for_a_million.capacity)].shape =
        exempt_shape(for_a_million);
    fence.chains = chains_with(exempt_sets_of(fence));
    return fence;
}

/// Of the three elements in a large set 192.0.2.2 has ended, and the kernel has not collected it.
struct UncollectedElement {
    const FreshNetwork network{};
    NetlinkKernel kernel{};
    Fence desired = large_fence();
    Set& set = desired.sets.at("exempt4_32_2097152");

    UncollectedElement() {
        kernel.take();
        for (const char* const address : {"192.0.2.1", "192.0.2.2", "192.0.2.3"}) set.elements[line(address)] = {};
        set.elements[line("192.0.2.2")].until = now() + Seconds{1};
        bring(kernel, desired);
        std::this_thread::sleep_for(Seconds{2});
    }
    Elements read(Comparison comparison) {
        return kernel.read(desired, comparison).sets.at("exempt4_32_2097152").elements;
    }
};

}  // namespace

TEST_CASE("netlink_kernel: what ended in a large set is collected seldom") {
    const FreshNetwork network;
    NetlinkKernel kernel;
    kernel.take();
    bring(kernel, large_fence());
    const std::string listed = listing();
    CHECK(listed.find("size 2097152\n\t\tflags timeout\n\t\tgc-interval 1m4s\n") != std::string::npos);
    CHECK(listed.find("gc-interval") == listed.rfind("gc-interval"));
    CHECK(sorted(without_timeouts(listed)) == sorted(without_timeouts(nft_text(large_fence(), now()))));
    CHECK(left_to_do(kernel.read(), large_fence()) == "");
    const FreshNetwork other;
    nft({"-f", "-"}, nft_text(large_fence(), now()));
    CHECK(sorted(without_timeouts(listing())) == sorted(without_timeouts(listed)));
}

TEST_CASE("netlink_kernel: what ended and was not collected yet makes no set larger than expected, others do") {
    UncollectedElement uncollected;
    Set& set = uncollected.set;
    const auto read = [&](Comparison comparison) { return uncollected.read(comparison); };
    const auto counted = uncollected.kernel.count("exempt4_32_2097152");
    REQUIRE((!counted || *counted == 3));
    const Elements there = {{line("192.0.2.1"), Held{}}, {line("192.0.2.3"), Held{}}};
    CHECK(read(Comparison::keys) == there);
    CHECK(read(Comparison::numbers) == there);
    set.elements.erase(line("192.0.2.1"));
    set.elements.emplace(line("192.0.2.9"), Held{});
    CHECK(read(Comparison::numbers).contains(line("192.0.2.9")) == counted.has_value());
    set.elements.erase(line("192.0.2.2"));
    CHECK(read(Comparison::numbers) == there);
    set.ended[line("192.0.2.2")].until = now();  // as a record tells it
    CHECK(read(Comparison::numbers).contains(line("192.0.2.9")) == counted.has_value());
    set.ended[line("192.0.2.3")].until = now();  // by the record alone
    set.elements.erase(line("192.0.2.3"));
    CHECK(read(Comparison::numbers).contains(line("192.0.2.3")));
    set.elements.erase(line("192.0.2.9"));
    CHECK(read(Comparison::numbers) == there);
}

TEST_CASE("netlink_kernel: what ended and was given again may be counted twice, and is no surplus then") {
    UncollectedElement uncollected;
    Set& set = uncollected.set;
    retire_ended(set, now());
    REQUIRE(set.ended.contains(line("192.0.2.2")));
    uncollected.kernel.commit({{AddElements{"exempt4_32_2097152", {{line("192.0.2.2"), Held{}}}}}});
    set.elements[line("192.0.2.2")] = {};
    const auto counted = uncollected.kernel.count("exempt4_32_2097152");
    REQUIRE((!counted || *counted == 4));
    const Elements there = set.elements;
    set.elements.erase(line("192.0.2.1"));
    set.elements.emplace(line("192.0.2.9"), Held{});  // whoever goes by the numbers doesn't see that it isn't there
    CHECK(uncollected.read(Comparison::numbers) == (counted ? set.elements : there));
    CHECK(uncollected.read(Comparison::keys) == there);
}

TEST_CASE("netlink_kernel: the listing loads elsewhere and lists the same") {
    const Fence fence = compile(small_policy(now()), small_border(), {});
    std::string ours;
    {
        const FreshNetwork network;
        NetlinkKernel kernel;
        kernel.take();
        bring(kernel, fence);
        ours = listing();
    }
    const FreshNetwork network;
    nft({"-f", "-"}, ours);
    CHECK(sorted(without_expiry(listing())) == sorted(without_expiry(ours)));
    CHECK(left_to_do(NetlinkKernel().read(), fence) == "");
}

TEST_CASE("netlink_kernel: our text loaded by nft reads as the fence it came from") {
    std::mt19937 random(6);
    for (int round = 0; round < 8; ++round) {
        const Fence fence = compile(random_policy(random, now()), random_border(random), {});
        const FreshNetwork network;
        nft({"-f", "-"}, nft_text(fence, now()));
        CHECK(left_to_do(NetlinkKernel().read(), fence) == "");
    }
}

TEST_CASE("netlink_kernel: rules that were read have their text") {
    const FreshNetwork network;
    NetlinkKernel kernel;
    kernel.take();
    bring(kernel, compile(small_policy(now()), small_border(), {}));
    const Fence actual = kernel.read();
    for (const auto& [name, chain] : actual.chains) {
        for (const Rule& rule : chain.rules) CHECK_FALSE(rule.nft.empty());
    }
}

TEST_CASE("netlink_kernel: what another program put into an unowned table is seen and removed") {
    const FreshNetwork network;
    NetlinkKernel kernel(as_old());
    kernel.take();
    const Fence fence = compile(small_policy(now()), small_border(), {});
    bring(kernel, fence);
    const std::string before = listing();
    std::string meddling;
    SECTION("a rule at the top") { meddling = "insert rule inet smtpfence border tcp dport { 25, 26 } accept"; }
    SECTION("a rule with expressions of its own") {
        meddling = "insert rule inet smtpfence border ct state established accept";
    }
    SECTION("a rule less") { meddling = "flush chain inet smtpfence outbound"; }
    SECTION("a wide exemption") { meddling = "add element inet smtpfence exempt4_32 { 198.51.100.1 timeout 5m }"; }
    SECTION("a relay") { meddling = "add element inet smtpfence relay4 { 198.51.100.0/24 }"; }
    SECTION("a range that is no prefix") {
        meddling = "add element inet smtpfence relay4 { 198.51.100.1-198.51.100.9 }";
    }
    SECTION("a pool less") {
        meddling = "delete element inet smtpfence pool4 { 100.65.0.0/24 : goto consumer_reject }";
    }
    SECTION("a pool of another verdict") { meddling = "add element inet smtpfence pool4 { 198.51.100.0/24 : accept }"; }
    SECTION("a set") { meddling = "add set inet smtpfence guests { type inet_service; elements = { 25 } }"; }
    SECTION("a set of our kind of name") {
        meddling = "add set inet smtpfence exempt4_31 { type ipv4_addr . inet_service; size 4096; }";
    }
    SECTION("a chain with a map that goes to it") {
        meddling =
            "table inet smtpfence { chain guests { accept; }; map doors { type ipv4_addr : verdict; elements = { "
            "192.0.2.1 : jump guests } }; }";
    }
    SECTION("a base chain") {
        meddling = "add chain inet smtpfence early { type filter hook forward priority -200; policy accept; }";
    }
    SECTION("a base chain elsewhere") {
        meddling = "add chain inet smtpfence early { type filter hook input priority -200; policy drop; }";
    }
    nft({"-f", "-"}, meddling + "\n");
    CHECK_FALSE(left_to_do(kernel.read(), fence).empty());
    bring(kernel, fence);
    CHECK(left_to_do(kernel.read(), fence) == "");
    CHECK(sorted(without_timeouts(listing())) == sorted(without_timeouts(before)));
}

TEST_CASE("netlink_kernel: tables of other programs are never touched") {
    const FreshNetwork network;
    nft({"-f", "-"},
        "table inet filter { set smtpfence { type ipv4_addr; elements = { 192.0.2.1 }; }\n"
        "chain border { type filter hook forward priority -10; policy drop; ip saddr @smtpfence accept; }; }\n"
        "table ip smtpfence { chain border { tcp dport 25 accept; }; }\n");
    const auto others = [] {
        return nft({"list", "table", "inet", "filter"}) + nft({"list", "table", "ip", "smtpfence"});
    };
    const std::string before = others();
    NetlinkKernel kernel;
    CHECK(kernel.read().empty());
    kernel.take();
    std::mt19937 random(8);
    for (int step = 0; step < 10; ++step) {
        bring(kernel, compile(random_policy(random, now()), random_border(random), kernel.read()));
        REQUIRE(others() == before);
    }
    CHECK(kernel.remove());
    CHECK(others() == before);
}

TEST_CASE("netlink_kernel: another living owner is named, and its table adopted when it is gone") {
    const FreshNetwork network;
    NetlinkKernel kernel;
    REQUIRE(kernel.features().persist);
    OtherOwner other;
    const KernelError error = take_refused(kernel);
    CHECK(error.code == EPERM);
    CHECK(error.object == "table smtpfence");
    CHECK_THAT(error.what(), Catch::Contains("process " + std::to_string(other.process()) + " (rules_tests)"));
    const auto commit = [&] { kernel.commit({{AddChain{"inbound", {}}}}); };
    CHECK_THROWS_AS(commit(), KernelError);
    CHECK_THROWS_AS(kernel.remove(), KernelError);
    other.stop();
    kernel.take();
    commit();
    CHECK(kernel.read().chains.contains("inbound"));
}

TEST_CASE("netlink_kernel: nobody else can change the table while we own it, and it outlives us") {
    const FreshNetwork network;
    const Fence fence = compile(small_policy(now()), small_border(), {});
    {
        NetlinkKernel kernel;
        kernel.take();
        bring(kernel, fence);
        nft({"flush", "ruleset"});
        CHECK_THROWS_WITH(nft({"delete", "table", "inet", "smtpfence"}), Catch::Contains("Operation not permitted"));
        CHECK(left_to_do(kernel.read(), fence) == "");
    }
    NetlinkKernel next;
    CHECK(left_to_do(next.read(), fence) == "");
    next.take();
    CHECK_THROWS(nft({"flush", "table", "inet", "smtpfence"}));
    CHECK(left_to_do(next.read(), fence) == "");
}

TEST_CASE("netlink_kernel: a table that was made without flags is used as it is") {
    const FreshNetwork network;
    const Fence fence = compile(small_policy(now()), small_border(), {});
    nft({"-f", "-"}, nft_text(fence, now()));
    NetlinkKernel kernel;
    kernel.take();
    CHECK(left_to_do(kernel.read(), fence) == "");
    kernel.commit({{DeleteElements{"exempt4_32", {{to_key(Prefix::parse("100.64.7.8")), {}}}}}});
    CHECK(kernel.read().sets.at("exempt4_32").elements.size() == 1);
}

TEST_CASE("netlink_kernel: counters of action chains survive a change of the rules above them") {
    const FreshNetwork network;
    NetlinkKernel kernel(as_old());
    kernel.take();
    Policy policy = small_policy(now());
    bring(kernel, compile(policy, small_border(), {}));
    nft({"-f", "-"},
        "flush chain inet smtpfence consumer_drop\n"
        "add rule inet smtpfence consumer_drop jump attempt comment \"counts sources\"\n"
        "add rule inet smtpfence consumer_drop counter packets 7 bytes 300 drop comment \"action drop\"\n");
    CHECK(kernel.chain_packets("consumer_drop") == 7);
    policy.rights.push_back({Prefix::parse("100.64.11.0/26"), never});
    bring(kernel, compile(policy, small_border(), kernel.read()));
    CHECK(kernel.read().sets.contains("exempt4_26"));
    CHECK(kernel.chain_packets("consumer_drop") == 7);
    CHECK(kernel.chain_packets("nowhere") == 0);
}

TEST_CASE("netlink_kernel: counted reads the sources of attempts") {
    const FreshNetwork network;
    NetlinkKernel kernel(as_old());
    kernel.take();
    bring(kernel, compile(small_policy(now()), small_border(), {}));
    nft({"-f", "-"}, "add element inet smtpfence attempts4 { 100.64.0.1 counter packets 5 bytes 200, 100.64.0.2 }\n");
    auto counted = kernel.counted("attempts4");
    std::sort(counted.begin(), counted.end(), [](auto& a, auto& b) { return a.key < b.key; });
    REQUIRE(counted.size() == 2);
    CHECK(text(counted[0].key, KeyKind::ipv4) == "100.64.0.1");
    CHECK(counted[0].packets == 5);
    CHECK(counted[1].packets == 0);
    CHECK(kernel.counted("attempts6").empty());
    CHECK(kernel.read().sets.at("attempts4").elements.empty());
}

TEST_CASE("netlink_kernel: without the right to administer the network it says so") {
    const FreshNetwork network;
    const pid_t child = fork();
    if (child == 0) {
        if (setuid(65534) != 0) _exit(3);
        try {
            open_kernel();
        } catch (const KernelError& error) {
            _exit(error.code == EPERM && std::string(error.what()).find("CAP_NET_ADMIN") != std::string::npos ? 0 : 2);
        }
        _exit(1);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}

TEST_CASE("netlink_kernel: this kernel's features are found without changing anything") {
    const FreshNetwork network;
    const uint32_t before = NetlinkKernel().generation();
    NetlinkKernel kernel;
    CHECK(kernel.generation() == before);
    CHECK(nft({"list", "ruleset"}).empty());
    const std::string found =
        "owner and persist flags: yes\ntolerant delete: yes\nacknowledged end of a transaction: yes\n";
    CHECK(text(kernel.features()) == found);
    kernel.take();
    bring(kernel, compile({}, {}, {}));
    CHECK_FALSE(kernel.read().empty());
    CHECK(text(kernel.features()) == found + "element counts: yes\n");
}
