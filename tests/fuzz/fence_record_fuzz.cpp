// The lines of a fence on disk, and openings as text.

#include "rules/fence_record.hpp"

#include "property.hpp"
#include "rules/widening.hpp"

namespace smtpfence {

namespace {

std::string lines_of(const Fence& fence) {
    std::string lines;
    each_record_line(fence, [&](std::string_view line) { lines += line; });
    return lines;
}

Fence fence_of(std::string_view lines) {
    FenceReader reader;
    reader.read(lines);
    return std::move(reader).fence(to_instant(0));
}

}  // namespace

void fuzz(std::string_view input) {
    if (const auto fence = accepted([&] { return fence_of(input); })) {
        const std::string lines = lines_of(*fence);
        must("the lines of what was read read the same", lines_of(fence_of(lines)) == lines);
    }
    if (const auto opening = accepted([&] { return parse_widening(input); })) {
        must("openings parse back", text(parse_widening(text(*opening))) == text(*opening));
        must("nothing is left of itself", without(*opening, *opening).empty());
    }
}

}  // namespace smtpfence
