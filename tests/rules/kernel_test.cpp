// The contract of the boundary, held by the model and by the real kernel alike.

#include "rules/kernel.hpp"

#include <cerrno>
#include <ctime>

#include "rules/scenario.hpp"
#include "rules/stage.hpp"
#include "seed.hpp"

using namespace smtpfence;

namespace {

/// As find() answers: "100.64.0.0/16 drop".
std::string found(Kernel& kernel, const char* set, const Key& address, KeyKind kind = KeyKind::ipv4) {
    const auto element = kernel.find(set, address);
    if (!element) return "nothing";
    return text(element->first, kind) +
           (element->second.action ? std::string(" ") + word(*element->second.action) : "");
}

}  // namespace

TEST_CASE("kernel: a table is there after take, and gone after remove") {
    const Stage kernel(EACH_KERNEL);
    CHECK(kernel->read().empty());
    CHECK_FALSE(kernel->remove());
    CHECK(refusal(*kernel, {{AddChain{"inbound", {}}}}).code == ENOENT);
    const uint32_t before = kernel->generation();
    kernel->take();
    CHECK(kernel->generation() > before);
    kernel->take();
    CHECK(kernel->read().empty());
    bring(*kernel, compile({}, {}, {}));
    CHECK_FALSE(kernel->read().empty());
    CHECK(kernel->remove());
    CHECK(kernel->read().empty());
    CHECK_FALSE(kernel->remove());
}

TEST_CASE("kernel: what was committed is read back equal") {
    const Stage kernel(EACH_KERNEL);
    kernel->take();
    const Fence desired = compile(small_policy(now()), small_border(), {});
    bring(*kernel, desired);
    const Fence actual = kernel->read();
    CHECK(left_to_do(actual, desired) == "");
    for (const auto& [name, chain] : desired.chains) {
        REQUIRE(actual.chains.contains(name));
        CHECK(actual.chains.at(name) == chain);
    }
    for (const auto& [name, set] : desired.sets) {
        REQUIRE(actual.sets.contains(name));
        CHECK(actual.sets.at(name).shape == set.shape);
        CHECK(actual.sets.at(name).elements.size() == set.elements.size());
    }
    CHECK(actual.sets.size() == desired.sets.size());
    CHECK(actual.chains.size() == desired.chains.size());
}

TEST_CASE("kernel: of many that are deleted, most ended at the same moment") {
    const Stage kernel(EACH_KERNEL);
    kernel->take();
    const Instant start = now();
    Policy policy = many_rights(3000, start);
    for (size_t i = 0; i + 1 < policy.rights.size(); ++i) policy.rights[i].until = start + Seconds{2};
    const Fence desired = compile(policy, {}, {});
    bring(*kernel, desired);
    kernel.wait(Seconds{3});
    const std::string set = exempt_set_of(desired, policy.rights.back().prefix).value();
    const Elements& all = desired.sets.at(set).elements;
    CHECK(kernel->find(set, all.rbegin()->first));
    kernel->commit({{DeleteElements{set, ElementList(all.begin(), all.end())}}});
    CHECK_FALSE(kernel->find(set, all.rbegin()->first));
}

TEST_CASE("kernel: a random walk leaves nothing to do after each step") {
    const Stage kernel(EACH_KERNEL);
    const unsigned seed = GENERATE(1u, 2u, printed_seed());
    INFO("SMTPFENCE_SEED=" << seed);
    std::mt19937 random(seed);
    kernel->take();
    for (int step = 0; step < 30; ++step) {
        CAPTURE(step);
        const Instant time = now();
        const Fence actual = kernel->read();
        const Fence desired = compile(random_policy(random, time), random_border(random), actual);
        for (const Transaction& transaction : difference(actual, desired, time).transactions)
            kernel->commit(transaction);
        REQUIRE(left_to_do(kernel->read(), desired) == "");
    }
}

