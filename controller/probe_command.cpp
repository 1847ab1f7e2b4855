// probe: real packets through the compiled table, in a network namespace that ends with the command.

#include <fmt/format.h>

#include "controller/commands.hpp"
#include "controller/enforcement.hpp"
#include "controller/probe.hpp"

namespace smtpfence {

namespace {

constexpr size_t differences_named = 5;

Json shown(const ProbeCase& one, Verdict seen) {
    const Packet& packet = one.packet;
    return {{"class", one.about},
            {"action", one.action ? Json(word(*one.action)) : Json()},
            {"family", packet.from.family() == Family::v4 ? 4 : 6},
            {"direction", one.outbound ? "out" : "in"},
            {"interface", one.outbound ? one.in : one.out},
            {"packet", word(packet.kind)},
            {"from", packet.from.short_text()},
            {"to", packet.to.short_text()},
            {"port", one.port},
            {"port_at", one.port == packet.destination_port ? "to" : "from"},
            {"expected", word(one.expected)},
            {"seen", word(seen)},
            {"ok", seen == one.expected}};
}

std::vector<Column> columns() {
    const auto port = [](const Json& item) {
        return fmt::format("{} {}", item["port_at"].get<std::string>(), item["port"].get<int>());
    };
    const auto tone = [](const Json& item) { return item["ok"].get<bool>() ? Tone::good : Tone::bad; };
    return {{"class", "CLASS"},     {"action", "ACTION"}, {"family", "IP"},         {"direction", "DIRECTION"},
            {"interface", "LINE"},  {"packet", "PACKET"}, {"from", "FROM"},         {"to", "TO"},
            {"port", "PORT", port}, {"port_at", ""},      {"expected", "EXPECTED"}, {"seen", "SEEN", {}, tone},
            {"ok", "OK", {}, tone}};
}

/// Sends what this kernel has routes for, without the table and then through it.
class Probe {
public:
    Probe(Invocation& run, const Policy& policy, ProbePlan plan)
        : run_(run), policy_(policy), plan_(std::move(plan)), network_(plan_.interfaces()) {
        leave_out_missing_families();
    }

    /// Returns how many packets were judged otherwise than expected.
    size_t send_all(Instant time) {
        require_paths(network_, plan_);
        const auto kernel = open_kernel();
        enforce(*kernel, policy_, run_.configuration().border, time);
        Listing listing(run_.output(), columns(), {{"revision", policy_.revision}, {"left_out", plan_.left_out}});
        for (const ProbeCase& one : plan_.cases) {
            const Verdict seen = verdict(network_, one);
            listing.add(shown(one, seen));
            if (seen != one.expected)
                wrong_.push_back(fmt::format("{}: expected {}, seen {}", text(one), word(one.expected), word(seen)));
        }
        listing.finish();
        return wrong_.size();
    }

    void say() {
        for (const std::string& what : plan_.left_out) run_.output().note("left out: " + what);
        for (size_t i = 0; i < std::min(wrong_.size(), differences_named); ++i) run_.output().warn(wrong_[i]);
        if (wrong_.size() > differences_named)
            run_.output().warn(
                fmt::format("{} more differ: see the rows that are not ok", wrong_.size() - differences_named));
        run_.output().note(fmt::format("{} packets through the table of revision {}: {}", plan_.cases.size(),
                                       policy_.revision,
                                       wrong_.empty() ? "all as expected" : fmt::format("{} differ", wrong_.size())));
    }

private:
    void leave_out_missing_families() {
        if (network_.carries(Family::v6)) return;
        std::erase_if(plan_.cases, [](const ProbeCase& one) { return one.packet.from.family() == Family::v6; });
        plan_.left_out.push_back("IPv6: this kernel has none");
    }

    Invocation& run_;
    const Policy& policy_;
    ProbePlan plan_;
    ScratchNetwork network_;
    std::vector<std::string> wrong_;
};

}  // namespace

Execution probe_command(CLI::App&) {
    return [](Invocation& run) {
        const Instant time = now();
        const Border& border = run.configuration().border;
        const Policy policy = read_policy(run.database(), time);
        require_relay(policy, border);
        Probe probe(run, policy, plan_probe(policy, border, time));
        const size_t wrong = probe.send_all(time);
        probe.say();
        return wrong == 0 ? 0 : 1;
    };
}

}  // namespace smtpfence
