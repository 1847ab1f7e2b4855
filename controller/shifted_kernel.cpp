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

Fence ShiftedKernel::read() { return shifted(kernel_->read(), -ahead_); }

Fence ShiftedKernel::read_outline() { return shifted(kernel_->read_outline(), -ahead_); }

void ShiftedKernel::commit(const Transaction& transaction) {
    if (ahead_ == Seconds{}) return kernel_->commit(transaction);
    Transaction by_machine = transaction;
    for (Operation& operation : by_machine.operations) {
        if (auto* add = std::get_if<AddElements>(&operation)) {
            for (auto& [key, held] : add->elements) shift(held, ahead_);
        }
    }
    kernel_->commit(by_machine);
}

std::optional<std::pair<Key, Held>> ShiftedKernel::find(const std::string& set, const Key& address) {
    auto found = kernel_->find(set, address);
    if (found) shift(found->second, -ahead_);
    return found;
}

}  // namespace smtpfence
