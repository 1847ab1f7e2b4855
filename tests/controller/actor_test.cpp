#include "controller/actor.hpp"

#include <pwd.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "subscribers/error.hpp"

using namespace smtpfence;

TEST_CASE("actor: the login is an account of this machine or a user id") {
    const std::string login = current_login();
    CHECK_FALSE(login.empty());
    CHECK((getpwnam(login.c_str()) != nullptr || login.starts_with("uid ")));
}

TEST_CASE("actor: what is stated stands beside the login") {
    const Actor actor = current_actor("alice");
    CHECK(actor.operator_name == "alice");
    CHECK(actor.login == current_login());
    CHECK(actor.host == host_name());
    CHECK_FALSE(current_actor(std::nullopt).operator_name.has_value());
}

TEST_CASE("actor: an operator that can't be stored is refused") {
    CHECK_THROWS_AS(current_actor("a\nb"), Refused);
    CHECK_THROWS_AS(current_actor(std::string("a\0b", 3)), Refused);
    CHECK_THROWS_AS(current_actor("\xff"), Refused);
}
