// Messages of nf_tables, as dumps and notifications bring them; the seeds are what a kernel sent.

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "property.hpp"
#include "rules/layout.hpp"
#include "rules/netlink_batch.hpp"
#include "rules/netlink_commits.hpp"
#include "rules/netlink_decode.hpp"

namespace smtpfence {

namespace {

/// Calls `each` for the messages of a buffer, copied to where they are aligned and end where the buffer ends.
template <typename Each>
void each_message(std::string_view bytes, Each each) {
    while (bytes.size() >= sizeof(nlmsghdr) + sizeof(nfgenmsg)) {
        nlmsghdr header;
        std::memcpy(&header, bytes.data(), sizeof header);
        const size_t size = header.nlmsg_len;
        if (size < sizeof(nlmsghdr) + sizeof(nfgenmsg) || size > bytes.size()) return;
        const auto copy = std::make_unique<nlmsghdr[]>((size + sizeof(nlmsghdr) - 1) / sizeof(nlmsghdr));
        std::memcpy(copy.get(), bytes.data(), size);
        each(*copy.get());
        bytes.remove_prefix(std::min(bytes.size(), static_cast<size_t>(NLMSG_ALIGN(size))));
    }
}

/// The operation's messages but the first and last, which begin and end the transaction.
template <typename Each>
void each_written(const Operation& operation, Each each) {
    NetlinkBatch batch({true, true, true, true}, 1, 0);
    batch.add(operation);
    batch.end();
    each_message(batch.bytes(), [&](const nlmsghdr& message) {
        if (message.nlmsg_seq != batch.first_sequence() && message.nlmsg_seq != batch.last_sequence()) each(message);
    });
}

/// The rest of a rule is libnftnl's to read, which trusts the kernel: it follows null pointers where a name is missing,
/// reads behind texts without their zero, and ends the program when a number has another size.
void check_comment(std::string_view user_data) {
    MessageWriter writer;
    writer.begin(NFT_MSG_NEWRULE, 0, 1);
    writer.put_name(NFTA_RULE_TABLE, "table");
    writer.put_name(NFTA_RULE_CHAIN, "chain");
    writer.put(NFTA_RULE_USERDATA, user_data);
    writer.begin(NFT_MSG_NEWRULE, 0, 2);  // ends the one before
    bool first = true;
    each_message(writer.bytes(), [&](const nlmsghdr& message) {
        if (!std::exchange(first, false)) return;
        const Rule rule = decode_rule(message).rule;
        must("a comment is one word for C", rule.comment.find('\0') == std::string::npos);
        if (rule.comment.size() > 127) return;  // nft takes no longer one
        each_written(ReplaceRules{"chain", {rule}}, [&](const nlmsghdr& written) {
            if ((written.nlmsg_type & 0xff) != NFT_MSG_NEWRULE) return;
            must("a comment is read as it was written", decode_rule(written).rule == rule);
        });
    });
}

/// Keys and actions; ends are told by the kernel only.
std::vector<std::pair<Key, std::optional<Action>>> facts(const auto& elements) {
    std::vector<std::pair<Key, std::optional<Action>>> facts;
    for (const auto& [key, held] : elements) facts.emplace_back(key, held.action);
    return facts;
}

void check_intervals(const std::vector<DecodedElement>& elements, const char* set, KeyKind kind) {
    const auto joined = join_intervals(elements, kind);
    if (!joined) return;
    AddElements add{set, {}};
    for (const auto& one : *joined) add.elements.push_back(one);
    std::vector<DecodedElement> again;
    each_written(add, [&](const nlmsghdr& written) { decode_elements(written, kind, 0, again); });
    const auto twice = join_intervals(again, kind);
    must("intervals are read as they were written", twice && facts(*twice) == facts(*joined));
}

void check_elements(const nlmsghdr& message) {
    for (const auto& [kind, set] :
         {std::pair{KeyKind::ipv4, "pool4"}, {KeyKind::ipv6, "pool6"}, {KeyKind::interface, "subscriber"}}) {
        std::vector<DecodedElement> elements;
        decode_elements(message, kind, 1'800'000'000'000, elements);
        for (const DecodedElement& element : elements) must("a text for each key", !text(element.key, kind).empty());
        check_intervals(elements, set, kind);
    }
    must("a set's name is one word for C", element_set(message).find('\0') == std::string::npos);
}

void check_commits(std::string_view input) {
    CommitReader reader;
    size_t ends = 0, elements = 0, told = 0;
    each_message(input, [&](const nlmsghdr& message) {
        reader.read({reinterpret_cast<const char*>(&message), message.nlmsg_len});
        if (message.nlmsg_type == ((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN)) ++ends;
        elements += message.nlmsg_len / sizeof(nlattr);
    });
    const auto commits = reader.taken();
    must("a commit for each end that was told", commits.size() == ends);
    for (const ForeignCommit& commit : commits) {
        must("nothing was lost", !commit.touched.everything);
        must("a program's name is one word for C", commit.program.find('\0') == std::string::npos);
        for (const auto& [set, keys] : commit.touched.exemptions) {
            const auto exempt = parse_exempt_set_name(set);
            must("keys are of exemption sets", exempt.has_value());
            for (const Key& key : keys) must("a key has its set's length", key.length == exempt->length);
            told += keys.size();
        }
    }
    must("no more elements than the bytes hold", told <= elements);
}

}  // namespace

void fuzz(std::string_view input) {
    check_commits(input);
    each_message(input, [](const nlmsghdr& message) {
        switch (message.nlmsg_type & 0xff) {
            case NFT_MSG_NEWTABLE:
                decode_table(message);
                break;
            case NFT_MSG_NEWCHAIN:
                must("a chain's name is one word for C", decode_chain(message).name.find('\0') == std::string::npos);
                break;
            case NFT_MSG_NEWSET:
                must("a set's default timeout is no past", decode_set(message).shape.timeout >= Seconds{0});
                break;
            case NFT_MSG_NEWRULE:
                if (const auto data = attribute(attributes(message), NFTA_RULE_USERDATA)) check_comment(data->payload);
                break;
            case NFT_MSG_NEWSETELEM:
                check_elements(message);
                break;
            default:
                break;
        }
    });
}

}  // namespace smtpfence
