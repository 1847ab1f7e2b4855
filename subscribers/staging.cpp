#include "subscribers/staging.hpp"

#include <fmt/format.h>

#include <vector>

#include "subscribers/record_writer.hpp"
#include "subscribers/text.hpp"

namespace smtpfence {

namespace {

// So many records go into one transaction of the temporary tables: enough to be fast, few enough that the snapshot of
// the database that comes with it never stands in the way of others for long.
constexpr int64_t batch = 10'000;

// A loss of more than one row in ten, and of so many at least, is more likely a file that was cut off.
constexpr int64_t lost_share = 10, least_lost = 100;

constexpr const char* tables[] = {
    "CREATE TEMP TABLE staged (line INTEGER PRIMARY KEY, op TEXT NOT NULL, first BLOB, length INTEGER, customer TEXT,"
    " until INTEGER, take INTEGER NOT NULL, name TEXT, note TEXT, action TEXT, reason TEXT, ticket TEXT, asked_by "
    "TEXT)",
    // Records that say the same as another one.
    "CREATE TEMP TABLE staged_repetition (line INTEGER PRIMARY KEY)",
    // Rows to remove, and whether another customer gets exactly this prefix.
    "CREATE TEMP TABLE staged_removal (number INTEGER PRIMARY KEY, first BLOB, length INTEGER, customer TEXT,"
    " handed INTEGER NOT NULL)",
};
constexpr const char* table_names[] = {"staged", "staged_repetition", "staged_removal"};

constexpr std::string_view columns =
    "s.line, s.op, s.first, s.length, s.customer, s.until, s.take, s.name, s.note, s.action, s.reason, s.ticket,"
    " s.asked_by";

struct Staged {
    int64_t line = 0;
    Record record;
};

Op op_of(std::string_view text) {
    for (Op op : {Op::assign, Op::pool, Op::relay}) {
        if (text == word(op)) return op;
    }
    return Op::exempt;
}

Staged staged_of(const Row& row) {
    Staged staged;
    staged.line = row.integer(0);
    Record& record = staged.record;
    record.op = op_of(row.text(1));
    if (!row.null(2)) record.prefix = Prefix::from_key(row.blob(2), row.integer(3));
    record.customer = row.text(4);
    record.until = row.instant(5);
    record.take = row.integer(6) != 0;
    record.name = row.optional_text(7);
    record.note = row.optional_text(8);
    if (!row.null(9)) record.action = parse_action(row.text(9));
    record.reason = row.text(10);
    record.ticket = row.optional_text(11);
    record.asked_by = row.optional_text(12);
    return staged;
}

[[noreturn]] void refuse_at(int64_t line, const std::string& message) {
    throw Refused(Refusal::conflict, fmt::format("line {}: {}", line, message));
}

void write_at(RecordWriter& writer, const Staged& staged) {
    try {
        writer.write(staged.record, staged.line);
    } catch (const Refused& refused) {
        throw Refused(refused.reason, fmt::format("line {}: {}", staged.line, refused.what()));
    }
}

void drop_tables(Database& database) {
    for (const char* table : table_names) database.query(fmt::format("DROP TABLE IF EXISTS temp.{}", table), {});
}

void each_staged(Database& database, Op op, const std::function<void(const Staged&)>& each) {
    database.query(fmt::format("SELECT {} FROM temp.staged s WHERE s.op = $1 ORDER BY s.line", columns), {word(op)},
                   [&](const Row& row) { each(staged_of(row)); });
}

// The parts of write(): one kind of object each. `find_removals` selects first, length, customer, handed.

void find_removals(Change& change, std::string_view select) {
    change.database().query("DELETE FROM temp.staged_removal", {});
    change.database().query(fmt::format("INSERT INTO temp.staged_removal (first, length, customer, handed) {}", select),
                            {change.source(), to_number(change.time())});
}

void each_removal(Database& database, const std::function<void(const Row&)>& each) {
    database.query("SELECT first, length, customer, handed FROM temp.staged_removal ORDER BY number", {}, each);
}

Prefix removed_prefix(const Row& row) { return Prefix::from_key(row.blob(0), row.integer(1)); }

// Everything that ends does so first, so that addresses may change hands in any order.
void replace_assignments(Change& change, RecordWriter& writer, int64_t records) {
    Database& database = change.database();
    // What the file only repeats is not looked at again. In order of prefix, as that costs half of any order of lines.
    const std::string differing = fmt::format(
        "SELECT {} FROM temp.staged s LEFT JOIN assignment a ON a.first = s.first AND a.length = s.length"
        " AND (a.until IS NULL OR a.until > $2) WHERE s.op = 'assign' AND (a.customer IS NULL"
        " OR a.customer <> s.customer OR a.source <> $1 OR a.until IS DISTINCT FROM s.until)"
        " ORDER BY s.first, s.length",
        columns);
    find_removals(change,
                  "SELECT a.first, a.length, a.customer, s.line IS NOT NULL FROM assignment a LEFT JOIN temp.staged s"
                  " ON s.op = 'assign' AND s.first = a.first AND s.length = a.length WHERE a.source = $1"
                  " AND (a.until IS NULL OR a.until > $2) AND (s.line IS NULL OR s.customer <> a.customer)");
    int64_t handed = 0;
    each_removal(database, [&](const Row& row) {
        release(change, removed_prefix(row));
        ++(row.integer(3) != 0 ? handed : writer.counts.removed);
    });
    int64_t written = 0;
    database.query(differing, {change.source(), to_number(change.time())}, [&](const Row& row) {
        write_at(writer, staged_of(row));
        ++written;
    });
    writer.counts.unchanged += records - written;
    writer.counts.added -= handed;
    writer.counts.changed += handed;
}

void replace_pools(Change& change, RecordWriter& writer) {
    each_staged(change.database(), Op::pool, [&](const Staged& staged) { write_at(writer, staged); });
    find_removals(change,
                  "SELECT p.first, p.length, NULL, 0 FROM pool p LEFT JOIN temp.staged s ON s.op = 'pool'"
                  " AND s.first = p.first AND s.length = p.length WHERE p.source = $1 AND s.line IS NULL");
    each_removal(change.database(), [&](const Row& row) {
        remove_pool(change, removed_prefix(row));
        ++writer.counts.removed;
    });
}

void remove_unnamed(Change& change, const Prefix& relay) {
    try {
        remove_relay(change, relay);
    } catch (const Refused& refused) {
        throw Refused(refused.reason,
                      fmt::format("{}; it goes because the file, which is all that source {} has to say, does not name "
                                  "it: --what restricts the file to one kind of record",
                                  refused.what(), quoted(change.source())));
    }
}

// New relays come before old ones go: the last one can't be removed.
void replace_relays(Change& change, RecordWriter& writer) {
    each_staged(change.database(), Op::relay, [&](const Staged& staged) { write_at(writer, staged); });
    find_removals(change,
                  "SELECT r.first, r.length, NULL, 0 FROM relay r LEFT JOIN temp.staged s ON s.op = 'relay'"
                  " AND s.first = r.first AND s.length = r.length WHERE r.source = $1 AND s.line IS NULL");
    each_removal(change.database(), [&](const Row& row) {
        remove_unnamed(change, removed_prefix(row));
        ++writer.counts.removed;
    });
}

void replace_exemptions(Change& change, RecordWriter& writer) {
    find_removals(change,
                  "SELECT NULL, NULL, e.customer, 0 FROM exemption e LEFT JOIN temp.staged s ON s.op = 'exempt'"
                  " AND s.customer = e.customer WHERE e.source = $1 AND e.revoked IS NULL AND e.until > $2"
                  " AND s.line IS NULL");
    const std::string reason = fmt::format("no longer in the file of source {}", change.source());
    each_removal(change.database(), [&](const Row& row) {
        revoke_exemption(change, row.text(2), reason);
        ++writer.counts.removed;
    });
    each_staged(change.database(), Op::exempt, [&](const Staged& staged) { write_at(writer, staged); });
}

// How many rows a source has, in the order of What; $1: the source, $2: the time.
constexpr std::string_view rows_of_source[what_count] = {
    "SELECT count(*) FROM assignment WHERE source = $1 AND (until IS NULL OR until > $2)",
    "SELECT count(*) FROM pool WHERE source = $1",
    "SELECT count(*) FROM relay WHERE source = $1",
    "SELECT count(*) FROM exemption WHERE source = $1 AND revoked IS NULL AND until > $2",
};
// Of the exemptions that a file names, those that its source has or gets: not the desk's, not what it may not revive.
constexpr std::string_view exemptions_named =
    "SELECT count(*) FROM temp.staged s LEFT JOIN exemption e ON e.customer = s.customer WHERE s.op = 'exempt'"
    " AND (e.customer IS NULL OR CASE WHEN e.revoked IS NULL AND e.until > $2 THEN e.source = $1"
    " ELSE s.until <> e.until OR (s.ticket IS NOT NULL AND s.ticket IS DISTINCT FROM e.ticket) END)";

}  // namespace

Staging::Staging(Database& database) : database_(database) {
    drop_tables(database_);
    for (const char* table : tables) database_.query(table, {});
}

Staging::~Staging() {
    try {
        if (open_) database_.rollback();
        drop_tables(database_);
    } catch (const std::exception&) {
        // They end with the session anyway.
    }
}

void Staging::begin() {
    if (!open_) database_.begin_reading();
    open_ = true;
}

void Staging::end() {
    if (open_) database_.commit();
    open_ = false;
}

void Staging::add(const Record& record, int64_t line) {
    if (record.op == Op::release || record.op == Op::revoke) {
        throw Refused(Refusal::invalid,
                      fmt::format("{} has no place in a file that replaces its source: what the file leaves out is {}",
                                  word(record.op), record.op == Op::release ? "released" : "revoked"));
    }
    begin();
    const bool has_prefix = record.op != Op::exempt;
    database_.query(
        "INSERT INTO temp.staged (line, op, first, length, customer, until, take, name, note, action, reason, ticket,"
        " asked_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        {line, word(record.op), has_prefix ? bytes(record.prefix.first_key()) : Value{},
         has_prefix ? Value{int64_t{record.prefix.length()}} : Value{}, record.customer, optional_value(record.until),
         int64_t{record.take}, optional_value(record.name), optional_value(record.note),
         record.action ? Value{word(*record.action)} : Value{}, record.reason, optional_value(record.ticket),
         optional_value(record.asked_by)});
    ++records_of_[static_cast<size_t>(kind(record.op))];
    if (++records_ % batch == 0) end();
}

