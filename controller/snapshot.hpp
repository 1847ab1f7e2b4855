#pragma once
// What stands in a file of the last good fence (last_good.hpp): bytes to a value, and the pieces that such bytes are
// made of. It knows no files.
//
// A first line with the format's version, then records. A record is a line "record LENGTH DIGEST" with the
// bytes of its body and their SHA-256, both of fixed width, and the body: lines of words.
//
//   at SECONDS                           when it was written
//   revision NUMBER [MARK]               what the fence then is, and the digest that tells it from another history's
//   opened SECONDS release|exempt 4|6 SIZE   counted by the guard; replaces the same minute's
//   forget                               nothing is counted any more
//   +pool 100.64.0.0/10 drop             and the other lines of fence_record.hpp

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "controller/guard.hpp"
#include "rules/fence_record.hpp"
#include "rules/kernel.hpp"

namespace smtpfence {

/// What the file says. A clock that is behind `written` (a router may wake in 1970) is taken for that time, unless it
/// is known to be right: what is over then is left out, and the other ends come sooner by the difference.
struct Snapshot {
    Fence fence;  ///< without rights that are over
    Openings openings;
    Instant written;  ///< when its newest record was
    Revision revision = 0;
    std::string mark;           ///< Enforcement::mark() at that revision; "": not known
    size_t whole = 0, end = 0;  ///< bytes of the file up to the whole fence's end, and of all
    bool resumable = false;     ///< it is the newest file, undamaged and read by a clock that isn't behind
};

/// The next bytes of a file; fewer than asked for at its end only.
using ByteSource = std::function<size_t(char* to, size_t count)>;

/// What stands in one file of so many bytes; `complaint` is set when its end is damaged. Throws Refused (invalid) when
/// nothing is usable. `sure`: `now` is right.
Snapshot parse_snapshot(const ByteSource&, size_t size, Instant now, std::optional<std::string>& complaint,
                        bool sure = false);

/// How the kernel is first compared with it: each of many exemptions is asked for only later, by a start behind READY,
/// by `apply` when it knows which stay.
Comparison comparison_with(const Snapshot&);

/// Whether the whole fence, a file's first record, has this version's form and is undamaged by its checksum.
bool begins_intact(const ByteSource&, size_t size);

inline constexpr std::string_view snapshot_magic = "smtpfence fence 1\n";

/// A record's first line, of fixed width. `digest`: SHA-256 of its body, in hexadecimal.
std::string record_header(size_t length, const std::string& digest);
/// The whole record.
std::string record_of(std::string_view body);
std::string opening_line(const Opening&);
std::string revision_line(Revision, const std::string& mark);

}  // namespace smtpfence
