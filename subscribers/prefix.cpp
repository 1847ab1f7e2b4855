#include "subscribers/prefix.hpp"

#include <arpa/inet.h>
#include <fmt/compile.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "subscribers/error.hpp"

namespace smtpfence {

namespace {

/// Bytes in an address of the family.
constexpr size_t bytes_of(Family family) { return family == Family::v4 ? 4 : 16; }

using Words = std::array<uint64_t, 2>;  // an address, in network byte order

/// The first `count` bits of an address. Word by word, as millions of prefixes are made at once.
Words first_bits(int count) {
    const auto in_word = [](int bits) {
        if (bits <= 0) return uint64_t{0};
        return htobe64(bits >= 64 ? ~uint64_t{0} : ~(~uint64_t{0} >> bits));
    };
    return {in_word(count), in_word(count - 64)};
}

Words words_of(const Prefix::Address& address) { return std::bit_cast<Words>(address); }

Prefix::Address network_of(const Prefix::Address& address, uint8_t length) {
    const Words all = words_of(address), network = first_bits(length);
    return std::bit_cast<Prefix::Address>(Words{all[0] & network[0], all[1] & network[1]});
}

[[noreturn]] void refuse_prefix(std::string_view text, std::string_view why) {
    throw Refused(Refusal::invalid, fmt::format("prefix {}: {}", quoted(text), why));
}

bool mapped(const Prefix::Address& address) {
    static constexpr uint8_t beginning[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return std::memcmp(address.data(), beginning, sizeof beginning) == 0;
}

/// A part of a dotted quad with more than one digit that begins with 0 (some programs read it as octal).
bool has_leading_zero(std::string_view dotted) {
    for (size_t i = 0; i + 1 < dotted.size(); ++i) {
        const bool begins = i == 0 || dotted[i - 1] == '.';
        if (begins && dotted[i] == '0' && dotted[i + 1] != '.') return true;
    }
    return false;
}

/// The number from 0 to 255, without leading zeros, that `text` begins with, which is taken from it.
std::optional<uint8_t> take_number(std::string_view& text) {
    uint8_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const auto digits = static_cast<size_t>(end - text.data());
    if (error != std::errc() || (digits > 1 && text[0] == '0')) return std::nullopt;
    text.remove_prefix(digits);
    return number;
}

uint8_t parse_length(std::string_view text, std::string_view digits, Family family) {
    const auto value = take_number(digits);
    if (!value || *value > bits(family) || !digits.empty()) {
        refuse_prefix(text, fmt::format("the length after '/' must be a number from 0 to {}", bits(family)));
    }
    return *value;
}

/// A million rights are read at once, for which inet_pton(3) takes twice as long.
std::optional<Prefix::Address> dotted_quad(std::string_view text) {
    Prefix::Address address{};
    for (size_t i = 0; i < bytes_of(Family::v4); ++i) {
        if (i > 0 && (text.empty() || text[0] != '.')) return std::nullopt;
        if (i > 0) text.remove_prefix(1);
        const auto byte = take_number(text);
        if (!byte) return std::nullopt;
        address[i] = *byte;
    }
    return text.empty() ? std::make_optional(address) : std::nullopt;
}

std::optional<Prefix::Address> hexadecimal(const std::string& text) {
    Prefix::Address address{};
    // A NUL inside would end the text early for inet_pton.
    const bool good = inet_pton(AF_INET6, text.c_str(), address.data()) == 1 && text.find('\0') == std::string::npos;
    return good ? std::make_optional(address) : std::nullopt;
}

Prefix::Address parse_address(std::string_view text, std::string_view host, Family family) {
    const auto address = family == Family::v4 ? dotted_quad(host) : hexadecimal(std::string(host));
    if (address) return *address;
    if (host.find('%') != std::string_view::npos)
        refuse_prefix(text, "a zone has no place in a prefix: leave out '%' and the rest");
    if (family == Family::v4 && has_leading_zero(host))
        refuse_prefix(text, "leading zeros are ambiguous: leave them out");
    refuse_prefix(text, "not an IPv4 or IPv6 address or prefix: write 100.64.3.7, 100.64.0.0/10 or 2001:db8::/56");
}

}  // namespace

Prefix::Prefix(Family family, const Address& address, uint8_t length)
    : family_(family), address_(network_of(address, length)), length_(length) {}

Prefix Prefix::parse(std::string_view text) {
    const size_t slash = text.find('/');
    const std::string_view host = text.substr(0, slash);
    const Family family = host.find(':') == std::string_view::npos ? Family::v4 : Family::v6;
    const Address address = parse_address(text, host, family);
    const uint8_t length =
        slash == std::string_view::npos ? bits(family) : parse_length(text, text.substr(slash + 1), family);
    if (family == Family::v6 && length >= 96 && mapped(address)) {
        Address v4{};
        std::copy_n(address.begin() + 12, 4, v4.begin());
        const Prefix meant(Family::v4, v4, static_cast<uint8_t>(length - 96));
        refuse_prefix(text, fmt::format("IPv4-mapped; write {}", meant.short_text()));
    }
    const Prefix prefix(family, address, length);
    if (prefix.address_ != address)
        refuse_prefix(text, fmt::format("host bits are set; did you mean {}?", prefix.text()));
    return prefix;
}

Prefix::Address Prefix::last() const {
    const Words first = words_of(address_), network = first_bits(length_), whole = first_bits(bits(family_));
    return std::bit_cast<Address>(Words{first[0] | (whole[0] & ~network[0]), first[1] | (whole[1] & ~network[1])});
}

bool Prefix::contains(const Prefix& other) const {
    return family_ == other.family_ && length_ <= other.length_ && other.widened(length_).address_ == address_;
}

Prefix Prefix::widened(uint8_t length) const { return {family_, address_, length}; }

std::string Prefix::text() const {
    std::string result;
    append_text(result);
    return result;
}

void Prefix::append_text(std::string& to) const {
    // inet_ntop(3) takes three times as long for IPv4, and a million rights are written at once.
    if (family_ == Family::v4) {
        fmt::format_to(std::back_inserter(to), FMT_COMPILE("{}.{}.{}.{}/{}"), address_[0], address_[1], address_[2],
                       address_[3], length_);
        return;
    }
    char host[INET6_ADDRSTRLEN];
    inet_ntop(AF_INET6, address_.data(), host, sizeof host);
    fmt::format_to(std::back_inserter(to), FMT_COMPILE("{}/{}"), static_cast<const char*>(host), length_);
}

std::string Prefix::short_text() const {
    std::string result = text();
    return is_address() ? result.substr(0, result.find('/')) : result;
}

namespace {

std::string key(Family family, const Prefix::Address& address) {
    std::string result(1, static_cast<char>(family));
    result.append(reinterpret_cast<const char*>(address.data()), bytes_of(family));
    return result;
}

}  // namespace

std::string Prefix::first_key() const { return key(family_, address_); }

std::string Prefix::last_key() const { return key(family_, last()); }

Prefix Prefix::from_key(std::string_view first_key, int64_t length) {
    const auto family = first_key.empty() ? Family{} : static_cast<Family>(first_key[0]);
    const bool known = family == Family::v4 || family == Family::v6;
    if (!known || first_key.size() != 1 + bytes_of(family) || length < 0 || length > bits(family)) {
        throw DatabaseError(DatabaseError::Kind::corrupt,
                            "the database holds a prefix that is none: restore it from a backup");
    }
    Address address{};
    std::memcpy(address.data(), first_key.data() + 1, bytes_of(family));
    const Prefix prefix(family, address, static_cast<uint8_t>(length));
    if (prefix.address_ != address) {
        throw DatabaseError(
            DatabaseError::Kind::corrupt,
            fmt::format("the database holds {} with host bits set: restore it from a backup", prefix.text()));
    }
    return prefix;
}

}  // namespace smtpfence
