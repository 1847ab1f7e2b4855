#include "rules/netlink_batch.hpp"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "rules/layout.hpp"

namespace smtpfence {

namespace {

// nft's own numbers for types (it writes them, and the kernel only keeps them).
constexpr uint32_t type_ipv4 = 7, type_ipv6 = 8, type_ifname = 41, type_verdict = 0xffffff00;
// nft's records in a set's user data: how to print keys and data.
constexpr uint8_t record_key_order = 0, record_data_order = 1;
constexpr uint32_t host_order = 1, network_order = 2, no_order = 0;

constexpr size_t longest_list = 60'000;  // of the 65,535 bytes that an attribute holds
constexpr size_t longest_element = 128;  // with its verdict and its interval's end

uint32_t key_type(KeyKind kind) {
    switch (kind) {
        case KeyKind::ipv4:
            return type_ipv4;
        case KeyKind::ipv6:
            return type_ipv6;
        case KeyKind::interface:
            break;
    }
    return type_ifname;
}

uint32_t key_size(KeyKind kind) { return kind == KeyKind::ipv4 ? 4 : 16; }

std::string_view key_bytes(const Key& key, KeyKind kind) {
    return {reinterpret_cast<const char*>(key.bytes.data()), key_size(kind)};
}

/// A record of nft's user data: type, length, value.
void append_record(std::string& data, uint8_t type, std::string_view value) {
    data += static_cast<char>(type);
    data += static_cast<char>(value.size());
    data += value;
}

std::string number_record(uint32_t number) {  // in the machine's own order, as nft does
    return {reinterpret_cast<const char*>(&number), sizeof number};
}

std::string comment_record(const std::string& comment) {
    std::string data;
    append_record(data, 0, std::string_view(comment.c_str(), comment.size() + 1));
    return data;
}

uint32_t set_flags(const SetShape& shape) {
    uint32_t flags = 0;
    if (shape.interval) flags |= NFT_SET_INTERVAL;
    if (shape.verdicts) flags |= NFT_SET_MAP;
    if (shape.timeouts) flags |= NFT_SET_TIMEOUT;
    if (shape.dynamic) flags |= NFT_SET_EVAL;
    return flags;
}

/// The first key behind the prefix; nullopt: it reaches to the last one.
std::optional<Key> key_behind(const Key& key, KeyKind kind) {
    Key behind = key;
    behind.length = static_cast<uint8_t>(8 * key_size(kind));
    if (key.length == 0) return std::nullopt;
    size_t byte = (key.length - 1U) / 8;
    unsigned step = 0x80U >> ((key.length - 1U) % 8);
    while (true) {
        const unsigned sum = behind.bytes[byte] + step;
        behind.bytes[byte] = static_cast<uint8_t>(sum);
        if (sum <= 0xff) return behind;
        if (byte == 0) return std::nullopt;
        --byte;
        step = 1;
    }
}

// : goto consumer_drop
void put_verdict(MessageWriter& messages, Action action) {
    const size_t data = messages.nest(NFTA_SET_ELEM_DATA), verdict = messages.nest(NFTA_DATA_VERDICT);
    const std::string chain = action_chain(action);
    messages.put_u32(NFTA_VERDICT_CODE, static_cast<uint32_t>(chain.empty() ? NFT_RETURN : NFT_GOTO));
    if (!chain.empty()) messages.put_name(NFTA_VERDICT_CHAIN, chain);
    messages.end_nest(verdict);
    messages.end_nest(data);
}

uint64_t timeout_milliseconds(Instant until, int64_t now) {
    // Zero would mean: for ever.
    return static_cast<uint64_t>(std::max<int64_t>(1, to_number(until) * 1000 - now));
}

SetShape shape_for(const std::string& set) {
    if (const auto shape = shape_of(set)) return *shape;
    throw KernelError(ENOENT, "set " + set,
                      "set " + set + " is none of smtpfence's, so that its elements are not either");
}

}  // namespace

void put_key(MessageWriter& messages, const Key& key, KeyKind kind) {
    const size_t nested = messages.nest(NFTA_SET_ELEM_KEY);
    messages.put(NFTA_DATA_VALUE, key_bytes(key, kind));
    messages.end_nest(nested);
}

NetlinkBatch::NetlinkBatch(const Features& features, uint32_t sequence, int64_t now, std::optional<uint32_t> generation)
    : features_(features), first_(sequence), next_(sequence), now_(now) {
    messages_.begin_plain(NFNL_MSG_BATCH_BEGIN, 0, next_++, htons(NFNL_SUBSYS_NFTABLES), NFPROTO_UNSPEC);
    if (generation) messages_.put_u32(NFNL_BATCH_GENID, *generation);
    parts_.push_back({"transaction", 0, {}, 0});
}

void NetlinkBatch::begin(uint16_t type, uint16_t flags, std::string object) {
    messages_.begin(type, flags, next_++);
    const std::optional<size_t> operation = elements_.empty() ? std::nullopt : std::optional(elements_.size() - 1);
    parts_.push_back({std::move(object), messages_.message_start(), operation, 0});
}

void NetlinkBatch::put_table(uint16_t type) { messages_.put_name(type, table_name); }

// add table inet smtpfence { flags owner,persist; comment "…" }
void NetlinkBatch::create_table(const std::string& name, uint32_t flags) {
    begin(NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_ACK, "table " + name);
    messages_.put_name(NFTA_TABLE_NAME, name);
    messages_.put_u32(NFTA_TABLE_FLAGS, flags);
    messages_.put(NFTA_TABLE_USERDATA, comment_record(table_comment));
}

// delete table inet smtpfence
void NetlinkBatch::delete_table(const std::string& name) {
    begin(NFT_MSG_DELTABLE, NLM_F_ACK, "table " + name);
    messages_.put_name(NFTA_TABLE_NAME, name);
}

// add set inet smtpfence exempt4_32 { type ipv4_addr; size 4096; flags timeout; }
void NetlinkBatch::create_set(const std::string& table, const std::string& name, const SetShape& shape) {
    begin(NFT_MSG_NEWSET, NLM_F_CREATE, "set " + name);
    messages_.put_name(NFTA_SET_TABLE, table);
    messages_.put_name(NFTA_SET_NAME, name);
    messages_.put_u32(NFTA_SET_FLAGS, set_flags(shape));
    messages_.put_u32(NFTA_SET_KEY_TYPE, key_type(shape.key));
    messages_.put_u32(NFTA_SET_KEY_LEN, key_size(shape.key));
    std::string user_data;
    append_record(user_data, record_key_order,
                  number_record(shape.key == KeyKind::interface ? host_order : network_order));
    if (shape.verdicts) {
        messages_.put_u32(NFTA_SET_DATA_TYPE, type_verdict);
        messages_.put_u32(NFTA_SET_DATA_LEN, 0);
        append_record(user_data, record_data_order, number_record(no_order));
    }
    messages_.put_u32(NFTA_SET_ID, ++set_id_);
    if (shape.size != 0) {
        const size_t description = messages_.nest(NFTA_SET_DESC);
        messages_.put_u32(NFTA_SET_DESC_SIZE, shape.size);
        messages_.end_nest(description);
    }
    if (shape.timeout != Seconds{0}) {
        messages_.put_u64(NFTA_SET_TIMEOUT, static_cast<uint64_t>(shape.timeout.count()) * 1000);
    }
    if (const Seconds every = collected_every(shape); every != collected_by_default)
        messages_.put_u32(NFTA_SET_GC_INTERVAL, static_cast<uint32_t>(every.count()) * 1000);
    messages_.put(NFTA_SET_USERDATA, user_data);
    if (shape.dynamic) {
        const size_t expression = messages_.nest(NFTA_SET_EXPR);
        messages_.put_name(NFTA_EXPR_NAME, "counter");
        messages_.end_nest(messages_.nest(NFTA_EXPR_DATA));
        messages_.end_nest(expression);
    }
}

// destroy element inet … { 0.0.0.0 }
void NetlinkBatch::destroy_nothing(const std::string& table, const std::string& set) {
    begin(destroy_element_message, NLM_F_ACK, "element of set " + set);
    messages_.put_name(NFTA_SET_ELEM_LIST_TABLE, table);
    messages_.put_name(NFTA_SET_ELEM_LIST_SET, set);
    const size_t list = messages_.nest(NFTA_SET_ELEM_LIST_ELEMENTS), element = messages_.nest(NFTA_LIST_ELEM);
    put_key(messages_, Key{}, KeyKind::ipv4);
    messages_.end_nest(element);
    messages_.end_nest(list);
}

void NetlinkBatch::add(const Operation& operation) {
    elements_.push_back(nullptr);
    sets_.emplace_back();
    std::visit([this](const auto& one) { write(one); }, operation);
}

void NetlinkBatch::write(const AddSet& add) { create_set(table_name, add.name, add.shape); }

// add chain inet smtpfence border { type filter hook forward priority filter - 10; policy accept; }
void NetlinkBatch::write(const AddChain& add) {
    begin(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "chain " + add.name);
    put_table(NFTA_CHAIN_TABLE);
    messages_.put_name(NFTA_CHAIN_NAME, add.name);
    if (!add.hook) return;
    messages_.put_name(NFTA_CHAIN_TYPE, "filter");
    messages_.put_u32(NFTA_CHAIN_POLICY, add.hook->drop ? NF_DROP : NF_ACCEPT);
    const size_t hook = messages_.nest(NFTA_CHAIN_HOOK);
    messages_.put_u32(NFTA_HOOK_HOOKNUM, add.hook->hook);
    messages_.put_u32(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(add.hook->priority));
    messages_.end_nest(hook);
}

// add element inet smtpfence exempt4_32 { 100.64.7.7 timeout 30d, … }
void NetlinkBatch::write(const AddElements& add) { elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, add.set, add.elements); }

