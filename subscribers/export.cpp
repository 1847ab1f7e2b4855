#include "subscribers/export.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include "subscribers/customer.hpp"
#include "subscribers/fenced.hpp"

namespace smtpfence {

namespace {

class RecordOutput {
public:
    RecordOutput(std::ostream& out, What what, Format format) : out_(out), format_(format) {
        if (format_ == Format::csv) out_ << csv_header(what) << '\n';
    }
    void write(const Record& record) {
        out_ << (format_ == Format::csv ? record_csv(record) : record_json(record)) << '\n';
        if (!out_) throw std::runtime_error("the export can't be written: is the disk full, or the reader gone?");
    }
    void finish() {
        if (!out_.flush())
            throw std::runtime_error("the export can't be written: is the disk full, or the reader gone?");
    }

private:
    std::ostream& out_;
    Format format_;
};

Record record_of(const Relay& relay) {
    Record record;
    record.op = Op::relay;
    record.prefix = relay.prefix;
    record.note = relay.note;
    return record;
}

Record record_of(const Pool& pool) {
    Record record;
    record.op = Op::pool;
    record.prefix = pool.prefix;
    record.name = pool.name;
    record.action = pool.action;
    return record;
}

Record record_of(const Assignment& assignment) {
    Record record;
    record.op = Op::assign;
    record.customer = assignment.customer;
    record.prefix = assignment.prefix;
    record.until = assignment.until;
    return record;
}

Record record_of(const Exemption& exemption) {
    Record record;
    record.op = Op::exempt;
    record.customer = exemption.customer;
    record.reason = exemption.reason;
    record.ticket = exemption.ticket;
    record.asked_by = exemption.asked_by;
    record.until = exemption.until;
    return record;
}

}  // namespace

void export_records(Database& database, std::ostream& out, What what, Format format,
                    const std::optional<std::string>& source, Instant at) {
    RecordOutput output(out, what, format);
    const auto write = [&](const auto& object) {
        if (!source || object.source == *source) output.write(record_of(object));
    };
    switch (what) {
        case What::assignments:
            each_assignment(database, {}, at, write);
            break;
        case What::pools:
            for (const Pool& pool : pools(database)) write(pool);
            break;
        case What::relays:
            for (const Relay& relay : relays(database)) write(relay);
            break;
        case What::exemptions:
            each_exemption(database, at, {}, write);
            break;
    }
    output.finish();
}

}  // namespace smtpfence
