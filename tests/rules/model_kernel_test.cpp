// What the model does for a test beyond the contract (kernel_test.cpp).

#include "rules/model_kernel.hpp"

#include <catch2/catch.hpp>
#include <cerrno>

#include "rules/scenario.hpp"

using namespace smtpfence;

namespace {

const Transaction one_chain{{AddChain{"inbound", {}}}};

int code_of(const std::function<void()>& act) {
    try {
        act();
    } catch (const KernelError& error) {
        return error.code;
    }
    return 0;
}

}  // namespace

TEST_CASE("model_kernel: the chosen commit fails once and leaves nothing") {
    ModelKernel kernel(test_time());
    kernel.take();
    kernel.fail_commit(1, ENOMEM);
    kernel.commit(one_chain);
    CHECK(code_of([&] { kernel.commit({{AddChain{"outbound", {}}}}); }) == ENOMEM);
    CHECK_FALSE(kernel.read().chains.contains("outbound"));
    kernel.commit({{AddChain{"outbound", {}}}});
    CHECK(kernel.commits.size() == 2);
}

TEST_CASE("model_kernel: another program's changes move the generation") {
    ModelKernel kernel(test_time());
    kernel.take();
    kernel.commit(one_chain);
    const uint32_t before = kernel.generation();
    kernel.meddle([](Fence& table) { table.chains.erase("inbound"); });
    CHECK(kernel.generation() == before + 1);
    CHECK(kernel.read().empty());
    kernel.flush();
    CHECK(kernel.generation() == before + 2);
    CHECK(code_of([&] { kernel.commit(one_chain); }) == ENOENT);
}

TEST_CASE("model_kernel: another owner keeps us out until it is gone") {
    ModelKernel kernel(test_time());
    kernel.other_owner = "process 7 (smtpfence)";
    CHECK(code_of([&] { kernel.take(); }) == EPERM);
    kernel.other_owner.clear();
    kernel.take();
    kernel.commit(one_chain);
    kernel.other_owner = "process 7 (smtpfence)";
    CHECK(code_of([&] { kernel.commit(one_chain); }) == EPERM);
    CHECK(kernel.read().chains.contains("inbound"));
}

TEST_CASE("model_kernel: the packet path's counts") {
    ModelKernel kernel(test_time());
    const Key source = to_key(Prefix::parse("100.64.0.1"));
    kernel.attempt("attempts4", source, 3);
    kernel.attempt("attempts4", source, 2);
    REQUIRE(kernel.counted("attempts4").size() == 1);
    CHECK(kernel.counted("attempts4")[0].packets == 5);
    CHECK(kernel.counted("attempts6").empty());
    kernel.count("consumer_drop", 4);
    CHECK(kernel.chain_packets("consumer_drop") == 4);
}
