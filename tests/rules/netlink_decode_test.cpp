// What no kernel sends is read without harm; what kernels do send is tested on them.

#include "rules/netlink_decode.hpp"

#include <linux/netfilter/nf_tables.h>

#include <catch2/catch.hpp>

using namespace smtpfence;

namespace {

Key key(const char* address) { return to_key(Prefix::parse(address)); }

/// The one element of a message.
DecodedElement decoded(std::string_view value, std::optional<uint64_t> milliseconds) {
    MessageWriter writer;
    writer.begin(NFT_MSG_NEWSETELEM, 0, 1);
    const size_t list = writer.nest(NFTA_SET_ELEM_LIST_ELEMENTS), element = writer.nest(NFTA_LIST_ELEM);
    const size_t name = writer.nest(NFTA_SET_ELEM_KEY);
    writer.put(NFTA_DATA_VALUE, value);
    writer.end_nest(name);
    if (milliseconds) writer.put_u64(NFTA_SET_ELEM_EXPIRATION, *milliseconds);
    writer.end_nest(element);
    writer.end_nest(list);
    writer.begin(NFT_MSG_NEWSETELEM, 0, 2);  // ends the one before
    std::vector<DecodedElement> elements;
    decode_elements(*reinterpret_cast<const nlmsghdr*>(writer.bytes().data()), KeyKind::ipv4, 1'800'000'000'000,
                    elements);
    REQUIRE(elements.size() == 1);
    return elements.front();
}

}  // namespace

TEST_CASE("interval_key: an end that is not behind its start is none") {
    const Key zero = key("0.0.0.0"), one = key("100.64.0.1");
    CHECK(interval_key(zero, key("128.0.0.0"), KeyKind::ipv4) == key("0.0.0.0/1"));
    CHECK(interval_key(zero, std::nullopt, KeyKind::ipv4) == key("0.0.0.0/0"));
    CHECK(interval_key(zero, zero, KeyKind::ipv4) == std::nullopt);
    CHECK(interval_key(one, one, KeyKind::ipv4) == std::nullopt);
    CHECK(interval_key(one, key("100.64.0.0"), KeyKind::ipv4) == std::nullopt);
}

TEST_CASE("decode_elements: a value of another size is cut or filled with zeros") {
    CHECK(decoded(std::string_view("\x64\x40\x03\x07", 4), {}).key == key("100.64.3.7"));
    CHECK(decoded(std::string_view("\x64\x40\x03\x07garbage", 11), {}).key == key("100.64.3.7"));
    CHECK(decoded(std::string_view("\x64\x40", 2), {}).key == key("100.64.0.0"));
}

TEST_CASE("decode_elements: an end beyond what a number holds is far away") {
    const std::string_view value("\x64\x40\x03\x07", 4);
    CHECK(to_number(decoded(value, 7'000).held.until) == 1'800'000'007);
    CHECK(to_number(decoded(value, UINT64_MAX).held.until) > 4'000'000'000'000'000);
}
