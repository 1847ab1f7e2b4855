// Sends TCP segments on a packet socket until a time is over: as fast as the machine does, or at a pace. Which ones it
// reads from standard input, one frame's addresses and ports a line, and goes round:
//
//   flood_sender INTERFACE OWN_MAC ROUTER_MAC CPU MICROSECONDS SECONDS COUNTERS < flows
//
//   100.64.1.1 198.51.100.250 40000 25
//
// MICROSECONDS between two segments; 0: no pause. Segment n of the run (from 0) carries n as its sequence number, and
// its flow is line n modulo the number of lines. COUNTERS is a file that holds n, 8 bytes, while the sender runs: it
// counts only what the kernel took.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace {

constexpr size_t batch = 64;
constexpr uint8_t first_hops = 32;

/// Throws what the last system call says when `result` is negative.
int checked(int result, const char* what) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), what);
    return result;
}

struct Frame {
    std::vector<uint8_t> bytes;
    size_t tcp_offset = 0;

    void number(uint32_t n) {
        const uint32_t sequence = htonl(n);
        std::memcpy(bytes.data() + tcp_offset + offsetof(tcphdr, seq), &sequence, sizeof sequence);
    }
};

template <typename T>
void append(std::vector<uint8_t>& to, const T& value) {
    const auto* start = reinterpret_cast<const uint8_t*>(&value);
    to.insert(to.end(), start, start + sizeof value);
}

ether_addr mac(const std::string& text) {
    ether_addr address{};
    std::array<unsigned, ETH_ALEN> parts{};
    if (std::sscanf(text.c_str(), "%x:%x:%x:%x:%x:%x", &parts[0], &parts[1], &parts[2], &parts[3], &parts[4],
                    &parts[5]) != ETH_ALEN) {
        throw std::runtime_error("no MAC address: " + text);
    }
    for (size_t i = 0; i < parts.size(); ++i) address.ether_addr_octet[i] = static_cast<uint8_t>(parts[i]);
    return address;
}

uint16_t header_checksum(const iphdr& header) {
    std::array<uint16_t, sizeof header / 2> words{};
    std::memcpy(words.data(), &header, sizeof header);
    uint32_t sum = 0;
    for (const uint16_t word : words) sum += word;
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>(~sum);
}

void address(int family, const std::string& text, void* to) {
    if (inet_pton(family, text.c_str(), to) != 1) throw std::runtime_error("no address: " + text);
}

/// A SYN. Its TCP checksum is left zero: nobody on the way looks at it.
Frame frame(const ether_addr& own, const ether_addr& router, const std::string& from, const std::string& to,
            uint16_t source_port, uint16_t port) {
    const bool v6 = from.find(':') != std::string::npos;
    Frame result;
    append(result.bytes, router);
    append(result.bytes, own);
    append(result.bytes, htons(v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP));
    if (v6) {
        ip6_hdr header{};
        header.ip6_flow = htonl(6u << 28);
        header.ip6_plen = htons(sizeof(tcphdr));
        header.ip6_nxt = IPPROTO_TCP;
        header.ip6_hops = first_hops;
        address(AF_INET6, from, &header.ip6_src);
        address(AF_INET6, to, &header.ip6_dst);
        append(result.bytes, header);
    } else {
        iphdr header{};
        header.version = 4;
        header.ihl = sizeof header / 4;
        header.tot_len = htons(sizeof header + sizeof(tcphdr));
        header.ttl = first_hops;
        header.protocol = IPPROTO_TCP;
        address(AF_INET, from, &header.saddr);
        address(AF_INET, to, &header.daddr);
        header.check = header_checksum(header);
        append(result.bytes, header);
    }
    result.tcp_offset = result.bytes.size();
    tcphdr tcp{};
    tcp.source = htons(source_port);
    tcp.dest = htons(port);
    tcp.doff = sizeof tcp / 4;
    tcp.syn = 1;
    append(result.bytes, tcp);
    return result;
}

