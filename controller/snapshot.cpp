#include "controller/snapshot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "controller/digest.hpp"
#include "rules/layout.hpp"
#include "subscribers/error.hpp"

namespace smtpfence {

namespace {

constexpr size_t header_size = 7 + 20 + 1 + 64 + 1;
constexpr size_t longest_line = 256;
/// So many exemptions are asked for in a quarter of a second.
constexpr size_t soon_compared = 100'000;
std::string digest_of(std::string_view body) {
    Digest digest;
    digest.add(body);
    return digest.text();
}

/// What was read so far.
struct Contents {
    FenceReader fence;
    Openings openings;
    Instant time{};
    Revision revision = 0;
    std::string mark;
};

template <typename Number>
Number number_in(std::string_view text) {
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(number) || number < 0)
        throw Refused(Refusal::invalid, "no number: " + quoted(text));
    return number;
}

std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    for (size_t at = 0; at <= line.size();) {
        const size_t end = std::min(line.find(' ', at), line.size());
        words.push_back(line.substr(at, end - at));
        at = end + 1;
    }
    return words;
}

Instant time_in(std::string_view text) {
    const auto seconds = number_in<int64_t>(text);
    if (seconds > int64_t{1} << 40) throw Refused(Refusal::invalid, "no time: " + quoted(text));
    return to_instant(seconds);
}

void note_opening(Openings& openings, const Opening& opening) {
    const auto same = std::find_if(openings.begin(), openings.end(), [&](const Opening& known) {
        return known.at == opening.at && known.kind == opening.kind && known.family == opening.family;
    });
    if (same == openings.end()) {
        openings.push_back(opening);
    } else {
        same->size = opening.size;
    }
}

/// A line that is not an element's. False: it may be one.
bool read_words(Contents& contents, std::string_view line) {
    const std::vector<std::string_view> words = words_of(line);
    if (words[0] == "at" && words.size() == 2) {
        contents.time = std::max(contents.time, time_in(words[1]));
    } else if (words[0] == "revision" && (words.size() == 2 || words.size() == 3)) {
        contents.revision = number_in<int64_t>(words[1]);
        contents.mark = words.size() == 3 ? words[2] : "";
    } else if (words[0] == "forget" && words.size() == 1) {
        contents.openings.clear();
    } else if (words[0] == "opened" && words.size() == 5 && (words[2] == "release" || words[2] == "exempt") &&
               (words[3] == "4" || words[3] == "6")) {
        note_opening(contents.openings,
                     {time_in(words[1]), words[2] == "release" ? Opening::Kind::release : Opening::Kind::exempt,
                      words[3] == "4" ? Family::v4 : Family::v6, number_in<double>(words[4])});
    } else {
        return false;
    }
    return true;
}

[[noreturn]] void refuse_line() { throw Refused(Refusal::invalid, "a line is too long"); }

void read_body(Contents& contents, std::string_view body) {
    while (!body.empty()) {
        const std::string_view line = body.substr(0, body.find('\n'));
        if (line.size() > longest_line) refuse_line();
        body.remove_prefix(std::min(line.size() + 1, body.size()));
        if (line.starts_with('+') || line.starts_with('-')) {
            contents.fence.read(line);
        } else if (!read_words(contents, line)) {
            throw Refused(Refusal::invalid, "unknown line " + quoted(line));
        }
    }
}

/// The records of a file, one behind the other.
class Records {
public:
    /// Throws Refused (invalid) when it isn't a file of this version.
    Records(const ByteSource& source, size_t size) : source_(source), left_(size) {
        const std::string magic = take(std::min(snapshot_magic.size(), left_));
        if (magic == snapshot_magic) return;
        throw Refused(Refusal::invalid, magic.starts_with("smtpfence fence ") ? "it was written by another version"
                                                                              : "it is no fence of smtpfence");
    }

    size_t left() const { return left_; }  ///< bytes

