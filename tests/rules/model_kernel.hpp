#pragma once
// A model of the kernel for tests of everything above the boundary: it copies the table, performs all of a transaction,
// swaps, and fails as the kernel fails. The contract tests (kernel_test.cpp) hold it to the real one.
//
//   ModelKernel kernel(start);
//   kernel.take();
//   kernel.fail_commit(2, ENOMEM);            // the one after the next two
//   kernel.meddle([](Fence& table) { table.sets["relay4"].elements.clear(); });

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "rules/kernel.hpp"

namespace smtpfence {

class ModelKernel : public Kernel {
public:
    explicit ModelKernel(Instant start) : clock(start) {}

    Features features() const override { return offered; }
    void take() override;
    Fence read() override;
    void commit(const Transaction&) override;
    uint32_t generation() override { return generation_; }
    std::optional<std::pair<Key, Held>> find(const std::string& set, const Key& address) override;
    std::vector<Counted> counted(const std::string& set) override;
    uint64_t chain_packets(const std::string& chain) override;
    bool remove() override;

    // What a test does to it.

    Instant clock;  ///< elements end by it
    Features offered{true, true, true};
    std::string other_owner;    ///< "pid 7 (name)": a living owner that is not us; take() and commit() are refused
    bool table_exists = false;  ///< take() creates it
    std::vector<Transaction> commits;  ///< those that succeeded, in order
    size_t readings = 0;               ///< how often read() was called

    /// Another program's commit.
    void meddle(const std::function<void(Fence&)>& change);
    /// Another program's `nft delete table`.
    void flush();
    /// Another program's commit in another table.
    void move_generation() { ++generation_; }
    /// The commit after `more` further ones fails once with `code`.
    void fail_commit(size_t more, int code) { failure_ = Failure{more, code}; }
    /// The packet path: `packets` connection attempts of a source.
    void attempt(const std::string& set, const Key& source, uint64_t packets);
    void count(const std::string& chain, uint64_t packets) { packets_[chain] += packets; }

private:
    struct Failure {
        size_t more;
        int code;
    };

    void forget_ended(Fence&) const;

    Fence table_;
    uint32_t generation_ = 1;
    std::optional<Failure> failure_;
    std::map<std::string, std::map<Key, uint64_t>> attempts_;
    std::map<std::string, uint64_t> packets_;
};

}  // namespace smtpfence
