#include "rules/question.hpp"

#include <linux/rtnetlink.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <set>

using namespace smtpfence;

namespace {

/// What this process has open, by the kernel's names: "socket:[1234]".
std::set<std::string> open_sockets() {
    std::set<std::string> sockets;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code closed_meanwhile;
        const std::string name = read_symlink(entry.path(), closed_meanwhile);
        if (name.starts_with("socket:")) sockets.insert(name);
    }
    return sockets;
}

size_t interfaces(Questioner& questioner) {
    size_t count = 0;
    Question question(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
    REQUIRE(questioner.ask(NETLINK_ROUTE, question, [&](const nlmsghdr&) { ++count; }) == 0);
    return count;
}

}  // namespace

TEST_CASE("question: each further one goes over the same socket, until one fails") {
    const auto before = open_sockets();
    {
        Questioner questioner;
        CHECK(interfaces(questioner) > 0);
        const auto asked = open_sockets();
        CHECK(asked.size() == before.size() + 1);
        CHECK(interfaces(questioner) > 0);
        CHECK(open_sockets() == asked);

        Question unknown(RTM_MAX + 64, NLM_F_DUMP, ifinfomsg{});
        CHECK(questioner.ask(NETLINK_ROUTE, unknown, [](const nlmsghdr&) {}) == EOPNOTSUPP);
        CHECK(open_sockets() == before);
        CHECK(interfaces(questioner) > 0);
        CHECK(open_sockets() != asked);
    }
    CHECK(open_sockets() == before);
}
