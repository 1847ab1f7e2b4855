// What it costs to ask the kernel for each exemption by its key, and nothing more:
//
//   bench_gets SET COUNT
//
// In the router's network namespace: asks for 100.64.0.0 and the COUNT - 1 addresses behind it, 200 in a message, and
// prints how many of them SET holds and the CPU seconds that it took.

#include <arpa/inet.h>
#include <sys/resource.h>

#include <cstdlib>
#include <iostream>

#include "tests/bench/sets.hpp"

using namespace smtpfence;

namespace {

constexpr uint32_t first = 0x64400000, asked_at_once = 200;

double seconds(const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

double cpu() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    return seconds(used.ru_utime) + seconds(used.ru_stime);
}

}  // namespace

int main(int count, char** words) try {
    if (count != 3) throw std::runtime_error("two arguments: see the head of this file");
    Sets sets;
    const auto number = static_cast<uint32_t>(std::strtoul(words[2], nullptr, 10));
    size_t held = 0;
    std::vector<in_addr> keys;
    const double before = cpu();
    for (uint32_t next = 0; next < number;) {
        keys.clear();
        for (; next < number && keys.size() < asked_at_once; ++next) keys.push_back({htonl(first + next)});
        held += sets.held(words[1], keys);
    }
    std::cout << held << " " << cpu() - before << "\n";
    return 0;
} catch (const std::exception& error) {
    std::cerr << "bench_gets: " << error.what() << "\n";
    return 1;
}
