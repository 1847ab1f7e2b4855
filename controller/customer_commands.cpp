// customer: what the database knows about an account.

#include <fmt/format.h>

#include "controller/commands.hpp"
#include "controller/facts_shown.hpp"
#include "subscribers/customer.hpp"

namespace smtpfence {

namespace {

constexpr Seconds recent{7 * 86400};

std::string prefixes_with_ends(const Json& customer) {
    std::string all;
    for (const Json& held : customer["assignments"]) {
        all += (all.empty() ? "" : ", ") + held["prefix"].get<std::string>();
        if (!held["until"].is_null()) all += " until " + held["until"].get<std::string>();
    }
    return all.empty() ? "nothing" : all;
}

std::string exemption_sentence(const Json& customer) {
    const Json& e = customer["exemption"];
    if (e.is_null()) return "never";
    const auto part = [&](const char* key) { return e[key].is_null() ? std::string() : e[key].get<std::string>(); };
    const std::string ticket = part("ticket").empty() ? "" : ", ticket " + part("ticket");
    if (!part("revoked").empty()) return fmt::format("revoked at {}: {}", part("revoked"), part("revoke_reason"));
    return fmt::format("{} until {}: {}{}, by {}", e["active"].get<bool>() ? "yes," : "no, ran out, was", part("until"),
                       part("reason"), ticket, part("granted_by"));
}

std::string attempts_sentence(const Json& customer) {
    const Json& seen = customer["attempts"];
    if (seen.is_null()) return "none in the last 7 days";
    return fmt::format("{} in the last 7 days, the last at {}", seen["attempts"].get<int64_t>(),
                       seen["last_seen"].get<std::string>());
}

}  // namespace

Execution customer_show(CLI::App& app) {
    auto customer = std::make_shared<Text>();
    app.add_option("CUSTOMER", *customer, "the customer's id")->required();
    return [=](Invocation& run) {
        check_customer_id(*customer);
        Database& database = run.database();
        const Reading reading(database);
        require_customer(database, *customer);
        const Instant time = now();
        Json held = Json::array();
        each_assignment(database, *customer, time, [&](const Assignment& a) {
            Json one = shown(a);
            one.erase("customer");
            held.push_back(std::move(one));
        });
        const auto exempted = exemption(database, *customer);
        const auto seen = attempts_of(database, *customer, time - recent);
        run.output().card({{"customer", *customer},
                           {"assignments", std::move(held)},
                           {"exemption", exempted ? shown(*exempted, time) : Json()},
                           {"attempts", seen ? shown(*seen) : Json()}},
                          "customer " + *customer,
                          {{"assignments", "holds", prefixes_with_ends},
                           {"exemption", "exempt", exemption_sentence},
                           {"attempts", "attempts", attempts_sentence}});
        return 0;
    };
}

Execution customer_list(CLI::App&) {
    return [](Invocation& run) {
        const Instant time = now();
        Listing listing(run.output(),
                        {{"customer", "CUSTOMER"}, {"assignments", "HOLDS"}, {"exempt_until", "EXEMPT UNTIL"}});
        each_customer(run.database(), time, [&](const CustomerLine& line) {
            std::optional<Instant> until;
            if (line.exemption) until = line.exemption->until;
            listing.add(
                {{"customer", line.customer}, {"assignments", line.assignments}, {"exempt_until", json_of(until)}});
        });
        listing.finish();
        return 0;
    };
}

}  // namespace smtpfence
