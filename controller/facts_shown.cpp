#include "controller/facts_shown.hpp"

namespace smtpfence {

Json shown(const Exemption& e, Instant at) {
    return {{"customer", e.customer},
            {"active", e.active(at)},
            {"reason", e.reason},
            {"ticket", json_of(e.ticket)},
            {"asked_by", json_of(e.asked_by)},
            {"granted_by", e.granted_by},
            {"since", format_instant(e.since)},
            {"until", format_instant(e.until)},
            {"revoked", json_of(e.revoked)},
            {"revoke_reason", json_of(e.revoke_reason)},
            {"source", e.source}};
}

Json shown(const Assignment& held) {
    return {{"prefix", held.prefix.text()},
            {"customer", held.customer},
            {"since", format_instant(held.since)},
            {"until", json_of(held.until)},
            {"source", held.source}};
}

Json shown(const Attempts& seen) {
    Json sources = Json::array();
    for (const Prefix& source : seen.sources) sources.push_back(source.short_text());
    return {{"attempts", seen.attempts},
            {"sources", std::move(sources)},
            {"first_seen", format_instant(seen.first_seen)},
            {"last_seen", format_instant(seen.last_seen)}};
}

}  // namespace smtpfence
