#pragma once
// Netlink messages as bytes: writing them into one growing buffer, and walking through their attributes. It knows the
// framing (RFC 3549), not what nftables means by it.

#include <linux/netlink.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace smtpfence {

/// As it stands in packets.
template <typename Number>
std::string big_endian(Number number) {
    std::string bytes(sizeof(Number), '\0');
    for (size_t i = bytes.size(); i-- > 0; number = static_cast<Number>(number >> 8))
        bytes[i] = static_cast<char>(number & 0xff);
    return bytes;
}

/// Messages one after the other, as they are sent. One must be begun before attributes are put.
class MessageWriter {
public:
    /// Starts a message of nftables (`type` is NFT_MSG_…) in family inet. The message before it ends here.
    void begin(uint16_t type, uint16_t flags, uint32_t sequence);
    /// Starts a message of any other type: `type` is used as it is, `resource_be` stands in its nfgenmsg.
    void begin_plain(uint16_t type, uint16_t flags, uint32_t sequence, uint16_t resource_be, uint8_t family);

    void add_flags(uint16_t flags);  ///< to the current message

    void put(uint16_t type, std::string_view payload);
    void put_name(uint16_t type, const std::string& name);  ///< with its final zero
    void put_u32(uint16_t type, uint32_t number);
    void put_u64(uint16_t type, uint64_t number);
    /// Starts a nested attribute; its size is known when it ends.
    size_t nest(uint16_t type);
    void end_nest(size_t start);

    /// Where the current message begins.
    size_t message_start() const { return message_; }
    size_t size() const { return bytes_.size(); }
    const std::string& bytes() const { return bytes_; }
    void reserve(size_t size) { bytes_.reserve(size); }

private:
    void close_message();
    void append(const void* data, size_t size) { bytes_.append(static_cast<const char*>(data), size); }

    std::string bytes_;
    size_t message_ = 0;
};

/// One attribute of a message that was received; valid as long as its buffer.
struct Attribute {
    uint16_t type = 0;  ///< without the flags for nesting and byte order
    std::string_view payload;

    uint32_t u32() const;      ///< 0 when the payload is shorter
    uint64_t u64() const;      ///< 0 when the payload is shorter
    std::string name() const;  ///< without its final zero
};

/// Calls `each` for the attributes in `bytes`; ends at the first one that is cut short.
template <typename Each>
void each_attribute(std::string_view bytes, Each each) {
    while (bytes.size() >= sizeof(nlattr)) {
        nlattr header;
        std::memcpy(&header, bytes.data(), sizeof header);
        if (header.nla_len < sizeof header || header.nla_len > bytes.size()) return;
        each(Attribute{static_cast<uint16_t>(header.nla_type & NLA_TYPE_MASK),
                       bytes.substr(sizeof header, header.nla_len - sizeof header)});
        bytes.remove_prefix(std::min(bytes.size(), static_cast<size_t>(NLA_ALIGN(header.nla_len))));
    }
}

/// The first attribute of `type` in `bytes`.
std::optional<Attribute> attribute(std::string_view bytes, uint16_t type);

/// The attributes of a message of nftables: what follows nlmsghdr and nfgenmsg.
std::string_view attributes(const nlmsghdr&);

}  // namespace smtpfence
