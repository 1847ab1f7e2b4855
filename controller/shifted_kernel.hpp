#pragma once
// The kernel as it looks by another clock than the machine's. It counts down, so when a right ends there doesn't depend
// on any clock; but the numbers of seconds are reckoned from and to the machine's, which may be held for wrong
// (trusted_clock.hpp).

#include <memory>

#include "rules/kernel.hpp"

namespace smtpfence {

class ShiftedKernel : public Kernel {
public:
    explicit ShiftedKernel(std::unique_ptr<Kernel> kernel) : kernel_(std::move(kernel)) {}

    /// By how much the machine's clock is ahead of the one that every `until` here is by.
    void set_ahead(Seconds ahead) { ahead_ = ahead; }

    Features features() const override { return kernel_->features(); }
    void take() override { kernel_->take(); }
    using Kernel::read;
    Fence read(Fence expected) override;
    Fence read_outline() override;
    std::optional<uint32_t> count(const std::string& set) override { return kernel_->count(set); }
    std::vector<std::optional<Held>> held(const std::string& set, std::span<const Key>) override;
    using Kernel::commit;
    void commit(const Transaction&, std::optional<uint32_t> generation) override;
    uint32_t generation() override { return kernel_->generation(); }
    bool owned() const override { return kernel_->owned(); }
    void listen() override { kernel_->listen(); }
    int listener() const override { return kernel_->listener(); }
    std::vector<ForeignCommit> foreign_commits() override { return kernel_->foreign_commits(); }
    std::optional<std::pair<Key, Held>> find(const std::string& set, const Key& address) override;
    std::vector<Counted> counted(const std::string& set) override { return kernel_->counted(set); }
    uint64_t chain_packets(const std::string& chain) override { return kernel_->chain_packets(chain); }
    bool remove() override { return kernel_->remove(); }

private:
    std::unique_ptr<Kernel> kernel_;
    Seconds ahead_{};
};

}  // namespace smtpfence
