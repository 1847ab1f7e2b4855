#include "controller/service.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <nlohmann/json.hpp>

#include "controller/enforcement.hpp"
#include "controller/journal.hpp"
#include "subscribers/router.hpp"

namespace smtpfence {

namespace {

using Steady = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto heartbeat_period = 5s;
constexpr auto attempts_period = 10s;
/// Sources in one transaction: a few milliseconds, also while an attack fills the counters.
constexpr size_t attempts_slice = 1000;
constexpr Seconds history_period = 6h;
constexpr Seconds history_pause = 1s;  ///< while there is more to forget
constexpr auto longest_retry = 30s;

/// inotify's event comes before the commit is visible, so after one the database is asked again at these distances.
constexpr std::array<Steady::duration, 7> rechecks{100us, 300us, 1ms, 3ms, 10ms, 30ms, 100ms};

/// Delivers the signals that steer the service through a descriptor.
class Signals {
public:
    Signals() {
        sigset_t set;
        sigemptyset(&set);
        for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
        sigprocmask(SIG_BLOCK, &set, nullptr);
        descriptor_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "signalfd");
    }
    ~Signals() { close(descriptor_); }
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

    int descriptor() const { return descriptor_; }
    /// The next pending signal, 0 when there is none.
    int next() const {
        signalfd_siginfo arrived{};
        return read(descriptor_, &arrived, sizeof arrived) == sizeof arrived ? static_cast<int>(arrived.ssi_signo) : 0;
    }

private:
    int descriptor_ = -1;
};

/// When something is to be tried again after failing: after `first`, then twice as long each time, up to half a minute.
class Retry {
public:
    explicit Retry(Steady::duration first) : first_(first), pause_(first) {}
    bool due(Steady::time_point t) const { return t >= at_; }
    Steady::time_point at() const { return at_; }
    void failed(Steady::time_point t) {
        at_ = t + pause_;
        pause_ = std::min<Steady::duration>(pause_ * 2, longest_retry);
    }
    void succeeded() {
        at_ = {};
        pause_ = first_;
    }

private:
    Steady::time_point at_{};
    Steady::duration first_, pause_;
};

/// Why the router is not at the desired revision, and since when; says each change once.
class Trouble {
public:
    void set(const std::string& reason, Instant at) {
        if (reason_ == reason) return;
        if (!reason_) since_ = at;
        reason_ = reason;
        journal(Level::warning, reason + "; the rules in force stay in force");
    }
    void clear(Instant at) {
        if (reason_)
            journal(Level::notice, fmt::format("recovered after {} ({})", format_duration(at - since_), *reason_));
        reason_.reset();
    }
    const std::optional<std::string>& reason() const { return reason_; }
    Instant since() const { return since_; }

private:
    std::optional<std::string> reason_;
    Instant since_{};
};

class Service {
public:
    explicit Service(const ServiceOptions& options)
        : options_(options),
          configuration_(read_configuration(options.configuration_path, options.configuration_may_be_missing)),
          lock_(configuration_.state_directory),
          kernel_(open_kernel()),
          enforcement_(*kernel_, configuration_.border) {
        require_database(configuration_);
    }

    int run() {
        enforcement_.take();
        journal(Level::info, fmt::format("smtpfence {} on router {} with database {}", SMTPFENCE_VERSION,
                                         configuration_.router, url()));
        while (!stopping_) {
            turn();
            wait();
            for (int number = signals_.next(); number != 0; number = signals_.next()) receive(number);
        }
        sd_notify(0, "STOPPING=1");
        journal(Level::info, "stopped; the rules stay in force");
        return 0;
    }

private:
    const std::string& url() const { return options_.database.empty() ? configuration_.database : options_.database; }

    /// Throws ConfigurationError when `configuration` leaves the service without a database that it could open.
    void require_database(const Configuration& configuration) const {
        const std::string& named = options_.database.empty() ? configuration.database : options_.database;
        if (named.empty())
            throw ConfigurationError("no database: name it in the configuration's 'database' or with --database");
        try {
            check_database_url(named);
        } catch (const Refused& refused) {
            throw ConfigurationError(refused.what());
        }
    }

