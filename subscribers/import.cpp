#include "subscribers/import.hpp"

#include <fmt/format.h>

#include "subscribers/record_writer.hpp"
#include "subscribers/staging.hpp"
#include "subscribers/text.hpp"

namespace smtpfence {

namespace {

constexpr int64_t progress_interval = 4096;  // records

// An error of a line that ends without a line break most likely comes from the rest being missing.
std::string truncation_of(const Lines& lines) {
    return lines.complete() ? "" : "; the file ends inside this line, it seems truncated";
}

void each_record(std::istream& in, const ImportOptions& options,
                 const std::function<void(const Record&, int64_t line)>& each) {
    Lines lines(in);
    RecordParser parser(options.format, options.what);
    int64_t records = 0;
    while (lines.next()) {
        std::optional<Record> record;
        try {
            record = parser.parse(lines.text());
        } catch (const Refused& refused) {
            throw Refused(refused.reason,
                          fmt::format("line {}: {}{}", lines.number(), refused.what(), truncation_of(lines)));
        }
        if (!record) continue;
        try {
            each(*record, lines.number());
        } catch (const Refused& refused) {
            throw Refused(refused.reason, fmt::format("line {}: {}", lines.number(), refused.what()));
        }
        if (++records % progress_interval == 0 && options.progress) options.progress(lines.bytes(), records);
    }
    if (options.progress) options.progress(lines.bytes(), records);
}

ImportCounts upsert(const std::function<Change&()>& change, std::istream& in, const ImportOptions& options) {
    std::optional<RecordWriter> writer;
    each_record(in, options, [&](const Record& record, int64_t line) {
        if (!writer) writer.emplace(change(), RecordWriter::Mode::upsert, options.relay_limits);
        writer->write(record, line);
    });
    return writer ? writer->counts : ImportCounts{};
}

ImportCounts replace(const std::function<Change&()>& change, Database& database, std::istream& in,
                     const std::string& source, const ImportOptions& options) {
    Staging staging(database);
    each_record(in, options, [&](const Record& record, int64_t line) { staging.add(record, line); });
    if (staging.empty() && !options.allow_loss) {
        throw Refused(Refusal::conflict,
                      fmt::format("the file has no records, which would remove everything of source {}: use --confirm "
                                  "if that is meant",
                                  quoted(source)));
    }
    staging.check();
    return staging.write(change(), options);
}

}  // namespace

ImportCounts import_records(const std::function<Change&()>& change, Database& database, std::istream& in,
                            const std::string& source, const ImportOptions& options) {
    check_text("source", source);
    return options.replace ? replace(change, database, in, source, options) : upsert(change, in, options);
}

}  // namespace smtpfence
