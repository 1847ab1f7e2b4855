#include "rules/netlink_socket.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <catch2/catch.hpp>
#include <stdexcept>

#include "rules/netlink_message.hpp"
#include "rules/network.hpp"
#include "rules/question.hpp"

using namespace smtpfence;

namespace {

constexpr size_t many = 10'000;  // more than the kernel tells at once

void make_set() {
    std::string script = "table inet t { set s { type ipv4_addr; elements = { 10.255.255.255";
    for (size_t i = 1; i < many; ++i) script += ", 10.0." + std::to_string(i / 250) + "." + std::to_string(i % 250);
    nft({"-f", "-"}, script + " }; }; }");
}

size_t elements(NetlinkSocket& socket, size_t most) {
    MessageWriter message;
    message.begin(NFT_MSG_GETSETELEM, NLM_F_DUMP, socket.next_sequence());
    message.put_name(NFTA_SET_ELEM_LIST_TABLE, "t");
    message.put_name(NFTA_SET_ELEM_LIST_SET, "s");
    size_t count = 0;
    socket.dump(message.bytes(), [&](const nlmsghdr& part) {
        each_attribute(in(behind(part, sizeof(nfgenmsg)), NFTA_SET_ELEM_LIST_ELEMENTS),
                       [&](const Attribute&) { ++count; });
        if (count > most) throw std::length_error("more than wanted");
    });
    return count;
}

}  // namespace

TEST_CASE("netlink_socket: an answer that nobody read to its end is no obstacle to the next ones") {
    const FreshNetwork network;
    make_set();
    NetlinkSocket socket;
    for (int attempt = 0; attempt < 2; ++attempt) {
        CHECK_THROWS_AS(elements(socket, 1), std::length_error);
        CHECK(elements(socket, many) == many);
    }
}
