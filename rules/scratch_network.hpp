#pragma once
// A router with nothing around it but this process: a network namespace whose interfaces end in descriptors here (TUN
// devices), so that packets go in and come out without a wire, an address or a neighbour. Nothing of the machine's own
// network is touched, and nothing outlives the process, however it ends.
//
//   ScratchNetwork network({"bng0", "up0"});
//   network.route(line, "bng0");                          // and the server to up0
//   auto left = network.send(packet, sentinel, "bng0", "up0");
//
// Threads: the thread that made it is in the namespace until the object ends, and what it opens meanwhile (a Kernel)
// belongs there; use it from no other. Needs CAP_SYS_ADMIN and CAP_NET_ADMIN, the kernel's TUN
// device (its node is made for a moment where /dev has none) and a writable /proc/sys.

#include <map>
#include <string>
#include <vector>

#include "subscribers/prefix.hpp"

namespace smtpfence {

class ScratchNetwork {
public:
    /// `interfaces`: their names, unique. Throws KernelError: EPERM without the rights.
    explicit ScratchNetwork(const std::vector<std::string>& interfaces);
    ~ScratchNetwork();
    ScratchNetwork(const ScratchNetwork&) = delete;
    ScratchNetwork& operator=(const ScratchNetwork&) = delete;

    /// Whether this kernel routes the family at all.
    bool carries(Family) const;

    /// From now on the prefix is reached by that interface, and no other.
    void route(const Prefix&, const std::string& interface);

    /// What left the router, by interface and in order.
    using Left = std::map<std::string, std::vector<std::string>>;

    /// Lets a packet come in by interface `in`, with `sentinel` behind it, which must leave by `out` whatever the rules
    /// are; what left until then is all that came of the packet. Throws KernelError when the sentinel gets lost.
    Left send(const std::string& packet, const std::string& sentinel, const std::string& in, const std::string& out);

private:
    struct Interface {
        int descriptor = -1;
        unsigned index = 0;
    };

    void close_all();
    void connect(const std::string& name);
    void drain(const std::string& name, Left& into);

    int outside_ = -1;  ///< the namespace that the thread came from
    int control_ = -1;  ///< a socket for interface requests
    int routes_ = -1;   ///< a route netlink socket
    uint32_t sequence_ = 0;
    std::map<std::string, Interface> interfaces_;
    bool v6_ = false;
};

}  // namespace smtpfence
