#include "controller/supervisor.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <string>

#include "subscribers/scratch.hpp"

using namespace smtpfence;
using namespace std::chrono_literals;

namespace {

/// systemd's end of the socket.
class Systemd {
public:
    explicit Systemd(const char* watchdog = nullptr) : descriptor_(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0)) {
        const std::string path = folder_.file("notify");
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path.data(), path.size());
        REQUIRE(bind(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
        setenv("NOTIFY_SOCKET", path.c_str(), 1);
        if (watchdog) setenv("WATCHDOG_USEC", watchdog, 1);
    }
    ~Systemd() {
        unsetenv("NOTIFY_SOCKET");
        unsetenv("WATCHDOG_USEC");
        close(descriptor_);
    }
    Systemd(const Systemd&) = delete;
    Systemd& operator=(const Systemd&) = delete;
    /// The next message, "" for none.
    std::string heard() const {
        char text[4096];
        const ssize_t length = recv(descriptor_, text, sizeof text, 0);
        return length > 0 ? std::string(text, static_cast<size_t>(length)) : "";
    }

private:
    ScratchFolder folder_;
    int descriptor_;
};

}  // namespace

TEST_CASE("supervisor: ready and each new status are told once") {
    const Systemd systemd;
    Supervisor supervisor;
    const Steady::time_point t{100s};
    supervisor.tell("starting", false, t);
    CHECK(systemd.heard() == "WATCHDOG=1\nSTATUS=starting");
    supervisor.tell("revision 1 enforced", true, t);
    CHECK(systemd.heard() == "WATCHDOG=1\nSTATUS=revision 1 enforced\nREADY=1");
    supervisor.tell("revision 1 enforced", true, t);
    CHECK(systemd.heard().empty());
    CHECK(supervisor.due(t) == Steady::time_point::max());
    supervisor.reloading();
    CHECK(systemd.heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    supervisor.tell("revision 1 enforced", true, t);
    CHECK(systemd.heard() == "WATCHDOG=1\nSTATUS=revision 1 enforced\nREADY=1");
    supervisor.stopping();
    CHECK(systemd.heard() == "STOPPING=1");
}

TEST_CASE("supervisor: a watchdog hears every turn, and a turn is due twice in its time") {
    const Systemd systemd("4000000");
    Supervisor supervisor;
    const Steady::time_point t{100s};
    for (int turn = 0; turn < 3; ++turn) {
        supervisor.tell("revision 1 enforced", false, t);
        CHECK(systemd.heard() == "WATCHDOG=1\nSTATUS=revision 1 enforced");
    }
    CHECK(supervisor.due(t) == t + 2s);
}

TEST_CASE("supervisor: one that does not read is not waited for, and hears what matters later") {
    const Systemd systemd("4000000");
    Supervisor supervisor;
    Steady::time_point t{100s};
    while (supervisor.due(t) == t + 2s) supervisor.tell("busy", false, t);  // until the queue is full
    supervisor.tell("revision 1 enforced", true, t);
    const Steady::time_point again = supervisor.due(t);
    CHECK(again == t + 100ms);
    while (!systemd.heard().empty()) {
    }
    supervisor.tell("revision 1 enforced", true, again);
    CHECK(systemd.heard() == "WATCHDOG=1\nSTATUS=revision 1 enforced\nREADY=1");
}

TEST_CASE("supervisor: without one nothing is told") {
    unsetenv("NOTIFY_SOCKET");
    Supervisor supervisor;
    const Steady::time_point t{100s};
    supervisor.tell("revision 1 enforced", true, t);
    supervisor.reloading();
    supervisor.stopping();
    CHECK(supervisor.due(t) == Steady::time_point::max());
}
