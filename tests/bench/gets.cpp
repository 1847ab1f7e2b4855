// What it costs to ask the kernel for each exemption by its key, and nothing more:
//
//   bench_gets SET FIRST COUNT
//
// In the router's network namespace: asks for COUNT addresses, of which the first is FIRST behind 100.64.0.0, 200 in a
// message, and prints how many of them SET holds and the CPU seconds that it took.

#include <arpa/inet.h>
#include <sys/resource.h>

#include <cstdlib>
#include <iostream>

#include "tests/bench/sets.hpp"

using namespace smtpfence;

namespace {

constexpr uint32_t beginning = 0x64400000, asked_at_once = 200;

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
    if (count != 4) throw std::runtime_error("three arguments: see the head of this file");
    Sets sets;
    const auto number = [&](int word) { return static_cast<uint32_t>(std::strtoul(words[word], nullptr, 10)); };
    const uint32_t end = number(2) + number(3);
    size_t held = 0;
    std::vector<in_addr> keys;
    const double before = cpu();
    for (uint32_t next = number(2); next < end;) {
        keys.clear();
        for (; next < end && keys.size() < asked_at_once; ++next) keys.push_back({htonl(beginning + next)});
        held += sets.held(words[1], keys);
    }
    std::cout << held << " " << cpu() - before << "\n";
    return 0;
} catch (const std::exception& error) {
    std::cerr << "bench_gets: " << error.what() << "\n";
    return 1;
}
