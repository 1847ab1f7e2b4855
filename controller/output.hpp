#pragma once
// What the program prints: data on standard output as a table for people, JSON, JSON lines or CSV, all from one
// description of columns; messages on standard error. Knows no commands.
//
//   Listing listing(output, {{"prefix", "PREFIX"}, {"note", "NOTE"}});
//   listing.add({{"prefix", "203.0.113.10/32"}, {"note", nullptr}});
//   listing.finish();
//
// Performance: a listing holds at most its first 1,000 rows, by which the widths of its columns are chosen.

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "subscribers/instant.hpp"

namespace smtpfence {

/// Keys stay in the order of writing.
using Json = nlohmann::ordered_json;

/// --output.
enum class Style { table, json, jsonl, csv };
/// Throws Refused (invalid), naming the four words.
Style parse_style(std::string_view);

/// --color, NO_COLOR (https://no-color.org) and whether the stream is a terminal. Throws Refused (invalid) for another
/// word than auto, always, never.
bool use_color(std::string_view word, bool terminal);

/// How a cell looks where colours are in use.
enum class Tone { plain, good, bad, weak };

/// One column of a listing, or one line of a card.
struct Column {
    std::string key;                                    ///< of the JSON item; also the CSV heading
    std::string heading;                                ///< of the table; empty: not in the table
    std::function<std::string(const Json&)> cell = {};  ///< the table's text for an item; empty: the value's text
    std::function<Tone(const Json&)> tone = {};
};

/// `text` with what a terminal would act on made visible: control characters and invalid UTF-8 as "\x1b", characters
/// that reorder or hide text as "\u202e".
std::string visible(std::string_view text);
/// Columns that `text` takes on a terminal. `text` must be visible().
size_t display_width(std::string_view text);
/// A field of RFC 4180, quoted where it must be.
std::string csv_field(std::string_view text);

/// JSON of an optional value: null when there is none.
Json json_of(const std::optional<std::string>&);
Json json_of(const std::optional<Instant>&);

class Output {
public:
    Output(std::ostream& data, std::ostream& messages, Style style, bool color, bool quiet)
        : data_(data), messages_(messages), style_(style), color_(color), quiet_(quiet) {}

    std::ostream& data() { return data_; }
    Style style() const { return style_; }
    bool color() const { return color_; }
    bool quiet() const { return quiet_; }

    /// For people, on standard error; nothing with --quiet.
    void note(std::string_view text);
    /// "smtpfence: warning: ...", on standard error, also with --quiet.
    void warn(std::string_view text);

    /// What a command did. Tables: the sentence, nothing with --quiet; otherwise `thing`.
    void result(const Json& thing, std::string_view sentence);
    /// One thing. Tables: a title and one line for each column that has a value; otherwise `thing`.
    void card(const Json& thing, std::string_view title, const std::vector<Column>& columns);

    std::string painted(std::string text, Tone tone) const;

private:
    void thing(const Json&);

    std::ostream& data_;
    std::ostream& messages_;
    Style style_;
    bool color_, quiet_;
};

/// A list, streamed: `{"version":1,"items":[...]}`, a line each, CSV rows or a table. Nothing is written before the
/// first row or the end, so that a command that fails before leaves no half list.
class Listing {
public:
    /// `preface`: what stands beside "items" in the JSON object.
    Listing(Output&, std::vector<Column>, const Json& preface = Json::object());
    void add(Json item);
    /// Writes what is left; must be the last call.
    void finish();
    size_t size() const { return size_; }

private:
    void write_heading();
    void write_row(const Json& item);
    void write_table_row(const std::vector<std::string>& cells, const Json* item);
    void release_rows();

    Output& output_;
    std::vector<Column> columns_;
    std::vector<size_t> widths_;
    std::vector<Json> waiting_;  ///< rows of a table whose widths are not chosen yet
    std::string opening_;        ///< what stands before the first row, not written yet
    bool started_ = false;
    size_t size_ = 0;
};

}  // namespace smtpfence
