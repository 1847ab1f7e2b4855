#include "controller/probe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "controller/probe_samples.hpp"
#include "rules/layout.hpp"

namespace smtpfence {

namespace {

constexpr uint16_t mail = 25, client = 40000, discard = 9;
constexpr size_t most_subscriber_interfaces = 8;
constexpr size_t longest_name = 15;

const char* family_name(Family family) { return family == Family::v4 ? "IPv4" : "IPv6"; }

bool named(const Border& border, const std::string& interface) {
    return std::any_of(border.subscriber.begin(), border.subscriber.end(), [&](const std::string& pattern) {
        return covers(interface_key(pattern), interface_key(interface));
    });
}

/// An interface that the pattern matches and that is not in `used`; empty: there is none.
std::string matching(const std::string& pattern, const std::vector<std::string>& used) {
    const auto is_new = [&](const std::string& name) {
        return std::find(used.begin(), used.end(), name) == used.end();
    };
    const std::string beginning = pattern.substr(0, pattern.find('*'));
    for (int number = 0; number < 100 && beginning != pattern; ++number) {
        std::string name = beginning + std::to_string(number);
        if (name.size() <= longest_name && is_new(name)) return name;
    }
    return is_new(beginning) ? beginning : "";
}

/// An interface that no pattern matches.
std::string unnamed(const Border& border, const std::string& wanted) {
    if (!named(border, wanted)) return wanted;
    for (char letter = 'a'; letter <= 'z'; ++letter) {
        if (std::string name = letter + ("-" + wanted); !named(border, name)) return name;
    }
    throw Refused(Refusal::conflict,
                  "[interfaces] subscriber matches every name: no interface to the internet is left to probe");
}

/// policy.md in five lines: the action of a source's or destination's pool decides about port 25, and about what hides
/// its port; a reset can't answer what has no readable port.
Verdict expected_at_25(const std::optional<Action>& action, PacketKind kind) {
    const bool judged = kind != PacketKind::later_fragment && kind != PacketKind::udp;
    const bool readable = kind != PacketKind::cut_fragment && kind != PacketKind::second_fragment;
    if (!judged || (action != Action::drop && action != Action::reject)) return Verdict::pass;
    return action == Action::reject && readable ? Verdict::reject : Verdict::drop;
}

/// An address, where packets from it come in, and what the policy does to its port 25.
struct Line {
    std::string about;
    Prefix address;
    std::string interface, home;
    std::optional<Action> action;
};

/// Writes the cases of one family into a plan.
class FamilyCases {
public:
    FamilyCases(ProbePlan& plan, const Border& border, Family family, const Samples& found)
        : plan_(plan), border_(border), family_(family), found_(found) {}

    void write() {
        if (!found_.server || !found_.outside) {
            leave_out("pools cover every address, no foreign server is left");
            return;
        }
        for (Action action : {Action::drop, Action::reject, Action::observe, Action::pass}) {
            const auto consumer = found_.consumers.find(action);
            if (consumer == found_.consumers.end()) {
                leave_out(fmt::format("no pool with action {} has an address that is not exempt", word(action)));
            } else {
                everything({"consumer", consumer->second, home(), home(), action});
            }
        }
        if (found_.expert) everything({"expert", *found_.expert, home(), home(), {}});
        if (!found_.expert) leave_out("no exempt address");
        relay();
        outside();
        spoofed();
    }

private:
    const std::string& home() const { return plan_.subscriber.empty() ? plan_.other : plan_.subscriber.front(); }

    void leave_out(const std::string& why) {
        plan_.left_out.push_back(fmt::format("{}: {}", family_name(family_), why));
    }

    void outbound(const Line& line, PacketKind kind, const Prefix& to, uint16_t from_port, uint16_t to_port,
                  Verdict expected) {
        if (!exists(kind, family_)) return;
        plan_.cases.push_back({line.about,
                               line.action,
                               true,
                               {kind, line.address, to, from_port, to_port},
                               from_port == client ? to_port : from_port,
                               line.interface,
                               plan_.internet,
                               line.home,
                               expected});
    }

    void inbound(const Line& line, PacketKind kind, const Prefix& from, uint16_t from_port, uint16_t to_port,
                 Verdict expected) {
        if (!exists(kind, family_)) return;
        plan_.cases.push_back({line.about,
                               line.action,
                               false,
                               {kind, from, line.address, from_port, to_port},
                               from_port == client ? to_port : from_port,
                               plan_.internet,
                               line.interface,
                               plan_.internet,
                               expected});
    }

    void everything(const Line& line) {
        using enum PacketKind;
        for (PacketKind kind : {syn, data, extension, cut_fragment, second_fragment, later_fragment, udp})
            outbound(line, kind, *found_.server, client, mail, expected_at_25(line.action, kind));
        for (PacketKind kind : {syn_ack, data, cut_fragment, second_fragment, later_fragment})
            inbound(line, kind, *found_.server, mail, client, expected_at_25(line.action, kind));
        if (found_.relay) {
            outbound(line, syn, *found_.relay, client, mail, Verdict::pass);
            inbound(line, syn_ack, *found_.relay, mail, client, Verdict::pass);
        }
        for (uint16_t port : {uint16_t{443}, uint16_t{465}, uint16_t{587}}) {
            outbound(line, syn, *found_.server, client, port, Verdict::pass);
            inbound(line, syn_ack, *found_.server, port, client, Verdict::pass);
        }
        // A mail server on the line is called from outside, and answers.
        inbound(line, syn, *found_.server, client, mail, Verdict::pass);
        outbound(line, syn_ack, *found_.server, mail, client, Verdict::pass);
    }

