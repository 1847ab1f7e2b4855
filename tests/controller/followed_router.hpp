#pragma once
// A router for tests of Enforcement: a database with something in it, and a kernel that is a model.

#include <fmt/format.h>

#include "controller/enforcement.hpp"
#include "rules/model_kernel.hpp"
#include "rules/scenario.hpp"
#include "subscribers/scratch.hpp"

namespace smtpfence {

/// A database with a relay, two pools and a customer, and an empty kernel.
struct Router {
    ScratchDatabase database;
    ModelKernel kernel{now()};
    Enforcement enforcement{kernel, Border{}};

    Router() {
        committed(*database, [](Change& change) {
            add_relay(change, "203.0.113.10"_p, {}, {});
            add_pool(change, "100.64.0.0/16"_p, {}, Action::drop);
            add_pool(change, "2001:db8:100::/40"_p, {}, Action::reject);
            assign(change, "c1", "100.64.3.7"_p, {}, false);
            assign(change, "c1", "2001:db8:100:700::/56"_p, {}, false);
        });
    }
    void grant(const std::string& customer, Seconds duration = Seconds{30 * 86400}) {
        committed(*database, [&](Change& change) {
            grant_exemption(change, {customer, "test", {}, {}, duration, {}});
        });
    }
    /// To new customers, for an hour, so many addresses each, from 100.66.0.0 on.
    void grant_many(int customers, int addresses = 1) {
        committed(*database, [&](Change& change) {
            for (int number = 0; number < customers * addresses; ++number) {
                const std::string customer = fmt::format("customer{}", number / addresses);
                const std::string address = fmt::format("100.66.{}.{}", number / 256, number % 256);
                assign(change, customer, Prefix::parse(address), {}, false);
                if (number % addresses == 0) grant_exemption(change, {customer, "test", {}, {}, Seconds(3600), {}});
            }
        });
    }
    void revoke(const std::string& customer) {
        committed(*database, [&](Change& change) { revoke_exemption(change, customer, "test"); });
    }
    Pass follow(Instant time = now()) { return enforcement.follow(*database, time); }
    /// What the kernel lacks or has too much of.
    size_t differences(Instant time = now()) {
        const Fence actual = kernel.read();
        return difference(actual, compile(read_policy(*database, time), {}, actual), time).size();
    }
    /// How many exemptions went with their set.
    size_t ended_at_once() const {
        size_t count = 0;
        for (const Transaction& transaction : kernel.commits) {
            for (const Operation& operation : transaction.operations) {
                if (const auto* gone = std::get_if<DeleteSet>(&operation)) count += gone->ended.size();
            }
        }
        return count;
    }
    /// Rights go by a clock that somebody set: what the kernel counts down goes on as before.
    void set_clock(Seconds step) { kernel.set_clock(kernel.clock_told() + step); }
    bool exempt(const char* prefix) {
        const Prefix key = Prefix::parse(prefix);
        return kernel.find(exempt_set_of(kernel.read(), key).value(), to_key(key)).has_value();
    }
};

/// The same in force, with the customer exempt.
struct ExemptRouter : Router {
    ExemptRouter() {
        enforcement.take();
        grant("c1");
        follow();
    }
};

/// In force: 1,000 exemptions, one of which the database knows, beside one that isn't in force yet.
struct CrowdedRouter : Router {
    CrowdedRouter() {
        committed(*database, [](Change& change) { assign(change, "c2", "100.127.0.9"_p, {}, false); });
        grant("c1");
        grant("c2");
        enforcement.replace_sets_from(500);
        enforcement.take();
        enforcement.restore(compile(many_rights(1000, now()), {}, {}), now());
    }
};

}  // namespace smtpfence
