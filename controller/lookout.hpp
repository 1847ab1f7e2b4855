#pragma once
// What the service does about the surroundings of the fence: it watches for ways past it and says them, and where a
// flow table carries sessions past all rules, it ends those that are fenced.

#include <string>
#include <vector>

#include "rules/fence.hpp"
#include "rules/question.hpp"

namespace smtpfence {

class Lookout {
public:
    /// Looks around; new warnings are said in the journal.
    void look(const std::vector<std::string>& subscriber);

    /// What bypasses() said last.
    const std::vector<std::string>& warnings() const { return warnings_; }

    /// Where there is a flow table: makes the kernel forget the tracked sessions that `applied` stops, so that their
    /// next packets meet the rules. Returns how many. Throws KernelError.
    size_t end_offloaded_sessions(const Fence& applied);

private:
    Questioner questioner_;
    std::vector<std::string> warnings_;
};

/// A report's notes: `features` as they are, and a line for each warning; and back.
std::string notes_with(const std::string& features, const std::vector<std::string>& warnings);
std::vector<std::string> warnings_in(const std::string& notes);
std::string notes_without_warnings(const std::string& notes);

}  // namespace smtpfence
