#include "controller/service.hpp"

#include <fmt/format.h>
#include <malloc.h>
#include <poll.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <utility>

#include "controller/alarm.hpp"
#include "controller/enforcement.hpp"
#include "controller/follower.hpp"
#include "controller/gathering.hpp"
#include "controller/journal.hpp"
#include "controller/keeping.hpp"
#include "controller/lookout.hpp"
#include "controller/reporter.hpp"
#include "controller/signals.hpp"
#include "controller/supervisor.hpp"
#include "controller/trouble.hpp"
#include "controller/trusted_clock.hpp"
#include "controller/verifier.hpp"
#include "controller/withholding.hpp"
#include "rules/fence_record.hpp"

namespace smtpfence {

namespace {

using namespace std::chrono_literals;

Configuration configured(const ServiceOptions& options) {
    return read_configuration(options.configuration_path, options.configuration_may_be_missing);
}

class Service {
public:
    explicit Service(const ServiceOptions& options)
        : options_(options),
          configuration_(configured(options)),
          lock_(configuration_.state_directory),
          keeping_(configuration_.state_directory),
          kernel_(open_kernel()),
          enforcement_(*kernel_, configuration_.border, Guard(configuration_.guard)),
          verifier_(*kernel_, enforcement_),
          follower_(database_of(configuration_, options.database), configuration_.poll),
          reporter_(*kernel_) {
        report_.router = configuration_.router;
        report_.version = SMTPFENCE_VERSION;
        report_.notes = text(kernel_->features());
        enforcement_.on_commit([this](const Transaction& transaction) { keeping_.note(transaction, now()); });
        enforcement_.on_take([this] { keeping_.doubt(); });
    }

    int run() {
        begin();
        journal(Level::info, fmt::format("smtpfence {} on router {} with database {}", SMTPFENCE_VERSION,
                                         configuration_.router, follower_.url()));
        journal(Level::info, "kernel: " + report_.notes.substr(0, report_.notes.find_last_not_of('\n') + 1));
        while (!stopping_) {
            turn();
            wait();
            for (int number = signals_.next(); number != 0; number = signals_.next()) receive(number);
        }
        keeping_.finish(enforcement_, now(), Steady::now());
        supervisor_.stopping();
        journal(Level::info, "stopped; the rules stay in force");
        return 0;
    }

private:
    /// What rights go by. The database's readers count a heartbeat's age by the machine's own clock.
    Instant now() const { return clock_.at(uptime()); }

    /// Takes the table as it is. Without one, the last good fence comes back at once, database or not.
    void begin() {
        reading_.emplace(follower_.url(), now());
        std::vector<std::string> complaints;
        auto last = read_last_good(configuration_.state_directory, now(), complaints, clock_.synchronised());
        for (const std::string& complaint : complaints) journal(Level::error, complaint);
        if (last && clock_.not_before(last->written) == ClockEvent::held) {
            kernel_->set_clock(clock_.since_start());
            note_clock();
            reading_.emplace(follower_.url(), now());
            last = read_last_good(configuration_.state_directory, now(), complaints);
        }
        enforcement_.take(last ? last->fence : Fence(), last ? comparison_with(*last) : Comparison::keys);
        look_around();
        if (!last) return;
        if (same_record(last->fence, enforcement_.applied())) keeping_.resume(*last);
        const bool fenced = enforcement_.fenced();
        const size_t lacked = fenced ? enforcement_.mend(last->fence, now()) : enforcement_.restore(last->fence, now());
        report_.drift_healed += static_cast<int64_t>(lacked);
        if (lacked > 0) {
            journal(Level::warning,
                    fmt::format("the kernel {}: {} changes from the fence of revision {}, written at {}",
                                fenced ? "lacked a part of the fence" : "held no fence", lacked, last->revision,
                                format_instant(last->written)));
        }
        enforcement_.guard() = Guard(configuration_.guard, std::move(last->openings));
        InForce before{std::move(last->fence), last->revision, std::move(last->mark)};
        if (!last->resumable || !enforcement_.resume(before, now())) enforcement_.measure_against(std::move(before));
    }

