#include "subscribers/record_writer.hpp"

#include <fmt/format.h>

#include "subscribers/facts.hpp"
#include "subscribers/rows.hpp"
#include "subscribers/text.hpp"

namespace smtpfence {

namespace {

constexpr Seconds default_exemption = std::chrono::days{365};

// Whether the exemption is as the record says, in what the record says of it.
bool same_right(const Record& record, const Exemption& exemption) {
    return (!record.ticket || record.ticket == exemption.ticket) && (!record.until || *record.until == exemption.until);
}
bool same_facts(const Record& record, const Exemption& exemption) {
    return same_right(record, exemption) && record.reason == exemption.reason &&
           (!record.asked_by || record.asked_by == exemption.asked_by);
}

Grant grant_from(const Record& record) {
    Grant grant{record.customer, record.reason, record.ticket, record.asked_by, {}, record.until};
    if (!grant.until) grant.duration = default_exemption;
    return grant;
}

[[noreturn]] void refuse_contradiction(const Prefix& prefix, int64_t line) {
    throw Refused(Refusal::conflict,
                  fmt::format("line {} says otherwise about {}; leave one of them out", line, prefix.text()));
}

}  // namespace

RecordWriter::RecordWriter(Change& change, Mode mode, const RelayLimits& relay_limits)
    : change_(change), mode_(mode), relay_limits_(relay_limits) {}

void RecordWriter::write(const Record& record, int64_t line) {
    if (record.over(change_.time())) return end(record);
    switch (record.op) {
        case Op::assign:
            return mode_ == Mode::replace ? reassign(record) : assign(record);
        case Op::release:
            return release(record);
        case Op::pool:
            return pool(record, line);
        case Op::relay:
            return relay(record, line);
        case Op::exempt:
            return exempt(record);
        case Op::revoke:
            return revoke(record);
    }
}

/// What is over gives no right, and may end only what its own source gave.
void RecordWriter::end(const Record& record) {
    const auto own = [&](const auto& held) {
        return held && held->customer == record.customer && held->source == change_.source();
    };
    if (record.op == Op::assign) {
        const auto held = find_assignment(change_.database(), record.prefix);
        if (own(held) && held->holds(change_.time())) return release(record);
    } else if (const auto held = exemption(change_.database(), record.customer);
               own(held) && held->active(change_.time())) {
        revoke_exemption(
            change_, record.customer,
            fmt::format("over since {} in the file of source {}", format_instant(*record.until), change_.source()));
        ++counts.removed;
        return;
    }
    ++counts.skipped;
}

void RecordWriter::require_own(const std::string& source, const std::string& object) const {
    if (mode_ == Mode::upsert || source == change_.source()) return;
    throw Refused(Refusal::conflict,
                  fmt::format("{} belongs to source {}, and this file replaces source {} only: leave it out here, or "
                              "remove it there first",
                              object, quoted(source), quoted(change_.source())));
}

void RecordWriter::assign(const Record& record) {
    Assigned result;
    try {
        result = smtpfence::assign(change_, record.customer, record.prefix, record.until, record.take);
    } catch (const Refused& refused) {
        if (refused.reason != Refusal::conflict || record.take) throw;
        throw Refused(refused.reason, fmt::format("{} (in a file, --take is \"take\":true)", refused.what()));
    }
    int64_t handed = 0;
    for (const Assignment& taken : result.taken) handed += taken.prefix == record.prefix ? 1 : 0;
    counts.removed += static_cast<int64_t>(result.taken.size()) - handed;
    if (result.added && handed == 0) {
        ++counts.added;
    } else if (result.added || result.changed) {
        ++counts.changed;
    } else {
        ++counts.unchanged;
    }
}

void RecordWriter::reassign(const Record& record) {
    const auto held = find_assignment(change_.database(), record.prefix);
    if (!held || !held->holds(change_.time())) return assign(record);
    if (!record.take) {
        require_own(held->source, fmt::format("{} of customer {}", held->prefix.text(), quoted(held->customer)));
    }
    Assignment wanted = *held;
    wanted.until = record.until;
    wanted.source = change_.source();
    // What moves `until` or the customer is checked by assign().
    if (held->customer != record.customer || (record.until && record.until != held->until)) return assign(record);
    if (wanted == *held) {
        ++counts.unchanged;
        return;
    }
    put(change_, held, wanted);
    ++counts.changed;
}

void RecordWriter::release(const Record& record) {
    if (!record.customer.empty()) {
        const auto held = find_assignment(change_.database(), record.prefix);
        if (held && held->customer != record.customer) {
            ++counts.unchanged;
            return;
        }
    }
    ++(smtpfence::release(change_, record.prefix) ? counts.removed : counts.unchanged);
}

void RecordWriter::pool(const Record& record, int64_t line) {
    const auto [seen, first] = pool_lines_.emplace(record.prefix, line);
    const auto held = find_pool(change_.database(), record.prefix);
    if (!held) {
        add_pool(change_, record.prefix, record.name, record.action.value_or(Action::drop));
        ++counts.added;
        return;
    }
    require_own(held->source, "pool " + record.prefix.text());
    const bool whole = mode_ == Mode::replace;
    Pool wanted = *held;
    if (whole || record.name) wanted.name = record.name;
    if (whole || record.action) wanted.action = record.action.value_or(Action::drop);
    if (wanted == *held) {
        ++counts.unchanged;
        return;
    }
    if (!first) refuse_contradiction(record.prefix, seen->second);
    wanted.source = change_.source();
    put(change_, held, wanted);
    ++counts.changed;
}

void RecordWriter::relay(const Record& record, int64_t line) {
    const auto [seen, first] = relay_lines_.emplace(record.prefix, line);
    const auto held = find_relay(change_.database(), record.prefix);
    if (!held) {
        add_relay(change_, record.prefix, record.note, relay_limits_);
        ++counts.added;
        return;
    }
    require_own(held->source, "relay " + record.prefix.text());
    Relay wanted = *held;
    if (mode_ == Mode::replace || record.note) wanted.note = record.note;
    if (wanted == *held) {
        ++counts.unchanged;
        return;
    }
    if (!first) refuse_contradiction(record.prefix, seen->second);
    wanted.source = change_.source();
    put(change_, held, wanted);
    ++counts.changed;
}

std::optional<Exemption> RecordWriter::said_before(const std::string& customer) const {
    std::optional<Exemption> said;
    change_.database().query(
        "SELECT c.after FROM change c JOIN revision r ON r.number = c.revision WHERE c.customer = $1"
        " AND c.object = 'exemption' AND c.after IS NOT NULL AND r.source = $2"
        " ORDER BY c.revision DESC, c.item DESC LIMIT 1",
        {customer, change_.source()},
        [&](const Row& row) { said = exemption_from(nlohmann::json::parse(row.text(0))); });
    return said;
}

void RecordWriter::exempt(const Record& record) {
    const auto held = exemption(change_.database(), record.customer);
    if (!held) {
        grant_exemption(change_, grant_from(record));
        ++counts.added;
    } else if (held->active(change_.time())) {
        update_exemption(record, *held);
    } else {
        revive_exemption(record, *held);
    }
}

void RecordWriter::update_exemption(const Record& record, const Exemption& held) {
    if (same_facts(record, held)) {
        ++counts.unchanged;
        return;
    }
    if (const auto said = said_before(record.customer); said && same_facts(record, *said)) {
        ++counts.skipped;
        return;
    }
    require_own(held.source, "the exemption of customer " + quoted(record.customer));
    if (record.until && *record.until != held.until) {
        renew_exemption(change_, grant_from(record));
    } else {
        Exemption wanted = held;
        wanted.reason = record.reason;
        if (record.ticket) wanted.ticket = record.ticket;
        if (record.asked_by) wanted.asked_by = record.asked_by;
        wanted.source = change_.source();
        put(change_, held, wanted);
    }
    ++counts.changed;
}

void RecordWriter::revive_exemption(const Record& record, const Exemption& held) {
    const auto said = said_before(record.customer);
    if (same_right(record, held) || (said && same_right(record, *said))) {
        ++counts.skipped;
        return;
    }
    grant_exemption(change_, grant_from(record));
    ++counts.added;
}

void RecordWriter::revoke(const Record& record) {
    ++(revoke_exemption(change_, record.customer, record.reason) ? counts.removed : counts.unchanged);
}

}  // namespace smtpfence
