#include <fmt/format.h>

#include "subscribers/customer.hpp"
#include "subscribers/passed_on.hpp"
#include "subscribers/scratch.hpp"

using namespace smtpfence;

/// A session that counts the rows that it hands out.
class CountedRows final : public PassedOn {
public:
    using PassedOn::PassedOn;
    int64_t query(std::string_view sql, std::span<const Value> parameters,
                  const std::function<void(const Row&)>& each) override {
        return session_.query(sql, parameters, [&](const Row& row) {
            ++rows;
            if (each) each(row);
        });
    }
    using PassedOn::query;

    int64_t rows = 0;
};

TEST_CASE("assignment: a prefix that is mistyped far too wide is refused at the first row in its way") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        for (int i = 0; i < 2000; ++i) {
            assign(change, fmt::format("c{}", i), Prefix::parse(fmt::format("100.64.{}.{}", i / 250, i % 250)), {},
                   false);
        }
    });
    CountedRows counted(*database);
    Change change(counted, alice, "assign");
    counted.rows = 0;
    CHECK(refusal([&] { assign(change, "typo", "100.0.0.0/8"_p, {}, false); }) ==
          "conflict: 100.64.0.0/32 is held by customer 'c0': --take ends that, or 'release 100.64.0.0/32' first");
    CHECK(counted.rows < 10);
}

TEST_CASE("assignment: what is over makes way for a wider and for a narrower prefix, and goes to history") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        const Instant soon = now() + std::chrono::days{1};
        assign(change, "c1", "100.64.0.0/24"_p, soon, false);
        assign(change, "c2", "100.64.8.1"_p, soon, false);
        assign(change, "c3", "100.64.8.2"_p, soon, false);
        assign(change, "c4", "100.64.9.1"_p, soon, false);
    });
    let_pass(*database, std::chrono::days{2});
    const Revision revision = committed(*database, [](Change& change) {
        CHECK(assign(change, "c5", "100.64.0.7"_p, {}, false).taken.empty());
        CHECK(assign(change, "c5", "100.64.8.0/24"_p, {}, true).taken.empty());
    });
    CHECK(log_of(*database, revision) == std::vector<std::string>{"customer c5 added",
                                                                  "assignment c5 100.64.0.7/32 added",
                                                                  "assignment c5 100.64.8.0/24 added"});
    std::string rows;
    database->query("SELECT customer, ended = until FROM past_assignment ORDER BY customer", {},
                    [&](const Row& row) { rows += fmt::format("{} {} ", row.text(0), row.integer(1)); });
    database->query("SELECT customer FROM assignment ORDER BY first", {},
                    [&](const Row& row) { rows += fmt::format("{} ", row.text(0)); });
    CHECK(rows == "c1 1 c2 1 c3 1 c5 c5 c4 ");
}