// destroy element inet smtpfence exempt4_32 { 100.64.7.7, … }
void NetlinkBatch::write(const DeleteElements& remove) {
    elements(features_.destroy_element ? destroy_element_message : uint16_t{NFT_MSG_DELSETELEM}, 0, remove.set,
             remove.elements);
}

void NetlinkBatch::elements(uint16_t type, uint16_t flags, const std::string& set, const ElementList& all) {
    const SetShape shape = shape_for(set);
    elements_.back() = &all;
    sets_.back() = set;
    const bool adding = type == NFT_MSG_NEWSETELEM;
    size_t list = 0;
    const auto start = [&](size_t index) {
        begin(type, flags, "set " + set);
        parts_.back().first_element = index;
        put_table(NFTA_SET_ELEM_LIST_TABLE);
        messages_.put_name(NFTA_SET_ELEM_LIST_SET, set);
        list = messages_.nest(NFTA_SET_ELEM_LIST_ELEMENTS);
    };
    messages_.reserve(messages_.size() + all.size() * longest_element);  // growing would hold it twice
    for (size_t i = 0; i < all.size(); ++i) {
        const auto& [key, held] = all[i];
        if (i == 0) start(i);
        if (messages_.size() - list > longest_list) {
            messages_.end_nest(list);
            start(i);
        }
        const size_t element = messages_.nest(NFTA_LIST_ELEM);
        put_key(messages_, key, shape.key);
        if (adding && held.until != never)
            messages_.put_u64(NFTA_SET_ELEM_TIMEOUT, timeout_milliseconds(held.until, now_));
        if (adding && held.action) put_verdict(messages_, *held.action);
        messages_.end_nest(element);
        if (!shape.interval) continue;
        // The end stands right behind its start; newer kernels pair them by position.
        if (const auto behind = key_behind(key, shape.key)) {
            const size_t closing = messages_.nest(NFTA_LIST_ELEM);
            put_key(messages_, *behind, shape.key);
            messages_.put_u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
            messages_.end_nest(closing);
        }
    }
    if (!all.empty()) messages_.end_nest(list);
}