std::vector<Frame> read_flows(const ether_addr& own, const ether_addr& router) {
    std::vector<Frame> frames;
    std::string from, to;
    uint16_t source_port = 0, port = 0;
    while (std::cin >> from >> to >> source_port >> port)
        frames.push_back(frame(own, router, from, to, source_port, port));
    if (frames.empty() || !std::cin.eof()) throw std::runtime_error("standard input: no flows, or not in their form");
    return frames;
}

/// Segments that are out of sight of the queue's discipline, one CPU's from the first to the last step.
class Wire {
public:
    Wire(const std::string& interface, int cpu) : socket_(checked(socket(AF_PACKET, SOCK_RAW, 0), "packet socket")) {
        sockaddr_ll where{};
        where.sll_family = AF_PACKET;
        where.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
        checked(bind(socket_, reinterpret_cast<const sockaddr*>(&where), sizeof where), "bind");
        const int yes = 1;
        checked(setsockopt(socket_, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes), "PACKET_QDISC_BYPASS");
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET(static_cast<size_t>(cpu), &cpus);
        checked(sched_setaffinity(0, sizeof cpus, &cpus), "sched_setaffinity");
    }
    Wire(const Wire&) = delete;
    Wire& operator=(const Wire&) = delete;
    ~Wire() { close(socket_); }

    /// How many of the first `count` messages the kernel took.
    size_t send(std::array<mmsghdr, batch>& messages, size_t count) {
        const int taken = sendmmsg(socket_, messages.data(), static_cast<unsigned>(count), 0);
        if (taken >= 0) return static_cast<size_t>(taken);
        if (errno == ENOBUFS || errno == EAGAIN || errno == EINTR) return 0;
        throw std::system_error(errno, std::generic_category(), "sendmmsg");
    }

private:
    int socket_;
};

/// The number of the next segment, where another process sees it.
class Counter {
public:
    explicit Counter(const char* path) {
        const int file = checked(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), path);
        checked(ftruncate(file, sizeof(uint64_t)), path);
        void* const memory = mmap(nullptr, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), path);
        value_ = static_cast<uint64_t*>(memory);
    }
    uint64_t next() const { return *value_; }
    void add(uint64_t taken) { std::atomic_ref(*value_).store(*value_ + taken, std::memory_order_release); }

private:
    uint64_t* value_;
};

void run(Wire& wire, std::vector<Frame>& flows, Counter& counter, std::chrono::microseconds pause,
         std::chrono::seconds duration) {
    const auto end = std::chrono::steady_clock::now() + duration;
    auto next = std::chrono::steady_clock::now();
    const size_t most = pause.count() > 0 ? 1 : std::min(batch, flows.size());
    std::array<mmsghdr, batch> messages{};
    std::array<iovec, batch> parts{};
    while (std::chrono::steady_clock::now() < end) {
        for (size_t i = 0; i < most; ++i) {
            const uint64_t number = counter.next() + i;
            Frame& flow = flows[number % flows.size()];
            flow.number(static_cast<uint32_t>(number));
            parts[i] = {flow.bytes.data(), flow.bytes.size()};
            messages[i].msg_hdr.msg_iov = &parts[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        counter.add(wire.send(messages, most));
        if (pause.count() > 0) std::this_thread::sleep_until(next += pause);
    }
}

}  // namespace

int main(int count, char** words) try {
    if (count != 8) throw std::runtime_error("seven arguments: see the head of this file");
    std::vector<Frame> flows = read_flows(mac(words[2]), mac(words[3]));
    Wire wire(words[1], std::atoi(words[4]));
    Counter counter(words[7]);
    run(wire, flows, counter, std::chrono::microseconds(std::atoi(words[5])),
        std::chrono::seconds(std::atoi(words[6])));
    return 0;
} catch (const std::exception& error) {
    std::cerr << "flood_sender: " << error.what() << "\n";
    return 1;
}
