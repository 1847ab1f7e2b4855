#include "rules/bypass.hpp"

#include <catch2/catch.hpp>

using namespace smtpfence;

namespace {

using Warnings = std::vector<std::string>;

Interface link(uint32_t index, const std::string& name, const std::string& kind = "") {
    Interface one;
    one.index = index;
    one.name = name;
    one.kind = kind;
    return one;
}

Interface port(uint32_t index, const std::string& name, uint32_t master, const std::string& master_kind,
               bool isolated = false) {
    Interface one = link(index, name);
    one.master = master;
    one.master_kind = master_kind;
    one.isolated = isolated;
    return one;
}

Interface above(uint32_t index, const std::string& name, uint32_t below) {
    Interface one = link(index, name, "vlan");
    one.below = below;
    return one;
}

Surroundings around(std::vector<Interface> interfaces) {
    Surroundings all;
    all.interfaces = std::move(interfaces);
    return all;
}

}  // namespace

TEST_CASE("bypass: routed interfaces alone are no way past the fence") {
    const Surroundings plain = around({link(1, "lo"), link(2, "bng0"), link(3, "up0"), above(4, "vlan7", 3)});
    CHECK(bypasses(plain, {"bng0", "vlan*"}).empty());
}

TEST_CASE("bypass: no subscriber interface, and a pattern that matches none") {
    const Surroundings plain = around({link(1, "lo"), link(2, "bng0")});
    CHECK(bypasses(plain, {}) ==
          Warnings{"source addresses not enforced: name the subscriber interfaces in [interfaces] subscriber"});
    CHECK(
        bypasses(plain, {"bng0", "bng", "vlan*"}) ==
        Warnings{"[interfaces] subscriber \"bng\" matches no interface now: correct it, or bring the interface up",
                 "[interfaces] subscriber \"vlan*\" matches no interface now: correct it, or bring the interface up"});
}

TEST_CASE("bypass: a bridge passes frames between its ports unless all are isolated") {
    const Interface bridge = link(2, "br0", "bridge");
    const auto of = [&](bool first, bool second, const Warnings& patterns) {
        return bypasses(around({bridge, port(3, "bng0", 2, "bridge", first), port(4, "up0", 2, "bridge", second)}),
                        patterns);
    };
    CHECK(of(false, false, {"bng0"}) ==
          Warnings{"subscriber interface bng0 is a port of bridge br0: what it passes from port to port "
                   "(bng0, up0) is not fenced; take it out of the bridge, or isolate all ports and name br0 in "
                   "[interfaces] subscriber"});
    CHECK(of(true, false, {"bng0"}).size() == 1);
    CHECK(of(true, true, {"bng0"}) ==
          Warnings{"subscriber interface bng0 is a port of bridge br0, as whose its packets are forwarded: source "
                   "addresses are not enforced there; name br0 in [interfaces] subscriber"});
    CHECK(of(false, false, {"br0"}) ==
          Warnings{"subscriber interface br0 is a bridge: what it passes from port to port (bng0, up0) is not fenced; "
                   "isolate the ports (bridge link set dev PORT isolated on)"});
    CHECK(of(true, true, {"br0"}).empty());
    CHECK(bypasses(around({bridge, port(3, "bng0", 2, "bridge")}), {"br0"}).empty());
}

TEST_CASE("bypass: where bridges ask the forward hook, only frames with a tag pass it") {
    Surroundings all = around({link(2, "br0", "bridge"), port(3, "bng0", 2, "bridge"), port(4, "up0", 2, "bridge")});
    all.bridged_untagged = true;
    for (const char* pattern : {"br0", "bng0"}) {
        const Warnings warnings = bypasses(all, {pattern});
        REQUIRE(warnings.size() == 1);
        CHECK(warnings[0].find("is not fenced when it has a tag (VLAN, PPPoE)") != std::string::npos);
    }
}

TEST_CASE("bypass: the forward hook sees a port's master") {
    for (const char* kind : {"bond", "team", "vrf"}) {
        const Surroundings all = around({link(2, "master", kind), port(3, "bng0", 2, kind)});
        CHECK(bypasses(all, {"bng0"}).size() == 1);
        CHECK(bypasses(all, {"master"}).empty());
        CHECK(bypasses(all, {"bng0", "master"}).empty());
    }
    const Surroundings virtual_switch =
        around({link(2, "ovs-system", "openvswitch"), port(3, "bng0", 2, "openvswitch")});
    CHECK(bypasses(virtual_switch, {"bng0"}).size() == 1);
    CHECK(bypasses(virtual_switch, {"bng0"})[0].find("Open vSwitch") != std::string::npos);
}

TEST_CASE("bypass: a flow table counts when it has devices") {
    Surroundings all = around({link(2, "bng0")});
    all.flowtables = {{"inet filter", "fast", {}}};
    CHECK(bypasses(all, {"bng0"}).empty());
    all.flowtables[0].devices = {"bng0", "up0"};
    CHECK(
        bypasses(all, {"bng0"}) ==
        Warnings{"flowtable fast of table inet filter (bng0, up0): sessions in it skip the fence, and outlive their "
                 "right while the service is down; keep tcp port 25 out of it in the rule that says 'flow add @fast'"});
}

TEST_CASE("bypass: a program counts where subscribers' frames come through") {
    Surroundings all = around({link(2, "eth0"), above(3, "vlan7", 2), above(4, "vlan7.9", 3), link(5, "up0"),
                               link(6, "bond0", "bond"), port(7, "eth1", 6, "bond")});
    for (auto& one : all.interfaces) one.xdp = one.name == "eth0";
    CHECK(bypasses(all, {"vlan7.9"}).size() == 1);
    CHECK(bypasses(all, {"eth0"}).size() == 1);
    CHECK(bypasses(all, {"up0"}).empty());
    for (auto& one : all.interfaces) one.xdp = one.name == "eth1";
    CHECK(bypasses(all, {"bond0"}).size() == 1);
    CHECK(bypasses(all, {"vlan*"}).empty());
}

TEST_CASE("bypass: a redirection counts where subscribers' frames come through, unless they come back") {
    Surroundings all = around({link(2, "bng0"), link(3, "up0"), link(4, "ifb0", "ifb")});
    all.redirections = {{2, "tc filter u32", 3}};
    CHECK(bypasses(all, {"bng0"}) ==
          Warnings{
              "tc filter u32 on bng0 may send frames on to up0 before they reach the fence: make sure that it leaves "
              "tcp port 25 to the kernel"});
    CHECK(bypasses(all, {"up0"}).empty());
    all.redirections = {{2, "tc filter u32", 4}};
    CHECK(bypasses(all, {"bng0"}).empty());
    all.redirections = {{0, "chain ingress of table netdev early", 0}};
    CHECK(bypasses(all, {"up0"}).size() == 1);
}

TEST_CASE("bypass: labels, and what could not be asked") {
    Surroundings all = around({link(2, "bng0"), link(3, "up0")});
    all.labelled = {"up0"};
    all.unasked = {"flow tables: Operation not permitted"};
    const Warnings warnings = bypasses(all, {"bng0"});
    REQUIRE(warnings.size() == 2);
    CHECK(warnings[0].starts_with("MPLS is forwarded from up0"));
    CHECK(warnings[1] ==
          "ways past the fence could not all be looked for: flow tables: Operation not permitted; run it as root "
          "(CAP_NET_ADMIN) on the router");
}
