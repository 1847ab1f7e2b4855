#pragma once
// A transaction as nf_tables takes it: BEGIN, one or more messages for each operation, END. It remembers which message
// stands for what, so that a refusal can be put into words.

#include "rules/difference.hpp"
#include "rules/kernel.hpp"
#include "rules/netlink_message.hpp"

namespace smtpfence {

// Younger than Debian 12's headers (linux/netfilter/nf_tables.h of Linux 6.3 and 6.9).
inline constexpr uint16_t destroy_element_message = 30;  ///< NFT_MSG_DESTROYSETELEM
inline constexpr uint32_t table_owner = 2;               ///< NFT_TABLE_F_OWNER
inline constexpr uint32_t table_persist = 4;             ///< NFT_TABLE_F_PERSIST

/// The attribute of an element's key.
void put_key(MessageWriter&, const Key&, KeyKind);

class NetlinkBatch {
public:
    /// `sequence` is the first of the sequence numbers it uses, one for each message. `now`: milliseconds since 1970,
    /// which timeouts count from. `generation`: the kernel refuses it (ERESTART) in any other.
    NetlinkBatch(const Features&, uint32_t sequence, int64_t now, std::optional<uint32_t> generation = {});

    void create_table(const std::string& name, uint32_t flags);
    void delete_table(const std::string& name);
    void add(const Operation&);
    /// A delete message of an element that can't exist, for a dry run.
    void destroy_nothing(const std::string& table, const std::string& set);
    void create_set(const std::string& table, const std::string& name, const SetShape&);
    /// Ends the transaction. Without it the kernel checks everything and keeps nothing.
    void end();

    const std::string& bytes() const { return messages_.bytes(); }
    uint32_t first_sequence() const { return first_; }
    uint32_t last_sequence() const { return next_ - 1; }  ///< END's, once it ended

    /// What a message was about.
    struct Subject {
        std::string object;               ///< "element 100.64.7.7 of set exempt4_32"
        std::optional<size_t> operation;  ///< index among those that were added
        std::optional<size_t> element;    ///< index in that operation
    };
    /// `offset` of the refused attribute, 0 when unknown.
    Subject subject(uint32_t sequence, uint32_t offset) const;

private:
    struct Part {
        std::string object;  ///< without the element
        size_t start = 0;    ///< of the message in the buffer
        std::optional<size_t> operation;
        size_t first_element = 0;
    };

    void begin(uint16_t type, uint16_t flags, std::string object);
    void put_table(uint16_t type);
    void elements(uint16_t type, uint16_t flags, const std::string& set, const ElementList&);
    size_t element_at(const Part&, uint32_t offset) const;

    void write(const AddSet&);
    void write(const AddChain&);
    void write(const AddElements&);
    void write(const DeleteElements&);
    void write(const ReplaceRules&);
    void write(const DeleteChain&);
    void write(const DeleteSet&);

    Features features_;
    MessageWriter messages_;
    uint32_t first_, next_;
    std::vector<Part> parts_;                   ///< by sequence number, from first_
    std::vector<const ElementList*> elements_;  ///< of each operation; null: none
    std::vector<std::string> sets_;             ///< of each operation; empty: none
    int64_t now_;                               ///< milliseconds; one for all elements
    uint32_t set_id_ = 0;
};

}  // namespace smtpfence
