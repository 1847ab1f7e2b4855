#include "rules/bypass.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace smtpfence {

namespace {

bool matches(std::string_view name, std::string_view pattern) {
    return pattern.ends_with('*') ? name.starts_with(pattern.substr(0, pattern.size() - 1)) : name == pattern;
}

/// Interfaces by their part in the subscribers' traffic.
class Lines {
public:
    Lines(const Surroundings& around, const std::vector<std::string>& patterns)
        : all_(around.interfaces), patterns_(patterns), bridged_untagged_(around.bridged_untagged) {
        for (const Interface& one : all_) {
            if (is_subscriber(one)) carriers_.insert(one.index);
        }
        for (size_t before = 0; before != carriers_.size();) {
            before = carriers_.size();
            for (const Interface& one : all_) {
                if (one.master != 0 && carriers_.contains(one.master)) carriers_.insert(one.index);
                if (one.below != 0 && carriers_.contains(one.index)) carriers_.insert(one.below);
            }
        }
    }

    const std::vector<Interface>& all() const { return all_; }
    bool is_subscriber(const Interface& one) const {
        return std::any_of(patterns_.begin(), patterns_.end(),
                           [&](const std::string& pattern) { return matches(one.name, pattern); });
    }
    /// Subscribers' frames come through it: a subscriber interface, what carries it, its ports.
    bool carries(uint32_t index) const { return carriers_.contains(index); }
    const Interface* find(uint32_t index) const {
        const auto found =
            std::find_if(all_.begin(), all_.end(), [&](const Interface& one) { return one.index == index; });
        return found == all_.end() ? nullptr : &*found;
    }
    std::string name(uint32_t index) const {
        const Interface* one = find(index);
        return one ? one->name : fmt::format("interface {}", index);
    }
    /// What becomes of the frames that a bridge passes from port to port.
    std::string unfenced() const {
        return bridged_untagged_ ? "is not fenced when it has a tag (VLAN, PPPoE)" : "is not fenced";
    }
    std::vector<const Interface*> ports_of(uint32_t master) const {
        std::vector<const Interface*> ports;
        for (const Interface& one : all_) {
            if (one.master == master) ports.push_back(&one);
        }
        return ports;
    }

private:
    const std::vector<Interface>& all_;
    const std::vector<std::string>& patterns_;
    bool bridged_untagged_;
    std::set<uint32_t> carriers_;
};

/// Ports of a bridge that may reach each other: with two or more, unless all are isolated.
bool ports_meet(const std::vector<const Interface*>& ports) {
    return ports.size() > 1 && std::any_of(ports.begin(), ports.end(), [](const Interface* p) { return !p->isolated; });
}

std::string names(const std::vector<const Interface*>& interfaces) {
    std::vector<std::string> all;
    for (const Interface* one : interfaces) all.push_back(one->name);
    return fmt::format("{}", fmt::join(all, ", "));
}

std::vector<std::string> missing_interfaces(const Lines& lines, const std::vector<std::string>& patterns) {
    std::vector<std::string> warnings;
    for (const std::string& pattern : patterns) {
        const bool there = std::any_of(lines.all().begin(), lines.all().end(),
                                       [&](const Interface& one) { return matches(one.name, pattern); });
        if (!there)
            warnings.push_back(fmt::format(
                "[interfaces] subscriber \"{}\" matches no interface now: correct it, or bring the interface up",
                pattern));
    }
    return warnings;
}

/// A subscriber interface that has a master: the forward hook sees the master's name, and a switch passes frames
/// without asking.
void judge_port(const Lines& lines, const Interface& port, std::vector<std::string>& warnings) {
    const Interface* master = lines.find(port.master);
    const std::string master_name = lines.name(port.master);
    if (port.master_kind == "openvswitch") {
        warnings.push_back(fmt::format(
            "subscriber interface {} is a port of Open vSwitch: what the switch passes on is not fenced; take it out "
            "of the switch and route, or drop tcp port 25 in the switch's own flows",
            port.name));
    } else if (port.master_kind == "bridge" && ports_meet(lines.ports_of(port.master))) {
        warnings.push_back(fmt::format(
            "subscriber interface {} is a port of bridge {}: what it passes from port to port ({}) {}; take "
            "it out of the bridge, or isolate all ports and name {} in [interfaces] subscriber",
            port.name, master_name, names(lines.ports_of(port.master)), lines.unfenced(), master_name));
    } else if (!master || !lines.is_subscriber(*master)) {
        warnings.push_back(fmt::format(
            "subscriber interface {} is a port of {} {}, as whose its packets are forwarded: source addresses are not "
            "enforced there; name {} in [interfaces] subscriber",
            port.name, port.master_kind, master_name, master_name));
    }
}

std::vector<std::string> switched_ports(const Lines& lines) {
    std::vector<std::string> warnings;
    for (const Interface& one : lines.all()) {
        if (!lines.is_subscriber(one)) continue;
        if (one.master != 0) judge_port(lines, one, warnings);
        if (one.kind != "bridge") continue;
        const auto ports = lines.ports_of(one.index);
        if (ports_meet(ports))
            warnings.push_back(
                fmt::format("subscriber interface {} is a bridge: what it passes from port to port ({}) {}; isolate "
                            "the ports (bridge "
                            "link set dev PORT isolated on)",
                            one.name, names(ports), lines.unfenced()));
    }
    return warnings;
}

std::vector<std::string> flow_offload(const Surroundings& around) {
    std::vector<std::string> warnings;
    for (const Flowtable& one : around.flowtables) {
        if (one.devices.empty()) continue;
        warnings.push_back(
            fmt::format("flowtable {} of table {} ({}): sessions in it skip the fence, and outlive their right while "
                        "the service is "
                        "down; keep tcp port 25 out of it in the rule that says 'flow add @{}'",
                        one.name, one.table, fmt::join(one.devices, ", "), one.name));
    }
    return warnings;
}

std::vector<std::string> early_programs(const Surroundings& around, const Lines& lines) {
    std::vector<std::string> warnings;
    for (const Interface& one : around.interfaces) {
        if (one.xdp && lines.carries(one.index))
            warnings.push_back(fmt::format(
                "an XDP program on {} gets the subscribers' frames before the fence: what it sends on by itself is not "
                "fenced; make sure that it leaves tcp port 25 to the kernel",
                one.name));
    }
    for (const Redirection& one : around.redirections) {
        // An intermediate functional block is for shaping: it gives the frames back.
        const Interface* target = lines.find(one.target);
        if ((one.interface != 0 && !lines.carries(one.interface)) || (target && target->kind == "ifb")) continue;
        const std::string where = one.interface == 0 ? "" : fmt::format(" on {}", lines.name(one.interface));
        const std::string whereto = one.target == 0 ? "" : fmt::format(" to {}", lines.name(one.target));
        warnings.push_back(fmt::format(
            "{}{} may send frames on{} before they reach the fence: make sure that it leaves tcp port 25 to the kernel",
            one.by, where, whereto));
    }
    return warnings;
}

std::vector<std::string> label_switching(const Surroundings& around) {
    if (around.labelled.empty()) return {};
    return {fmt::format(
        "MPLS is forwarded from {} (net.mpls.conf.*.input): packets that arrive with a label are not fenced; "
        "take labels only from routers that fence, and from no subscriber interface",
        fmt::join(around.labelled, ", "))};
}

std::vector<std::string> unasked(const Surroundings& around) {
    std::vector<std::string> warnings;
    for (const std::string& one : around.unasked)
        warnings.push_back(fmt::format(
            "ways past the fence could not all be looked for: {}; run it as root (CAP_NET_ADMIN) on the router", one));
    return warnings;
}

}  // namespace

std::vector<std::string> bypasses(const Surroundings& around, const std::vector<std::string>& subscriber) {
    const Lines lines(around, subscriber);
    std::vector<std::string> all;
    if (subscriber.empty())
        all.push_back("source addresses not enforced: name the subscriber interfaces in [interfaces] subscriber");
    for (const auto& found : {missing_interfaces(lines, subscriber), switched_ports(lines), flow_offload(around),
                              early_programs(around, lines), label_switching(around), unasked(around)}) {
        all.insert(all.end(), found.begin(), found.end());
    }
    return all;
}

}  // namespace smtpfence
