// Everybody's rights, at once or by pages of customers.

#include <fmt/format.h>

#include <algorithm>

#include "subscribers/policy.hpp"

namespace smtpfence {

namespace {

/// The last customer of the next page; nullopt: there are fewer.
std::optional<std::string> end_of_page(Database& database, const CustomersLeft& left, From from, int64_t customers) {
    std::vector<Value> parameters{left.after, customers - 1};
    if (left.before) parameters.emplace_back(*left.before);
    std::optional<std::string> end;
    database.query(
        fmt::format("SELECT customer FROM exemption WHERE customer > $1{} ORDER BY customer{} LIMIT 1 OFFSET $2",
                    left.before ? " AND customer < $3" : "", from == From::first ? "" : " DESC"),
        parameters, [&](const Row& row) { end = row.text(0); });
    return end;
}

/// Of a row that begins with an assignment's first, length, an exemption's until and the assignment's.
Right right_in(const Row& row) {
    const Instant until = std::min(to_instant(row.integer(2)), row.instant(3).value_or(Instant::max()));
    return {Prefix::from_key(row.blob(0), row.integer(1)), until};
}

/// Where most customers hold an exemption: assignments met for each of a page's customers, at most.
constexpr int64_t most_met = 4;

struct Page {
    std::vector<std::pair<std::string, Instant>> exempt;  ///< customers in the order of their ids, and until when
    std::optional<std::string> end;                       ///< as of end_of_page()
};

Page next_page(Database& database, Instant now, const CustomersLeft& left, From from, int64_t customers) {
    std::vector<Value> parameters{left.after, customers};
    if (left.before) parameters.emplace_back(*left.before);
    Page page;
    int64_t met = 0;
    database.query(
        fmt::format("SELECT customer, until, revoked FROM exemption WHERE customer > $1{} ORDER BY customer{}"
                    " LIMIT $2",
                    left.before ? " AND customer < $3" : "", from == From::first ? "" : " DESC"),
        parameters, [&](const Row& row) {
            if (++met == customers) page.end = row.text(0);
            const Instant until = to_instant(row.integer(1));
            if (row.null(2) && until > now) page.exempt.emplace_back(row.text(0), until);
        });
    if (from == From::last) std::reverse(page.exempt.begin(), page.exempt.end());
    return page;
}

/// Appends what they hold, on a walk along everybody's assignments between the first and the last of them. False: there
/// are too many others; nothing is appended.
bool walk(Database& database, Instant now, const Page& page, std::deque<Right>& rights) {
    if (page.exempt.empty()) return true;
    const size_t before = rights.size();
    const int64_t most = most_met * static_cast<int64_t>(page.exempt.size());
    auto holder = page.exempt.begin();
    int64_t met = 0;
    database.query(
        "SELECT first, length, until, customer FROM assignment WHERE customer >= $1 AND customer <= $2"
        " ORDER BY customer LIMIT $3",
        {page.exempt.front().first, page.exempt.back().first, most}, [&](const Row& row) {
            ++met;
            const std::string_view customer = row.text(3);
            while (holder->first < customer) ++holder;
            const Instant end = row.instant(2).value_or(Instant::max());
            if (holder->first != customer || end <= now) return;
            rights.push_back({Prefix::from_key(row.blob(0), row.integer(1)), std::min(holder->second, end)});
        });
    if (met < most) return true;
    rights.resize(before);
    return false;
}

/// Takes from `left` what was read of it, up to the page's last customer (nullopt: all).
void advance(CustomersLeft& left, From from, const std::optional<std::string>& end) {
    if (from == From::first && (end || left.before)) {
        left.after = end ? *end : *left.before;
    } else {
        left.before = end ? *end : left.after;
    }
}

}  // namespace

std::deque<Right> read_rights(Database& database, Instant now) {
    std::deque<Right> rights;
    // From the exemptions, which are few, to what their customers hold; in the order of the ids (hence the +, which
    // keeps exemption_until out), so that the walk along assignment_customer goes forward only.
    database.query(
        "SELECT a.first, a.length, e.until, a.until FROM exemption e CROSS JOIN assignment a"
        " WHERE +e.revoked IS NULL AND e.until > $1"
        " AND a.customer = e.customer AND (a.until IS NULL OR a.until > $1)",
        {to_number(now)}, [&](const Row& row) { rights.push_back(right_in(row)); });
    std::sort(rights.begin(), rights.end(), by_prefix);
    return rights;
}

bool read_rights(Database& database, Instant now, CustomersLeft& left, From from, int64_t customers,
                 std::deque<Right>& rights) {
    const bool first = from == From::first;
    if (left.mostly_exempt) {
        const Page page = next_page(database, now, left, from, customers);
        left.mostly_exempt = walk(database, now, page, rights);
        if (left.mostly_exempt) {
            advance(left, from, page.end);
            return page.end.has_value();
        }
    }
    const std::optional<std::string> end = end_of_page(database, left, from, customers);
    // One bound on either side: of two, a database may take the wider one to walk by.
    const bool from_end = end && !first, to_end = end && first;
    std::vector<Value> parameters{to_number(now), from_end ? *end : left.after};
    std::string bounds = from_end ? " AND e.customer >= $2" : " AND e.customer > $2";
    if (to_end || left.before) {
        bounds += to_end ? " AND e.customer <= $3" : " AND e.customer < $3";
        parameters.emplace_back(to_end ? *end : *left.before);
    }
    database.query(
        "SELECT a.first, a.length, e.until, a.until FROM exemption e CROSS JOIN assignment a"
        " WHERE +e.revoked IS NULL AND e.until > $1" +
            bounds + " AND a.customer = e.customer AND (a.until IS NULL OR a.until > $1)",
        parameters, [&](const Row& row) { rights.push_back(right_in(row)); });
    advance(left, from, end);
    return end.has_value();
}

}  // namespace smtpfence
