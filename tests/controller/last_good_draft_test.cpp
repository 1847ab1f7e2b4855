// The file of the last good fence, written beside the kernel's work, and what it takes the place of.

#include <catch2/catch.hpp>

#include "controller/kept_fence.hpp"
#include "rules/fence_record.hpp"
#include "rules/layout.hpp"

using namespace smtpfence;
using namespace smtpfence::kept_fence;
namespace fs = std::filesystem;

TEST_CASE("last_good: what was drafted transaction by transaction is the whole file") {
    State state;
    LastGood file(state.directory);
    Fence fence = small_fence();
    const auto draft = [&](const Transaction& transaction) {
        perform(fence, transaction);
        file.draft(transaction, fence);
    };
    draft({{ReplaceRules{"outbound", {}}}});
    CHECK_FALSE(fs::exists(state.directory / "fence.new"));  // not begun before elements come and go
    bool anew = false;
    SECTION("but for what was noted before the table was read anew") {
        draft(taking("100.64.7.8"));
        fence = small_fence();
        file.write_anew();
        anew = true;
    }
    draft(taking("100.64.7.7"));
    draft(giving("100.64.1.1"));
    draft(giving("100.64.1.2"));
    draft(taking("100.64.1.2"));
    const Openings openings{{settled, Opening::Kind::exempt, Family::v4, 12.5}};
    file.settle({}, openings, 7, "abc", settled);
    CHECK_FALSE(state.read());
    file.synchronise();
    const Snapshot drafted = state.read().value();
    CHECK(same_record(drafted.fence, fence));
    const std::string lines = bytes_of(state.file);
    CHECK(lines.find("-exempt 100.64.7.7/32\n") == lines.npos);  // it was gone before the first line
    CHECK(lines.find("-exempt 100.64.1.2/32\n") != lines.npos);
    CHECK(exempt(drafted, "100.64.7.8") == anew);
    CHECK(drafted.openings == openings);
    CHECK(drafted.revision == 7);
    CHECK(drafted.mark == "abc");
    CHECK(drafted.resumable);

    file.append(taking("100.64.1.1"), settled);
    CHECK_FALSE(exempt(*state.read(), "100.64.1.1"));
    file.settle(fence, openings, 8, "", settled);
    CHECK(state.read()->revision == 8);
    CHECK(state.complaints.empty());
    draft(giving("100.64.1.3"));
    file.settle({}, {}, 9, "", settled);
    file.synchronise();
    CHECK(same_record(state.read()->fence, fence));
    CHECK(fs::exists(state.before));
}

TEST_CASE("last_good: of a right that a set and its successor hold, a draft has the successor's end") {
    State state;
    const Key key = to_key(Prefix::parse("100.64.9.9"));
    Fence fence;
    for (const auto& [capacity, until] :
         {std::pair{1U << 19, settled + Seconds{9000}}, {1U << 17, settled + Seconds{90}}})
        fence.sets[exempt_set_name(Family::v4, 32, capacity)].elements[key] = {{}, until};
    LastGood file(state.directory);
    file.draft({{AddElements{exempt_set_name(Family::v4, 32, 1U << 17), {{key, {{}, settled + Seconds{90}}}}}}}, fence);
    file.settle(fence, {}, 7, "", settled);
    file.synchronise();
    CHECK(state.read()->fence.sets.at("exempt4_32").elements.at(key).until == settled + Seconds{90});
}

TEST_CASE("last_good: a draft that can't be written is the settling's trouble, and isn't begun again before") {
    State state;
    keep_in(state.directory, small_fence(), 7);
    const fs::path fresh = state.directory / "fence.new";
    fs::create_directories(fresh);
    LastGood file(state.directory);
    file.draft(giving("100.64.1.1"), small_fence());
    SECTION("which finds the same") {
        CHECK_THROWS_AS(file.settle(small_fence(), {}, 8, "", settled), SnapshotError);
        CHECK(state.read()->revision == 7);
        fs::remove_all(fresh);
    }
    SECTION("which writes everything") {
        fs::remove_all(fresh);
        file.draft(giving("100.64.1.2"), small_fence());
        CHECK_FALSE(fs::exists(fresh));
    }
    file.settle(small_fence(), {}, 8, "", settled);
    file.synchronise();
    CHECK(state.read()->revision == 8);
    CHECK(same_record(state.read()->fence, small_fence()));
}

TEST_CASE("last_good: a sound file that was read is kept beside the next one, a damaged one is not") {
    State state;
    keep_in(state.directory, small_fence(), 6);
    keep_in(state.directory, small_fence(), 7);
    const bool sound = GENERATE(true, false);
    if (!sound) write_bytes(state.file, "damaged" + bytes_of(state.file));
    const Snapshot last = state.read().value();
    LastGood file(state.directory);
    file.replaces(last);
    file.settle(small_fence(), {}, 8, "", settled);
    file.synchronise();
    write_bytes(state.file, "");
    CHECK(state.read()->revision == (sound ? 7 : 6));
}
