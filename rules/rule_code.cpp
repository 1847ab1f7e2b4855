#include "rules/rule_code.hpp"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>

#include <cstring>
#include <functional>
#include <new>

namespace smtpfence {

namespace {

// Where the fields stand: offset in the network or transport header (RFC 791, 8200, 9293).
constexpr uint32_t destination_port = 2, source_port = 0, tcp_flags = 13, ipv4_fragment = 6;
constexpr uint8_t fragment_header = 44;

/// A rule of ours takes less than 1 KiB; a foreign one at most what fits into the kernel's attribute.
constexpr size_t largest_rule = size_t{80} * 1024;

const nlattr* find_attribute(const nlmsghdr* message, uint16_t type) {
    const auto* begin = static_cast<const char*>(mnl_nlmsg_get_payload_offset(message, sizeof(nfgenmsg)));
    const auto* end = static_cast<const char*>(mnl_nlmsg_get_payload_tail(message));
    while (end - begin >= static_cast<ptrdiff_t>(sizeof(nlattr))) {
        const auto* attribute = reinterpret_cast<const nlattr*>(begin);
        if (mnl_attr_get_type(attribute) == type) return attribute;
        begin += MNL_ALIGN(attribute->nla_len);
    }
    return nullptr;
}

std::string expressions_payload(nftnl_rule* rule) {
    std::vector<char> buffer(largest_rule);
    nlmsghdr* message = mnl_nlmsg_put_header(buffer.data());
    mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg));
    nftnl_rule_nlmsg_build_payload(message, rule);
    const nlattr* expressions = find_attribute(message, NFTA_RULE_EXPRESSIONS);
    if (!expressions) return {};
    return {static_cast<const char*>(mnl_attr_get_payload(expressions)), mnl_attr_get_payload_len(expressions)};
}

void each_expression(nftnl_rule& rule, const std::function<void(nftnl_expr&)>& visit) {
    nftnl_expr_foreach(
        &rule,
        [](nftnl_expr* expression, void* data) {
            (*static_cast<const std::function<void(nftnl_expr&)>*>(data))(*expression);
            return 0;
        },
        const_cast<void*>(static_cast<const void*>(&visit)));
}

bool named(const nftnl_expr& expression, const char* name) {
    return std::strcmp(nftnl_expr_get_str(&expression, NFTNL_EXPR_NAME), name) == 0;
}

}  // namespace

RuleDraft::RuleDraft() : rule_(nftnl_rule_alloc()) {
    if (!rule_) throw std::bad_alloc();
}

void FreeRule::operator()(nftnl_rule* rule) const { nftnl_rule_free(rule); }

RuleDraft::~RuleDraft() { nftnl_rule_free(rule_); }

nftnl_expr* RuleDraft::append(const char* name) {
    nftnl_expr* expression = nftnl_expr_alloc(name);
    if (!expression) throw std::bad_alloc();
    nftnl_rule_add_expr(rule_, expression);
    return expression;
}

// [ meta load KEY => reg 1 ]
RuleDraft& RuleDraft::load_meta(uint32_t key) {
    nftnl_expr* meta = append("meta");
    nftnl_expr_set_u32(meta, NFTNL_EXPR_META_KEY, key);
    nftnl_expr_set_u32(meta, NFTNL_EXPR_META_DREG, NFT_REG_1);
    return *this;
}

// [ payload load SIZEb @ BASE header + OFFSET => reg 1 ]
RuleDraft& RuleDraft::load_payload(uint32_t base, uint32_t offset, uint32_t size) {
    nftnl_expr* payload = append("payload");
    nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
    nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_BASE, base);
    nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
    nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_LEN, size);
    return *this;
}

// [ cmp OPERATION reg 1 VALUE ]
RuleDraft& RuleDraft::compare(uint32_t operation, const void* value, uint32_t size) {
    nftnl_expr* cmp = append("cmp");
    nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
    nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_OP, operation);
    nftnl_expr_set(cmp, NFTNL_EXPR_CMP_DATA, value, size);
    return *this;
}

// [ bitwise reg 1 = ( reg 1 & VALUE ) ^ 0 ]
RuleDraft& RuleDraft::mask(const void* value, uint32_t size) {
    const std::array<uint8_t, 16> zero{};
    nftnl_expr* bitwise = append("bitwise");
    nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
    nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
    nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL);
    nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_LEN, size);
    nftnl_expr_set(bitwise, NFTNL_EXPR_BITWISE_MASK, value, size);
    nftnl_expr_set(bitwise, NFTNL_EXPR_BITWISE_XOR, zero.data(), size);
    return *this;
}

// meta l4proto tcp
RuleDraft& RuleDraft::is_tcp(bool yes) {
    const uint8_t tcp = IPPROTO_TCP;
    return load_meta(NFT_META_L4PROTO).compare(yes ? NFT_CMP_EQ : NFT_CMP_NEQ, &tcp, sizeof tcp);
}

