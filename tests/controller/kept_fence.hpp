#pragma once
// A directory with the last good fence of a small router, for tests of its file.

#include <fstream>

#include "controller/last_good.hpp"
#include "rules/scenario.hpp"
#include "subscribers/scratch.hpp"

namespace smtpfence::kept_fence {

inline const Instant settled = test_time();

struct State {
    ScratchFolder scratch;
    std::filesystem::path directory = scratch.file("state");
    std::filesystem::path file = directory / "fence", before = directory / "fence.previous";
    std::vector<std::string> complaints;

    std::optional<Snapshot> read(Instant now = settled) {
        complaints.clear();
        return read_last_good(directory, now, complaints);
    }
    std::string complaint() const { return complaints.empty() ? "" : complaints.front(); }
};

inline Fence small_fence() { return compile(small_policy(settled), small_border(), {}); }

inline Transaction taking(const char* address) {
    return {{DeleteElements{"exempt4_32", {{to_key(Prefix::parse(address)), {}}}}}};
}
inline Transaction giving(const char* address) {
    return {{AddElements{"exempt4_32", {{to_key(Prefix::parse(address)), {}}}}}};
}

inline bool exempt(const Snapshot& snapshot, const char* address) {
    return snapshot.fence.sets.at("exempt4_32").elements.contains(to_key(Prefix::parse(address)));
}

inline std::string bytes_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// One pass of a process that ends then.
inline void keep_in(const std::filesystem::path& directory, const Fence& fence, Revision revision,
                    Instant at = settled) {
    LastGood file(directory);
    file.settle(fence, {}, revision, "", at);
    file.synchronise();
}

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

}  // namespace smtpfence::kept_fence
