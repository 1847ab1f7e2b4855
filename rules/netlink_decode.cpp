#include "rules/netlink_decode.hpp"

#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <memory>
#include <new>

#include "rules/layout.hpp"
#include "rules/rule_code.hpp"

namespace smtpfence {

namespace {

uint8_t all_bits(KeyKind kind) { return kind == KeyKind::ipv4 ? 32 : 128; }

std::string name_in(std::string_view attributes, uint16_t type) {
    const auto found = attribute(attributes, type);
    return found ? found->name() : std::string();
}

uint32_t number_in(std::string_view attributes, uint16_t type) {
    const auto found = attribute(attributes, type);
    return found ? found->u32() : 0;
}

std::string_view nested_in(std::string_view attributes, uint16_t type) {
    const auto found = attribute(attributes, type);
    return found ? found->payload : std::string_view();
}

/// The comment in nft's user data: records of type, length, value.
std::string comment_in(std::string_view user_data) {
    while (user_data.size() >= 2) {
        const auto size = static_cast<size_t>(static_cast<uint8_t>(user_data[1]));
        if (user_data.size() < 2 + size) return {};
        const std::string_view value = user_data.substr(2, size);
        if (user_data[0] == 0) return std::string(value.substr(0, value.find('\0')));
        user_data.remove_prefix(2 + size);
    }
    return {};
}

std::optional<KeyKind> key_kind(uint32_t type, uint32_t size) {
    if (type == 7 && size == 4) return KeyKind::ipv4;
    if (type == 8 && size == 16) return KeyKind::ipv6;
    if (type == 41 && size == 16) return KeyKind::interface;
    return std::nullopt;
}

std::optional<Action> action_of(std::string_view verdict) {
    const auto code = static_cast<int32_t>(number_in(verdict, NFTA_VERDICT_CODE));
    if (code == NFT_RETURN) return Action::pass;
    if (code != NFT_GOTO) return std::nullopt;
    const std::string chain = name_in(verdict, NFTA_VERDICT_CHAIN);
    for (const Action action : {Action::drop, Action::reject, Action::observe}) {
        if (chain == action_chain(action)) return action;
    }
    return std::nullopt;
}

/// Packets of a counter expression {NAME, DATA {BYTES, PACKETS}}.
uint64_t counter_packets(std::string_view expression) {
    if (name_in(expression, NFTA_EXPR_NAME) != "counter") return 0;
    const auto packets = attribute(nested_in(expression, NFTA_EXPR_DATA), NFTA_COUNTER_PACKETS);
    return packets ? packets->u64() : 0;
}

DecodedElement decode_element(std::string_view element, KeyKind kind, int64_t now) {
    DecodedElement decoded;
    const std::string_view value = nested_in(nested_in(element, NFTA_SET_ELEM_KEY), NFTA_DATA_VALUE);
    std::copy_n(value.begin(), std::min(value.size(), size_t{all_bits(kind)} / 8), decoded.key.bytes.begin());
    decoded.key.length = all_bits(kind);
    const uint32_t flags = number_in(element, NFTA_SET_ELEM_FLAGS);
    decoded.end = (flags & NFT_SET_ELEM_INTERVAL_END) != 0;
    decoded.all = (flags & NFT_SET_ELEM_CATCHALL) != 0;
    if (const auto left = attribute(element, NFTA_SET_ELEM_EXPIRATION)) {
        const auto bounded = static_cast<int64_t>(std::min(left->u64(), uint64_t{INT64_MAX / 2}));
        decoded.held.until = to_instant((now + bounded + 500) / 1000);
    }
    if (const auto data = attribute(element, NFTA_SET_ELEM_DATA)) {
        decoded.held.action = action_of(nested_in(data->payload, NFTA_DATA_VERDICT));
    }
    decoded.packets = counter_packets(nested_in(element, NFTA_SET_ELEM_EXPR));
    each_attribute(nested_in(element, NFTA_SET_ELEM_EXPRESSIONS),
                   [&](const Attribute& one) { decoded.packets += counter_packets(one.payload); });
    return decoded;
}

bool host_bits_are(const Key& key, unsigned length, unsigned bits, bool one) {
    for (unsigned bit = length; bit < bits; ++bit) {
        if (((key.bytes[bit / 8] >> (7 - bit % 8)) & 1) != (one ? 1 : 0)) return false;
    }
    return true;
}

/// The last key of an interval.
Key last_before(const std::optional<Key>& behind, const Key& like) {
    Key last = like;
    last.bytes.fill(0xff);
    if (!behind) return last;
    last.bytes = behind->bytes;
    for (size_t byte = like.length / 8; byte-- > 0;) {
        if (last.bytes[byte]-- != 0) break;
    }
    return last;
}

}  // namespace

TableState decode_table(const nlmsghdr& message) {
    const std::string_view all = attributes(message);
    return {number_in(all, NFTA_TABLE_FLAGS), number_in(all, NFTA_TABLE_OWNER)};
}

DecodedChain decode_chain(const nlmsghdr& message) {
    const std::string_view all = attributes(message);
    DecodedChain decoded{name_in(all, NFTA_CHAIN_TABLE), name_in(all, NFTA_CHAIN_NAME), {}};
    if (const auto hook = attribute(all, NFTA_CHAIN_HOOK)) {
        Hook& mine = decoded.chain.hook.emplace();
        mine.hook = number_in(hook->payload, NFTA_HOOK_HOOKNUM);
        mine.priority = static_cast<int32_t>(number_in(hook->payload, NFTA_HOOK_PRIORITY));
        mine.drop = number_in(all, NFTA_CHAIN_POLICY) == NF_DROP;
        // A chain of another type is none of ours, whatever its hook.
        if (name_in(all, NFTA_CHAIN_TYPE) != "filter") mine.hook = no_hook;
    }
    return decoded;
}

SetShape foreign_shape() {
    SetShape shape;
    shape.dynamic = true;  // its elements are nobody's business
    shape.size = UINT32_MAX;
    return shape;
}

DecodedSet decode_set(const nlmsghdr& message) {
    const std::string_view all = attributes(message);
    DecodedSet decoded{name_in(all, NFTA_SET_TABLE), name_in(all, NFTA_SET_NAME), false, {}};
    const uint32_t flags = number_in(all, NFTA_SET_FLAGS);
    constexpr uint32_t with_expression = 0x100;  // NFT_SET_EXPR, which the kernel adds by itself
    constexpr uint32_t ours = NFT_SET_INTERVAL | NFT_SET_MAP | NFT_SET_TIMEOUT | NFT_SET_EVAL | with_expression;
    decoded.anonymous = (flags & NFT_SET_ANONYMOUS) != 0;
    const auto kind = key_kind(number_in(all, NFTA_SET_KEY_TYPE), number_in(all, NFTA_SET_KEY_LEN));
    const std::string_view expression = nested_in(all, NFTA_SET_EXPR);
    const bool counts = name_in(expression, NFTA_EXPR_NAME) == "counter";
    const bool dynamic = (flags & NFT_SET_EVAL) != 0;
    const bool verdicts = (flags & NFT_SET_MAP) != 0;
    const bool other_data = verdicts && number_in(all, NFTA_SET_DATA_TYPE) != NFT_DATA_VERDICT;
    if (!kind || (flags & ~ours) != 0 || other_data || counts != dynamic) {
        decoded.shape = foreign_shape();
        return decoded;
    }
    decoded.shape.key = *kind;
    decoded.shape.interval = (flags & NFT_SET_INTERVAL) != 0;
    decoded.shape.verdicts = verdicts;
    decoded.shape.timeouts = (flags & NFT_SET_TIMEOUT) != 0;
    decoded.shape.dynamic = dynamic;
    decoded.shape.size = number_in(nested_in(all, NFTA_SET_DESC), NFTA_SET_DESC_SIZE);
    if (const auto timeout = attribute(all, NFTA_SET_TIMEOUT)) {
        decoded.shape.timeout = Seconds{static_cast<int64_t>(timeout->u64() / 1000)};
    }
    return decoded;
}

DecodedRule decode_rule(const nlmsghdr& message) {
    const std::string_view all = attributes(message);
    DecodedRule decoded{name_in(all, NFTA_RULE_TABLE), name_in(all, NFTA_RULE_CHAIN), {}, 0};
    decoded.rule.comment = comment_in(nested_in(all, NFTA_RULE_USERDATA));
    const OwnedRule rule(nftnl_rule_alloc());
    if (!rule) throw std::bad_alloc();
    if (nftnl_rule_nlmsg_parse(&message, rule.get()) < 0) {
        decoded.rule.code = std::string(nested_in(all, NFTA_RULE_EXPRESSIONS));
        return decoded;
    }
    decoded.packets = counted_packets(*rule);
    decoded.rule.code = canonical_code(*rule);
    return decoded;
}

void decode_elements(const nlmsghdr& message, KeyKind kind, int64_t now, std::vector<DecodedElement>& to) {
    each_attribute(nested_in(attributes(message), NFTA_SET_ELEM_LIST_ELEMENTS),
                   [&](const Attribute& element) { to.push_back(decode_element(element.payload, kind, now)); });
}

std::string element_set(const nlmsghdr& message) { return name_in(attributes(message), NFTA_SET_ELEM_LIST_SET); }

std::optional<Key> interval_key(const Key& first, const std::optional<Key>& behind, KeyKind kind) {
    if (behind && behind->bytes <= first.bytes) return std::nullopt;
    const unsigned bits = all_bits(kind);
    const Key last = last_before(behind, first);
    unsigned length = 0;
    const auto bit_of = [](const Key& key, unsigned bit) { return (key.bytes[bit / 8] >> (7 - bit % 8)) & 1; };
    while (length < bits && bit_of(first, length) == bit_of(last, length)) ++length;
    if (!host_bits_are(first, length, bits, false) || !host_bits_are(last, length, bits, true)) return std::nullopt;
    Key prefix = first;
    prefix.length = static_cast<uint8_t>(length);
    return prefix;
}

std::optional<Elements> join_intervals(std::vector<DecodedElement> elements, KeyKind kind) {
    std::sort(elements.begin(), elements.end(), [](const DecodedElement& a, const DecodedElement& b) {
        return a.key != b.key ? a.key < b.key : a.end && !b.end;
    });
    Elements joined;
    const DecodedElement* open = nullptr;
    const auto close = [&](const std::optional<Key>& behind) {
        const auto key = interval_key(open->key, behind, kind);
        if (key) joined.emplace(*key, open->held);
        open = nullptr;
        return key.has_value();
    };
    for (const DecodedElement& element : elements) {
        if (open && !close(element.key)) return std::nullopt;
        if (!element.end) open = &element;  // an end without a start is nft's mark below the first interval
    }
    if (open && !close(std::nullopt)) return std::nullopt;
    return joined;
}

}  // namespace smtpfence
