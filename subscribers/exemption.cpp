// The opt-outs: the part of customer.hpp that opens and closes port 25 for a customer.

#include <fmt/format.h>

#include "subscribers/rows.hpp"

namespace smtpfence {

namespace {

Exemption exemption_of(const Row& row) {
    return {.customer = std::string(row.text(0)),
            .reason = std::string(row.text(1)),
            .ticket = row.optional_text(2),
            .asked_by = row.optional_text(3),
            .granted_by = std::string(row.text(4)),
            .since = to_instant(row.integer(5)),
            .until = to_instant(row.integer(6)),
            .counted_from = to_instant(row.integer(7)),
            .revoked = row.instant(8),
            .revoke_reason = row.optional_text(9),
            .source = std::string(row.text(10))};
}

Instant end_of(const Grant& grant, Instant from) {
    if (grant.duration.has_value() == grant.until.has_value()) {
        throw Refused(Refusal::usage, "an exemption needs either --for or --until");
    }
    const Instant until = grant.until ? *grant.until : from + *grant.duration;
    if (until <= from) {
        throw Refused(Refusal::invalid, fmt::format("exemption of customer {}: its end, {}, is not in the future",
                                                    quoted(grant.customer), format_instant(until)));
    }
    return until;
}

void check(const Grant& grant) {
    check_customer_id(grant.customer);
    check_text("reason", grant.reason);
    if (grant.ticket) check_text("ticket", *grant.ticket);
    if (grant.asked_by) check_text("asked-by", *grant.asked_by);
}

bool states(const Grant& grant, const Exemption& held) {
    const bool same_end = grant.until ? *grant.until == held.until : *grant.duration == held.until - held.counted_from;
    return same_end && grant.reason == held.reason && grant.ticket == held.ticket && grant.asked_by == held.asked_by;
}

}  // namespace

bool grant_exemption(Change& change, const Grant& grant) {
    check(grant);
    const Instant until = end_of(grant, change.time());
    const auto held = exemption(change.database(), grant.customer);
    if (held && held->active(change.time())) {
        if (states(grant, *held)) return false;
        throw Refused(
            Refusal::conflict,
            fmt::format("customer {} is exempt until {} already, with other facts (reason {}): 'exempt renew' "
                        "changes them",
                        quoted(grant.customer), format_instant(held->until), quoted(held->reason)));
    }
    mention_customer(change, grant.customer);
    put(change, held,
        Exemption{.customer = grant.customer,
                  .reason = grant.reason,
                  .ticket = grant.ticket,
                  .asked_by = grant.asked_by,
                  .granted_by = change.actor().operator_name.value_or(change.actor().login),
                  .since = change.time(),
                  .until = until,
                  .counted_from = change.time(),
                  .revoked = {},
                  .revoke_reason = {},
                  .source = change.source()});
    return true;
}

bool renew_exemption(Change& change, const Grant& grant) {
    check(grant);
    const Instant until = end_of(grant, change.time());
    require_customer(change.database(), grant.customer);
    const auto held = exemption(change.database(), grant.customer);
    if (!held || !held->active(change.time())) {
        throw Refused(Refusal::not_found, fmt::format("customer {} has no active exemption: 'exempt grant' gives one",
                                                      quoted(grant.customer)));
    }
    Exemption renewed = *held;
    renewed.reason = grant.reason;
    if (grant.ticket) renewed.ticket = grant.ticket;
    if (grant.asked_by) renewed.asked_by = grant.asked_by;
    renewed.until = until;
    renewed.counted_from = change.time();
    renewed.source = change.source();
    if (renewed == *held) return false;
    put(change, held, renewed);
    return true;
}

bool revoke_exemption(Change& change, std::string_view customer, std::string_view reason) {
    check_customer_id(customer);
    check_text("reason", reason);
    require_customer(change.database(), customer);
    const auto held = exemption(change.database(), customer);
    if (!held || held->revoked) return false;  // one that is over may be so by a wrong clock only
    Exemption revoked = *held;
    revoked.revoked = change.time();
    revoked.revoke_reason = reason;
    revoked.source = change.source();
    put(change, held, revoked);
    return true;
}

std::optional<Exemption> exemption(Database& database, std::string_view customer) {
    std::optional<Exemption> found;
    database.query(
        "SELECT customer, reason, ticket, asked_by, granted_by, since, until, counted_from, revoked, revoke_reason,"
        " source FROM exemption WHERE customer = $1",
        {std::string(customer)}, [&](const Row& row) { found = exemption_of(row); });
    return found;
}

void each_exemption(Database& database, Instant at, std::optional<Instant> expiring_before,
                    const std::function<void(const Exemption&)>& each) {
    // All of them stream in the order of their key; few of many are found by their end.
    const std::string sql = fmt::format(
        "SELECT customer, reason, ticket, asked_by, granted_by, since, until, counted_from, revoked, revoke_reason,"
        " source FROM exemption WHERE revoked IS NULL AND until > $1{} ORDER BY customer",
        expiring_before ? " AND until < $2" : "");
    database.query(sql, {to_number(at), optional_value(expiring_before)},
                   [&](const Row& row) { each(exemption_of(row)); });
}

}  // namespace smtpfence
