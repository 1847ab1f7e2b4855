#pragma once
// What nf_tables is asked: the table as a fence, single elements, counters. Nothing here changes anything.
//
// Performance: read_table() costs what dumping costs, which the kernel does in quadratic time (0.1 s for 100,000
// elements, seconds for a million); find_element() is two short questions.

#include "rules/kernel.hpp"
#include "rules/netlink_decode.hpp"
#include "rules/netlink_socket.hpp"

namespace smtpfence {

/// nullopt: there is no table of ours.
std::optional<TableState> table_state(NetlinkSocket&);

/// Increases with every commit by anybody.
uint32_t table_generation(NetlinkSocket&);

/// With or without the elements of exemption sets.
enum class Depth { whole, outline };

/// As Kernel::read() or read_outline(), find(), counted() and chain_packets().
Fence read_table(NetlinkSocket&, Depth);
std::optional<std::pair<Key, Held>> find_element(NetlinkSocket&, const std::string& set, const Key& address);
std::vector<Counted> counted_sources(NetlinkSocket&, const std::string& set);
uint64_t counted_packets(NetlinkSocket&, const std::string& chain);

}  // namespace smtpfence
