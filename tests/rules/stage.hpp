#pragma once
// The kernels that the contract of the boundary is tested on.

#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <thread>

#include "rules/model_kernel.hpp"
#include "rules/netlink_kernel.hpp"
#include "rules/network.hpp"

namespace smtpfence {

/// One of the kernels: the model, the real one, and the real one as if it were old.
class Stage {
public:
    explicit Stage(const std::string& name) {
        if (name == "model") {
            auto model = std::make_unique<ModelKernel>(now());
            model_ = model.get();
            kernel_ = std::move(model);
            return;
        }
        network_ = std::make_unique<FreshNetwork>();
        const bool young = name == "real";
        kernel_ = std::make_unique<NetlinkKernel>(Features{young, young, young, young});
    }
    ~Stage() { kernel_.reset(); }

    Kernel* operator->() const { return kernel_.get(); }
    Kernel& operator*() const { return *kernel_; }
    /// Another program's commit.
    void meddle() const {
        if (model_) {
            model_->move_generation();
        } else {
            nft({"-f", "-"},
                "add table ip other\nflush table ip other\nadd chain ip other c" + std::to_string(++meddled_));
        }
    }
    /// Another program's commit to our table: a script for nft, and what it does to the model's table.
    void meddle(const std::string& script, const std::function<void(Fence&)>& change) const {
        if (model_) {
            model_->meddle(change);
        } else {
            nft({"-f", "-"}, script);
        }
    }
    void wait(Seconds time) const {
        if (model_) {
            model_->clock += time;
        } else {
            std::this_thread::sleep_for(time);
        }
    }

private:
    std::unique_ptr<FreshNetwork> network_;
    std::unique_ptr<Kernel> kernel_;
    ModelKernel* model_ = nullptr;
    mutable int meddled_ = 0;
};

#define EACH_KERNEL GENERATE("model", "real", "real as an old one")

inline void bring(Kernel& kernel, const Fence& desired) {
    for (const Transaction& transaction : difference(kernel.read(), desired, now()).transactions)
        kernel.commit(transaction);
}

inline Key line(const char* prefix) { return to_key(Prefix::parse(prefix)); }

inline KernelError refusal(Kernel& kernel, const Transaction& transaction) {
    try {
        kernel.commit(transaction);
    } catch (const KernelError& error) {
        return error;
    }
    return {0, "", "committed"};
}

}  // namespace smtpfence