// flush chain inet smtpfence outbound; add rule inet smtpfence outbound …
void NetlinkBatch::write(const ReplaceRules& replace) {
    begin(NFT_MSG_DELRULE, 0, "rules of chain " + replace.chain);
    put_table(NFTA_RULE_TABLE);
    messages_.put_name(NFTA_RULE_CHAIN, replace.chain);
    for (const Rule& rule : replace.rules) {
        begin(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, "rule \"" + rule.nft + "\" of chain " + replace.chain);
        put_table(NFTA_RULE_TABLE);
        messages_.put_name(NFTA_RULE_CHAIN, replace.chain);
        messages_.put(NLA_F_NESTED | NFTA_RULE_EXPRESSIONS, rule.code);
        if (!rule.comment.empty()) messages_.put(NFTA_RULE_USERDATA, comment_record(rule.comment));
    }
}

// delete chain inet smtpfence outbound
void NetlinkBatch::write(const DeleteChain& remove) {
    begin(NFT_MSG_DELCHAIN, 0, "chain " + remove.name);
    put_table(NFTA_CHAIN_TABLE);
    messages_.put_name(NFTA_CHAIN_NAME, remove.name);
}

// delete set inet smtpfence exempt4_32
void NetlinkBatch::write(const DeleteSet& remove) {
    begin(NFT_MSG_DELSET, 0, "set " + remove.name);
    put_table(NFTA_SET_TABLE);
    messages_.put_name(NFTA_SET_NAME, remove.name);
}

