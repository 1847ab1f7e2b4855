#pragma once
// A session that passes everything on to another one: for tests that look at what goes by.

#include "subscribers/database.hpp"

namespace smtpfence {

class PassedOn : public Database {
public:
    explicit PassedOn(Database& session) : session_(session) {}

    using Database::query;
    int64_t query(std::string_view sql, std::span<const Value> parameters,
                  const std::function<void(const Row&)>& each) override {
        return session_.query(sql, parameters, each);
    }
    void begin_reading() override { session_.begin_reading(); }
    void begin_writing() override { session_.begin_writing(); }
    void begin_reporting() override { session_.begin_reporting(); }
    void commit() override { session_.commit(); }
    void rollback() noexcept override { session_.rollback(); }
    int wake_descriptor() override { return session_.wake_descriptor(); }
    Seen changed() override { return session_.changed(); }
    int schema_version() override { return session_.schema_version(); }
    void set_schema_version(int version) override { session_.set_schema_version(version); }
    void interrupt() noexcept override { session_.interrupt(); }
    bool log_is_long() const override { return session_.log_is_long(); }
    void shorten_log() noexcept override { session_.shorten_log(); }
    std::string name() const override { return session_.name(); }

protected:
    Database& session_;
};

}  // namespace smtpfence