    /// Everything that is due. Every turn ends with the kernel verified against what was applied, or with the failure
    /// reported.
    void turn() {
        const Steady::time_point started = Steady::now();
        check_clock(started);
        const bool follows = verifier_.due(started);  // though healing fails: a revocation doesn't wait for that
        check_kernel(started);
        if (keeping_.keep(enforcement_, now(), started)) reporter_.hurry();
        lock_.turn_away();
        check_database(started, follows);
        keeping_.flush(started);
        supervisor_.tell(status(), enforcement_.fenced(), started);
    }

    void check_clock(Steady::time_point t) {
        const ClockEvent event = clock_.look(read_clock());
        kernel_->set_clock(clock_.since_start());
        if (event == ClockEvent::none) return;
        note_clock();
        if (event == ClockEvent::held) return;
        follow_due_ = fence_changed_ = true;
        try {
            enforcement_.clock_stepped(now());
            if (clock_.step() < 0s) keeping_.write_anew();
        } catch (const KernelError& error) {
            kernel_failed(error, t);
        }
    }

    void note_clock() {
        journal(Level::warning, clock_.words());
        note_surroundings();
    }

    void look_around() {
        lookout_.look(configuration_.border.subscriber);
        note_surroundings();
    }

    void note_surroundings() {
        std::vector<std::string> warnings = lookout_.warnings();
        if (clock_.held()) warnings.push_back(clock_.words());
        std::string notes = notes_with(text(kernel_->features()), warnings);
        if (notes == report_.notes) return;
        report_.notes = std::move(notes);
        reporter_.hurry();
    }

    /// Sessions in a flow table don't notice that the fence changed.
    void end_sessions() {
        if (!fence_changed_) return;
        if (const size_t ended = lookout_.end_offloaded_sessions(enforcement_.applied())) {
            journal(Level::notice, fmt::format("{} session{} in a flowtable lost the right to port 25 and ended", ended,
                                               ended == 1 ? "" : "s"));
        }
        fence_changed_ = false;
    }

    void check_kernel(Steady::time_point t, Verifier::Sweep much = Verifier::Sweep::next) {
        if (!verifier_.due(t)) return;
        try {
            if (verifier_.thorough(t)) {
                look_around();
                fence_changed_ = true;
            }
            if (const size_t healed = verifier_.verify(now(), t, configuration_.verify, much)) {
                report_.drift_healed += static_cast<int64_t>(healed);
                reporter_.hurry();
                fence_changed_ = true;
            }
            if (enforcement_.expire(now()) > 0) follow_due_ = fence_changed_ = true;
            end_sessions();
            report_.verified_at = now();
            if (!follow_due_) verifier_.succeeded();  // a pass that the kernel refused is what pauses
        } catch (const KernelError& error) {
            kernel_failed(error, t);
        }
    }

    void kernel_failed(const KernelError& error, Steady::time_point t) {
        trouble_.set(fmt::format("kernel: {}", error.what()), now());
        verifier_.failed(error, t);
        follow_due_ = fence_changed_ = true;
        reporter_.hurry();
    }

    void check_database(Steady::time_point t, bool follows) {
        if (!follower_.due(t)) return;
        try {
            if (follower_.look(t, enforcement_.revision()) || (!trouble_.reason() && enforcement_.wants_pass(now())))
                follow_due_ = true;
            const auto requests = look_for_requests(t);
            size_t changes = 0;
            if (follow_due_ && follows && gathering_.over(t)) changes = follow(t);
            if (withholding_.confirmed(enforcement_.guard(), requests, now())) changes += follow(t);
            withholding_.tell(enforcement_.guard(), report_, reporter_);
            const bool asked = !requests.empty();  // the answer says what the disk made of it
            if (asked ? keeping_.finish(enforcement_, now(), t) : keeping_.keep(enforcement_, now(), t))
                reporter_.hurry();
            reporter_.asked(requests, changes);
            write(t);
            follower_.succeeded();
        } catch (const DatabaseError& error) {
            trouble_.set(error.what(), now());
            follower_.failed(t);
            follow_due_ = fence_changed_ = true;  // part of a pass may be in force
            reporter_.hurry();
        }
    }

