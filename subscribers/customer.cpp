#include "subscribers/customer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "subscribers/facts.hpp"

namespace smtpfence {

void check_customer_id(std::string_view id) {
    const auto refuse = [&](std::string_view why) {
        throw Refused(Refusal::invalid, fmt::format("customer {}: {}", quoted(id), why));
    };
    if (id.empty()) refuse("an id must not be empty");
    if (id.size() > 255) refuse(fmt::format("an id has at most 255 bytes, this has {}", id.size()));
    if (!is_utf8(id)) refuse("an id must be UTF-8");
    if (has_control(id)) refuse("an id must not have control characters");
    if (id.front() == ' ' || id.back() == ' ') refuse("an id must not begin or end with a space");
}

void check_text(std::string_view what, std::string_view text) {
    const auto refuse = [&](std::string_view why) {
        throw Refused(Refusal::invalid, fmt::format("{} {}: {}", what, quoted(text), why));
    };
    if (text.empty()) refuse("must not be empty");
    if (text.find_first_not_of(' ') == std::string_view::npos) refuse("must not be blank");
    if (text.size() > 1000) refuse(fmt::format("must have at most 1,000 bytes, this has {}", text.size()));
    if (!is_utf8(text)) refuse("must be UTF-8");
    if (has_control(text)) refuse("must not have control characters");
}

bool customer_exists(Database& database, std::string_view customer) {
    bool found = false;
    database.query("SELECT 1 FROM customer WHERE id = $1", {std::string(customer)}, [&](const Row&) { found = true; });
    return found;
}

bool mention_customer(Change& change, const std::string& customer) {
    const int64_t added =
        change.database().query("INSERT INTO customer (id, since) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
                                {customer, to_number(change.time())});
    if (added == 0) return false;
    change.record(Object::customer, customer, {}, nullptr, customer_facts(customer, change.time(), change.source()));
    return true;
}

namespace {

/// One character inserted, left out, replaced, or two neighbours swapped. (By bytes: ids are mostly ASCII.)
bool one_slip_away(std::string_view a, std::string_view b) {
    if (a.size() > b.size()) std::swap(a, b);
    if (b.size() - a.size() > 1) return false;
    const size_t same = static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin());
    const std::string_view rest_a = a.substr(same), rest_b = b.substr(same);
    if (a.size() < b.size()) return rest_a == rest_b.substr(1);
    if (rest_a.size() >= 2 && rest_a[0] == rest_b[1] && rest_a[1] == rest_b[0] &&
        rest_a.substr(2) == rest_b.substr(2)) {
        return true;
    }
    return rest_a.empty() || rest_a.substr(1) == rest_b.substr(1);
}

}  // namespace

std::vector<std::string> similar_customers(Database& database, std::string_view customer) {
    // Two short walks along the index from where the id would be: cheap with millions of customers.
    std::vector<std::string> slips, beginnings;
    const auto consider = [&](const Row& row) {
        const std::string_view known = row.text(0);
        if (known == customer) return;
        if (one_slip_away(known, customer)) {
            slips.emplace_back(known);
        } else if (known.substr(0, customer.size()) == customer || customer.substr(0, known.size()) == known) {
            beginnings.emplace_back(known);
        }
    };
    const std::string id(customer);
    database.query("SELECT id FROM customer WHERE id >= $1 ORDER BY id LIMIT 50", {id}, consider);
    database.query("SELECT id FROM customer WHERE id < $1 ORDER BY id DESC LIMIT 50", {id}, consider);
    slips.insert(slips.end(), beginnings.begin(), beginnings.end());
    slips.resize(std::min<size_t>(slips.size(), 3));
    return slips;
}

std::string nearest_customers(Database& database, std::string_view customer) {
    std::string known;
    for (const std::string& id : similar_customers(database, customer))
        known += (known.empty() ? "" : ", ") + quoted(id);
    return known.empty() ? "'customer list' shows the known ones" : "did you mean " + known + "?";
}

void require_customer(Database& database, std::string_view customer) {
    if (customer_exists(database, customer)) return;
    throw Refused(Refusal::not_found,
                  fmt::format("unknown customer {}: {}", quoted(customer), nearest_customers(database, customer)));
}

void each_customer(Database& database, Instant at, const std::function<void(const CustomerLine&)>& each) {
    database.query(
        "SELECT c.id,"
        " (SELECT count(*) FROM assignment a WHERE a.customer = c.id AND (a.until IS NULL OR a.until > $1)),"
        " e.reason, e.ticket, e.asked_by, e.granted_by, e.since, e.until, e.counted_from, e.source"
        " FROM customer c LEFT JOIN exemption e ON e.customer = c.id AND e.revoked IS NULL AND e.until > $1"
        " ORDER BY c.id",
        {to_number(at)}, [&](const Row& row) {
            CustomerLine line{std::string(row.text(0)), row.integer(1), {}};
            if (!row.null(2)) {
                line.exemption = Exemption{.customer = line.customer,
                                           .reason = std::string(row.text(2)),
                                           .ticket = row.optional_text(3),
                                           .asked_by = row.optional_text(4),
                                           .granted_by = std::string(row.text(5)),
                                           .since = to_instant(row.integer(6)),
                                           .until = to_instant(row.integer(7)),
                                           .counted_from = to_instant(row.integer(8)),
                                           .revoked = {},
                                           .revoke_reason = {},
                                           .source = std::string(row.text(9))};
            }
            each(line);
        });
}

}  // namespace smtpfence
