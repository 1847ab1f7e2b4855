// relay and pool: what stays reachable, and what is fenced.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "controller/commands.hpp"
#include "controller/fenced_policy.hpp"
#include "controller/guarded_change.hpp"
#include "subscribers/customer.hpp"
#include "subscribers/fenced.hpp"

namespace smtpfence {

namespace {

// What became of each prefix that a command named.
struct Sorted {
    std::vector<std::string> changed, unchanged;
};

template <typename Write>
Sorted write_each(const std::vector<Prefix>& prefixes, Write write) {
    Sorted sorted;
    for (const Prefix& prefix : prefixes) (write(prefix) ? sorted.changed : sorted.unchanged).push_back(prefix.text());
    return sorted;
}

// "relay 203.0.113.10/32 added; revision 7", "relay 203.0.113.10/32 was there; revision 7".
int print(Invocation& run, const char* object, const char* done, const char* not_done, const Sorted& sorted,
          Revision revision) {
    std::string text;
    if (!sorted.changed.empty()) text += fmt::format("{} {} {}; ", object, fmt::join(sorted.changed, ", "), done);
    if (!sorted.unchanged.empty())
        text += fmt::format("{} {} {}; ", object, fmt::join(sorted.unchanged, ", "), not_done);
    run.output().result({{"revision", revision}, {done, sorted.changed}, {"unchanged", sorted.unchanged}},
                        fmt::format("{}revision {}", text, revision));
    return 0;
}

struct PrefixOptions {
    std::vector<std::string> prefixes;
    Text note, name, action;
    bool all = false, confirmed = false;
};

CLI::Option* declare_prefixes(CLI::App& app, const std::shared_ptr<PrefixOptions>& options) {
    return app.add_option("PREFIX", options->prefixes, "an address or a prefix, like 100.64.0.0/10 or 2001:db8::/32");
}

}  // namespace

Execution relay_add(CLI::App& app) {
    auto options = std::make_shared<PrefixOptions>();
    declare_prefixes(app, options)->required();
    CLI::Option* note = app.add_option("--note", options->note, "text for people")->type_name("TEXT");
    declare_confirm(app, options->confirmed);
    return [=](Invocation& run) {
        const auto prefixes = parse_prefixes(options->prefixes);
        const auto text = given(note, options->note);
        if (text) check_text("note", *text);
        const RelayLimits limits = run.configuration().relay;
        Change change(run.database(OpenMode::write), run.actor(), "relay add");
        const Sorted sorted = write_each(prefixes, [&](const Prefix& p) { return add_relay(change, p, text, limits); });
        judge_openings(run, change, options->confirmed);
        const Revision revision = change.commit();
        warn_doubts(run);
        return print(run, "relay", "added", "was there already", sorted, revision);
    };
}

Execution relay_remove(CLI::App& app) {
    auto options = std::make_shared<PrefixOptions>();
    declare_prefixes(app, options)->required();
    return [=](Invocation& run) {
        const auto prefixes = parse_prefixes(options->prefixes);
        Change change(run.database(OpenMode::write), run.actor(), "relay remove");
        const Sorted sorted = write_each(prefixes, [&](const Prefix& p) { return remove_relay(change, p); });
        require_relay_left(run, change);
        const Revision revision = change.commit();
        if (!sorted.changed.empty()) warn_doubts(run);
        return print(run, "relay", "removed", "was not there", sorted, revision);
    };
}

Execution relay_list(CLI::App&) {
    return [](Invocation& run) {
        Listing listing(run.output(), {{"prefix", "PREFIX"}, {"note", "NOTE"}, {"source", "SOURCE"}});
        for (const Relay& relay : relays(run.database())) {
            listing.add({{"prefix", relay.prefix.text()}, {"note", json_of(relay.note)}, {"source", relay.source}});
        }
        listing.finish();
        return 0;
    };
}

Execution pool_add(CLI::App& app) {
    auto options = std::make_shared<PrefixOptions>();
    options->action = word(Action::drop);
    declare_prefixes(app, options)->required();
    CLI::Option* name = app.add_option("--name", options->name, "text for people")->type_name("TEXT");
    app.add_option(
           "--action", options->action,
           "what happens to port 25: drop (default), reject, observe (let through, counted) or pass (never fenced)")
        ->type_name("drop|reject|observe|pass");
    declare_confirm(app, options->confirmed);
    return [=](Invocation& run) {
        const auto prefixes = parse_prefixes(options->prefixes);
        const Action action = parse_action(options->action);
        const auto text = given(name, options->name);
        if (text) check_text("name", *text);
        Change change(run.database(OpenMode::write), run.actor(), "pool add");
        const Sorted sorted = write_each(prefixes, [&](const Prefix& p) { return add_pool(change, p, text, action); });
        judge_openings(run, change, options->confirmed);
        const Revision revision = change.commit();
        warn_doubts(run);
        return print(run, "pool", "added", "was there already", sorted, revision);
    };
}

Execution pool_set(CLI::App& app) {
    auto options = std::make_shared<PrefixOptions>();
    declare_prefixes(app, options);
    app.add_flag("--all", options->all, "every pool instead of the named ones");
    app.add_option("--action", options->action, "what happens to port 25 from now on")
        ->type_name("drop|reject|observe|pass")
        ->required();
    declare_confirm(app, options->confirmed);
    return [=](Invocation& run) {
        if (options->all == !options->prefixes.empty()) {
            throw Refused(Refusal::usage, "pool set: name the pools, or say --all");
        }
        auto prefixes = parse_prefixes(options->prefixes);
        const Action action = parse_action(options->action);
        Change change(run.database(OpenMode::write), run.actor(), "pool set");
        if (options->all) {
            for (const Pool& pool : pools(run.database())) prefixes.push_back(pool.prefix);
            if (prefixes.empty()) run.output().warn("there is no pool: 'pool add' makes one");
        }
        const Sorted sorted = write_each(prefixes, [&](const Prefix& p) { return set_pool(change, p, action); });
        judge_openings(run, change, options->confirmed);
        const Revision revision = change.commit();
        warn_doubts(run);
        return print(run, "pool", "changed", fmt::format("was {} already", word(action)).c_str(), sorted, revision);
    };
}

Execution pool_remove(CLI::App& app) {
    auto options = std::make_shared<PrefixOptions>();
    declare_prefixes(app, options)->required();
    declare_confirm(app, options->confirmed);
    return [=](Invocation& run) {
        const auto prefixes = parse_prefixes(options->prefixes);
        Change change(run.database(OpenMode::write), run.actor(), "pool remove");
        const Sorted sorted = write_each(prefixes, [&](const Prefix& p) { return remove_pool(change, p); });
        judge_openings(run, change, options->confirmed);
        return print(run, "pool", "removed", "was not there", sorted, change.commit());
    };
}

Execution pool_list(CLI::App&) {
    return [](Invocation& run) {
        Listing listing(run.output(),
                        {{"prefix", "PREFIX"}, {"action", "ACTION"}, {"name", "NAME"}, {"source", "SOURCE"}});
        for (const Pool& pool : pools(run.database())) {
            listing.add({{"prefix", pool.prefix.text()},
                         {"action", word(pool.action)},
                         {"name", json_of(pool.name)},
                         {"source", pool.source}});
        }
        listing.finish();
        return 0;
    };
}

}  // namespace smtpfence
