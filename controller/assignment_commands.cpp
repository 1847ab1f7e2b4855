// assign, release and assignment: who holds which prefix.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "controller/enforced.hpp"
#include "controller/facts_shown.hpp"
#include "subscribers/customer.hpp"
#include "subscribers/text.hpp"

namespace smtpfence {

namespace {

struct AssignOptions {
    Text customer, until;
    std::vector<std::string> prefixes;
    bool take = false;
};

// What `assign` did with all of its prefixes.
struct Given {
    std::vector<std::string> added, changed, unchanged;
    std::vector<Assignment> taken;
};

Given assign_all(Change& change, const std::string& customer, const std::vector<Prefix>& prefixes,
                 std::optional<Instant> until, bool take) {
    Given all;
    for (const Prefix& prefix : prefixes) {
        const Assigned one = assign(change, customer, prefix, until, take);
        (one.added ? all.added : one.changed ? all.changed : all.unchanged).push_back(prefix.text());
        all.taken.insert(all.taken.end(), one.taken.begin(), one.taken.end());
    }
    return all;
}

std::string sentence_of(const std::string& customer, const Given& all) {
    std::vector<std::string> parts;
    if (!all.added.empty()) parts.push_back(fmt::format("{} given to {}", fmt::join(all.added, ", "), customer));
    if (!all.changed.empty()) parts.push_back(fmt::format("{} of {} changed", fmt::join(all.changed, ", "), customer));
    if (!all.unchanged.empty())
        parts.push_back(fmt::format("{} held {} already", customer, fmt::join(all.unchanged, ", ")));
    for (const Assignment& taken : all.taken)
        parts.push_back(fmt::format("taken from {}: {}", taken.customer, taken.prefix.text()));
    return fmt::format("{}", fmt::join(parts, "; "));
}

Json taken_json(const std::vector<Assignment>& taken) {
    Json all = Json::array();
    for (const Assignment& one : taken) all.push_back({{"customer", one.customer}, {"prefix", one.prefix.text()}});
    return all;
}

// Whoever releases an address of a subnet may think that it is free now.
void warn_still_held(Invocation& run, const Prefix& prefix, Instant time) {
    const auto wider = holder(run.database(), prefix, time);
    if (!wider) return;
    run.output().warn(fmt::format("{} lies inside {}, which customer {} still holds: smtpfence release {} ends that",
                                  prefix.text(), wider->prefix.text(), quoted(wider->customer), wider->prefix.text()));
}

}  // namespace

Execution assign_command(CLI::App& app) {
    auto options = std::make_shared<AssignOptions>();
    app.add_option("CUSTOMER", options->customer, "the customer's id")->required();
    app.add_option("PREFIX", options->prefixes, "an address, a static subnet or a delegated prefix")->required();
    CLI::Option* until =
        app.add_option("--until", options->until, "the right ends by itself then, like 2027-01-01T00:00:00Z")
            ->type_name("TIME");
    app.add_flag("--take", options->take, "end what others hold of these prefixes");
    auto waiting = declare_wait(app, "");
    return [=](Invocation& run) {
        check_customer_id(options->customer);
        const auto prefixes = parse_prefixes(options->prefixes);
        std::optional<Instant> end;
        if (until->count() > 0) end = parse_instant(options->until);
        const auto wait = wait_limit(*waiting);
        Change change(run.database(OpenMode::write), run.actor(), "assign");
        const Given all = assign_all(change, options->customer, prefixes, end, options->take);
        std::vector<std::string> texts;
        for (const Prefix& prefix : prefixes) texts.push_back(prefix.text());
        return commit_and_answer(run, change, wait,
                                 {{"customer", options->customer},
                                  {"revision", nullptr},
                                  {"prefixes", texts},
                                  {"added", all.added},
                                  {"changed", all.changed},
                                  {"unchanged", all.unchanged},
                                  {"taken", taken_json(all.taken)}},
                                 sentence_of(options->customer, all));
    };
}

Execution release_command(CLI::App& app) {
    auto options = std::make_shared<AssignOptions>();
    app.add_option("PREFIX", options->prefixes, "exactly as it was assigned")->required();
    auto waiting = declare_wait(app, "");
    return [=](Invocation& run) {
        const auto prefixes = parse_prefixes(options->prefixes);
        const auto wait = wait_limit(*waiting);
        Change change(run.database(OpenMode::write), run.actor(), "release");
        std::vector<std::string> texts, parts;
        Json released = Json::array(), unchanged = Json::array();
        for (const Prefix& prefix : prefixes) {
            texts.push_back(prefix.text());
            if (const auto held = release(change, prefix)) {
                released.push_back({{"customer", held->customer}, {"prefix", prefix.text()}});
                parts.push_back(fmt::format("{} released by {}", prefix.text(), held->customer));
            } else {
                unchanged.push_back(prefix.text());
                parts.push_back(fmt::format("nobody held {}", prefix.text()));
                warn_still_held(run, prefix, change.time());
            }
        }
        return commit_and_answer(run, change, wait,
                                 {{"revision", nullptr},
                                  {"prefixes", texts},
                                  {"released", std::move(released)},
                                  {"unchanged", std::move(unchanged)}},
                                 fmt::format("{}", fmt::join(parts, "; ")));
    };
}

Execution assignment_list(CLI::App& app) {
    auto customer = std::make_shared<Text>();
    CLI::Option* only = app.add_option("--customer", *customer, "only what this one holds")->type_name("ID");
    return [=](Invocation& run) {
        const auto wanted = given(only, *customer);
        if (wanted) check_customer_id(*wanted);
        Listing listing(run.output(), {{"prefix", "PREFIX"},
                                       {"customer", "CUSTOMER"},
                                       {"since", "SINCE"},
                                       {"until", "UNTIL"},
                                       {"source", "SOURCE"}});
        each_assignment(run.database(), wanted, now(), [&](const Assignment& held) { listing.add(shown(held)); });
        listing.finish();
        return 0;
    };
}

}  // namespace smtpfence
