// restore: the last good fence, before there is a network or a database.

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <system_error>

#include "controller/commands.hpp"
#include "controller/enforcement.hpp"
#include "controller/last_good.hpp"
#include "controller/router_lock.hpp"
#include "controller/trusted_clock.hpp"
#include "subscribers/error.hpp"

namespace smtpfence {

namespace {

/// What to restore, and where it comes from.
struct Source {
    Fence fence;
    std::string words;
    Revision revision = 0;
};

/// At boot a slip in the configuration must not open the fence: then the defaults find the last good one.
Configuration usable_configuration(Invocation& run) {
    try {
        return run.configuration();
    } catch (const ConfigurationError& error) {
        Configuration defaults;
        std::vector<std::string> complaints;
        if (!read_last_good(defaults.state_directory, now(), complaints)) throw;
        run.output().warn(fmt::format("{}; the last good fence in {} is used", error.what(), defaults.state_directory));
        return defaults;
    }
}

bool may_not_be_read(const std::string& file) { return access(file.c_str(), R_OK) != 0 && errno == EACCES; }

Source source_of(Invocation& run, const Configuration& configuration, Instant time) {
    std::vector<std::string> complaints;
    const bool sure = read_clock().synchronised;
    auto last = read_last_good(configuration.state_directory, time, complaints, sure);
    for (const std::string& complaint : complaints) run.output().warn(complaint);
    if (last) {
        if (last->written > time && !sure) {
            run.output().warn(
                fmt::format("the clock says {}, before the last good fence was written: rights end as if it were {}",
                            format_instant(time), format_instant(last->written)));
        }
        return {std::move(last->fence),
                fmt::format("the fence of revision {}, written at {}", last->revision, format_instant(last->written)),
                last->revision};
    }
    if (configuration.boot.pools.empty()) {
        if (may_not_be_read(configuration.state_directory + "/fence")) {
            throw std::system_error(EACCES, std::generic_category(),
                                    fmt::format("nothing was restored from {}, run as root or as the service's user",
                                                configuration.state_directory));
        }
        throw std::runtime_error(
            fmt::format("no usable fence in {}, and the configuration's [boot] names no pools: NOTHING IS FENCED on "
                        "this router; run 'smtpfence apply' as soon as the database can be reached, and name pools and "
                        "relays in [boot]",
                        configuration.state_directory));
    }
    return {compile(configuration.boot, configuration.border, {}),
            "the configuration's [boot] fence, without exemptions", 0};
}

/// Whether another process that may write the table has a fence in force.
bool kept(const Configuration& configuration) {
    try {
        const RouterLock lock(configuration.state_directory);
        return false;
    } catch (const Refused&) {
        return in_force(open_kernel()->read_outline());
    }
}

}  // namespace

Execution restore_command(CLI::App& app) {
    auto unless_kept = std::make_shared<bool>(false);
    app.add_flag("--unless-kept", *unless_kept, "succeed as well where another process keeps a fence in force");
    return [=](Invocation& run) {
        const Instant time = now();
        const Configuration configuration = usable_configuration(run);
        if (*unless_kept && kept(configuration)) {
            run.output().result({{"revision", 0}, {"changes", 0}}, "another process keeps a fence in force; 0 changes");
            return 0;
        }
        Source source = source_of(run, configuration, time);
        const RouterLock lock(configuration.state_directory);
        const auto kernel = open_kernel();
        Enforcement enforcement(*kernel, configuration.border);
        enforcement.take();
        const size_t changes = enforcement.restore(std::move(source.fence), time);
        run.output().result({{"revision", source.revision}, {"changes", changes}},
                            fmt::format("{} is in force; {} changes", source.words, changes));
        return 0;
    };
}

}  // namespace smtpfence
