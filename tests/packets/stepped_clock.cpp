// Loaded into the program under test by LD_PRELOAD: a clock that a test sets without touching the machine's. The file
// that STEPPED_CLOCK names holds eight bytes, by how many seconds the time of day is ahead of the machine's; it may
// change at any time. What counts since the boot stays as it is, as when somebody sets a real clock.

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

const volatile int64_t& ahead() {
    static const auto* const mapped = [] {
        const char* path = std::getenv("STEPPED_CLOCK");
        const int file = open(path ? path : "", O_RDONLY | O_CLOEXEC);
        void* const memory = mmap(nullptr, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        if (memory == MAP_FAILED) {
            std::perror("stepped_clock: STEPPED_CLOCK");
            _exit(1);
        }
        close(file);
        return static_cast<const volatile int64_t*>(memory);
    }();
    return *mapped;
}

template <typename Function>
Function* next(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
    static const auto real = next<int(clockid_t, timespec*)>("clock_gettime");
    const int result = real(clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += ahead();
    return result;
}

// Only timers for a time of day ask to be told of a step.
int timerfd_settime(int timer, int flags, const itimerspec* when, itimerspec* old) noexcept {
    static const auto real = next<int(int, int, const itimerspec*, itimerspec*)>("timerfd_settime");
    itimerspec shifted = *when;
    if ((flags & TFD_TIMER_CANCEL_ON_SET) != 0) {
        shifted.it_value.tv_sec = std::max<time_t>(0, shifted.it_value.tv_sec - ahead());
    }
    return real(timer, flags, &shifted, old);
}

// A step wakes who waits, as the timer would that the kernel cancels then.
int ppoll(pollfd* descriptors, nfds_t count, const timespec* timeout, const sigset_t* mask) {
    static const auto real = next<int(pollfd*, nfds_t, const timespec*, const sigset_t*)>("ppoll");
    constexpr int64_t slice = 50'000'000;
    const int64_t before = ahead();
    int64_t left = timeout ? timeout->tv_sec * 1'000'000'000 + timeout->tv_nsec : INT64_MAX;
    while (true) {
        const timespec now{0, std::min(left, slice)};
        const int result = real(descriptors, count, &now, mask);
        left -= now.tv_nsec;
        if (result != 0 || left <= 0 || ahead() != before) return result;
    }
}
}
