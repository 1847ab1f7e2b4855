#pragma once
// What the guard withholds, from the service to whoever may confirm it, and back: journal, report, `apply --confirm`.

#include <string>
#include <vector>

#include "controller/guard.hpp"
#include "controller/reporter.hpp"

namespace smtpfence {

class Withholding {
public:
    /// Whether one of these confirms what is withheld, so that it may go now.
    static bool confirmed(Guard&, const std::vector<ApplyRequest>&, Instant now);

    /// Says what is withheld when it is something else than the last time.
    void tell(const Guard&, Report&, Reporter&);

private:
    std::string told_;  ///< digest; empty: nothing
};

}  // namespace smtpfence
