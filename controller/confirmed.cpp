#include "controller/confirmed.hpp"

#include <algorithm>

#include "controller/guard.hpp"
#include "subscribers/error.hpp"
#include "subscribers/router.hpp"

namespace smtpfence {

Widening unconfirmed(Database& database, Revision since, Widening asked) {
    if (asked.empty()) return asked;
    const std::vector<std::string> digests = confirmed_digests(database, since);
    if (digests.empty()) return asked;
    if (std::find(digests.begin(), digests.end(), digest_of(asked)) != digests.end()) return {};
    WideningReader reader;
    confirmed_openings(database, since, [&](std::string_view lines) {
        try {
            reader.read(lines);
        } catch (const Refused&) {  // by a newer program: what isn't known isn't confirmed
        }
    });
    return without(asked, std::move(reader).widening());
}

}  // namespace smtpfence
