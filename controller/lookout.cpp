#include "controller/lookout.hpp"

#include <algorithm>
#include <sstream>

#include "controller/journal.hpp"
#include "rules/bypass.hpp"
#include "rules/judgement.hpp"
#include "rules/tracked_session.hpp"

namespace smtpfence {

namespace {

constexpr std::string_view mark = "warning: ";

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

}  // namespace

void Lookout::look(const std::vector<std::string>& subscriber) {
    std::vector<std::string> found = bypasses(read_surroundings(questioner_), subscriber);
    for (const std::string& one : found) {
        if (std::find(warnings_.begin(), warnings_.end(), one) == warnings_.end()) journal(Level::warning, one);
    }
    warnings_ = std::move(found);
}

size_t Lookout::end_offloaded_sessions(const Fence& applied) {
    if (!offloads_flows(questioner_)) return 0;
    const Lookup lookup = lookup_in(applied);
    return forget_sessions(questioner_, [&](const Prefix& line, const Prefix& server) {
        const Action verdict = judge(applied, lookup, line, server).verdict;
        return verdict == Action::drop || verdict == Action::reject;
    });
}

std::string notes_with(const std::string& features, const std::vector<std::string>& warnings) {
    std::string notes = features;
    for (const std::string& one : warnings) notes.append(mark).append(one).append("\n");
    return notes;
}

std::vector<std::string> warnings_in(const std::string& notes) {
    std::vector<std::string> warnings;
    for (const std::string& line : lines_of(notes)) {
        if (line.starts_with(mark)) warnings.push_back(line.substr(mark.size()));
    }
    return warnings;
}

std::string notes_without_warnings(const std::string& notes) {
    std::string rest;
    for (const std::string& line : lines_of(notes)) {
        if (!line.starts_with(mark)) rest += line + "\n";
    }
    return rest;
}

}  // namespace smtpfence