TEST_CASE("kernel: a refused transaction changes nothing, and names what was refused") {
    const Stage kernel(EACH_KERNEL);
    kernel->take();
    bring(*kernel, compile(small_policy(now()), small_border(), {}));
    const Fence before = kernel->read();
    const uint32_t generation = kernel->generation();
    const AddElements fine{"exempt4_32", {{line("100.64.1.1"), {}}}};

    SECTION("an overlap") {
        const auto error = refusal(*kernel, {{fine, AddElements{"pool4",
                                                                {{line("10.0.0.0/8"), {Action::drop, never}},
                                                                 {line("100.65.0.0/25"), {Action::drop, never}},
                                                                 {line("192.168.0.0/16"), {Action::drop, never}}}}}});
        CHECK(error.code == EEXIST);
        CHECK(error.object == "element 100.65.0.0/25 of set pool4");
    }
    SECTION("another action for the same prefix") {
        const auto error =
            refusal(*kernel, {{fine, AddElements{"pool4", {{line("100.65.0.0/24"), {Action::drop, never}}}}}});
        CHECK(error.code == EEXIST);
        CHECK(error.object == "element 100.65.0.0/24 of set pool4");
    }
    SECTION("a set that is not there") {
        const auto error = refusal(*kernel, {{fine, AddElements{"exempt4_19", {{line("100.64.0.0/19"), {}}}}}});
        CHECK(error.code == ENOENT);
        CHECK(error.object == "set exempt4_19");
    }
    SECTION("a set in use") {
        const auto error = refusal(*kernel, {{fine, DeleteSet{"relay4"}}});
        CHECK(error.code == EBUSY);
        CHECK(error.object == "set relay4");
    }
    SECTION("a chain in use") {
        const auto error = refusal(*kernel, {{fine, DeleteChain{"inbound"}}});
        CHECK(error.code == EBUSY);
        CHECK(error.object == "chain inbound");
    }
    SECTION("a chain that is not there") {
        const auto error = refusal(*kernel, {{fine, DeleteChain{"nowhere"}}});
        CHECK(error.code == ENOENT);
        CHECK(error.object == "chain nowhere");
    }
    CHECK(kernel->generation() == generation);
    CHECK(left_to_do(kernel->read(), before) == "");
    CHECK(kernel->read().sets.at("exempt4_32").elements.size() == before.sets.at("exempt4_32").elements.size());
}

TEST_CASE("kernel: a full set refuses the element that does not fit, and takes it in the place of another") {
    const Stage kernel(EACH_KERNEL);
    kernel->take();
    Policy policy = many_rights(4096, now());
    Fence desired = compile({}, {}, {});
    AddElements add{"exempt4_32", {}};
    for (const Right& right : policy.rights) add.elements.push_back({to_key(right.prefix), {{}, right.until}});
    bring(*kernel, desired);
    AddElements more = add;
    for (int i = 0; i < 3000; ++i) {
        const auto high = static_cast<uint8_t>(i / 256), low = static_cast<uint8_t>(i);
        more.elements.push_back({to_key(Prefix(Family::v4, {198, 18, high, low}, 32)), {}});
    }
    CHECK(refusal(*kernel, {{more}}).object == "element 198.18.0.0 of set exempt4_32");
    CHECK(kernel->read().sets.at("exempt4_32").elements.empty());
    kernel->commit({{add}});
    const auto error = refusal(*kernel, {{AddElements{"exempt4_32", {{line("192.0.2.1"), {}}}}}});
    CHECK(error.code == ENFILE);
    CHECK(error.object == "element 192.0.2.1 of set exempt4_32");
    CHECK_THAT(error.what(), Catch::Contains("full"));
    kernel->commit({{DeleteElements{"exempt4_32", {{line("100.64.0.7"), {}}}},
                     AddElements{"exempt4_32", {{line("192.0.2.1"), {}}}}}});
    CHECK(kernel->read().sets.at("exempt4_32").elements.size() == 4096);
}

TEST_CASE("kernel: an element ends by itself, and deleting it then is no error") {
    const Stage kernel(EACH_KERNEL);
    kernel->take();
    Policy policy;
    policy.rights = {{Prefix::parse("100.64.0.1"), now() + Seconds{2}},
                     {Prefix::parse("100.64.0.2"), never},
                     {Prefix::parse("100.64.0.3"), now() + Seconds{2}},
                     {Prefix::parse("100.64.0.4"), never}};
    bring(*kernel, compile(policy, {}, {}));
    CHECK(kernel->read().sets.at("exempt4_32").elements.size() == 4);
    CHECK(kernel->find("exempt4_32", line("100.64.0.1"))->second.until != never);
    kernel.wait(Seconds{3});
    CHECK(kernel->read().sets.at("exempt4_32").elements.size() == 2);
    CHECK_FALSE(kernel->find("exempt4_32", line("100.64.0.1")));
    kernel->commit(
        {{DeleteElements{"exempt4_32", {{line("100.64.0.1"), {}}, {line("100.64.0.2"), {}}, {line("100.64.0.3"), {}}}},
          DeleteElements{"exempt4_32", {{line("192.0.2.1"), {}}}}}});
    kernel->commit({{DeleteElements{"exempt4_32", {{line("192.0.2.1"), {}}}}}});
    kernel->commit({});
    const auto left = kernel->read().sets.at("exempt4_32").elements;
    REQUIRE(left.size() == 1);
    CHECK(left.begin()->first == line("100.64.0.4"));
}

