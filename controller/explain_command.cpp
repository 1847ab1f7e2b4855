// explain: blocked or not, by which rule, who holds it, and what the kernel really holds.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "controller/commands.hpp"
#include "controller/explanation.hpp"
#include "controller/facts_shown.hpp"
#include "controller/fenced_policy.hpp"
#include "controller/router_lock.hpp"
#include "controller/waiting.hpp"

namespace smtpfence {

namespace {

struct Words {
    Text subject, to, at;
    bool customer = false;
    CLI::Option *has_to = nullptr, *has_at = nullptr;
};

struct Query {
    std::optional<Prefix> to;
    Instant now, at;
    bool current() const { return at == now; }
};

Query parse_query(const Words& words) {
    Query query;
    query.now = query.at = now();
    if (words.has_to->count() > 0) {
        query.to = Prefix::parse(words.to);
        if (!query.to->is_address()) {
            throw Refused(Refusal::invalid,
                          fmt::format("--to {}: must be one address, not a prefix", query.to->text()));
        }
    }
    if (words.has_at->count() > 0) query.at = parse_instant(words.at);
    return query;
}

/// The kernel of this machine, asked only while it can be; says once why not.
class KernelWitness {
public:
    KernelWitness(Invocation& run, bool wanted) : run_(run) {
        if (!wanted) return;
        try {
            kernel_ = open_kernel();
            look_for_table();
        } catch (const KernelError& error) {
            give_up(error.what());
        }
    }

    /// nullopt: it can't be asked.
    std::optional<Judgement> judgement(const Prefix& line, const std::optional<Prefix>& to) {
        if (!kernel_) return std::nullopt;
        try {
            return kernel_judgement(*kernel_, line, to);
        } catch (const KernelError& error) {
            give_up(error.what());
            return std::nullopt;
        }
    }

    /// This is a router, and its kernel holds nothing of what the database asks.
    bool table_gone() const { return table_gone_; }

private:
    void look_for_table() {
        const Policy asked = fenced_policy(run_.database());
        if (holds_any(*kernel_, asked.relays, prefixes(asked.pools))) return;
        const std::string none = "no table inet smtpfence with these relays and pools is in this kernel";
        if (!is_router()) return give_up(none);
        table_gone_ = !asked.relays.empty() || !asked.pools.empty();
        if (table_gone_) run_.output().warn(none + ": nothing is fenced on this router; smtpfence apply makes it");
    }
    static std::vector<Prefix> prefixes(const std::vector<std::pair<Prefix, Action>>& pools) {
        std::vector<Prefix> all;
        for (const auto& [prefix, action] : pools) all.push_back(prefix);
        return all;
    }
    bool is_router() {
        const Configuration& configuration = run_.configuration();
        const auto all = reports(run_.database());
        return RouterLock::ever_held(configuration.state_directory) ||
               std::any_of(all.begin(), all.end(),
                           [&](const Report& report) { return report.router == configuration.router; });
    }
    void give_up(const std::string& why) {
        kernel_.reset();
        run_.output().warn(fmt::format("the kernel was not asked: {}", why));
    }

