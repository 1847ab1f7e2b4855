#include "subscribers/record.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "subscribers/customer.hpp"
#include "subscribers/text.hpp"

namespace smtpfence {

namespace {

constexpr const char* key_words[key_count] = {"op",     "customer", "prefix", "until",  "take",    "name",
                                              "action", "note",     "reason", "ticket", "asked_by"};

constexpr unsigned bit(RecordKey key) { return 1u << static_cast<unsigned>(key); }
template <typename... Keys>
constexpr unsigned bits_of(Keys... keys) {
    return (bit(keys) | ... | 0u);
}

struct OpKeys {
    const char* word;
    What kind;
    unsigned required, optional;
};
// In the order of Op.
constexpr OpKeys op_keys[] = {
    {"assign", What::assignments, bits_of(RecordKey::customer, RecordKey::prefix),
     bits_of(RecordKey::until, RecordKey::take)},
    {"release", What::assignments, bits_of(RecordKey::prefix), bits_of(RecordKey::customer)},
    {"pool", What::pools, bits_of(RecordKey::prefix), bits_of(RecordKey::name, RecordKey::action)},
    {"relay", What::relays, bits_of(RecordKey::prefix), bits_of(RecordKey::note)},
    {"exempt", What::exemptions, bits_of(RecordKey::customer, RecordKey::reason),
     bits_of(RecordKey::ticket, RecordKey::until, RecordKey::asked_by)},
    {"revoke", What::exemptions, bits_of(RecordKey::customer, RecordKey::reason), 0},
};
const OpKeys& keys_of(Op op) { return op_keys[static_cast<size_t>(op)]; }

// In the order of What.
constexpr const char* what_words[what_count] = {"assignments", "pools", "relays", "exemptions"};
constexpr Op first_op[what_count] = {Op::assign, Op::pool, Op::relay, Op::exempt};

std::string listed(unsigned keys) {
    std::string text;
    for (size_t i = 0; i < key_count; ++i) {
        if (keys & (1u << i)) text += (text.empty() ? "" : ", ") + std::string(key_words[i]);
    }
    return text;
}

constexpr unsigned every_key = (1u << key_count) - 1;

[[noreturn]] void refuse(const std::string& message) { throw Refused(Refusal::invalid, message); }

std::optional<RecordKey> find_key(std::string_view text) {
    for (size_t i = 0; i < key_count; ++i) {
        if (text == key_words[i]) return static_cast<RecordKey>(i);
    }
    return std::nullopt;
}

// Receives the parts of one JSON object from the parser. Whatever is no flat object of texts (and one bool) is refused.
class FlatObject : public nlohmann::json_sax<nlohmann::json> {
public:
    explicit FlatObject(Fields& fields) : fields_(fields) {}

    bool null() override { return wrong("null; leave out a key that has no value"); }
    bool boolean(bool value) override {
        if (!key_ || *key_ != RecordKey::take) return wrong("true or false");
        return add(value ? "true" : "false");
    }
    bool number_integer(number_integer_t) override { return wrong("a number"); }
    bool number_unsigned(number_unsigned_t) override { return wrong("a number"); }
    bool number_float(number_float_t, const string_t&) override { return wrong("a number"); }
    bool binary(binary_t&) override { return wrong("binary"); }
    bool start_array(size_t) override { return wrong("a list"); }
    bool end_array() override { return true; }
    bool end_object() override { return true; }
    bool string(string_t& value) override {
        if (key_ == RecordKey::take) return wrong("a text");
        return add(value);
    }
    bool start_object(size_t) override {
        if (inside_) return wrong("an object");
        inside_ = true;
        return true;
    }
    bool key(string_t& name) override {
        key_ = find_key(name);
        if (!key_) refuse(fmt::format("unknown key {}; the keys are {}", smtpfence::quoted(name), listed(every_key)));
        return true;
    }
    bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
        const std::string_view what = error.what();
        const bool encoding = what.find("UTF-8") != std::string_view::npos;
        refuse(fmt::format("{} at byte {}", encoding ? "invalid UTF-8" : "not valid JSON", position));
    }

private:
    bool add(std::string_view value) {
        if (!key_) return wrong("a value");
        if (!fields_.add(*key_, value)) refuse(fmt::format("the key {} stands twice", word(*key_)));
        return true;
    }
    [[noreturn]] bool wrong(const char* found) const {
        if (!key_) refuse(fmt::format("a record is a JSON object like {{\"op\":\"assign\",...}}, not {}", found));
        refuse(fmt::format("{} must be {}, not {}", word(*key_), key_ == RecordKey::take ? "true or false" : "a text",
                           found));
    }

