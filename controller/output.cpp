#include "controller/output.hpp"

#include <fmt/format.h>
#include <wchar.h>

#include <algorithm>
#include <clocale>
#include <cstdlib>
#include <utility>

#include "subscribers/error.hpp"

namespace smtpfence {

namespace {

constexpr size_t rows_for_widths = 1000;

struct Character {
    char32_t code = 0;
    size_t size = 0;  ///< bytes; 0: the first byte begins no valid character
};

Character first_character(std::string_view text) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80) return {lead, 1};
    const size_t size = lead >= 0xf0 && lead <= 0xf4  ? 4
                        : lead >= 0xe0 && lead < 0xf0 ? 3
                        : lead >= 0xc2 && lead < 0xe0 ? 2
                                                      : 0;
    if (size == 0 || text.size() < size) return {};
    char32_t code = lead & (0xffU >> (size + 1));
    for (size_t i = 1; i < size; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return {};
        code = code << 6 | (byte(i) & 0x3fU);
    }
    constexpr char32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < smallest[size] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return {};
    return {code, size};
}

bool controls(char32_t c) { return c < 0x20 || (c >= 0x7f && c <= 0x9f); }

// Marks that turn the direction of writing, break lines, or take no room: two different texts could look alike.
bool deceives(char32_t c) {
    return c == 0xad || c == 0x61c || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
           (c >= 0xe0000 && c <= 0xe007f);
}

int width_of(char32_t c) {
    static const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", static_cast<locale_t>(nullptr));
    if (!utf8) return 1;
    const locale_t before = uselocale(utf8);
    const int width = wcwidth(static_cast<wchar_t>(c));
    uselocale(before);
    return width < 0 ? 1 : width;
}

std::string scalar_text(const Json& value, const char* nothing) {
    if (value.is_null()) return nothing;
    if (value.is_string()) return value.get<std::string>();
    if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string table_text(const Json& value) {
    if (!value.is_array()) return scalar_text(value, "-");
    std::string all;
    for (const Json& part : value) all += (all.empty() ? "" : ", ") + scalar_text(part, "-");
    return all.empty() ? "-" : all;
}

std::string csv_text(const Json& value) {
    if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
    const bool scalars = value.is_array() && std::none_of(value.begin(), value.end(),
                                                          [](const Json& part) { return part.is_structured(); });
    if (!scalars) return scalar_text(value, "");
    std::string all;
    for (const Json& part : value) all += (all.empty() ? "" : " ") + scalar_text(part, "");
    return all;
}

const Json& value_of(const Json& item, const std::string& key) {
    static const Json none;
    const auto found = item.find(key);
    return found == item.end() ? none : *found;
}

std::string cell_of(const Column& column, const Json& item) {
    return visible(column.cell ? column.cell(item) : table_text(value_of(item, column.key)));
}

std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string csv_row(const std::vector<std::string>& fields) {
    std::string row;
    for (size_t i = 0; i < fields.size(); ++i) row += (i == 0 ? "" : ",") + csv_field(fields[i]);
    return row + "\n";
}

}  // namespace

Style parse_style(std::string_view word) {
    if (word == "table") return Style::table;
    if (word == "json") return Style::json;
    if (word == "jsonl") return Style::jsonl;
    if (word == "csv") return Style::csv;
    throw Refused(Refusal::invalid,
                  fmt::format("--output \"{}\" is unknown: use table, json, csv or jsonl", visible(word)));
}

bool use_color(std::string_view word, bool terminal) {
    if (word == "always") return true;
    if (word == "never") return false;
    if (word != "auto") {
        throw Refused(Refusal::invalid,
                      fmt::format("--color \"{}\" is unknown: use auto, always or never", visible(word)));
    }
    const char* refused = std::getenv("NO_COLOR");
    const char* kind = std::getenv("TERM");
    return terminal && !(refused && *refused) && !(kind && std::string_view(kind) == "dumb");
}

std::string visible(std::string_view text) {
    std::string all;
    all.reserve(text.size());
    while (!text.empty()) {
        const auto [code, size] = first_character(text);
        if (size == 0) {
            all += fmt::format("\\x{:02x}", static_cast<unsigned char>(text.front()));
        } else if (controls(code)) {
            all += fmt::format("\\x{:02x}", static_cast<uint32_t>(code));
        } else if (deceives(code)) {
            all += fmt::format("\\u{:04x}", static_cast<uint32_t>(code));
        } else {
            all += text.substr(0, size);
        }
        text.remove_prefix(std::max<size_t>(size, 1));
    }
    return all;
}

size_t display_width(std::string_view text) {
    size_t width = 0;
    while (!text.empty()) {
        const auto [code, size] = first_character(text);
        width += code < 0x80 ? 1 : static_cast<size_t>(width_of(code));
        text.remove_prefix(std::max<size_t>(size, 1));
    }
    return width;
}

std::string csv_field(std::string_view text) {
    if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
    std::string field = "\"";
    for (char c : text) field += c == '"' ? std::string("\"\"") : std::string(1, c);
    return field + "\"";
}

