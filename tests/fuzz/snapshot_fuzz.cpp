// The last good fence's file: as it comes, and as the body of a record whose checksum is right.

#include <fmt/format.h>

#include "controller/digest.hpp"
#include "controller/snapshot.hpp"
#include "property.hpp"

namespace smtpfence {

namespace {

std::string sealed(std::string_view body) {
    Digest digest;
    digest.add(body);
    return fmt::format("smtpfence fence 1\nrecord {:020} {}\n{}", body.size(), digest.text(), body);
}

void read(std::string_view file) {
    std::optional<std::string> complaint;
    const ByteSource source = [rest = file](char* to, size_t count) mutable {
        const size_t copied = rest.copy(to, count);
        rest.remove_prefix(copied);
        return copied;
    };
    const auto snapshot =
        accepted([&] { return parse_snapshot(source, file.size(), to_instant(1'800'000'000), complaint); });
    if (!snapshot) return;
    for (const auto& [name, set] : snapshot->fence.sets) {
        for (const auto& element : set.elements)
            must("no right is over", element.second.until > to_instant(1'800'000'000));
    }
    must("the revision is one", snapshot->revision >= 0);
    for (const Opening& opening : snapshot->openings) must("an opening has a size", opening.size >= 0);
}

}  // namespace

void fuzz(std::string_view input) {
    read(input);
    read(sealed(input));
    read(sealed("at 1\n") + std::string(input));
}

}  // namespace smtpfence
