// exempt: opting a customer out of the fence, and back.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "controller/enforced.hpp"
#include "controller/facts_shown.hpp"
#include "subscribers/customer.hpp"
#include "subscribers/text.hpp"

namespace smtpfence {

namespace {

struct GrantOptions {
    Text customer, reason, ticket, asked_by, duration = "365d", until;
    CLI::Option *has_ticket = nullptr, *has_asked_by = nullptr, *has_until = nullptr;
};

std::shared_ptr<GrantOptions> declare_grant(CLI::App& app) {
    auto options = std::make_shared<GrantOptions>();
    app.add_option("CUSTOMER", options->customer, "the customer's id")->required();
    app.add_option("--reason", options->reason, "why, for the audit trail")->type_name("TEXT")->required();
    options->has_ticket =
        app.add_option("--ticket", options->ticket, "number in the ISP's own system")->type_name("TEXT");
    options->has_asked_by = app.add_option("--asked-by", options->asked_by, "who asked for it")->type_name("TEXT");
    CLI::Option* duration =
        app.add_option("--for", options->duration, "how long, counted from now; default 365d")->type_name("DURATION");
    options->has_until = app.add_option("--until", options->until, "until when, like 2027-01-01T00:00:00Z")
                             ->type_name("TIME")
                             ->excludes(duration);
    return options;
}

Grant parse_grant(const GrantOptions& options) {
    Grant grant;
    grant.customer = options.customer;
    check_customer_id(grant.customer);
    grant.reason = options.reason;
    check_text("reason", grant.reason);
    grant.ticket = given(options.has_ticket, options.ticket);
    if (grant.ticket) check_text("ticket", *grant.ticket);
    grant.asked_by = given(options.has_asked_by, options.asked_by);
    if (grant.asked_by) check_text("asked-by", *grant.asked_by);
    if (options.has_until->count() > 0) {
        grant.until = parse_instant(options.until);
    } else {
        grant.duration = parse_duration(options.duration);
    }
    return grant;
}

void warn_holds_nothing(Invocation& run, const std::string& customer) {
    run.output().warn(fmt::format("customer {} holds no address: the exemption lies dormant until one is assigned; {}",
                                  quoted(customer), nearest_customers(run.database(), customer)));
}

// " (100.64.3.7/32, 2001:db8::/56)"
std::string in_brackets(const std::vector<std::string>& prefixes) {
    return prefixes.empty() ? "" : fmt::format(" ({})", fmt::join(prefixes, ", "));
}

template <typename Write>
Execution write_grant(CLI::App& app, const char* words, Write write) {
    auto options = declare_grant(app);
    auto waiting = declare_wait(app, "5s");
    return [=](Invocation& run) {
        const Grant grant = parse_grant(*options);
        const auto wait = wait_limit(*waiting);
        Database& database = run.database(OpenMode::write);
        Change change(database, run.actor(), words, grant.reason);
        const bool wrote = write(change, grant);
        const auto prefixes = held_prefixes(database, grant.customer);
        if (prefixes.empty()) warn_holds_nothing(run, grant.customer);
        const std::string until = format_instant(exemption(database, grant.customer).value().until);
        return commit_and_answer(
            run, change, wait,
            {{"customer", grant.customer}, {"revision", nullptr}, {"until", until}, {"prefixes", prefixes}},
            fmt::format("{}: {} until {}{}", wrote ? "exempt" : "exempt already", grant.customer, until,
                        in_brackets(prefixes)));
    };
}

}  // namespace

Execution exempt_grant(CLI::App& app) { return write_grant(app, "exempt grant", grant_exemption); }
Execution exempt_renew(CLI::App& app) { return write_grant(app, "exempt renew", renew_exemption); }

Execution exempt_revoke(CLI::App& app) {
    auto options = std::make_shared<GrantOptions>();
    app.add_option("CUSTOMER", options->customer, "the customer's id")->required();
    app.add_option("--reason", options->reason, "why, for the audit trail")->type_name("TEXT")->required();
    auto waiting = declare_wait(app, "5s");
    return [=](Invocation& run) {
        check_customer_id(options->customer);
        check_text("reason", options->reason);
        const auto wait = wait_limit(*waiting);
        Database& database = run.database(OpenMode::write);
        Change change(database, run.actor(), "exempt revoke", options->reason);
        const bool wrote = revoke_exemption(change, options->customer, options->reason);
        const auto prefixes = held_prefixes(database, options->customer);
        return commit_and_answer(run, change, wait,
                                 {{"customer", options->customer}, {"revision", nullptr}, {"prefixes", prefixes}},
                                 fmt::format("{}: {}{}", wrote ? "exempt no more" : "was not exempt", options->customer,
                                             in_brackets(prefixes)));
    };
}

Execution exempt_show(CLI::App& app) {
    auto options = std::make_shared<GrantOptions>();
    app.add_option("CUSTOMER", options->customer, "the customer's id")->required();
    return [=](Invocation& run) {
        check_customer_id(options->customer);
        Database& database = run.database();
        const Reading reading(database);
        require_customer(database, options->customer);
        const auto held = exemption(database, options->customer);
        Json thing = held ? shown(*held, now()) : Json{{"customer", options->customer}, {"exemption", nullptr}};
        if (held) thing["prefixes"] = held_prefixes(database, options->customer);
        const std::string state = !held                 ? "was never exempt"
                                  : held->active(now()) ? "is exempt"
                                                        : "is not exempt any more";
        run.output().card(thing, fmt::format("{} {}", options->customer, state),
                          {{"reason", "reason"},
                           {"ticket", "ticket"},
                           {"asked_by", "asked by"},
                           {"granted_by", "granted by"},
                           {"since", "since"},
                           {"until", "until"},
                           {"revoked", "revoked"},
                           {"revoke_reason", "because"},
                           {"source", "source"},
                           {"prefixes", "prefixes"}});
        return 0;
    };
}

Execution exempt_list(CLI::App& app) {
    auto within = std::make_shared<Text>();
    CLI::Option* expiring =
        app.add_option("--expiring", *within, "only those that end within this time, like 30d")->type_name("DURATION");
    return [=](Invocation& run) {
        const Instant time = now();
        std::optional<Instant> before;
        if (expiring->count() > 0) before = time + parse_duration(*within);
        Listing listing(run.output(), {{"customer", "CUSTOMER"},
                                       {"until", "UNTIL"},
                                       {"reason", "REASON"},
                                       {"ticket", "TICKET"},
                                       {"asked_by", "ASKED BY"},
                                       {"granted_by", "GRANTED BY"},
                                       {"since", "SINCE"},
                                       {"source", "SOURCE"}});
        each_exemption(run.database(), time, before, [&](const Exemption& e) {
            listing.add({{"customer", e.customer},
                         {"until", format_instant(e.until)},
                         {"reason", e.reason},
                         {"ticket", json_of(e.ticket)},
                         {"asked_by", json_of(e.asked_by)},
                         {"granted_by", e.granted_by},
                         {"since", format_instant(e.since)},
                         {"source", e.source}});
        });
        listing.finish();
        return 0;
    };
}

}  // namespace smtpfence
