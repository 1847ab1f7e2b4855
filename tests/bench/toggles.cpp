// How long a change takes from its commit in the database to the kernel's set:
//
//   bench_toggles DATABASE COUNT MICROSECONDS < customers
//
//   customer17 100.64.0.17
//
// In the router's network namespace, beside its service. All customers are granted an exemption one after the other,
// then all are revoked, and so on, COUNT changes in all, each a transaction of its own, as the command line writes it;
// MICROSECONDS lie between two. Meanwhile a second thread asks the kernel every 30 microseconds for the element of the
// oldest change that it doesn't hold yet. Prints a line "grant MICROSECONDS" or "revoke MICROSECONDS" for each, and in
// the end "seconds N", the time from the first commit to the last.

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/prctl.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <exception>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "subscribers/customer.hpp"

using namespace smtpfence;
using Clock = std::chrono::steady_clock;
using Buffer = std::array<char, 65536>;

namespace {

constexpr const char* table = "smtpfence";
constexpr auto glance = std::chrono::microseconds(30), patience = std::chrono::microseconds(30'000'000);

struct Customer {
    std::string id;
    in_addr address{};
};

/// The element sets of the router, asked without a library between.
class Sets {
public:
    Sets() : socket_(mnl_socket_open(NETLINK_NETFILTER), mnl_socket_close) {
        if (!socket_ || mnl_socket_bind(socket_.get(), 0, MNL_SOCKET_AUTOPID) < 0) fail("netlink socket");
    }

    /// Looks which sets of IPv4 addresses there are: a set that is nearly full is replaced by a larger one.
    void look() {
        names_.clear();
        Buffer buffer;
        nlmsghdr* const message = begin(buffer, NFT_MSG_GETSET, NLM_F_DUMP);
        mnl_attr_put_strz(message, NFTA_SET_TABLE, table);
        send(message);
        for (bool more = true; more;) {
            const size_t size = receive(buffer);
            more = mnl_cb_run(buffer.data(), size, 0, 0, &Sets::note, this) > MNL_CB_STOP;
        }
        if (names_.empty()) throw std::runtime_error("no set exempt4_32 in table inet smtpfence");
    }

    bool hold(in_addr address) {
        for (const std::string& name : names_) {
            if (holds(name, address)) return true;
        }
        return false;
    }

private:
    [[noreturn]] static void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

    nlmsghdr* begin(Buffer& buffer, int type, uint16_t flags) {
        nlmsghdr* const message = mnl_nlmsg_put_header(buffer.data());
        message->nlmsg_type = static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | type);
        message->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
        message->nlmsg_seq = ++sequence_;
        auto* const family = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg)));
        family->nfgen_family = NFPROTO_INET;
        family->version = NFNETLINK_V0;
        return message;
    }

    void send(const nlmsghdr* message) {
        if (mnl_socket_sendto(socket_.get(), message, message->nlmsg_len) < 0) fail("netlink request");
    }

    size_t receive(Buffer& buffer) {
        const ssize_t size = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
        if (size < 0) fail("netlink answer");
        return static_cast<size_t>(size);
    }

    static int note(const nlmsghdr* message, void* self) {
        return mnl_attr_parse(message, sizeof(nfgenmsg), &Sets::note_name, self);
    }

    static int note_name(const nlattr* attribute, void* self) {
        if (mnl_attr_get_type(attribute) != NFTA_SET_NAME) return MNL_CB_OK;
        const std::string name = mnl_attr_get_str(attribute);
        if (name == "exempt4_32" || name.starts_with("exempt4_32_")) static_cast<Sets*>(self)->names_.push_back(name);
        return MNL_CB_OK;
    }

    bool holds(const std::string& name, in_addr address) {
        Buffer buffer;
        nlmsghdr* const message = begin(buffer, NFT_MSG_GETSETELEM, 0);
        mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, table);
        mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, name.c_str());
        nlattr* const elements = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
        nlattr* const element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
        nlattr* const key = mnl_attr_nest_start(message, NFTA_SET_ELEM_KEY);
        mnl_attr_put(message, NFTA_DATA_VALUE, sizeof address, &address);
        mnl_attr_nest_end(message, key);
        mnl_attr_nest_end(message, element);
        mnl_attr_nest_end(message, elements);
        send(message);
        receive(buffer);
        const auto* const answer = reinterpret_cast<const nlmsghdr*>(buffer.data());
        if (answer->nlmsg_type != NLMSG_ERROR) return true;
        const auto* const error = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(answer));
        if (error->error == -ENOENT) return false;  // the element, or the set
        errno = -error->error;
        fail("element");
    }

    std::unique_ptr<mnl_socket, int (*)(mnl_socket*)> socket_;
    uint32_t sequence_ = 0;
    std::vector<std::string> names_;
};

