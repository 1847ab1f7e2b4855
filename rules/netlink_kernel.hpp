#pragma once
// The real kernel: nf_tables of this network namespace, over one netlink socket.
//
// Threads: none; one object belongs to one thread. Performance: a transaction is one system call to send and one or two
// to receive; find() is two short ones; read() costs what dumping costs, which the kernel does in quadratic time (0.1 s
// for 100,000 elements, seconds for a million). Everything needs CAP_NET_ADMIN.

#include "rules/kernel.hpp"
#include "rules/netlink_decode.hpp"
#include "rules/netlink_socket.hpp"

namespace smtpfence {

class NetlinkBatch;

class NetlinkKernel : public Kernel {
public:
    /// Uses at most the features in `wanted`: with fewer it does what it has to do on an older kernel.
    explicit NetlinkKernel(const Features& wanted = {true, true, true});

    Features features() const override { return features_; }
    void take() override;
    Fence read() override;
    void commit(const Transaction&) override;
    uint32_t generation() override;
    std::optional<std::pair<Key, Held>> find(const std::string& set, const Key& address) override;
    std::vector<Counted> counted(const std::string& set) override;
    uint64_t chain_packets(const std::string& chain) override;
    bool remove() override;

private:
    struct Refusal {
        Reply reply;
        std::string object;
        std::optional<size_t> operation, element;
    };

    struct Dumped {
        std::vector<DecodedElement> elements;
        size_t parts = 0;  ///< messages
        bool consistent = true;
    };

    Features probe();
    std::optional<TableState> table();
    std::optional<Fence> read_once();
    bool read_elements(const std::string& set, Set& into);
    bool read_hash(const std::string& set, Set& into);
    Dumped dump_elements(const std::string& set, KeyKind);
    /// How many the kernel counts; nullopt: it does not tell.
    std::optional<uint32_t> element_count(const std::string& set);
    std::optional<DecodedElement> find_element(const std::string& set, KeyKind, const Key&, bool end);
    /// The first key behind the interval that holds `inside`; nullopt: it reaches to the last key.
    std::optional<Key> interval_end(const std::string& set, KeyKind, const Key& inside, const Key& start);
    /// Sends the batch, which has its end. Empty: it was committed.
    std::vector<Refusal> attempt(NetlinkBatch&);
    [[noreturn]] void fail(const Refusal&);
    std::string owner_words();

    NetlinkSocket socket_;
    Features features_;
};

}  // namespace smtpfence
