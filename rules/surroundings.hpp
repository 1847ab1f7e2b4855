#pragma once
// What stands around the fence in this network namespace, as far as it could take a packet past it: interfaces and what
// they are ports of, flow tables, programs and redirections before the forward hook, label switching. It only asks the
// kernel and changes nothing; what the answers mean is in bypass.hpp.
//
//   for (const std::string& warning : bypasses(read_surroundings(questioner), border.subscriber)) ...
//
// Performance: a few dumps; about 1 ms with ten interfaces, 0.1 s with 20,000.

#include <cstdint>
#include <string>
#include <vector>

namespace smtpfence {

class Questioner;

/// A network interface.
struct Interface {
    uint32_t index = 0;
    std::string name;
    std::string kind;         ///< "bridge", "vlan", "vrf", ...; empty: hardware
    uint32_t master = 0;      ///< index of the interface that this one is a port of; 0: none
    std::string master_kind;  ///< "bridge", "bond", "vrf", "openvswitch", ...; empty: no master
    bool isolated = false;    ///< a bridge port that reaches no other isolated one
    uint32_t below = 0;       ///< index of the interface that carries this one's frames; 0: none that is known here
    bool xdp = false;         ///< a program gets its frames before the kernel's own code
};

/// A flow table of nftables: packets of the sessions in it skip the forward hook.
struct Flowtable {
    std::string table;                 ///< with its family: "inet filter"
    std::string name;                  ///< in the table
    std::vector<std::string> devices;  ///< whose packets it takes; sorted
};

/// Something that may send an interface's frames on before the forward hook.
struct Redirection {
    uint32_t interface = 0;  ///< index; 0: not told
    std::string by;          ///< "tc filter u32", "chain ingress of table netdev early"
    uint32_t target = 0;     ///< index of the interface that gets them; 0: not told
};

struct Surroundings {
    std::vector<Interface> interfaces;  ///< by index
    std::vector<Flowtable> flowtables;  ///< in the kernel's order
    std::vector<Redirection> redirections;
    std::vector<std::string> labelled;  ///< names of interfaces whose MPLS packets are forwarded; sorted
    bool bridged_untagged =
        false;  ///< what a bridge passes on meets the forward hook unless it has a tag (VLAN, PPPoE)
    std::vector<std::string> unasked;  ///< questions that the kernel refused: "flow tables: Operation not permitted"
};

/// Never throws for what the kernel refuses: it is told in `unasked`. Flow tables and chains need CAP_NET_ADMIN.
Surroundings read_surroundings(Questioner&);

/// Whether a flow table takes packets of some device. False also when the kernel refuses to tell.
bool offloads_flows(Questioner&);

}  // namespace smtpfence
