#include "subscribers/fenced.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "subscribers/facts.hpp"
#include "subscribers/rows.hpp"

namespace smtpfence {

namespace {

constexpr const char* action_words[] = {"drop", "reject", "observe", "pass"};

bool exists(Database& database, std::string_view sql) {
    bool found = false;
    database.query(sql, {}, [&](const Row&) { found = true; });
    return found;
}

}  // namespace

const char* word(Action action) { return action_words[static_cast<size_t>(action)]; }

Action parse_action(std::string_view text) {
    for (size_t i = 0; i < std::size(action_words); ++i) {
        if (text == action_words[i]) return static_cast<Action>(i);
    }
    throw Refused(Refusal::invalid,
                  fmt::format("action {}: must be one of drop, reject, observe and pass", quoted(text)));
}

bool add_relay(Change& change, const Prefix& prefix, const std::optional<std::string>& note,
               const RelayLimits& limits) {
    const uint8_t widest = prefix.family() == Family::v4 ? limits.widest4 : limits.widest6;
    if (prefix.length() < widest) {
        throw Refused(Refusal::invalid,
                      fmt::format("relay {} is wider than /{}, which [relay] in the configuration allows: name the "
                                  "relays' own addresses",
                                  prefix.text(), widest));
    }
    if (note) check_text("note", *note);
    if (const auto old = find_relay(change.database(), prefix)) {
        if (!note || note == old->note) return false;
        throw Refused(Refusal::conflict,
                      fmt::format("relay {} is there already with another note, {}: use 'relay remove' first",
                                  prefix.text(), old->note ? quoted(*old->note) : "none"));
    }
    const Relay relay{prefix, note, change.source()};
    put(change, {}, relay);
    return true;
}

bool remove_relay(Change& change, const Prefix& prefix) {
    const auto relay = find_relay(change.database(), prefix);
    if (!relay) return false;
    change.database().query("DELETE FROM relay WHERE first = $1 AND length = $2",
                            {first_of(prefix), length_of(prefix)});
    if (!exists(change.database(), "SELECT 1 FROM relay LIMIT 1") &&
        exists(change.database(), "SELECT 1 FROM pool WHERE action IN ('drop', 'reject') LIMIT 1")) {
        throw Refused(Refusal::conflict,
                      fmt::format("relay {} is the last one, and without a relay no mail leaves the fenced pools: use "
                                  "'relay add' for another one first",
                                  prefix.text()));
    }
    change.record(Object::relay, {}, prefix, facts(*relay), nullptr);
    return true;
}

std::vector<Relay> relays(Database& database) {
    std::vector<Relay> result;
    database.query("SELECT first, length, note, source FROM relay ORDER BY first, length", {},
                   [&](const Row& row) { result.push_back(relay_of(row)); });
    return result;
}

bool add_pool(Change& change, const Prefix& prefix, const std::optional<std::string>& name, Action action) {
    if (prefix.length() == 0) {
        throw Refused(Refusal::invalid, fmt::format("pool {} is a default route, which would fence the whole Internet: "
                                                    "name the prefixes that subscribers get addresses from",
                                                    prefix.text()));
    }
    if (name) check_text("name", *name);
    if (const auto old = find_pool(change.database(), prefix)) {
        if (old->action != action) {
            throw Refused(Refusal::conflict,
                          fmt::format("pool {} is there already with the action {}: use 'pool set {} --action {}'",
                                      prefix.text(), word(old->action), prefix.text(), word(action)));
        }
        if (!name || name == old->name) return false;
        throw Refused(Refusal::conflict,
                      fmt::format("pool {} is there already with another name, {}; 'pool set' changes its action only: "
                                  "use 'pool remove' first",
                                  prefix.text(), old->name ? quoted(*old->name) : "none"));
    }
    const Pool pool{prefix, name, action, change.source()};
    put(change, {}, pool);
    return true;
}

bool set_pool(Change& change, const Prefix& prefix, Action action) {
    const auto old = find_pool(change.database(), prefix);
    if (!old) {
        throw Refused(Refusal::not_found,
                      fmt::format("no pool {}; 'pool list' shows them, 'pool add' makes one", prefix.text()));
    }
    if (old->action == action) return false;
    Pool pool = *old;
    pool.action = action;
    pool.source = change.source();
    put(change, old, pool);
    return true;
}

bool remove_pool(Change& change, const Prefix& prefix) {
    const auto pool = find_pool(change.database(), prefix);
    if (!pool) return false;
    change.database().query("DELETE FROM pool WHERE first = $1 AND length = $2", {first_of(prefix), length_of(prefix)});
    change.record(Object::pool, {}, prefix, facts(*pool), nullptr);
    return true;
}

std::vector<Pool> pools(Database& database) {
    std::vector<Pool> result;
    database.query("SELECT first, length, name, action, source FROM pool ORDER BY first, length", {},
                   [&](const Row& row) { result.push_back(pool_of(row)); });
    return result;
}

std::optional<Pool> pool_of(Database& database, const Prefix& prefix) {
    for (int length = prefix.length(); length > 0; --length) {
        if (auto pool = find_pool(database, prefix.widened(static_cast<uint8_t>(length)))) return pool;
    }
    return {};
}

std::optional<Prefix> past_pool_of(Database& database, const Prefix& prefix) {
    std::optional<Prefix> found;
    for (int length = prefix.length(); length > 0 && !found; --length) {
        const Prefix wider = prefix.widened(static_cast<uint8_t>(length));
        database.query("SELECT 1 FROM change WHERE first = $1 AND length = $2 AND object = 'pool' LIMIT 1",
                       {first_of(wider), length_of(wider)}, [&](const Row&) { found = wider; });
    }
    return found;
}

const Pool* longest_pool(const std::vector<Pool>& pools, const Prefix& prefix) {
    for (int length = prefix.length(); length > 0; --length) {
        const Prefix wanted = prefix.widened(static_cast<uint8_t>(length));
        const auto found = std::lower_bound(pools.begin(), pools.end(), wanted,
                                            [](const Pool& pool, const Prefix& p) { return pool.prefix < p; });
        if (found != pools.end() && found->prefix == wanted) return &*found;
    }
    return nullptr;
}

std::vector<std::string> missing_relays(const std::vector<Relay>& relays, const std::vector<Pool>& pools) {
    std::vector<std::string> result;
    if (relays.empty()) return result;  // that is refused, and not only doubted
    for (const Family family : {Family::v4, Family::v6}) {
        const auto of_family = [family](const auto& one) { return one.prefix.family() == family; };
        const auto closed = std::find_if(pools.begin(), pools.end(), [&](const Pool& pool) {
            return of_family(pool) && (pool.action == Action::drop || pool.action == Action::reject);
        });
        if (closed == pools.end() || std::any_of(relays.begin(), relays.end(), of_family)) continue;
        const char* const name = family == Family::v4 ? "IPv4" : "IPv6";
        result.push_back(
            fmt::format("no {0} relay: lines in pool {1} ({2}) reach no relay over {0}; if they shall, add it with "
                        "'smtpfence relay add PREFIX'",
                        name, closed->prefix.text(), word(closed->action)));
    }
    return result;
}

std::vector<std::string> doubts(const std::vector<Relay>& relays, const std::vector<Pool>& pools) {
    std::vector<std::string> result = missing_relays(relays, pools);
    for (const Relay& relay : relays) {
        if (const Pool* pool = longest_pool(pools, relay.prefix)) {
            result.push_back(fmt::format("relay {} lies inside pool {} ({}): what it sends to port 25 is let through",
                                         relay.prefix.text(), pool->prefix.text(), word(pool->action)));
        }
    }
    for (const Pool& pool : pools) {
        for (const Relay& relay : relays) {
            if (relay.prefix.contains(pool.prefix) && relay.prefix != pool.prefix) {
                result.push_back(fmt::format("pool {} lies inside relay {}: it is not fenced at all",
                                             pool.prefix.text(), relay.prefix.text()));
            }
        }
        const bool wide = pool.prefix.length() < (pool.prefix.family() == Family::v4 ? 8 : 16);
        if (wide) result.push_back(fmt::format("pool {} is wider than any registry gives out", pool.prefix.text()));
    }
    return result;
}

}  // namespace smtpfence