    /// Gives the next record's body to `lines`, in pieces of whole lines. Throws Refused (invalid) when the record is
    /// damaged, so that what was given is worth nothing; and what `lines` throws, behind the record's end.
    template <typename Lines>
    void next(const Lines& lines) {
        const std::string header = take(std::min(header_size, left_));
        if (header.size() < header_size || !header.starts_with("record ") || header.back() != '\n')
            throw Refused(Refusal::invalid, "a record's first line is damaged or cut off");
        auto rest = number_in<uint64_t>(std::string_view(header).substr(7, 20));
        if (rest > left_) cut_off();
        Digest digest;
        std::optional<Refused> refused;
        std::string buffer;
        while (rest > 0) {
            const size_t begun = buffer.size(), count = std::min<size_t>(rest, piece_size);
            buffer.resize(begun + count);
            read(buffer.data() + begun, count);
            digest.add(std::string_view(buffer).substr(begun));
            rest -= count;
            const size_t end = rest == 0 ? buffer.size() : buffer.rfind('\n') + 1;
            try {
                if (!refused) lines(std::string_view(buffer).substr(0, end));
                if (buffer.size() - end > longest_line) refuse_line();
            } catch (const Refused& refusal) {
                refused = refusal;
            }
            buffer.erase(0, refused ? buffer.size() : end);
        }
        if (std::string_view(header).substr(28, 64) != digest.text())
            throw Refused(Refusal::invalid, "a record's checksum differs");
        if (refused) throw Refused(*refused);
    }

private:
    static constexpr size_t piece_size = size_t{1} << 18;

    [[noreturn]] static void cut_off() { throw Refused(Refusal::invalid, "its last record is cut off"); }

    void read(char* to, size_t count) {
        if (source_(to, count) != count) cut_off();
        left_ -= count;
    }

    std::string take(size_t count) {
        std::string bytes(count, '\0');
        read(bytes.data(), count);
        return bytes;
    }

    const ByteSource& source_;
    size_t left_;
};

/// The kernel counts ends down from the clock as it is.
void bring_forward(Fence& fence, Seconds lag) {
    for (auto& [name, set] : fence.sets) {
        if (!set.shape.timeouts || set.shape.dynamic) continue;
        for (auto& [key, held] : set.elements) {
            if (held.until != never) held.until -= lag;
        }
    }
}

}  // namespace

Snapshot parse_snapshot(const ByteSource& source, size_t size, Instant now, std::optional<std::string>& complaint,
                        bool sure) {
    Records records(source, size);
    Contents contents;
    records.next([&](std::string_view lines) { read_body(contents, lines); });
    const size_t whole = size - records.left();
    while (records.left() > 0) {
        try {
            std::string body;
            records.next([&](std::string_view lines) { body += lines; });
            read_body(contents, body);
        } catch (const Refused& damage) {
            // What stands before was in force when it was written, and is newer than any other file.
            complaint = damage.what();
            break;
        }
    }
    Snapshot snapshot;
    snapshot.written = contents.time;
    const Instant time = sure ? now : std::max(now, contents.time);
    snapshot.fence = std::move(contents.fence).fence(time);
    if (time > now) bring_forward(snapshot.fence, time - now);
    snapshot.openings = std::move(contents.openings);
    snapshot.revision = contents.revision;
    snapshot.mark = std::move(contents.mark);
    snapshot.whole = whole;
    snapshot.end = size;
    snapshot.resumable = !complaint && contents.time <= now;
    return snapshot;
}

Comparison comparison_with(const Snapshot& last) {
    size_t exemptions = 0;
    for (const auto& [name, set] : last.fence.sets) {
        if (parse_exempt_set_name(name)) exemptions += set.elements.size();
    }
    return last.resumable && exemptions > soon_compared ? Comparison::numbers : Comparison::keys;
}

bool begins_intact(const ByteSource& source, size_t size) {
    try {
        Records(source, size).next([](std::string_view) {});
        return true;
    } catch (const Refused&) {
        return false;
    }
}

std::string record_header(size_t length, const std::string& digest) {
    return fmt::format("record {:020} {}\n", length, digest);
}

std::string record_of(std::string_view body) { return record_header(body.size(), digest_of(body)).append(body); }

std::string revision_line(Revision revision, const std::string& mark) {
    return fmt::format("revision {}{}{}\n", revision, mark.empty() ? "" : " ", mark);
}

std::string opening_line(const Opening& opening) {
    return fmt::format("opened {} {} {} {}\n", to_number(opening.at),
                       opening.kind == Opening::Kind::release ? "release" : "exempt",
                       opening.family == Family::v4 ? 4 : 6, opening.size);
}

}  // namespace smtpfence
