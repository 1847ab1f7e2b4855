#include "controller/last_good.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "controller/digest.hpp"
#include "subscribers/error.hpp"
#include "subscribers/ownership.hpp"

namespace smtpfence {

class Descriptor {
public:
    explicit Descriptor(int number) : number_(number) {}
    ~Descriptor() {
        if (number_ >= 0) close(number_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int number() const { return number_; }

private:
    int number_;
};

namespace {

/// Changes may take so much, or as much as the whole fence.
constexpr size_t outgrown = size_t{1} << 20;
/// Several million rights; what is larger (a sparse file) is not read at boot.
constexpr off_t largest_file = off_t{1} << 30;

[[noreturn]] void fail(const std::filesystem::path& path, const char* what) {
    throw SnapshotError(
        fmt::format("{} can't be {}: {}; the fence in the kernel stays, but 'smtpfence restore' would "
                    "load an older one",
                    path.string(), what, std::strerror(errno)));
}

bool write_all(int descriptor, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t written = write(descriptor, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        bytes.remove_prefix(static_cast<size_t>(written));
    }
    return true;
}

[[noreturn]] void fail_to_use(const std::filesystem::path& path, const char* what) {
    throw SnapshotError(fmt::format("{} is not used: it can't be {}: {}{}", path.string(), what, std::strerror(errno),
                                    errno == EACCES ? "; run as root or as the service's user" : ""));
}

/// A file of the last good fence, to be read. Throws SnapshotError when it can't be.
class Reader {
public:
    explicit Reader(std::filesystem::path path)
        : path_(std::move(path)), file_(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) {
        if (missing() && (errno == ENOENT || errno == ENOTDIR)) return;
        if (missing()) fail_to_use(path_, "opened");
        struct stat status {};
        if (fstat(file_.number(), &status) != 0) fail_to_use(path_, "read");
        if (!S_ISREG(status.st_mode)) throw SnapshotError(path_.string() + " is no regular file; remove it");
        if (status.st_size > largest_file)
            throw SnapshotError(
                fmt::format("{} is not used: with {} bytes it is no fence", path_.string(), status.st_size));
        size_ = static_cast<size_t>(status.st_size);
    }

    bool missing() const { return file_.number() < 0; }
    size_t size() const { return size_; }  ///< bytes
    ByteSource source() const {
        return [this](char* to, size_t count) { return read(to, count); };
    }

private:
    size_t read(char* to, size_t count) const {
        size_t filled = 0;
        while (filled < count) {
            const ssize_t got = ::read(file_.number(), to + filled, count - filled);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) fail_to_use(path_, "read");
            if (got == 0) break;
            filled += static_cast<size_t>(got);
        }
        return filled;
    }

    std::filesystem::path path_;
    Descriptor file_;
    size_t size_ = 0;
};

void synchronise_directory(const std::filesystem::path& path) {
    const Descriptor directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory.number() < 0 || fsync(directory.number()) != 0) fail(path, "written to disk");
}

std::filesystem::path newest(const std::filesystem::path& directory) { return directory / "fence"; }
std::filesystem::path unpublished(const std::filesystem::path& directory) { return directory / "fence.new"; }
std::filesystem::path previous(const std::filesystem::path& directory) { return directory / "fence.previous"; }

bool usable(const std::filesystem::path& path) {
    try {
        const Reader file(path);
        return !file.missing() && begins_intact(file.source(), file.size());
    } catch (const SnapshotError&) {
        return false;
    }
}

}  // namespace

std::optional<Snapshot> read_last_good(const std::filesystem::path& directory, Instant now,
                                       std::vector<std::string>& complaints, bool sure) {
    for (const auto& path : {newest(directory), previous(directory)}) {
        try {
            const Reader file(path);
            if (file.missing()) continue;
            std::optional<std::string> complaint;
            Snapshot snapshot = parse_snapshot(file.source(), file.size(), now, complaint, sure);
            if (complaint) {
                complaints.push_back(fmt::format("{}: {}; the changes before it are used", path.string(), *complaint));
            }
            snapshot.resumable = snapshot.resumable && path == newest(directory);
            return snapshot;
        } catch (const Refused& damage) {
            complaints.push_back(fmt::format("{} is not used: {}", path.string(), damage.what()));
        } catch (const SnapshotError& error) {
            complaints.emplace_back(error.what());
        }
    }
    return std::nullopt;
}

/// A whole file that has no name yet: one record, whose length and digest are known at its end. Throws SnapshotError.
class LastGood::Draft {
public:
    explicit Draft(const std::filesystem::path& directory) : path_(unpublished(directory)) {
        if (unlink(path_.c_str()) != 0 && errno != ENOENT) fail(path_, "replaced");
        file_ = std::make_shared<const Descriptor>(
            open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (file_->number() < 0 || !give_to_owner(file_->number(), directory)) fail(path_, "created");
        if (!write_all(file_->number(), std::string(snapshot_magic) + record_header(0, std::string(64, '0'))))
            fail(path_, "written");
    }

    void add(std::string_view lines) {
        buffer_ += lines;
        if (buffer_.size() >= 65536) write_buffer();
    }

    /// The size of the file.
    size_t finish() {
        write_buffer();
        const std::string header = record_header(length_, digest_.text());
        if (pwrite(file_->number(), header.data(), header.size(), snapshot_magic.size()) !=
            static_cast<ssize_t>(header.size())) {
            fail(path_, "written");
        }
        return snapshot_magic.size() + header.size() + length_;
    }

    const std::shared_ptr<const Descriptor>& file() const { return file_; }

private:
    void write_buffer() {
        digest_.add(buffer_);
        length_ += buffer_.size();
        if (!write_all(file_->number(), buffer_)) fail(path_, "written");
        buffer_.clear();
    }

    std::filesystem::path path_;
    std::shared_ptr<const Descriptor> file_;
    std::string buffer_;
    size_t length_ = 0;
    Digest digest_;
};

LastGood::LastGood(std::filesystem::path directory) : directory_(std::move(directory)) {
    std::error_code error;
    std::filesystem::create_directories(directory_, error);
    errno = error.value();
    if (error) fail(directory_, "created");
}

void LastGood::write_record(std::string body, Instant now) {
    if (!file_) return;
    body.insert(0, fmt::format("at {}\n", to_number(now)));
    const std::string record = record_of(body);
    if (write_all(file_->number(), record)) {
        end_ += record.size();
    } else {
        file_.reset();
    }
}

void LastGood::append(const Transaction& transaction, Instant now) {
    std::string lines = record_lines(transaction);
    if (!lines.empty()) write_record(std::move(lines), now);
}

void LastGood::write_anew() {
    file_.reset();
    draft_.reset();
    drafted_ = false;
}

void LastGood::draft(const Transaction& transaction, const Fence& after) try {
    if (elements_in(transaction) == 0) return;
    const auto add = [this](std::string_view line) { draft_->add(line); };
    if (draft_) {
        each_record_line(transaction, add);
    } else if (!std::exchange(drafted_, true)) {
        draft_ = std::make_shared<Draft>(directory_);
        each_record_line(after, add);
        each_added_line(transaction, add);  // whose ends count, where a set and its successor hold the same right
    }
} catch (const SnapshotError&) {
    draft_.reset();
}

void LastGood::resume(const Snapshot& last) {
    auto file = std::make_shared<const Descriptor>(
        open(newest(directory_).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
    struct stat status {};
    if (!last.resumable || file->number() < 0 || fstat(file->number(), &status) != 0) return;
    if (static_cast<size_t>(status.st_size) != last.end) return;
    file_ = std::move(file);
    published_ = true;
    whole_ = last.whole;
    end_ = last.end;
    openings_ = last.openings;
    revision_ = last.revision;
    mark_ = last.mark;
}

bool LastGood::is_there() const {
    struct stat open_file {
    }, named{};
    const auto name = published_ ? newest(directory_) : unpublished(directory_);
    return file_ && fstat(file_->number(), &open_file) == 0 && stat(name.c_str(), &named) == 0 &&
           open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

void LastGood::settle(const Fence& fence, const Openings& openings, Revision revision, const std::string& mark,
                      Instant now) {
    drafted_ = false;
    if (const auto draft = std::exchange(draft_, nullptr)) {
        publish(*draft, openings, revision, mark, now);
        return;
    }
    if (!is_there() || end_ - whole_ > std::max(outgrown, whole_)) {
        Draft draft(directory_);
        each_record_line(fence, [&](std::string_view line) { draft.add(line); });
        publish(draft, openings, revision, mark, now);
        return;
    }
    std::string lines;
    if (revision != revision_ || mark != mark_) lines += revision_line(revision, mark);
    if (openings.empty() && !openings_.empty()) lines += "forget\n";
    for (const Opening& opening : openings) {
        if (std::find(openings_.begin(), openings_.end(), opening) == openings_.end()) lines += opening_line(opening);
    }
    if (!lines.empty()) write_record(std::move(lines), now);
    if (!file_) fail(newest(directory_), "written");
    openings_ = openings;
    revision_ = revision;
    mark_ = mark;
}

void LastGood::publish(Draft& draft, const Openings& openings, Revision revision, const std::string& mark,
                       Instant now) {
    draft.add(fmt::format("at {}\n", to_number(now)));
    draft.add(revision_line(revision, mark));
    for (const Opening& opening : openings) draft.add(opening_line(opening));
    whole_ = end_ = draft.finish();
    over_sound_ = std::exchange(read_sound_, false) || (published_ && is_there());
    file_ = draft.file();
    published_ = false;
    flushed_ = 0;
    openings_ = openings;
    revision_ = revision;
    mark_ = mark;
}

void LastGood::Flush::run() const {
    const std::filesystem::path name = newest(directory_), fresh = unpublished(directory_);
    if (!publishes_) {
        if (fdatasync(file_->number()) != 0) fail(name, "written to disk");
        return;
    }
    if (fsync(file_->number()) != 0) fail(fresh, "written to disk");
    // A damaged file takes no good one's place.
    if (over_sound_ || usable(name)) {
        if (rename(name.c_str(), previous(directory_).c_str()) != 0) fail(name, "kept");
    }
    if (rename(fresh.c_str(), name.c_str()) != 0) fail(name, "replaced");
    synchronise_directory(directory_);
}

std::optional<LastGood::Flush> LastGood::flush() const {
    if (!file_ || flushed_ == end_) return std::nullopt;
    Flush flush;
    flush.directory_ = directory_;
    flush.file_ = file_;
    flush.end_ = end_;
    flush.publishes_ = !published_;
    flush.over_sound_ = over_sound_;
    return flush;
}

void LastGood::succeeded(const Flush& flush) {
    if (file_ != flush.file_) return;
    flushed_ = flush.end_;
    published_ = true;
}

void LastGood::failed(const Flush& flush) {
    if (file_ == flush.file_) file_.reset();
}

void LastGood::synchronise() {
    const auto left = flush();
    if (!left) return;
    try {
        left->run();
    } catch (...) {
        failed(*left);
        throw;
    }
    succeeded(*left);
}

bool LastGood::remove(const std::filesystem::path& directory) {
    bool any = false;
    for (const auto& path : {newest(directory), previous(directory), directory / "fence.new"}) {
        if (unlink(path.c_str()) == 0) {
            any = true;
        } else if (errno != ENOENT) {
            fail(path, "removed");
        }
    }
    return any;
}

}  // namespace smtpfence
