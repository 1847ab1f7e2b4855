#include "controller/last_good.hpp"

#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "controller/kept_fence.hpp"
#include "subscribers/error.hpp"

using namespace smtpfence;
using namespace smtpfence::kept_fence;
namespace fs = std::filesystem;

TEST_CASE("last_good: what was settled and appended is read back") {
    State state;
    CHECK_FALSE(state.read());
    CHECK(state.complaints.empty());
    LastGood file(state.directory);
    file.append(taking("100.64.7.7"), settled);  // nothing to append to yet
    const Openings openings{{settled, Opening::Kind::exempt, Family::v4, 12.5}};
    file.settle(small_fence(), openings, 7, "abc", settled);
    file.synchronise();
    CHECK(state.read()->mark == "abc");
    CHECK(left_to_do(state.read()->fence, small_fence()).empty());
    CHECK(state.read()->openings == openings);
    CHECK(state.read()->revision == 7);

    file.append(taking("100.64.7.8"), settled);
    file.append(giving("100.64.1.1"), settled);
    file.settle(small_fence(), {}, 8, "", settled);
    file.synchronise();
    CHECK(state.read()->mark.empty());
    file.settle(small_fence(), {}, 8, "def", settled);
    file.synchronise();
    CHECK(state.read()->mark == "def");
    const auto snapshot = state.read();
    CHECK_FALSE(exempt(*snapshot, "100.64.7.8"));
    CHECK(exempt(*snapshot, "100.64.1.1"));
    CHECK(exempt(*snapshot, "100.64.7.7"));
    CHECK(snapshot->openings.empty());
    CHECK(snapshot->revision == 8);
    CHECK_FALSE(fs::exists(state.before));
    struct stat status {};
    REQUIRE(stat(state.file.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
}

TEST_CASE("last_good: rights that are over do not come back, by the later of clock and file") {
    State state;
    keep_in(state.directory, small_fence(), 7);
    CHECK(exempt(*state.read(settled + Seconds{29 * 86400}), "100.64.7.7"));
    CHECK_FALSE(exempt(*state.read(settled + Seconds{30 * 86400}), "100.64.7.7"));
    CHECK(exempt(*state.read(settled + Seconds{40 * 86400}), "100.64.7.8"));
    keep_in(state.directory, small_fence(), 7, settled + Seconds{30 * 86400});
    const auto in_1970 = state.read(to_instant(5));
    CHECK_FALSE(exempt(*in_1970, "100.64.7.7"));
    CHECK(in_1970->written == settled + Seconds{30 * 86400});
    const auto by_the_right_clock = read_last_good(state.directory, settled, state.complaints, true);
    CHECK(exempt(*by_the_right_clock, "100.64.7.7"));
    CHECK_FALSE(by_the_right_clock->resumable);
    Policy policy = small_policy(settled);
    policy.rights[0].until = settled + Seconds{100};
    keep_in(state.directory, compile(policy, {}, {}), 7);
    const auto behind = state.read(to_instant(5));
    const auto& rights = behind->fence.sets.at("exempt4_32").elements;
    CHECK(rights.at(to_key(Prefix::parse("100.64.7.7"))).until == to_instant(105));
    CHECK(rights.at(to_key(Prefix::parse("100.64.7.8"))).until == never);
}

TEST_CASE("last_good: changes that outgrow the whole make it anew, and the old file is kept") {
    State state;
    LastGood file(state.directory);
    file.settle(small_fence(), {}, 7, "", settled);
    file.synchronise();
    for (int i = 0; i < 5000; ++i) {
        file.append(giving("100.64.1.1"), settled);
        file.append({{AddElements{"exempt4_32", {{to_key(Prefix::parse("100.64.1.1")), {{}, settled}}}}}}, settled);
    }
    CHECK(fs::file_size(state.file) > (1 << 20));
    Fence fence = small_fence();
    perform(fence, giving("100.64.1.1"));
    file.settle(fence, {}, 9, "", settled);
    file.synchronise();
    CHECK(fs::file_size(state.file) < 2000);
    CHECK(fs::file_size(state.before) > (1 << 20));
    CHECK(exempt(*state.read(), "100.64.1.1"));
    file.append(taking("100.64.1.1"), settled);
    CHECK_FALSE(exempt(*state.read(), "100.64.1.1"));
}

TEST_CASE("last_good: a file that was taken away is made anew with the next pass") {
    State state;
    LastGood file(state.directory);
    file.settle(small_fence(), {}, 7, "", settled);
    file.synchronise();
    SECTION("removed") { fs::remove(state.file); }
    SECTION("moved") { fs::rename(state.file, state.before); }
    SECTION("its directory with it") { fs::remove_all(state.directory); }
    SECTION("another in its place") {
        fs::remove(state.file);
        write_bytes(state.file, "something else");
    }
    if (fs::exists(state.directory)) {
        file.settle(small_fence(), {}, 8, "", settled);
        file.synchronise();
    } else {
        CHECK_THROWS_AS(file.settle(small_fence(), {}, 8, "", settled), SnapshotError);
        fs::create_directory(state.directory);
        file.settle(small_fence(), {}, 8, "", settled);
        file.synchronise();
    }
    CHECK(state.read()->revision == 8);
    CHECK(state.complaints.empty());
}

TEST_CASE("last_good: a file cut anywhere is read up to the cut, or not used") {
    State state;
    LastGood file(state.directory);
    file.settle(small_fence(), {}, 7, "", settled);
    file.synchronise();
    const size_t whole = fs::file_size(state.file);
    file.append(taking("100.64.7.8"), settled);
    const std::string bytes = bytes_of(state.file);
    for (size_t size = 0; size < bytes.size(); ++size) {
        write_bytes(state.file, bytes.substr(0, size));
        CAPTURE(size);
        const auto snapshot = state.read();
        CHECK(snapshot.has_value() == (size >= whole));
        if (snapshot) CHECK(exempt(*snapshot, "100.64.7.8"));
        CHECK(state.complaints.empty() == (size == whole));
    }
}

TEST_CASE("last_good: a byte that changed anywhere is noticed, and the previous file takes its place") {
    State state;
    keep_in(state.directory, small_fence(), 7);
    keep_in(state.directory, small_fence(), 8);
    const std::string bytes = bytes_of(state.file);
    for (size_t at = 0; at < bytes.size(); at += 7) {
        std::string damaged = bytes;
        damaged[at] ^= 0x11;
        write_bytes(state.file, damaged);
        CAPTURE(at);
        const auto snapshot = state.read();
        REQUIRE(snapshot);
        CHECK(snapshot->revision == 7);
        CHECK(state.complaint().find(state.file.string() + " is not used: ") == 0);
    }
    // The damaged one never takes the place of the good one.
    keep_in(state.directory, small_fence(), 9);
    CHECK(state.read()->revision == 9);
    CHECK(state.complaints.empty());
    write_bytes(state.file, "");
    CHECK(state.read()->revision == 7);
}

TEST_CASE("last_good: a file that is read in many pieces is read like a short one") {
    State state;
    const Fence large = compile(many_rights(40'000, settled), small_border(), {});
    keep_in(state.directory, small_fence(), 6);
    keep_in(state.directory, large, 7);
    const std::string whole = bytes_of(state.file);
    REQUIRE(whole.size() > size_t{1} << 20);
    std::string damaged = whole;
    SECTION("whole") {
        const Snapshot read = state.read().value();
        CHECK(same_record(read.fence, large));
        CHECK(read.resumable);
        CHECK(read.whole == whole.size());
        return;
    }
    SECTION("cut off") { damaged.pop_back(); }
    SECTION("a line that is none, by damage") { damaged[whole.size() / 2] = '\n'; }
    SECTION("a line that nobody ends") {
        damaged = std::string(snapshot_magic) + record_of("at 5\n" + std::string(size_t{1} << 20, '1'));
    }
    write_bytes(state.file, damaged);
    CHECK(state.read()->revision == 6);
    const bool by_damage = damaged.size() == whole.size();
    CHECK((state.complaint().find("checksum") != std::string::npos) == by_damage);
}

TEST_CASE("last_good: other versions, links and directories are not read") {
    State state;
    fs::create_directories(state.directory);
    write_bytes(state.file, "smtpfence fence 2\n");
    CHECK_FALSE(state.read());
    CHECK(state.complaint() == state.file.string() + " is not used: it was written by another version");
    write_bytes(state.file,
                "\x7f"
                "ELF");
    CHECK_FALSE(state.read());
    fs::remove(state.file);
    fs::create_symlink("/etc/passwd", state.file);
    CHECK_FALSE(state.read());
    CHECK_FALSE(state.complaints.empty());
    fs::remove(state.file);
    write_bytes(state.file, "smtpfence fence 1\n");
    fs::resize_file(state.file, uintmax_t{1} << 40);  // sparse
    CHECK_FALSE(state.read());
    CHECK(state.complaint().find("is not used: with 1099511627776 bytes") != std::string::npos);
    fs::remove(state.file);
    fs::create_directory(state.file);
    CHECK_FALSE(state.read());
    CHECK(state.complaint().find("no regular file") != std::string::npos);
}

TEST_CASE("last_good: a directory that can't be written is said, and tried again") {
    State state;
    fs::create_directories(state.directory / "fence.new");  // nobody can make a file of that name
    LastGood file(state.directory);
    CHECK_THROWS_AS(file.settle(small_fence(), {}, 7, "", settled), SnapshotError);
    fs::remove(state.directory / "fence.new");
    file.settle(small_fence(), {}, 7, "", settled);
    file.synchronise();
    CHECK(state.read()->revision == 7);
    CHECK(LastGood::remove(state.directory));
    CHECK_FALSE(LastGood::remove(state.directory));
    CHECK_FALSE(state.read());
}

TEST_CASE("last_good: a service that finds its file in force goes on with it") {
    State state;
    keep_in(state.directory, small_fence(), 7);
    const auto inode = [&] {
        struct stat status {};
        REQUIRE(stat(state.file.c_str(), &status) == 0);
        return status.st_ino;
    };
    const auto before = inode();
    Snapshot last = state.read().value();
    CHECK(last.resumable);
    bool resumed = true;
    SECTION("undamaged") {}
    SECTION("but not when a part was damaged") {
        write_bytes(state.file, bytes_of(state.file) + "record ");
        last = state.read().value();
        CHECK_FALSE(last.resumable);
        resumed = false;
    }
    SECTION("nor when somebody wrote to it meanwhile") {
        write_bytes(state.file, bytes_of(state.file) + "record ");
        resumed = false;
    }
    SECTION("nor by a clock that is behind") {
        last = state.read(settled - Seconds{7200}).value();
        resumed = false;
    }
    LastGood file(state.directory);
    file.resume(last);
    file.append(taking("100.64.7.7"), settled);
    Fence fence = small_fence();
    fence.sets.at("exempt4_32").elements.erase(to_key(Prefix::parse("100.64.7.7")));
    file.settle(fence, {}, 8, "", settled);
    file.synchronise();
    CHECK((inode() == before) == resumed);
    CHECK_FALSE(exempt(state.read().value(), "100.64.7.7"));
    CHECK(state.read()->revision == 8);
    CHECK(state.complaints.empty());
}

TEST_CASE("last_good: a whole file takes its name when the disk has it, with what was appended until then") {
    State state;
    keep_in(state.directory, small_fence(), 7);
    LastGood file(state.directory);
    file.settle(small_fence(), {}, 8, "", settled);
    file.append(taking("100.64.7.7"), settled);
    const auto first = file.flush();
    REQUIRE(first);
    CHECK(first->publishes());
    CHECK(state.read()->revision == 7);
    file.append(taking("100.64.7.8"), settled);
    first->run();
    file.succeeded(*first);
    CHECK(state.read()->revision == 8);
    CHECK_FALSE(exempt(*state.read(), "100.64.7.7"));

    const auto second = file.flush();
    REQUIRE(second);
    CHECK_FALSE(second->publishes());
    second->run();
    file.succeeded(*second);
    CHECK_FALSE(file.flush());
    CHECK_FALSE(exempt(*state.read(), "100.64.7.8"));
}

TEST_CASE("last_good: a flush that fails has the next pass write everything") {
    State state;
    LastGood file(state.directory);
    file.settle(small_fence(), {}, 7, "", settled);
    fs::create_directories(state.file / "in the way");
    CHECK_THROWS_AS(file.synchronise(), SnapshotError);
    CHECK_FALSE(file.flush());
    fs::remove_all(state.file);
    file.settle(small_fence(), {}, 8, "", settled);
    file.synchronise();
    CHECK(state.read()->revision == 8);
    CHECK(state.complaints.empty());
}
