#include "controller/shifted_kernel.hpp"

namespace smtpfence {

namespace {

void shift(Held& held, Seconds by) {
    if (held.until != never) held.until += by;
}

Fence shifted(Fence fence, Seconds by) {
    if (by == Seconds{}) return fence;
    for (auto& [name, set] : fence.sets) {
        for (auto& [key, held] : set.elements) shift(held, by);
    }
    return fence;
}

}  // namespace

Fence ShiftedKernel::read(Fence expected) { return shifted(kernel_->read(std::move(expected)), -ahead_); }

Fence ShiftedKernel::read_outline() { return shifted(kernel_->read_outline(), -ahead_); }

std::vector<std::optional<Held>> ShiftedKernel::held(const std::string& set, std::span<const Key> keys) {
    auto held = kernel_->held(set, keys);
    for (auto& one : held) {
        if (one) shift(*one, -ahead_);
    }
    return held;
}

void ShiftedKernel::commit(const Transaction& transaction, std::optional<uint32_t> generation) {
    if (ahead_ == Seconds{}) return kernel_->commit(transaction, generation);
    Transaction by_machine = transaction;
    for (Operation& operation : by_machine.operations) {
        if (auto* add = std::get_if<AddElements>(&operation)) {
            for (auto& [key, held] : add->elements) shift(held, ahead_);
        }
    }
    kernel_->commit(by_machine, generation);
}

std::optional<std::pair<Key, Held>> ShiftedKernel::find(const std::string& set, const Key& address) {
    auto found = kernel_->find(set, address);
    if (found) shift(found->second, -ahead_);
    return found;
}

}  // namespace smtpfence
