#include "controller/withholding.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "controller/journal.hpp"

namespace smtpfence {

bool Withholding::confirmed(Guard& guard, const std::vector<ApplyRequest>& requests, Instant now) {
    bool any = false;
    for (const ApplyRequest& request : requests) {
        const auto& withheld = guard.withheld();
        if (!request.confirm || !withheld || !guard.confirm(*request.confirm, now)) continue;
        journal(Level::notice, fmt::format("{} confirmed: {}", request.login, summary(withheld->widening)),
                {{"DIGEST", withheld->digest}});
        any = true;
    }
    return any;
}

void Withholding::tell(const Guard& guard, Report& report, Reporter& reporter) {
    const auto& withheld = guard.withheld();
    const std::string digest = withheld ? withheld->digest : std::string();
    if (digest == told_) return;
    told_ = digest;
    if (withheld) {
        journal(Level::warning, sentence(*withheld), {{"DIGEST", digest}});
        report.guard = json_of(*withheld).dump();
    } else {
        journal(Level::notice, "the guard withholds nothing any more");
        report.guard.reset();
    }
    reporter.withheld(withheld ? withheld->widening.exempted : std::vector<Prefix>());
    reporter.hurry();
}

}  // namespace smtpfence
