#include "subscribers/staging.hpp"

#include <fmt/format.h>

#include "import_run.hpp"

using namespace smtpfence;
using Catch::StartsWith;

/// So many assignments, from 100.64.<third>.0 on.
static std::string many(int count, int third = 0) {
    std::string file;
    for (int i = 0; i < count; ++i) {
        file += assign_line(fmt::format("c{}", i), fmt::format("100.64.{}.{}", third + i / 250, i % 250));
    }
    return file;
}
static std::string many_exempt(int count, int from = 0) {
    std::string file;
    for (int i = from; i < from + count; ++i) file += exempt_line(fmt::format("c{}", i));
    return file;
}

TEST_CASE("staging: a file that was cut off between two lines is refused unless the loss is meant") {
    ScratchDatabase database;
    const std::string file = many(1000) + many_exempt(500);
    replace("crm").run(*database, file);
    upsert().run(*database, many(1000, 100));
    CHECK(replace("crm").refused(*database, assign_line("c0", "100.64.0.0")) ==
          "conflict: 1499 of the 1500 rows of source 'crm' would go; is the file whole? --confirm if that is meant");
    CHECK_THAT(replace("crm", What::assignments).refused(*database, many(899)),
               StartsWith("conflict: 101 of the 1000"));
    CHECK_THAT(replace("crm", What::exemptions).refused(*database, many_exempt(400)),
               StartsWith("conflict: 100 of the 500"));
    CHECK(replace("crm", What::assignments).run(*database, many(900)) == "0/0/900/0/100");
    Import meant = replace("crm");
    meant.options.allow_loss = true;
    CHECK(meant.run(*database, assign_line("c0", "100.64.0.0")) == "0/0/1/0/1399");
    CHECK(replace("import", What::assignments).run(*database, many(900, 100)) == "0/0/900/0/100");
}

TEST_CASE("staging: a small loss, and rows that are others now, are nothing to ask about") {
    ScratchDatabase database;
    replace("crm").run(*database, many(300) + many_exempt(300));
    CHECK(replace("crm").run(*database, many(300, 50) + many_exempt(300, 1000)) == "600/0/0/0/600");
    CHECK(replace("crm").run(*database, many(250, 50) + many_exempt(251, 1000)) == "0/0/501/0/99");
}

TEST_CASE("staging: what is over is no row that is left") {
    ScratchDatabase database;
    replace("crm").run(*database, many(200));
    std::string file = many(50);
    for (int i = 50; i < 200; ++i) {
        file += assign_line(fmt::format("c{}", i), fmt::format("100.64.0.{}", i), until("2020-01-01T00:00:00Z"));
    }
    CHECK_THAT(replace("crm").refused(*database, file), StartsWith("conflict: 150 of the 200 rows"));
}

TEST_CASE("staging: exemptions that the file names but doesn't get don't hide a loss") {
    ScratchDatabase database;
    const std::string file = many_exempt(600);
    replace("crm").run(*database, file);
    committed(*database, [](Change& change) {
        for (int i = 0; i < 300; ++i) revoke_exemption(change, fmt::format("c{}", i), "abuse");
    });
    CHECK(replace("crm").run(*database, file) == "0/0/300/300/0");
    CHECK_THAT(replace("crm").refused(*database, many_exempt(400)), StartsWith("conflict: 200 of the 300 rows"));
}
