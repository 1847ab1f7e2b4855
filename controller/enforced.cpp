#include "controller/enforced.hpp"

#include <fmt/format.h>

#include "subscribers/customer.hpp"

namespace smtpfence {

std::shared_ptr<WaitOptions> declare_wait(CLI::App& app, const char* by_default) {
    auto options = std::make_shared<WaitOptions>();
    options->wait = by_default;
    const bool waits = *by_default != '\0';
    const std::string what = "how long to wait until the routers enforce it, like 5s";
    CLI::Option* wait =
        app.add_option("--wait", options->wait, waits ? fmt::format("{}; default {}", what, by_default) : what)
            ->type_name("DURATION");
    if (waits) app.add_flag("--no-wait", options->no_wait, "return when it is committed")->excludes(wait);
    return options;
}

std::optional<Seconds> wait_limit(const WaitOptions& options) {
    if (options.no_wait || options.wait.empty()) return std::nullopt;
    return parse_duration(options.wait);
}

int commit_and_answer(Invocation& run, Change& change, std::optional<Seconds> wait, Json thing,
                      const std::string& text) {
    const Revision revision = change.commit();
    const SteadyTime committed = std::chrono::steady_clock::now();
    std::vector<Awaited> routers;
    if (wait) {
        Granted granted{parse_prefixes(thing.at("prefixes").get<std::vector<std::string>>())};
        if (thing.contains("until")) granted.until = parse_instant(thing["until"].get<std::string>());
        routers = await_routers(run.database(), revision, committed, *wait, granted);
    }
    thing["revision"] = revision;
    thing["routers"] = json_of(routers);
    run.output().result(thing,
                        fmt::format("{}; {}", text, wait ? sentence(routers) : fmt::format("revision {}", revision)));
    if (!wait || all_enforce(routers)) return 0;
    // The sentence above says so to people; whoever asked for less is told as well.
    if (run.output().quiet() || run.output().style() != Style::table) run.output().warn(sentence(routers));
    return exit_not_enforced;
}

std::vector<std::string> held_prefixes(Database& database, const std::string& customer) {
    std::vector<std::string> prefixes;
    each_assignment(database, customer, now(), [&](const Assignment& held) { prefixes.push_back(held.prefix.text()); });
    return prefixes;
}

}  // namespace smtpfence
