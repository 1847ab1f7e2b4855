#pragma once
// Holds back what would open too much of the fence at once: an empty database, a pool deleted by mistake, half of all
// customers exempted. Only openings are held, each kind and family apart; what narrows goes on. A value with the clock
// passed in; what it measures is rules/widening.hpp's.
//
//   Guard guard(limits, openings_of_the_last_hour);
//   Widening held = guard.judge(space_of(in_force), widening(in_force, desired, now), now);
//   withhold(desired, in_force, held);
//   ... commit ...
//   guard.passed(now);

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "rules/widening.hpp"
#include "subscribers/fenced.hpp"

namespace smtpfence {

/// [guard] and [relay] of the configuration.
struct GuardLimits {
    int64_t max_release_percent = 10;  ///< of a family's fenced space: drop or reject becoming anything else
    int64_t max_exempt_percent = 5;    ///< newly exempt
    RelayLimits relay;                 ///< wider relays are held back however much is fenced
};

/// What was let go within one minute, to be summed over an hour.
struct Opening {
    enum class Kind : uint8_t { release, exempt };
    Instant at;  ///< the first
    Kind kind{};
    Family family{};
    double size = 0;  ///< IPv4 addresses or IPv6 /64s
    friend bool operator==(const Opening&, const Opening&) = default;
};
using Openings = std::vector<Opening>;

/// The space that pools drop or reject, and how much that is.
struct FencedSpace {
    Ranges ranges;
    double size4 = 0, size6 = 0;  ///< IPv4 addresses; IPv6 /64s
};
FencedSpace space_of(const Fence&);

/// What is held back, for `status`, the journal and who has to confirm it.
struct Withheld {
    Widening widening;
    std::string digest;  ///< of the widening alone
    std::string reason;  ///< "it would release 12.5 % of the fenced IPv4 space within an hour (limit 10 %)"
    Instant since;
};

class Guard {
public:
    /// Of all versions of what is withheld together, but for the last one: some 40 MB.
    static constexpr size_t remembered = 1'000'000;

    explicit Guard(GuardLimits limits, Openings openings = {}) : limits_(limits), openings_(std::move(openings)) {}

    void set_limits(GuardLimits limits) { limits_ = limits; }

    /// The part of `asked` (what the database would open of `before` now) that is held back. Remembers it as
    /// withheld().
    Widening judge(const FencedSpace& before, const Widening& asked, Instant now);

    /// What judge() let go is in the kernel: it counts for the next hour.
    void passed(Instant now);

    /// The operator knows what is withheld and wants it. `digest` is that of what is withheld now, or of what was
    /// within the last hour ("": of what is now), as far back as `remembered` openings go. Holds for an hour, for the
    /// next judge() calls whose openings are all part of it. False: nothing of that digest was withheld.
    bool confirm(const std::string& digest, Instant now);

    const std::optional<Withheld>& withheld() const { return withheld_; }
    const Openings& openings() const { return openings_; }

private:
    struct Known {
        std::string digest;
        Widening widening;
        Instant at;
    };
    struct Share {
        double size = 0, percent = 0;
        bool summed = false;  ///< with what was let go before
        int64_t limit = 0;
        bool within() const;
    };
    uint8_t widest_relay(Family) const;
    Share share(const FencedSpace&, Opening::Kind, Family, const Widening&) const;
    Widening over_limit(const FencedSpace&, const Widening& asked, std::string& reason) const;
    void remember(const Withheld&, Instant);
    void forget_before(Instant);

    GuardLimits limits_;
    Openings openings_;  ///< of the last hour
    Openings pending_;   ///< what judge() let go, until passed()
    std::optional<Withheld> withheld_;
    std::vector<Known> known_;        ///< what was withheld, for an hour; the last one at the end
    std::optional<Known> confirmed_;  ///< with the time of it
};

/// Names the widening. Equal widenings have equal digests, everywhere.
std::string digest_of(const Widening&);

/// "release 100.64.0.0/10, exempt 100.64.3.7/32 and 12 more".
std::string summary(const Widening&);
/// What is withheld, why, and how to go on, in one line.
std::string sentence(const Withheld&);
/// `digest, since, reason, openings, count`: the first openings as words, and how many there are.
nlohmann::json json_of(const Withheld&);
/// sentence() of what json_of() gave, perhaps on another machine.
std::string withheld_sentence(const nlohmann::json&);

}  // namespace smtpfence