TEST_CASE("kernel: ends are kept to the second, and moved by delete and add") {
    const Stage kernel(EACH_KERNEL);
    kernel->take();
    const Instant soon = now() + Seconds{100}, late = now() + Seconds{365 * 86400};
    Policy policy;
    policy.rights = {{Prefix::parse("100.64.0.1"), soon}, {Prefix::parse("100.64.0.2"), late}};
    bring(*kernel, compile(policy, {}, {}));
    const auto near = [](Instant a, Instant b) { return std::chrono::abs(a - b) <= Seconds{1}; };
    CHECK(near(kernel->find("exempt4_32", line("100.64.0.1"))->second.until, soon));
    CHECK(near(kernel->find("exempt4_32", line("100.64.0.2"))->second.until, late));
    policy.rights[0].until = never;
    policy.rights[1].until = soon;
    bring(*kernel, compile(policy, {}, {}));
    CHECK(kernel->find("exempt4_32", line("100.64.0.1"))->second.until == never);
    CHECK(near(kernel->find("exempt4_32", line("100.64.0.2"))->second.until, soon));
}

TEST_CASE("kernel: ends are told, and set, by the clock that it was given") {
    const Stage kernel(EACH_KERNEL);
    kernel->take();
    const Instant soon = now() + Seconds{1000};
    Policy policy;
    policy.rights = {{Prefix::parse("100.64.0.1"), soon}, {Prefix::parse("100.64.0.2"), never}};
    bring(*kernel, compile(policy, {}, {}));
    const auto end = [&](const char* address) {
        return kernel->held("exempt4_32", std::vector{line(address)}).front().value().until;
    };
    const auto near = [](Instant a, Instant b) { return std::chrono::abs(a - b) <= Seconds{1}; };
    timespec day{}, machine{};
    clock_gettime(CLOCK_REALTIME, &day);
    clock_gettime(CLOCK_BOOTTIME, &machine);
    const std::chrono::milliseconds by_machine = Seconds{day.tv_sec - machine.tv_sec};
    const Seconds ahead = GENERATE(Seconds{365 * 86400}, Seconds{-365 * 86400});
    kernel->set_clock(by_machine + ahead);
    CHECK(near(end("100.64.0.1"), soon + ahead));
    CHECK(near(kernel->find("exempt4_32", line("100.64.0.1"))->second.until, soon + ahead));
    CHECK(near(kernel->read().sets.at("exempt4_32").elements.at(line("100.64.0.1")).until, soon + ahead));
    CHECK(end("100.64.0.2") == never);
    kernel->commit({{AddElements{"exempt4_32", {{line("100.64.0.3"), {{}, soon + ahead}}}}}});
    kernel->set_clock(by_machine);
    CHECK(near(end("100.64.0.1"), soon));
    CHECK(near(end("100.64.0.3"), soon));
}