void NetlinkBatch::end() {
    // Older kernels don't acknowledge the end: there the last message tells that all were taken.
    if (!features_.ack_on_end) messages_.add_flags(NLM_F_ACK);
    messages_.begin_plain(NFNL_MSG_BATCH_END, NLM_F_ACK, next_++, htons(NFNL_SUBSYS_NFTABLES), NFPROTO_UNSPEC);
    parts_.push_back({"transaction", messages_.message_start(), {}, 0});
}

/// The kernel tells where in the message the refused element begins; ends of intervals count with their start.
size_t NetlinkBatch::element_at(const Part& part, uint32_t offset) const {
    const auto& message = *reinterpret_cast<const nlmsghdr*>(messages_.bytes().data() + part.start);
    size_t index = part.first_element;
    bool first = true;
    const auto list = attribute(attributes(message), NFTA_SET_ELEM_LIST_ELEMENTS);
    each_attribute(list ? list->payload : std::string_view(), [&](const Attribute& element) {
        const auto begins =
            static_cast<size_t>(element.payload.data() - reinterpret_cast<const char*>(&message)) - sizeof(nlattr);
        if (begins > offset) return;
        if (!first && !attribute(element.payload, NFTA_SET_ELEM_FLAGS)) ++index;
        first = false;
    });
    return index;
}

NetlinkBatch::Subject NetlinkBatch::subject(uint32_t sequence, uint32_t offset) const {
    if (sequence < first_ || sequence - first_ >= parts_.size()) return {"transaction", {}, {}};
    const Part& part = parts_[sequence - first_];
    Subject subject{part.object, part.operation, {}};
    if (!part.operation || !elements_[*part.operation]) return subject;
    // An offset before the elements is the set's name: the set is missing.
    const auto& message = *reinterpret_cast<const nlmsghdr*>(messages_.bytes().data() + part.start);
    const auto list = attribute(attributes(message), NFTA_SET_ELEM_LIST_ELEMENTS);
    if (!list || reinterpret_cast<const char*>(&message) + offset < list->payload.data()) return subject;
    const auto& elements = *elements_[*part.operation];
    subject.element = std::min(element_at(part, offset), elements.size() - 1);
    const std::string& set = sets_[*part.operation];
    subject.object = "element " + text(elements[*subject.element].first, shape_for(set).key) + " of set " + set;
    return subject;
}

}  // namespace smtpfence
