#include "controller/guard.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "controller/digest.hpp"

namespace smtpfence {

namespace {

constexpr Seconds memory{3600};
/// Fewer addresses (or /64s) within an hour never trip the guard, whatever share they are.
constexpr double small_change = 1024;

constexpr std::array families{Family::v4, Family::v6};

const char* name_of(Family family) { return family == Family::v4 ? "IPv4" : "IPv6"; }

double of(const FencedSpace& space, Family family) { return family == Family::v4 ? space.size4 : space.size6; }

/// The openings of one kind in one family; relays and interfaces are no shares.
Widening part(const Widening& all, Opening::Kind kind, Family family) {
    Widening result;
    if (kind == Opening::Kind::release) {
        std::copy_if(all.released.begin(), all.released.end(), std::back_inserter(result.released),
                     [&](const Range& range) { return range.family == family; });
    } else {
        std::copy_if(all.exempted.begin(), all.exempted.end(), std::back_inserter(result.exempted),
                     [&](const Prefix& prefix) { return prefix.family() == family; });
    }
    return result;
}

double size_of(const FencedSpace& space, const Widening& opening, Family family) {
    return size_of(opening.released, family) + size_of(exempted_space(space.ranges, opening), family);
}

int64_t minute(Instant time) { return to_number(time) / 60; }

void explain(std::string& reason, const std::string& words) {
    if (!reason.empty()) reason += "; ";
    reason += words;
}

}  // namespace

FencedSpace space_of(const Fence& fence) {
    FencedSpace space;
    space.ranges = closed_space(fence);
    space.size4 = size_of(space.ranges, Family::v4);
    space.size6 = size_of(space.ranges, Family::v6);
    return space;
}

/// Exempt prefixes, of which there may be a million, as keys and not as lines.
std::string digest_of(const Widening& widening) {
    constexpr size_t piece = 65536;
    Digest digest;
    digest.add(text({widening.released, widening.relays, {}, widening.interfaces}));
    std::string keys = "exempt\n";
    for (const Prefix& prefix : widening.exempted) {
        keys += prefix.first_key();
        keys += static_cast<char>(prefix.length());
        if (keys.size() < piece) continue;
        digest.add(keys);
        keys.clear();
    }
    digest.add(keys);
    return digest.text();
}

namespace {

std::vector<std::string> openings_of(const Widening& widening) {
    const std::string lines = text(widening);
    std::vector<std::string> openings;
    for (size_t at = 0; at < lines.size();) {
        const size_t end = lines.find('\n', at);
        openings.push_back(lines.substr(at, end - at));
        at = end + 1;
    }
    return openings;
}

/// The first of `count` openings.
std::string named(const std::vector<std::string>& openings, size_t count) {
    constexpr size_t shown = 5;
    const size_t first = std::min(shown, openings.size());
    std::string words =
        fmt::format("{}", fmt::join(openings.begin(), openings.begin() + static_cast<ptrdiff_t>(first), ", "));
    if (count > first) words += fmt::format(" and {} more", count - first);
    return words;
}

}  // namespace

std::string summary(const Widening& widening) {
    const std::vector<std::string> openings = openings_of(widening);
    return named(openings, openings.size());
}

std::string sentence(const Withheld& withheld) { return withheld_sentence(json_of(withheld)); }

std::string withheld_sentence(const nlohmann::json& withheld) {
    const auto openings = withheld.value("openings", std::vector<std::string>());
    return fmt::format("the guard withholds since {}: {}; {}; if that is meant: smtpfence apply --confirm={}",
                       withheld.value("since", "?"), named(openings, withheld.value("count", openings.size())),
                       withheld.value("reason", "?"), withheld.value("digest", "?"));
}

nlohmann::json json_of(const Withheld& withheld) {
    constexpr size_t shown = 100;
    std::vector<std::string> openings = openings_of(withheld.widening);
    const size_t count = openings.size();
    openings.resize(std::min(shown, count));
    return {{"digest", withheld.digest},
            {"since", format_instant(withheld.since)},
            {"reason", withheld.reason},
            {"openings", openings},
            {"count", count}};
}

bool Guard::Share::within() const { return size < small_change || percent <= static_cast<double>(limit); }

Guard::Share Guard::share(const FencedSpace& before, Opening::Kind kind, Family family, const Widening& opening) const {
    Share share;
    share.limit = kind == Opening::Kind::release ? limits_.max_release_percent : limits_.max_exempt_percent;
    share.size = size_of(before, opening, family);
    for (const Opening& earlier : openings_) {
        if (earlier.kind != kind || earlier.family != family) continue;
        share.size += earlier.size;
        share.summed = true;
    }
    const double fenced = of(before, family);
    share.percent = fenced > 0 ? std::min(100.0, 100 * share.size / fenced) : 100;
    return share;
}

uint8_t Guard::widest_relay(Family family) const {
    return static_cast<uint8_t>(family == Family::v4 ? limits_.relay.widest4 : limits_.relay.widest6);
}

Widening Guard::over_limit(const FencedSpace& before, const Widening& asked, std::string& reason) const {
    Widening held;
    for (const Family family : families) {
        for (const Opening::Kind kind : {Opening::Kind::release, Opening::Kind::exempt}) {
            const Widening all = part(asked, kind, family);
            if (all.empty()) continue;
            const Share whole = share(before, kind, family, all);
            if (whole.within()) continue;
            // What came later and is small goes on beside what is held already.
            const Widening fresh = withheld_ ? without(all, withheld_->widening) : all;
            const bool small = withheld_ && !fresh.empty() && share(before, kind, family, fresh).within();
            held = joined(held, small || fresh.empty() ? without(all, fresh) : all);
            explain(reason, fmt::format("it would {} {:.4g} % of the fenced {} space {} (limit {} %)",
                                        kind == Opening::Kind::release ? "release" : "exempt", whole.percent,
                                        name_of(family), whole.summed ? "within an hour" : "at once", whole.limit));
        }
    }
    for (const Prefix& relay : asked.relays) {
        if (relay.length() >= widest_relay(relay.family())) continue;
        held.relays.push_back(relay);
        explain(reason, fmt::format("relay {} is wider than /{}", relay.text(), widest_relay(relay.family())));
    }
    for (const Family family : families) {
        Ranges narrow;
        for (const Prefix& relay : asked.relays) {
            if (relay.family() == family && relay.length() >= widest_relay(family)) narrow.push_back(range_of(relay));
        }
        const double allowed =
            std::max(small_change, size_of({range_of(Prefix(family, {}, widest_relay(family)))}, family));
        if (size_of(narrow, family) <= allowed) continue;
        for (const Prefix& relay : asked.relays) {
            if (relay.family() == family && relay.length() >= widest_relay(family)) held.relays.push_back(relay);
        }
        explain(reason, fmt::format("it would add {} {} relays at once", narrow.size(), name_of(family)));
    }
    std::sort(held.relays.begin(), held.relays.end());
    held.interfaces = asked.interfaces;
    if (!held.interfaces.empty())
        explain(reason, "subscriber interfaces would no longer be fenced, however many lines they have");
    return held;
}

Widening Guard::judge(const FencedSpace& before, const Widening& asked, Instant now) {
    for (Opening& opening : openings_) opening.at = std::min(opening.at, now);  // by a clock that was set back since
    forget_before(now - memory);
    pending_.clear();
    std::string reason;
    Widening held = over_limit(before, asked, reason);
    if (confirmed_ && !held.empty() && without(held, confirmed_->widening).empty()) {
        held = {};
        openings_.clear();  // sums begin anew with a confirmation
    } else {
        for (const Family family : families) {
            for (const Opening::Kind kind : {Opening::Kind::release, Opening::Kind::exempt}) {
                const Widening gone = without(part(asked, kind, family), held);
                if (!gone.empty()) pending_.push_back({now, kind, family, size_of(before, gone, family)});
            }
        }
    }
    if (held.empty()) {
        withheld_.reset();
        return held;
    }
    const Instant since = withheld_ ? withheld_->since : now;
    withheld_ = Withheld{held, digest_of(held), reason, since};
    remember(*withheld_, now);
    return held;
}

void Guard::remember(const Withheld& withheld, Instant now) {
    std::erase_if(known_, [&](const Known& known) { return known.digest == withheld.digest; });
    size_t openings = 0;
    const auto too_old = std::find_if(known_.rbegin(), known_.rend(), [&](const Known& known) {
        openings += known.widening.size();
        return openings > remembered;
    });
    known_.erase(known_.begin(), too_old.base());
    known_.push_back({withheld.digest, withheld.widening, now});
}

void Guard::passed(Instant now) {
    for (Opening& opening : pending_) {
        const auto same = std::find_if(openings_.begin(), openings_.end(), [&](const Opening& earlier) {
            return earlier.kind == opening.kind && earlier.family == opening.family &&
                   minute(earlier.at) == minute(now);
        });
        if (same == openings_.end()) {
            openings_.push_back({now, opening.kind, opening.family, opening.size});
        } else {
            same->size += opening.size;
        }
    }
    pending_.clear();
}

bool Guard::confirm(const std::string& digest, Instant now) {
    forget_before(now - memory);
    const std::string& wanted = digest.empty() && withheld_ ? withheld_->digest : digest;
    const auto known = std::find_if(known_.begin(), known_.end(), [&](const Known& k) { return k.digest == wanted; });
    if (known == known_.end()) return false;
    confirmed_ = Known{known->digest, known->widening, now};
    return true;
}

void Guard::forget_before(Instant time) {
    std::erase_if(openings_, [&](const Opening& opening) { return opening.at <= time; });
    std::erase_if(known_, [&](const Known& known) { return known.at <= time; });
    if (confirmed_ && confirmed_->at <= time) confirmed_.reset();
}

}  // namespace smtpfence
