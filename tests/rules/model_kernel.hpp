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
    explicit ModelKernel(Instant start);
    ~ModelKernel() override;
    ModelKernel(const ModelKernel&) = delete;
    ModelKernel& operator=(const ModelKernel&) = delete;

    Features features() const override { return offered; }
    void set_clock(std::chrono::milliseconds since_start) override;
    void take() override;
    using Kernel::read;
    Fence read(Fence expected, Comparison) override;
    Fence read_outline() override;
    std::optional<uint32_t> count(const std::string& set) override;
    std::vector<std::optional<Held>> held(const std::string& set, std::span<const Key>) override;
    using Kernel::commit;
    bool commit(const Transaction&, std::optional<uint32_t> generation) override;
    uint32_t generation() override { return generation_; }
    bool owned() const override { return owned_by_us; }
    void listen() override;
    int listener() const override { return listening_ ? bell_ : -1; }
    std::vector<ForeignCommit> foreign_commits() override;
    std::optional<std::pair<Key, Held>> find(const std::string& set, const Key& address) override;
    std::vector<Counted> counted(const std::string& set) override;
    uint64_t chain_packets(const std::string& chain) override;
    bool remove() override;

    // What a test does to it.

    Instant clock;                                                         ///< elements end by it
    std::chrono::milliseconds clock_told() const { return since_start_; }  ///< by set_clock()
    Features offered{true, true, true, true};
    std::string other_owner;    ///< "pid 7 (name)": a living owner that is not us; take() and commit() are refused
    bool owned_by_us = false;   ///< as if the table had our owner flag; the hands below still change it
    bool table_exists = false;  ///< take() creates it
    std::vector<Transaction> commits;             ///< those that succeeded, in order
    std::map<std::string, uint32_t> uncollected;  ///< so many more does it count in a set
    size_t readings = 0;                          ///< how often read() was called
    size_t asked = 0;                             ///< for how many keys held() was called
    std::chrono::milliseconds answers_in{0};      ///< so long does held() take

    /// Another program's commit.
    void meddle(const std::function<void(Fence&)>& change);
    /// The kernel loses an element, and nobody is told.
    void lose(const std::string& set, const Key& key) { table_.sets.at(set).elements.erase(key); }
    /// What is committed until the next listen() isn't heard.
    void deafen() { listening_ = false; }
    /// Another program deletes a set and makes it anew, empty, in one commit.
    void remake(const std::string& set);
    /// Another program's `nft delete table`.
    void flush();
    /// Another program's commit in another table.
    void move_generation() { note_foreign({}); }
    /// Before the next commit of ours, another program's: `change` is done to the table.
    void interfere(std::function<void(Fence&)> change) { interference_ = std::move(change); }
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
    void note_foreign(Touched);
    void drop_table();

    Fence table_;
    std::chrono::milliseconds since_start_;  ///< as set_clock() was told
    uint32_t generation_ = 1;
    std::optional<Failure> failure_;
    std::function<void(Fence&)> interference_;
    int bell_ = -1;  ///< readable while somebody was heard
    bool listening_ = false;
    std::vector<ForeignCommit> heard_;
    std::map<std::string, std::map<Key, uint64_t>> attempts_;
    std::map<std::string, uint64_t> packets_;
};

}  // namespace smtpfence
