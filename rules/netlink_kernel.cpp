#include "rules/netlink_kernel.hpp"

#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <thread>

#include "rules/layout.hpp"
#include "rules/netlink_batch.hpp"

namespace smtpfence {

namespace {

constexpr int most_readings = 40;  // while other programs keep committing, or a set is being resized
constexpr std::chrono::milliseconds reading_pause{50};
constexpr uint16_t set_count = 20;  // NFTA_SET_COUNT: younger than Linux 6.12, absent before

/// The reason, and what to do about it.
std::string explanation(int code) {
    switch (code) {
        case EPERM:
            return "permission denied; run as root (CAP_NET_ADMIN is needed)";
        case ENOENT:
            return "it does not exist: something else changed the table; compare and apply again";
        case EEXIST:
            return "it exists and differs: something else changed the table; compare and apply again";
        case EBUSY:
            return "it is still in use: something else changed the table; compare and apply again";
        case ENFILE:
            return "the set is full; applying everything again replaces it by a larger one";
        case ENOMEM:
            return "the kernel is out of memory (a container's limit counts too); free some and apply again";
        case EMSGSIZE:
            return "the message is too large for the kernel; apply fewer changes at once";
        case EOPNOTSUPP:
            return "this kernel does not support it; load the module nf_tables, or use Linux 6.1 or newer";
        case EAGAIN:
        case EINTR:
        case ENOBUFS:
            return std::string(std::strerror(code)) + "; apply again";
        default:
            return std::string(std::strerror(code)) + " (error " + std::to_string(code) + ")";
    }
}

KernelError error_about(int code, const std::string& object) {
    return {code, object, object + ": " + explanation(code)};
}

MessageWriter request(uint16_t type, uint16_t flags, uint32_t sequence) {
    MessageWriter message;
    message.begin(type, flags, sequence);
    return message;
}

/// Deleted by a transaction on a kernel that has no message for "delete, if it is there".
void drop_element(Transaction& transaction, size_t operation, size_t element) {
    auto& elements = std::get<DeleteElements>(transaction.operations[operation]).elements;
    elements.erase(elements.begin() + static_cast<ptrdiff_t>(element));
}

}  // namespace

std::unique_ptr<Kernel> open_kernel() { return std::make_unique<NetlinkKernel>(); }

std::string text(const Features& features) {
    const auto line = [](const char* what, bool has) { return std::string(what) + ": " + (has ? "yes" : "no") + "\n"; };
    return line("owner and persist flags", features.persist) + line("tolerant delete", features.destroy_element) +
           line("acknowledged end of a transaction", features.ack_on_end);
}

NetlinkKernel::NetlinkKernel(const Features& wanted) {
    const Features found = probe();
    features_.persist = found.persist && wanted.persist;
    features_.destroy_element = found.destroy_element && wanted.destroy_element;
    features_.ack_on_end = found.ack_on_end && wanted.ack_on_end;
}

/// Two transactions that change nothing: one without its end, which is checked and thrown away, and an empty one.
Features NetlinkKernel::probe() {
    SetShape shape;
    NetlinkBatch dry({}, socket_.next_sequence());
    dry.create_table("smtpfence_probe_flags", table_owner | table_persist);
    const uint32_t flags = dry.last_sequence();
    dry.create_table("smtpfence_probe", 0);
    const uint32_t plain = dry.last_sequence();
    dry.create_set("smtpfence_probe", "set", shape);
    dry.destroy_nothing("smtpfence_probe", "set");
    const uint32_t destroy = dry.last_sequence();
    Features found;
    const std::vector<Reply> replies = socket_.batch(dry.bytes());
    for (const Reply& reply : replies) {
        if (reply.sequence == flags) found.persist = reply.error == 0;
        if (reply.sequence == destroy) found.destroy_element = reply.error == 0;
        const bool refused = reply.sequence == dry.first_sequence() || reply.sequence == plain;
        if (refused && reply.error != 0) throw error_about(reply.error, "nf_tables");
    }
    if (replies.empty()) throw error_about(EOPNOTSUPP, "nf_tables");
    NetlinkBatch empty({true, true, true}, dry.last_sequence() + 1);
    empty.end();
    for (const Reply& reply : socket_.batch(empty.bytes())) {
        if (reply.sequence == empty.last_sequence()) found.ack_on_end = reply.error == 0;
    }
    socket_.skip_sequences(empty.last_sequence());
    return found;
}

std::optional<TableState> NetlinkKernel::table() {
    MessageWriter message = request(NFT_MSG_GETTABLE, NLM_F_ACK, socket_.next_sequence());
    message.put_name(NFTA_TABLE_NAME, table_name);
    std::optional<TableState> state;
    const int code = socket_.ask(message.bytes(), [&](const nlmsghdr& part) { state = decode_table(part); });
    if (code != 0 && code != ENOENT) throw error_about(code, std::string("table ") + table_name);
    return state;
}

std::string NetlinkKernel::owner_words() {
    const auto state = table();
    if (!state || state->owner == 0 || state->owner == socket_.port()) return "";
    // A socket's port is its process's id, unless the process has several.
    const std::string number = std::to_string(state->owner);
    std::ifstream file("/proc/" + number + "/comm");
    std::string name;
    if (!std::getline(file, name)) return "the socket with netlink port " + number;
    return "process " + number + " (" + name + ")";
}

void NetlinkKernel::take() {
    const auto state = table();
    if (state && state->owner == socket_.port()) return;
    // A table that was made without the flags can't gain them; it stays as it is rather than be missing for a moment.
    const bool flags = features_.persist && (!state || (state->flags & table_persist) != 0 || state->owner != 0);
    if (state && state->owner == 0 && !flags) return;
    NetlinkBatch batch(features_, socket_.next_sequence());
    batch.create_table(table_name, flags ? table_owner | table_persist : 0);
    batch.end();
    if (const auto refusals = attempt(batch); !refusals.empty()) fail(refusals.front());
}

void NetlinkKernel::commit(const Transaction& given) {
    std::optional<Transaction> reduced;  // a copy only when something must be left out
    while (true) {
        const Transaction& transaction = reduced ? *reduced : given;
        NetlinkBatch batch(features_, socket_.next_sequence());
        for (const Operation& operation : transaction.operations) batch.add(operation);
        if (batch.first_sequence() == batch.last_sequence()) return;  // nothing but the beginning
        batch.end();
        const auto refusals = attempt(batch);
        if (refusals.empty()) return;
        const bool all_gone = std::all_of(refusals.begin(), refusals.end(), [&](const Refusal& refusal) {
            return refusal.reply.error == ENOENT && refusal.element &&
                   std::holds_alternative<DeleteElements>(transaction.operations[*refusal.operation]);
        });
        if (!all_gone) fail(refusals.front());
        if (!reduced) reduced = given;
        for (auto refusal = refusals.rbegin(); refusal != refusals.rend(); ++refusal) {
            drop_element(*reduced, *refusal->operation, *refusal->element);
        }
    }
}

std::vector<NetlinkKernel::Refusal> NetlinkKernel::attempt(NetlinkBatch& batch) {
    socket_.skip_sequences(batch.last_sequence());
    std::vector<Refusal> refusals;
    bool acknowledged = false;
    for (const Reply& reply : socket_.batch(batch.bytes())) {
        if (reply.error == 0) {
            const uint32_t last = batch.last_sequence();
            acknowledged = acknowledged || reply.sequence == (features_.ack_on_end ? last : last - 1);
            continue;
        }
        const NetlinkBatch::Subject subject = batch.subject(reply.sequence, reply.offset);
        refusals.push_back({reply, subject.object, subject.operation, subject.element});
    }
    if (refusals.empty() && !acknowledged) {
        refusals.push_back({{batch.first_sequence(), EIO, 0}, "transaction", {}, {}});
    }
    return refusals;
}

void NetlinkKernel::fail(const Refusal& refusal) {
    const int code = refusal.reply.error;
    if (code == EPERM) {
        const std::string owner = owner_words(), table = std::string("table ") + table_name;
        if (!owner.empty()) throw KernelError(EPERM, table, table + " belongs to " + owner + "; stop it first");
    }
    if (code == ENOENT && !table()) {
        const std::string table = std::string("table ") + table_name;
        throw KernelError(ENOENT, table, table + " is gone: something else deleted it; apply again");
    }
    throw error_about(code, refusal.object);
}

Fence NetlinkKernel::read() {
    for (int reading = 0; reading < most_readings; ++reading) {
        const uint32_t before = generation();
        auto fence = read_once();
        if (fence && generation() == before) {
            name_rules(*fence);
            return std::move(*fence);
        }
    }
    throw KernelError(EAGAIN, "table smtpfence",
                      "the table can't be read: other programs commit to nftables all the time; try again later");
}

std::optional<Fence> NetlinkKernel::read_once() {
    Fence fence;
    if (!table()) return fence;
    bool consistent = true;
    const auto dump = [&](uint16_t type, uint16_t table_attribute, const NetlinkSocket::Each& each) {
        MessageWriter message = request(type, NLM_F_DUMP, socket_.next_sequence());
        message.put_name(table_attribute, table_name);
        consistent = socket_.dump(message.bytes(), each, ENOENT) && consistent;
    };
    dump(NFT_MSG_GETCHAIN, NFTA_CHAIN_TABLE, [&](const nlmsghdr& part) {
        DecodedChain decoded = decode_chain(part);
        if (decoded.table == table_name) fence.chains[decoded.name] = std::move(decoded.chain);
    });
    dump(NFT_MSG_GETRULE, NFTA_RULE_TABLE, [&](const nlmsghdr& part) {
        DecodedRule decoded = decode_rule(part);
        if (decoded.table == table_name) fence.chains[decoded.chain].rules.push_back(std::move(decoded.rule));
    });
    dump(NFT_MSG_GETSET, NFTA_SET_TABLE, [&](const nlmsghdr& part) {
        const DecodedSet decoded = decode_set(part);
        if (decoded.table == table_name && !decoded.anonymous) fence.sets[decoded.name].shape = decoded.shape;
    });
    for (auto& [name, set] : fence.sets) consistent = read_elements(name, set) && consistent;
    if (!consistent) return std::nullopt;
    return fence;
}

NetlinkKernel::Dumped NetlinkKernel::dump_elements(const std::string& set, KeyKind kind) {
    MessageWriter message = request(NFT_MSG_GETSETELEM, NLM_F_DUMP, socket_.next_sequence());
    message.put_name(NFTA_SET_ELEM_LIST_TABLE, table_name);
    message.put_name(NFTA_SET_ELEM_LIST_SET, set);
    Dumped dumped;
    const auto take = [&](const nlmsghdr& part) {
        if (part.nlmsg_type == NLMSG_DONE) return;
        ++dumped.parts;
        decode_elements(part, kind, milliseconds_now(), dumped.elements);
    };
    dumped.consistent = socket_.dump(message.bytes(), take, ENOENT);
    return dumped;
}

std::optional<uint32_t> NetlinkKernel::element_count(const std::string& set) {
    MessageWriter message = request(NFT_MSG_GETSET, NLM_F_ACK, socket_.next_sequence());
    message.put_name(NFTA_SET_TABLE, table_name);
    message.put_name(NFTA_SET_NAME, set);
    std::optional<uint32_t> count;
    socket_.ask(message.bytes(), [&](const nlmsghdr& part) {
        if (const auto found = attribute(attributes(part), set_count)) count = found->u32();
    });
    return count;
}

bool NetlinkKernel::read_elements(const std::string& name, Set& set) {
    if (set.shape.dynamic) return true;
    if (!set.shape.interval) return read_hash(name, set);
    Dumped dumped = dump_elements(name, set.shape.key);
    if (auto joined = join_intervals(std::move(dumped.elements), set.shape.key)) {
        set.elements = std::move(*joined);
    } else {
        set.shape = foreign_shape();  // somebody put a range into it that no prefix of ours can be
    }
    return dumped.consistent;
}

/// A hash set is dumped in pieces, each of which walks the table from its beginning and skips as many elements as were
/// told before. When the table is resized or an element ends in between, some are told twice and others never, and the
/// kernel says nothing. So a reading counts only when nothing came twice and the number is right; where the kernel
/// tells no number, or counts elements that have ended, two readings must agree.
bool NetlinkKernel::read_hash(const std::string& name, Set& set) {
    const auto exempt = parse_exempt_set_name(name);
    std::optional<std::map<Key, Held>> before;
    for (int reading = 0; reading < most_readings; ++reading) {
        const Dumped dumped = dump_elements(name, set.shape.key);
        std::map<Key, Held> elements;
        for (DecodedElement element : dumped.elements) {
            if (exempt) element.key.length = exempt->length;
            elements.emplace(element.key, element.held);
        }
        const bool twice = elements.size() != dumped.elements.size();
        const auto same_key = [](const auto& a, const auto& b) { return a.first == b.first; };
        const bool whole =
            dumped.parts <= 1 || element_count(name) == elements.size() ||
            (before && std::equal(before->begin(), before->end(), elements.begin(), elements.end(), same_key));
        if (!twice && whole) {
            set.elements = std::move(elements);
            return dumped.consistent;
        }
        before = twice ? std::nullopt : std::make_optional(std::move(elements));
        std::this_thread::sleep_for(reading_pause);
    }
    throw KernelError(EAGAIN, "set " + name,
                      "set " + name + " can't be read: it changes all the time; try again later");
}

uint32_t NetlinkKernel::generation() {
    uint32_t number = 0;
    const MessageWriter message = request(NFT_MSG_GETGEN, NLM_F_ACK, socket_.next_sequence());
    const int code = socket_.ask(message.bytes(), [&](const nlmsghdr& part) {
        if (const auto found = attribute(attributes(part), NFTA_GEN_ID)) number = found->u32();
    });
    if (code != 0) throw error_about(code, "nf_tables");
    return number;
}

std::optional<DecodedElement> NetlinkKernel::find_element(const std::string& set, KeyKind kind, const Key& key,
                                                          bool end) {
    MessageWriter message = request(NFT_MSG_GETSETELEM, NLM_F_ACK, socket_.next_sequence());
    message.put_name(NFTA_SET_ELEM_LIST_TABLE, table_name);
    message.put_name(NFTA_SET_ELEM_LIST_SET, set);
    const size_t list = message.nest(NFTA_SET_ELEM_LIST_ELEMENTS), element = message.nest(NFTA_LIST_ELEM);
    const size_t nested = message.nest(NFTA_SET_ELEM_KEY);
    message.put(NFTA_DATA_VALUE, {reinterpret_cast<const char*>(key.bytes.data()), kind == KeyKind::ipv4 ? 4U : 16U});
    message.end_nest(nested);
    if (end) message.put_u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
    message.end_nest(element);
    message.end_nest(list);
    std::vector<DecodedElement> found;
    const int code = socket_.ask(message.bytes(),
                                 [&](const nlmsghdr& part) { decode_elements(part, kind, milliseconds_now(), found); });
    if (code != 0 && code != ENOENT) throw error_about(code, "element of set " + set);
    if (found.empty() || code != 0) return std::nullopt;
    return found.front();
}

/// Where two intervals touch, the end of one and the start of the other have the same key, and kernels differ in which
/// they answer. Behind the start of an interval and before its end there is no doubt.
std::optional<Key> NetlinkKernel::interval_end(const std::string& set, KeyKind kind, const Key& inside,
                                               const Key& start) {
    Key within = inside;
    if (inside == start) {
        size_t byte = inside.length / 8U;
        while (byte > 0 && ++within.bytes[byte - 1] == 0) --byte;
        if (byte == 0) return std::nullopt;
        const auto next = find_element(set, kind, within, false);
        if (!next || next->key != start) return within;
    }
    const auto end = find_element(set, kind, within, true);
    return end ? std::optional(end->key) : std::nullopt;
}

std::optional<std::pair<Key, Held>> NetlinkKernel::find(const std::string& set, const Key& address) {
    const auto shape = shape_of(set);
    if (!shape) return std::nullopt;
    Key key = address;
    key.length = shape->key == KeyKind::ipv4 ? 32 : 128;
    const auto start = find_element(set, shape->key, key, false);
    if (!start) return std::nullopt;
    if (!shape->interval) {
        return start->key.bytes == address.bytes ? std::optional(std::pair(address, start->held)) : std::nullopt;
    }
    const auto found_end = interval_end(set, shape->key, key, start->key);
    const auto found = interval_key(start->key, found_end, shape->key);
    if (!found || !covers(*found, key)) return std::nullopt;
    return std::pair(*found, start->held);
}

std::vector<Counted> NetlinkKernel::counted(const std::string& set) {
    const auto shape = shape_of(set);
    if (!shape) return {};
    // Sources come and go while they are read: one more or less is no error, but none counts twice.
    std::map<Key, uint64_t> packets;
    for (const DecodedElement& element : dump_elements(set, shape->key).elements)
        packets[element.key] = element.packets;
    std::vector<Counted> result;
    for (const auto& [key, count] : packets) result.push_back({key, count});
    return result;
}

uint64_t NetlinkKernel::chain_packets(const std::string& chain) {
    MessageWriter message = request(NFT_MSG_GETRULE, NLM_F_DUMP, socket_.next_sequence());
    message.put_name(NFTA_RULE_TABLE, table_name);
    message.put_name(NFTA_RULE_CHAIN, chain);
    uint64_t packets = 0;
    socket_.dump(
        message.bytes(),
        [&](const nlmsghdr& part) {
            const DecodedRule decoded = decode_rule(part);
            if (decoded.table == table_name && decoded.chain == chain) packets += decoded.packets;
        },
        ENOENT);
    return packets;
}

bool NetlinkKernel::remove() {
    if (!table()) return false;
    NetlinkBatch batch(features_, socket_.next_sequence());
    batch.delete_table(table_name);
    batch.end();
    if (const auto refusals = attempt(batch); !refusals.empty()) fail(refusals.front());
    return true;
}

}  // namespace smtpfence