void Staging::check() {
    begin();
    database_.query("CREATE INDEX temp.staged_prefix ON staged (op, first, length, line) WHERE first IS NOT NULL", {});
    database_.query("CREATE INDEX temp.staged_customer ON staged (customer, line) WHERE op = 'exempt'", {});
    database_.query("CREATE INDEX temp.staged_end ON staged (until) WHERE until IS NOT NULL", {});
    require_disjoint();
    for (Op op : {Op::pool, Op::relay, Op::exempt}) require_unique(op);
    drop_repetitions();
    end();
}

void Staging::require_disjoint() {
    std::vector<Staged> wider;  // each contains the next; the last one is the previous record or contains it
    database_.query(
        fmt::format("SELECT {} FROM temp.staged s WHERE s.op = 'assign' AND s.first IS NOT NULL"
                    " AND (s.until IS NULL OR s.until > $1) ORDER BY s.first, s.length, s.line",
                    columns),
        {to_number(now())}, [&](const Row& row) {
            Staged staged = staged_of(row);
            const Record& record = staged.record;
            while (!wider.empty() && !wider.back().record.prefix.contains(record.prefix)) wider.pop_back();
            if (!wider.empty()) {
                const Staged& other = wider.back();
                const auto& [first, second] =
                    std::minmax(staged, other, [](const Staged& a, const Staged& b) { return a.line < b.line; });
                if (other.record.customer != record.customer) {
                    refuse_at(second.line,
                              fmt::format("{} of customer {} overlaps {} of customer {} on line {}: two customers "
                                          "never hold the same address",
                                          second.record.prefix.text(), quoted(second.record.customer),
                                          first.record.prefix.text(), quoted(first.record.customer), first.line));
                }
                if (other.record.prefix == record.prefix) {
                    if (!(other.record == record)) {
                        refuse_at(second.line, fmt::format("line {} says otherwise about {}; leave one of them out",
                                                           first.line, record.prefix.text()));
                    }
                    database_.query("INSERT INTO temp.staged_repetition (line) VALUES ($1)", {staged.line});
                    return;
                }
            }
            wider.push_back(std::move(staged));
        });
}

