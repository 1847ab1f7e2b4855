#include "rules/scratch_network.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "rules/kernel.hpp"
#include "rules/packet.hpp"

namespace smtpfence {

namespace {

constexpr int patience_ms = 5000;  // only a machine that stands still takes this long
constexpr size_t largest_packet = 65536;
constexpr const char* system_root = "/proc/sys/net/";

[[noreturn]] void fail(int code, const std::string& object, const std::string& next_step) {
    const bool denied = code == EPERM || code == EACCES;
    throw KernelError(code, object,
                      fmt::format("scratch network: {}: {}; {}", object, std::strerror(code),
                                  denied ? "run it as root (CAP_SYS_ADMIN and CAP_NET_ADMIN)" : next_step));
}

/// Writes a setting of this thread's network namespace.
void set(const char* name, const char* value) {
    const std::string path = std::string(system_root) + name;
    const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    const bool written = file >= 0 && write(file, value, std::strlen(value)) > 0;
    const int code = errno;
    if (file >= 0) close(file);
    if (!written) fail(code, path, "it must be writable: run it on the host rather than in a container");
}

/// A new descriptor of the TUN device; negative, with errno: there is none.
int open_tun() {
    constexpr int mode = O_RDWR | O_NONBLOCK | O_CLOEXEC;
    int descriptor = open("/dev/net/tun", mode);
    if (descriptor >= 0 || errno != ENOENT) return descriptor;
    // Where nobody made the node (a chroot, a machine without udev), the device is known by its number.
    const std::string node = fmt::format("/dev/smtpfence-{}", getpid());
    if (mknod(node.c_str(), S_IFCHR | 0600, makedev(10, 200)) != 0) {
        errno = ENOENT;
        return -1;
    }
    descriptor = open(node.c_str(), mode);
    const int code = errno;
    unlink(node.c_str());
    errno = code;
    return descriptor;
}

/// `name` as an interface request holds it.
ifreq request_for(const std::string& name) {
    ifreq request{};
    if (name.empty() || name.size() >= sizeof request.ifr_name) fail(EINVAL, "interface " + name, "name 1 to 15 bytes");
    std::memcpy(request.ifr_name, name.data(), name.size());
    return request;
}

}  // namespace

ScratchNetwork::ScratchNetwork(const std::vector<std::string>& interfaces) {
    outside_ = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (outside_ < 0) fail(errno, "/proc/thread-self/ns/net", "mount /proc");
    if (unshare(CLONE_NEWNET) != 0) {
        const int code = errno;
        close(outside_);
        fail(code, "network namespace", "the kernel needs CONFIG_NET_NS");
    }
    try {
        v6_ = access("/proc/sys/net/ipv6/conf/all", F_OK) == 0;
        // What a machine sets for its new interfaces may be inherited.
        for (const char* name : {"ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter"}) set(name, "0");
        set("ipv4/ip_forward", "1");
        if (v6_) {
            for (const char* name : {"ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"}) set(name, "0");
            set("ipv6/conf/all/forwarding", "1");
        }
        control_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        routes_ = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
        if (control_ < 0 || routes_ < 0) fail(errno, "sockets", "see the limits of this process");
        for (const std::string& name : interfaces) connect(name);
    } catch (...) {
        close_all();
        throw;
    }
}

ScratchNetwork::~ScratchNetwork() { close_all(); }

void ScratchNetwork::close_all() {
    for (const auto& [name, interface] : interfaces_) close(interface.descriptor);
    if (control_ >= 0) close(control_);
    if (routes_ >= 0) close(routes_);
    setns(outside_, CLONE_NEWNET);
    close(outside_);
}

void ScratchNetwork::connect(const std::string& name) {
    const int descriptor = open_tun();
    if (descriptor < 0) fail(errno, "/dev/net/tun", "load the kernel module tun (modprobe tun)");
    Interface& interface = interfaces_[name];
    interface.descriptor = descriptor;
    ifreq request = request_for(name);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (ioctl(descriptor, TUNSETIFF, &request) != 0) fail(errno, "interface " + name, "no interface can be named so");
    ifreq up = request_for(name);
    up.ifr_flags = IFF_UP;
    ifreq number = request_for(name);
    if (ioctl(control_, SIOCSIFFLAGS, &up) != 0 || ioctl(control_, SIOCGIFINDEX, &number) != 0)
        fail(errno, "interface " + name, "it can't be used");
    interface.index = static_cast<unsigned>(number.ifr_ifindex);
}

bool ScratchNetwork::carries(Family family) const { return family == Family::v4 || v6_; }

void ScratchNetwork::route(const Prefix& prefix, const std::string& interface) {
    std::array<char, 512> buffer{};
    nlmsghdr* message = mnl_nlmsg_put_header(buffer.data());
    message->nlmsg_type = RTM_NEWROUTE;
    message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    message->nlmsg_seq = ++sequence_;
    auto* route = static_cast<rtmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(rtmsg)));
    const bool v4 = prefix.family() == Family::v4;
    route->rtm_family = v4 ? AF_INET : AF_INET6;
    route->rtm_dst_len = prefix.length();
    route->rtm_table = RT_TABLE_MAIN;
    route->rtm_protocol = RTPROT_STATIC;
    route->rtm_scope = v4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    route->rtm_type = RTN_UNICAST;
    mnl_attr_put(message, RTA_DST, v4 ? 4 : 16, prefix.address().data());
    mnl_attr_put_u32(message, RTA_OIF, interfaces_.at(interface).index);

    const std::string object = "route to " + prefix.text();
    if (::send(routes_, buffer.data(), message->nlmsg_len, 0) < 0) fail(errno, object, "try again");
    const ssize_t size = recv(routes_, buffer.data(), buffer.size(), 0);
    if (size < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(nlmsgerr))))
        fail(size < 0 ? errno : EPROTO, object, "try again");
    const auto* answer = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(message));
    if (answer->error != 0) fail(-answer->error, object, "no packet can go there");
}

void ScratchNetwork::drain(const std::string& name, Left& into) {
    std::vector<std::string>& packets = into[name];
    std::string packet(largest_packet, '\0');
    for (ssize_t size; (size = read(interfaces_.at(name).descriptor, packet.data(), packet.size())) > 0;)
        packets.emplace_back(packet, 0, static_cast<size_t>(size));
}

ScratchNetwork::Left ScratchNetwork::send(const std::string& packet, const std::string& sentinel, const std::string& in,
                                          const std::string& out) {
    Left before, left;
    for (const auto& entry : interfaces_) drain(entry.first, before);
    const int entrance = interfaces_.at(in).descriptor;
    for (const std::string* each : {&packet, &sentinel}) {
        if (write(entrance, each->data(), each->size()) != static_cast<ssize_t>(each->size()))
            fail(errno, "packet into " + in, "the kernel takes none");
    }
    const auto arrived = [&] {
        const auto& packets = left[out];
        return std::any_of(packets.begin(), packets.end(),
                           [&](const std::string& one) { return is_same(one, sentinel); });
    };
    for (drain(out, left); !arrived(); drain(out, left)) {
        pollfd wait{interfaces_.at(out).descriptor, POLLIN, 0};
        if (poll(&wait, 1, patience_ms) == 0)
            fail(ETIMEDOUT, fmt::format("from {} to {}", in, out), "nothing is routed there");
    }
    for (const auto& entry : interfaces_) drain(entry.first, left);
    return left;
}

}  // namespace smtpfence