std::vector<Customer> read_customers() {
    std::vector<Customer> customers;
    std::string id, address;
    while (std::cin >> id >> address) {
        customers.push_back({id, {}});
        if (inet_pton(AF_INET, address.c_str(), &customers.back().address) != 1)
            throw std::runtime_error("no IPv4 address: " + address);
    }
    if (customers.empty()) throw std::runtime_error("standard input: no customers");
    return customers;
}

/// A change that was committed and not seen in the kernel yet.
struct Pending {
    in_addr address{};
    bool granted = false;
    Clock::time_point committed;
};

Pending toggle(Database& database, const Customer& customer, bool grant) {
    Change change(database, {"bench", {}, "bench"}, grant ? "exempt grant" : "exempt revoke", "bench");
    if (grant) {
        grant_exemption(change, {.customer = customer.id,
                                 .reason = "bench",
                                 .ticket = {},
                                 .asked_by = {},
                                 .duration = std::chrono::days(365),
                                 .until = {}});
    } else {
        revoke_exemption(change, customer.id, "bench");
    }
    change.commit();
    return {customer.address, grant, Clock::now()};
}

/// Looks for what was committed, oldest first, beside the thread that writes.
class Witness {
public:
    Witness() : thread_([this] { watch(); }) {}
    ~Witness() { end(); }

    void await(const Pending& pending) {
        const std::lock_guard lock(mutex_);
        pending_.push_back(pending);
    }

    /// Waits until everything was seen. Throws what the witness ran into.
    void finish() {
        end();
        if (failure_) std::rethrow_exception(failure_);
    }

private:
    void end() {
        ending_ = true;
        if (thread_.joinable()) thread_.join();
    }

    std::optional<Pending> oldest() {
        const std::lock_guard lock(mutex_);
        return pending_.empty() ? std::nullopt : std::optional(pending_.front());
    }

    void watch() try {
        Sets sets;
        sets.look();
        Clock::time_point looked = Clock::now();
        for (auto change = oldest(); change || !ending_; change = oldest()) {
            if (change && sets.hold(change->address) == change->granted) {
                const std::chrono::duration<double, std::micro> took = Clock::now() - change->committed;
                std::cout << (change->granted ? "grant " : "revoke ") << took.count() << "\n";
                const std::lock_guard lock(mutex_);
                pending_.pop_front();
                continue;
            }
            if (change && Clock::now() - change->committed > patience)
                throw std::runtime_error("a change did not reach the kernel within 30 s");
            if (Clock::now() - looked > std::chrono::milliseconds(50)) {
                sets.look();
                looked = Clock::now();
            }
            std::this_thread::sleep_for(glance);
        }
    } catch (...) {
        failure_ = std::current_exception();
    }

    std::mutex mutex_;
    std::deque<Pending> pending_;
    std::atomic<bool> ending_ = false;
    std::exception_ptr failure_;
    std::thread thread_;  ///< last: it uses the others
};

void run(Database& database, const std::vector<Customer>& customers, size_t count, std::chrono::microseconds pause) {
    Witness witness;
    const Clock::time_point start = Clock::now();
    Clock::time_point next = start;
    for (size_t done = 0; done < count; ++done) {
        std::this_thread::sleep_until(next);
        witness.await(toggle(database, customers[done % customers.size()], done / customers.size() % 2 == 0));
        next += pause;
    }
    const std::chrono::duration<double> written = Clock::now() - start;
    witness.finish();
    std::cout << "seconds " << written.count() << "\n";
}

}  // namespace

int main(int count, char** words) try {
    if (count != 4) throw std::runtime_error("three arguments: see the head of this file");
    prctl(PR_SET_TIMERSLACK, 1);
    const auto database = open_database(words[1], OpenMode::write);
    run(*database, read_customers(), std::strtoul(words[2], nullptr, 10),
        std::chrono::microseconds(std::atol(words[3])));
    return 0;
} catch (const std::exception& error) {
    std::cerr << "bench_toggles: " << error.what() << "\n";
    return 1;
}
