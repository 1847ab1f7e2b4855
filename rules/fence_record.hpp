#pragma once
// A fence as lines of text, whole and as differences: what the snapshot on disk holds. Only elements are written; sets,
// their capacities, chains and rules are the reading program's own, so that another version restores it as well.
//
//   +relay 192.0.2.10/32
//   +pool 100.64.0.0/10 drop
//   +interface "vlan*" drop
//   +exempt 100.64.3.7/32 1798761600      (seconds since 1970, or "never")
//   -exempt 100.64.3.7/32

#include <functional>
#include <string>
#include <string_view>

#include "rules/difference.hpp"

namespace smtpfence {

using RecordLines = std::function<void(std::string_view)>;

/// One line (with its end) for each element of the fence, two for what ended by itself and may still be counted.
void each_record_line(const Fence&, const RecordLines&);

/// The lines of what a transaction does to elements; none when it does nothing to them.
void each_record_line(const Transaction&, const RecordLines&);
/// Those of what it adds.
void each_added_line(const Transaction&, const RecordLines&);
std::string record_lines(const Transaction&);

/// Whether their lines are the same, in whatever sets they stand; ends to 2 s, as a kernel counts them.
bool same_record(const Fence&, const Fence&);

/// Whether a transaction takes anything away from anybody: then its record must be on disk before it is reported.
bool narrows(const Transaction&);

/// A fence put together from lines.
class FenceReader {
public:
    FenceReader() = default;
    FenceReader(const FenceReader& other) : fence_(other.fence_) {}  // the shortcut below is into its own fence
    FenceReader& operator=(const FenceReader&) = delete;

    /// Throws Refused (invalid) naming the line.
    void read(std::string_view lines);
    /// The whole table as this version has it, without rights that are over at `now`.
    Fence fence(Instant now) &&;

private:
    Set& exemptions(Family, uint8_t length);

    Fence fence_;  ///< exemption sets under their first name, whatever they hold
    // Most lines go where the one before went.
    Family family_{};
    uint8_t length_ = 0;
    Set* set_ = nullptr;
};

}  // namespace smtpfence
