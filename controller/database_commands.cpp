// init, check, revert and audit: the database itself, and its log.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <set>

#include "controller/commands.hpp"
#include "controller/connected.hpp"
#include "controller/fenced_policy.hpp"
#include "controller/guarded_change.hpp"
#include "rules/bypass.hpp"
#include "rules/question.hpp"
#include "subscribers/audit.hpp"
#include "subscribers/schema.hpp"

namespace smtpfence {

namespace {

// What stands in the database's way of being right, for people.
std::vector<std::string> database_doubts(Database& database, const Border& border) {
    std::vector<std::string> all = doubts(relays(database), pools(database));
    if (pools(database).empty()) all.push_back("no pool is fenced: smtpfence pool add PREFIX");
    std::vector<std::string> outside;
    for (const Connected& line : connected_prefixes(border.subscriber)) {
        if (!pool_of(database, line.prefix))
            outside.push_back(fmt::format("{} on {}", line.prefix.text(), line.interface));
    }
    if (!outside.empty()) {
        all.push_back(fmt::format("connected prefixes outside every pool, not fenced: {}", fmt::join(outside, ", ")));
    }
    return all;
}

Revision parse_revision(const std::string& text) {
    Revision number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number < 1) {
        throw Refused(Refusal::invalid,
                      fmt::format("revision \"{}\" is no number from 1 on: see smtpfence audit", visible(text)));
    }
    return number;
}

Json shown(const AuditEntry& entry) {
    std::optional<std::string> prefix;
    if (entry.prefix) prefix = entry.prefix->text();
    return {{"time", format_instant(entry.time)},
            {"revision", entry.revision},
            {"login", entry.login},
            {"operator", json_of(entry.operator_name)},
            {"host", entry.host},
            {"command", entry.command},
            {"object", word(entry.object)},
            {"customer", json_of(entry.customer)},
            {"prefix", json_of(prefix)},
            {"reason", json_of(entry.reason)},
            {"before", Json(entry.before)},
            {"after", Json(entry.after)}};
}

std::string who(const Json& entry) {
    const std::string login = entry["login"].get<std::string>() + "@" + entry["host"].get<std::string>();
    return entry["operator"].is_null() ? login : entry["operator"].get<std::string>() + " (" + login + ")";
}

// "exemption c1", "pool 100.64.0.0/10"
std::string object_of(const Json& entry) {
    std::string all = entry["object"].get<std::string>();
    if (!entry["prefix"].is_null()) return all + " " + entry["prefix"].get<std::string>();
    return entry["customer"].is_null() ? all : all + " " + entry["customer"].get<std::string>();
}

// "note: old -> new" for each fact that differs; all facts of what appeared or went.
std::string difference_of(const Json& entry) {
    const Json &before = entry["before"], &after = entry["after"];
    std::vector<std::string> parts;
    std::set<std::string> keys;
    for (const Json* side : {&before, &after}) {
        for (const auto& [key, value] : side->items()) keys.insert(key);
    }
    for (const std::string& key : keys) {
        const auto text = [&](const Json& side) {
            if (!side.is_object() || !side.contains(key)) return std::string("none");
            return side[key].is_string() ? side[key].get<std::string>() : side[key].dump();
        };
        if (before.is_null() || after.is_null()) {
            parts.push_back(key + "=" + text(before.is_null() ? after : before));
        } else if (text(before) != text(after)) {
            parts.push_back(fmt::format("{}: {} -> {}", key, text(before), text(after)));
        }
    }
    return fmt::format("{} {}",
                       before.is_null()  ? "new"
                       : after.is_null() ? "gone"
                                         : "changed",
                       fmt::join(parts, ", "));
}

struct AuditWords {
    Text customer, prefix, operator_name, since, until;
    CLI::Option *has_customer = nullptr, *has_prefix = nullptr, *has_operator = nullptr, *has_since = nullptr,
                *has_until = nullptr;
};

AuditFilter parse_filter(const AuditWords& words) {
    AuditFilter filter;
    filter.customer = given(words.has_customer, words.customer);
    if (filter.customer) check_customer_id(*filter.customer);
    if (words.has_prefix->count() > 0) filter.prefix = Prefix::parse(words.prefix);
    filter.operator_name = given(words.has_operator, words.operator_name);
    if (filter.operator_name) check_text("operator", *filter.operator_name);
    if (words.has_since->count() > 0) filter.since = parse_instant(words.since);
    if (words.has_until->count() > 0) filter.until = parse_instant(words.until);
    return filter;
}

struct Checked {
    std::optional<Revision> revision;  // nullopt: the database can't be used
    bool enforceable = false;
    std::vector<std::string> warnings;
};

// Opens and reads the database for `check`; what is wrong with it is a warning.
Checked check_database(Invocation& run) {
    Checked checked;
    try {
        // The unit's start waits for the answer, and the service behind it goes on without the database.
        Database& database = run.database(OpenMode::read, service_patience);
        const Reading reading(database);
        const Border& border = run.configuration().border;
        checked.warnings = database_doubts(database, border);
        const auto obstacle = unenforceable(database, border);
        if (obstacle) checked.warnings.push_back(*obstacle);
        checked.enforceable = !obstacle;
        checked.revision = current_revision(database);
    } catch (const DatabaseError& error) {
        checked.warnings.push_back(error.what());
    }
    return checked;
}

}  // namespace