    /// The number of changes made in the kernel.
    size_t follow(Steady::time_point t) {
        const bool healed = verifier_.due(t);
        try {
            const Pass pass = enforcement_.follow(follower_.session(), now(), reading_ ? &*reading_ : nullptr);
            if (pass.full) malloc_trim(0);  // to compare everything took three times what is kept
            if (pass.changes > 0) fence_changed_ = true;
            end_sessions();
            report_.last_pass = now();
            keeping_.note(pass.revision);
            follow_due_ = !healed;
            if (healed) {
                report_.verified_at = report_.last_pass;
                verifier_.succeeded();
                if (trouble_.reason()) reporter_.hurry();
                trouble_.clear(now());
            }
            if (pass.changes > 0) {
                const Steady::time_point ended = Steady::now();
                gathering_.passed(ended, used_cpu());
                journal_pass(pass.revision, pass.changes, ended - t);
            }
            return pass.changes;
        } catch (const KernelError& error) {
            kernel_failed(error, t);
        } catch (const Refused& error) {
            trouble_.set(error.what(), now());
            fence_changed_ = true;  // what narrows went first
            follow_due_ = false;    // the next commit to the database may mend it
            reporter_.hurry();
        }
        return 0;
    }

    /// `apply` on this machine asks for a pass and waits for its result.
    std::vector<ApplyRequest> look_for_requests(Steady::time_point t) {
        auto requests = reporter_.unheard(open_requests(follower_.session(), configuration_.router));
        if (!requests.empty()) {
            verifier_.hurry();
            check_kernel(t, Verifier::Sweep::whole);
            enforcement_.compare_all();
            follow_due_ = true;
            gathering_.end();
        }
        return requests;
    }

    void write(Steady::time_point t) {
        const Revision in_force = enforcement_.revision().value_or(0);
        // Before the disk has taken the fence, no more is vouched for than by the process before this one.
        if (!vouched_before_) vouched_before_ = reported_revision(follower_.session(), configuration_.router);
        const Revision reportable = keeping_.reportable(in_force).value_or(std::min(*vouched_before_, in_force));
        if (std::exchange(report_.revision, reportable) != reportable) reporter_.hurry();
        report_.heartbeat = smtpfence::now();
        report_.error = trouble().reason();
        report_.error_since = trouble().reason() ? std::optional(trouble().since()) : std::nullopt;
        try {
            const bool written = reporter_.write(follower_.session(), report_, {now(), configuration_.keep}, t);
            if (written && follower_.drain()) follow_due_ = true;
        } catch (const KernelError& error) {
            kernel_failed(error, t);
        }
    }

    const Trouble& trouble() const { return trouble_.reason() ? trouble_ : keeping_.trouble(); }

    std::string status() const {
        std::string words = fmt::format("revision {} enforced", enforcement_.revision().value_or(0));
        if (enforcement_.guard().withheld()) words += "; the guard withholds a part, see smtpfence status";
        if (!trouble().reason()) return words;
        return fmt::format("since {}: {}; {}", format_instant(trouble().since()), *trouble().reason(), words);
    }

    /// A pass is due and waits a little for what else is committed; nothing else about the database wakes us meanwhile.
    bool gathers(Steady::time_point t) const {
        return follow_due_ && follower_.due(t) && verifier_.due(t) && !gathering_.over(t);
    }

