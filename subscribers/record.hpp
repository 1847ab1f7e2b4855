#pragma once
// One record of an import or export file, and its two spellings: a JSON object on a line, or a line of CSV. Pure: no
// database, no stream.
//
//   RecordParser parser(Format::jsonl, {});
//   auto record = parser.parse(R"({"op":"assign","customer":"c1","prefix":"100.64.3.7"})");
//   record_json(*record);  // {"op":"assign","customer":"c1","prefix":"100.64.3.7/32"}

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "subscribers/fenced.hpp"

namespace smtpfence {

enum class Format { jsonl, csv };
/// Which kind of object a file holds where its records don't say, and what an export writes.
enum class What { assignments, pools, relays, exemptions };
constexpr size_t what_count = 4;

/// What a record asks for. Words as in product.md, "Import".
enum class Op { assign, release, pool, relay, exempt, revoke };
const char* word(Op);
/// The kind of object that the op is about.
What kind(Op);

/// Which fields have a meaning follows from `op`: assign (customer, prefix, until, take), release (prefix,
/// customer), pool (prefix, name, action), relay (prefix, note), exempt (customer, reason, ticket, asked_by, until),
/// revoke (customer, reason). Others are as initialised. Texts and ids have passed check_text and check_customer_id.
struct Record {
    Op op = Op::assign;
    std::string customer, reason;
    Prefix prefix;
    std::optional<Instant> until;
    bool take = false;
    std::optional<std::string> name, note, ticket, asked_by;
    std::optional<Action> action;
    bool over(Instant at) const { return until && *until <= at; }
    friend bool operator==(const Record&, const Record&) = default;
};

/// The keys of JSON records and the columns of CSV.
enum class RecordKey { op, customer, prefix, until, take, name, action, note, reason, ticket, asked_by };
constexpr size_t key_count = 11;
const char* word(RecordKey);

/// The fields of one line as text, before they are understood.
struct Fields {
    std::array<std::string, key_count> text;
    unsigned present = 0;  ///< bit 1 << RecordKey
    bool has(RecordKey key) const { return (present & (1u << static_cast<unsigned>(key))) != 0; }
    const std::string& operator[](RecordKey key) const { return text[static_cast<size_t>(key)]; }
    /// False: it was there already.
    bool add(RecordKey, std::string_view);
};

/// Turns lines into records. For CSV the first line that is not blank is the header and names the columns.
class RecordParser {
public:
    /// `what`: `op` may be left out, and records of another kind are refused.
    RecordParser(Format, std::optional<What> what);

    /// nullopt: a blank line, or the header. Throws Refused (invalid), without a line number: not a JSON object, wrong
    /// number of CSV fields, unknown, repeated, missing or misplaced keys, values of the wrong type or that don't
    /// parse, NUL, invalid UTF-8.
    std::optional<Record> parse(std::string_view line);

private:
    void parse_header(std::string_view line);
    void parse_row(std::string_view line);

    Format format_;
    std::optional<What> what_;
    std::vector<RecordKey> columns_;   // of CSV; empty until the header was read
    std::vector<std::string> values_;  // of one CSV line
    Fields fields_;
};

/// The record on one line of JSON, without a line break. Keys without a value are left out.
std::string record_json(const Record&);
/// The columns that an export of this kind has, as a CSV line without its line break.
std::string csv_header(What);
/// The record as such a line.
std::string record_csv(const Record&);

}  // namespace smtpfence
