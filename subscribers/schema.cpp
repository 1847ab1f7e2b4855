#include "subscribers/schema.hpp"

#include <fmt/format.h>

#include <span>

namespace smtpfence {

const int schema_version = 3;

namespace {

// Conventions of every table:
// - A prefix is two columns. `first` is Prefix::first_key(): one byte of family (4 or 6) and the 4 or 16 bytes of its
//   first address, so that bytewise order is address order; `length` is its length in bits. What lies inside a prefix
//   is one range of `first`; what contains an address is one point lookup for each length in use (assignment_length).
// - A time is whole seconds since 1970, UTC. `until` and `ended` are exclusive.
// - `source` is who last wrote the row: "manual" (command line), "import", or the name an import was given.
// - A customer's id is compared byte by byte.

constexpr std::string_view version_1[] = {

    // The revision that holds now: one row, read and increased under the write lock.
    R"(CREATE TABLE state (
        id       INTEGER PRIMARY KEY CHECK (id = 1),
        revision INTEGER NOT NULL              -- 0: nothing was ever changed
    ) STRICT)",
    R"(INSERT INTO state (id, revision) VALUES (1, 0))",

    // Prefixes of the ISP's outbound mail relays.
    R"(CREATE TABLE relay (
        first  BLOB NOT NULL,
        length INTEGER NOT NULL,
        note   TEXT,                           -- for people
        source TEXT NOT NULL,
        PRIMARY KEY (first, length)
    ) STRICT, WITHOUT ROWID)",

    // Prefixes from which subscribers get addresses. They may nest; the longest one decides.
    R"(CREATE TABLE pool (
        first  BLOB NOT NULL,
        length INTEGER NOT NULL CHECK (length > 0),
        name   TEXT,                           -- for people
        action TEXT NOT NULL CHECK (action IN ('drop', 'reject', 'observe', 'pass')),
        source TEXT NOT NULL,
        PRIMARY KEY (first, length)
    ) STRICT, WITHOUT ROWID)",

    // Accounts. A row is made at the first mention and stays.
    R"(CREATE TABLE customer (
        id    TEXT NOT NULL PRIMARY KEY,
        since INTEGER NOT NULL                 -- first mention
    ) STRICT, WITHOUT ROWID)",

    // Who holds which prefix now. No two customers' rows overlap, but for rows whose `until` is over: those count as
    // not held, and the next writer that meets one moves it to past_assignment.
    R"(CREATE TABLE assignment (
        first    BLOB NOT NULL,
        length   INTEGER NOT NULL,
        customer TEXT NOT NULL REFERENCES customer (id),
        since    INTEGER NOT NULL,
        until    INTEGER,                      -- the right ends by itself then; NULL: it doesn't
        source   TEXT NOT NULL,
        PRIMARY KEY (first, length)
    ) STRICT, WITHOUT ROWID)",
    // With all that a right needs, so that reading a customer's rights stays within the index.
    R"(CREATE INDEX assignment_customer ON assignment (customer, first, length, until))",
    R"(CREATE INDEX assignment_until ON assignment (until) WHERE until IS NOT NULL)",

    // The lengths that assignments and past assignments have or had, so that "who contains this address" asks for those
    // only. Rows are added, never removed.
    R"(CREATE TABLE assignment_length (
        family INTEGER NOT NULL CHECK (family IN (4, 6)),
        length INTEGER NOT NULL,
        PRIMARY KEY (family, length)
    ) STRICT, WITHOUT ROWID)",

    // Who held which prefix before, until history forgets it.
    R"(CREATE TABLE past_assignment (
        number   INTEGER PRIMARY KEY,
        first    BLOB NOT NULL,
        length   INTEGER NOT NULL,
        customer TEXT NOT NULL REFERENCES customer (id),
        since    INTEGER NOT NULL,
        until    INTEGER,                      -- as it stood in assignment
        ended    INTEGER NOT NULL,             -- when it really ended: released, taken or over
        source   TEXT NOT NULL
    ) STRICT)",
    R"(CREATE INDEX past_assignment_prefix ON past_assignment (first, length, ended))",
    R"(CREATE INDEX past_assignment_customer ON past_assignment (customer, first, length))",
    R"(CREATE INDEX past_assignment_ended ON past_assignment (ended))",

    // A customer's last exemption, active or not. Active: revoked IS NULL and until > now. The row stays after it
    // ended, so that an import can tell "never had one" from "was taken back".
    R"(CREATE TABLE exemption (
        customer      TEXT NOT NULL PRIMARY KEY REFERENCES customer (id),
        reason        TEXT NOT NULL,
        ticket        TEXT,                    -- in the ISP's own system
        asked_by      TEXT,                    -- who asked for it
        granted_by    TEXT NOT NULL,           -- operator when stated, else login
        since         INTEGER NOT NULL,        -- the grant
        until         INTEGER NOT NULL,
        counted_from  INTEGER NOT NULL,        -- grant or last renewal: until - counted_from was the duration asked for
        revoked       INTEGER,                 -- when it was taken back; NULL: it was not
        revoke_reason TEXT,
        source        TEXT NOT NULL
    ) STRICT, WITHOUT ROWID)",
    R"(CREATE INDEX exemption_until ON exemption (until) WHERE revoked IS NULL)",

    // The audit log, and the log of changes that routers follow: one row per revision, one `change` per object in it.
    R"(CREATE TABLE revision (
        number   INTEGER PRIMARY KEY,          -- without gaps
        time     INTEGER NOT NULL,
        login    TEXT NOT NULL,                -- the operating system's account
        operator TEXT,                         -- as stated with --operator
        host     TEXT NOT NULL,
        command  TEXT NOT NULL,                -- the command's words: "exempt grant"
        reason   TEXT,
        source   TEXT NOT NULL
    ) STRICT)",
    R"(CREATE TABLE change (
        revision INTEGER NOT NULL REFERENCES revision (number),
        item     INTEGER NOT NULL,             -- 1, 2, ... in the order of writing
        object   TEXT NOT NULL CHECK (object IN ('relay', 'pool', 'customer', 'assignment', 'exemption')),
        customer TEXT,                         -- whom it is about
        first    BLOB,                         -- which prefix it is about
        length   INTEGER,
        before   TEXT,                         -- JSON of the object's facts (facts.hpp); NULL: it did not exist
        after    TEXT,                         -- the same afterwards; NULL: it does not exist any more
        PRIMARY KEY (revision, item)
    ) STRICT, WITHOUT ROWID)",
    R"(CREATE INDEX change_customer ON change (customer) WHERE customer IS NOT NULL)",
    R"(CREATE INDEX change_prefix ON change (first, length) WHERE first IS NOT NULL)",

    // Both are append-only, for whoever opens the file with another program too. (INSERT OR REPLACE fires a DELETE
    // trigger
    // only with PRAGMA recursive_triggers, which our sessions set. A trigger against it on `change` as on `revision`
    // would
    // cost bulk imports a third of their speed.)
    R"(CREATE TRIGGER revision_insert BEFORE INSERT ON revision
       WHEN EXISTS (SELECT 1 FROM revision WHERE number >= NEW.number)
       BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END)",
    R"(CREATE TRIGGER revision_update BEFORE UPDATE ON revision
       BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END)",
    R"(CREATE TRIGGER revision_delete BEFORE DELETE ON revision
       BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END)",
    R"(CREATE TRIGGER change_update BEFORE UPDATE ON change
       BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END)",
    R"(CREATE TRIGGER change_delete BEFORE DELETE ON change
       BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END)",

    // What each router that runs the service last reported (Report in router.hpp).
    R"(CREATE TABLE router (
        name         TEXT NOT NULL PRIMARY KEY,
        revision     INTEGER NOT NULL,         -- enforced in its kernel
        heartbeat    INTEGER NOT NULL,         -- when it last reported
        last_pass    INTEGER,                  -- last pass that ended well
        verified_at  INTEGER,                  -- kernel last found equal to what was applied
        drift_healed INTEGER NOT NULL,         -- times that the kernel was put right
        error        TEXT,                     -- why it is not at the desired revision
        error_since  INTEGER,
        version      TEXT NOT NULL,            -- of its program
        notes        TEXT NOT NULL             -- what its kernel offers, warnings; one per line
    ) STRICT, WITHOUT ROWID)",

    // Requests by `apply` to a router's running service, and their answers.
    R"(CREATE TABLE apply_request (
        number   INTEGER PRIMARY KEY AUTOINCREMENT,
        router   TEXT NOT NULL,
        login    TEXT NOT NULL,                -- the asker, as in revision
        operator TEXT,
        host     TEXT NOT NULL,
        time     INTEGER NOT NULL,
        answer   TEXT,                         -- JSON for the asker; NULL: not answered yet
        answered INTEGER
    ) STRICT)",
    R"(CREATE INDEX apply_request_open ON apply_request (router, number) WHERE answer IS NULL)",

    // The last reading of each element with which a router's kernel counts attempts at port 25.
    R"(CREATE TABLE attempt_counter (
        router  TEXT NOT NULL,
        address BLOB NOT NULL,                 -- the source's first_key()
        packets INTEGER NOT NULL,
        PRIMARY KEY (router, address)
    ) STRICT, WITHOUT ROWID)",

    // Attempts at port 25, by hour.
    R"(CREATE TABLE attempt (
        hour       INTEGER NOT NULL,           -- its beginning
        address    BLOB NOT NULL,              -- the source's first_key()
        customer   TEXT NOT NULL,              -- who held it then; '': nobody
        packets    INTEGER NOT NULL,
        first_seen INTEGER NOT NULL,
        last_seen  INTEGER NOT NULL,
        PRIMARY KEY (hour, address, customer)
    ) STRICT, WITHOUT ROWID)",
    R"(CREATE INDEX attempt_customer ON attempt (customer, hour))",
};

