#include "rules/netlink_commits.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <utility>

#include "rules/layout.hpp"
#include "rules/netlink_decode.hpp"

namespace smtpfence {

namespace {

constexpr uint16_t new_generation = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN;

bool is_ours(const nlmsghdr& message) {
    // Every object names its table in the same attribute.
    const auto table = attribute(attributes(message), NFTA_TABLE_NAME);
    const auto& family = *reinterpret_cast<const nfgenmsg*>(NLMSG_DATA(&message));
    return family.nfgen_family == NFPROTO_INET && table && table->name() == table_name;
}

void touch_elements(Touched& touched, const nlmsghdr& message) {
    const std::string set = element_set(message);
    const auto exempt = parse_exempt_set_name(set);
    if (!exempt) {
        const auto shape = shape_of(set);
        touched.outline = touched.outline || !shape || !shape->dynamic;
        return;
    }
    std::vector<DecodedElement> elements;
    decode_elements(message, exempt_shape(*exempt).key, 0, elements);
    for (DecodedElement& element : elements) {
        touched.outline = touched.outline || element.all;
        if (element.all) continue;
        element.key.length = exempt->length;
        touched.exemptions[set].push_back(element.key);
    }
}

void touch_set(Touched& touched, const nlmsghdr& message) {
    const auto name = attribute(attributes(message), NFTA_SET_NAME);
    if (name && parse_exempt_set_name(name->name())) touched.remade.insert(name->name());
    touched.outline = true;
}

void touch(Touched& touched, const nlmsghdr& message) {
    if (!is_ours(message)) return;
    switch (message.nlmsg_type & 0xff) {
        case NFT_MSG_NEWSETELEM:
        case NFT_MSG_DELSETELEM:
            touch_elements(touched, message);
            break;
        case NFT_MSG_NEWSET:
        case NFT_MSG_DELSET:
            touch_set(touched, message);
            break;
        default:
            touched.outline = true;
    }
}

ForeignCommit decode_end(const nlmsghdr& message) {
    ForeignCommit commit;
    const std::string_view told = attributes(message);
    if (const auto number = attribute(told, NFTA_GEN_ID)) commit.generation = number->u32();
    if (const auto pid = attribute(told, NFTA_GEN_PROC_PID)) commit.pid = pid->u32();
    if (const auto name = attribute(told, NFTA_GEN_PROC_NAME)) commit.program = name->name();
    return commit;
}

}  // namespace

void CommitReader::read(std::string_view datagram) {
    while (datagram.size() >= NLMSG_LENGTH(sizeof(nfgenmsg))) {
        const auto& message = *reinterpret_cast<const nlmsghdr*>(datagram.data());
        if (message.nlmsg_len < NLMSG_LENGTH(sizeof(nfgenmsg)) || message.nlmsg_len > datagram.size()) break;
        if (message.nlmsg_type == new_generation) {
            commits_.push_back(decode_end(message));
            commits_.back().touched = std::exchange(touched_, {});
        } else {
            touch(touched_, message);
        }
        datagram.remove_prefix(std::min(datagram.size(), size_t{NLMSG_ALIGN(message.nlmsg_len)}));
    }
}

void CommitReader::lost() {
    touched_ = {};
    touched_.everything = true;
    commits_.emplace_back().touched = touched_;
}

std::vector<ForeignCommit> CommitReader::taken() { return std::exchange(commits_, {}); }

}  // namespace smtpfence