    /// Everything that is due. Every turn ends with the kernel verified against what was applied, or with the failure
    /// reported.
    void turn() {
        const Steady::time_point started = Steady::now();
        check_kernel(started);
        check_database(started);
        tell_systemd();
    }

    void check_kernel(Steady::time_point t) {
        if (!kernel_retry_.due(t)) return;
        try {
            const bool thorough = t >= next_verify_;
            if (thorough) next_verify_ = t + configuration_.verify;
            if (const size_t healed = enforcement_.verify(now(), thorough)) {
                drift_healed_ += static_cast<int64_t>(healed);
                journal(Level::warning,
                        fmt::format("drift: {} differences in the kernel that are not ours were put right", healed),
                        {{"DRIFT", std::to_string(healed)}});
                report_due_ = true;
            }
            if (enforcement_.expire(now()) > 0) follow_due_ = true;
            verified_at_ = now();
            kernel_retry_.succeeded();
        } catch (const KernelError& error) {
            kernel_failed(error, t);
        }
    }

    void kernel_failed(const KernelError& error, Steady::time_point t) {
        trouble_.set(fmt::format("kernel: {}", error.what()), now());
        kernel_retry_.failed(t);
        follow_due_ = report_due_ = true;
    }

    void check_database(Steady::time_point t) {
        if (!database_retry_.due(t)) return;
        try {
            if (!database_) {
                database_ = open_database(url(), OpenMode::write, service_patience);
                follow_due_ = true;
            }
            look(t);
            look_for_requests(t);
            changes_ = 0;
            if (follow_due_ && kernel_retry_.due(t)) follow(t);
            write(t);
            database_retry_.succeeded();
        } catch (const DatabaseError& error) {
            trouble_.set(error.what(), now());
            database_.reset();
            database_retry_.failed(t);
        }
    }

    /// Has somebody committed?
    void look(Steady::time_point t) {
        if (database_->changed()) {
            follow_due_ = true;
            recheck_ = rechecks.size();
        } else if (woken_) {
            recheck_ = 0;
        } else if (recheck_ < rechecks.size() && t >= recheck_at_) {
            ++recheck_;
        }
        woken_ = false;
        if (recheck_ < rechecks.size()) recheck_at_ = t + rechecks[recheck_];
        if (t < next_poll_) return;
        next_poll_ = t + configuration_.poll;
        if (enforcement_.revision() != current_revision(*database_)) follow_due_ = true;
    }

    void follow(Steady::time_point t) {
        try {
            const Pass pass = enforcement_.follow(*database_, now());
            follow_due_ = false;
            changes_ = pass.changes;
            last_pass_ = verified_at_ = now();
            kernel_retry_.succeeded();
            trouble_.clear(now());
            if (pass.changes > 0) {
                const std::chrono::duration<double, std::milli> took = Steady::now() - t;
                journal(Level::notice,
                        fmt::format("revision {} enforced: {} change{}, {:.1f} ms", pass.revision, pass.changes,
                                    pass.changes == 1 ? "" : "s", took.count()),
                        {{"REVISION", std::to_string(pass.revision)}, {"CHANGES", std::to_string(pass.changes)}});
            }
            if (reported_ != pass.revision) report_due_ = true;
        } catch (const KernelError& error) {
            kernel_failed(error, t);
        } catch (const Refused& error) {
            trouble_.set(error.what(), now());
            follow_due_ = false;  // the next commit to the database may mend it
            report_due_ = true;
        }
    }

    /// `apply` on this machine asks for a pass and waits for its result.
    void look_for_requests(Steady::time_point t) {
        asked_ = open_requests(*database_, configuration_.router);
        if (asked_.empty()) return;
        next_verify_ = t;
        check_kernel(t);
        enforcement_.compare_all();
        follow_due_ = true;
    }

