#include "subscribers/spool.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "scratch.hpp"

using namespace smtpfence;

/// What `work` returns in a process whose temporary files go to `folder`.
static std::string with_folder(const std::string& folder, const std::function<std::string()>& work) {
    return in_another_process([&] {
        setenv("TMPDIR", folder.c_str(), 1);
        std::signal(SIGPIPE, SIG_IGN);
        return work();
    });
}
/// Spools `content`, which another thread writes into a pipe.
static int spooled_from_pipe(const std::string& content, const std::function<void(int64_t)>& progress = {}) {
    int ends[2];
    if (pipe(ends) != 0) return -1;
    std::thread producer([&] {
        for (size_t at = 0; at < content.size();) {
            const ssize_t count = write(ends[1], content.data() + at, content.size() - at);
            if (count < 0) break;
            at += static_cast<size_t>(count);
        }
        close(ends[1]);
    });
    int file = -1;
    std::exception_ptr failed;
    try {
        file = spooled(ends[0], "the pipe", progress);
    } catch (...) {
        failed = std::current_exception();
    }
    close(ends[0]);
    producer.join();
    if (failed) std::rethrow_exception(failed);
    return file;
}

TEST_CASE("spool: what came through a pipe is read again from its beginning, and leaves nothing") {
    ScratchFolder folder;
    CHECK(with_folder(folder.file(""), [&]() -> std::string {
              std::string content;
              for (int i = 0; i < 200'000; ++i) content += std::to_string(i) + "\n";
              int64_t last = 0;
              const int file = spooled_from_pipe(content, [&](int64_t bytes) { last = bytes; });
              std::string again(content.size() + 1, '?');
              const ssize_t size = pread(file, again.data(), again.size(), 0);
              const bool at_begin = lseek(file, 0, SEEK_CUR) == 0;
              if (!std::filesystem::is_empty(folder.file(""))) return "a file with a name";
              close(file);
              again.pop_back();
              const auto bytes = static_cast<ssize_t>(content.size());
              return size == bytes && again == content && last == bytes && at_begin ? "same" : "other";
          }) == "same");
    CHECK(std::filesystem::is_empty(folder.file("")));
}

TEST_CASE("spool: a folder without room is named, with what to do") {
    ScratchFolder folder;
    const std::string said = with_folder(folder.file(""), [&]() -> std::string {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{100'000, 100'000};
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return "no limit";
        close(spooled_from_pipe(std::string(200'000, 'x')));
        return "kept";
    });
    CHECK_THAT(said, Catch::StartsWith("threw the pipe can't be kept in " + folder.file("") + ": File too large; ") &&
                         Catch::Contains("nothing was written") && Catch::Contains("TMPDIR"));
    CHECK(std::filesystem::is_empty(folder.file("")));
    const std::string missing = with_folder(folder.file("none"), [&]() -> std::string {
        close(spooled_from_pipe("x"));
        return "kept";
    });
    CHECK_THAT(missing, Catch::Contains("No such file or directory"));
}

TEST_CASE("spool: input that can't be read is told from its end") {
    const int file = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    CHECK_THROWS_WITH(spooled(file, "the memory", {}),
                      Catch::StartsWith("the memory can't be read: Input/output error"));
    close(file);
}
