#pragma once
// The right to write the table of this network namespace, which is one name of an abstract Unix socket: whatever the
// state directory, whatever the kernel knows of owners, and gone with its process.

#include <string>

namespace smtpfence {

class NetworkLock {
public:
    /// Throws Refused (conflict) when another process holds it, with its name and pid; std::system_error. A user who
    /// could not write the table (neither root, nor ours, nor the state directory's owner) can hold the name, but not
    /// the right: then there is none to be had, and none is needed.
    explicit NetworkLock(const std::string& state_directory);
    ~NetworkLock();
    NetworkLock(const NetworkLock&) = delete;
    NetworkLock& operator=(const NetworkLock&) = delete;

    /// Lets go of those who came second since the last call: they are queued until somebody does.
    void turn_away();

private:
    int descriptor_ = -1;
};

/// "process 4711 (smtpfence)"; without a name when it is gone or out of sight.
std::string process_words(long pid);
/// What is said to who comes second. `where` names the lock.
std::string taken_words(const std::string& process, const std::string& where);

}  // namespace smtpfence