// th dport 25; th sport != 25
RuleDraft& RuleDraft::port_is_25(End end, bool yes) {
    const uint16_t port_be = htons(25);
    return load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, end == End::destination ? destination_port : source_port, 2)
        .compare(yes ? NFT_CMP_EQ : NFT_CMP_NEQ, &port_be, sizeof port_be);
}

// tcp dport 25; tcp sport != 25
RuleDraft& RuleDraft::tcp_port_is_25(End end, bool yes) { return is_tcp().port_is_25(end, yes); }

// tcp flags syn / syn,ack
RuleDraft& RuleDraft::opens_connection() {
    const uint8_t syn = 0x02, syn_and_ack = 0x12;
    return load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, tcp_flags, 1).mask(&syn_and_ack, 1).compare(NFT_CMP_EQ, &syn, 1);
}

// ip saddr; ip daddr; ip6 saddr; ip6 daddr
RuleDraft& RuleDraft::address(Family family, End end) {
    const bool v4 = family == Family::v4;
    const uint8_t protocol = v4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
    const uint32_t source = v4 ? 12 : 8, size = v4 ? 4 : 16;
    return load_meta(NFT_META_NFPROTO)
        .compare(NFT_CMP_EQ, &protocol, 1)
        .load_payload(NFT_PAYLOAD_NETWORK_HEADER, end == End::source ? source : source + size, size);
}

// & 255.255.255.0
RuleDraft& RuleDraft::masked(Family family, uint8_t length) {
    if (length == bits(family)) return *this;
    std::array<uint8_t, 16> ones;
    ones.fill(0xff);
    const Prefix value(family, ones, length);  // clears the host bits
    return mask(value.address().data(), bits(family) / 8U);
}

// @nh,32,32 & 0x3fff != 0x0
RuleDraft& RuleDraft::header_word(uint32_t offset, uint32_t bits, uint32_t value, bool equal) {
    const uint32_t bits_be = htonl(bits), value_be = htonl(value);
    return load_payload(NFT_PAYLOAD_NETWORK_HEADER, offset, sizeof bits_be)
        .mask(&bits_be, sizeof bits_be)
        .compare(equal ? NFT_CMP_EQ : NFT_CMP_NEQ, &value_be, sizeof value_be);
}

// ip frag-off & 8191
RuleDraft& RuleDraft::load_fragment_offset() {
    const uint8_t ipv4 = NFPROTO_IPV4;
    const uint16_t offset_be = htons(0x1fff);
    return load_meta(NFT_META_NFPROTO)
        .compare(NFT_CMP_EQ, &ipv4, 1)
        .load_payload(NFT_PAYLOAD_NETWORK_HEADER, ipv4_fragment, 2)
        .mask(&offset_be, 2);
}

// ip frag-off & 8191 != 0
RuleDraft& RuleDraft::fragment() {
    const uint16_t zero = 0;
    return load_fragment_offset().compare(NFT_CMP_NEQ, &zero, 2);
}

// ip frag-off & 8191 > 1; frag frag-off != 0
RuleDraft& RuleDraft::later_fragment(Family family) {
    const uint16_t one_be = htons(1);
    if (family == Family::v4) return load_fragment_offset().compare(NFT_CMP_GT, &one_be, 2);
    const uint8_t ipv6 = NFPROTO_IPV6;
    load_meta(NFT_META_NFPROTO).compare(NFT_CMP_EQ, &ipv6, 1);
    nftnl_expr* header = append("exthdr");
    nftnl_expr_set_u32(header, NFTNL_EXPR_EXTHDR_DREG, NFT_REG_1);
    nftnl_expr_set_u8(header, NFTNL_EXPR_EXTHDR_TYPE, fragment_header);
    nftnl_expr_set_u32(header, NFTNL_EXPR_EXTHDR_OFFSET, 2);
    nftnl_expr_set_u32(header, NFTNL_EXPR_EXTHDR_LEN, 2);
    nftnl_expr_set_u32(header, NFTNL_EXPR_EXTHDR_OP, NFT_EXTHDR_OP_IPV6);
    nftnl_expr_set_u32(header, NFTNL_EXPR_EXTHDR_FLAGS, 0);
    const uint16_t offset_be = htons(0xfff8), zero = 0;
    return mask(&offset_be, 2).compare(NFT_CMP_NEQ, &zero, 2);
}

// fib saddr . iif oif missing
RuleDraft& RuleDraft::not_routed_back() {
    nftnl_expr* fib = append("fib");
    nftnl_expr_set_u32(fib, NFTNL_EXPR_FIB_DREG, NFT_REG_1);
    nftnl_expr_set_u32(fib, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_OIF);
    nftnl_expr_set_u32(fib, NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT);
    const uint32_t missing = 0;
    return compare(NFT_CMP_EQ, &missing, sizeof missing);
}

// iifname; oifname
RuleDraft& RuleDraft::interface(End end) { return load_meta(end == End::source ? NFT_META_IIFNAME : NFT_META_OIFNAME); }

