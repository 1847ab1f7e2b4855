#pragma once
// The service's session with the database: when to look, whether there is news, and when to try again after it failed.
// What the news is, and what to do about it, is the service's.
//
//   if (follower.due(t)) {
//       try {
//           if (follower.look(t, enforced)) ...;      // somebody committed: follow follower.session()
//           follower.succeeded();
//       } catch (const DatabaseError& error) {
//           follower.failed(t);
//       }
//   }
//   poll(follower.descriptor(), until follower.next())  // readable: follower.wake()

#include <memory>
#include <optional>
#include <string>

#include "controller/steady.hpp"
#include "subscribers/database.hpp"
#include "subscribers/revision.hpp"

namespace smtpfence {

class Follower {
public:
    /// Opens nothing yet. `poll`: how often the revision is asked for when nothing wakes.
    Follower(std::string url, Seconds poll) : url_(std::move(url)), poll_(poll) {}

    const std::string& url() const { return url_; }

    bool due(Steady::time_point t) const { return retry_.due(t) || (astray_ && woken_); }
    /// Opens the database if need be and looks whether somebody has committed, or whether its revision is another than
    /// `held`; true after every opening. Waits service_patience at most. Throws DatabaseError.
    bool look(Steady::time_point, std::optional<Revision> held);
    /// Only between look() and failed().
    Database& session() { return *session_; }
    void succeeded() { retry_.succeeded(); }
    /// The session failed, in look() or afterwards.
    void failed(Steady::time_point);
    /// After own commits: they touched the files we watch, and shall not wake us. True: somebody else committed as
    /// well. Whoever is about to wakes us when that can be seen; a program that doesn't tell is found by the poll.
    bool drain() { return session_->changed() == Seen::commit; }

    /// Another database, opened before, or another poll. The next look() finds news.
    void use(const std::string& url, std::unique_ptr<Database> session, Seconds poll);
    /// The next look() is at once, opens the same database again if it failed, and asks for the revision.
    void hurry(Seconds poll);

    /// Readable when somebody may have committed; -1 when nothing tells.
    int descriptor() const { return session_ ? session_->wake_descriptor() : -1; }
    void wake() { woken_ = true; }
    /// When to look again if nothing wakes.
    Steady::time_point next(Steady::time_point) const;

private:
    /// inotify's event comes before the commit is visible, by as long as the disk takes to have it, and not every
    /// program tells when it is. After one, whatever was being looked for when it was drained, the database is asked
    /// again, after pauses that double, so that a commit is seen when it has taken twice its time. With a commit
    /// another one's event may have been drained as well; in a storm the next pass looks anyway.
    static constexpr Steady::duration first_pause = std::chrono::microseconds(100),
                                      after_commit = std::chrono::milliseconds(5),
                                      longest_pause = std::chrono::seconds(10);

    void ask_again(Steady::time_point, Steady::duration pause);

    std::string url_;
    Seconds poll_;
    std::unique_ptr<Database> session_;
    bool fresh_ = false;   ///< opened, not looked at
    bool astray_ = false;  ///< the path holds no file that the session could go on with; it watches for one
    bool woken_ = false;
    Steady::duration pause_{};  ///< until it is asked again; 0: it isn't
    Steady::time_point recheck_at_{}, next_poll_{};
    Retry retry_{std::chrono::seconds(1), std::chrono::seconds(10)};
};

}  // namespace smtpfence