// What the guard holds back, and what an operator has confirmed.
constexpr std::string_view version_2[] = {
    // JSON of what is withheld on the router; NULL: nothing is.
    "ALTER TABLE router ADD COLUMN guard TEXT",

    // Rights that a router withholds: who granted one learns that it is not in force.
    R"(CREATE TABLE withheld (
        router TEXT NOT NULL,
        first  BLOB NOT NULL,                  -- the prefix's first_key()
        length INTEGER NOT NULL,
        PRIMARY KEY (router, first, length)
    ) STRICT, WITHOUT ROWID)",

    // The digest of what the asker confirms; '': whatever is withheld; NULL: nothing is confirmed.
    "ALTER TABLE apply_request ADD COLUMN confirm TEXT",

    // What a revision opens and whoever wrote it has confirmed, one opening a line, for every router.
    R"(CREATE TABLE confirmation (
        revision INTEGER NOT NULL PRIMARY KEY REFERENCES revision,
        openings TEXT NOT NULL
    ) STRICT)",
};

// Whose openings are exactly those that were confirmed needs to read none of them.
constexpr std::string_view version_3[] = {
    "ALTER TABLE confirmation RENAME TO confirmation_2",

    // What a revision opens and whoever wrote it has confirmed, for every router.
    R"(CREATE TABLE confirmation (
        revision INTEGER NOT NULL PRIMARY KEY REFERENCES revision,
        digest   TEXT,                         -- of the openings; NULL: written before there were digests
        openings TEXT NOT NULL                 -- one a line
    ) STRICT)",
    "INSERT INTO confirmation (revision, openings) SELECT revision, openings FROM confirmation_2",
    "DROP TABLE confirmation_2",
};