void Staging::require_unique(Op op) {
    std::optional<Staged> previous;
    const char* order = op == Op::exempt ? "s.customer, s.line" : "s.first, s.length, s.line";
    database_.query(
        fmt::format("SELECT {} FROM temp.staged s WHERE s.op = '{}' AND (s.until IS NULL OR s.until > $1) ORDER BY {}",
                    columns, word(op), order),
        {to_number(now())}, [&](const Row& row) {
            Staged staged = staged_of(row);
            const Record& record = staged.record;
            if (previous && previous->record.prefix == record.prefix && previous->record.customer == record.customer) {
                if (!(previous->record == record)) {
                    refuse_at(staged.line,
                              fmt::format("line {} says otherwise about {}; leave one of them out", previous->line,
                                          op == Op::exempt ? "customer " + quoted(previous->record.customer)
                                                           : record.prefix.text()));
                }
                database_.query("INSERT INTO temp.staged_repetition (line) VALUES ($1)", {staged.line});
                return;
            }
            previous = std::move(staged);
        });
}

void Staging::drop_repetitions() {
    database_.query(
        "SELECT s.op, count(*) FROM temp.staged_repetition r JOIN temp.staged s ON s.line = r.line"
        " GROUP BY s.op",
        {}, [&](const Row& row) {
            records_of_[static_cast<size_t>(kind(op_of(row.text(0))))] -= row.integer(1);
            repetitions_ += row.integer(1);
        });
    if (repetitions_ == 0) return;
    database_.query("DELETE FROM temp.staged WHERE line IN (SELECT line FROM temp.staged_repetition)", {});
}