    void answer_requests() {
        for (const ApplyRequest& request : asked_) {
            nlohmann::json answer{
                {"ok", !trouble_.reason()}, {"revision", enforcement_.revision().value_or(0)}, {"changes", changes_}};
            if (trouble_.reason()) answer["error"] = *trouble_.reason();
            const std::string words = answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
            answer_request(*database_, request.number, words);
            journal(Level::info, fmt::format("apply requested by {}: {}", request.login, words));
        }
        asked_.clear();
    }

    /// What the service writes may fail (disk full, locked by a long import) while reading goes on.
    void write(Steady::time_point t) {
        if (!write_retry_.due(t)) return;
        try {
            answer_requests();
            report(t);
            read_attempts(t);
            forget(t);
            write_retry_.succeeded();
            unwritten_.clear();
        } catch (const KernelError& error) {
            kernel_failed(error, t);
        } catch (const DatabaseError& error) {
            write_retry_.failed(t);
            if (unwritten_ != error.what()) journal(Level::warning, fmt::format("can't report: {}", error.what()));
            unwritten_ = error.what();
        }
    }

    void read_attempts(Steady::time_point t) {
        if (t >= next_attempts_ && attempts_.done) {
            next_attempts_ = t + attempts_period;
            AttemptReading reading;
            for (const auto& [set, kind] : {std::pair{"attempts4", KeyKind::ipv4}, {"attempts6", KeyKind::ipv6}}) {
                for (const Counted& counted : kernel_->counted(set)) {
                    reading.counts.push_back({to_prefix(counted.key, kind), static_cast<int64_t>(counted.packets)});
                }
            }
            std::sort(reading.counts.begin(), reading.counts.end(),
                      [](const AttemptCount& a, const AttemptCount& b) { return a.source < b.source; });
            attempts_ = std::move(reading);
        }
        if (!attempts_.done) write_attempts(*database_, configuration_.router, attempts_, now(), attempts_slice);
    }

    void forget(Steady::time_point t) {
        if (t < next_forget_) return;
        const bool more = forget_history(*database_, now() - configuration_.keep);
        next_forget_ = t + (more ? history_pause : history_period);
    }

    void report(Steady::time_point t) {
        if (!report_due_ && t < next_report_) return;
        Report report;
        report.router = configuration_.router;
        report.revision = enforcement_.revision().value_or(0);
        report.heartbeat = now();
        report.last_pass = last_pass_;
        report.verified_at = verified_at_;
        report.drift_healed = drift_healed_;
        report.error = trouble_.reason();
        if (report.error) report.error_since = trouble_.since();
        report.version = SMTPFENCE_VERSION;
        report.notes = text(kernel_->features());
        write_report(*database_, report);
        reported_ = report.revision;
        report_due_ = false;
        next_report_ = t + heartbeat_period;
        // Our own commit touched the files we watch: look now, so that it doesn't wake us.
        if (database_->changed()) follow_due_ = true;
    }

    /// A fence is in force: one that this process brought up to a revision, or one that it found.
    bool fenced() const {
        if (enforcement_.revision()) return true;
        const auto border = enforcement_.applied().chains.find("border");
        return border != enforcement_.applied().chains.end() && !border->second.rules.empty();
    }

    void tell_systemd() {
        const std::string status = trouble_.reason()
                                       ? *trouble_.reason()
                                       : fmt::format("revision {} enforced", enforcement_.revision().value_or(0));
        std::string message = "WATCHDOG=1\nSTATUS=" + status;
        if (!ready_ && fenced()) {
            ready_ = true;
            message += "\nREADY=1";
        }
        if (status != told_ || message.find("READY=1") != std::string::npos || watchdog() > 0us || !ready_)
            sd_notify(0, message.c_str());
        told_ = status;
    }

    static std::chrono::microseconds watchdog() {
        uint64_t period = 0;
        return sd_watchdog_enabled(0, &period) > 0 ? std::chrono::microseconds(period) : 0us;
    }

