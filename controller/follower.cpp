#include "controller/follower.hpp"

#include <utility>

#include "subscribers/schema.hpp"

namespace smtpfence {

bool Follower::look(Steady::time_point t, std::optional<Revision> held) {
    if (!session_) {
        session_ = open_database(url_, OpenMode::write, service_patience);
        fresh_ = true;
    }
    session_->wake_descriptor();  // from before the first look on: a commit after it shall wake
    bool news = std::exchange(fresh_, false);
    if (std::exchange(astray_, true)) news = true;
    const Seen seen = session_->changed();
    if (seen == Seen::commit) news = true;
    astray_ = false;
    if (news) require_schema(*session_);  // a newer program may have migrated it meanwhile
    if (seen == Seen::commit) {
        ask_again(t, after_commit);
    } else if (seen == Seen::writing) {
        ask_again(t, first_pause);
    } else if (t >= recheck_at_) {
        ask_again(t, 2 * pause_ > longest_pause ? Steady::duration{} : 2 * pause_);
    }
    woken_ = false;
    if (t >= next_poll_) {
        next_poll_ = t + poll_;
        news = news || held != current_revision(*session_);
    }
    return news;
}

void Follower::failed(Steady::time_point t) {
    if (!astray_) session_.reset();
    retry_.failed(t);
    woken_ = false;
    pause_ = {};
}

void Follower::use(const std::string& url, std::unique_ptr<Database> session, Seconds poll) {
    url_ = url;
    session_ = std::move(session);
    fresh_ = true;
    astray_ = false;
    hurry(poll);
}

void Follower::hurry(Seconds poll) {
    poll_ = poll;
    next_poll_ = {};
    retry_.succeeded();
}

Steady::time_point Follower::next(Steady::time_point t) const {
    if (!retry_.due(t)) return retry_.at();
    return pause_ > Steady::duration{} ? std::min(recheck_at_, next_poll_) : next_poll_;
}

void Follower::ask_again(Steady::time_point t, Steady::duration pause) {
    pause_ = pause;
    recheck_at_ = t + pause;
}

}  // namespace smtpfence
