#include "controller/guarded_change.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "controller/fenced_policy.hpp"
#include "controller/guard.hpp"
#include "subscribers/router.hpp"

namespace smtpfence {

namespace {

bool moves_rights(const Change& change) {
    return change.touched(Object::assignment) || change.touched(Object::exemption);
}

/// The rights that exist with the change and not in `before`.
std::deque<Right> new_rights(Change& change, Database& before) {
    std::deque<Right> fresh;
    if (!moves_rights(change)) return fresh;
    if (const auto delta = read_delta(change, delta_limit)) {
        for (const auto& [prefix, until] : delta->rights) {
            if (until && !right_of(before, prefix, change.time())) fresh.push_back({prefix, *until});
        }
        return fresh;
    }
    const std::deque<Right> known = read_rights(before, change.time());
    std::deque<Right> all = read_rights(change.database(), change.time());
    std::set_difference(std::make_move_iterator(all.begin()), std::make_move_iterator(all.end()), known.begin(),
                        known.end(), std::back_inserter(fresh),
                        [](const Right& a, const Right& b) { return a.prefix < b.prefix; });
    return fresh;
}

/// `closed`: what was fenced before.
Widening openings_of(Change& change, Database& database_before, FencedSpace& closed) {
    Policy after;
    after.rights = new_rights(change, database_before);
    if (after.rights.empty() && !moves_border(change)) return {};
    const Fence before = compile(fenced_policy(database_before), {}, {});
    closed = space_of(before);
    if (closed.ranges.empty()) return {};  // nothing was fenced yet
    Policy border = fenced_policy(change.database());
    after.relays = std::move(border.relays);
    after.pools = std::move(border.pools);
    return widening(before, compile(std::move(after), {}, {}), change.time());
}

}  // namespace

void declare_confirm(CLI::App& app, bool& confirmed, const std::string& also) {
    app.add_flag("--confirm", confirmed,
                 "it is meant, even where it opens more of the fence than the guard lets pass at once" + also);
}

void judge_openings(Invocation& run, Change& change, bool confirmed) {
    if (!moves_border(change) && !moves_rights(change)) return;
    const auto before = open_database(run.database_url(), OpenMode::read);
    FencedSpace closed;
    const Widening openings = openings_of(change, *before, closed);
    if (openings.empty()) return;
    if (confirmed) return confirm_openings(change, digest_of(openings), text(openings));
    Guard guard(run.configuration().guard);
    if (guard.judge(closed, openings, change.time()).empty()) return;
    throw Refused(Refusal::conflict,
                  fmt::format("the guard refuses to {}: {}; nothing was written; if that is meant, say --confirm",
                              summary(guard.withheld()->widening), guard.withheld()->reason));
}

}  // namespace smtpfence