Json json_of(const std::optional<std::string>& text) { return text ? Json(*text) : Json(); }
Json json_of(const std::optional<Instant>& time) { return time ? Json(format_instant(*time)) : Json(); }

void Output::note(std::string_view text) {
    if (!quiet_) messages_ << visible(text) << '\n';
}

void Output::warn(std::string_view text) { messages_ << "smtpfence: warning: " << visible(text) << '\n'; }

std::string Output::painted(std::string text, Tone tone) const {
    if (!color_ || tone == Tone::plain) return text;
    const char* code = tone == Tone::good ? "32" : tone == Tone::bad ? "31" : "2";
    return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

void Output::thing(const Json& thing) {
    Json all = {{"version", 1}};
    all.update(thing);
    if (style_ != Style::csv) {
        data_ << dump(all) << '\n';
        return;
    }
    std::vector<std::string> heading, row;
    for (const auto& [key, value] : thing.items()) {
        heading.push_back(key);
        row.push_back(csv_text(value));
    }
    data_ << csv_row(heading) << csv_row(row);
}

void Output::result(const Json& what, std::string_view sentence) {
    if (style_ != Style::table) return thing(what);
    if (!quiet_) data_ << visible(sentence) << '\n';
}

void Output::card(const Json& what, std::string_view title, const std::vector<Column>& columns) {
    if (style_ != Style::table) return thing(what);
    size_t widest = 0;
    for (const Column& column : columns) widest = std::max(widest, display_width(column.heading));
    data_ << (color_ ? fmt::format("\x1b[1m{}\x1b[0m", visible(title)) : visible(title)) << '\n';
    for (const Column& column : columns) {
        const std::string cell = cell_of(column, what);
        if (cell == "-" || cell.empty()) continue;
        data_ << "  " << column.heading << ':' << std::string(widest - display_width(column.heading) + 1, ' ')
              << painted(cell, column.tone ? column.tone(what) : Tone::plain) << '\n';
    }
}

Listing::Listing(Output& output, std::vector<Column> columns, const Json& preface)
    : output_(output), columns_(std::move(columns)) {
    if (output_.style() == Style::table) {
        std::erase_if(columns_, [](const Column& column) { return column.heading.empty(); });
    } else if (output_.style() == Style::json) {
        Json opening = {{"version", 1}};
        opening.update(preface);
        std::string text = dump(opening);
        text.back() = ',';
        opening_ = text + "\"items\":[";
    } else if (output_.style() == Style::csv) {
        std::vector<std::string> heading;
        for (const Column& column : columns_) heading.push_back(column.key);
        opening_ = csv_row(heading);
    }
}

void Listing::add(Json item) {
    ++size_;
    if (output_.style() != Style::table || started_) return write_row(item);
    waiting_.push_back(std::move(item));
    if (waiting_.size() == rows_for_widths) release_rows();
}

void Listing::finish() {
    output_.data() << std::exchange(opening_, {});
    if (output_.style() == Style::json) output_.data() << (size_ == 0 ? "]}\n" : "\n]}\n");
    if (output_.style() == Style::table && !started_ && size_ != 0) release_rows();
}

void Listing::release_rows() {
    started_ = true;
    for (const Column& column : columns_) widths_.push_back(display_width(column.heading));
    for (const Json& item : waiting_) {
        for (size_t i = 0; i < columns_.size(); ++i) {
            widths_[i] = std::max(widths_[i], display_width(cell_of(columns_[i], item)));
        }
    }
    write_heading();
    for (const Json& item : waiting_) write_row(item);
    waiting_.clear();
}

void Listing::write_heading() {
    std::vector<std::string> cells;
    for (const Column& column : columns_) cells.push_back(column.heading);
    write_table_row(cells, nullptr);
}

void Listing::write_row(const Json& item) {
    output_.data() << std::exchange(opening_, {});
    switch (output_.style()) {
        case Style::json:
            output_.data() << (size_ == 1 ? "\n" : ",\n") << dump(item);
            break;
        case Style::jsonl:
            output_.data() << dump(item) << '\n';
            break;
        case Style::csv: {
            std::vector<std::string> fields;
            for (const Column& column : columns_) fields.push_back(csv_text(value_of(item, column.key)));
            output_.data() << csv_row(fields);
            break;
        }
        case Style::table: {
            std::vector<std::string> cells;
            for (const Column& column : columns_) cells.push_back(cell_of(column, item));
            write_table_row(cells, &item);
            break;
        }
    }
}

void Listing::write_table_row(const std::vector<std::string>& cells, const Json* item) {
    std::string line;
    for (size_t i = 0; i < cells.size(); ++i) {
        const size_t width = display_width(cells[i]);
        const std::string room(i + 1 == cells.size() || width >= widths_[i] ? 0 : widths_[i] - width, ' ');
        const Tone tone = item && columns_[i].tone ? columns_[i].tone(*item) : Tone::plain;
        const bool bold = !item && output_.color();
        line +=
            (i == 0 ? "" : "  ") + (bold ? "\x1b[1m" + cells[i] + "\x1b[0m" : output_.painted(cells[i], tone)) + room;
    }
    output_.data() << line << '\n';
}

}  // namespace smtpfence
