#include "controller/confirmed.hpp"

#include "subscribers/router.hpp"

namespace smtpfence {

Confirmed::Confirmed(Database& database, std::optional<Revision> since) {
    if (!since) return;
    try {
        WideningReader reader;
        confirmed_openings(database, *since, [&](std::string_view lines) { reader.read(lines); });
        openings_ = std::move(reader).widening();
    } catch (const Refused& refused) {
        unknown_ = refused;
    }
}

const Widening& Confirmed::openings() const {
    if (unknown_) throw Refused(*unknown_);
    return openings_;
}

}  // namespace smtpfence
