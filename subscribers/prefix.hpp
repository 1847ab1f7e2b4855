#pragma once
// An IPv4 or IPv6 prefix: the key of relays, pools and assignments.
//
//   Prefix p = Prefix::parse("100.64.3.7");       // one address: /32
//   p.text();                                     // "100.64.3.7/32"
//   Prefix::parse("100.64.0.0/10").contains(p);   // true

#include <endian.h>

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace smtpfence {

enum class Family : uint8_t { v4 = 4, v6 = 6 };

/// Bits in an address of the family: 32 or 128.
constexpr uint8_t bits(Family family) { return family == Family::v4 ? 32 : 128; }

/// The order of addresses, as their bytes' own but without a call: a million of them are sorted at a start.
inline std::strong_ordering order(const std::array<uint8_t, 16>& a, const std::array<uint8_t, 16>& b) {
    uint64_t left[2], right[2];
    std::memcpy(left, a.data(), sizeof left);
    std::memcpy(right, b.data(), sizeof right);
    if (left[0] != right[0]) return be64toh(left[0]) <=> be64toh(right[0]);
    return be64toh(left[1]) <=> be64toh(right[1]);
}

class Prefix {
public:
    using Address = std::array<uint8_t, 16>;  ///< network byte order; IPv4 in the first 4 bytes, the rest zero

    /// 0.0.0.0/0; only so that containers can hold it.
    Prefix() = default;
    /// Host bits are cleared. `length` must be at most bits(family).
    Prefix(Family family, const Address& address, uint8_t length);

    /// Dotted quad or RFC 4291 text, with an optional "/length" (a bare address is its own /32 or /128).
    /// Throws Refused (invalid) for: anything else, host bits set (the message names the prefix that was likely meant),
    /// length out of range, IPv4-mapped IPv6 (::ffff:0:0/96; the message names the IPv4 address), leading zeros, zones,
    /// surrounding space.
    static Prefix parse(std::string_view text);

    Family family() const { return family_; }
    uint8_t length() const { return length_; }
    const Address& address() const { return address_; }  ///< the first address
    Address last() const;                                ///< the last address

    Prefix first_address() const { return {family_, address_, bits(family_)}; }

    bool is_address() const { return length_ == bits(family_); }
    bool contains(const Prefix& other) const;  ///< same family, equal or narrower
    bool overlaps(const Prefix& other) const { return contains(other) || other.contains(*this); }

    /// The wider prefix of `length` that contains this one. `length` must be at most length().
    Prefix widened(uint8_t length) const;

    /// Canonical text (RFC 5952), always with the length.
    std::string text() const;
    void append_text(std::string& to) const;
    /// As text(), but a single address without its length.
    std::string short_text() const;

    /// Key for the database: 1 byte family (4 or 6) and 4 or 16 address bytes; bytewise order is address order.
    std::string first_key() const;
    std::string last_key() const;
    /// Inverse of first_key(). Throws DatabaseError (corrupt) when it is none.
    static Prefix from_key(std::string_view first_key, int64_t length);

    /// Order: IPv4 before IPv6, then address, then the wider first.
    friend std::strong_ordering operator<=>(const Prefix& a, const Prefix& b) {
        if (a.family_ != b.family_) return a.family_ <=> b.family_;
        const std::strong_ordering addresses = order(a.address_, b.address_);
        return addresses != 0 ? addresses : a.length_ <=> b.length_;
    }
    friend bool operator==(const Prefix&, const Prefix&) = default;

private:
    Family family_ = Family::v4;
    Address address_{};
    uint8_t length_ = 0;
};

}  // namespace smtpfence