    Fields& fields_;
    std::optional<RecordKey> key_;
    bool inside_ = false;
};

// RFC 4180, but for line breaks inside quotes: no value that a record can have contains one.
void split_csv(std::string_view line, std::vector<std::string>& values) {
    size_t count = 0;
    size_t at = 0;
    while (true) {
        if (count == values.size()) values.emplace_back();
        std::string& value = values[count++];
        value.clear();
        if (at < line.size() && line[at] == '"') {
            ++at;
            while (true) {
                const size_t quote = line.find('"', at);
                if (quote == std::string_view::npos) {
                    refuse(fmt::format("the quotes of field {} don't end on this line; texts can't have line breaks",
                                       count));
                }
                value.append(line, at, quote - at);
                at = quote + 1;
                if (at >= line.size() || line[at] != '"') break;
                value += '"';
                ++at;
            }
            if (at < line.size() && line[at] != ',') {
                refuse(fmt::format("field {} goes on after its closing quote", count));
            }
        } else {
            const size_t end = std::min(line.find(',', at), line.size());
            value.append(line, at, end - at);
            if (value.find('"') != std::string::npos) {
                refuse(fmt::format("field {} has a quote inside but not around it", count));
            }
            at = end;
        }
        if (at >= line.size()) break;
        ++at;  // the comma
    }
    values.resize(count);
}

Op find_op(const Fields& fields, std::optional<What> what) {
    if (!fields.has(RecordKey::op)) {
        if (!what) refuse("no \"op\"; name it in each record, or say with --what which kind of records these are");
        return first_op[static_cast<size_t>(*what)];
    }
    for (size_t i = 0; i < std::size(op_keys); ++i) {
        if (fields[RecordKey::op] != op_keys[i].word) continue;
        if (what && op_keys[i].kind != *what) {
            refuse(fmt::format("op {} is not about {}, which --what says this file holds", op_keys[i].word,
                               what_words[static_cast<size_t>(*what)]));
        }
        return static_cast<Op>(i);
    }
    refuse(fmt::format("unknown op {}; it is one of assign, release, pool, relay, exempt, revoke",
                       quoted(fields[RecordKey::op])));
}

void check_keys(const Fields& fields, Op op) {
    const OpKeys& keys = keys_of(op);
    const unsigned known = keys.required | keys.optional;
    if (const unsigned missing = keys.required & ~fields.present) {
        refuse(fmt::format("{} needs {}", keys.word, listed(missing)));
    }
    if (const unsigned misplaced = fields.present & ~(known | bit(RecordKey::op))) {
        refuse(fmt::format("{} has no {}; its keys are {}", keys.word, listed(misplaced), listed(known)));
    }
}

bool truth(const std::string& text) {
    if (text != "true" && text != "false") refuse(fmt::format("take must be true or false, not {}", quoted(text)));
    return text == "true";
}

std::optional<std::string> checked_text(const Fields& fields, RecordKey key) {
    if (!fields.has(key)) return std::nullopt;
    check_text(word(key), fields[key]);
    return fields[key];
}

Record record_from(const Fields& fields, std::optional<What> what) {
    Record record;
    record.op = find_op(fields, what);
    check_keys(fields, record.op);
    if (fields.has(RecordKey::customer)) {
        check_customer_id(fields[RecordKey::customer]);
        record.customer = fields[RecordKey::customer];
    }
    if (fields.has(RecordKey::prefix)) record.prefix = Prefix::parse(fields[RecordKey::prefix]);
    if (fields.has(RecordKey::until)) record.until = parse_instant(fields[RecordKey::until]);
    if (fields.has(RecordKey::take)) record.take = truth(fields[RecordKey::take]);
    if (fields.has(RecordKey::action)) record.action = parse_action(fields[RecordKey::action]);
    record.name = checked_text(fields, RecordKey::name);
    record.note = checked_text(fields, RecordKey::note);
    record.ticket = checked_text(fields, RecordKey::ticket);
    record.asked_by = checked_text(fields, RecordKey::asked_by);
    if (auto reason = checked_text(fields, RecordKey::reason)) record.reason = std::move(*reason);
    return record;
}

// A header, or a row that begins with plain text.
bool looks_like_csv(std::string_view line) {
    const std::string_view first = line.substr(0, line.find(','));
    const bool plain = first.find_first_of("{}[]\":") == std::string_view::npos;
    return find_key(first).has_value() || (plain && first.size() < line.size());
}

bool blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

// The fields that a record has, in the order of an export, as text.
template <typename Each>
void each_field(const Record& record, const Each& each) {
    each(RecordKey::op, word(record.op));
    if (!record.customer.empty()) each(RecordKey::customer, record.customer);
    if (keys_of(record.op).required & bit(RecordKey::prefix)) each(RecordKey::prefix, record.prefix.text());
    if (record.until) each(RecordKey::until, format_instant(*record.until));
    if (record.take) each(RecordKey::take, "true");
    if (record.name) each(RecordKey::name, *record.name);
    if (record.action) each(RecordKey::action, word(*record.action));
    if (record.note) each(RecordKey::note, *record.note);
    if (!record.reason.empty()) each(RecordKey::reason, record.reason);
    if (record.ticket) each(RecordKey::ticket, *record.ticket);
    if (record.asked_by) each(RecordKey::asked_by, *record.asked_by);
}

unsigned exported_keys(What what) {
    const OpKeys& keys = keys_of(first_op[static_cast<size_t>(what)]);
    return bit(RecordKey::op) | ((keys.required | keys.optional) & ~bit(RecordKey::take));
}

std::string csv_field(std::string_view text) {
    if (text.find_first_of(",\"\r\n") == std::string_view::npos && !blank(text)) return std::string(text);
    std::string field = "\"";
    for (char c : text) {
        if (c == '"') field += '"';
        field += c;
    }
    return field + '"';
}

}  // namespace

