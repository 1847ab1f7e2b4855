#pragma once
// The real kernel: nf_tables of this network namespace, over one netlink socket.
//
// Threads: none; one object belongs to one thread. Performance: a transaction is one system call to send and one or two
// to receive; reading is in netlink_reading.hpp. Everything needs CAP_NET_ADMIN.

#include "rules/kernel.hpp"
#include "rules/netlink_reading.hpp"
#include "rules/netlink_watch.hpp"

namespace smtpfence {

class NetlinkBatch;

class NetlinkKernel : public Kernel {
public:
    /// Uses at most the features in `wanted`: with fewer it does what it has to do on an older kernel.
    explicit NetlinkKernel(const Features& wanted = {true, true, true, true});

    Features features() const override { return features_; }
    void set_clock(std::chrono::milliseconds since_start) override { socket_.set_clock(since_start); }
    void take() override;
    using Kernel::read;
    Fence read(Fence expected, Comparison comparison) override {
        return read(Depth::whole, std::move(expected), comparison);
    }
    Fence read_outline() override { return read(Depth::outline, {}, Comparison::keys); }
    std::optional<uint32_t> count(const std::string& set) override;
    std::vector<std::optional<Held>> held(const std::string& set, std::span<const Key> keys) override {
        return held_elements(socket_, set, keys);
    }
    using Kernel::commit;
    bool commit(const Transaction&, std::optional<uint32_t> generation) override;
    uint32_t generation() override { return table_generation(socket_); }
    bool owned() const override { return owned_; }
    void listen() override;
    int listener() const override { return watch_.descriptor(); }
    std::vector<ForeignCommit> foreign_commits() override;
    std::optional<std::pair<Key, Held>> find(const std::string& set, const Key& address) override {
        return find_element(socket_, set, address);
    }
    std::vector<Counted> counted(const std::string& set) override { return counted_sources(socket_, set); }
    uint64_t chain_packets(const std::string& chain) override { return counted_packets(socket_, chain); }
    bool remove() override;

private:
    struct Refusal {
        Reply reply;
        std::string object;
        std::optional<size_t> operation, element;
    };

    Features probe();
    NetlinkBatch new_batch(std::optional<uint32_t> generation = {});
    Fence read(Depth, Fence expected, Comparison);
    /// Sends the batch, which has its end. Empty: it was committed.
    std::vector<Refusal> attempt(NetlinkBatch&);
    void drop_missing(DeleteElements&);
    [[noreturn]] void fail(const Refusal&);
    std::string owner_words();

    NetlinkSocket socket_;
    NetlinkWatch watch_;
    Features features_;
    bool counting_ = true;  ///< unless it shall do as an older kernel
    bool owned_ = false;
};

}  // namespace smtpfence
