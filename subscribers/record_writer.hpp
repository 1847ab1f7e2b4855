#pragma once
// Writes records into a Change, one at a time, and counts what became of them. import.hpp says what each means.

#include <map>

#include "subscribers/import.hpp"

namespace smtpfence {

class RecordWriter {
public:
    enum class Mode { upsert, replace };
    RecordWriter(Change&, Mode, const RelayLimits&);

    /// Throws what the write refuses, without a line number. `line` is for naming this record in a later message.
    void write(const Record&, int64_t line);

    ImportCounts counts;

private:
    void end(const Record&);
    void assign(const Record&);
    void reassign(const Record&);
    void release(const Record&);
    void pool(const Record&, int64_t line);
    void relay(const Record&, int64_t line);
    void exempt(const Record&);
    void revoke(const Record&);
    void require_own(const std::string& source, const std::string& object) const;
    void update_exemption(const Record&, const Exemption& held);
    void revive_exemption(const Record&, const Exemption& held);
    /// The customer's exemption as this source last wrote it.
    std::optional<Exemption> said_before(const std::string& customer) const;

    Change& change_;
    Mode mode_;
    RelayLimits relay_limits_;
    std::map<Prefix, int64_t> pool_lines_, relay_lines_;  // where this file named them; both are few
};

}  // namespace smtpfence