// @set
RuleDraft& RuleDraft::in(const std::string& set) {
    nftnl_expr* lookup = append("lookup");
    nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
    nftnl_expr_set_str(lookup, NFTNL_EXPR_LOOKUP_SET, set.c_str());
    nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_FLAGS, 0);
    return *this;
}

// vmap @map
RuleDraft& RuleDraft::verdict_of(const std::string& map) {
    nftnl_expr* lookup = append("lookup");
    nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
    nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_DREG, NFT_REG_VERDICT);
    nftnl_expr_set_str(lookup, NFTNL_EXPR_LOOKUP_SET, map.c_str());
    nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_FLAGS, 0);
    return *this;
}

// update @set { ... }
RuleDraft& RuleDraft::remember(const std::string& set) {
    nftnl_expr* update = append("dynset");
    nftnl_expr_set_u32(update, NFTNL_EXPR_DYNSET_SREG_KEY, NFT_REG_1);
    nftnl_expr_set_u32(update, NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
    nftnl_expr_set_str(update, NFTNL_EXPR_DYNSET_SET_NAME, set.c_str());
    return *this;
}

// counter
RuleDraft& RuleDraft::counter() {
    nftnl_expr* counter = append("counter");
    nftnl_expr_set_u64(counter, NFTNL_EXPR_CTR_PACKETS, 0);
    nftnl_expr_set_u64(counter, NFTNL_EXPR_CTR_BYTES, 0);
    return *this;
}

// reject with tcp reset
RuleDraft& RuleDraft::reset() {
    nftnl_expr* reject = append("reject");
    nftnl_expr_set_u32(reject, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_TCP_RST);
    return *this;
}

// accept; drop; return; jump outbound; goto inbound
RuleDraft& RuleDraft::verdict(int32_t code, const std::string& chain) {
    nftnl_expr* immediate = append("immediate");
    nftnl_expr_set_u32(immediate, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    nftnl_expr_set_u32(immediate, NFTNL_EXPR_IMM_VERDICT, static_cast<uint32_t>(code));
    if (!chain.empty()) nftnl_expr_set_str(immediate, NFTNL_EXPR_IMM_CHAIN, chain.c_str());
    return *this;
}

Rule RuleDraft::rule(std::string nft, std::string comment) const {
    return {std::move(nft), std::move(comment), canonical_code(*rule_)};
}

std::string canonical_code(nftnl_rule& rule) {
    each_expression(rule, [](nftnl_expr& expression) {
        if (named(expression, "counter")) {
            nftnl_expr_set_u64(&expression, NFTNL_EXPR_CTR_PACKETS, 0);
            nftnl_expr_set_u64(&expression, NFTNL_EXPR_CTR_BYTES, 0);
        } else if (named(expression, "dynset")) {
            // Absent and zero mean the same, and the kernel writes the zeros.
            nftnl_expr_set_u64(&expression, NFTNL_EXPR_DYNSET_TIMEOUT,
                               nftnl_expr_get_u64(&expression, NFTNL_EXPR_DYNSET_TIMEOUT));
            nftnl_expr_set_u32(&expression, NFTNL_EXPR_DYNSET_FLAGS,
                               nftnl_expr_get_u32(&expression, NFTNL_EXPR_DYNSET_FLAGS));
        }
    });
    return expressions_payload(&rule);
}

uint64_t counted_packets(nftnl_rule& rule) {
    uint64_t packets = 0;
    each_expression(rule, [&](nftnl_expr& expression) {
        if (named(expression, "counter")) packets += nftnl_expr_get_u64(&expression, NFTNL_EXPR_CTR_PACKETS);
    });
    return packets;
}

Mentions mentions(const std::string& code) {
    std::vector<char> buffer(code.size() + 64);
    nlmsghdr* message = mnl_nlmsg_put_header(buffer.data());
    mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg));
    mnl_attr_put(message, NLA_F_NESTED | NFTA_RULE_EXPRESSIONS, code.size(), code.data());
    const OwnedRule rule(nftnl_rule_alloc());
    if (!rule) throw std::bad_alloc();
    Mentions found;
    if (nftnl_rule_nlmsg_parse(message, rule.get()) < 0) return found;
    each_expression(*rule, [&](nftnl_expr& expression) {
        const auto take = [&](std::vector<std::string>& to, uint16_t attribute) {
            if (nftnl_expr_is_set(&expression, attribute)) to.emplace_back(nftnl_expr_get_str(&expression, attribute));
        };
        if (named(expression, "lookup")) take(found.sets, NFTNL_EXPR_LOOKUP_SET);
        if (named(expression, "dynset")) take(found.sets, NFTNL_EXPR_DYNSET_SET_NAME);
        if (named(expression, "immediate")) take(found.chains, NFTNL_EXPR_IMM_CHAIN);
    });
    return found;
}

}  // namespace smtpfence
