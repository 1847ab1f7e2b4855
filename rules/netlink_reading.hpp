#pragma once
// What nf_tables is asked: the table as a fence, single elements, counters. Nothing here changes anything.
//
// Performance: asking for elements by key takes 1 us each; a dump takes the kernel quadratic time (0.1 s for 100,000
// elements, most of a minute for a million with ends). find_element() is two short questions.

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

/// As Kernel::read() or read_outline(), count(), held(), find(), counted() and chain_packets().
/// `counting`: by the kernel's numbers of elements, where it tells them.
Fence read_table(NetlinkSocket&, Depth, bool counting, Fence expected, Comparison);
struct ElementCount {
    bool is_set = false;               ///< there is such a set
    std::optional<uint32_t> elements;  ///< as far as it is told
};
ElementCount element_count(NetlinkSocket&, const std::string& set);
std::vector<std::optional<Held>> held_elements(NetlinkSocket&, const std::string& set, std::span<const Key>);
std::optional<std::pair<Key, Held>> find_element(NetlinkSocket&, const std::string& set, const Key& address);
std::vector<Counted> counted_sources(NetlinkSocket&, const std::string& set);
uint64_t counted_packets(NetlinkSocket&, const std::string& chain);

}  // namespace smtpfence
