// plan, apply, run and clear: the table in this router's kernel.

#include <fmt/format.h>

#include <chrono>
#include <deque>
#include <thread>

#include "controller/commands.hpp"
#include "controller/digest.hpp"
#include "controller/enforcement.hpp"
#include "controller/fenced_policy.hpp"
#include "controller/last_good.hpp"
#include "controller/pool_cause.hpp"
#include "controller/trusted_clock.hpp"
#include "subscribers/router.hpp"

namespace smtpfence {

namespace {

using std::chrono::steady_clock;

constexpr Seconds apply_patience{30};

// The digest of what may go, "" for whatever is withheld; nullopt: nothing is confirmed.
using Confirmation = std::optional<std::string>;

// Which facts of the database decide about the elements of a set.
enum class Decides { right, pool, relay, configuration };

Decides who_decides(const ChangeLine& line) {
    if (!line.prefix) return Decides::configuration;
    if (line.where.starts_with("exempt")) return Decides::right;
    if (line.where.starts_with("pool")) return Decides::pool;
    return line.where.starts_with("relay") ? Decides::relay : Decides::configuration;
}

std::string cause(Database& database, const Plan& plan, const ChangeLine& line, Instant time) {
    switch (who_decides(line)) {
        case Decides::right:
            return right_cause(database, *line.prefix, time);
        case Decides::pool:
            return pool_cause(database, plan.actual, line);
        case Decides::relay:
            return object_cause(database, Object::relay, *line.prefix);
        case Decides::configuration:
            break;
    }
    if (line.object == "element") return "configuration, [interfaces]";
    if (plan.actual.empty()) return "the table is not there yet";
    return line.where.starts_with("exempt") ? "prefix lengths and number of exemptions"
                                            : "another program version or configuration";
}

// What is done, not when what goes would have ended by itself: that differs from one reading of the kernel to the
// next.
std::string digest_of(const std::vector<ChangeLine>& lines) {
    Digest digest;
    for (const ChangeLine& line : lines) {
        const std::string what = line.verb == "delete" && line.prefix ? line.prefix->text() : line.what;
        digest.add(fmt::format("{} {} {} {}\n", line.verb, line.object, line.where, what));
    }
    return digest.text();
}

void print_plan(Invocation& run, const Plan& plan, Instant time) {
    const auto lines = describe(plan.actual, plan.changes);
    // What `apply --confirm` takes, when there is something to confirm.
    const std::string digest = plan.withheld ? plan.withheld->digest : digest_of(lines);
    Listing listing(run.output(),
                    {{"verb", "DO"}, {"object", "OBJECT"}, {"where", "WHERE"}, {"what", "WHAT"}, {"cause", "CAUSE"}},
                    {{"revision", plan.revision},
                     {"digest", digest},
                     {"withheld", plan.withheld ? Json(json_of(*plan.withheld)) : Json()}});
    for (const ChangeLine& line : lines) {
        listing.add({{"verb", line.verb},
                     {"object", line.object},
                     {"where", line.where},
                     {"what", line.what.empty() ? Json() : Json(line.what)},
                     {"cause", cause(run.database(), plan, line, time)}});
    }
    listing.finish();
    if (run.output().style() == Style::table) {
        run.output().data() << fmt::format("{} changes to revision {}; digest {}\n", plan.changes.size(), plan.revision,
                                           digest);
    }
}

void print_applied(Invocation& run, Revision revision, size_t changes) {
    run.output().result({{"revision", revision}, {"changes", changes}},
                        fmt::format("revision {} is enforced; {} changes", revision, changes));
}

// The right to write this router's table; empty when another process has it.
std::unique_ptr<RouterLock> try_lock(Invocation& run) {
    try {
        return std::make_unique<RouterLock>(run.configuration().state_directory);
    } catch (const Refused& refusal) {
        if (refusal.reason != Refusal::conflict) throw;
        return nullptr;
    }
}

// The last good fence of this router, with its guard.
struct Before {
    std::optional<Snapshot> last;
    Guard guard;

