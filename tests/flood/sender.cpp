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

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/flood/wire.hpp"

using namespace smtpfence;

namespace {

std::vector<Frame> read_flows(const Link& link) {
    std::vector<Frame> frames;
    Flow flow;
    while (std::cin >> flow.from >> flow.to >> flow.source_port >> flow.port)
        frames.push_back(tcp_frame(link, flow, TH_SYN));
    if (frames.empty() || !std::cin.eof()) throw std::runtime_error("standard input: no flows, or not in their form");
    return frames;
}

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
    const size_t most = pause.count() > 0 ? 1 : std::min(Wire::most, flows.size());
    while (std::chrono::steady_clock::now() < end) {
        for (size_t i = 0; i < most; ++i) {
            const uint64_t number = counter.next() + i;
            flows[number % flows.size()].number(static_cast<uint32_t>(number));
        }
        counter.add(wire.send(flows, counter.next(), most));
        // Never faster than the pace: the burst of a sender that was late would overflow the queue between two
        // interfaces, and be counted against the router.
        next = std::max(next + pause, std::chrono::steady_clock::now());
        if (pause.count() > 0) std::this_thread::sleep_until(next);
    }
}

}  // namespace

int main(int count, char** words) try {
    if (count != 8) throw std::runtime_error("seven arguments: see the head of this file");
    std::vector<Frame> flows = read_flows({parse_mac(words[2]), parse_mac(words[3])});
    stay_on_cpu(std::atoi(words[4]));
    Wire wire(words[1]);
    Counter counter(words[7]);
    run(wire, flows, counter, std::chrono::microseconds(std::atoi(words[5])),
        std::chrono::seconds(std::atoi(words[6])));
    return 0;
} catch (const std::exception& error) {
    std::cerr << "flood_sender: " << error.what() << "\n";
    return 1;
}
