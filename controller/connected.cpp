#include "controller/connected.hpp"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <system_error>

namespace smtpfence {

namespace {

bool matches(std::string_view name, const std::vector<std::string>& patterns) {
    return patterns.empty() || std::any_of(patterns.begin(), patterns.end(), [&](std::string_view pattern) {
               return pattern.ends_with('*') ? name.starts_with(pattern.substr(0, pattern.size() - 1))
                                             : name == pattern;
           });
}

// The address and mask of `entry` as a prefix, of a session (PPP) the far end's; nullopt for other families and for
// link-local addresses.
std::optional<Prefix> prefix_of(const ifaddrs& entry) {
    const bool far_end = entry.ifa_flags & IFF_POINTOPOINT && entry.ifa_dstaddr;
    const sockaddr* const given = far_end ? entry.ifa_dstaddr : entry.ifa_addr;
    if (!given || !entry.ifa_netmask) return std::nullopt;
    const bool v4 = given->sa_family == AF_INET;
    if (!v4 && given->sa_family != AF_INET6) return std::nullopt;
    const size_t offset = v4 ? offsetof(sockaddr_in, sin_addr) : offsetof(sockaddr_in6, sin6_addr);
    const size_t size = v4 ? 4 : 16;
    Prefix::Address address{}, mask{};
    std::memcpy(address.data(), reinterpret_cast<const char*>(given) + offset, size);
    std::memcpy(mask.data(), reinterpret_cast<const char*>(entry.ifa_netmask) + offset, size);
    int length = 0;
    for (uint8_t byte : mask) length += std::popcount(byte);
    const bool link_local =
        v4 ? address[0] == 169 && address[1] == 254 : address[0] == 0xfe && (address[1] & 0xc0) == 0x80;
    if (link_local) return std::nullopt;
    return Prefix(v4 ? Family::v4 : Family::v6, address, static_cast<uint8_t>(length));
}

}  // namespace

std::vector<Connected> connected_prefixes(const std::vector<std::string>& patterns) {
    ifaddrs* first = nullptr;
    if (getifaddrs(&first) != 0) throw std::system_error(errno, std::generic_category(), "addresses of the interfaces");
    const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> list(first, freeifaddrs);
    std::vector<Connected> all;
    for (const ifaddrs* entry = list.get(); entry; entry = entry->ifa_next) {
        if (entry->ifa_flags & IFF_LOOPBACK || !matches(entry->ifa_name, patterns)) continue;
        if (const auto prefix = prefix_of(*entry)) all.push_back({entry->ifa_name, *prefix});
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
}

}  // namespace smtpfence
