#include "controller/digest.hpp"

#include <catch2/catch.hpp>

using namespace smtpfence;

TEST_CASE("digest: is SHA-256") {
    Digest empty, abc, pieces;
    abc.add("abc");
    pieces.add("a");
    pieces.add("bc");
    // FIPS 180-4's own examples.
    const std::string expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    CHECK(empty.text() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(abc.text() == expected);
    CHECK(pieces.text() == expected);
}
