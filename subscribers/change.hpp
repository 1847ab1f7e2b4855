#pragma once
// One write to the database: a transaction that takes the next revision and leaves an audit entry for each object it
// touches.
//
//   Change change(database, actor, "relay add", "new outbound cluster");
//   add_relay(change, Prefix::parse("203.0.113.10"), "mx-out-1");
//   Revision revision = change.commit();      // without commit() nothing happened
//
// A change that records nothing takes no revision and writes nothing.

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "subscribers/database.hpp"
#include "subscribers/prefix.hpp"

namespace smtpfence {

/// Increases by one with every committed change to relays, pools, customers, assignments or exemptions. 0: never
/// changed.
using Revision = int64_t;

/// Who writes. Found by controller/ (login from /proc/self/loginuid, SUDO_USER or the user id); stored with every
/// revision.
struct Actor {
    std::string login;                         ///< the operating system's account
    std::optional<std::string> operator_name;  ///< --operator, stated, beside the login
    std::string host;
};

/// What an audit entry is about.
enum class Object { relay, pool, customer, assignment, exemption };
/// As in the database and in JSON: "relay", "pool", ... Defined in change.cpp.
const char* word(Object);
/// Inverse of word(). Throws DatabaseError (corrupt) for another word.
Object parse_object(std::string_view);

class Change {
public:
    /// Takes the write lock. `command` is the command's words ("exempt grant"); `source` the import source ("manual"
    /// from the command line).
    Change(Database&, Actor, std::string command, std::optional<std::string> reason = {},
           std::string source = "manual");
    ~Change();  ///< rolls back unless committed
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

    Database& database() { return database_; }
    const std::string& source() const { return source_; }
    const Actor& actor() const { return actor_; }
    Instant time() const { return time_; }  ///< one "now" for the whole transaction
    /// The revision this change will have. Equal to the database's when nothing has been recorded yet.
    Revision revision() const { return revision_; }

    /// Appends an audit entry; the first one takes the revision. `before` and `after` are JSON objects of facts, or
    /// null for "did not exist". `customer` and `prefix` are what it is about (either may be absent); followers of the
    /// change log read exactly these two.
    void record(Object, const std::optional<std::string>& customer, const std::optional<Prefix>& prefix,
                const nlohmann::json& before, const nlohmann::json& after);

    bool empty() const { return items_ == 0; }
    /// Whether an entry about such an object was recorded.
    bool touched(Object object) const { return touched_[static_cast<size_t>(object)]; }

    /// Commits and returns the revision that now holds (the old one when nothing was recorded).
    Revision commit();

private:
    Database& database_;
    Actor actor_;
    std::string command_;
    std::optional<std::string> reason_;
    std::string source_;
    Instant time_;
    Revision revision_ = 0;
    int64_t items_ = 0;
    std::array<bool, 5> touched_{};  ///< by object
    bool open_ = false;
};

/// The revision that holds now.
Revision current_revision(Database&);

}  // namespace smtpfence