Execution init_command(CLI::App&) {
    return [](Invocation& run) {
        Database& database = run.database(OpenMode::create);
        const auto [from, to] = migrate(database);
        const std::string did = from == to  ? fmt::format("schema version {} already", to)
                                : from == 0 ? fmt::format("created with schema version {}", to)
                                            : fmt::format("schema version {} migrated to {}", from, to);
        run.output().result({{"database", database.name()}, {"from", from}, {"to", to}},
                            fmt::format("{}: {}", database.name(), did));
        return 0;
    };
}

Execution check_command(CLI::App& app) {
    auto strict = std::make_shared<bool>(false);
    app.add_flag("--strict", *strict,
                 "a database that can't be used, or can't be enforced, is a failure, not a warning");
    return [=](Invocation& run) {
        run.configuration();
        const std::string database = run.database_url();
        auto [revision, enforceable, warnings] = check_database(run);
        Questioner questioner;
        for (std::string& way : bypasses(read_surroundings(questioner), run.configuration().border.subscriber))
            warnings.push_back(std::move(way));
        for (const std::string& warning : warnings) run.output().warn(warning);
        run.output().result({{"configuration", run.configuration_path()},
                             {"database", database},
                             {"usable", revision.has_value()},
                             {"revision", revision ? Json(*revision) : Json()},
                             {"warnings", warnings}},
                            fmt::format("configuration is valid; database {} {}", database,
                                        revision ? fmt::format("is at revision {}", *revision) : "can't be used"));
        return (revision && enforceable) || !*strict ? 0 : 1;
    };
}

Execution revert_command(CLI::App& app) {
    struct Words {
        Text revision;
        bool dry_run = false, confirmed = false;
    };
    auto words = std::make_shared<Words>();
    app.add_option("REVISION", words->revision, "number of the revision, as audit shows it")->required();
    app.add_flag("--dry-run", words->dry_run, "check and count, write nothing");
    declare_confirm(app, words->confirmed);
    return [=](Invocation& run) {
        const Revision wanted = parse_revision(words->revision);
        Database& database = run.database(OpenMode::write);
        int64_t objects = 0;
        Revision revision = 0;
        bool moved = false;
        {
            Change change(database, run.actor(), "revert", fmt::format("opposite of revision {}", wanted));
            objects = revert(change, wanted);
            require_relay_left(run, change);
            judge_openings(run, change, words->confirmed);
            moved = moves_border(change);
            if (!words->dry_run) revision = change.commit();
        }
        if (moved && !words->dry_run) warn_doubts(run);
        if (words->dry_run) revision = current_revision(database);
        run.output().result(
            {{"reverted", wanted}, {"objects", objects}, {"revision", revision}, {"dry_run", words->dry_run}},
            fmt::format("revision {} {}: {} objects put back; revision {}", wanted,
                        words->dry_run ? "would be reverted" : "reverted", objects, revision));
        return 0;
    };
}

Execution audit_command(CLI::App& app) {
    auto words = std::make_shared<AuditWords>();
    words->has_customer = app.add_option("--customer", words->customer, "about this customer")->type_name("ID");
    words->has_prefix =
        app.add_option("--prefix", words->prefix, "about this prefix, a wider or a narrower one")->type_name("PREFIX");
    words->has_operator =
        app.add_option("--operator", words->operator_name, "by this operator or login")->type_name("NAME");
    words->has_since =
        app.add_option("--since", words->since, "from then on, like 2027-01-01T00:00:00Z")->type_name("TIME");
    words->has_until = app.add_option("--until", words->until, "before then")->type_name("TIME");
    return [=](Invocation& run) {
        const AuditFilter filter = parse_filter(*words);
        Listing listing(run.output(), {{"time", "TIME"},
                                       {"revision", "REVISION"},
                                       {"login", "WHO", who},
                                       {"operator", ""},
                                       {"host", ""},
                                       {"command", "COMMAND"},
                                       {"object", "OBJECT", object_of},
                                       {"customer", ""},
                                       {"prefix", ""},
                                       {"reason", "REASON"},
                                       {"before", "CHANGE", difference_of},
                                       {"after", ""}});
        each_audit_entry(run.database(), filter, [&](const AuditEntry& entry) { listing.add(shown(entry)); });
        listing.finish();
        return 0;
    };
}

}  // namespace smtpfence