const char* word(Op op) { return keys_of(op).word; }
What kind(Op op) { return keys_of(op).kind; }
const char* word(RecordKey key) { return key_words[static_cast<size_t>(key)]; }

bool Fields::add(RecordKey key, std::string_view value) {
    if (has(key)) return false;
    present |= bit(key);
    text[static_cast<size_t>(key)] = value;
    return true;
}

RecordParser::RecordParser(Format format, std::optional<What> what) : format_(format), what_(what) {}

void RecordParser::parse_header(std::string_view line) {
    if (line.front() == '{') refuse("no CSV header: this looks like JSON lines, which are --format jsonl");
    split_csv(line, values_);
    unsigned seen = 0;
    std::vector<RecordKey> columns;
    for (const std::string& name : values_) {
        const auto key = find_key(name);
        if (!key) {
            refuse(fmt::format("wrong header: unknown column {}; the columns are {}", quoted(name), listed(every_key)));
        }
        if (seen & bit(*key)) refuse(fmt::format("wrong header: the column {} stands twice", name));
        seen |= bit(*key);
        columns.push_back(*key);
    }
    if (!what_ && !(seen & bit(RecordKey::op))) {
        refuse("wrong header: no column op; add it, or say with --what which kind of records these are");
    }
    if (what_) {
        const unsigned missing = keys_of(first_op[static_cast<size_t>(*what_)]).required & ~seen;
        if (missing && !(seen & bit(RecordKey::op))) {
            refuse(fmt::format("wrong header: {} need the column {}", what_words[static_cast<size_t>(*what_)],
                               listed(missing)));
        }
    }
    columns_ = std::move(columns);
}

void RecordParser::parse_row(std::string_view line) {
    split_csv(line, values_);
    if (values_.size() != columns_.size()) {
        refuse(fmt::format("{} {} where the header names {} {}", values_.size(),
                           values_.size() == 1 ? "field" : "fields", columns_.size(),
                           columns_.size() == 1 ? "column" : "columns"));
    }
    for (size_t i = 0; i < columns_.size(); ++i) {
        if (!values_[i].empty()) fields_.add(columns_[i], values_[i]);
    }
}

std::optional<Record> RecordParser::parse(std::string_view line) {
    // The JSON parser takes NUL for the end of its input.
    if (line.find('\0') != std::string_view::npos) refuse("a NUL byte; is this the right file and format?");
    if (blank(line)) return std::nullopt;
    if (format_ == Format::csv && columns_.empty()) {
        parse_header(line);
        return std::nullopt;
    }
    fields_.present = 0;
    if (format_ == Format::csv) {
        parse_row(line);
    } else {
        if (looks_like_csv(line)) refuse("not valid JSON: this looks like CSV, which is --format csv");
        FlatObject object(fields_);
        nlohmann::json::sax_parse(line.begin(), line.end(), &object);
    }
    return record_from(fields_, what_);
}

std::string record_json(const Record& record) {
    std::string line = "{";
    each_field(record, [&](RecordKey key, std::string_view text) {
        if (line.size() > 1) line += ',';
        line += fmt::format("\"{}\":", word(key));
        line += key == RecordKey::take ? std::string(text) : nlohmann::json(text).dump();
    });
    return line + '}';
}

std::string csv_header(What what) {
    std::string line = listed(exported_keys(what));
    std::erase(line, ' ');
    return line;
}

std::string record_csv(const Record& record) {
    std::array<std::string, key_count> texts;
    each_field(record,
               [&](RecordKey key, std::string_view text) { texts[static_cast<size_t>(key)] = csv_field(text); });
    const unsigned keys = exported_keys(kind(record.op));
    std::string line;
    for (size_t i = 0; i < key_count; ++i) {
        if (!(keys & (1u << i))) continue;
        if (i > 0) line += ',';
        line += texts[i];
    }
    return line;
}

}  // namespace smtpfence
