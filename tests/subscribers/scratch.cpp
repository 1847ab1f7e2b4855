#include "scratch.hpp"

#include <fmt/format.h>

#include <sys/wait.h>
#include <unistd.h>

namespace smtpfence {

std::string in_another_process(const std::function<std::string()>& work, bool as_nobody) {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const pid_t child = fork();
    REQUIRE(child != -1);
    if (child == 0) {
        std::string result;
        if (as_nobody && geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) _exit(2);
        try {
            result = work();
        } catch (const std::exception& error) {
            result = std::string("threw ") + error.what();
        }
        const bool written = write(ends[1], result.data(), result.size()) == static_cast<ssize_t>(result.size());
        _exit(written ? 0 : 3);
    }
    close(ends[1]);
    std::string result;
    char part[512];
    for (ssize_t size; (size = read(ends[0], part, sizeof part)) > 0;) result.append(part, static_cast<size_t>(size));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? result : "killed";
}

std::vector<std::string> log_of(Database& database, Revision revision) {
    std::vector<std::string> result;
    database.query(
        "SELECT object, customer, first, length, before IS NULL, after IS NULL FROM change WHERE revision = $1",
        {revision}, [&](const Row& row) {
            const std::string prefix = row.null(2) ? "" : " " + Prefix::from_key(row.blob(2), row.integer(3)).text();
            const char* kind = row.integer(4) ? " added" : row.integer(5) ? " ended" : " changed";
            result.push_back(fmt::format("{} {}{}{}", row.text(0), row.text(1), prefix, kind));
        });
    return result;
}

}  // namespace smtpfence