    void relay() {
        if (!found_.relay) {
            leave_out("no relay");
            return;
        }
        const Line line{"relay", *found_.relay, plan_.other, plan_.other, {}};
        outbound(line, PacketKind::syn, *found_.server, client, mail, Verdict::pass);
        inbound(line, PacketKind::syn_ack, *found_.server, mail, client, Verdict::pass);
        inbound(line, PacketKind::syn, *found_.server, client, mail, Verdict::pass);
        outbound(line, PacketKind::syn_ack, *found_.server, mail, client, Verdict::pass);
    }

    void outside() {
        for (const std::string& interface : plan_.subscriber)
            everything({"outside", *found_.outside, interface, interface, border_.action});
        everything({"outside", *found_.outside, plan_.other, plan_.other, {}});
    }

    // A source that is routed elsewhere is judged by the interface, whatever it would be at home.
    void spoofed() {
        if (plan_.subscriber.empty()) return;
        const auto passing = found_.consumers.find(Action::pass);
        spoof("spoofed consumer", passing == found_.consumers.end() ? std::nullopt : std::optional(passing->second));
        spoof("spoofed expert", found_.expert);
        spoof("spoofed relay", found_.relay);
    }

    void spoof(const std::string& about, const std::optional<Prefix>& source) {
        if (!source) return;
        const Line line{about, *source, plan_.subscriber.front(), plan_.other, border_.action};
        outbound(line, PacketKind::syn, *found_.server, client, mail, expected_at_25(line.action, PacketKind::syn));
        outbound(line, PacketKind::syn, *found_.server, client, 587, Verdict::pass);
        if (found_.relay && found_.relay != source)
            outbound(line, PacketKind::syn, *found_.relay, client, mail, Verdict::pass);
    }

    ProbePlan& plan_;
    const Border& border_;
    Family family_;
    const Samples& found_;
};

void choose_interfaces(ProbePlan& plan, const Border& border) {
    for (const std::string& pattern : border.subscriber) {
        if (plan.subscriber.size() == most_subscriber_interfaces) {
            plan.left_out.push_back(fmt::format("[interfaces]: all behind the first {}", most_subscriber_interfaces));
            break;
        }
        if (const std::string name = matching(pattern, plan.subscriber); !name.empty()) plan.subscriber.push_back(name);
    }
    if (plan.subscriber.empty())
        plan.left_out.push_back("spoofed sources: source addresses are not enforced without [interfaces] subscriber");
    plan.internet = unnamed(border, "internet0");
    plan.other = unnamed(border, "other0");
}

}  // namespace

const char* word(Verdict verdict) {
    return verdict == Verdict::pass ? "pass" : verdict == Verdict::drop ? "drop" : "reject";
}

std::string text(const ProbeCase& one) {
    const Packet& packet = one.packet;
    return fmt::format("{}{}, {} {} {} from {} port {} to {} port {} by {}", one.about,
                       one.action ? fmt::format(" ({})", word(*one.action)) : "", family_name(packet.from.family()),
                       one.outbound ? "outbound" : "inbound", word(packet.kind), packet.from.short_text(),
                       packet.source_port, packet.to.short_text(), packet.destination_port,
                       one.outbound ? one.in : one.out);
}

std::vector<std::string> ProbePlan::interfaces() const {
    std::vector<std::string> all = subscriber;
    all.push_back(other);
    all.push_back(internet);
    return all;
}

ProbePlan plan_probe(const Policy& policy, const Border& border, Instant now) {
    ProbePlan plan;
    choose_interfaces(plan, border);
    for (Family family : {Family::v4, Family::v6})
        FamilyCases(plan, border, family, samples(policy, family, now)).write();
    return plan;
}

void require_paths(ScratchNetwork& network, const ProbePlan& plan) {
    for (const ProbeCase& one : plan.cases) {
        if (verdict(network, one) == Verdict::pass) continue;
        throw std::runtime_error(fmt::format(
            "{}: does not come out even without the table, so that nothing can be said of it on this kernel",
            text(one)));
    }
}

void enforce(Kernel& kernel, const Policy& policy, const Border& border, Instant now) {
    kernel.take();
    for (const Transaction& transaction : difference({}, compile(policy, border, {}), now).transactions)
        kernel.commit(transaction);
}

Verdict verdict(ScratchNetwork& network, const ProbeCase& one) {
    static std::atomic<uint32_t> number = 0;
    Packet packet = one.packet, sentinel = one.packet;
    packet.number = ++number;
    sentinel.kind = PacketKind::udp;
    sentinel.source_port = sentinel.destination_port = discard;
    sentinel.number = ++number;
    network.route(packet.from, one.home);
    network.route(packet.to, one.out);
    const std::string sent = bytes(packet);
    ScratchNetwork::Left left = network.send(sent, bytes(sentinel), one.in, one.out);
    const auto any = [](const std::vector<std::string>& packets, auto wanted) {
        return std::any_of(packets.begin(), packets.end(), wanted);
    };
    if (any(left[one.out], [&](const std::string& seen) { return is_same(seen, sent); })) return Verdict::pass;
    const bool reset = any(left[one.home], [&](const std::string& seen) { return is_reset_of(seen, packet); });
    return reset ? Verdict::reject : Verdict::drop;
}

}  // namespace smtpfence
