// What one packet costs on several ways through routers, in turns of some milliseconds each, so that the machine's
// noise hits all of them alike:
//
//   bench_packets CPU CALLS TURNS < ways
//
//   NAMESPACE INTERFACE OWN_MAC ROUTER_MAC KIND FROM TO SOURCE_PORT PORT SOURCES
//
// NAMESPACE is a file that names the network namespace of INTERFACE; KIND is syn, ack or udp; SOURCES frames go round,
// from FROM and the addresses behind it. A turn sends CALLS times 64 packets on each way, each call on one CPU from the
// sender to the far end; what a packet cost is the median of these calls, so that an interruption doesn't count. For
// each turn one line with the nanoseconds per packet of each way; the last line has the number of packets sent on each.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/flood/wire.hpp"

using namespace smtpfence;

namespace {

struct Way {
    Wire wire;
    std::vector<Frame> frames;
    size_t sent = 0;
};

/// The address `number` steps behind `text`, in its last four bytes.
std::string behind(const std::string& text, uint32_t number) {
    const int family = text.find(':') == std::string::npos ? AF_INET : AF_INET6;
    std::array<unsigned char, 16> bytes{};
    if (inet_pton(family, text.c_str(), bytes.data()) != 1) throw std::runtime_error("no address: " + text);
    const size_t last = family == AF_INET ? 4 : 16;
    for (size_t i = last; i-- > last - 4; number >>= 8) {
        number += bytes[i];
        bytes[i] = static_cast<unsigned char>(number & 0xff);
    }
    std::array<char, INET6_ADDRSTRLEN> result{};
    inet_ntop(family, bytes.data(), result.data(), result.size());
    return result.data();
}

Frame frame(const std::string& kind, const Link& link, const Flow& flow) {
    if (kind == "syn") return tcp_frame(link, flow, TH_SYN);
    if (kind == "ack") return tcp_frame(link, flow, TH_ACK);
    if (kind == "udp") return udp_frame(link, flow);
    throw std::runtime_error("no kind of packet: " + kind);
}

void enter(const std::string& path) {
    const int file = checked(open(path.c_str(), O_RDONLY | O_CLOEXEC), path.c_str());
    checked(setns(file, CLONE_NEWNET), "setns");
    close(file);
}

Way read_way(const std::string& line) {
    std::istringstream words(line);
    std::string space, interface, own, router, kind;
    Flow flow;
    uint32_t sources = 0;
    words >> space >> interface >> own >> router >> kind >> flow.from >> flow.to >> flow.source_port >> flow.port >>
        sources;
    if (words.fail() || sources == 0) throw std::runtime_error("not a way: " + line);
    enter(space);
    Way way{Wire(interface), {}};
    const std::string first = flow.from;
    for (uint32_t i = 0; i < sources; ++i) {
        flow.from = behind(first, i);
        way.frames.push_back(frame(kind, {parse_mac(own), parse_mac(router)}, flow));
    }
    return way;
}

/// The median of what a packet cost in each of `calls` calls, in nanoseconds.
double turn(Way& way, size_t calls) {
    std::vector<double> costs(calls);
    for (double& cost : costs) {
        const auto start = std::chrono::steady_clock::now();
        const size_t taken = way.wire.send(way.frames, way.sent, Wire::most);
        const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
        if (taken == 0) throw std::runtime_error("the kernel took no packet");
        way.sent += taken;
        cost = took.count() / static_cast<double>(taken);
    }
    const auto middle = costs.begin() + static_cast<std::ptrdiff_t>(calls / 2);
    std::nth_element(costs.begin(), middle, costs.end());
    return *middle;
}

}  // namespace

int main(int count, char** words) try {
    if (count != 4) throw std::runtime_error("three arguments: see the head of this file");
    const size_t calls = std::strtoul(words[2], nullptr, 10), turns = std::strtoul(words[3], nullptr, 10);
    std::vector<Way> ways;
    for (std::string line; std::getline(std::cin, line);) ways.push_back(read_way(line));
    stay_on_cpu(std::atoi(words[1]));
    for (size_t n = 0; n < turns; ++n) {
        // Each way is first in as many turns as any other.
        std::vector<double> costs(ways.size());
        for (size_t i = 0; i < ways.size(); ++i) {
            const size_t at = (n + i) % ways.size();
            costs[at] = turn(ways[at], calls);
        }
        for (const double cost : costs) std::cout << cost << " ";
        std::cout << "\n";
    }
    for (const Way& way : ways) std::cout << way.sent << " ";
    std::cout << "\n";
    return 0;
} catch (const std::exception& error) {
    std::cerr << "bench_packets: " << error.what() << "\n";
    return 1;
}
