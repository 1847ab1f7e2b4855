#pragma once
// What the service says: structured lines in systemd's journal when it runs under it, plain lines on standard error
// otherwise.
//
//   journal(Level::notice, "revision 12 enforced: 3 changes", {{"REVISION", "12"}});

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

namespace smtpfence {

/// syslog's priorities.
enum class Level { error = 3, warning = 4, notice = 5, info = 6 };

/// `fields` become SMTPFENCE_<NAME>=value beside the message.
void journal(Level, const std::string& message, std::initializer_list<std::pair<const char*, std::string>> fields = {});

/// A pass that changed something in the kernel.
void journal_pass(int64_t revision, size_t changes, std::chrono::duration<double, std::milli> took);

}  // namespace smtpfence