    Steady::time_point next_turn() const {
        const Steady::time_point t = Steady::now();
        const bool kernel_due = kernel_retry_.due(t);
        Steady::time_point next = kernel_due ? next_verify_ : kernel_retry_.at();
        const auto earlier = [&next](Steady::time_point other) { next = std::min(next, other); };
        if (const auto end = enforcement_.next_end(); end && kernel_due)
            earlier(t + std::max<Seconds>(*end - now(), 0s));
        if (database_) {
            earlier(next_poll_);
            if (follow_due_ && kernel_due) earlier(t);
            if (recheck_ < rechecks.size()) earlier(recheck_at_);
            earlier(write_retry_.due(t) ? (report_due_ || !attempts_.done ? t : std::min(next_report_, next_attempts_))
                                        : write_retry_.at());
        } else {
            earlier(database_retry_.at());
        }
        if (const auto period = watchdog(); period > 0us) earlier(t + period / 2);
        return next;
    }

    void wait() {
        const auto pause = std::max<Steady::duration>(next_turn() - Steady::now(), 0ns);
        const timespec timeout{std::chrono::duration_cast<Seconds>(pause).count(), (pause % 1s).count()};
        std::array<pollfd, 2> descriptors{pollfd{signals_.descriptor(), POLLIN, 0},
                                          pollfd{database_ ? database_->wake_descriptor() : -1, POLLIN, 0}};
        if (ppoll(descriptors.data(), descriptors.size(), &timeout, nullptr) > 0 && descriptors[1].revents != 0)
            woken_ = true;
    }

    void receive(int number) {
        if (number == SIGHUP) {
            reload();
        } else {
            stopping_ = true;
        }
    }

    void reload() {
        const auto monotonic = std::chrono::duration_cast<std::chrono::microseconds>(Steady::now().time_since_epoch());
        sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", static_cast<long long>(monotonic.count()));
        try {
            Configuration fresh =
                read_configuration(options_.configuration_path, options_.configuration_may_be_missing);
            if (fresh.state_directory != configuration_.state_directory || fresh.router != configuration_.router) {
                throw ConfigurationError(options_.configuration_path +
                                         ": router and state_directory can't change in a running service; restart it");
            }
            require_database(fresh);
            const std::string before = url();
            configuration_ = std::move(fresh);
            if (url() != before) database_.reset();
            enforcement_.set_border(configuration_.border);
            follow_due_ = true;
            next_poll_ = next_verify_ = {};
            journal(Level::notice, "configuration reloaded from " + options_.configuration_path);
        } catch (const ConfigurationError& error) {
            journal(Level::error,
                    fmt::format("reload refused, the old configuration stays in force: {}", error.what()));
        }
        ready_ = false;
        told_.clear();
    }

    ServiceOptions options_;
    Configuration configuration_;
    RouterLock lock_;
    Signals signals_;
    std::unique_ptr<Kernel> kernel_;
    Enforcement enforcement_;
    std::unique_ptr<Database> database_;  ///< null while it can't be reached

    std::vector<ApplyRequest> asked_;  ///< requests that the next report answers
    size_t changes_ = 0;               ///< of this turn's pass
    bool stopping_ = false;
    bool ready_ = false;
    bool woken_ = false;  ///< the database's descriptor became readable
    bool follow_due_ = true;
    bool report_due_ = true;
    size_t recheck_ = rechecks.size();
    Steady::time_point recheck_at_{}, next_poll_{}, next_verify_ = Steady::now() + 60s, next_report_{},
                                                    next_attempts_{}, next_forget_{};
    Retry database_retry_{1s}, kernel_retry_{1s}, write_retry_{20ms};
    std::string unwritten_;  ///< why the last report could not be written
    Trouble trouble_;
    AttemptReading attempts_{{}, 0, true};
    std::optional<Instant> last_pass_, verified_at_;
    int64_t drift_healed_ = 0;
    Revision reported_ = -1;
    std::string told_;
};

}  // namespace

int run_service(const ServiceOptions& options) { return Service(options).run(); }

}  // namespace smtpfence
