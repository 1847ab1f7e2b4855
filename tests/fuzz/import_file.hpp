#pragma once
// A file of records as both formats share it. The first byte of an input says what --what fixes.

#include <algorithm>
#include <sstream>

#include "property.hpp"
#include "subscribers/lines.hpp"
#include "subscribers/record.hpp"

namespace smtpfence {

/// Both spellings of a record lead back to it.
inline void check_spellings(const Record& record) {
    RecordParser json(Format::jsonl, {});
    must("its JSON parses back", json.parse(record_json(record)) == record);
    must("its JSON is one line", !has_control(record_json(record)));
    if (record.op == Op::release || record.op == Op::revoke) return;  // nothing that an export writes
    Record exported = record;
    exported.take = false;
    RecordParser csv(Format::csv, kind(record.op));
    must("a header is no record", !csv.parse(csv_header(kind(record.op))));
    must("its CSV parses back", csv.parse(record_csv(exported)) == exported);
}

inline void fuzz_file(Format format, std::string_view input) {
    if (input.empty()) return;
    const auto number = static_cast<unsigned char>(input.front()) % (what_count + 1);
    const auto what = number < what_count ? std::make_optional(static_cast<What>(number)) : std::nullopt;
    std::istringstream stream{std::string(input.substr(1))};
    accepted([&] {
        Lines lines(stream);
        RecordParser parser(format, what);
        while (lines.next()) {
            must("a line has no line break", lines.text().find('\n') == std::string_view::npos);
            must("a line is bounded", lines.text().size() <= longest_line);
            const auto record = parser.parse(lines.text());
            if (!record) continue;
            must("no record of another kind", !what || kind(record->op) == *what);
            check_spellings(*record);
        }
        must("every byte was read", lines.bytes() == static_cast<int64_t>(input.size()) - 1);
        return true;
    });
}

}  // namespace smtpfence