struct VersionStep {
    int to;
    std::span<const std::string_view> statements;
};
// Each step leads from the version before it.
constexpr VersionStep steps[] = {{1, version_1}, {2, version_2}, {3, version_3}};

}  // namespace

void require_schema(Database& database) {
    const int version = database.schema_version();
    if (version == schema_version) return;
    const std::string next = version > schema_version ? "update smtpfence" : "run 'smtpfence init'";
    throw DatabaseError(DatabaseError::Kind::schema,
                        version == 0 ? fmt::format("{} has no tables yet; {}", database.name(), next)
                                     : fmt::format("{} has schema version {}, this program needs {}; {}",
                                                   database.name(), version, schema_version, next));
}

Migration migrate(Database& database) {
    database.begin_writing();
    try {
        const int from = database.schema_version();
        if (from > schema_version) {
            throw DatabaseError(DatabaseError::Kind::schema,
                                fmt::format("{} has schema version {}, this program knows {}: update smtpfence",
                                            database.name(), from, schema_version));
        }
        for (const VersionStep& step : steps) {
            if (step.to <= from) continue;
            for (std::string_view statement : step.statements) database.query(statement, {});
            database.set_schema_version(step.to);
        }
        if (from == schema_version) {
            database.rollback();
        } else {
            database.commit();
        }
        return {from, schema_version};
    } catch (...) {
        database.rollback();
        throw;
    }
}

}  // namespace smtpfence