    Invocation& run_;
    std::unique_ptr<Kernel> kernel_;
    bool table_gone_ = false;
};

bool agree(const Judgement& a, const Judgement& b) { return a.verdict == b.verdict && a.exempt == b.exempt; }

// What the database exempts and a router doesn't.
void say_withheld(Invocation& run, const std::deque<Right>& rights) {
    std::vector<Prefix> exempt;
    for (const Right& right : rights) exempt.push_back(right.prefix);
    for (const Report& report : reports(run.database())) {
        const std::string why = why_withheld(run.database(), report, exempt);
        if (!why.empty()) run.output().warn(fmt::format("not on {}: {}", report.router, why));
    }
}

Json explain(Invocation& run, KernelWitness& witness, const Query& query, const Prefix& subject) {
    const Prefix line = subject.first_address();
    const Circumstances found = circumstances(run.database(), line, query.to, query.at, query.now);
    Judgement judgement = desired_judgement(found, run.configuration().border, line, query.to);
    const auto kernel = witness.judgement(line, query.to);
    // Where both agree, the kernel's own names of sets are the ones to look for.
    const bool agrees = kernel && !witness.table_gone() && agree(judgement, *kernel);
    if (agrees) judgement = *kernel;
    if (query.current()) say_withheld(run, found.policy.rights);
    std::optional<Instant> until;
    if (found.policy.rights.size() == 1) until = found.policy.rights.front().until;
    return {{"address", subject.is_address() ? subject.short_text() : subject.text()},
            {"customer", found.held ? Json(found.held->customer) : Json()},
            {"prefix", found.held ? Json(found.held->prefix.text()) : Json()},
            {"pool", found.pool ? Json(found.pool->prefix.text()) : Json()},
            {"verdict", word(judgement.verdict)},
            {"rule", judgement.rule},
            {"element", judgement.element.empty() ? Json() : Json(judgement.element)},
            {"exemption", found.exemption ? shown(*found.exemption, query.at) : Json()},
            {"exempt", judgement.exempt},
            {"exempt_until", json_of(until)},
            {"kernel_agrees", kernel ? Json(agrees) : Json()},
            {"kernel_verdict", kernel ? Json(word(kernel->verdict)) : Json()},
            {"revision", current_revision(run.database())},
            {"at", format_instant(query.at)},
            {"to", query.to ? Json(query.to->short_text()) : Json()}};
}

std::string meaning(const std::string& verdict, const std::string& why_open) {
    if (verdict == "drop" || verdict == "reject") return "blocked (" + verdict + ")";
    if (verdict == "observe") return "let through and counted (observe)";
    return why_open;
}

std::string why_open(const Json& item) {
    if (item["exempt"].get<bool>()) return "open (exempt)";
    if (item["element"].is_null()) return "not fenced";
    const bool relay = item["element"].get<std::string>().find(" in relay") != std::string::npos;
    return relay ? "open (relay)" : "open (pass)";
}

// What the kernel does to packets comes first where it differs.
std::string title(const Json& item) {
    const auto verdict = item["verdict"].get<std::string>();
    const std::string asked = meaning(verdict, why_open(item));
    const bool differs = item["kernel_verdict"].is_string() && item["kernel_verdict"] != verdict;
    const std::string to = item["to"].is_null() ? "" : " to " + item["to"].get<std::string>();
    return fmt::format("{}: port 25{} is {}", item["address"].get<std::string>(), to,
                       differs ? fmt::format("{} on this router, though by the database it is {}",
                                             meaning(item["kernel_verdict"].get<std::string>(), "open"), asked)
                               : asked);
}

std::string holder_sentence(const Json& item) {
    if (item["customer"].is_null()) return "nobody";
    return item["customer"].get<std::string>() + ", " + item["prefix"].get<std::string>();
}

std::string exemption_answer(const Json& item) {
    const Json& e = item["exemption"];
    if (e.is_null()) return "none";
    const auto part = [&](const char* key) { return e[key].is_null() ? std::string() : e[key].get<std::string>(); };
    if (!part("revoked").empty()) return fmt::format("revoked at {}: {}", part("revoked"), part("revoke_reason"));
    if (item["exempt_until"].is_null()) return fmt::format("ran out at {}", part("until"));
    return fmt::format("until {}: {}{}", item["exempt_until"].get<std::string>(), part("reason"),
                       part("ticket").empty() ? "" : ", ticket " + part("ticket"));
}

std::string kernel_sentence(const Json& item) {
    if (item["kernel_agrees"].is_null()) return "not asked";
    if (item["kernel_agrees"].get<bool>()) return "agrees";
    return fmt::format("DIFFERS: its verdict is {}; see smtpfence plan", item["kernel_verdict"].get<std::string>());
}

Tone kernel_tone(const Json& item) {
    return item["kernel_agrees"].is_null() ? Tone::weak : item["kernel_agrees"].get<bool>() ? Tone::good : Tone::bad;
}

void print_card(Invocation& run, const Json& item) {
    run.output().card(item, title(item),
                      {{"customer", "holder", holder_sentence},
                       {"pool", "pool"},
                       {"exemption", "exemption", exemption_answer},
                       {"rule", "rule"},
                       {"element", "element"},
                       {"kernel_agrees", "kernel", kernel_sentence, kernel_tone},
                       {"at", "at"},
                       {"revision", "revision"}});
}

void print_list(Invocation& run, const std::vector<Json>& items) {
    std::vector<Column> columns;
    for (const char* key : {"address", "customer", "prefix", "pool", "verdict", "rule", "element", "exemption",
                            "exempt", "exempt_until", "kernel_agrees", "kernel_verdict", "revision", "at", "to"}) {
        columns.push_back({key, key});
    }
    Listing listing(run.output(), columns);
    for (const Json& item : items) listing.add(item);
    listing.finish();
}

// What looks like an address was meant as one: the parser's words are the better answer than "unknown customer".
bool looks_like_address(const std::string& text) {
    return text.find_first_not_of("0123456789abcdefABCDEF.:/") == std::string::npos &&
           (text.find(':') != std::string::npos || text.find('/') != std::string::npos ||
            std::count(text.begin(), text.end(), '.') == 3);
}

// What the argument is about.
struct Subject {
    bool customer = false;
    std::vector<Prefix> prefixes;  // of a customer: all that he holds
};

bool is_customer(Invocation& run, const Words& words) {
    if (words.customer) return true;
    try {
        Prefix::parse(words.subject);
        return false;
    } catch (const Refused&) {
        if (looks_like_address(words.subject) && !customer_exists(run.database(), words.subject)) throw;
        return true;
    }
}

std::string without_address(Database& database, const std::string& customer, const Query& query) {
    std::string none = fmt::format("{} holds no address at {}", customer, format_instant(query.at));
    const auto right = exemption(database, customer);
    if (query.at < query.now || !right || !right->active(query.at)) return none;
    return fmt::format("{}; an exemption until {} lies dormant", none, format_instant(right->until));
}

Subject find_subject(Invocation& run, const Words& words, const Query& query) {
    Subject subject{is_customer(run, words), {}};
    if (!subject.customer) {
        subject.prefixes.push_back(Prefix::parse(words.subject));
        return subject;
    }
    check_customer_id(words.subject);
    require_customer(run.database(), words.subject);
    each_assignment(run.database(), words.subject, query.at,
                    [&](const Assignment& held) { subject.prefixes.push_back(held.prefix); });
    if (subject.prefixes.empty()) run.output().note(without_address(run.database(), words.subject, query));
    return subject;
}

// One answer stands for all of a prefix. Where it can't, who asked for that prefix is refused; what a customer holds is
// answered for all the same.
void require_one_answer(Invocation& run, const Subject& subject, Instant at) {
    for (const Prefix& prefix : subject.prefixes) {
        if (prefix.is_address()) continue;
        const auto parts = parts_inside(run.database(), prefix, at);
        if (parts.empty()) continue;
        const std::string why =
            fmt::format("{} has parts with an answer of their own, like {}: ask for the part or one address",
                        prefix.text(), fmt::join(parts, ", "));
        if (!subject.customer) throw Refused(Refusal::conflict, why);
        run.output().warn(why + "; here is its first address");
    }
}

// No packet has an IPv4 and an IPv6 address. Of a customer only what can reach --to is answered for.
void require_one_family(Invocation& run, const std::string& named, Subject& subject, const Query& query) {
    if (!query.to) return;
    const auto other = [&](const Prefix& prefix) { return prefix.family() != query.to->family(); };
    if (!subject.customer && other(subject.prefixes.front())) {
        throw Refused(Refusal::usage, fmt::format("--to {}: {} is of the other address family", query.to->short_text(),
                                                  subject.prefixes.front().text()));
    }
    if (std::erase_if(subject.prefixes, other) > 0 && subject.prefixes.empty()) {
        run.output().note(fmt::format("{} holds no address that can send to {}: all are of the other address family",
                                      named, query.to->short_text()));
    }
}

}  // namespace

Execution explain_command(CLI::App& app) {
    auto words = std::make_shared<Words>();
    app.add_option("ADDRESS|CUSTOMER", words->subject, "an address, or else a customer's id")->required();
    app.add_flag("--customer", words->customer, "the argument is a customer's id, even if it looks like an address");
    words->has_to = app.add_option("--to", words->to, "the verdict for this destination; default a foreign mail server")
                        ->type_name("ADDRESS");
    words->has_at =
        app.add_option("--at", words->at, "as it was then, or will be, like 2027-01-01T00:00:00Z")->type_name("TIME");
    return [=](Invocation& run) {
        const Query query = parse_query(*words);
        const Border& border = run.configuration().border;
        const Reading reading(run.database());
        Subject subject = find_subject(run, *words, query);
        require_one_family(run, words->subject, subject, query);
        require_one_answer(run, subject, query.at);
        KernelWitness witness(run, query.current());
        std::vector<Json> items;
        for (const Prefix& prefix : subject.prefixes) items.push_back(explain(run, witness, query, prefix));
        if (run.output().style() != Style::table && subject.customer) {
            print_list(run, items);
        } else {
            for (const Json& item : items) print_card(run, item);
        }
        if (!border.subscriber.empty()) {
            run.output().note(
                fmt::format("sources outside every pool: {} on subscriber interfaces", word(border.action)));
        }
        return 0;
    };
}

}  // namespace smtpfence
