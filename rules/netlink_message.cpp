#include "rules/netlink_message.hpp"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>

namespace smtpfence {

void MessageWriter::begin(uint16_t type, uint16_t flags, uint32_t sequence) {
    begin_plain(static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | type), flags, sequence, 0, NFPROTO_INET);
}

void MessageWriter::begin_plain(uint16_t type, uint16_t flags, uint32_t sequence, uint16_t resource_be,
                                uint8_t family) {
    message_ = bytes_.size();
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(flags | NLM_F_REQUEST);
    header.nlmsg_seq = sequence;
    append(&header, sizeof header);
    nfgenmsg generic{};
    generic.nfgen_family = family;
    generic.version = NFNETLINK_V0;
    generic.res_id = resource_be;
    append(&generic, sizeof generic);
    close_message();
}

void MessageWriter::add_flags(uint16_t flags) {
    nlmsghdr header;
    std::memcpy(&header, bytes_.data() + message_, sizeof header);
    header.nlmsg_flags |= flags;
    std::memcpy(bytes_.data() + message_, &header, sizeof header);
}

void MessageWriter::put(uint16_t type, std::string_view payload) {
    nlattr header{};
    header.nla_len = static_cast<uint16_t>(sizeof header + payload.size());
    header.nla_type = type;
    const size_t start = bytes_.size();
    bytes_.resize(NLMSG_ALIGN(start + sizeof header + payload.size()));
    std::memcpy(bytes_.data() + start, &header, sizeof header);
    payload.copy(bytes_.data() + start + sizeof header, payload.size());
    close_message();
}

void MessageWriter::put_u32(uint16_t type, uint32_t number) {
    const uint32_t number_be = htobe32(number);
    put(type, {reinterpret_cast<const char*>(&number_be), sizeof number_be});
}

void MessageWriter::put_u64(uint16_t type, uint64_t number) {
    const uint64_t number_be = htobe64(number);
    put(type, {reinterpret_cast<const char*>(&number_be), sizeof number_be});
}

void MessageWriter::put_name(uint16_t type, const std::string& name) {
    put(type, std::string_view(name.c_str(), name.size() + 1));
}

size_t MessageWriter::nest(uint16_t type) {
    const size_t start = bytes_.size();
    put(static_cast<uint16_t>(type | NLA_F_NESTED), {});
    return start;
}

void MessageWriter::end_nest(size_t start) {
    const auto size = static_cast<uint16_t>(bytes_.size() - start);
    std::memcpy(bytes_.data() + start + offsetof(nlattr, nla_len), &size, sizeof size);
}

void MessageWriter::close_message() {
    const auto size = static_cast<uint32_t>(bytes_.size() - message_);
    std::memcpy(bytes_.data() + message_ + offsetof(nlmsghdr, nlmsg_len), &size, sizeof size);
}

uint32_t Attribute::u32() const {
    uint32_t number_be = 0;
    if (payload.size() >= sizeof number_be) std::memcpy(&number_be, payload.data(), sizeof number_be);
    return ntohl(number_be);
}

uint64_t Attribute::u64() const {
    if (payload.size() < sizeof(uint64_t)) return 0;
    const Attribute low{type, payload.substr(4)};
    return uint64_t{u32()} << 32 | low.u32();
}

std::string Attribute::name() const { return std::string(payload.substr(0, payload.find('\0'))); }

std::optional<Attribute> attribute(std::string_view bytes, uint16_t type) {
    std::optional<Attribute> found;
    each_attribute(bytes, [&](const Attribute& candidate) {
        if (!found && candidate.type == type) found = candidate;
    });
    return found;
}

std::string_view attributes(const nlmsghdr& message) {
    constexpr size_t headers = sizeof(nlmsghdr) + sizeof(nfgenmsg);
    if (message.nlmsg_len < headers) return {};
    return std::string_view(reinterpret_cast<const char*>(&message) + headers, message.nlmsg_len - headers);
}

}  // namespace smtpfence
