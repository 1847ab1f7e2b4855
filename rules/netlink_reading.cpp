#include "rules/netlink_reading.hpp"

#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <thread>

#include "rules/layout.hpp"
#include "rules/netlink_batch.hpp"
#include "rules/netlink_error.hpp"

namespace smtpfence {

namespace {

constexpr int most_readings = 40;  // while other programs keep committing, or a set is being resized
constexpr std::chrono::milliseconds reading_pause{50};
constexpr size_t asked_at_once = 200;  // what the answers' buffer holds even where it can't be made larger
constexpr uint16_t set_count = 20;     // NFTA_SET_COUNT: younger than Linux 6.12, absent before

MessageWriter request(uint16_t type, uint16_t flags, uint32_t sequence) {
    MessageWriter message;
    message.begin(type, flags, sequence);
    return message;
}

struct Dump {
    size_t elements = 0;
    size_t parts = 0;  ///< messages with elements
    bool consistent = true;
};

/// Set missing: no elements.
Dump dump_elements(NetlinkSocket& socket, const std::string& set, KeyKind kind,
                   const std::function<void(const DecodedElement&)>& each) {
    MessageWriter message = request(NFT_MSG_GETSETELEM, NLM_F_DUMP, socket.next_sequence());
    message.put_name(NFTA_SET_ELEM_LIST_TABLE, table_name);
    message.put_name(NFTA_SET_ELEM_LIST_SET, set);
    Dump dump;
    std::vector<DecodedElement> decoded;
    const auto take = [&](const nlmsghdr& part) {
        if (part.nlmsg_type == NLMSG_DONE) return;
        decoded.clear();
        decode_elements(part, kind, socket.milliseconds_now(), decoded);
        std::for_each(decoded.begin(), decoded.end(), each);
        dump.elements += decoded.size();
        if (!decoded.empty()) ++dump.parts;  // the kernel ends every dump with an empty one
    };
    dump.consistent = socket.dump(message.bytes(), take, ENOENT);
    return dump;
}

bool read_intervals(NetlinkSocket& socket, const std::string& name, Set& set) {
    std::vector<DecodedElement> bounds;
    const Dump dump =
        dump_elements(socket, name, set.shape.key, [&](const DecodedElement& element) { bounds.push_back(element); });
    const bool all = std::any_of(bounds.begin(), bounds.end(), [](const DecodedElement& bound) { return bound.all; });
    auto joined = all ? std::nullopt : join_intervals(std::move(bounds), set.shape.key);
    if (joined) {
        set.elements = std::move(*joined);
    } else {
        set.shape = foreign_shape();  // somebody put a catch-all into it, or a range that no prefix of ours can be
    }
    return dump.consistent;
}

/// Whether the set has `elements` elements. What has ended is counted until the kernel collects it: `ended` more are no
/// difference.
bool counts(NetlinkSocket& socket, const std::string& name, size_t elements, size_t ended) {
    const auto counted = element_count(socket, name).elements;
    return counted && *counted >= elements && *counted - elements <= ended;
}

/// Whether two readings tell the same keys, those aside that end until `lately`: a large set takes so long to read that
/// something may end in each.
bool agree(const Elements& one, const Elements& other, Instant lately) {
    auto a = one.begin(), b = other.begin();
    const auto pass_over = [&](auto& element, const Elements& all) {
        while (element != all.end() && element->second.until <= lately) ++element;
        return element != all.end();
    };
    for (;; ++a, ++b) {
        const bool more = pass_over(a, one);
        if (pass_over(b, other) != more) return false;
        if (!more) return true;
        if (a->first != b->first) return false;
    }
}

/// A hash set is dumped in pieces, each of which walks the table from its beginning and skips as many elements as were
/// told before. When the table is resized or an element ends in between, some are told twice and others never, and the
/// kernel says nothing. So a reading counts only when nothing came twice and the number is right; where the kernel
/// tells no number, or counts elements that have ended, two readings must agree.
bool dump_hash(NetlinkSocket& socket, const std::string& name, bool counting, Set& set) {
    const auto exempt = parse_exempt_set_name(name);
    std::optional<Elements> before;
    for (int reading = 0; reading < most_readings; ++reading) {
        Elements elements;
        const Dump dump = dump_elements(socket, name, set.shape.key, [&](const DecodedElement& element) {
            Key key = element.key;
            if (exempt) key.length = exempt->length;
            elements.emplace(key, element.held);
        });
        const bool twice = elements.size() != dump.elements;
        const Instant lately = to_instant(socket.milliseconds_now() / 1000) + ending;
        const bool whole = dump.parts <= 1 || (counting && counts(socket, name, elements.size(), set.ended.size())) ||
                           (before && agree(*before, elements, lately));
        if (!twice && whole) {
            set.elements = std::move(elements);
            return dump.consistent;
        }
        before = twice ? std::nullopt : std::make_optional(std::move(elements));
        std::this_thread::sleep_for(reading_pause);
    }
    throw KernelError(EAGAIN, "set " + name,
                      "set " + name + " can't be read: it changes all the time; try again later");
}

/// The elements with these keys, in their order, up to the first one that is not there. `missing`: there is one.
std::vector<DecodedElement> elements_at(NetlinkSocket& socket, const std::string& set, KeyKind kind,
                                        std::span<const Key> keys, bool& missing) {
    MessageWriter message = request(NFT_MSG_GETSETELEM, NLM_F_ACK, socket.next_sequence());
    message.put_name(NFTA_SET_ELEM_LIST_TABLE, table_name);
    message.put_name(NFTA_SET_ELEM_LIST_SET, set);
    const size_t list = message.nest(NFTA_SET_ELEM_LIST_ELEMENTS);
    for (const Key& key : keys) {
        const size_t element = message.nest(NFTA_LIST_ELEM);
        put_key(message, key, kind);
        message.end_nest(element);
    }
    message.end_nest(list);
    std::vector<DecodedElement> found;
    const int64_t time = socket.milliseconds_now();
    const int code =
        socket.ask(message.bytes(), [&](const nlmsghdr& part) { decode_elements(part, kind, time, found); });
    if (code != 0 && code != ENOENT) throw error_about(code, "elements of set " + set);
    missing = code == ENOENT;
    return found;
}

/// Leaves in `elements` what is there, as it is. Returns what is not.
Elements take_out_missing(NetlinkSocket& socket, const std::string& name, Elements& elements) {
    Elements missing;
    std::vector<Key> keys;
    for (auto element = elements.begin(); element != elements.end();) {
        keys.clear();
        for (auto next = element; next != elements.end() && keys.size() < asked_at_once; ++next)
            keys.push_back(next->first);
        for (const std::optional<Held>& held : held_elements(socket, name, keys)) {
            if (held) {
                element->second = *held;
                ++element;
            } else {
                missing.insert(*element);
                element = elements.erase(element);
            }
        }
    }
    return missing;
}

/// Leaves in `expected` what is there, as it is. False: the set has more than that, or is not told to have no more.
bool confirm(NetlinkSocket& socket, const std::string& name, Comparison comparison, Set& expected) {
    if (expected.elements.empty() || !element_count(socket, name).elements) return false;
    Elements ended = take_out_missing(socket, name, expected.ended);
    expected.elements.merge(expected.ended);  // what should have ended and did not
    expected.ended.merge(ended);              // into what ended and was given again since: both may be counted
    const auto agrees = [&] { return counts(socket, name, expected.elements.size(), expected.ended.size()); };
    if (comparison == Comparison::numbers && agrees()) return true;
    expected.ended.merge(take_out_missing(socket, name, expected.elements));
    forget_collected(expected, to_instant(socket.milliseconds_now() / 1000));
    return agrees();
}

/// `expected`: what another reading, or a commit, says of this set.
bool read_hash(NetlinkSocket& socket, const std::string& name, bool counting, Set expected, Comparison comparison,
               Set& set) {
    expected.shape = set.shape;
    retire_ended(expected, to_instant(socket.milliseconds_now() / 1000));
    const bool confirmed = counting && confirm(socket, name, comparison, expected);
    set.ended = std::move(expected.ended);
    if (!confirmed) return dump_hash(socket, name, counting, set);
    set.elements = std::move(expected.elements);
    return true;
}

/// Taken out of `expected`, from whichever of its sets holds that kind.
Set expected_set(Fence& expected, const std::string& name) {
    const auto kind = parse_exempt_set_name(name);
    for (auto& [other, set] : expected.sets) {
        const auto exempt = parse_exempt_set_name(other);
        if (!kind || !exempt || exempt->family != kind->family || exempt->length != kind->length) continue;
        if (!set.elements.empty() || !set.ended.empty()) return std::move(set);
    }
    return {};
}

bool read_elements(NetlinkSocket& socket, const std::string& name, bool counting, Fence& expected,
                   Comparison comparison, Set& set) {
    if (set.shape.dynamic) return true;
    if (set.shape.interval) return read_intervals(socket, name, set);
    return read_hash(socket, name, counting, expected_set(expected, name), comparison, set);
}

/// One element, or the catch-all (no `key`). nullopt: there is none.
std::optional<DecodedElement> one_element(NetlinkSocket& socket, const std::string& set, KeyKind kind, const Key* key,
                                          uint32_t flags = 0) {
    MessageWriter message = request(NFT_MSG_GETSETELEM, NLM_F_ACK, socket.next_sequence());
    message.put_name(NFTA_SET_ELEM_LIST_TABLE, table_name);
    message.put_name(NFTA_SET_ELEM_LIST_SET, set);
    const size_t list = message.nest(NFTA_SET_ELEM_LIST_ELEMENTS), element = message.nest(NFTA_LIST_ELEM);
    if (key) put_key(message, *key, kind);
    if (flags != 0) message.put_u32(NFTA_SET_ELEM_FLAGS, flags);
    message.end_nest(element);
    message.end_nest(list);
    std::vector<DecodedElement> found;
    const int code = socket.ask(
        message.bytes(), [&](const nlmsghdr& part) { decode_elements(part, kind, socket.milliseconds_now(), found); });
    const bool unknown = !key && (code == EINVAL || code == EOPNOTSUPP);  // before Linux 5.13 there are no catch-alls
    if (code != 0 && code != ENOENT && !unknown) throw error_about(code, "element of set " + set);
    if (found.empty() || code != 0) return std::nullopt;
    return found.front();
}

/// False: what it read may be torn.
bool read_once(NetlinkSocket& socket, Depth depth, bool counting, Fence& expected, Comparison comparison,
               Fence& fence) {
    fence = {};
    const auto state = table_state(socket);
    if (!state) return true;
    bool consistent = true;
    const auto dump = [&](uint16_t type, uint16_t table_attribute, const NetlinkSocket::Each& each) {
        MessageWriter message = request(type, NLM_F_DUMP, socket.next_sequence());
        message.put_name(table_attribute, table_name);
        consistent = socket.dump(message.bytes(), each, ENOENT) && consistent;
    };
    dump(NFT_MSG_GETCHAIN, NFTA_CHAIN_TABLE, [&](const nlmsghdr& part) {
        DecodedChain decoded = decode_chain(part);
        if (decoded.table != table_name) return;
        // No packet comes by a dormant table, whatever its chains' hooks.
        if (state->dormant() && decoded.chain.hook) decoded.chain.hook->hook = no_hook;
        fence.chains[decoded.name] = std::move(decoded.chain);
    });
    dump(NFT_MSG_GETRULE, NFTA_RULE_TABLE, [&](const nlmsghdr& part) {
        DecodedRule decoded = decode_rule(part);
        if (decoded.table == table_name) fence.chains[decoded.chain].rules.push_back(std::move(decoded.rule));
    });
    dump(NFT_MSG_GETSET, NFTA_SET_TABLE, [&](const nlmsghdr& part) {
        const DecodedSet decoded = decode_set(part);
        if (decoded.table == table_name && !decoded.anonymous) fence.sets[decoded.name].shape = decoded.shape;
    });
    for (auto& [name, set] : fence.sets) {
        const bool exempts = parse_exempt_set_name(name).has_value();
        // The kernel doesn't count a catch-all among the elements.
        if (exempts && one_element(socket, name, set.shape.key, nullptr, NFT_SET_ELEM_CATCHALL))
            set.shape = foreign_shape();
        if (exempts && depth == Depth::outline) continue;
        consistent = read_elements(socket, name, counting, expected, comparison, set) && consistent;
    }
    return consistent;
}

/// Where two intervals touch, the end of one and the start of the other have the same key, and kernels differ in which
/// they answer. Behind the start of an interval and before its end there is no doubt.
std::optional<Key> interval_end(NetlinkSocket& socket, const std::string& set, KeyKind kind, const Key& inside,
                                const Key& start) {
    Key within = inside;
    if (inside == start) {
        size_t byte = inside.length / 8U;
        while (byte > 0 && ++within.bytes[byte - 1] == 0) --byte;
        if (byte == 0) return std::nullopt;
        const auto next = one_element(socket, set, kind, &within);
        if (!next || next->key != start) return within;
    }
    const auto end = one_element(socket, set, kind, &within, NFT_SET_ELEM_INTERVAL_END);
    return end ? std::optional(end->key) : std::nullopt;
}

}  // namespace

std::optional<TableState> table_state(NetlinkSocket& socket) {
    MessageWriter message = request(NFT_MSG_GETTABLE, NLM_F_ACK, socket.next_sequence());
    message.put_name(NFTA_TABLE_NAME, table_name);
    std::optional<TableState> state;
    const int code = socket.ask(message.bytes(), [&](const nlmsghdr& part) { state = decode_table(part); });
    if (code != 0 && code != ENOENT) throw error_about(code, std::string("table ") + table_name);
    return state;
}

uint32_t table_generation(NetlinkSocket& socket) {
    uint32_t number = 0;
    const MessageWriter message = request(NFT_MSG_GETGEN, NLM_F_ACK, socket.next_sequence());
    const int code = socket.ask(message.bytes(), [&](const nlmsghdr& part) {
        if (const auto found = attribute(attributes(part), NFTA_GEN_ID)) number = found->u32();
    });
    if (code != 0) throw error_about(code, "nf_tables");
    return number;
}

Fence read_table(NetlinkSocket& socket, Depth depth, bool counting, Fence expected, Comparison comparison) {
    for (int attempt = 0; attempt < most_readings; ++attempt) {
        const uint32_t before = table_generation(socket);
        Fence fence;
        const bool whole = read_once(socket, depth, counting, expected, comparison, fence);
        if (whole && table_generation(socket) == before) {
            name_rules(fence);
            return fence;
        }
        if (depth == Depth::whole && !fence.sets.empty())
            expected = std::move(fence);  // asked by key again, not dumped
    }
    throw KernelError(EAGAIN, "table smtpfence",
                      "the table can't be read: other programs commit to nftables all the time; try again later");
}

ElementCount element_count(NetlinkSocket& socket, const std::string& set) {
    MessageWriter message = request(NFT_MSG_GETSET, NLM_F_ACK, socket.next_sequence());
    message.put_name(NFTA_SET_TABLE, table_name);
    message.put_name(NFTA_SET_NAME, set);
    ElementCount count;
    socket.ask(message.bytes(), [&](const nlmsghdr& part) {
        count.is_set = true;
        if (const auto found = attribute(attributes(part), set_count)) count.elements = found->u32();
    });
    return count;
}

std::vector<std::optional<Held>> held_elements(NetlinkSocket& socket, const std::string& set,
                                               std::span<const Key> keys) {
    std::vector<std::optional<Held>> held(keys.size());
    const auto shape = shape_of(set);
    if (!shape) return held;
    size_t many = asked_at_once;  // fewer after one that is missing: it seldom comes alone
    for (size_t next = 0; next < keys.size();) {
        bool missing = false;
        const auto asked = keys.subspan(next, std::min(many, keys.size() - next));
        const auto found = elements_at(socket, set, shape->key, asked, missing);
        for (size_t i = 0; i < std::min(found.size(), asked.size()); ++i) held[next + i] = found[i].held;
        next += found.size() + (missing || found.empty() ? 1 : 0);
        many = missing ? std::max<size_t>(1, many / 4) : std::min(asked_at_once, many * 2);
    }
    return held;
}

std::optional<std::pair<Key, Held>> find_element(NetlinkSocket& socket, const std::string& set, const Key& address) {
    const auto shape = shape_of(set);
    if (!shape) return std::nullopt;
    Key key = address;
    key.length = shape->key == KeyKind::ipv4 ? 32 : 128;
    const auto start = one_element(socket, set, shape->key, &key);
    if (!start) return std::nullopt;
    if (!shape->interval) {
        return start->key.bytes == address.bytes ? std::optional(std::pair(address, start->held)) : std::nullopt;
    }
    const auto found_end = interval_end(socket, set, shape->key, key, start->key);
    const auto found = interval_key(start->key, found_end, shape->key);
    if (!found || !covers(*found, key)) return std::nullopt;
    return std::pair(*found, start->held);
}

std::vector<Counted> counted_sources(NetlinkSocket& socket, const std::string& set) {
    const auto shape = shape_of(set);
    if (!shape) return {};
    // Sources come and go while they are read: one more or less is no error, but none counts twice.
    std::map<Key, uint64_t> packets;
    dump_elements(socket, set, shape->key,
                  [&](const DecodedElement& element) { packets[element.key] = element.packets; });
    std::vector<Counted> result;
    for (const auto& [key, count] : packets) result.push_back({key, count});
    return result;
}

uint64_t counted_packets(NetlinkSocket& socket, const std::string& chain) {
    MessageWriter message = request(NFT_MSG_GETRULE, NLM_F_DUMP, socket.next_sequence());
    message.put_name(NFTA_RULE_TABLE, table_name);
    message.put_name(NFTA_RULE_CHAIN, chain);
    uint64_t packets = 0;
    socket.dump(
        message.bytes(),
        [&](const nlmsghdr& part) {
            const DecodedRule decoded = decode_rule(part);
            if (decoded.table == table_name && decoded.chain == chain) packets += decoded.packets;
        },
        ENOENT);
    return packets;
}

}  // namespace smtpfence
