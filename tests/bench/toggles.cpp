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
#include <sys/prctl.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <exception>
#include <iostream>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "subscribers/customer.hpp"
#include "tests/bench/sets.hpp"

using namespace smtpfence;
using Clock = std::chrono::steady_clock;

namespace {

constexpr auto glance = std::chrono::microseconds(30), patience = std::chrono::microseconds(30'000'000);

struct Customer {
    std::string id;
    in_addr address{};
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