    InForce in_force() {
        if (!last) throw SnapshotError("the last good fence went away while it was read; apply again");
        return {std::move(last->fence), last->revision, std::move(last->mark)};
    }
};

Before read_before(Invocation& run, Instant time) {
    std::vector<std::string> complaints;
    const bool sure = read_clock().synchronised;
    auto snapshot = read_last_good(run.configuration().state_directory, time, complaints, sure);
    for (const std::string& complaint : complaints) run.output().warn(complaint);
    const Openings openings = snapshot ? snapshot->openings : Openings();
    return {std::move(snapshot), Guard(run.configuration().guard, openings)};
}

// Nothing is withheld, or exit code 4 with the way on.
int say_withheld(Invocation& run, const std::optional<std::string>& sentence) {
    if (!sentence) return 0;
    run.output().warn(*sentence);
    return static_cast<int>(Refusal::conflict);
}

int apply_here(Invocation& run, const Confirmation& confirmation) {
    Database& database = run.database();
    // Before the table is taken: what is refused leaves no empty table behind.
    require_relay(fenced_policy(database), run.configuration().border);
    PolicyReading reading(run.database_url(), now());
    const auto kernel = open_kernel();
    Before before = read_before(run, now());
    // Never let go of (and never used again): a million elements, one by one, would take a thirtieth of the whole, and
    // the process ends.
    static auto& kept = *new std::deque<Enforcement>;
    Enforcement& enforcement = kept.emplace_back(*kernel, run.configuration().border, std::move(before.guard));
    LastGood last_good(run.configuration().state_directory);
    enforcement.on_commit([&](const Transaction& transaction) { last_good.draft(transaction, enforcement.applied()); });
    enforcement.on_take([&] { last_good.write_anew(); });
    if (before.last) last_good.replaces(*before.last);
    if (!before.last) {
        enforcement.take();
    } else if (comparison_with(*before.last) == Comparison::keys) {
        enforcement.take(before.last->fence);
        enforcement.measure_against(before.in_force());
    } else if (!enforcement.take(before.in_force())) {
        enforcement.measure_against(read_before(run, now()).in_force());
    }
    enforcement.ask_before_writing();
    Pass pass = enforcement.follow(database, now(), &reading);
    Guard& guard = enforcement.guard();
    if (guard.withheld() && confirmation && guard.confirm(*confirmation, now())) {
        const size_t earlier = pass.changes;
        pass = enforcement.follow(database, now());
        pass.changes += earlier;
    }
    last_good.settle(enforcement.applied(), guard.openings(), pass.revision, enforcement.mark(), now());
    last_good.synchronise();
    print_applied(run, pass.revision, pass.changes);
    return say_withheld(run, guard.withheld() ? std::optional(sentence(*guard.withheld())) : std::nullopt);
}

int print_answer(Invocation& run, const std::string& text) {
    const auto answer = nlohmann::json::parse(text);
    if (!answer.value("ok", false)) {
        throw std::runtime_error(fmt::format("the service on {} could not apply: {}", run.configuration().router,
                                             answer.value("error", "no reason given")));
    }
    print_applied(run, answer.value("revision", Revision{0}), answer.value("changes", size_t{0}));
    const auto withheld = answer.find("withheld");
    return say_withheld(run, withheld != answer.end() ? std::optional(withheld_sentence(*withheld)) : std::nullopt);
}

// Somebody else has the table: a service, which answers, or another `apply` or `clear`, which is done soon.
int apply_by_service(Invocation& run, const Confirmation& confirmation) {
    const std::string& router = run.configuration().router;
    Database& database = run.database(OpenMode::write);
    const int64_t request = request_apply(database, router, run.actor(), confirmation);
    const auto deadline = steady_clock::now() + apply_patience;
    while (steady_clock::now() < deadline) {
        if (const auto answer = request_answer(database, request)) return print_answer(run, *answer);
        if (const auto lock = try_lock(run)) {
            withdraw_request(database, request);
            return apply_here(run, confirmation);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    if (!withdraw_request(database, request)) {
        if (const auto answer = request_answer(database, request)) return print_answer(run, *answer);
    }
    run.output().warn(fmt::format("the service on {} did not answer in {}: see smtpfence status and its journal",
                                  router, format_duration(apply_patience)));
    return exit_not_enforced;
}

}  // namespace

Execution plan_command(CLI::App& app) {
    auto format = std::make_shared<Text>();
    CLI::Option* has_format = app.add_option("--format", *format, "what nft -f would accept")->type_name("nft");
    return [=](Invocation& run) {
        if (has_format->count() > 0 && *format != "nft") {
            throw Refused(Refusal::invalid,
                          fmt::format("--format \"{}\" is unknown: use nft, or --output", visible(*format)));
        }
        if (has_format->count() > 0 && run.output().style() != Style::table) {
            throw Refused(Refusal::usage,
                          "plan: --format nft prints a script of its own; leave out --format or --output");
        }
        const Instant time = now();
        Database& database = run.database();
        const auto kernel = open_kernel();
        Before before = read_before(run, time);
        const auto last = before.last ? std::optional(before.in_force()) : std::nullopt;
        const Plan plan = make_plan(database, *kernel, run.configuration().border, last, std::move(before.guard), time);
        say_withheld(run, plan.withheld ? std::optional(sentence(*plan.withheld)) : std::nullopt);
        for (const std::string& doubt : missing_relays(relays(database), pools(database))) run.output().warn(doubt);
        if (has_format->count() > 0) {
            run.output().data() << nft_script(plan.actual, plan.changes, time);
        } else {
            print_plan(run, plan, time);
        }
        return plan.changes.empty() && !plan.withheld ? 0 : exit_plan_has_changes;
    };
}

Execution apply_command(CLI::App& app) {
    auto digest = std::make_shared<Text>();
    CLI::Option* confirm =
        app.add_option("--confirm", *digest, "let go what the guard withholds: of this digest, or whatever it is now")
            ->type_name("[=DIGEST]")
            ->expected(0, 1);
    return [=](Invocation& run) {
        const Confirmation confirmation = given(confirm, *digest);
        const auto lock = try_lock(run);
        return lock ? apply_here(run, confirmation) : apply_by_service(run, confirmation);
    };
}

Execution run_command(CLI::App&) {
    return [](Invocation& run) { return run_service(run.service()); };
}

Execution clear_command(CLI::App& app) {
    auto sure = std::make_shared<bool>(false);
    app.add_flag("--yes", *sure, "required: afterwards port 25 is open to everybody");
    return [=](Invocation& run) {
        if (!*sure)
            throw Refused(Refusal::usage,
                          "clear opens port 25 to everybody on this router, now and after a reboot: say --yes if "
                          "that is meant");
        const RouterLock lock(run.configuration().state_directory);
        const bool removed = open_kernel()->remove();
        LastGood::remove(run.configuration().state_directory);
        run.output().result({{"removed", removed}},
                            removed ? "table inet smtpfence removed: nothing is fenced on this router"
                                    : "there was no table inet smtpfence");
        return 0;
    };
}

}  // namespace smtpfence