TEST_CASE("kernel: find asks for the element that covers an address") {
    const Stage kernel(EACH_KERNEL);
    kernel->take();
    Policy policy;
    policy.relays = {Prefix::parse("0.0.0.0/8"), Prefix::parse("203.0.113.10"), Prefix::parse("203.0.113.11"),
                     Prefix::parse("203.0.113.16/28"), Prefix::parse("255.0.0.0/8")};
    policy.pools = {{Prefix::parse("100.64.0.0/17"), Action::drop},
                    {Prefix::parse("100.64.128.0/17"), Action::reject},
                    {Prefix::parse("2001:db8::/32"), Action::observe},
                    {Prefix::parse("ffff::/16"), Action::pass}};
    policy.rights = {{Prefix::parse("100.64.7.7"), never}, {Prefix::parse("2001:db8:0:700::/56"), never}};
    bring(*kernel, compile(policy, small_border(), {}));
    const auto find4 = [&](const char* set, const char* address) { return found(*kernel, set, line(address)); };
    const auto find6 = [&](const char* set, const char* address) {
        return found(*kernel, set, line(address), KeyKind::ipv6);
    };
    CHECK(find4("relay4", "0.0.0.0") == "0.0.0.0/8");
    CHECK(find4("relay4", "0.255.255.255") == "0.0.0.0/8");
    CHECK(find4("relay4", "1.0.0.0") == "nothing");
    CHECK(find4("relay4", "203.0.113.9") == "nothing");
    CHECK(find4("relay4", "203.0.113.10") == "203.0.113.10");
    CHECK(find4("relay4", "203.0.113.11") == "203.0.113.11");
    CHECK(find4("relay4", "203.0.113.12") == "nothing");
    CHECK(find4("relay4", "203.0.113.16") == "203.0.113.16/28");
    CHECK(find4("relay4", "203.0.113.31") == "203.0.113.16/28");
    CHECK(find4("relay4", "203.0.113.32") == "nothing");
    CHECK(find4("relay4", "254.255.255.255") == "nothing");
    CHECK(find4("relay4", "255.0.0.0") == "255.0.0.0/8");
    CHECK(find4("relay4", "255.255.255.255") == "255.0.0.0/8");
    CHECK(find4("pool4", "100.64.127.255") == "100.64.0.0/17 drop");
    CHECK(find4("pool4", "100.64.128.0") == "100.64.128.0/17 reject");
    CHECK(find4("pool4", "100.65.0.0") == "nothing");
    CHECK(find6("pool6", "2001:db8:ffff::1") == "2001:db8::/32 observe");
    CHECK(find6("pool6", "2001:db9::") == "nothing");
    CHECK(find6("pool6", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff") == "ffff::/16 pass");
    CHECK(find6("relay6", "2001:db8::1") == "nothing");
    CHECK(find4("exempt4_32", "100.64.7.7") == "100.64.7.7");
    CHECK(find4("exempt4_32", "100.64.7.8") == "nothing");
    CHECK(find6("exempt6_56", "2001:db8:0:700::/56") == "2001:db8:0:700::/56");
    CHECK(find6("exempt6_56", "2001:db8:0:800::/56") == "nothing");
    CHECK(find4("exempt4_24", "100.64.7.0/24") == "nothing");
    CHECK(found(*kernel, "subscriber", interface_key("vlan17"), KeyKind::interface) == "\"vlan*\" drop");
    CHECK(found(*kernel, "subscriber", interface_key("bng0"), KeyKind::interface) == "\"bng0\" drop");
    CHECK(found(*kernel, "subscriber", interface_key("bng00"), KeyKind::interface) == "nothing");
}

TEST_CASE("kernel: the generation moves with every change and with nothing else") {
    const Stage kernel(EACH_KERNEL);
    kernel->take();
    bring(*kernel, compile({}, {}, {}));
    const uint32_t before = kernel->generation();
    CHECK(kernel->read().sets.contains("relay4"));
    CHECK(kernel->counted("attempts4").empty());
    CHECK(kernel->chain_packets("consumer_drop") == 0);
    CHECK(kernel->generation() == before);
    kernel->commit({{AddElements{"exempt4_32", {{line("100.64.0.1"), {}}}}}});
    CHECK(kernel->generation() == before + 1);
}

TEST_CASE("kernel: objects of our names but of another kind are made anew") {
    const Stage kernel(EACH_KERNEL);
    kernel->take();
    const Fence desired = compile(small_policy(now()), small_border(), {});
    bring(*kernel, desired);
    Fence other = desired;
    SECTION("another hook") { other.chains.at("border").hook->priority = 7; }
    SECTION("a base chain instead of a plain one") { other.chains.at("inbound").hook = Hook{}; }
    SECTION("another shape") { other.sets.at("exempt4_32").shape.timeouts = false; }
    for (auto& element : other.sets.at("exempt4_32").elements) element.second.until = never;
    if (other.chains.at("inbound").hook) {
        for (const char* name : {"mail", "replies", "fragments"}) other.chains.at(name).rules.clear();
    }
    bring(*kernel, other);
    REQUIRE(left_to_do(kernel->read(), other) == "");
    bring(*kernel, desired);
    CHECK(left_to_do(kernel->read(), desired) == "");
}

TEST_CASE("kernel: 100,000 exemptions are loaded and read back") {
    const Stage kernel(GENERATE("real", "real as an old one"));  // the model copies its table for each transaction
    kernel->take();
    const Fence desired = compile(many_rights(100'000, now()), {}, {});
    bring(*kernel, desired);
    CHECK(left_to_do(kernel->read(), desired) == "");
    CHECK(kernel->find("exempt4_32_262144", line("100.64.1.1")));
}

TEST_CASE("kernel: the outline is the table without its exemptions") {
    const Stage kernel(EACH_KERNEL);
    CHECK(kernel->read_outline().empty());
    kernel->take();
    const Fence desired = compile(small_policy(now()), small_border(), {});
    bring(*kernel, desired);
    CHECK(kernel->read_outline() == outline(desired));
    CHECK(outline(kernel->read()) == outline(desired));
    CHECK(outline(desired).sets.at("exempt4_32").elements.empty());
}

TEST_CASE("kernel: a table of our own needs no listener") {
    const Stage kernel("real");
    kernel->take();
    REQUIRE(kernel->owned() == kernel->features().persist);
    kernel->listen();
    CHECK((kernel->listener() < 0) == kernel->owned());
}
