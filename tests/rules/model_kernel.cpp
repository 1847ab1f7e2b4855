#include "rules/model_kernel.hpp"

#include <cerrno>
#include <cstring>

#include "rules/judgement.hpp"

namespace smtpfence {

namespace {

KernelError refused_to_us(const std::string& owner) {
    return {EPERM, "table smtpfence", "table smtpfence belongs to " + owner + "; stop it first"};
}

}  // namespace

void ModelKernel::take() {
    if (!other_owner.empty()) throw refused_to_us(other_owner);
    if (!table_exists) ++generation_;
    table_exists = true;
}

Fence ModelKernel::read() {
    ++readings;
    Fence copy = table_;
    forget_ended(copy);
    for (auto& [name, set] : copy.sets) {
        if (set.shape.dynamic) set.elements.clear();
    }
    return copy;
}

void ModelKernel::commit(const Transaction& transaction) {
    if (!other_owner.empty()) throw refused_to_us(other_owner);
    if (!table_exists) throw KernelError(ENOENT, "table smtpfence", "table smtpfence is gone; apply again");
    if (failure_ && failure_->more-- == 0) {
        const int code = failure_->code;
        failure_.reset();
        throw KernelError(code, "transaction", std::string("the kernel refused: ") + std::strerror(code));
    }
    Fence next = table_;
    forget_ended(next);
    perform(next, transaction);
    if (!(next == table_)) ++generation_;
    table_ = std::move(next);
    commits.push_back(transaction);
}

std::optional<std::pair<Key, Held>> ModelKernel::find(const std::string& set, const Key& address) {
    Fence copy;
    if (const auto found = table_.sets.find(set); found != table_.sets.end()) copy.sets.insert(*found);
    forget_ended(copy);
    return lookup_in(copy)(set, address);
}

std::vector<Counted> ModelKernel::counted(const std::string& set) {
    std::vector<Counted> result;
    for (const auto& [key, packets] : attempts_[set]) result.push_back({key, packets});
    return result;
}

uint64_t ModelKernel::chain_packets(const std::string& chain) { return packets_[chain]; }

bool ModelKernel::remove() {
    if (!other_owner.empty()) throw refused_to_us(other_owner);
    if (!table_exists) return false;
    flush();
    return true;
}

void ModelKernel::meddle(const std::function<void(Fence&)>& change) {
    change(table_);
    ++generation_;
}

void ModelKernel::flush() {
    table_ = Fence();
    table_exists = false;
    attempts_.clear();
    packets_.clear();
    ++generation_;
}

void ModelKernel::attempt(const std::string& set, const Key& source, uint64_t packets) {
    attempts_[set][source] += packets;
}

void ModelKernel::forget_ended(Fence& fence) const {
    for (auto& [name, set] : fence.sets) {
        if (set.shape.timeouts) erase_if(set.elements, [&](const auto& e) { return e.second.until <= clock; });
    }
}

}  // namespace smtpfence