    Steady::time_point next_turn(Steady::time_point t) const {
        Steady::time_point next = std::min({supervisor_.due(t), verifier_.next(t), keeping_.next(t)});
        if (clock_.held()) next = std::min(next, t + 1s);  // nothing tells when it is synchronised
        if (gathers(t)) return std::min(next, gathering_.until());
        if (follower_.due(t)) next = std::min(next, follow_due_ && verifier_.due(t) ? t : reporter_.next(t));
        return std::min(next, follower_.next(t));
    }

    /// Everything is still being read. Once it was, the next pass compares it.
    bool reads() {
        if (reading_ && reading_->taken()) reading_.reset();
        if (!reading_ || !reading_->over()) return reading_.has_value();
        enforcement_.compare_all();
        follow_due_ = true;
        return false;
    }

    void wait() {
        const bool reads_on = reads();
        const Steady::time_point t = Steady::now();
        const auto pause = std::max<Steady::duration>(next_turn(t) - t, 0ns);
        const timespec timeout{std::chrono::duration_cast<Seconds>(pause).count(), (pause % 1s).count()};
        const auto end = verifier_.due(t) ? enforcement_.next_end() : std::nullopt;
        alarm_.set(end ? std::optional(*end + clock_.ahead()) : std::nullopt);
        const bool waits = gathers(t);
        pollfd descriptors[] = {{signals_.descriptor(), POLLIN, 0},
                                {alarm_.descriptor(), POLLIN, 0},
                                {waits ? -1 : follower_.descriptor(), POLLIN, 0},
                                {verifier_.due(t) ? kernel_->listener() : -1, POLLIN, 0},
                                {reads_on ? reading_->descriptor() : -1, POLLIN, 0},
                                {waits ? -1 : keeping_.descriptor(), POLLIN, 0}};
        if (ppoll(descriptors, std::size(descriptors), &timeout, nullptr) <= 0) return;
        if (descriptors[2].revents != 0) follower_.wake();
    }

    void receive(int number) {
        if (number == SIGHUP) return reload();
        stopping_ = true;
    }

    void reload() {
        supervisor_.reloading();
        try {
            Configuration fresh = configured(options_);
            if (fresh.state_directory != configuration_.state_directory || fresh.router != configuration_.router) {
                throw ConfigurationError(options_.configuration_path +
                                         ": router and state_directory can't change in a running service; restart it");
            }
            const std::string& url = database_of(fresh, options_.database);
            if (url != follower_.url()) {
                follower_.use(url, open_database(url, OpenMode::write, service_patience), fresh.poll);
                reading_.reset();
                journal(Level::notice, "following database " + url);
            }
            follower_.hurry(fresh.poll);
            configuration_ = std::move(fresh);
            enforcement_.set_border(configuration_.border);
            enforcement_.guard().set_limits(configuration_.guard);
            follow_due_ = true;
            verifier_.hurry();
            journal(Level::notice, "configuration reloaded from " + options_.configuration_path);
        } catch (const std::runtime_error& error) {  // ConfigurationError, DatabaseError
            journal(Level::error,
                    fmt::format("reload refused, the old configuration stays in force: {}", error.what()));
        }
    }

    ServiceOptions options_;
    Configuration configuration_;
    RouterLock lock_;
    Signals signals_;
    Alarm alarm_;
    TrustedClock clock_{read_clock()};
    Supervisor supervisor_;
    Keeping keeping_;
    std::unique_ptr<Kernel> kernel_;
    Enforcement enforcement_;
    Verifier verifier_;
    Follower follower_;
    std::optional<PolicyReading> reading_;  ///< everything, since the start; until it was compared
    Reporter reporter_;
    Lookout lookout_;

    Trouble trouble_;
    Report report_;  ///< as far as it is known between two of them
    std::optional<Revision> vouched_before_;
    bool stopping_ = false;
    bool follow_due_ = true;
    Gathering gathering_;
    bool fence_changed_ = true;  ///< since sessions were last ended
    Withholding withholding_;
};

}  // namespace

int run_service(const ServiceOptions& options) { return Service(options).run(); }

}  // namespace smtpfence
