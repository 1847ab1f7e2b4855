#include "subscribers/facts.hpp"

#include <fmt/format.h>

namespace smtpfence {

using nlohmann::json;

namespace {

void put(json& facts, const char* key, const std::optional<std::string>& text) {
    if (text) facts[key] = *text;
}
void put(json& facts, const char* key, const std::optional<Instant>& time) {
    if (time) facts[key] = format_instant(*time);
}

std::optional<std::string> optional_text(const json& facts, const char* key) {
    const auto found = facts.find(key);
    return found == facts.end() ? std::nullopt : std::optional(found->get<std::string>());
}
std::optional<Instant> optional_instant(const json& facts, const char* key) {
    const auto text = optional_text(facts, key);
    return text ? std::optional(parse_instant(*text)) : std::nullopt;
}

/// Runs `read`; what goes wrong there is the database's fault.
template <typename Read>
auto read_facts(const json& facts, Read read) {
    const auto fail = [&](const char* why) {
        return DatabaseError(DatabaseError::Kind::corrupt,
                             fmt::format("the change log holds facts that can't be read, {}: {}", facts.dump(), why));
    };
    try {
        return read();
    } catch (const json::exception& error) {
        throw fail(error.what());
    } catch (const Refused& error) {
        throw fail(error.what());
    }
}

}  // namespace

json facts(const Relay& relay) {
    json result{{"prefix", relay.prefix.text()}, {"source", relay.source}};
    put(result, "note", relay.note);
    return result;
}

json facts(const Pool& pool) {
    json result{{"prefix", pool.prefix.text()}, {"action", word(pool.action)}, {"source", pool.source}};
    put(result, "name", pool.name);
    return result;
}

json facts(const Assignment& assignment) {
    json result{{"customer", assignment.customer}, {"prefix", assignment.prefix.text()}, {"source", assignment.source}};
    put(result, "until", assignment.until);
    return result;
}

json facts(const Exemption& exemption) {
    json result{{"customer", exemption.customer},
                {"reason", exemption.reason},
                {"granted_by", exemption.granted_by},
                {"since", format_instant(exemption.since)},
                {"until", format_instant(exemption.until)},
                {"counted_from", format_instant(exemption.counted_from)},
                {"source", exemption.source}};
    put(result, "ticket", exemption.ticket);
    put(result, "asked_by", exemption.asked_by);
    put(result, "revoked", exemption.revoked);
    put(result, "revoke_reason", exemption.revoke_reason);
    return result;
}

json customer_facts(const std::string& customer, Instant since, const std::string& source) {
    return {{"customer", customer}, {"since", format_instant(since)}, {"source", source}};
}

Relay relay_from(const json& facts) {
    return read_facts(facts, [&] {
        return Relay{Prefix::parse(facts.at("prefix").get<std::string>()), optional_text(facts, "note"),
                     facts.at("source").get<std::string>()};
    });
}

Pool pool_from(const json& facts) {
    return read_facts(facts, [&] {
        return Pool{Prefix::parse(facts.at("prefix").get<std::string>()), optional_text(facts, "name"),
                    parse_action(facts.at("action").get<std::string>()), facts.at("source").get<std::string>()};
    });
}

Assignment assignment_from(const json& facts) {
    return read_facts(facts, [&] {
        Assignment result;
        result.prefix = Prefix::parse(facts.at("prefix").get<std::string>());
        result.customer = facts.at("customer").get<std::string>();
        result.until = optional_instant(facts, "until");
        result.source = facts.at("source").get<std::string>();
        return result;
    });
}

Exemption exemption_from(const json& facts) {
    return read_facts(facts, [&] {
        Exemption result;
        result.customer = facts.at("customer").get<std::string>();
        result.reason = facts.at("reason").get<std::string>();
        result.ticket = optional_text(facts, "ticket");
        result.asked_by = optional_text(facts, "asked_by");
        result.granted_by = facts.at("granted_by").get<std::string>();
        result.since = parse_instant(facts.at("since").get<std::string>());
        result.until = parse_instant(facts.at("until").get<std::string>());
        result.counted_from = parse_instant(facts.at("counted_from").get<std::string>());
        result.revoked = optional_instant(facts, "revoked");
        result.revoke_reason = optional_text(facts, "revoke_reason");
        result.source = facts.at("source").get<std::string>();
        return result;
    });
}

}  // namespace smtpfence