/// A record that is over is as good as left out. Returns how many there were.
int64_t Staging::leave_out_over(Change& change) {
    const Value time = to_number(change.time());
    int64_t count = 0;
    database_.query("SELECT op, count(*) FROM temp.staged WHERE until <= $1 GROUP BY op", {time}, [&](const Row& row) {
        records_of_[static_cast<size_t>(kind(op_of(row.text(0))))] -= row.integer(1);
        count += row.integer(1);
    });
    if (count > 0) database_.query("DELETE FROM temp.staged WHERE until <= $1", {time});
    return count;
}

void Staging::require_rows_left(Change& change, std::optional<What> what) {
    const auto count = [&](std::string_view sql) {
        int64_t rows = 0;
        database_.query(sql, {change.source(), to_number(change.time())},
                        [&](const Row& row) { rows = row.integer(0); });
        return rows;
    };
    int64_t had = 0, left = 0;
    for (What kind : {What::assignments, What::pools, What::relays, What::exemptions}) {
        if (what && kind != *what) continue;
        had += count(rows_of_source[static_cast<size_t>(kind)]);
        // Whoever else's row the file names is a conflict, or handed over; but for exemptions.
        left += kind == What::exemptions ? count(exemptions_named) : records_of_[static_cast<size_t>(kind)];
    }
    const int64_t lost = had - left;
    if (lost < least_lost || lost * lost_share <= had) return;
    throw Refused(Refusal::conflict,
                  fmt::format("{} of the {} rows of source {} would go; is the file whole? --confirm if that is meant",
                              lost, had, quoted(change.source())));
}

ImportCounts Staging::write(Change& change, const ImportOptions& options) {
    const int64_t over = leave_out_over(change);
    if (!options.allow_loss) require_rows_left(change, options.what);
    RecordWriter writer(change, RecordWriter::Mode::replace, options.relay_limits);
    writer.counts.skipped = over;
    const auto replaced = [&](What kind) { return !options.what || *options.what == kind; };
    // Pools first: the last relay goes only when none is fenced any more.
    if (replaced(What::pools)) replace_pools(change, writer);
    if (replaced(What::relays)) replace_relays(change, writer);
    if (replaced(What::assignments)) {
        replace_assignments(change, writer, records_of_[static_cast<size_t>(What::assignments)]);
    }
    if (replaced(What::exemptions)) replace_exemptions(change, writer);
    writer.counts.unchanged += repetitions_;
    return writer.counts;
}

}  // namespace smtpfence
